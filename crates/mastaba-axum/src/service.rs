//! The service: a scope around the inner service, from the call to the end of the response body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderName, HeaderValue, Request, Response};
use mastaba::Scope;
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::Instrument;
use tracing::instrument::Instrumented;

use crate::body::ScopedBody;
use crate::layer::Settings;

/// What [`CacheLayer`](crate::CacheLayer) makes of a service.
#[derive(Clone, Debug)]
pub struct CacheService<S> {
    pub(crate) inner: S,
    pub(crate) settings: Arc<Settings>,
}

impl<S, B, R> Service<Request<B>> for CacheService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: http_body::Body,
{
    type Response = Response<ScopedBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let scope = self.settings.open(&parts);
        parts.extensions.insert(mastaba::RequestCache::clone(&scope));
        let span = scope.span().clone();
        let inner = span.in_scope(|| self.inner.call(Request::from_parts(parts, body)));
        ResponseFuture {
            inner: inner.instrument(span),
            scope: Some(scope),
            server_timing: self.settings.server_timing,
        }
    }
}

pin_project! {
    /// The response to come. Dropping it before ends the request, and its cache with it.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        // dropped before the scope: what the handler does on its way out still belongs to the request
        #[pin]
        inner: Instrumented<F>,
        scope: Option<Scope>,
        server_timing: bool,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: http_body::Body,
{
    type Output = Result<Response<ScopedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.inner.poll(cx));
        let mut scope = this.scope.take();
        let mut response = answered?;
        if let Some(scope) = &mut scope {
            scope.set_status(response.status().as_u16());
            if *this.server_timing
                && let Ok(value) = HeaderValue::from_str(&scope.report().server_timing())
            {
                // beside that of others, which is allowed
                response.headers_mut().append(HeaderName::from_static("server-timing"), value);
            }
        }
        Poll::Ready(Ok(response.map(|body| ScopedBody::new(body, scope))))
    }
}
