//! Write stamps: what a fill that took no lease compares, in place of a fence (`R15` to `R18`).
//!
//! A region has one record of [`SHARDS`] random numbers. A key belongs to one of them, its *stamp*, by its bytes. Whoever
//! voids a key renews its stamp; whoever loads a key without a lease has read its stamp before, and stores only where that
//! is still the same. Keys that share a stamp refuse each other's fills now and then, which costs a load.
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 8 × n | 8 | the stamp of shard n, little-endian; zero is none |
//!
//! A record that is missing, or has another length, says nothing, and neither does a stamp that is zero: then nothing is
//! stored without a lease (`R15`). It is made anew beside the next lease.
//!
//! ```
//! use mastaba::shared::stamps;
//!
//! let record = stamps::record();
//! assert_eq!(record.len(), stamps::LEN);
//! let renewed = stamps::renewed(&record, b"user:1", 7).unwrap();
//! assert_eq!(stamps::of(&renewed, b"user:1"), Some(7));
//! assert_eq!(stamps::of(&renewed[1..], b"user:1"), None);
//! ```

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::entry;

/// How many stamps a region has.
pub const SHARDS: usize = 16;
/// The length of their record.
pub const LEN: usize = 8 * SHARDS;

/// Where the stamp of a key stands in the record: the same in every process, and in every version.
#[must_use]
pub fn place(key: &[u8]) -> usize {
    8 * usize::try_from(entry::spread(key) % SHARDS as u64).unwrap_or(0)
}

/// The stamp of a key, as a record says it. `None`: it says nothing.
#[must_use]
pub fn of(record: &[u8], key: &[u8]) -> Option<u64> {
    if record.len() != LEN {
        return None;
    }
    let number = record[place(key)..].first_chunk().copied().map(u64::from_le_bytes);
    number.filter(|number| *number != 0)
}

/// A number that was never sent before: random, and not zero (`R16`).
#[must_use]
pub fn number() -> u64 {
    entry::random()
}

/// A new record, all of its numbers random.
#[must_use]
pub fn record() -> Bytes {
    (0..SHARDS).flat_map(|_| number().to_le_bytes()).collect::<Vec<_>>().into()
}

/// Whether a record says something of every key.
#[must_use]
pub fn is_whole(record: &[u8]) -> bool {
    record.len() == LEN && record.chunks_exact(8).all(|number| number != [0; 8])
}

/// A record with another number for a key. `None`: it is no record of stamps.
#[must_use]
pub fn renewed(record: &[u8], key: &[u8], number: u64) -> Option<Bytes> {
    let at = place(key);
    (record.len() == LEN).then(|| [&record[..at], &number.to_le_bytes(), &record[at + 8..]].concat().into())
}

/// What [`Shared::stamps`](crate::shared::Shared::stamps) gave a backend: which records of stamps go with which keys.
#[derive(Debug, Default)]
pub struct StampBook {
    regions: RwLock<Arc<[(Bytes, Bytes)]>>,
}

impl StampBook {
    /// Keys that begin with `prefix` have their stamps in this record.
    pub fn keep(&self, prefix: &[u8], record: &Bytes) {
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        if !regions.iter().any(|(known, its)| known == prefix && its == record) {
            let more = (Bytes::copy_from_slice(prefix), record.clone());
            *regions = regions.iter().cloned().chain([more]).collect();
        }
    }

    /// All of them, as of now.
    pub fn all(&self) -> StampKeys {
        StampKeys(self.regions.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The records of stamps of a backend.
#[derive(Clone, Debug)]
pub struct StampKeys(Arc<[(Bytes, Bytes)]>);

impl StampKeys {
    /// The records that have a stamp for this key: one, but where the keys of a region begin with anything.
    pub fn of<'r>(&'r self, key: &'r [u8]) -> impl Iterator<Item = &'r Bytes> {
        self.0.iter().filter(move |(prefix, _)| key.starts_with(prefix)).map(|(_, record)| record)
    }

    /// Whether this is the key of such a record.
    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        self.0.iter().any(|(_, record)| record == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_that_is_missing_zero_or_in_a_record_of_another_length_is_none() {
        let whole = record();
        assert!(is_whole(&whole) && of(&whole, b"key").is_some());
        for wrong in [&whole[..LEN - 1], &[&whole[..], b"x"].concat(), b"", &[7; 8]] {
            assert_eq!((of(wrong, b"key"), renewed(wrong, b"key", 1), is_whole(wrong)), (None, None, false));
        }
        let zero = renewed(&whole, b"key", 0).unwrap();
        assert_eq!((of(&zero, b"key"), is_whole(&zero)), (None, false));
    }

    #[test]
    fn a_renewal_changes_the_stamp_of_its_shard_and_no_other() {
        let before = record();
        let after = renewed(&before, b"key", 9).unwrap();
        let changed = (0..LEN).filter(|at| before[*at] != after[*at]).map(|at| at / 8 * 8);
        assert!(changed.clone().count() > 0 && changed.clone().all(|at| at == place(b"key")));
        let places: std::collections::BTreeSet<_> =
            (0..1000).map(|n| place(format!("key {n}").as_bytes())).collect();
        assert_eq!(places.len(), SHARDS);
        // other processes, and other versions, count on it
        assert_eq!([place(b""), place(b"user:1"), place(b"mastaba:objects:user:1")], [56, 40, 16]);
    }

    #[test]
    fn the_records_of_a_key_are_those_whose_prefix_it_has() {
        let kept = StampBook::default();
        let (a, b) = (Bytes::from("a@writes"), Bytes::from("b@writes"));
        kept.keep(b"a:", &a);
        kept.keep(b"a:", &a);
        kept.keep(b"", &b);
        let all = kept.all();
        assert_eq!(all.of(b"a:1").collect::<Vec<_>>(), [&a, &b]);
        assert_eq!(all.of(b"c:1").collect::<Vec<_>>(), [&b]);
        assert!(all.has(b"a@writes") && !all.has(b"a:1"));
    }
}
