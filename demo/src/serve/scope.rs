//! A cache per request: opened by a layer, taken by handlers as an argument.

use std::convert::Infallible;
use std::ops::Deref;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use mastaba::Cache;

/// The cache of this request.
#[derive(Clone)]
pub(crate) struct RequestCache(mastaba::RequestCache);

impl Deref for RequestCache {
    type Target = mastaba::RequestCache;

    fn deref(&self) -> &mastaba::RequestCache {
        &self.0
    }
}

/// Opens the cache of a request, which dies with it.
pub(crate) async fn open(State(cache): State<Cache>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(RequestCache(cache.request()));
    next.run(request).await
}

impl<S: Send + Sync + AsRef<Cache>> FromRequestParts<S> for RequestCache {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let opened = parts.extensions.get::<Self>().cloned();
        Ok(opened.unwrap_or_else(|| Self(state.as_ref().request())))
    }
}
