//! What is in the file, and how one record of it changes.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `records` | the key | expiry (8 bytes, little-endian), checksum of key and expiry (the same), record |
//! | `values` | expiry (8 bytes, big-endian), key | nothing; values and absences only |
//! | `guards` | the same | nothing; leases, holds and stamps |
//! | `mastaba` | a name | a number: layout, incarnation, bytes of values, bytes of guards, the clock and the time of the file when it was written last |
//!
//! Expiries are in the [time of the file](super::time).

use bytes::Bytes;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::time::Remembered;
use crate::entry::{self, Kind};
use crate::error::{Fault, FaultKind};
use crate::lease::{self, Change, Standing};
use crate::shared::stamps::{self, StampKeys};

pub(super) const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("mastaba");
const VALUES: TableDefinition<'_, &[u8], ()> = TableDefinition::new("values");
const GUARDS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("guards");

/// Why a piece of work did not succeed.
pub(super) enum Work {
    /// This call alone is refused.
    Refused(Fault),
    /// The file failed, and with it the transaction.
    Failed(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Work {
    fn from(cause: E) -> Self {
        Self::Failed(Box::new(cause.into()))
    }
}

const VALUE_BYTES: &str = "value bytes";
const GUARD_BYTES: &str = "guard bytes";
const CLOCK_MS: &str = "clock ms";
const TIME_MS: &str = "time ms";
/// What a record takes besides its key, twice, and its bytes.
const OVERHEAD: u64 = 48;
/// What stands before a record.
const HEAD: usize = 16;
/// How many expired records one transaction removes at most: what it costs is borne by those who wait.
const SWEEP: usize = 200;

/// The tables of one transaction.
pub(super) struct Tables<'t> {
    records: Table<'t, &'static [u8], &'static [u8]>,
    values: Table<'t, &'static [u8], ()>,
    guards: Table<'t, &'static [u8], ()>,
    meta: Table<'t, &'static str, u64>,
    value_bytes: u64,
    guard_bytes: u64,
    max_bytes: u64,
    incarnation: u64,
}

/// What stood under a key, as far as the other tables have to know.
struct Old {
    expires_ms: u64,
    value: bool,
    weight: u64,
}

impl<'t> Tables<'t> {
    pub(super) fn open(
        txn: &'t WriteTransaction,
        incarnation: u64,
        max_bytes: u64,
    ) -> Result<Self, redb::Error> {
        let meta = txn.open_table(META)?;
        let value_bytes = meta.get(VALUE_BYTES)?.map_or(0, |it| it.value());
        let guard_bytes = meta.get(GUARD_BYTES)?.map_or(0, |it| it.value());
        Ok(Self {
            records: txn.open_table(RECORDS)?,
            values: txn.open_table(VALUES)?,
            guards: txn.open_table(GUARDS)?,
            meta,
            value_bytes,
            guard_bytes,
            max_bytes,
            incarnation,
        })
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Holds are never evicted, so there has to be an end to them.
    pub(super) fn room_for_a_hold(&self) -> Result<(), Work> {
        if self.guard_bytes <= self.max_bytes {
            return Ok(());
        }
        let sentence = "the embedded store has as many holds as it can take; this one was not placed";
        Err(Work::Refused(Fault::new(FaultKind::Refused, sentence)))
    }

    /// Applies a transition of [`crate::lease`] to one key.
    pub(super) fn change<T>(
        &mut self,
        key: &Bytes,
        transition: impl FnOnce(Option<Standing<'_>>) -> Result<(Change, T), Fault>,
    ) -> Result<T, Work> {
        let (old, change, answer) = {
            let found = self.records.get(&key[..])?;
            let standing = found.as_ref().and_then(|it| standing(key, it.value()));
            let old = standing.map(|it| Old {
                expires_ms: it.expires_ms,
                value: is_value(it.record),
                weight: weight(key, it.record),
            });
            let (change, answer) = transition(standing).map_err(Work::Refused)?;
            (old, change, answer)
        };
        match change {
            Change::Keep => {}
            Change::Remove => self.remove(key, old)?,
            Change::Put { record, expires_ms } => {
                // A lease that is granted and at once forgotten is a load that is not stored. That is
                // better than values pushed out by leases.
                let lease = entry::peek_kind(&record) == Some(Kind::Lease);
                if lease && self.guard_bytes > self.max_bytes / 2 {
                    self.remove(key, old)?;
                } else {
                    self.put(key, old, &record, expires_ms)?;
                }
            }
        }
        Ok(answer)
    }

    /// Renews the stamp of a key in the records that have one.
    pub(super) fn renew(&mut self, records: &StampKeys, key: &Bytes, now_ms: u64) -> Result<(), Work> {
        for record in records.of(key) {
            self.change(record, |standing| Ok((lease::renew(standing, now_ms, key, stamps::number()), ())))?;
        }
        Ok(())
    }

    /// Applies a transition to one key that also looks at what stands under another one.
    pub(super) fn change_beside<T>(
        &mut self,
        beside: &Bytes,
        key: &Bytes,
        transition: impl FnOnce(Option<Standing<'_>>, Option<Standing<'_>>) -> (Change, T),
    ) -> Result<T, Work> {
        let stored = self.records.get(&beside[..])?.map(|found| found.value().to_vec());
        let other = stored.as_deref().and_then(|stored| standing(beside, stored));
        self.change(key, |standing| Ok(transition(other, standing)))
    }

    fn put(
        &mut self,
        key: &[u8],
        old: Option<Old>,
        record: &[u8],
        expires_ms: u64,
    ) -> Result<(), redb::Error> {
        self.forget(key, old)?;
        let mut stored = Vec::with_capacity(HEAD + record.len());
        stored.extend_from_slice(&expires_ms.to_le_bytes());
        stored.extend_from_slice(&entry::key_sum(key, expires_ms).to_le_bytes());
        stored.extend_from_slice(record);
        self.records.insert(key, &stored[..])?;
        let index = index(expires_ms, key);
        if is_value(record) {
            self.values.insert(&index[..], ())?;
            self.value_bytes += weight(key, record);
        } else {
            self.guards.insert(&index[..], ())?;
            self.guard_bytes += weight(key, record);
        }
        Ok(())
    }

    fn remove(&mut self, key: &[u8], old: Option<Old>) -> Result<(), redb::Error> {
        self.forget(key, old)?;
        self.records.remove(key)?;
        Ok(())
    }

    fn forget(&mut self, key: &[u8], old: Option<Old>) -> Result<(), redb::Error> {
        let Some(old) = old else { return Ok(()) };
        let index = index(old.expires_ms, key);
        if old.value {
            self.values.remove(&index[..])?;
            self.value_bytes = self.value_bytes.saturating_sub(old.weight);
        } else {
            self.guards.remove(&index[..])?;
            self.guard_bytes = self.guard_bytes.saturating_sub(old.weight);
        }
        Ok(())
    }

    /// Ends a transaction: removes some of what has expired, evicts values that are beyond the bound, those
    /// first that would expire first. Leases, holds and stamps only expire (`R14`).
    ///
    /// Whether there may be more that has expired.
    pub(super) fn settle(mut self, now: Remembered) -> Result<bool, redb::Error> {
        let now_ms = now.time_ms;
        let mut swept = 0;
        while swept < SWEEP && (self.pop_expired(true, now_ms)? || self.pop_expired(false, now_ms)?) {
            swept += 1;
        }
        while self.value_bytes + self.guard_bytes > self.max_bytes && self.pop_expired(true, u64::MAX)? {}
        self.meta.insert(VALUE_BYTES, self.value_bytes)?;
        self.meta.insert(GUARD_BYTES, self.guard_bytes)?;
        self.meta.insert(CLOCK_MS, now.clock_ms)?;
        self.meta.insert(TIME_MS, now.time_ms)?;
        Ok(swept == SWEEP)
    }

    /// Removes the first value, or guard, that expires at that time or earlier.
    fn pop_expired(&mut self, value: bool, by_ms: u64) -> Result<bool, redb::Error> {
        let first = {
            let table = if value { &self.values } else { &self.guards };
            table.first()?.map(|(index, _)| index.value().to_vec())
        };
        let Some((at, key)) = first.as_deref().and_then(|it| it.split_first_chunk::<8>()) else {
            return Ok(false);
        };
        let expires_ms = u64::from_be_bytes(*at);
        if expires_ms > by_ms {
            return Ok(false);
        }
        let weight =
            self.records.remove(key)?.map_or(0, |it| weight(key, it.value().get(HEAD..).unwrap_or_default()));
        self.forget(key, Some(Old { expires_ms, value, weight }))?;
        Ok(true)
    }

    /// The clock and the time of the file when it was written last.
    pub(super) fn remembered(
        meta: &impl ReadableTable<&'static str, u64>,
    ) -> Result<Option<Remembered>, redb::StorageError> {
        let number = |name| meta.get(name).map(|found| found.map(|it| it.value()));
        let both = (number(CLOCK_MS)?, number(TIME_MS)?);
        Ok(both.0.zip(both.1).map(|(clock_ms, time_ms)| Remembered { clock_ms, time_ms }))
    }

    /// Bytes of values, and of guards.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.value_bytes, self.guard_bytes)
    }
}

/// A stored record, apart from its expiry; `None` where the file holds something else.
///
/// The checksum of an entry does not say under which key it belongs. In a damaged file a whole record may be found under
/// the key of another one.
pub(super) fn standing<'s>(key: &[u8], stored: &'s [u8]) -> Option<Standing<'s>> {
    let (expires, rest) = stored.split_first_chunk::<8>()?;
    let (sum, record) = rest.split_first_chunk::<8>()?;
    let expires_ms = u64::from_le_bytes(*expires);
    (u64::from_le_bytes(*sum) == entry::key_sum(key, expires_ms)).then_some(Standing { record, expires_ms })
}

fn is_value(record: &[u8]) -> bool {
    matches!(entry::peek_kind(record), Some(Kind::Value | Kind::Absent))
}

fn weight(key: &[u8], record: &[u8]) -> u64 {
    2 * key.len() as u64 + record.len() as u64 + OVERHEAD
}

fn index(expires_ms: u64, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + key.len());
    out.extend_from_slice(&expires_ms.to_be_bytes());
    out.extend_from_slice(key);
    out
}
