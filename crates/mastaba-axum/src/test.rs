//! What a route costs, for tests. With the feature `test`:
//!
//! ```toml
//! [dev-dependencies]
//! mastaba-axum = { version = "0.1", features = ["test"] }
//! mastaba-test = "0.1"
//! ```
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use axum::{Router, routing::get};
//! use mastaba::Budget;
//! use mastaba_axum::{CacheLayer, RequestCache};
//! use mastaba_test::world::{UserById, World};
//!
//! async fn names(cache: RequestCache) -> String {
//!     let users = cache.get_many::<UserById>(1..=20).await.unwrap();
//!     users.found().map(|(_, user)| user.name.clone()).collect::<Vec<_>>().join(", ")
//! }
//!
//! let cache = World::new().await.cache; // or that of the program, through `mastaba_test::TestCache`
//! let app: Router = Router::new().route("/names", get(names)).layer(CacheLayer::new(cache));
//! let cost = mastaba_axum::test::get(&app, "/names").await;
//! assert!(cost.text().starts_with("user 1, user 2"));
//! cost.report.assert_at_most(Budget::statements(1));
//! # });
//! ```
//!
//! That a route is no N+1, whatever its budget: `mastaba_test::assert_flat`, to which a [`Cost`] can be given.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{Extensions, Request, Response};
use http_body::Body;
use mastaba::{Report, RequestCache};
use tower_service::Service;

/// A response with all of its body, and what its request cost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cost {
    /// The response.
    pub response: Response<Bytes>,
    /// What the request cost, up to the end of its body and of all that it left in the background.
    pub report: Report,
}

impl Cost {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.response.body())
    }
}

impl From<Cost> for Report {
    fn from(cost: Cost) -> Self {
        cost.report
    }
}

/// Gets a path of an app: a `Router`, or another service with a [`CacheLayer`](crate::CacheLayer) around it or in it. See
/// [`cost_of`].
///
/// # Panics
/// As [`cost_of`], or if that is no path.
pub async fn get<S, R>(app: &S, path: &str) -> Cost
where
    S: Service<Request<String>, Response = Response<R>> + Clone,
    S::Error: fmt::Debug,
    R: Body,
    R::Error: fmt::Debug,
{
    let request = Request::get(path).body(String::new());
    cost_of(app, request.unwrap_or_else(|error| panic!("{path:?} is no path: {error}"))).await
}

/// Calls an app with a request, in this task and without a connection, reads the body to its end, and waits for what the
/// request left in the background ([`Cache::idle`](mastaba::Cache::idle)): the next one finds what it has stored.
///
/// # Panics
/// If the app, or the body, fails; or if there was no [`CacheLayer`](crate::CacheLayer) on the way. Of several, inside of
/// each other, the innermost one is measured.
pub async fn cost_of<S, B, R>(app: &S, mut request: Request<B>) -> Cost
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: fmt::Debug,
    R: Body,
    R::Error: fmt::Debug,
{
    let called = format!("{} {}", request.method(), request.uri());
    let witness = Witness::default();
    request.extensions_mut().insert(witness.clone());
    let mut app = app.clone();
    let answered = async {
        poll_fn(|cx| app.poll_ready(cx)).await?;
        app.call(request).await
    };
    let response = answered.await.unwrap_or_else(|error: S::Error| panic!("{called} failed: {error:?}"));
    let (parts, body) = response.into_parts();
    let body = whole(body).await.unwrap_or_else(|error| panic!("the body of {called} failed: {error:?}"));
    let Some(cache) = witness.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        panic!(
            "{called} was answered with {} and went through no `CacheLayer`: add `.layer(CacheLayer::new(cache))` to the \
             router, after the route",
            parts.status
        )
    };
    cache.cache().idle().await;
    Cost { response: Response::from_parts(parts, body), report: cache.report() }
}

async fn whole<R: Body>(body: R) -> Result<Bytes, R::Error> {
    let mut body = pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(mut data) = frame?.into_data() {
            while data.has_remaining() {
                let chunk = data.chunk();
                let read = chunk.len();
                bytes.put_slice(chunk);
                data.advance(read);
            }
        }
    }
    Ok(bytes.freeze())
}

/// Among the extensions of a request, it is given the cache that a layer opens for it.
#[derive(Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Option<RequestCache>>>);

impl Witness {
    pub(crate) fn see(extensions: &Extensions, cache: &RequestCache) {
        if let Some(Self(seen)) = extensions.get() {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(cache.clone());
        }
    }
}
