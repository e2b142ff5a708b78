//! What a write does to a region: it holds keys, ends the holds, and voids.

use std::future::Future;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::RegionCore;
use crate::entry::random;
use crate::error::{Fault, FaultKind};
use crate::report::{Meter, Operation};
use crate::shared::{End, Hold, Stamp, WriteOutcome};

/// What an invalidation names.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Keys(Vec<Bytes>),
    Tags(Vec<String>),
    Region,
}

impl What {
    /// How many keys, tags and regions.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Keys(keys) => keys.len(),
            Self::Tags(tags) => tags.len(),
            Self::Region => 1,
        }
    }
}

/// So many pieces of a step are under way at a time.
const PIECES: usize = 4;

/// Sends the pieces of a step whose order has no meaning. A step of very many keys neither fills the connection, which others
/// read through, nor has its last pieces wait for the first ones within their own budget. A piece that fails keeps none back:
/// the others are held, renewed and ended all the same.
async fn few_at_a_time(
    pieces: impl Iterator<Item = impl Future<Output = Result<(), Fault>>>,
) -> Result<(), Fault> {
    let (mut under_way, mut all) = (FuturesUnordered::new(), Ok(()));
    for piece in pieces {
        if under_way.len() == PIECES
            && let Some(done) = under_way.next().await
        {
            all = all.and(done);
        }
        under_way.push(piece);
    }
    while let Some(done) = under_way.next().await {
        all = all.and(done);
    }
    all
}

impl RegionCore {
    /// Voids in the shared tier what an invalidation names, and in near what it cannot name by key.
    ///
    /// Without a meter it stands in the report of no request.
    pub(crate) async fn void(&self, meter: Option<&Meter>, what: &What) -> Result<(), Fault> {
        let done = match what {
            What::Keys(keys) => self.invalidate(meter, keys).await,
            What::Tags(tags) => self.invalidate_tags(meter, tags).await,
            What::Region => self.clear(meter).await,
        };
        // near after shared: what is inserted in between was read before, and is void by the count of clears and tags (R13)
        self.void_near(what);
        done
    }

    /// Voids in near what an invalidation cannot name by key (`R13`).
    pub(crate) fn void_near(&self, what: &What) {
        match what {
            What::Keys(_) => {}
            What::Tags(_) => drop(self.tag_bumps.fetch_add(1, Ordering::AcqRel)),
            What::Region => drop(self.clears.fetch_add(1, Ordering::AcqRel)),
        }
    }

    /// Voids records in near, where which key of the program they are of is not known (`R13`).
    pub(crate) fn void_records(&self, records: &[Bytes]) {
        if self.changes.are_told() {
            records.iter().for_each(|record| self.changes.changed(record));
        } else if !records.is_empty() {
            // changes are not counted by record: near of the whole region
            self.clears.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Removes records from the shared tier: one trip for as many keys as the backend takes at a time.
    async fn invalidate(&self, meter: Option<&Meter>, keys: &[Bytes]) -> Result<(), Fault> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let mut done = Ok(());
        // one after the other, and all of them: their order has a meaning (R7)
        for part in keys.chunks(self.abilities.max_batch.max(1)) {
            let part =
                self.trip(meter, Operation::Invalidate, part.len(), shared.invalidate(part, &[])).await;
            done = done.and(part);
        }
        done
    }

    /// Holds keys, so that nobody fills them until the hold is ended or has run out (`R7`).
    pub(crate) async fn hold(&self, meter: &Meter, keys: &[Bytes], holder: u64) -> Result<(), Fault> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let (ttl, began) = (self.policy.hold_ttl, Instant::now());
        // kept: `Serve` goes on serving it, and both restore it after a rollback (R10)
        let hold = |key: &Bytes| Hold { key: key.clone(), holder, ttl, keep: true };
        let parts = keys.chunks(self.abilities.max_batch.max(1)).map(|part| async move {
            let holds: Vec<_> = part.iter().map(hold).collect();
            self.trip(meter, Operation::Hold, part.len(), shared.hold(&holds)).await
        });
        few_at_a_time(parts).await?;
        let took = began.elapsed();
        if took > ttl / 3 * 2 {
            // all of them have to stand at one time, and be renewed before the first one runs out (R7)
            let why = format!("to hold {} keys took {took:.1?}, and a hold lives for {ttl:?}", keys.len());
            return Err(Fault::new(FaultKind::Timeout, why));
        }
        Ok(())
    }

    /// Ends the holds of a write whose outcome is known; they may end in any order (`R7`).
    pub(crate) async fn end(
        &self,
        meter: &Meter,
        keys: &[Bytes],
        holder: u64,
        outcome: WriteOutcome,
    ) -> Result<(), Fault> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let end = |key: &Bytes| End { key: key.clone(), holder, outcome };
        let parts = keys.chunks(self.abilities.max_batch.max(1)).map(|part| async move {
            let ends: Vec<_> = part.iter().map(end).collect();
            self.trip(meter, Operation::End, part.len(), shared.end(&ends)).await.map(drop)
        });
        few_at_a_time(parts).await
    }

    /// Voids everything that is stored under these tags.
    async fn invalidate_tags(&self, meter: Option<&Meter>, tags: &[String]) -> Result<(), Fault> {
        let ttl = self.tag_ttl();
        // the epoch first: see `lease`
        let mut stamps = vec![Stamp { key: self.epoch_key.clone(), value: random(), ttl: None }];
        let mut keyless = Ok(());
        for tag in tags {
            match self.tag_key(tag) {
                Ok(key) => stamps.push(Stamp { key, value: random(), ttl }),
                Err(fault) => keyless = Err(fault),
            }
        }
        self.renew(meter, &stamps).await.and(keyless)
    }

    /// Voids everything that is stored in the region.
    async fn clear(&self, meter: Option<&Meter>) -> Result<(), Fault> {
        let stamps = [Stamp { key: self.generation_key.clone(), value: random(), ttl: None }];
        self.renew(meter, &stamps).await
    }

    async fn renew(&self, meter: Option<&Meter>, stamps: &[Stamp]) -> Result<(), Fault> {
        let Some(shared) = &self.shared else { return Ok(()) };
        self.trip(meter, Operation::Invalidate, stamps.len(), shared.invalidate(&[], stamps)).await
    }
}
