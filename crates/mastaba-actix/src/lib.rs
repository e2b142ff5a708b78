//! Mastaba in actix-web.
//!
//! The middleware [`MastabaCache`] opens a request cache per request and closes it with the response body. A handler
//! that takes a [`RequestCache`] is given it.
//!
//! ```
//! use actix_web::{App, Responder, get};
//! use mastaba_actix::{MastabaCache, RequestCache};
//! use mastaba_test::world::{UserById, World};
//!
//! #[get("/")]
//! async fn name(cache: RequestCache) -> impl Responder {
//!     cache.get::<UserById>(1).await.unwrap().unwrap().name.clone()
//! }
//!
//! # actix_web::rt::System::new().block_on(async {
//! let cache = World::new().await.cache; // or Cache::builder()...
//! let app = App::new().wrap(MastabaCache::new(cache)).service(name);
//! # let app = actix_web::test::init_service(app).await;
//! # let request = actix_web::test::TestRequest::get().uri("/").to_request();
//! # assert_eq!(actix_web::test::call_and_read_body(&app, request).await, "user 1");
//! # });
//! ```
//!
//! What developers see: one line per request and a span around its reads ([`mastaba::Scope`]), a
//! `Server-Timing` header in debug builds ([`MastabaCache::server_timing`]), and a warning where a request
//! costs more than its budget ([`MastabaCache::budget`]). For work outside of a request there is
//! [`Cache::scope`](mastaba::Cache::scope).

#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod middleware;

pub use body::ScopedBody;
pub use middleware::{CacheService, MastabaCache, ResponseFuture};

pub use mastaba::RequestCache;
pub use mastaba::extract::MissingMiddleware;

/// The code of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
