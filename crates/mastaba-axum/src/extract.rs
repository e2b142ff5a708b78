//! The extractor.

use std::fmt;
use std::ops::Deref;

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

/// The cache of the request, for a handler: a [`mastaba::RequestCache`].
///
/// ```
/// use mastaba_axum::RequestCache;
/// use mastaba_test::world::UserById;
///
/// async fn page(cache: RequestCache) -> String {
///     match cache.get::<UserById>(1).await {
///         Ok(Some(user)) => user.name.clone(),
///         Ok(None) => "nobody".to_owned(),
///         Err(error) => error.to_string(),
///     }
/// }
/// ```
///
/// Without a [`CacheLayer`](crate::CacheLayer) around the handler the response is [`MissingLayer`].
#[derive(Clone, Debug)]
pub struct RequestCache(mastaba::RequestCache);

impl RequestCache {
    /// The request cache itself, to be kept or given away.
    #[must_use]
    pub fn into_inner(self) -> mastaba::RequestCache {
        self.0
    }
}

impl Deref for RequestCache {
    type Target = mastaba::RequestCache;

    fn deref(&self) -> &mastaba::RequestCache {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestCache {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
        match parts.extensions.get::<mastaba::RequestCache>() {
            Some(request) => Ok(Self(request.clone())),
            None => {
                tracing::error!(target: "mastaba::request", method = %parts.method, "{MissingLayer}");
                Err(MissingLayer)
            }
        }
    }
}

/// A handler asked for a [`RequestCache`], and there is no [`CacheLayer`](crate::CacheLayer) around it. The
/// response is 500, with a sentence that names the layer.
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
