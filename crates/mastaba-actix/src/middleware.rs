//! The middleware: a scope around the inner service, from the call to the end of the response body.

use std::fmt;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, HttpMessage};
use mastaba::{Budget, Cache, OverBudget, Scope, ScopeEnd};
use pin_project_lite::pin_project;
use tracing::Instrument;
use tracing::instrument::Instrumented;

use crate::body::ScopedBody;

/// Opens a request cache per request, and closes it with the response body.
///
/// The request finds a [`RequestCache`](crate::RequestCache) among its extensions, for handlers that take one and for
/// middleware further in. Makes no trip of its own.
///
/// The cache lives until the response body has ended or was dropped; if there is no response, until the
/// response future was dropped, because the client went away.
#[derive(Clone)]
pub struct MastabaCache {
    options: Arc<Options>,
}

#[derive(Clone)]
struct Options {
    cache: Cache,
    server_timing: bool,
    budget: Option<Budget>,
    on_over_budget: Option<Arc<dyn Fn(&OverBudget) + Send + Sync>>,
}

impl MastabaCache {
    /// A middleware over this cache.
    pub fn new(cache: Cache) -> Self {
        let options =
            Options { cache, server_timing: cfg!(debug_assertions), budget: None, on_over_budget: None };
        Self { options: Arc::new(options) }
    }

    /// Whether responses get a `Server-Timing` header, which the developer tools of browsers show: trips,
    /// statements and milliseconds per tier, as they were known when the head of the response was made. It
    /// has no keys in it. By default in debug builds only.
    pub fn server_timing(self, shown: bool) -> Self {
        self.set(|options| options.server_timing = shown)
    }

    /// What a request may cost: one that costs more is warned about when it has ended, once, in one line. A handler sets a budget of its own with `cache.stash().insert(Budget { .. })`.
    pub fn budget(self, budget: Budget) -> Self {
        self.set(|options| options.budget = Some(budget))
    }

    /// Is called for every request that exceeded its budget, after the warning. For a metric, or for a test.
    pub fn on_over_budget(self, listener: impl Fn(&OverBudget) + Send + Sync + 'static) -> Self {
        self.set(|options| options.on_over_budget = Some(Arc::new(listener)))
    }

    fn set(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }
}

impl Options {
    fn open(&self, request: &ServiceRequest) -> Scope {
        // the pattern, not the path: paths have keys in them
        let route = request.match_pattern().unwrap_or_default();
        let mut scope = self.cache.scope(route).method(request.method().as_str());
        if let Some(budget) = self.budget {
            scope = scope.budget(budget);
        }
        if let Some(listener) = self.on_over_budget.clone() {
            scope = scope.on_over_budget(move |over| listener(over));
        }
        scope
    }
}

impl<S, B> Transform<S, ServiceRequest> for MastabaCache
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<ScopedBody<B>>;
    type Error = Error;
    type Transform = CacheService<S>;
    type InitError = ();
    type Future = Ready<Result<CacheService<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(CacheService { inner, options: self.options.clone() }))
    }
}

/// What [`MastabaCache`] makes of a service.
pub struct CacheService<S> {
    inner: S,
    options: Arc<Options>,
}

impl<S, B> Service<ServiceRequest> for CacheService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<ScopedBody<B>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let mut scope = self.options.open(&request);
        // until there is a response whose body has ended
        scope.set_end(ScopeEnd::CutOff);
        let unread = request.method() == Method::HEAD;
        request.extensions_mut().insert(mastaba::RequestCache::clone(&scope));
        let span = scope.span().clone();
        let inner = span.in_scope(|| self.inner.call(request));
        ResponseFuture {
            inner: inner.instrument(span),
            scope: Some(scope),
            server_timing: self.options.server_timing,
            unread,
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
        unread: bool,
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<ScopedBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.inner.poll(cx));
        let mut scope = this.scope.take();
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                // an error is a response that is yet to be made, further out
                if let Some(scope) = &mut scope {
                    scope.set_status(error.as_response_error().status_code().as_u16());
                    scope.set_end(ScopeEnd::Complete);
                }
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
        let status = response.status();
        let unread = *this.unread
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Poll::Ready(Ok(response.map_body(|_, body| ScopedBody::new(body, scope, unread))))
    }
}

impl fmt::Debug for MastabaCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MastabaCache")
            .field("cache", &self.options.cache)
            .field("server_timing", &self.options.server_timing)
            .field("budget", &self.options.budget)
            .finish_non_exhaustive()
    }
}

impl<S: fmt::Debug> fmt::Debug for CacheService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
