//! The extractor.

use std::fmt;
use std::future::{Ready, ready};
use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, ResponseError};

/// The cache of the request, for a handler: a [`mastaba::RequestCache`].
///
/// Without a [`MastabaCache`](crate::MastabaCache) around the handler the response is [`MissingMiddleware`].
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

impl FromRequest for RequestCache {
    type Error = MissingMiddleware;
    type Future = Ready<Result<Self, MissingMiddleware>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(match request.extensions().get::<mastaba::RequestCache>() {
            Some(cache) => Ok(Self(cache.clone())),
            None => {
                tracing::error!(target: "mastaba::request", method = %request.method(), "{MissingMiddleware}");
                Err(MissingMiddleware)
            }
        })
    }
}

/// A handler asked for a [`RequestCache`], and there is no [`MastabaCache`](crate::MastabaCache) around it.
/// The response is 500, with a sentence that names the middleware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingMiddleware;

impl fmt::Display for MissingMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this route has no request cache: add `.wrap(mastaba_actix::MastabaCache::new(cache))` to the app",
        )
    }
}

impl std::error::Error for MissingMiddleware {}

// the default is 500 and the sentence
impl ResponseError for MissingMiddleware {}
