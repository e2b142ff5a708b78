//! Mastaba in axum and any tower service.
//!
//! [`CacheLayer`] opens a request cache per request and closes it with the response body. A handler that takes a
//! [`RequestCache`] is given it; `Option<RequestCache>` is for one that also stands where no layer is. Two lines:
//!
//! ```
//! use axum::{Router, routing::get};
//! use mastaba_axum::{CacheLayer, RequestCache};
//! use mastaba_test::world::{UserById, World};
//!
//! async fn name(cache: RequestCache) -> String {
//!     cache.get::<UserById>(1).await.unwrap().unwrap().name.clone()
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let cache = World::new().await.cache; // or Cache::builder()...
//! let app: Router = Router::new().route("/", get(name)).layer(CacheLayer::new(cache));
//! # use tower::ServiceExt;
//! # let response = app.oneshot(http::Request::new(axum::body::Body::empty())).await.unwrap();
//! # assert!(response.status().is_success());
//! # });
//! ```
//!
//! What developers see: one line per request and a span around its reads ([`mastaba::Scope`]), a
//! `Server-Timing` header in debug builds ([`CacheLayer::server_timing`]), and a warning where a request
//! costs more than its budget ([`CacheLayer::budget`], [`BudgetLayer`]).
//!
//! With the feature `test`, for tests: what a route costs (`test::get`).
//!
//! For work outside of a request there is [`Cache::scope`](mastaba::Cache::scope).

#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod budget;
mod layer;
mod service;
#[cfg(feature = "test")]
pub mod test;

pub use body::ScopedBody;
pub use budget::{BudgetLayer, BudgetService};
pub use layer::CacheLayer;
pub use service::{CacheService, ResponseFuture};

pub use mastaba::RequestCache;
pub use mastaba::extract::MissingLayer;

/// The code of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
