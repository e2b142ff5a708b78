//! Who comes to wait in a request, and who is being answered: what a reader looks at before it sends.
//!
//! Readers look at this between any two polls, so it is counted outside of the request's lock. Nothing depends on two of
//! the counts being of one moment: a reader that is misled sends earlier or later than was best.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts what happens to the readers of a request.
#[derive(Default)]
pub(crate) struct Traffic {
    /// The reads that came to wait. Not the keys: one that waits for a key which is coming adds none, and yet shows that
    /// siblings are still being polled for the first time.
    arrivals: AtomicU64,
    /// How many batches are being answered just now.
    settling: AtomicUsize,
    /// How many have been.
    settled: AtomicU64,
}

/// How it was when a reader looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) arrivals: u64,
    pub(super) settled: u64,
}

/// While it lives, a batch is being answered: some of its readers have been woken, and some have not.
///
/// A reader on another thread may be polled in between, and come to wait for what its answer leads to. It sends
/// nothing before all the others have been woken too, or what belongs together would leave in pieces.
pub(crate) struct Settling<'r>(&'r Traffic);

impl Traffic {
    /// A read comes to wait. Gives how many have.
    pub(super) fn arrived(&self) -> u64 {
        self.arrivals.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// How things are; `None` while a batch is being answered.
    pub(super) fn look(&self) -> Option<Look> {
        if self.settling.load(Ordering::Acquire) > 0 {
            return None;
        }
        // after `settling`: whoever ended is counted here
        let settled = self.settled.load(Ordering::Acquire);
        Some(Look { arrivals: self.arrivals.load(Ordering::Acquire), settled })
    }

    /// Begins to answer a batch.
    pub(crate) fn settling(&self) -> Settling<'_> {
        self.settling.fetch_add(1, Ordering::AcqRel);
        Settling(self)
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.0.settled.fetch_add(1, Ordering::AcqRel);
        self.0.settling.fetch_sub(1, Ordering::AcqRel);
    }
}
