//! For axum, and whatever else reads by `axum-core`.

use std::convert::Infallible;
use std::fmt;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::request::RequestCache;

/// The cache of the request. Without a `CacheLayer` around the handler the response is [`MissingLayer`].
impl<S: Send + Sync> FromRequestParts<S> for RequestCache {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
        match parts.extensions.get::<Self>() {
            Some(request) => Ok(request.clone()),
            None => {
                tracing::error!(target: "mastaba::request", method = %parts.method, "{MissingLayer}");
                Err(MissingLayer)
            }
        }
    }
}

/// For a handler that does its work without a `CacheLayer` around it too.
impl<S: Send + Sync> OptionalFromRequestParts<S> for RequestCache {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// A handler asked for a [`RequestCache`](crate::RequestCache), and there is no `mastaba_axum::CacheLayer` around it.
/// The response is 500, with a sentence that names the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingLayer;

impl fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this route has no request cache: add `.layer(mastaba_axum::CacheLayer::new(cache))` to its router, \
             after the route",
        )
    }
}

impl std::error::Error for MissingLayer {}

impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}
