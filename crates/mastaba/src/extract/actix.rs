//! For actix-web.

use std::fmt;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, ResponseError};

use crate::request::RequestCache;

/// The cache of the request. Without a `MastabaCache` around the handler the response is [`MissingMiddleware`].
impl FromRequest for RequestCache {
    type Error = MissingMiddleware;
    type Future = Ready<Result<Self, MissingMiddleware>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(match request.extensions().get::<Self>() {
            Some(cache) => Ok(cache.clone()),
            None => {
                tracing::error!(target: "mastaba::request", method = %request.method(), "{MissingMiddleware}");
                Err(MissingMiddleware)
            }
        })
    }
}

/// A handler asked for a [`RequestCache`](crate::RequestCache), and there is no `mastaba_actix::MastabaCache` around
/// it. The response is 500, with a sentence that names the middleware.
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
