//! One reader looks after what gathers, and the others sleep.
//!
//! Somebody has to notice that nobody comes any more, and to send. A reader that wakes itself does; but a set of futures
//! hands back to its task after two of those, and 100 of them cost more polls than the read itself costs time. So the
//! first reader of what gathers keeps the lookout, and all others leave their wakers in their parts, where the answer
//! wakes them.
//!
//! No reader may depend on another one being polled. The lookout that is dropped wakes the others, of whom one takes its
//! place. The one that is kept and never polled again has a minder behind it: a task of the runtime that looks every
//! [few milliseconds](crate::runtime::minder) what gathers for long, and wakes the sleepers. From then on each reader of that
//! gathering looks out for itself: more of them may be kept. The minder does not send, for others of those who are awaited
//! together may still be on their way to their first poll. Readers sleep on the minder of their own runtime alone: another
//! one may stand still.

use crate::sync::{AtomicUsize, Mutex, Ordering, lock};

/// Who looks after what gathers in a request; `H` is a runtime.
pub(crate) struct Lookout<H> {
    /// The number of the gathering, and below it [`TAKEN`], [`SLEEPS`] and [`EACH`].
    word: AtomicUsize,
    /// The runtime whose minder minds a gathering, and which.
    minded: Mutex<Option<(H, usize)>>,
}

/// Somebody keeps the lookout.
const TAKEN: usize = 1;
/// Somebody sleeps.
const SLEEPS: usize = 2;
/// Each reader looks out for itself.
const EACH: usize = 4;
/// What the number of a gathering goes up by.
const NEXT: usize = 8;

fn is_free(bits: usize) -> bool {
    bits & TAKEN == 0 || bits & EACH != 0
}

impl<H> Default for Lookout<H> {
    fn default() -> Self {
        Self { word: AtomicUsize::new(0), minded: Mutex::new(None) }
    }
}

impl<H: PartialEq> Lookout<H> {
    /// The number of what gathers now. Under the lock of the request, as [`sent`](Lookout::sent).
    pub(crate) fn gathering(&self) -> usize {
        self.word.load(Ordering::SeqCst) / NEXT
    }

    /// What gathered is on its way.
    pub(crate) fn sent(&self) {
        self.word.store((self.gathering() + 1) * NEXT, Ordering::SeqCst);
    }

    /// Takes the lookout, if nobody has it or each looks out for itself, and this still gathers.
    pub(crate) fn take(&self, gathering: usize) -> bool {
        self.change(gathering, |bits| is_free(bits).then_some(bits | TAKEN))
    }

    /// Whether [`take`](Self::take) would, as it looks now.
    pub(crate) fn can_take(&self, gathering: usize) -> bool {
        let word = self.word.load(Ordering::SeqCst);
        word / NEXT == gathering && is_free(word % NEXT)
    }

    /// Gives the lookout up. If this gave it up, the caller wakes those who sleep.
    pub(crate) fn leave(&self, gathering: usize) -> bool {
        self.change(gathering, |bits| (bits & TAKEN != 0).then_some(bits & !TAKEN))
    }

    /// A reader of this gathering has left its waker. It looks for the lookout once more after that.
    pub(crate) fn sleeps(&self, gathering: usize) -> bool {
        self.change(gathering, |bits| Some(bits | SLEEPS))
    }

    /// Nobody sleeps in this gathering any longer: each looks out for itself. The caller wakes those who sleep.
    pub(crate) fn give_up(&self, gathering: usize) {
        self.change(gathering, |bits| Some(bits & !SLEEPS | EACH));
    }

    /// The gathering in which somebody sleeps.
    pub(crate) fn sleeping(&self) -> Option<usize> {
        let word = self.word.load(Ordering::SeqCst);
        (word & SLEEPS != 0).then_some(word / NEXT)
    }

    /// Changes what stands below the number of this gathering. Not, if it has been sent.
    fn change(&self, gathering: usize, to: impl Fn(usize) -> Option<usize>) -> bool {
        let mut word = self.word.load(Ordering::SeqCst);
        loop {
            if word / NEXT != gathering {
                return false;
            }
            let Some(bits) = to(word % NEXT) else { return false };
            if bits == word % NEXT {
                return true;
            }
            match self.word.compare_exchange(
                word,
                gathering * NEXT + bits,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Whether the minder of this runtime minds this gathering already.
    pub(crate) fn is_minded(&self, home: &H, gathering: usize) -> bool {
        matches!(&*lock(&self.minded), Some((minds, number)) if minds == home && *number == gathering)
    }

    /// From now on the minder of this runtime minds this gathering. Whether it did already.
    pub(crate) fn set_minded(&self, home: H, gathering: usize) -> bool {
        let mut minded = lock(&self.minded);
        let minds = Some((home, gathering));
        *minded == minds || {
            *minded = minds;
            false
        }
    }
}
