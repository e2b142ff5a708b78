//! A clock that is wrong.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mastaba::clock;

/// The clock that `mastaba` reads in this process, to be moved by a test.
///
/// There is one at a time: a test that asks for it waits for those that have it. Tests beside it in the same process
/// see it move too, so they belong into a file of their own. Dropped, it is right again.
///
/// ```
/// use std::time::Duration;
/// use mastaba_test::clock::Clock;
///
/// let day = Duration::from_secs(86_400);
/// let clock = Clock::take();
/// let right = mastaba::clock::now_ms();
/// clock.ahead(day);
/// assert!(mastaba::clock::now_ms() >= right + 86_400_000);
/// clock.behind(day);
/// assert!(mastaba::clock::now_ms() < right);
/// clock.right();
/// assert!(mastaba::clock::now_ms() >= right);
/// ```
#[derive(Debug)]
pub struct Clock {
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Clock {
    /// The clock, which is right.
    #[must_use]
    pub fn take() -> Self {
        Self { _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// It is ahead of the right time by this much.
    ///
    /// # Panics
    /// If that is more milliseconds than there can be.
    pub fn ahead(&self, by: Duration) {
        clock::set_wrong_by_ms(i64::try_from(by.as_millis()).unwrap());
    }

    /// It is behind the right time by this much.
    ///
    /// # Panics
    /// If that is more milliseconds than there can be.
    pub fn behind(&self, by: Duration) {
        clock::set_wrong_by_ms(-i64::try_from(by.as_millis()).unwrap());
    }

    /// It is right.
    pub fn right(&self) {
        clock::set_wrong_by_ms(0);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.right();
    }
}
