//! One reader looks after what gathers, and the others sleep.
//!
//! Somebody has to notice that nobody comes any more, and to send. A reader that wakes itself does; but a set of futures
//! hands back to its task after two of those, and 100 of them cost more polls than the read itself costs time. So the
//! first reader of what gathers keeps the lookout, and all others leave their wakers in their parts, where the answer
//! wakes them.
//!
//! No reader may depend on another one being polled. The lookout that is dropped wakes the others, of whom one takes its
//! place. The one that is kept and never polled again has a minder behind it: a task that lives while somebody sleeps, and
//! wakes the sleepers once one gathering lasts longer than [`LONGEST`](super::standby::LONGEST). From then on each reader
//! of that gathering looks out for itself: more of them may be kept. The minder does not send, for others of those who are
//! awaited together may still be on their way to their first poll. Readers sleep on a minder of their own runtime alone:
//! another one may stand still.

use crate::sync::{AtomicUsize, Mutex, Ordering, lock};

/// Who looks after what gathers in a request; `H` is a runtime.
pub(crate) struct Lookout<H> {
    /// The number of the gathering, and below it [`TAKEN`], [`SLEEPS`] and [`EACH`].
    word: AtomicUsize,
    /// The number of the minder; 0: there is none.
    minder: AtomicUsize,
    minders: Mutex<Minders<H>>,
}

struct Minders<H> {
    /// The runtime of the present one.
    home: Option<H>,
    /// How many there were.
    count: usize,
}

/// Somebody keeps the lookout.
const TAKEN: usize = 1;
/// Somebody sleeps.
const SLEEPS: usize = 2;
/// Each reader looks out for itself.
const EACH: usize = 4;
/// What the number of a gathering goes up by.
const NEXT: usize = 8;

/// Who wakes the sleepers when the lookout is kept and not polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Minder {
    /// The one of this number.
    Is(usize),
    /// The caller makes one, of this number.
    Make(usize),
    /// One of another runtime, which may stand still: the caller must not sleep.
    Elsewhere,
}

impl<H> Default for Lookout<H> {
    fn default() -> Self {
        let minders = Mutex::new(Minders { home: None, count: 0 });
        Self { word: AtomicUsize::new(0), minder: AtomicUsize::new(0), minders }
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
        self.change(gathering, |bits| (bits & TAKEN == 0 || bits & EACH != 0).then_some(bits | TAKEN))
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

    /// Whether that minder still minds.
    pub(crate) fn is_minded_by(&self, minder: usize) -> bool {
        self.minder.load(Ordering::SeqCst) == minder
    }

    /// Who minds a reader on this runtime.
    pub(crate) fn minder(&self, home: H) -> Minder {
        let mut minders = lock(&self.minders);
        match self.minder.load(Ordering::SeqCst) {
            0 => {
                minders.count += 1;
                minders.home = Some(home);
                self.minder.store(minders.count, Ordering::SeqCst);
                Minder::Make(minders.count)
            }
            _ if minders.home != Some(home) => Minder::Elsewhere,
            minder => Minder::Is(minder),
        }
    }

    /// That minder ends.
    pub(crate) fn ends(&self, minder: usize) {
        let _ended = self.minder.compare_exchange(minder, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// That minder goes on after all, if nobody has made another one.
    pub(crate) fn goes_on(&self, minder: usize) -> bool {
        let minders = lock(&self.minders);
        minders.count == minder
            && self.minder.compare_exchange(0, minder, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}
