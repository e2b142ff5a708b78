//! The clock of this process.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, as read once at start and carried on by the monotonic clock.
///
/// A jump of the wall clock while the process runs changes nothing here. Under a paused tokio clock (tests)
/// this follows it, when called from inside the runtime.
pub fn now_ms() -> u64 {
    static START: OnceLock<(Instant, u64)> = OnceLock::new();
    let (start, unix) = START.get_or_init(|| {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        // a paused clock stands still from before this call: time that it is told to pass must not be lost
        let start = Instant::now().min(tokio::time::Instant::now().into_std());
        (start, u64::try_from(unix.as_millis()).unwrap_or(u64::MAX))
    });
    let passed = tokio::time::Instant::now().into_std().saturating_duration_since(*start);
    unix.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
}

/// Whether the clock that timers go by here is the real one. A test may have stopped tokio's, or moved it: then it
/// lies outside of two looks at the real one, before and after it.
#[cfg(feature = "embedded")]
pub(crate) fn is_real() -> bool {
    let before = Instant::now();
    let here = tokio::time::Instant::now().into_std();
    before <= here && here <= Instant::now()
}
