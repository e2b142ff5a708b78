//! The breaker: while the shared tier fails, nobody waits for it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use crate::limits::{bounded, later};
use crate::sync::lock;

/// The longest pause between two probes.
const LONGEST: Duration = Duration::from_secs(30);

/// How long a probe on another runtime has at least.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// Opens when operations fail, and lets one at a time try again.
///
/// Closed, an operation costs a read of one atomic before and after it, and a write of another one while there is a
/// failure among the recent ones. The lock is for the time of an outage.
pub(super) struct Breaker {
    failures: u32,
    pause: Duration,
    /// Counts the transitions between closed (even) and open (odd). What an operation says that began in another phase
    /// is of no use in this one.
    phase: AtomicU64,
    /// The recent operations, the latest in the lowest bit: 1 for a failure. Nothing yet counts as well.
    recent: AtomicU64,
    outage: Mutex<Outage>,
}

/// While it is open.
struct Outage {
    since: Instant,
    /// When a probe may go out; `None`: one is out.
    due: Option<Instant>,
    pause: Duration,
    /// The runtime of the probe that is out, and since when.
    probe: Option<(Option<Id>, std::time::Instant)>,
}

impl Outage {
    /// The probe is out on another runtime, which has had its time. Nobody may drive that any longer, and with it the
    /// budget of the probe stands still.
    fn is_left_behind(&self, here: Option<Id>, pause: Duration) -> bool {
        self.probe.is_some_and(|(at, since)| at != here && since.elapsed() >= pause.max(LEFT_BEHIND))
    }
}

fn here() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

/// An operation that travels.
///
/// Dropping it before it is [`done`](Pass::done) says nothing of the tier; a probe is given back.
#[must_use]
pub(crate) struct Pass<'b> {
    breaker: &'b Breaker,
    phase: u64,
    probe: bool,
}

/// What an operation changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shift {
    /// Nothing.
    None,
    /// It opened, after so many failures among the recent operations.
    Opened(u32),
    /// It closed, after so long.
    Closed(Duration),
    /// It stays open: the probe failed.
    StillOpen,
    /// Nothing, and nothing new: it is open anyway, or was when this began.
    Known,
}

impl Breaker {
    /// `failures` of 0: it never opens.
    pub(super) fn new(failures: u32, pause: Duration) -> Self {
        let outage = Outage { since: Instant::now(), due: None, pause, probe: None };
        Self {
            failures: failures.min(64),
            pause,
            phase: AtomicU64::new(0),
            recent: AtomicU64::new(0),
            outage: Mutex::new(outage),
        }
    }

    /// See [`Guard::admit`](super::Guard::admit).
    pub(super) fn admit(&self, always: bool) -> Option<Pass<'_>> {
        let phase = self.phase.load(Ordering::Acquire);
        let pass = Pass { breaker: self, phase, probe: false };
        if phase.is_multiple_of(2) || always {
            return Some(pass);
        }
        let mut outage = lock(&self.outage);
        let current = self.phase.load(Ordering::Acquire);
        if current.is_multiple_of(2) {
            return Some(Pass { phase: current, ..pass });
        }
        let may = match outage.due {
            Some(due) => Instant::now() >= due,
            None => outage.is_left_behind(here(), self.pause),
        };
        may.then(|| {
            outage.due = None;
            outage.probe = Some((here(), std::time::Instant::now()));
            Pass { phase: current, probe: true, ..pass }
        })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.phase.load(Ordering::Acquire).is_multiple_of(2)
    }

    /// Counts an operation that began while it was closed.
    fn count(&self, phase: u64, failed: bool) -> Shift {
        // a success among successes changes nothing
        if self.failures == 0 || (!failed && self.recent.load(Ordering::Relaxed) == 0) {
            return Shift::None;
        }
        let mut recent = 0;
        let _ = self.recent.fetch_update(Ordering::AcqRel, Ordering::Acquire, |before| {
            recent = before << 1 | u64::from(failed);
            Some(recent)
        });
        if !failed || !self.is_too_much(recent) {
            return Shift::None;
        }
        let mut outage = lock(&self.outage);
        if self.phase.load(Ordering::Acquire) != phase {
            return Shift::Known; // another one has opened it
        }
        let now = Instant::now();
        let due = Some(later(now, jittered(self.pause)));
        *outage = Outage { since: now, due, pause: self.pause, probe: None };
        self.phase.store(phase + 1, Ordering::Release);
        Shift::Opened(self.within_window(recent).count_ones())
    }

    /// So many in a row, or half of four times as many.
    fn is_too_much(&self, recent: u64) -> bool {
        let half = (self.window() / 2).max(self.failures);
        recent.trailing_ones() >= self.failures || self.within_window(recent).count_ones() >= half
    }

    fn window(&self) -> u32 {
        (self.failures * 4).min(64)
    }

    fn within_window(&self, recent: u64) -> u64 {
        recent & (u64::MAX >> (64 - self.window()))
    }

    /// What a probe found.
    fn probed(&self, phase: u64, failed: bool) -> Shift {
        let mut outage = lock(&self.outage);
        if self.phase.load(Ordering::Acquire) != phase {
            return Shift::Known; // another one was sent in its place, and was answered
        }
        if failed {
            outage.pause = outage.pause.saturating_mul(2).min(LONGEST.max(self.pause));
            outage.due = Some(later(Instant::now(), jittered(outage.pause)));
            return Shift::StillOpen;
        }
        let after = outage.since.elapsed();
        self.recent.store(0, Ordering::Release);
        self.phase.store(phase + 1, Ordering::Release);
        Shift::Closed(after)
    }

    /// Something that always travels was answered: the next reader may try.
    fn hope(&self, phase: u64) {
        let mut outage = lock(&self.outage);
        if self.phase.load(Ordering::Acquire) == phase && outage.due.is_some() {
            outage.due = Some(Instant::now());
        }
    }
}

/// Up to a quarter shorter, so that the processes of one program do not try all at once.
fn jittered(pause: Duration) -> Duration {
    bounded(pause).mul_f64(1.0 - fastrand::f64() / 4.0)
}

impl Pass<'_> {
    /// Whether it is the one that tries, while the others are passed over.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe
    }

    /// Whether the tier was taken for sound when it began.
    fn is_ordinary(&self) -> bool {
        self.phase.is_multiple_of(2)
    }

    /// Says what became of it.
    pub(crate) fn done(mut self, failed: bool) -> Shift {
        let probe = std::mem::take(&mut self.probe);
        let (breaker, phase) = (self.breaker, self.phase);
        if probe {
            return breaker.probed(phase, failed);
        }
        if breaker.phase.load(Ordering::Acquire) != phase {
            return Shift::Known;
        }
        if self.is_ordinary() {
            return breaker.count(phase, failed);
        }
        // The failure of a write says nothing new, and a store that refuses writes alone must not keep readers from
        // trying.
        if !failed {
            breaker.hope(phase);
        }
        Shift::Known
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            let mut outage = lock(&self.breaker.outage);
            if self.breaker.phase.load(Ordering::Acquire) == self.phase {
                // given back: the next one is the probe
                outage.due = Some(Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const PAUSE: Duration = Duration::from_secs(1);

    fn run(breaker: &Breaker, outcomes: &str) -> Vec<Shift> {
        outcomes
            .chars()
            .map(|each| breaker.admit(false).expect("it is closed").done(each == 'x'))
            .filter(|change| *change != Shift::None)
            .collect()
    }

    fn opened() -> Breaker {
        let breaker = Breaker::new(5, PAUSE);
        assert_eq!(run(&breaker, "xxxxx"), [Shift::Opened(5)]);
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_it_and_four_do_not() {
        let breaker = Breaker::new(5, PAUSE);
        assert_eq!(run(&breaker, "xxxx.xxxx."), []);
        opened();
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_the_last_twenty_open_it_and_fewer_do_not() {
        let breaker = Breaker::new(5, PAUSE);
        assert_eq!(run(&breaker, &"x..".repeat(100)), []);
        let breaker = Breaker::new(5, PAUSE);
        assert_eq!(run(&breaker, &"x.".repeat(9)), []);
        assert_eq!(run(&breaker, "x"), [Shift::Opened(10)]);
    }

    #[tokio::test(start_paused = true)]
    async fn with_no_failures_set_it_never_opens() {
        assert_eq!(run(&Breaker::new(0, PAUSE), &"x".repeat(200)), []);
        assert_eq!(run(&Breaker::new(64, PAUSE), &"x".repeat(63)), []);
        assert_eq!(run(&Breaker::new(1, PAUSE), "x"), [Shift::Opened(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn open_it_lets_one_probe_through_after_a_pause() {
        let breaker = opened();
        assert!(breaker.admit(false).is_none());
        advance(PAUSE).await;
        let probe = breaker.admit(false).unwrap();
        assert!(probe.is_probe());
        advance(PAUSE * 100).await;
        assert!(breaker.admit(false).is_none(), "one at a time, however long it takes");
        assert_eq!(probe.done(false), Shift::Closed(PAUSE * 101));
        assert!(!breaker.admit(false).unwrap().is_probe());
        assert_eq!(run(&breaker, "xxxx"), [], "what was before is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_is_given_back() {
        let breaker = opened();
        advance(PAUSE).await;
        drop(breaker.admit(false).unwrap());
        let probe = breaker.admit(false).expect("the next one is the probe");
        assert!(probe.is_probe());
        assert!(breaker.admit(false).is_none());
        assert_eq!(probe.done(false), Shift::Closed(PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn each_failed_probe_doubles_the_pause_up_to_half_a_minute() {
        let breaker = opened();
        let mut pause = PAUSE;
        for _ in 0..8 {
            // up to a quarter shorter
            advance(pause.mul_f64(0.74)).await;
            assert!(breaker.admit(false).is_none(), "{pause:?}");
            advance(pause.mul_f64(0.26)).await;
            assert_eq!(breaker.admit(false).unwrap().done(true), Shift::StillOpen);
            pause = (pause * 2).min(LONGEST);
        }
        assert_eq!(pause, LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn stragglers_of_another_phase_count_for_nothing() {
        let breaker = Breaker::new(5, PAUSE);
        let early: Vec<_> = (0..10).map(|_| breaker.admit(false).unwrap()).collect();
        assert_eq!(run(&breaker, "xxxxx"), [Shift::Opened(5)]);
        let mut early = early.into_iter();
        assert_eq!(early.next().unwrap().done(false), Shift::Known);
        assert!(breaker.admit(false).is_none(), "it was asked before the outage");
        advance(PAUSE).await;
        assert_eq!(breaker.admit(false).unwrap().done(false), Shift::Closed(PAUSE));
        early.for_each(|early| assert_eq!(early.done(true), Shift::Known));
        assert_eq!(run(&breaker, "xxxx"), []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_always_travels_counts_and_its_success_lets_a_reader_try_at_once() {
        let breaker = Breaker::new(5, PAUSE);
        for _ in 0..4 {
            assert_eq!(breaker.admit(true).unwrap().done(true), Shift::None);
        }
        assert_eq!(breaker.admit(true).unwrap().done(true), Shift::Opened(5));
        assert_eq!(breaker.admit(true).unwrap().done(true), Shift::Known);
        assert!(breaker.admit(false).is_none());
        assert_eq!(breaker.admit(true).unwrap().done(false), Shift::Known);
        assert!(breaker.admit(false).unwrap().is_probe());
    }

    #[test]
    fn operations_at_the_same_time_open_it_once() {
        let breaker = Breaker::new(5, PAUSE);
        let opened: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let failed = || Some(breaker.admit(false)?.done(true));
                        (0..1000).filter_map(|_| failed()).filter(|it| matches!(it, Shift::Opened(_))).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(opened, 1);
    }
}
