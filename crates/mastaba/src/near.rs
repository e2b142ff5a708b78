//! The in-process cache in front of the shared tier.
//!
//! `R13`: an insert is an atomic check against what was seen before the shared tier was read. Every
//! invalidation counts up its stripe and removes the key, under one lock; an insert compares the count that
//! its reader saw at the start, and inserts, under the same lock. So a value that was read before an
//! invalidation never comes in after it. A hit takes no such lock.

use std::hash::{BuildHasher, Hash};
use std::sync::Mutex;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::coherence::{Changes, Mark};
use crate::guarded::{Panicked, guard};
use crate::region::Era;
use crate::sync::lock;

const STRIPES: usize = 64;

/// The near entries of one source.
pub(crate) struct Near<K, T> {
    entries: Cache<K, NearEntry<T>, Weigh, foldhash::fast::RandomState>,
    stripes: Box<[Mutex<u64>]>,
    hasher: foldhash::fast::RandomState,
    by_bytes: bool,
}

/// What near holds for a key.
#[derive(Clone)]
pub(crate) struct NearEntry<T> {
    pub(crate) known: T,
    /// Up to when it is fresh, by the steady clock of this process: no jump of the clock keeps it.
    pub(crate) until_ms: u64,
    /// The clears and tags of the region that it was read after.
    pub(crate) era: Era,
    /// Whether it stands under tags, so that a later invalidation by tag voids it.
    pub(crate) tagged: bool,
    /// How many changes of the key had been reported before it was read.
    pub(crate) mark: Mark,
    /// Bytes of its payload.
    pub(crate) size: u32,
}

/// How large near may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NearLimit {
    Entries(u64),
    Bytes(u64),
}

#[derive(Clone)]
struct Weigh {
    by_bytes: bool,
}

/// What an entry weighs beside its payload: key, value and table, roughly.
const OVERHEAD: u64 = 128;

impl<K, T> Weighter<K, NearEntry<T>> for Weigh {
    fn weight(&self, _: &K, entry: &NearEntry<T>) -> u64 {
        if self.by_bytes { OVERHEAD + u64::from(entry.size) } else { 1 }
    }
}

impl<K: Eq + Hash + Clone, T: Clone> Near<K, T> {
    pub(crate) fn new(limit: NearLimit) -> Self {
        let (items, weight, by_bytes) = match limit {
            NearLimit::Entries(entries) => (entries, entries, false),
            NearLimit::Bytes(bytes) => (bytes / (OVERHEAD + 256), bytes, true),
        };
        let items = usize::try_from(items).unwrap_or(usize::MAX).clamp(16, 1 << 24);
        let hasher = foldhash::fast::RandomState::default();
        Self {
            entries: Cache::with(
                items,
                weight.max(1),
                Weigh { by_bytes },
                hasher.clone(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            stripes: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            hasher,
            by_bytes,
        }
    }

    /// A fresh entry that no clear and no tag has voided, and whose key nobody has changed since it was read.
    pub(crate) fn get(&self, key: &K, era: Era, changes: &Changes, now_ms: u64) -> Option<T> {
        let entry = self.entries.get(key)?;
        let current =
            entry.era.clears == era.clears && (!entry.tagged || entry.era.tag_bumps == era.tag_bumps);
        (current && now_ms < entry.until_ms && changes.holds(entry.mark)).then_some(entry.known)
    }

    /// To be taken before the tiers below are read, and given to [`Near::insert`].
    pub(crate) fn seen(&self, key: &K) -> u64 {
        *lock(self.stripe(key))
    }

    /// Inserts, unless the key was invalidated since it was [`seen`](Near::seen).
    pub(crate) fn insert(&self, key: K, entry: NearEntry<T>, seen: u64) -> bool {
        let stripe = lock(self.stripe(&key));
        let unchanged = *stripe == seen;
        if unchanged {
            self.entries.insert(key, entry);
        }
        unchanged
    }

    /// Removes keys, and voids the inserts under way. If one of them panics while it is looked up, all go.
    pub(crate) fn invalidate<'k>(&self, keys: impl IntoIterator<Item = &'k K>) -> Result<(), Panicked>
    where
        K: 'k,
    {
        let removed = guard(|| {
            for key in keys {
                let mut stripe = lock(self.stripe(key));
                *stripe += 1;
                self.entries.remove(key);
            }
        });
        if removed.is_err() {
            self.clear();
        }
        removed
    }

    /// Removes everything, and voids every insert under way.
    fn clear(&self) {
        // all locks at once: an insert that saw the count from before has then come, and goes, or does not come
        let mut stripes: Vec<_> = self.stripes.iter().map(lock).collect();
        stripes.iter_mut().for_each(|stripe| **stripe += 1);
        // what is dropped may panic as well, shard by shard
        for _ in 0..STRIPES {
            if guard(|| self.entries.clear()).is_ok() {
                break;
            }
        }
    }

    /// Whether entries are bounded by their size in bytes.
    pub(crate) fn by_bytes(&self) -> bool {
        self.by_bytes
    }

    fn stripe(&self, key: &K) -> &Mutex<u64> {
        &self.stripes[usize::try_from(self.hasher.hash_one(key) % STRIPES as u64).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERA: Era = Era { clears: 0, tag_bumps: 0 };

    fn quiet() -> Changes {
        Changes::new(false)
    }

    fn entry(value: &str, tagged: bool) -> NearEntry<String> {
        NearEntry {
            known: value.to_owned(),
            until_ms: 100,
            era: ERA,
            tagged,
            mark: Mark::default(),
            size: 10,
        }
    }

    fn near() -> Near<u32, String> {
        Near::new(NearLimit::Entries(100))
    }

    #[test]
    fn what_was_read_before_an_invalidation_does_not_come_in_after_it() {
        let near = near();
        let seen = near.seen(&1);
        near.invalidate([&1]).unwrap();
        assert!(!near.insert(1, entry("old", false), seen));
        assert_eq!(near.get(&1, ERA, &quiet(), 0), None);
        assert!(near.insert(1, entry("new", false), near.seen(&1)));
        assert_eq!(near.get(&1, ERA, &quiet(), 0), Some("new".to_owned()));
    }

    #[test]
    fn an_entry_ends_with_its_time_with_its_region_and_a_tagged_one_with_any_tag() {
        let near = near();
        near.insert(1, entry("plain", false), near.seen(&1));
        near.insert(2, entry("tagged", true), near.seen(&2));
        assert_eq!(near.get(&1, ERA, &quiet(), 100), None, "its time is over");
        let tag = Era { tag_bumps: 1, ..ERA };
        assert_eq!(near.get(&1, tag, &quiet(), 0), Some("plain".to_owned()));
        assert_eq!(near.get(&2, tag, &quiet(), 0), None);
        assert_eq!(near.get(&1, Era { clears: 1, ..ERA }, &quiet(), 0), None);
    }

    #[test]
    fn what_was_read_before_a_change_that_others_made_does_not_answer_after_it() {
        let (near, changes) = (near(), Changes::new(true));
        let mark = changes.mark(b"one");
        near.insert(1, NearEntry { mark, ..entry("old", false) }, near.seen(&1));
        assert_eq!(near.get(&1, ERA, &changes, 0), Some("old".to_owned()));
        changes.changed(b"one");
        assert_eq!(near.get(&1, ERA, &changes, 0), None);
        // also where it comes late
        near.insert(1, NearEntry { mark, ..entry("old", false) }, near.seen(&1));
        assert_eq!(near.get(&1, ERA, &changes, 0), None);
    }

    #[test]
    fn it_stays_within_its_bound() {
        let near: Near<u32, String> = Near::new(NearLimit::Bytes(100 * (OVERHEAD + 10)));
        for key in 0..1000 {
            near.insert(key, entry("value", false), near.seen(&key));
        }
        let kept = (0..1000).filter(|key| near.get(key, ERA, &quiet(), 0).is_some()).count();
        assert!((50..=100).contains(&kept), "{kept} entries in the room of 100");
    }
}
