//! Carries a write to its end: holds, the commit, the invalidation, the end of the holds.
//!
//! All of it runs in one task, which goes on when the caller has gone: a client that disconnects while COMMIT is under way
//! must not cost the invalidation of what is committed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::outcome::{CommitError, Committed, Lost, Published};
use super::outgoing::{Afterwards, Settled};
use super::step::{OfRegions, Step};
use super::{Narrow, unconfirmed};
use crate::error::{Error, Fault, FaultKind};
use crate::event::Event;
use crate::guarded::{Panicked, guard};
use crate::limits::later;
use crate::policy::WriteMode;
use crate::region::{Behind, Extent, RegionCore};
use crate::report::{Meter, counted};
use crate::request::RequestCache;
use crate::shared::WriteOutcome;
use crate::sync::lock;

/// A connection that was lost is made anew by the next attempt; then the caller need not wait any longer.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(25)];

/// What a write has collected, on its way to its end.
pub(super) struct Plan {
    pub(super) request: RequestCache,
    pub(super) holder: u64,
    pub(super) steps: VecDeque<Step>,
    pub(super) narrow: Option<Narrow>,
    /// The commit may have happened: nothing of it may be forgotten.
    pub(super) begun: bool,
    /// To be run at the end.
    pub(super) afterwards: Mutex<Vec<Afterwards>>,
}

/// The keys of those steps that are to be held, each region once: one trip each.
pub(super) fn to_hold<'s>(steps: impl Iterator<Item = &'s Step>) -> OfRegions {
    let mut regions: OfRegions = Vec::new();
    for step in steps.filter(|step| step.region.policy.write_mode != WriteMode::Simple) {
        let Some(keys) = step.keys() else { continue };
        match regions.iter_mut().find(|(region, _)| Arc::ptr_eq(region, &step.region)) {
            Some((_, of_region)) => of_region.extend_from_slice(keys),
            None => regions.push((step.region.clone(), keys.to_vec())),
        }
    }
    for (_, keys) in &mut regions {
        keys.sort_unstable();
        keys.dedup();
    }
    regions
}

/// Holds keys, at the same time in all regions. Gives the regions that are held; or, where a region may not go without,
/// why its write is refused.
pub(super) async fn place(
    regions: &OfRegions,
    holder: u64,
    meter: &Meter,
) -> (Vec<Arc<RegionCore>>, Option<Error>) {
    let placed = join_all(regions.iter().map(|(region, keys)| region.hold(meter, keys, holder))).await;
    let (mut held, mut refused) = (Vec::new(), None);
    for ((region, keys), placed) in regions.iter().zip(placed) {
        match placed {
            Ok(()) => held.push(region.clone()),
            // goes on without: what it voids after the commit is not forgotten
            Err(_) if region.policy.write_mode == WriteMode::Degrade => {}
            Err(fault) => {
                let keys = counted(keys.len(), "key");
                let sentence = format!(
                    "region {}: {keys} could not be held, and its write mode commits nothing without: {fault}",
                    region.name
                );
                refused.get_or_insert(Error::shared(sentence, fault));
            }
        }
    }
    (held, refused)
}

impl Plan {
    fn meter(&self) -> Meter {
        Meter::new(self.request.inner.clone(), true)
    }

    /// Places the holds of what has to be held (`R7`: all of them before COMMIT). Gives what is held, and since when.
    async fn hold(&mut self) -> Result<(OfRegions, Instant), Error> {
        let began = Instant::now();
        let mut regions = to_hold(self.steps.iter());
        let (held, refused) = place(&regions, self.holder, &self.meter()).await;
        self.steps.iter_mut().for_each(|step| step.was_held(&regions, &held));
        regions.retain(|(region, _)| held.iter().any(|each| Arc::ptr_eq(each, region)));
        refused.map_or(Ok((regions, began)), Err)
    }

    /// Runs the commit, and renews the holds for as long as it takes.
    async fn over<T>(&self, regions: &OfRegions, began: Instant, commit: impl Future<Output = T>) -> T {
        let meter = self.meter();
        tokio::select! {
            biased;
            done = commit => done,
            never = renew(regions, self.holder, &meter, began) => match never {},
        }
    }

    /// Voids everything that was collected, in its order; what is not confirmed is kept and sent again.
    ///
    /// `committed`: certainly, so that holds may be ended. Otherwise they are left to run out (`R8`), and what they
    /// keep is forgotten.
    pub(super) async fn publish(&mut self, committed: bool) -> Published {
        let meter = self.meter();
        let mut published = Published::default();
        // what was loaded before COMMIT and after the holds were placed is not joined any longer
        self.steps.iter().filter(|step| step.held).for_each(Step::void);
        let mut behind = Behind::new();
        while let Some(step) = self.steps.front() {
            let after = if committed { Step::remember } else { Step::forget };
            // Waited for, though a hold keeps everybody from what was before: it may be lost with the store, and what was
            // stored in its place before COMMIT goes with its end alone (I1).
            let done = send(step, &meter, self.holder, step.held && committed).await;
            // before near is voided: what is read from the shared tier from here on does not come into it
            match done {
                Err(fault) => {
                    let (ticket, error) = keep(step, fault, behind.clone(), self.request.inner.route());
                    published.unconfirmed(&step.region, ticket, error);
                    behind.push((step.region.clone(), ticket));
                }
                Ok(()) if behind.is_empty() => {}
                // Somebody may have made it anew from what was collected before it and is still there. It is void now, and
                // once more when that is confirmed (R7).
                Ok(()) => {
                    let route = self.request.inner.route();
                    let ticket = step.region.keep(step.what.clone(), behind.clone(), &step.collected, route);
                    published.waits_for(&step.region, ticket);
                    behind.push((step.region.clone(), ticket));
                }
            }
            step.void();
            after(step);
            self.steps.pop_front();
        }
        self.narrow = None;
        published
    }

    /// Nothing has changed: ends the holds, which brings back what they kept (`R10`).
    pub(super) async fn roll_back(mut self) {
        let meter = self.meter().in_background();
        self.begun = false;
        self.forget();
        for step in std::mem::take(&mut self.steps) {
            // of a write that was refused too: some of its keys are held, and nobody knows which (R9: no other hold ends by it)
            if let (true, Some(keys)) = (step.tried, step.keys()) {
                // what is not ended runs out by itself
                let _ = step.region.end(&meter, keys, self.holder, WriteOutcome::RolledBack).await;
            }
        }
        self.settle(Settled::RolledBack).await;
    }

    /// Takes off the request's mind what it had read of this write.
    pub(super) fn forget(&mut self) {
        self.narrow = None;
        self.steps.iter().for_each(Step::forget);
    }

    /// Runs what was to be run at the end.
    pub(super) async fn settle(self, settled: Settled) {
        let runs = std::mem::take(&mut *lock(&self.afterwards));
        for run in runs {
            // whoever panics keeps nobody else from it
            let Ok(running) = guard(|| run(settled)) else { continue };
            let _ = AssertUnwindSafe(running).catch_unwind().await;
        }
    }

    /// Everything, in the task of the write.
    pub(super) async fn run<T, E>(
        mut self,
        commit: impl Future<Output = Result<T, E>>,
        is_rolled_back: impl FnOnce(&E) -> bool,
        answer: oneshot::Sender<Result<Committed<T>, CommitError<E>>>,
    ) {
        let (held, began) = match self.hold().await {
            Ok(placed) => placed,
            Err(error) => {
                drop(commit); // which rolls back
                let _ = answer.send(Err(CommitError::Refused(error)));
                return self.roll_back().await;
            }
        };
        self.begun = true;
        let done = self.over(&held, began, AssertUnwindSafe(commit).catch_unwind()).await;
        let rolled_back = |error: &E| {
            // user code: if it panics, nothing is certain
            guard(|| is_rolled_back(error)).unwrap_or(false)
        };
        let result = match done {
            Ok(Ok(value)) => {
                let published = self.publish(true).await;
                let confirmed = published.error().is_none();
                let _ = answer.send(Ok(Committed { value, published }));
                let settled = if confirmed { Settled::Confirmed } else { Settled::Unconfirmed };
                return self.settle(settled).await;
            }
            Ok(Err(error)) if rolled_back(&error) => {
                let _ = answer.send(Err(CommitError::RolledBack(error)));
                return self.roll_back().await;
            }
            Ok(Err(error)) => Lost::Failed(error),
            Err(panic) => Lost::Panicked(Panicked::new(panic).to_string()),
        };
        let published = self.publish(false).await;
        let _ = answer.send(Err(CommitError::Unknown { cause: result, published }));
        self.settle(Settled::Unknown).await;
    }
}

impl Drop for Plan {
    /// Cut off, by the end of its runtime: what may be committed is kept, for the next one.
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        let mut behind = Behind::new();
        for step in self.steps.drain(..) {
            let ended = Fault::new(FaultKind::Down, "the runtime ended before it was sent");
            let (ticket, _) = keep(&step, ended, behind.clone(), self.request.inner.route());
            behind.push((step.region.clone(), ticket));
            step.void();
            step.forget();
        }
    }
}

/// Renews holds, of which the first was placed then: very many take their time. It goes on for as long as it is polled.
pub(super) async fn renew(regions: &OfRegions, holder: u64, meter: &Meter, mut began: Instant) -> Infallible {
    let Some(ttl) = regions.iter().map(|(region, _)| region.policy.hold_ttl).min() else {
        return pending().await;
    };
    loop {
        sleep_until(later(began, ttl / 3)).await;
        began = Instant::now();
        // What was not renewed this time may be the next time. What is stored where a hold ran out is void before the write is
        // acknowledged.
        let _ = place(regions, holder, meter).await;
    }
}

/// Sends one step: as the end of its hold, or as an invalidation. Once more where a connection was lost.
async fn send(step: &Step, meter: &Meter, holder: u64, ends: bool) -> Result<(), Fault> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let done = match step.keys().filter(|_| ends) {
            Some(keys) => step.region.end(meter, keys, holder, WriteOutcome::Committed).await,
            None => step.region.void(Some(meter), &step.what).await,
        };
        match done {
            Err(fault) if fault.kind() == FaultKind::Down && !step.region.guard.is_out() => {
                match pauses.next() {
                    Some(pause) => sleep(pause).await,
                    None => return Err(fault),
                }
            }
            done => return done,
        }
    }
}

/// Keeps a step that was not confirmed, and says so.
fn keep(step: &Step, fault: Fault, behind: Behind, route: Option<&str>) -> (u64, Error) {
    let region = &step.region;
    let error = unconfirmed(&region.name, fault.clone());
    let ticket = region.keep(step.what.clone(), behind, &step.collected, route);
    let Extent { count, sources, sample } = step.collected.clone();
    region.events.tell(Event::InvalidationUnconfirmed {
        region: region.name.clone(),
        sources,
        collected: count,
        sample,
        route: route.map(str::to_owned),
        fault,
    });
    (ticket, error)
}
