//! A relation as a field of GraphQL that resolves by itself.
//!
//! The resolvers of one level of a query are awaited together, so their relations are read in one batch, whatever
//! objects they stand in.

use std::borrow::Cow;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, Error, OutputType, Positioned, ServerResult, Value};

use super::Lazy;
use crate::request::RequestCache;
use crate::source::Source;

/// What it leads to, or `null`: the type is that of the value, and may be missing.
///
/// It reads through the [`RequestCache`] in the data of the query (`query.data(cache)`). Where that is missing, or the
/// value cannot be loaded, the field is `null`, and an error stands beside the data with the path of the field. It says
/// nothing to clients of the cause; an extension finds that by `ServerError::source::<mastaba::Error>()`.
impl<S: Source<Value: OutputType>> OutputType for Lazy<S> {
    fn type_name() -> Cow<'static, str> {
        S::Value::type_name()
    }

    fn qualified_type_name() -> String {
        // without an exclamation mark: there may be nothing under the key
        Self::type_name().into_owned()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        S::Value::create_type_info(registry);
        Self::qualified_type_name()
    }

    async fn resolve(
        &self,
        context: &ContextSelectionSet<'_>,
        field: &Positioned<Field>,
    ) -> ServerResult<Value> {
        let read = match context.data_opt::<RequestCache>() {
            Some(request) => self.get(request).await.map_err(|error| Error {
                // the sentence of the error may repeat what the database said, which is nothing for clients
                message: format!("this {} could not be loaded", Self::type_name()),
                ..Error::new_with_source(error)
            }),
            None => Err(Error::new(
                "there is no mastaba::RequestCache in the data of this query: add it by `query.data(cache)`",
            )),
        };
        let value = match read {
            Ok(Some(value)) => value.resolve(context, field).await,
            Ok(None) => Ok(Value::Null),
            Err(error) => Err(context.set_error_path(error.into_server_error(field.pos))),
        };
        // where the type may be null an error goes no further up
        Ok(value.unwrap_or_else(|error| {
            context.add_error(error);
            Value::Null
        }))
    }
}
