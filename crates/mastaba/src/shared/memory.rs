//! A backend in the memory of this process.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{
    Abilities, End, Ended, Fill, Filled, Hold, Lease, Leases, Over, Reach, Shared, Stamp, WriteOutcome,
    stamps,
};
use crate::clock::now_ms;
use crate::entry::{self, Kind};
use crate::error::{Fault, FaultKind};
use crate::lease::{self, Change, Standing};

#[cfg(test)]
mod tests;

/// Locks; one key is always under the same one.
const STRIPES: usize = 64;
/// What a record weighs besides its key and bytes: places in maps, two reference counts.
const OVERHEAD: u64 = 96;
/// How many leases, holds and stamps one stripe takes at least, however small the memory is.
const FEWEST_GUARDS: usize = 256;

/// How much a [`Memory`] may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// The most bytes of keys and records. Zero counts as one.
    pub max_bytes: u64,
    /// The most values. Zero counts as one: to keep nothing, use [`Null`](crate::shared::null::Null).
    pub max_entries: u64,
}

impl Default for MemoryConfig {
    /// 256 MiB, one million values.
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_entries: 1_000_000 }
    }
}

/// Keeps records in the memory of this process: fast, gone with the process, not seen by another one.
///
/// Clones share the store. Values are evicted when it is full; leases, holds and stamps are kept apart from
/// them, with a bound of their own, so that a flood of values cannot push them out (`R14`). No call waits.
#[derive(Clone)]
pub struct Memory(Arc<Store>);

struct Store {
    incarnation: AtomicU64,
    stripes: Box<[Mutex<Guards>]>,
    hasher: foldhash::fast::RandomState,
    values: Cache<Bytes, StoredRecord, Weight>,
    stamps: stamps::StampBook,
    /// Locked by whoever renews a stamp; shared by those who store where one is as it was, so that nothing comes in between.
    renewing: RwLock<()>,
    max_guards: usize,
    max_kept: usize,
}

/// Everything that is not a value. A key stands here or among the values, never in both.
#[derive(Default)]
struct Guards {
    map: HashMap<Bytes, StoredRecord, foldhash::fast::RandomState>,
    /// Bytes of the records in `map`: holds keep values.
    bytes: usize,
}

#[derive(Clone)]
struct StoredRecord {
    bytes: Bytes,
    expires_ms: u64,
}

#[derive(Clone)]
struct Weight {
    least: u64,
}

impl Weighter<Bytes, StoredRecord> for Weight {
    fn weight(&self, key: &Bytes, record: &StoredRecord) -> u64 {
        // so that the bound in bytes is a bound in entries, too
        (key.len() as u64 + record.bytes.len() as u64 + OVERHEAD).max(self.least)
    }
}

impl Memory {
    /// An empty one.
    pub fn new(config: MemoryConfig) -> Self {
        let max_bytes = config.max_bytes.max(1);
        let max_entries = config.max_entries.clamp(1, max_bytes);
        let whole = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let expected = whole(max_entries.min(max_bytes / 256)).max(1);
        let values = Cache::with_weighter(expected, max_bytes, Weight { least: max_bytes / max_entries });
        Self(Arc::new(Store {
            incarnation: AtomicU64::new(entry::random()),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            values,
            stamps: stamps::StampBook::default(),
            renewing: RwLock::new(()),
            max_guards: (whole(max_entries) / STRIPES).max(FEWEST_GUARDS),
            max_kept: whole(max_bytes) / STRIPES / 4,
        }))
    }

    /// Forgets everything, as a restart would, and starts a new incarnation (`R11`).
    pub fn restart(&self) {
        let mut stripes: Vec<_> = self.0.stripes.iter().map(lock).collect();
        self.0.incarnation.store(entry::random(), Ordering::SeqCst);
        self.0.values.clear();
        for guards in &mut stripes {
            **guards = Guards::default();
        }
    }

    /// How many values there are, and what they weigh in bytes.
    pub fn size(&self) -> (u64, u64) {
        (self.0.values.len() as u64, self.0.values.weight())
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(MemoryConfig::default())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (values, bytes) = self.size();
        f.debug_struct("Memory").field("values", &values).field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl Shared for Memory {
    const ABILITIES: Abilities = Abilities {
        name: "memory",
        reach: Reach::Process,
        tells: false,
        stores: true,
        holds: true,
        max_key: 64 << 10,
        max_value: 64 << 20,
        max_batch: 10_000,
    };

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        let now = now_ms();
        Ok(keys.iter().map(|key| self.0.at(key).live(now).map(|record| record.bytes)).collect())
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        let now = now_ms();
        let leased = leases.iter().map(|ask| {
            let mut place = self.0.at(&ask.key);
            let (change, answer) = lease::lease(place.standing(), place.incarnation(), now, ask);
            place.apply(change, now);
            answer
        });
        let leased = leased.collect();
        let records = self.0.stamps.all();
        let stamps = stamps.iter().map(|ask| {
            if records.has(&ask.key) {
                self.0.make_stamps(&ask.key, now);
                return ask.value;
            }
            let mut place = self.0.at(&ask.key);
            let (change, answer) = lease::stamp(place.standing(), now, ask);
            place.apply(change, now);
            answer
        });
        Ok(Leases { leased, stamps: stamps.collect() })
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        let now = now_ms();
        let filled = fills.iter().map(|ask| {
            if let Over::Unleased { stamps, .. } = &ask.over {
                return self.0.fill_unleased(stamps, ask, now);
            }
            let mut place = self.0.at(&ask.key);
            let (change, answer) = lease::fill(place.standing(), place.incarnation(), now, ask);
            place.apply(change, now);
            answer
        });
        Ok(filled.collect())
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        let now = now_ms();
        for ask in stamps {
            self.0.at(&ask.key).apply(lease::set_stamp(now, ask), now);
        }
        let records = self.0.stamps.all();
        for key in keys {
            self.0.renew(&records, key, now); // before this key is removed, and after the one before it was (R16, R18)
            let mut place = self.0.at(key);
            let change = lease::invalidate(place.standing(), now);
            place.apply(change, now);
        }
        Ok(())
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        let now = now_ms();
        let records = self.0.stamps.all();
        for ask in holds {
            let mut place = self.0.at(&ask.key);
            let ask = Hold { keep: ask.keep && place.has_room_to_keep(), ..ask.clone() };
            let change = lease::hold(place.standing(), place.incarnation(), now, &ask)?;
            if !place.apply(change, now) {
                let sentence = "the memory backend has as many holds as it can take; this one was not placed";
                return Err(Fault::new(FaultKind::Refused, sentence));
            }
            drop(place);
            self.0.renew(&records, &ask.key, now); // after the hold is placed (R17)
        }
        Ok(())
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        let now = now_ms();
        let records = self.0.stamps.all();
        let ended = ends.iter().map(|ask| {
            if ask.outcome == WriteOutcome::Committed {
                self.0.renew(&records, &ask.key, now); // before the hold is gone (R17)
            }
            let mut place = self.0.at(&ask.key);
            let (change, answer) = lease::end(place.standing(), place.incarnation(), now, ask);
            place.apply(change, now);
            answer
        });
        Ok(ended.collect())
    }

    fn stamps(&self, prefix: &[u8], record: &Bytes) -> bool {
        self.0.stamps.keep(prefix, record);
        true
    }

    fn incarnation(&self) -> u64 {
        self.0.incarnation.load(Ordering::SeqCst)
    }
}

impl Store {
    fn renew(&self, records: &stamps::StampKeys, key: &Bytes, now: u64) {
        for record in records.of(key) {
            let _renewing = self.renewing.write().unwrap_or_else(PoisonError::into_inner);
            let mut place = self.at(record);
            let change = lease::renew(place.standing(), now, key, stamps::number());
            // one that finds no room is gone, and says nothing then
            place.apply(change, now);
        }
    }

    fn make_stamps(&self, key: &Bytes, now: u64) {
        let _renewing = self.renewing.write().unwrap_or_else(PoisonError::into_inner);
        let mut place = self.at(key);
        let change = lease::make_stamps(place.standing(), now, stamps::record());
        place.apply(change, now);
    }

    fn fill_unleased(&self, record: &Bytes, ask: &Fill, now: u64) -> Filled {
        let _nobody_renews = self.renewing.read().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.at(record).live(now); // which lets go of its lock
        let stamps = stamps.as_ref().map(|it| Standing { record: &it.bytes, expires_ms: it.expires_ms });
        let mut place = self.at(&ask.key);
        let (change, answer) = lease::fill_unleased(stamps, place.standing(), place.incarnation(), now, ask);
        place.apply(change, now);
        answer
    }

    fn at<'a>(&'a self, key: &'a Bytes) -> LockedKey<'a> {
        let stripe = self.hasher.hash_one(key) % STRIPES as u64;
        let guards = lock(&self.stripes[usize::try_from(stripe).unwrap_or(0)]);
        let record = guards.map.get(key).cloned().or_else(|| self.values.get(key));
        LockedKey { store: self, key, guards, record }
    }
}

fn lock(stripe: &Mutex<Guards>) -> MutexGuard<'_, Guards> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What stands under one key, locked until this is dropped.
struct LockedKey<'a> {
    store: &'a Store,
    key: &'a Bytes,
    guards: MutexGuard<'a, Guards>,
    record: Option<StoredRecord>,
}

impl LockedKey<'_> {
    fn standing(&self) -> Option<Standing<'_>> {
        self.record.as_ref().map(|it| Standing { record: &it.bytes, expires_ms: it.expires_ms })
    }

    /// Read under the lock: a restart holds all of them.
    fn incarnation(&self) -> u64 {
        self.store.incarnation.load(Ordering::SeqCst)
    }

    fn live(mut self, now: u64) -> Option<StoredRecord> {
        let record = self.record.take()?;
        if record.expires_ms > now {
            return Some(record);
        }
        self.apply(Change::Remove, now);
        None
    }

    fn has_room_to_keep(&self) -> bool {
        self.guards.bytes < self.store.max_kept
    }

    /// Whether there was room. Only a hold has to care: a lease or a stamp that is not stored makes the
    /// fill that relies on it a refused or outdated one, which is safe.
    fn apply(&mut self, change: Change, now: u64) -> bool {
        match change {
            Change::Keep => true,
            Change::Remove => {
                self.guards.remove(self.key);
                self.store.values.remove(self.key);
                true
            }
            Change::Put { record, expires_ms } => {
                let record = StoredRecord { bytes: record, expires_ms };
                match entry::peek_kind(&record.bytes) {
                    Some(Kind::Value | Kind::Absent) => self.put_value(record),
                    _ => return self.put_guard(record, now),
                }
                true
            }
        }
    }

    fn put_value(&mut self, record: StoredRecord) {
        self.guards.remove(self.key);
        let values = &self.store.values;
        let weight = Weight { least: 0 }.weight(self.key, &record);
        if weight > values.shard_capacity() {
            // the cache would not take it, and the one before must not stay
            values.remove(self.key);
        } else {
            values.insert(self.key.clone(), record);
        }
    }

    fn put_guard(&mut self, record: StoredRecord, now: u64) -> bool {
        self.store.values.remove(self.key);
        self.guards.remove(self.key);
        let fits = self.guards.make_room(self.store.max_guards, now);
        if fits {
            self.guards.bytes += record.bytes.len();
            self.guards.map.insert(self.key.clone(), record);
        }
        fits
    }
}

impl Guards {
    fn remove(&mut self, key: &Bytes) {
        if let Some(record) = self.map.remove(key) {
            self.bytes -= record.bytes.len();
        }
    }

    /// Drops what has expired, and if that is not enough all leases, then all stamps; holds never.
    fn make_room(&mut self, most: usize, now: u64) -> bool {
        let keep: [fn(&StoredRecord, u64) -> bool; 3] = [
            |it, now| it.expires_ms > now,
            |it, _| entry::peek_kind(&it.bytes) != Some(Kind::Lease),
            |it, _| entry::peek_kind(&it.bytes) == Some(Kind::Hold),
        ];
        for keep in keep {
            if self.map.len() < most {
                return true;
            }
            self.map.retain(|_, record| keep(record, now));
            self.bytes = self.map.values().map(|record| record.bytes.len()).sum();
        }
        self.map.len() < most
    }
}
