//! Readers that stand by while a batch of their request asks the shared tier.
//!
//! Reads of several tasks arrive one after the other: the first finds nobody, and leaves. Those that come while its
//! batch is asking would each leave as soon as nobody else is being polled, and arrive at the source one by one. They
//! wait for it to have asked instead, and leave together. A batch is waited for by readers of its own runtime alone, and
//! for a millisecond at most: both are up to the task that carries it, so that no reader depends on another one.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use smallvec::SmallVec;

use crate::sync::{AtomicUsize, Mutex, Ordering, lock};

/// For so long a batch that asks is waited for, from when somebody stands by.
pub(crate) const LONGEST: Duration = Duration::from_millis(1);

/// The batches of a request that ask, each with the runtime `H` that carries it, and who stands by for them.
pub(crate) struct StandBy<H> {
    /// How many there are: mostly none, and then no reader takes the lock.
    asking: AtomicUsize,
    state: Mutex<State<H>>,
}

struct State<H> {
    asking: SmallVec<[Asks<H>; 1]>,
    readers: Vec<Waker>,
    /// Changes when the readers are woken: places of before are no longer theirs.
    round: u64,
}

struct Asks<H> {
    home: H,
    /// Distinguishes it from others of this runtime.
    id: u64,
    /// Somebody stands by.
    waited_for: bool,
    carrier: Option<Waker>,
}

/// Where a reader that stands by has left its waker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    round: u64,
    at: usize,
}

impl<H> Default for StandBy<H> {
    fn default() -> Self {
        let state = State { asking: SmallVec::new(), readers: Vec::new(), round: 0 };
        Self { asking: AtomicUsize::new(0), state: Mutex::new(state) }
    }
}

impl<H: PartialEq> StandBy<H> {
    /// A batch is about to ask, on this runtime: by this number it is [waited for](StandBy::is_waited_for), and
    /// [ends](StandBy::end).
    pub(crate) fn begin(&self, home: H) -> u64 {
        let mut state = lock(&self.state);
        let id = state.asking.last().map_or(0, |last| last.id + 1);
        state.asking.push(Asks { home, id, waited_for: false, carrier: None });
        self.asking.fetch_add(1, Ordering::Release);
        id
    }

    /// Ready once somebody stands by for this batch: what carries it has no timer before.
    pub(crate) fn is_waited_for(&self, id: u64, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        let Some(asks) = state.asking.iter_mut().find(|asks| asks.id == id) else { return Poll::Pending };
        if asks.waited_for {
            return Poll::Ready(());
        }
        match &mut asks.carrier {
            Some(waker) => waker.clone_from(cx.waker()),
            carrier => *carrier = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// A batch has asked, was cut off, or has been waited for long enough: who stands by looks again.
    pub(crate) fn end(&self, id: u64) {
        let readers = {
            let mut state = lock(&self.state);
            state.asking.retain(|asks| asks.id != id);
            self.asking.fetch_sub(1, Ordering::Release);
            state.round += 1;
            std::mem::take(&mut state.readers)
        };
        readers.into_iter().for_each(Waker::wake);
    }

    /// Whether a batch is asking on the runtime of this reader, which is woken when it no longer is.
    pub(crate) fn waits(
        &self,
        home: impl FnOnce() -> Option<H>,
        cx: &Context<'_>,
        place: &mut Option<Place>,
    ) -> bool {
        if self.asking.load(Ordering::Acquire) == 0 {
            return false;
        }
        let Some(home) = home() else { return false };
        let mut carriers: SmallVec<[Waker; 1]> = SmallVec::new();
        {
            let mut state = lock(&self.state);
            let State { asking, readers, round } = &mut *state;
            let mut any = false;
            for asks in asking.iter_mut().filter(|asks| asks.home == home) {
                any = true;
                asks.waited_for = true;
                carriers.extend(asks.carrier.take());
            }
            if !any {
                return false;
            }
            match place.filter(|place| place.round == *round).and_then(|place| readers.get_mut(place.at)) {
                Some(waker) => waker.clone_from(cx.waker()),
                None => {
                    readers.push(cx.waker().clone());
                    *place = Some(Place { round: *round, at: readers.len() - 1 });
                }
            }
        }
        carriers.into_iter().for_each(Waker::wake);
        true
    }
}
