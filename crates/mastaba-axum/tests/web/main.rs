//! The layer and the extractor in a router, over real HTTP and as a tower service.

mod budgets;
#[cfg(feature = "test")]
mod cost;
mod disconnects;
mod http;
mod lifetime;
mod log;
mod seen;
mod tower_service;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mastaba_axum::RequestCache;

/// Runs a test that may not hang.
pub(crate) async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs")
}

/// Counts the requests that live: each has a beat of it in its stash.
#[derive(Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicUsize>);

struct Beat(Pulse);

impl Pulse {
    pub(crate) fn feel(&self, cache: &RequestCache) {
        self.0.fetch_add(1, Ordering::Relaxed);
        cache.stash().insert(Beat(self.clone()));
    }

    pub(crate) fn beats(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) async fn ended(&self) {
        while self.beats() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
