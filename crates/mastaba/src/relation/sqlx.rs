//! A relation as the type of a column: in the database it is its key, and nothing else.

use sqlx::database::Database;
use sqlx::encode::IsNull;
use sqlx::{Decode, Encode, Type};

use super::Lazy;
use crate::error::BoxError;
use crate::source::Source;

impl<DB: Database, S: Source<Key: Type<DB>>> Type<DB> for Lazy<S> {
    fn type_info() -> DB::TypeInfo {
        S::Key::type_info()
    }

    fn compatible(info: &DB::TypeInfo) -> bool {
        S::Key::compatible(info)
    }
}

impl<'r, DB: Database, S: Source<Key: Decode<'r, DB>>> Decode<'r, DB> for Lazy<S> {
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxError> {
        S::Key::decode(value).map(Self::new)
    }
}

impl<'q, DB: Database, S: Source<Key: Encode<'q, DB>>> Encode<'q, DB> for Lazy<S> {
    fn encode(self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxError> {
        self.key.encode(buffer)
    }

    fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxError> {
        self.key.encode_by_ref(buffer)
    }

    fn produces(&self) -> Option<DB::TypeInfo> {
        self.key.produces()
    }

    fn size_hint(&self) -> usize {
        self.key.size_hint()
    }
}

#[cfg(feature = "sqlx-postgres")]
impl<S: Source<Key: sqlx::postgres::PgHasArrayType>> sqlx::postgres::PgHasArrayType for Lazy<S> {
    fn array_type_info() -> sqlx::postgres::PgTypeInfo {
        S::Key::array_type_info()
    }

    fn array_compatible(info: &sqlx::postgres::PgTypeInfo) -> bool {
        S::Key::array_compatible(info)
    }
}
