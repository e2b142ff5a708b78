//! Waiting for the fill of another process (`R3`).
//!
//! A reader that finds a lease has missed, and somebody else loads just now. A backend with notifications wakes us when the
//! fill lands; in any case we look for it, in growing steps. A lease that was voided meanwhile is taken over; and who is
//! out of patience loads under the same fence, so that a load slower than its lease is not loaded for ever.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::Claim;
use crate::coherence::Mark;
use crate::entry::{self, Kind};
use crate::error::OF_A_KEY;
use crate::guarded::guard;
use crate::limits::later;
use crate::read::Missing;
use crate::region::Stamps;
use crate::source::Source;

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// What became of the leases of others.
#[derive(Default)]
pub(super) struct Waited {
    /// How many changes of the key had been reported before it was read last; what stands there now, and the stamps that
    /// were read with it.
    found: Vec<(usize, Mark, Option<Bytes>, Stamps)>,
    /// Still the same lease, and no patience left.
    left: Vec<usize>,
    /// The shared tier did not answer.
    out: bool,
}

impl<S: Source> Claim<S> {
    /// Waits until what others load is there, and leaves every item answered or with a fence to load under.
    pub(super) async fn settle_leases(&mut self, mut waited: Waited, until: Instant) {
        loop {
            let mut again = Vec::new();
            let mut gone = Vec::new();
            self.outage |= waited.out;
            // after that, whoever has the lease by now is not waited for: leases may change hands faster than they are read
            let patient = Instant::now() < until;
            for at in waited.left {
                self.items[at].elsewhere = None;
            }
            let incarnation = self.source.region.incarnation();
            for (at, mark, record, stamps) in waited.found {
                let item = &mut self.items[at];
                // what is found now, or is loaded from now on, is newer than the fill that was waited for (R13)
                item.mark = mark;
                item.elsewhere = None;
                item.storable.forget();
                match record {
                    Some(record) => {
                        if let Err(why) = guard(|| self.take_late_verdict(at, &record, &stamps, incarnation))
                        {
                            self.panicked(at, OF_A_KEY, &why);
                        }
                    }
                    None => gone.push(at),
                }
                let item = &mut self.items[at];
                item.elsewhere = item.elsewhere.filter(|_| patient);
                if item.elsewhere.is_some() {
                    again.push(at);
                } else if item.answer.is_none() && item.storable.wants_a_lease() {
                    // an outdated record, or a foreign one, is replaced by a lease of our own
                    gone.push(at);
                }
            }
            gone.sort_unstable();
            gone.dedup();
            if !gone.is_empty() {
                again.extend(self.lease_anew(gone).await);
            }
            if again.is_empty() || !patient {
                again.into_iter().for_each(|at| self.items[at].elsewhere = None);
                return;
            }
            waited = self.await_fills(again, until).await;
        }
    }

    /// Takes leases on keys whose lease by another is gone; gives those that somebody else was granted.
    async fn lease_anew(&mut self, ats: Vec<usize>) -> Vec<usize> {
        let leases = self.make_leases(&ats);
        let (region, meter) = (self.source.region.clone(), self.meter.clone());
        let answer = region.lease(&meter, &leases, S::TAGS).await;
        self.take_leases(answer.as_ref().map(|(leased, stamps)| (&leased[..], stamps)));
        ats.into_iter().filter(|at| self.items[*at].elsewhere.is_some()).collect()
    }

    /// Waits for others to fill these items, at most until then.
    pub(super) async fn await_fills(&self, ats: Vec<usize>, until: Instant) -> Waited {
        let mut waited = Waited::default();
        let region = &self.source.region;
        let mut pause = FIRST_PAUSE;
        // how many changes of each had been reported before it was read last
        let mut left: Vec<_> = ats.into_iter().map(|at| (at, self.items[at].mark)).collect();
        while !left.is_empty() {
            let look = later(Instant::now(), pause).min(until);
            loop {
                let next = region.changes.next();
                if left.iter().any(|(_, mark)| !region.changes.holds(*mark)) {
                    break;
                }
                tokio::select! {
                    () = next => {}
                    () = sleep_until(look) => break,
                }
            }
            let mut keys: Vec<_> = left.iter().map(|(at, _)| self.items[*at].record.clone()).collect();
            left.iter_mut().zip(&keys).for_each(|((_, mark), key)| *mark = region.changes.mark(key));
            // out: whoever waits loads for himself
            let Some((records, stamps)) = region.read(&self.meter, &mut keys, S::TAGS).await else {
                waited.out = true;
                break;
            };
            for ((at, mark), record) in std::mem::take(&mut left).into_iter().zip(records) {
                let header = record.as_ref().and_then(|record| entry::peek(record).ok());
                let same = header
                    .is_some_and(|it| it.kind == Kind::Lease && Some(it.fence) == self.items[at].elsewhere);
                if same {
                    left.push((at, mark));
                } else {
                    waited.found.push((at, mark, record, stamps.clone()));
                }
            }
            if Instant::now() >= until {
                break;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        waited.left = left.into_iter().map(|(at, _)| at).collect();
        waited
    }
}
