//! What near may rely on where other processes write to the shared tier (`R13`).
//!
//! The backend notifies us of every change ([`Listener`]), and we count the changes of each key. A near entry carries the
//! count that was seen before the shared tier was read, and is worth nothing once the count is another one. So the check
//! at the insert cannot be late: what was read before a change never answers after its notification. A gap in the stream
//! voids everything.
//!
//! How late a notification may be is bounded by one of two modes:
//!
//! * [`Coherence::Bounded`]: near answers only while the last ping that was answered was sent less than so long ago;
//! * [`Coherence::Fenced`]: near answers a request only after a ping that was sent for it has been answered. Answers
//!   come on the connection that carries the notifications, so those of an acknowledged write always precede them.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::limits::{Check, Span};

/// How current near is where other processes write to the shared tier.
///
/// A write of this process is seen by near at once, whatever the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coherence {
    /// A change by another process is seen after less than this, counted from when that process had its confirmation.
    /// Costs a ping every half of it, which no request waits for.
    Bounded(Duration),
    /// A request sees every change that was confirmed before its first read of the region. Costs one ping per
    /// request, which travels beside the read of what near does not know.
    Fenced,
}

impl Default for Coherence {
    /// Bounded by one second.
    fn default() -> Self {
        Self::Bounded(Duration::from_secs(1))
    }
}

/// What a coherence may be.
pub(crate) struct Lag;

const BOUND: Span = Span::Interval("");

impl Check<Coherence> for Lag {
    fn what(&self) -> String {
        BOUND.what()
    }

    fn or(&self) -> &'static str {
        ", or `fenced`"
    }

    fn check(&self, value: &Coherence) -> Result<(), String> {
        match value {
            Coherence::Bounded(bound) => BOUND.check(bound).map_err(|needed| needed + self.or()),
            Coherence::Fenced => Ok(()),
        }
    }

    fn show(&self, value: &Coherence) -> String {
        match value {
            Coherence::Bounded(bound) => BOUND.show(bound),
            Coherence::Fenced => "fenced".to_owned(),
        }
    }
}

/// How many counts there are; a change voids what near holds of all keys that share one.
const MARKS: usize = 1 << 16;

/// The changes of one region, as the backend reported them to this process.
pub(crate) struct Changes {
    marks: Box<[AtomicU32]>,
    hasher: foldhash::fast::RandomState,
    /// Counts the gaps in the notifications.
    gaps: AtomicU64,
    /// The notifications of everything that was acknowledged before this moment have come; 0: nothing is known.
    told_us: AtomicU64,
    /// Wakes who waits for the fill of another process.
    notify: Notify,
    /// Wakes who asks whether all notifications have come.
    gapped: Arc<Notify>,
}

/// How many changes of a key had been reported when a reader looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    at: u32,
    count: u32,
}

impl Changes {
    /// Where a backend does not notify there are no counts, and an entry lives until a clear or a tag voids it.
    pub(crate) fn new(told: bool) -> Self {
        Self {
            marks: (0..if told { MARKS } else { 0 }).map(|_| AtomicU32::new(0)).collect(),
            hasher: foldhash::fast::RandomState::default(),
            gaps: AtomicU64::new(0),
            told_us: AtomicU64::new(0),
            notify: Notify::new(),
            gapped: Arc::default(),
        }
    }

    /// The count of a key. To be taken before the shared tier is read.
    pub(crate) fn mark(&self, record: &[u8]) -> Mark {
        if self.marks.is_empty() {
            return Mark::default();
        }
        let at = self.place(record);
        Mark { at: u32::try_from(at).unwrap_or(0), count: self.marks[at].load(Ordering::Acquire) }
    }

    /// Whether the key has not changed since.
    pub(crate) fn holds(&self, mark: Mark) -> bool {
        match self.marks.get(mark.at as usize) {
            Some(count) => count.load(Ordering::Acquire) == mark.count,
            None => true,
        }
    }

    /// Whether there are counts at all.
    pub(crate) fn are_told(&self) -> bool {
        !self.marks.is_empty()
    }

    /// The record under a key has changed.
    pub(crate) fn changed(&self, record: &[u8]) {
        if let Some(count) = (!self.marks.is_empty()).then(|| &self.marks[self.place(record)]) {
            count.fetch_add(1, Ordering::AcqRel);
        }
        self.notify.notify_waiters();
    }

    /// Notifications may have been lost. The caller voids everything.
    pub(crate) fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::AcqRel);
        self.told_us.store(0, Ordering::Release);
        self.notify.notify_waiters();
        self.gapped.notify_one();
    }

    /// Wakes one at the next gap, or at one since the last time.
    pub(crate) fn gaps(&self) -> Arc<Notify> {
        self.gapped.clone()
    }

    /// Wakes at the next change of any key. What changes after this call is not missed.
    pub(crate) fn next(&self) -> Notified<'_> {
        self.notify.notified()
    }

    /// To be taken before a ping is sent.
    pub(crate) fn asks(&self) -> PingUnderWay {
        PingUnderWay { gaps: self.gaps.load(Ordering::Acquire), sent_us: micros() }
    }

    /// The ping was answered: the notifications of everything that was acknowledged before it have come, unless there was a gap.
    pub(crate) fn answered(&self, asked: PingUnderWay) -> bool {
        let whole = self.gaps.load(Ordering::Acquire) == asked.gaps;
        if whole {
            // A test may have moved the clock of one runtime: a time that has not come here says nothing, and must not
            // stay.
            let now = micros();
            let later = |told: u64| Some(if told > now { asked.sent_us } else { told.max(asked.sent_us) });
            let _ = self.told_us.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
        }
        whole
    }

    /// Whether the notifications of everything that was acknowledged up to `bound` ago have come.
    pub(crate) fn told_within(&self, bound: Duration) -> bool {
        let told = self.told_us.load(Ordering::Acquire);
        let bound = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        told != 0 && micros().checked_sub(told).is_some_and(|ago| ago < bound)
    }

    fn place(&self, record: &[u8]) -> usize {
        usize::try_from(self.hasher.hash_one(record) % MARKS as u64).unwrap_or(0)
    }
}

/// A ping under way.
#[derive(Clone, Copy)]
pub(crate) struct PingUnderWay {
    gaps: u64,
    sent_us: u64,
}

/// Microseconds since the first call, and never zero.
fn micros() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    u64::try_from(Instant::now().saturating_duration_since(*start).as_micros())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_whoever_looked_before_it() {
        let changes = Changes::new(true);
        let (one, two) = (changes.mark(b"one"), changes.mark(b"two"));
        assert!(changes.holds(one) && changes.holds(two));
        changes.changed(b"one");
        assert!(!changes.holds(one));
        assert!(changes.holds(two), "another key is left alone");
        assert!(changes.holds(changes.mark(b"one")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_is_good_for_the_bound_and_not_after_a_gap() {
        let changes = Changes::new(true);
        let second = Duration::from_secs(1);
        assert!(!changes.told_within(second), "nothing has been answered yet");
        let asked = changes.asks();
        tokio::time::advance(second / 4).await;
        assert!(changes.answered(asked));
        assert!(changes.told_within(second));
        tokio::time::advance(second * 3 / 4).await;
        assert!(!changes.told_within(second), "counted from when it was sent");
        let asked = changes.asks();
        assert!(changes.answered(asked) && changes.told_within(second));
        let asked = changes.asks();
        changes.gap();
        assert!(!changes.told_within(second));
        assert!(!changes.answered(asked), "it was sent before the gap");
        assert!(!changes.told_within(second));
    }
}
