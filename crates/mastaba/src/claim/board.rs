//! Who loads: flights in this process, leases across processes.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::right::{Right, Seal, Storable};
use super::{Claim, Way};
use crate::answer::Outcome;
use crate::entry::{self, Fence};
use crate::error::OF_A_KEY;
use crate::flight::Boarding;
use crate::guarded::each;
use crate::read::{Answering, Loading, Missing};
use crate::region::Stamps;
use crate::request::{Lane, endless};
use crate::shared::{Lease, Leased};
use crate::source::Source;
use crate::waits::Endless;

impl<S: Source> Missing for Claim<S> {
    fn waits(&self) -> bool {
        self.lane != Lane::Peek && (self.open > 0 || self.items.iter().any(|item| item.answer.is_none()))
    }

    fn board_flights(&mut self, ready: bool) -> Option<Vec<Lease>> {
        self.leasing.clear();
        self.ready &= ready;
        self.outage |= !ready && self.source.region.stores() && self.lane.asks_shared();
        if self.lane != Lane::Peek {
            self.part_misses();
        }
        let open = self.unanswered();
        if open.is_empty() || self.lane == Lane::Peek {
            return None;
        }
        if !self.lane.fills() {
            for at in open {
                self.items[at].way = Way::Alone;
                self.items[at].storable.seal(Seal::Plain);
            }
            return None;
        }
        let source = self.source.clone();
        let board: Vec<_> =
            open.into_iter().filter(|at| !matches!(self.items[*at].way, Way::Alone)).collect();
        let keys: Vec<_> = board.iter().map(|at| &self.items[*at].key).collect();
        let home = self.request.cache.home("a load").ok();
        let load = self.sink.load(S::name()).clone();
        let (boarded, departure) = source.flights.board(&keys, &load, home.as_ref());
        let mut own = Vec::new();
        for (at, boarding) in board.into_iter().zip(boarded) {
            if let Boarding::Joined(seat) | Boarding::Queued(seat) = &boarding
                && load.is_awaited()
                && seat.load().leads_to(&load)
            {
                // that load waits for one that waits for this part: it would never land
                let error = endless(seat.load(), S::name(), Endless::Circle);
                self.items[at].answer = Some(Outcome::Failed(error));
                continue;
            }
            self.items[at].way = match boarding {
                Boarding::Own => {
                    own.push(at);
                    Way::Own
                }
                Boarding::Joined(seat) => Way::Joined(seat),
                Boarding::Queued(seat) => Way::Queued(seat),
                Boarding::Failed(why) => {
                    self.panicked(at, OF_A_KEY, &why);
                    continue;
                }
            };
        }
        if self.lane == Lane::Background {
            // somebody loads it already
            self.items.retain(|item| matches!(item.way, Way::Own));
            own = (0..self.items.len()).collect();
        }
        let departure = departure?;
        // the load reads after this, and so does the lease that may bring a value (R4, R5)
        departure.sent(self.request.cache.tick());
        self.departures.push((departure, own.clone()));
        if !self.ready {
            own.iter().for_each(|at| self.items[*at].storable.seal(Seal::Plain));
            return None;
        }
        self.go_unleased(&own);
        let leases = self.make_leases(&own);
        // not so where the fence is that of an entry of a version with other fixed tags
        let stamped = self.read.as_ref().is_some_and(|read| read.folded(S::TAGS).is_some());
        if leases.is_empty() && stamped && !self.source.tagged.load(Ordering::Relaxed) {
            // every fence is known, and the stamps were read with it
            if self.carry.is_none() {
                self.carry.clone_from(&self.read);
            }
            return None;
        }
        Some(leases)
    }

    fn take_leases(&mut self, leased: Option<(&[Leased], &Stamps)>) {
        let leasing = std::mem::take(&mut self.leasing);
        let Some((leased, stamps)) = leased else {
            self.outage = true;
            self.items.iter_mut().for_each(|item| item.storable.seal(Seal::Plain));
            return;
        };
        if self.carry.is_none() {
            // the stamps from before the first load: older ones are always safe, newer ones are not (R12)
            self.carry = Some(stamps.clone());
        }
        let incarnation = self.source.region.incarnation();
        each(
            self,
            leased.len().min(leasing.len()),
            |claim, nth| {
                let at = leasing[nth];
                let Leased::Found(record) = &leased[nth] else {
                    // Granted: a backend that is notified of changes counts this as one (R13). What is loaded from now on is
                    // newer than every change that was reported until now.
                    if claim.source.near.is_some() {
                        claim.items[at].mark = claim.source.region.changes.mark(&claim.items[at].record);
                    }
                    return;
                };
                claim.items[at].storable.forget();
                claim.take_late_verdict(at, record, stamps, incarnation);
                claim.items[at].storable.go_without_lease();
            },
            |claim, nth, why| claim.panicked(leasing[nth], OF_A_KEY, &why),
        );
        // a flight whose leases found it all does not wait for the rest of the batch
        if self
            .departures
            .last()
            .is_some_and(|(_, ats)| ats.iter().all(|at| self.items[*at].answer.is_some()))
        {
            self.land(&[]);
        }
    }

    fn loading(self: Box<Self>) -> Result<Box<dyn Loading>, Box<dyn Answering>> {
        if self.waits() { Ok(self) } else { Err(self) }
    }
}

impl<S: Source> Claim<S> {
    /// Decides which of these items are loaded without a lease (`R20`): those of a source whose loads are cheap, where the
    /// read saw a write stamp (`R19`) and nothing that a lease alone takes the place of.
    fn go_unleased(&mut self, ats: &[usize]) {
        let source = self.source.clone();
        let (Some(pace), Some(read)) = (&source.pace, &self.read) else { return };
        if !matches!(self.lane, Lane::Normal | Lane::PastRequest) {
            return; // a refresh has a fence
        }
        let stamps: Vec<_> = ats.iter().map(|at| read.of_writes(&self.items[*at].record)).collect();
        let carried = read.writes.is_some();
        if carried && stamps.iter().any(Option::is_none) {
            source.region.lacks_stamps();
        }
        let trip = (!source.region.is_private()).then(|| source.region.trip_takes());
        let may = read.folded(S::TAGS).is_some()
            // their stamps are read after the load, and are good only if the epoch was read before it
            && !source.tagged.load(Ordering::Relaxed)
            // known before the load, and before the stamp was read
            && source.region.incarnation() == self.incarnation_read
            && pace.is_cheap(trip);
        if !may {
            return;
        }
        if !carried || stamps.iter().any(Option::is_some) {
            source.region.expects_misses(); // where there are none, the next reads need not look for them
        }
        for (at, stamp) in ats.iter().zip(stamps) {
            let item = &mut self.items[*at];
            // a fill by it would be refused: what stands there is refused again, and the stamp was renewed since
            let useless = item.waited || pace.is_refused(&item.record);
            if let Some(stamp) = stamp.filter(|_| !useless) {
                item.storable.go_by_stamp(stamp);
            }
        }
        if ats.iter().any(|at| self.items[*at].storable.is_unleased()) {
            // the stamps of that read, and never later ones (R19)
            self.carry.clone_from(&self.read);
        }
    }

    /// Leases for those of these items that may be stored and have no right yet.
    pub(super) fn make_leases(&mut self, ats: &[usize]) -> Vec<Lease> {
        let ttl = self.source.policy.lease_ttl;
        self.incarnation = self.source.region.incarnation();
        let mut leases = Vec::new();
        for &at in ats {
            let item = &mut self.items[at];
            if !item.storable.wants_a_lease() {
                continue;
            }
            let (fence, over) = (Fence::random(), item.storable.over());
            item.storable = Storable::Right(Right::Lease(fence));
            let record = Bytes::from(entry::lease(fence, self.incarnation));
            leases.push(Lease { key: item.record.clone(), record, over, ttl });
            self.leasing.push(at);
        }
        leases
    }
}
