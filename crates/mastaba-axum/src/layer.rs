//! The layer, and what can be set on it.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use mastaba::{Budget, Cache, OverBudget, Scope};
use tower_layer::Layer;

use crate::service::CacheService;

/// Opens a request cache per request, and closes it with the response body.
///
/// The request finds a [`RequestCache`](crate::RequestCache) among its extensions: for handlers that take one, and for whatever else can
/// see them, such as a tonic service (`request.extensions().get::<mastaba::RequestCache>()`). A layer further in takes
/// the place of one further out. Makes no trip of its own.
///
/// The cache lives until the response body has ended or was dropped; if there is no response, until the
/// response future was dropped, because the client went away or the handler panicked.
#[derive(Clone)]
pub struct CacheLayer {
    pub(crate) options: Arc<Options>,
}

#[derive(Clone)]
pub(crate) struct Options {
    cache: Cache,
    pub(crate) server_timing: bool,
    budget: Option<Budget>,
    on_over_budget: Option<Arc<dyn Fn(&OverBudget) + Send + Sync>>,
    route: Arc<dyn Fn(&Parts) -> String + Send + Sync>,
}

impl CacheLayer {
    /// A layer over this cache.
    pub fn new(cache: Cache) -> Self {
        let options = Options {
            cache,
            server_timing: cfg!(debug_assertions),
            budget: None,
            on_over_budget: None,
            route: Arc::new(matched_path),
        };
        Self { options: Arc::new(options) }
    }

    /// Whether responses get a `Server-Timing` header, which the developer tools of browsers show: trips,
    /// statements and milliseconds per tier, as they were known when the head of the response was made. It
    /// has no keys in it. By default in debug builds only.
    pub fn server_timing(self, shown: bool) -> Self {
        self.set(|options| options.server_timing = shown)
    }

    /// What a request may cost: one that costs more is warned about when it has ended, once, in one line; its
    /// whole report is a line at level `DEBUG` (target `mastaba::report`). For single routes,
    /// [`BudgetLayer`](crate::BudgetLayer).
    pub fn budget(self, budget: Budget) -> Self {
        self.set(|options| options.budget = Some(budget))
    }

    /// Is called for every request that exceeded its budget, after the warning. For a metric, or for a test.
    pub fn on_over_budget(self, listener: impl Fn(&OverBudget) + Send + Sync + 'static) -> Self {
        self.set(|options| options.on_over_budget = Some(Arc::new(listener)))
    }

    /// How a request's route is called in its line and its span. By default the path that axum matched, such
    /// as `/post/{id}`, and nothing where there is none: paths have keys in them.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let cache = mastaba::Cache::builder().build().await?;
    /// use mastaba_axum::CacheLayer;
    ///
    /// // tonic: the path is the name of a method, `/shop.Orders/List`
    /// let layer = CacheLayer::new(cache).route(|parts| parts.uri.path().to_owned());
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub fn route(self, name: impl Fn(&Parts) -> String + Send + Sync + 'static) -> Self {
        self.set(|options| options.route = Arc::new(name))
    }

    fn set(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }
}

impl Options {
    pub(crate) fn open(&self, parts: &Parts) -> Scope {
        let mut scope = self.cache.scope((self.route)(parts)).method(parts.method.as_str());
        if let Some(budget) = self.budget {
            scope = scope.budget(budget);
        }
        if let Some(listener) = self.on_over_budget.clone() {
            scope = scope.on_over_budget(move |over| listener(over));
        }
        scope
    }
}

#[cfg(feature = "matched-path")]
fn matched_path(parts: &Parts) -> String {
    let path = parts.extensions.get::<axum::extract::MatchedPath>();
    path.map(|path| path.as_str().to_owned()).unwrap_or_default()
}

#[cfg(not(feature = "matched-path"))]
fn matched_path(_: &Parts) -> String {
    String::new()
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> CacheService<S> {
        CacheService { inner, options: self.options.clone() }
    }
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("cache", &self.cache)
            .field("server_timing", &self.server_timing)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
