//! How long something takes, as a moving average.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Of so many times, roughly, the average is.
const WEIGHT: u64 = 8;

/// A moving average of durations. Of two that are added at the same time one may be lost.
#[derive(Debug, Default)]
pub(crate) struct Average {
    /// In nanoseconds, and one more: zero is none yet.
    nanos: AtomicU64,
}

impl Average {
    pub(crate) fn add(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX / WEIGHT).min(u64::MAX / WEIGHT - 1);
        let before = self.nanos.load(Ordering::Relaxed).checked_sub(1);
        let now = before.map_or(took, |before| before - before / WEIGHT + took / WEIGHT);
        self.nanos.store(now + 1, Ordering::Relaxed);
    }

    /// `None`: there was none yet.
    pub(crate) fn get(&self) -> Option<Duration> {
        self.nanos.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_added_and_begins_with_the_first() {
        let average = Average::default();
        assert_eq!(average.get(), None);
        average.add(Duration::ZERO);
        assert_eq!(average.get(), Some(Duration::ZERO));
        let average = Average::default();
        average.add(Duration::from_millis(8));
        assert_eq!(average.get(), Some(Duration::from_millis(8)));
        average.add(Duration::from_millis(16));
        assert_eq!(average.get(), Some(Duration::from_millis(9)));
        (0..100).for_each(|_| average.add(Duration::from_secs(1)));
        assert!(average.get() > Some(Duration::from_millis(990)), "{average:?}");
        average.add(Duration::MAX); // which counts as very long
    }
}
