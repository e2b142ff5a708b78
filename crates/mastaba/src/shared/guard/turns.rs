//! Turns: how many loads per second an outage may add.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::Turn;
use crate::limits::later;
use crate::sync::lock;

/// Without a load for this long, the next one is of another outage.
const QUIET: Duration = Duration::from_secs(30);

/// Gives out turns at a steady rate, in the order of asking, with a small burst ahead of it (GCRA: the generic cell
/// rate algorithm, ITU-T I.371).
///
/// A turn is a point in time and no permit: nothing is held, so nothing has to be given back. One that is not used is
/// lost, and so loads that are dropped while they wait slow the others down, by their own share and no more.
pub(super) struct Turns {
    /// The time between two turns.
    apart: Duration,
    /// How far ahead of the steady rate a load may be.
    ahead: Duration,
    state: Mutex<State>,
}

struct State {
    /// When the next turn is due at the steady rate (the theoretical arrival time).
    due: Option<Instant>,
    asked: Option<Instant>,
    told: bool,
}

/// The turn of a load would come after its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLate {
    /// How long it would have had to wait.
    pub(crate) wait: Duration,
    /// It is the first of this outage that could not begin at once.
    pub(crate) first: bool,
}

impl Turns {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        let apart = Duration::from_secs(1) / per_second;
        let burst = (per_second / 10).max(1);
        Self {
            apart,
            ahead: apart * (burst - 1),
            state: Mutex::new(State { due: None, asked: None, told: false }),
        }
    }

    /// The next turn, if it comes within so much time.
    pub(super) fn take(&self, now: Instant, within: Duration) -> Result<Turn, TooLate> {
        let mut state = lock(&self.state);
        if state.asked.is_none_or(|asked| now.saturating_duration_since(asked) > QUIET) {
            state.told = false;
        }
        state.asked = Some(now);
        let due = state.due.map_or(now, |due| due.max(now));
        let wait = due.saturating_duration_since(now).saturating_sub(self.ahead);
        let first = !wait.is_zero() && !state.told;
        state.told |= first;
        if wait > within {
            // it takes no turn from those who can wait
            return Err(TooLate { wait, first });
        }
        state.due = Some(later(due, self.apart));
        Ok(Turn { at: later(now, wait), first })
    }

    /// The outage is over.
    pub(super) fn recovered(&self) {
        lock(&self.state).told = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_tenth_of_a_second_goes_at_once_and_the_rest_in_order_at_the_rate() {
        let (turns, now) = (Turns::new(100), Instant::now());
        let waits: Vec<_> = (0..30).map(|_| turns.take(now, LONG).unwrap().at - now).collect();
        assert!(waits[..10].iter().all(Duration::is_zero), "{waits:?}");
        for (nth, wait) in waits[10..].iter().enumerate() {
            assert_eq!(*wait, millis(10 * (nth as u64 + 1)));
        }
    }

    #[test]
    fn in_no_second_do_more_begin_than_the_rate_and_the_burst() {
        let (turns, start) = (Turns::new(50), Instant::now());
        let mut begun: Vec<_> = (0..400)
            .map(|nth| {
                let asked = start + millis(nth * 7);
                turns.take(asked, LONG).unwrap().at - start
            })
            .collect();
        begun.sort_unstable();
        for (nth, from) in begun.iter().enumerate() {
            let within = begun[nth..].iter().filter(|at| **at - *from < millis(1000)).count();
            assert!(within <= 55, "{within} in the second after {from:?}");
        }
    }

    #[test]
    fn a_turn_that_comes_too_late_is_refused_and_takes_none_from_others() {
        let (turns, now) = (Turns::new(1), Instant::now());
        assert_eq!(turns.take(now, LONG).unwrap().at, now);
        for _ in 0..3 {
            assert_eq!(turns.take(now, millis(900)).unwrap_err().wait, millis(1000));
        }
        assert_eq!(turns.take(now, LONG).unwrap().at, now + millis(1000));
    }

    #[test]
    fn the_first_of_an_outage_that_waits_is_told_apart() {
        let (turns, now) = (Turns::new(1), Instant::now());
        let first = |at| match turns.take(at, LONG) {
            Ok(turn) => turn.first,
            Err(late) => late.first,
        };
        assert_eq!([first(now), first(now), first(now)], [false, true, false]);
        turns.recovered();
        assert_eq!([first(now), first(now)], [true, false], "after a recovery");
        let later = now + 2 * QUIET;
        assert_eq!([first(later), first(later), first(later)], [false, true, false], "after a quiet time");
    }
}
