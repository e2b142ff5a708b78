//! A region at work: its backend behind budgets, its stamps, and what near needs to know of both.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::clock;
use crate::coherence::{Changes, Coherence};
use crate::entry::random;
use crate::error::{Fault, FaultKind};
use crate::event::{Event, Events, Seldom};
use crate::guarded::guard;
use crate::key::KeySpace;
use crate::policy::{Policy, RegionPolicy};
use crate::report::{Meter, Operation};
use crate::shared::erased::DynShared;
use crate::shared::guard::Guard;
use crate::shared::{Abilities, Listener, Reach, stamps};
use crate::sync::lock;

mod average;
mod extent;
mod trips;
mod unconfirmed;
mod written;

pub(crate) use average::Average;
pub(crate) use extent::{Extent, SAMPLE};
pub(crate) use unconfirmed::Behind;
use unconfirmed::Unconfirmed;
pub(crate) use written::What;

/// So many reads in a row carry the write stamps without a miss that has a use for them. A server answers them in a tenth of the
/// time that it takes for the script of a lease, or less.
const STAMPED_READS: u32 = 16;

/// One region of a [`Cache`](crate::Cache).
pub(crate) struct RegionCore {
    pub(crate) name: String,
    pub(crate) policy: RegionPolicy,
    pub(crate) abilities: Abilities,
    /// `None` where the backend keeps nothing: it is never asked.
    shared: Option<Arc<dyn DynShared>>,
    /// Makes the keys of stamps.
    space: KeySpace,
    generation_key: Bytes,
    epoch_key: Bytes,
    /// The key of the write stamps; `None`: the backend keeps none.
    stamps_key: Option<Bytes>,
    /// A source of it fills without leases, where they are cheap.
    unleased: AtomicBool,
    /// How many more reads carry the write stamps: see [`stamps_of_a_read`](Self::stamps_of_a_read).
    stamped_reads: AtomicU32,
    /// A read found none that say something of its keys: the next lease makes them.
    unstamped: AtomicBool,
    /// How long a read takes, as a moving average: of a region in which a source asks for it.
    trip: Average,
    /// Counts the clears of this region by this process; what near holds from before is void.
    clears: AtomicU64,
    /// Counts the invalidations by tag; what near holds under a tag from before is to be proven anew.
    tag_bumps: AtomicU64,
    /// The changes by others that the backend reported.
    pub(crate) changes: Changes,
    /// For how many seconds a source of it keeps what it stores, at most.
    longest_secs: AtomicU64,
    /// A source of it [shows no keys](crate::Source::SHOW_KEYS).
    pub(crate) hides_keys: AtomicBool,
    /// How current near has to be; `None` where every invalidation passes through this process, or without near.
    coherence: Option<Coherence>,
    /// Who asks in the background whether all notifications have come.
    keeper: Mutex<Keeper>,
    pub(crate) guard: Guard,
    /// Invalidations that are still to be confirmed.
    pub(crate) unconfirmed: Unconfirmed,
    pub(crate) events: Arc<Events>,
    said: Seldom,
}

/// The task that asks whether all notifications have come, and the runtime that it is on.
#[derive(Default)]
struct Keeper {
    /// Counts them; only the last one goes on.
    number: u64,
    /// `None`: there is none, or its runtime has ended.
    at: Option<(tokio::runtime::Id, std::time::Instant)>,
}

/// The stamps of a region as one trip found them (`R12`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamps {
    /// `None`: there is none, so nothing that is stored is valid.
    pub(crate) generation: Option<u64>,
    /// Changes before any tag does; known after a lease only.
    pub(crate) epoch: Option<u64>,
    pub(crate) tags: HashMap<String, Option<u64>>,
    /// The record of write stamps, if the read carried it (`R19`); empty where there is none.
    pub(crate) writes: Option<Bytes>,
}

impl Stamps {
    /// One number for the generation and these tags, as it stands in entries: another one if any of them is. `None`: one
    /// of them is missing, so there is nothing that an entry could stand under.
    pub(crate) fn folded(&self, tags: &[&str]) -> Option<u64> {
        let fold = |number: u64, tag: &&str| Some(mixed(number) ^ (*self.tags.get(*tag)?)?);
        tags.iter().try_fold(self.generation?, fold)
    }

    /// The write stamp of a key of the shared tier. `None`: nothing is known, and nothing is stored without a lease (`R15`).
    pub(crate) fn of_writes(&self, record: &[u8]) -> Option<u64> {
        stamps::of(self.writes.as_deref()?, record)
    }

    /// One number for the generation and the tags: another one if any of them is.
    pub(crate) fn digest(&self) -> u64 {
        let mut tags: Vec<_> = self.tags.iter().collect();
        tags.sort_unstable();
        let stamps = tags.into_iter().map(|(_, stamp)| *stamp);
        std::iter::once(self.generation)
            .chain(stamps)
            .fold(0, |digest, stamp| mixed(digest) ^ stamp.unwrap_or(1))
    }
}

/// Before the next stamp is added to a number. All are random, so any mixing does that gives different numbers for
/// different ones. What it gives stands in entries: another one would make misses of them.
fn mixed(number: u64) -> u64 {
    number.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What near compares its entries with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Era {
    pub(crate) clears: u64,
    pub(crate) tag_bumps: u64,
}

/// How soon a backend whose notifications are late is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How long a keeper on another runtime has, before one here takes its place.
const HAND_OVER: Duration = Duration::from_millis(250);

impl RegionCore {
    pub(crate) fn new(
        name: String,
        policy: RegionPolicy,
        shared: Arc<dyn DynShared>,
        space: KeySpace,
        near: Option<Coherence>,
        events: Arc<Events>,
    ) -> Result<Arc<Self>, Fault> {
        let abilities = shared.abilities();
        let told = abilities.tells && abilities.reach == Reach::Processes;
        // whether it fills without leases or not: it renews what others compare (R16)
        let stamps_key = space.write_stamps();
        let stamped = abilities.stores && shared.stamps(space.prefix(), &stamps_key)?;
        let region = Arc::new(Self {
            name,
            guard: Guard::new(&policy),
            longest_secs: AtomicU64::new(policy.sources.longest().as_secs()),
            policy,
            abilities,
            shared: abilities.stores.then_some(shared),
            generation_key: space.generation(),
            epoch_key: space.tag_epoch(),
            stamps_key: stamped.then_some(stamps_key),
            unleased: AtomicBool::new(false),
            stamped_reads: AtomicU32::new(0),
            unstamped: AtomicBool::new(false),
            trip: Average::default(),
            space,
            clears: AtomicU64::new(0),
            tag_bumps: AtomicU64::new(0),
            changes: Changes::new(told),
            hides_keys: AtomicBool::new(false),
            coherence: near.filter(|_| told),
            keeper: Mutex::default(),
            unconfirmed: Unconfirmed::default(),
            events,
            said: Seldom::default(),
        });
        if let Some(shared) = region.shared.as_ref().filter(|_| told) {
            shared.listen(region.space.prefix(), Arc::new(RegionListener(Arc::downgrade(&region))))?;
            region.keep_told();
        }
        Ok(region)
    }

    /// Asks again and again whether all notifications have come, for as long as the region lives.
    ///
    /// One task does it, on one runtime. When near does not answer any longer and that task is not here, its runtime may
    /// have ended or stand still: another one then begins on the runtime of the caller. Costs a look at the clock while
    /// all is well.
    pub(crate) fn keep_told(self: &Arc<Self>) {
        let Some(Coherence::Bounded(bound)) = self.coherence else { return };
        if self.changes.told_within(bound) {
            return;
        }
        // a cache is built in a runtime; where there is none, near does not answer
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut keeper = lock(&self.keeper);
        if keeper.at.is_some_and(|(id, since)| id == runtime.id() || since.elapsed() < HAND_OVER) {
            return;
        }
        keeper.number += 1;
        keeper.at = Some((runtime.id(), std::time::Instant::now()));
        let keeping = Keeping { region: Arc::downgrade(self), number: keeper.number };
        drop(keeper);
        let gaps = self.changes.gaps();
        runtime.spawn(async move {
            let mut again = ASK_AGAIN;
            while let Some(region) = keeping.region() {
                let asked = region.changes.asks();
                let told = match &region.shared {
                    Some(shared) => matches!(timeout(bound, shared.catch_up()).await, Ok(Ok(()))),
                    None => true,
                };
                let told = told && region.changes.answered(asked);
                // soon again after a gap or a failure: near answers nothing until then
                let pause = if told { bound / 2 } else { (bound / 2).min(again) };
                again = if told { ASK_AGAIN } else { (again * 2).min(ASK_AGAIN * 16) };
                drop(region); // which is not kept alive by being asked about
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = gaps.notified(), if told => {}
                }
            }
        });
    }

    /// A key as the store itself knows it.
    pub(crate) fn full_key(&self, key: &Bytes) -> Result<Bytes, Fault> {
        self.shared.as_ref().map_or_else(|| Ok(key.clone()), |shared| shared.full_key(key))
    }

    /// Whether the backend can work on the runtime of the caller.
    pub(crate) fn runs_here(&self) -> Result<(), Fault> {
        self.shared.as_ref().map_or(Ok(()), |shared| shared.runs_here())
    }

    /// Whether near may answer just now, for a request that has or has not made sure of all notifications.
    pub(crate) fn near_answers(&self, fenced: bool) -> bool {
        match self.coherence {
            None => true,
            Some(Coherence::Bounded(bound)) => self.changes.told_within(bound),
            Some(Coherence::Fenced) => fenced,
        }
    }

    /// Keeps the stamps of tags long enough for a source of this policy.
    pub(crate) fn keep_stamps_for(&self, policy: &Policy) {
        self.longest_secs.fetch_max(policy.longest().as_secs(), Ordering::Relaxed);
    }

    /// A source of it fills without leases, where they are cheap. Whether the backend keeps write stamps.
    pub(crate) fn fill_without_lease(&self) -> bool {
        let keeps = self.stamps_key.is_some();
        if keeps {
            self.unleased.store(true, Ordering::Relaxed);
            self.expects_misses();
        }
        keeps
    }

    /// A miss went without a lease, or would have, had its read carried the write stamps: the next reads do.
    pub(crate) fn expects_misses(&self) {
        if self.stamped_reads.load(Ordering::Relaxed) != STAMPED_READS {
            self.stamped_reads.store(STAMPED_READS, Ordering::Relaxed);
        }
    }

    /// The key of the write stamps, if a read carries them: hits have no use for them, and where nothing was missed for a while
    /// the next miss takes a lease.
    fn stamps_of_a_read(&self) -> Option<&Bytes> {
        // of two reads at the same time both may count as one
        let left = self.stamped_reads.load(Ordering::Relaxed).checked_sub(1)?;
        self.stamped_reads.store(left, Ordering::Relaxed);
        self.stamps_key.as_ref()
    }

    /// The key of the write stamps; empty where there are none.
    pub(crate) fn stamps_key(&self) -> Bytes {
        self.stamps_key.clone().unwrap_or_default()
    }

    /// The write stamps say nothing of a key: the next lease makes them anew.
    pub(crate) fn lacks_stamps(&self) {
        self.unstamped.store(true, Ordering::Relaxed);
    }

    /// How long a trip to the shared tier takes, as a moving average of its reads.
    pub(crate) fn trip_takes(&self) -> Duration {
        self.trip.get().unwrap_or_default()
    }

    /// How long the stamp of a tag is kept without an invalidation: longer than what a source stores under it.
    fn tag_ttl(&self) -> Option<Duration> {
        let longest = Duration::from_secs(self.longest_secs.load(Ordering::Relaxed));
        Some(longest.max(Duration::from_secs(24 * 3600)).saturating_mul(4))
    }

    /// `namespace:region`, as every key of it begins.
    pub(crate) fn place(&self) -> &str {
        self.space.place()
    }

    /// Distinguishes regions, while they live.
    pub(crate) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether near answers a request only after a ping of its own.
    pub(crate) fn is_fenced(&self) -> bool {
        self.coherence == Some(Coherence::Fenced)
    }

    /// The ping of a request: whether the notifications of everything that was acknowledged before it have come.
    pub(crate) async fn catch_up(&self, meter: &Meter) -> bool {
        let Some(shared) = &self.shared else { return true };
        let asked = self.changes.asks();
        self.trip(meter, Operation::Ping, 0, shared.catch_up()).await.is_ok() && self.changes.answered(asked)
    }

    /// Whether there is a shared tier behind this region at all.
    pub(crate) fn stores(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether every invalidation passes through this process.
    pub(crate) fn is_private(&self) -> bool {
        self.abilities.reach == Reach::Process
    }

    /// The store's incarnation (`R11`). If the backend panics, it is one that no record has.
    pub(crate) fn incarnation(&self) -> u64 {
        match self.shared.as_ref().map(|shared| shared.incarnation()) {
            None => 0,
            Some(Ok(incarnation)) => incarnation,
            Some(Err(fault)) => {
                self.say_seldom("incarnation", fault);
                random()
            }
        }
    }

    fn say_seldom(&self, operation: &'static str, fault: Fault) {
        if self.said.is_due(operation).is_some() {
            self.events.tell(Event::SharedFault { region: self.name.clone(), operation, fault });
        }
    }

    /// The key of a tag's stamp. None where the region's mangler panics: then no record with this tag is valid, and none
    /// is stored.
    fn tag_key(&self, tag: &str) -> Result<Bytes, Fault> {
        guard(|| self.space.tag(tag)).map_err(|why| {
            let sentence = format!("the mangler panicked for the stamp of the tag {tag:?}: {why}");
            Fault::new(FaultKind::Refused, sentence)
        })
    }

    /// Adds the keys of the stamps of these tags, and gives the tags that have one, and those that have none.
    fn tag_keys<T: AsRef<str>>(&self, tags: Vec<T>, keys: &mut Vec<Bytes>) -> (Vec<T>, Vec<T>) {
        tags.into_iter().partition(|tag| match self.tag_key(tag.as_ref()) {
            Ok(key) => {
                keys.push(key);
                true
            }
            Err(fault) => {
                self.say_seldom("mangle", fault);
                false
            }
        })
    }

    /// The largest record that the store takes.
    pub(crate) fn max_value(&self) -> usize {
        let most = self.abilities.max_value;
        match self.shared.as_ref().map(|shared| shared.max_value()) {
            Some(Ok(its)) => its.min(most),
            Some(Err(fault)) => {
                self.say_seldom("max_value", fault);
                most
            }
            None => most,
        }
    }

    /// What time it is for the store.
    pub(crate) fn store_ms(&self) -> u64 {
        match self.shared.as_ref().map(|shared| shared.now_ms()) {
            Some(Ok(now_ms)) => now_ms,
            Some(Err(fault)) => {
                self.say_seldom("now_ms", fault);
                clock::now_ms()
            }
            None => clock::now_ms(),
        }
    }

    pub(crate) fn era(&self) -> Era {
        Era { clears: self.clears.load(Ordering::Acquire), tag_bumps: self.tag_bumps.load(Ordering::Acquire) }
    }

    pub(crate) async fn close(&self) -> Result<(), Fault> {
        match &self.shared {
            Some(shared) => shared.close().await,
            None => Ok(()),
        }
    }
}

/// Held by the task that asks for the notifications of a region. With its runtime it ends, and another one may begin.
struct Keeping {
    region: Weak<RegionCore>,
    number: u64,
}

impl Keeping {
    /// The region, while it lives and no other task asks for it.
    fn region(&self) -> Option<Arc<RegionCore>> {
        self.region.upgrade().filter(|region| lock(&region.keeper).number == self.number)
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(region) = self.region.upgrade() {
            let mut keeper = lock(&region.keeper);
            if keeper.number == self.number {
                keeper.at = None;
            }
        }
    }
}

/// Hears of changes by others for a region, and does not keep it alive.
struct RegionListener(Weak<RegionCore>);

impl Listener for RegionListener {
    fn changed(&self, key: &[u8]) {
        let Some(region) = self.0.upgrade() else { return };
        if region.stamps_key.as_deref() == Some(key) {
            return; // reported only where a mangler makes such keys; nothing in near depends on it
        }
        if key == region.generation_key {
            region.clears.fetch_add(1, Ordering::AcqRel);
        } else if key == region.epoch_key || region.space.may_be_tag(key) {
            region.tag_bumps.fetch_add(1, Ordering::AcqRel);
        }
        region.changes.changed(key);
    }

    fn gap(&self) {
        let Some(region) = self.0.upgrade() else { return };
        region.clears.fetch_add(1, Ordering::AcqRel);
        region.changes.gap();
    }
}

/// The number of a stamp's record.
pub(crate) fn stamp(record: Option<&[u8]>) -> Option<u64> {
    Some(u64::from_le_bytes(record?.try_into().ok()?))
}
