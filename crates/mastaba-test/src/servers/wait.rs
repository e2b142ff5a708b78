//! Waiting for the world outside, whose clock is never paused.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// How often something is looked at that is waited for.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// How long anything here may take before the test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Waits until `done` says so, and panics when it has not after [`LIMIT`].
pub(crate) async fn until<F: Future<Output = bool>>(what: impl Display, mut done: impl FnMut() -> F) {
    // not tokio's clock: a test may have paused it, and the server does not know
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(PAUSE).await;
    }
}
