//! The service: a scope around the inner service, from the call to the end of the response body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use mastaba::{Scope, ScopeEnd};
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::Instrument;
use tracing::instrument::Instrumented;

use crate::body::ScopedBody;
use crate::layer::Options;

/// What [`CacheLayer`](crate::CacheLayer) makes of a service.
#[derive(Clone, Debug)]
pub struct CacheService<S> {
    pub(crate) inner: S,
    pub(crate) options: Arc<Options>,
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
        let mut scope = self.options.open(&parts);
        // until there is a response whose body has ended
        scope.set_end(ScopeEnd::CutOff);
        let without_body = parts.method == Method::HEAD || parts.method == Method::CONNECT;
        parts.extensions.insert(mastaba::RequestCache::clone(&scope));
        #[cfg(feature = "test")]
        crate::test::Witness::see(&parts.extensions, &scope);
        let span = scope.span().clone();
        let inner = span.in_scope(|| self.inner.call(Request::from_parts(parts, body)));
        ResponseFuture {
            inner: inner.instrument(span),
            scope: Some(scope),
            server_timing: self.options.server_timing,
            without_body,
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
        // whatever body there is, nobody is going to read it
        without_body: bool,
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
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                scope.iter_mut().for_each(|scope| scope.set_end(ScopeEnd::Failed));
                return Poll::Ready(Err(error));
            }
        };
        if let Some(scope) = &mut scope {
            scope.set_status(response.status().as_u16());
            if *this.server_timing
                && let Ok(value) = HeaderValue::from_str(&scope.report().server_timing())
            {
                // beside that of others, which is allowed
                response.headers_mut().append(HeaderName::from_static("server-timing"), value);
            }
        }
        let left = match *this.without_body || is_without_body(response.status()) {
            true => Some(0),
            false => announced(response.headers()),
        };
        Poll::Ready(Ok(response.map(|body| ScopedBody::new(body, scope, left))))
    }
}

/// The length that a response says its body has.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A connection that goes on as something else, and responses that have no body.
fn is_without_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
