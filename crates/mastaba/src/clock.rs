//! The clock of this process, and how far it believes the clocks of others.
//!
//! Entries say when they were made, by the clock of the machine that made them. That steers who refreshes and who loads
//! anew. It never decides for how long an entry is there: that is up to the store's own expiry.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// By how much two clocks may differ: an entry that was made this much later than now still counts as made just now. One
/// that was made later than that counts as a miss, for nobody can say how old it is.
pub const SKEW: Duration = Duration::from_secs(5);

/// The same in milliseconds.
pub(crate) const SKEW_MS: u64 = 5_000;

/// By how much the clock is wrong, in milliseconds: for tests.
static WRONG_MS: AtomicI64 = AtomicI64::new(0);

/// One look at the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// Milliseconds since the Unix epoch: for what other processes read, or have written.
    pub(crate) unix_ms: u64,
    /// Milliseconds since some moment of this process: for what it alone compares.
    pub(crate) steady_ms: u64,
}

impl Now {
    pub(crate) fn look() -> Self {
        let start = start();
        let passed = tokio::time::Instant::now().into_std().saturating_duration_since(start.at);
        let steady_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let unix = start.unix_ms.saturating_add(steady_ms);
        Self { unix_ms: unix.saturating_add_signed(WRONG_MS.load(Ordering::Relaxed)), steady_ms }
    }

    /// How old is what was made at that time; `None`: it is from the future, by more than [`SKEW`].
    pub(crate) fn age_ms(self, created_ms: u64) -> Option<u64> {
        (created_ms <= self.unix_ms.saturating_add(SKEW_MS)).then(|| self.unix_ms.saturating_sub(created_ms))
    }
}

struct Start {
    at: Instant,
    unix_ms: u64,
}

fn start() -> &'static Start {
    static START: OnceLock<Start> = OnceLock::new();
    START.get_or_init(|| {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        // a paused clock stands still from before this call: time by which a test advances it must not be lost
        let at = Instant::now().min(tokio::time::Instant::now().into_std());
        Start { at, unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    })
}

/// Milliseconds since the Unix epoch, as read once at start and carried on by the monotonic clock.
///
/// A jump of the wall clock while the process runs changes nothing here. Under a paused tokio clock (tests)
/// this follows it, when called from inside the runtime.
///
/// ```
/// use mastaba::clock;
///
/// let before = clock::now_ms();
/// assert!(clock::now_ms() >= before);
/// ```
pub fn now_ms() -> u64 {
    Now::look().unix_ms
}

/// Whether the clock that timers go by here is the real one. A test may have stopped tokio's, or moved it: then it
/// lies outside of two looks at the real one, before and after it.
#[cfg(feature = "embedded")]
pub(crate) fn is_real() -> bool {
    let before = Instant::now();
    let here = tokio::time::Instant::now().into_std();
    before <= here && here <= Instant::now()
}

/// Makes the clock of this process wrong by so many milliseconds: for tests, which use the guard in `mastaba-test`.
#[doc(hidden)]
pub fn set_wrong_by_ms(ms: i64) {
    WRONG_MS.store(ms, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_known_up_to_the_skew_and_not_beyond_it() {
        let now = Now { unix_ms: 100_000, steady_ms: 0 };
        assert_eq!(now.age_ms(40_000), Some(60_000));
        assert_eq!(now.age_ms(100_000 + SKEW_MS), Some(0), "as good as just now");
        assert_eq!(now.age_ms(100_001 + SKEW_MS), None);
        assert_eq!(now.age_ms(u64::MAX), None);
        assert_eq!(Now { unix_ms: u64::MAX, ..now }.age_ms(u64::MAX), Some(0));
        assert_eq!(SKEW.as_millis(), u128::from(SKEW_MS));
    }
}
