//! A budget for some routes.

use std::task::{Context, Poll};

use http::Request;
use mastaba::Budget;
use tower_layer::Layer;
use tower_service::Service;

/// What a request of these routes may cost: the N+1 alarm. Counts before the budget of the
/// [`CacheLayer`](crate::CacheLayer), which has to be around it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let cache = mastaba::Cache::builder().build().await?;
/// use axum::{Router, routing::get};
/// use mastaba::Budget;
/// use mastaba_axum::{BudgetLayer, CacheLayer};
///
/// let app: Router = Router::new()
///     .route("/post/{id}", get(|| async { "a post" }))
///     .route_layer(BudgetLayer::new(Budget { trips: 4, statements: 3 }))
///     .layer(CacheLayer::new(cache));
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
///
/// A handler can do the same for itself: `cache.stash().insert(Budget { trips: 4, statements: 3 })`.
#[derive(Clone, Copy, Debug)]
pub struct BudgetLayer {
    budget: Budget,
}

impl BudgetLayer {
    /// A layer that sets this budget.
    pub fn new(budget: Budget) -> Self {
        Self { budget }
    }
}

impl<S> Layer<S> for BudgetLayer {
    type Service = BudgetService<S>;

    fn layer(&self, inner: S) -> BudgetService<S> {
        BudgetService { inner, budget: self.budget }
    }
}

/// What [`BudgetLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct BudgetService<S> {
    inner: S,
    budget: Budget,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for BudgetService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        if let Some(cache) = request.extensions().get::<mastaba::RequestCache>() {
            cache.stash().insert(self.budget);
        }
        self.inner.call(request)
    }
}
