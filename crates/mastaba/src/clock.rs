//! The clock of this process.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since the Unix epoch, as read once at start and carried on by the monotonic clock.
///
/// A jump of the wall clock while the process runs changes nothing here. Under a paused tokio clock (tests)
/// this follows it, when called from inside the runtime.
pub fn now_ms() -> u64 {
    static START: OnceLock<(Instant, u64)> = OnceLock::new();
    let (instant, unix) = START.get_or_init(|| {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        (Instant::now(), u64::try_from(unix.as_millis()).unwrap_or(u64::MAX))
    });
    unix + u64::try_from(instant.elapsed().as_millis()).unwrap_or(0)
}
