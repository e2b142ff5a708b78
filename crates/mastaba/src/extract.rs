//! A request cache as an extractor of a web framework.
//!
//! The layer (`mastaba_axum::CacheLayer`) or the middleware (`mastaba_actix::MastabaCache`) leaves the request's
//! [`RequestCache`](crate::RequestCache) among the extensions of the request, and a handler that takes one is given a
//! clone of it. The crates of the layers switch the features `axum` and `actix` on: a program names neither.
//!
//! It stands here because only the crate of a type may make an extractor of it. So there is one type, whoever opened
//! the request: see `docs/decisions` in the repository.

#[cfg(feature = "actix")]
mod actix;
#[cfg(feature = "axum")]
mod axum;

#[cfg(feature = "actix")]
pub use self::actix::MissingMiddleware;
#[cfg(feature = "axum")]
pub use self::axum::MissingLayer;
