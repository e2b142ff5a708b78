//! The trips of a region: what travels together, within which budget, and what is said of it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use tokio::time::{Instant, timeout};

use super::{RegionCore, Stamps, stamp};
use crate::entry::random;
use crate::error::{Fault, FaultKind};
use crate::event::Event;
use crate::limits::Shown;
use crate::report::{Meter, Operation, counted};
use crate::shared::guard::{self, Shift};
use crate::shared::{Fill, Filled, Lease, Leased, Stamp};
use crate::telemetry;

impl RegionCore {
    /// Reads records together with the region's generation and these tags: one trip, as far as the backend's
    /// batch reaches. `None`: the shared tier knows nothing, because it is out or keeps nothing.
    ///
    /// `keys` is as it was when this ends; meanwhile the keys of the stamps stand behind them.
    pub(crate) async fn read(
        &self,
        meter: &Meter,
        keys: &mut Vec<Bytes>,
        tags: &[&str],
    ) -> Option<(Vec<Option<Bytes>>, Stamps)> {
        let count = keys.len();
        keys.push(self.generation_key.clone());
        let (tags, keyless) = self.tag_keys(tags.to_vec(), keys);
        let stamped = self.stamps_of_a_read();
        keys.extend(stamped.cloned());
        let found = self.read_records(meter, keys, count).await;
        keys.truncate(count);
        let mut records = found?;
        let writes = stamped.map(|_| records.pop().flatten().unwrap_or_default());
        let mut stamps = records.drain(count..).map(|record| stamp(record.as_deref()));
        let generation = stamps.next().flatten();
        let tags = tags.into_iter().map(str::to_owned).zip(stamps);
        let tags = tags.chain(keyless.into_iter().map(|tag| (tag.to_owned(), None))).collect();
        Some((records, Stamps { generation, epoch: None, tags, writes }))
    }

    /// Reads the stamps of tags.
    pub(crate) async fn read_tags(
        &self,
        meter: &Meter,
        tags: Vec<String>,
    ) -> Option<HashMap<String, Option<u64>>> {
        let mut keys = Vec::with_capacity(tags.len());
        let (tags, keyless) = self.tag_keys(tags, &mut keys);
        let found = self.read_records(meter, &keys, keys.len()).await?;
        let stamps = tags.into_iter().zip(found.into_iter().map(|record| stamp(record.as_deref())));
        Some(stamps.chain(keyless.into_iter().map(|tag| (tag, None))).collect())
    }

    async fn read_records(
        &self,
        meter: &Meter,
        keys: &[Bytes],
        counted: usize,
    ) -> Option<Vec<Option<Bytes>>> {
        let shared = self.shared.as_ref()?;
        self.trip(meter, Operation::Read, counted, async {
            let mut chunks = keys.chunks(self.abilities.max_batch.max(1));
            let (first, rest) = (chunks.next().unwrap_or_default(), chunks);
            if keys.len() <= first.len() {
                return complete(keys.len(), shared.read(first).await?);
            }
            let parts = std::iter::once(first).chain(rest).map(|part| shared.read(part));
            complete(keys.len(), try_join_all(parts).await?.into_iter().flatten().collect())
        })
        .await
        .ok()
    }

    /// Takes leases, and reads the stamps that fills will carry: generation, tags, and then the tag epoch.
    ///
    /// Stamps that are missing are made. `None`: nothing may be filled.
    pub(crate) async fn lease(
        &self,
        meter: &Meter,
        leases: &[Lease],
        tags: &[&str],
    ) -> Option<(Vec<Leased>, Stamps)> {
        let shared = self.shared.as_ref()?;
        let mut stamps = Vec::with_capacity(tags.len() + 2);
        stamps.push(Stamp { key: self.generation_key.clone(), value: random(), ttl: None });
        let ttl = self.tag_ttl();
        let mut keys = Vec::with_capacity(tags.len());
        let (tags, _keyless) = self.tag_keys(tags.to_vec(), &mut keys);
        stamps.extend(keys.into_iter().map(|key| Stamp { key, value: random(), ttl }));
        let epoch_at = stamps.len();
        // The epoch is read after the tags. An invalidation renews it before them. So a tag that was seen
        // renewed comes with an epoch that was renewed.
        stamps.push(Stamp { key: self.epoch_key.clone(), value: random(), ttl: None });
        if let Some(key) = &self.stamps_key
            && self.unstamped.swap(false, Ordering::Relaxed)
        {
            stamps.push(Stamp { key: key.clone(), value: random(), ttl: None });
        }
        let answer = self
            .trip(meter, Operation::Lease, leases.len(), async {
                let most = self.abilities.max_batch.max(1);
                let (first, rest) =
                    leases.split_at(leases.len().min(most.saturating_sub(stamps.len()).max(1)));
                let rest = join_all(rest.chunks(most).map(|part| shared.lease(part, &[])));
                let (first, rest) = futures_util::join!(shared.lease(first, &stamps), rest);
                let mut first = first?;
                for part in rest {
                    first.leased.extend(part?.leased);
                }
                first.leased = complete(leases.len(), first.leased)?;
                first.stamps = complete(stamps.len(), first.stamps)?;
                Ok(first)
            })
            .await
            .ok()?;
        let (generation, epoch) = (answer.stamps.first().copied(), answer.stamps.get(epoch_at).copied());
        let found = answer.stamps[1..epoch_at].iter().copied().map(Some);
        let tags = tags.into_iter().map(str::to_owned).zip(found).collect();
        Some((answer.leased, Stamps { generation, epoch, tags, writes: None }))
    }

    /// Stores records, and says which were stored.
    pub(crate) async fn fill(&self, meter: &Meter, fills: &[Fill]) -> Vec<bool> {
        let Some(shared) = &self.shared else { return vec![false; fills.len()] };
        let filled = self
            .trip(meter, Operation::Fill, fills.len(), async {
                let parts = fills.chunks(self.abilities.max_batch.max(1)).map(|part| shared.fill(part));
                complete(fills.len(), try_join_all(parts).await?.into_iter().flatten().collect::<Vec<_>>())
            })
            .await;
        let stored: Vec<bool> = match filled {
            Ok(filled) => filled.into_iter().map(|filled| filled == Filled::Stored).collect(),
            Err(_) => return vec![false; fills.len()],
        };
        telemetry::filled(&self.name, &stored);
        stored
    }

    /// One trip, within its budget, in the report of a request if there is one; none while the breaker is open.
    ///
    /// What belongs to a write always travels: who writes needs its confirmation, or an error.
    pub(super) async fn trip<T>(
        &self,
        meter: impl Into<Option<&Meter>>,
        operation: Operation,
        keys: usize,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let meter = meter.into();
        let of_a_write = matches!(operation, Operation::Invalidate | Operation::Hold | Operation::End);
        let Some(pass) = self.guard.admit(of_a_write) else {
            meter.inspect(|meter| meter.passed_over());
            telemetry::passed_over(&self.name, name_of(operation));
            return Err(guard::passed_over());
        };
        if pass.is_probe() {
            telemetry::breaker_probing(&self.name);
        }
        let began = Instant::now();
        let done = match timeout(self.policy.shared_budget, work).await {
            Ok(done) => done,
            Err(_) => Err(Fault::new(
                FaultKind::Timeout,
                format!("no answer within the budget of {}", Shown(self.policy.shared_budget)),
            )),
        };
        let took = began.elapsed();
        let change = pass.done(done.as_ref().err().is_some_and(|fault| is_outage(operation, fault)));
        if let Some(meter) = meter {
            meter.trip(operation, &self.name, keys, 0, (began, took), done.is_err());
        }
        if done.is_ok() {
            self.unconfirmed.hope();
            if operation == Operation::Read && self.unleased.load(Ordering::Relaxed) {
                self.trip.add(took);
            }
        }
        telemetry::trip(&self.name, name_of(operation), keys, took, done.as_ref().err());
        self.tell(name_of(operation), took, done.as_ref().err(), change);
        done
    }

    /// What is to be said of a trip. What is known already, because the breaker is open, is not said again.
    fn tell(&self, operation: &'static str, took: Duration, fault: Option<&Fault>, change: Shift) {
        let region = || self.name.clone();
        match fault {
            Some(_) if matches!(change, Shift::Known | Shift::StillOpen) => {}
            Some(fault) => {
                let fault = fault.clone();
                self.events.tell(Event::SharedFault { region: region(), operation, fault });
            }
            None if took > self.policy.shared_soft_budget => {
                let budget = self.policy.shared_soft_budget;
                self.events.tell(Event::SharedSlow { region: region(), operation, took, budget });
            }
            None => {}
        }
        match (change, fault) {
            (Shift::Opened(failures), Some(fault)) => {
                telemetry::breaker_opened(&self.name);
                let fault = fault.clone();
                self.events.tell(Event::BreakerOpened { region: region(), failures, fault });
            }
            (Shift::Closed(after), _) => {
                telemetry::breaker_closed(&self.name);
                self.guard.recovered();
                self.events.tell(Event::BreakerClosed { region: region(), after });
            }
            (Shift::StillOpen, _) => telemetry::breaker_still_open(&self.name),
            _ => {}
        }
    }
}

/// Whether a fault is one of the tier, or of this operation alone: a store that is full refuses leases and fills at once,
/// and what it holds is still to be read.
fn is_outage(operation: Operation, fault: &Fault) -> bool {
    fault.kind() != FaultKind::Refused || operation == Operation::Read
}

/// A backend that answers with too much or too little knows nothing.
fn complete<T>(asked: usize, answered: Vec<T>) -> Result<Vec<T>, Fault> {
    if answered.len() == asked {
        return Ok(answered);
    }
    let sentence = format!("{} asked for, and {} came back", were(asked), answered.len());
    Err(Fault::new(FaultKind::Damaged, sentence))
}

fn were(records: usize) -> String {
    format!("{} {}", counted(records, "record"), if records == 1 { "was" } else { "were" })
}

fn name_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Lease => "lease",
        Operation::Fill => "fill",
        Operation::Invalidate => "invalidate",
        Operation::Hold => "hold",
        Operation::End => "end",
        Operation::Load => "load",
        Operation::Database => "database",
        Operation::Ping => "ping",
    }
}
