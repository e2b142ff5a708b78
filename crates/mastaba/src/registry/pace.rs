//! Whether the loads of a source are cheap enough to go without a lease (`R20`).
//!
//! A load without a lease saves a trip, and gives up that a key is loaded once over all processes. So it is for loads that
//! cost little more than the trip that it saves.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::refusals::Refusals;
use crate::region::Average;
use crate::sync::lock;

/// So many trips a cheap load takes at most.
const TRIPS: u32 = 5;
/// One fill in so many may be wasted.
const WASTE: u32 = 10;
/// So many fills count as stored before the first one: one that is wasted early says nothing yet.
const AT_FIRST: u32 = 20;
/// With more fills than this, half of what was counted is forgotten.
const MOST: u32 = 400;

/// How fast the loads of a source are, and what becomes of their fills.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    takes: Average,
    begun: AtomicU64,
    state: Mutex<PaceState>,
    /// Where something stands that only a lease takes the place of, or somebody writes all the time.
    refusals: Refusals,
}

#[derive(Debug, Default)]
struct PaceState {
    under_way: Vec<(u64, Instant)>,
    fills: u32,
    wasted: u32,
}

/// A load under way, until this is dropped.
pub(crate) struct PacedLoad<'p> {
    pace: &'p Pace,
    number: u64,
}

impl Pace {
    /// A load begins.
    pub(crate) fn begins(&self) -> PacedLoad<'_> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        lock(&self.state).under_way.push((number, Instant::now()));
        PacedLoad { pace: self, number }
    }

    /// Whether the next load goes without a lease. `trip`: how long one takes; `None`: no other process loads, so nothing is
    /// given up, however slow a load is.
    pub(crate) fn is_cheap(&self, trip: Option<Duration>) -> bool {
        // of the first one nothing is known
        let Some(takes) = self.takes.get() else { return false };
        let is_slow = |took: Duration| trip.is_some_and(|trip| took > trip * TRIPS);
        let state = lock(&self.state);
        let wasteful = state.wasted * WASTE > state.fills + AT_FIRST;
        !wasteful && !is_slow(takes) && !state.under_way.iter().any(|(_, since)| is_slow(since.elapsed()))
    }

    /// Whether this key of the shared tier takes a lease all the same: its last fill without one was refused.
    pub(crate) fn is_refused(&self, record: &[u8]) -> bool {
        self.refusals.hold(record)
    }

    /// What became of the fill of a key. One that took a lease is never wasted: so a source that takes leases because it
    /// wasted too much tries again after a while.
    pub(crate) fn filled(&self, record: &[u8], unleased: bool, stored: bool) {
        if stored {
            self.refusals.forget(record);
        } else if unleased {
            self.refusals.note(record);
        }
        let mut state = lock(&self.state);
        state.fills += 1;
        state.wasted += u32::from(unleased && !stored);
        if state.fills > MOST {
            (state.fills, state.wasted) = (state.fills / 2, state.wasted / 2);
        }
    }
}

impl PacedLoad<'_> {
    /// It has ended, and took so long.
    pub(crate) fn ended(self, took: Duration) {
        self.pace.takes.add(took);
    }
}

impl Drop for PacedLoad<'_> {
    fn drop(&mut self) {
        lock(&self.pace.state).under_way.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Option<Duration> = Some(Duration::from_millis(1));

    #[tokio::test(start_paused = true)]
    async fn the_first_load_a_slow_source_and_a_slow_load_under_way_take_leases() {
        let (pace, ms) = (Pace::default(), Duration::from_millis);
        assert!(!pace.is_cheap(TRIP), "of the first load nothing is known");
        let first = pace.begins();
        assert!(!pace.is_cheap(TRIP), "nor while it goes on");
        first.ended(ms(5));
        assert!(pace.is_cheap(TRIP));
        pace.begins().ended(ms(50));
        assert!(!pace.is_cheap(TRIP), "slower than five trips, on average");
        assert!(
            pace.is_cheap(Some(ms(3))) && pace.is_cheap(None),
            "and not where trips are slower, or nobody else loads"
        );
        (0..40).for_each(|_| pace.begins().ended(ms(1)));
        assert!(pace.is_cheap(TRIP));
        let slow = pace.begins();
        assert!(pace.is_cheap(TRIP));
        tokio::time::advance(ms(6)).await;
        assert!(!pace.is_cheap(TRIP), "one under way is slow");
        drop(slow);
        assert!(pace.is_cheap(TRIP), "it was given up");
    }

    #[test]
    fn a_source_that_wastes_more_than_a_tenth_takes_leases_for_a_while() {
        let pace = Pace::default();
        pace.begins().ended(Duration::ZERO);
        let filled = |unleased, stored| pace.filled(b"key", unleased, stored);
        (0..2).for_each(|_| filled(true, false));
        assert!(pace.is_cheap(TRIP), "two say nothing yet");
        filled(true, false);
        assert!(!pace.is_cheap(TRIP));
        (0..20).for_each(|_| filled(false, false));
        assert!(pace.is_cheap(TRIP), "leases waste nothing");
        (0..1000).for_each(|_| filled(true, true));
        (0..40).for_each(|_| filled(true, false));
        assert!(!pace.is_cheap(TRIP), "what was long ago is forgotten");
    }

    #[test]
    fn a_key_whose_fill_was_refused_takes_leases_until_it_is_stored() {
        let pace = Pace::default();
        pace.filled(b"1", true, false);
        assert!(pace.is_refused(b"1") && !pace.is_refused(b"2"));
        pace.filled(b"1", false, false);
        assert!(pace.is_refused(b"1"), "nor did that help");
        pace.filled(b"1", false, true);
        assert!(!pace.is_refused(b"1"));
    }
}
