//! What each operation does to ONE record: pure functions, the executable meaning of [`crate::shared::Shared`].
//!
//! Backends in this process apply them under a lock or in a transaction; the others are tested against
//! them. Each function takes what stands under the key and what time it is, and says what to store and
//! what to answer. A record past its expiry counts as nothing. The time is that of the store: two calls for one record
//! must never go by two clocks that differ.
//!
//! ```
//! use mastaba::entry::{self, Fence, Header, Kind, write};
//! use mastaba::lease::{self, Change, Standing};
//! use mastaba::shared::{Fill, Filled, Over};
//! use std::time::Duration;
//!
//! let lease = entry::lease(Fence(1), 9);
//! let value = write(&Header::new(Kind::Value, Fence(2), 9), &[], &[], b"row");
//! let fill = Fill {
//!     key: "k".into(),
//!     expected: Fence(1),
//!     over: Over::Lease,
//!     record: value.into(),
//!     ttl: Duration::from_secs(60),
//! };
//! let standing = Standing { record: &lease, expires_ms: 1_000 };
//! assert_eq!(lease::fill(Some(standing), 9, 0, &fill).1, Filled::Stored);
//! // an invalidation came between: the lease is gone, and with it the right to fill (R1)
//! assert_eq!(lease::fill(None, 9, 0, &fill), (Change::Keep, Filled::Refused));
//! ```

use std::time::Duration;

use bytes::Bytes;

use crate::entry::{self, EntryRef, Fence, Header, Holder, Kind, MAX_HOLDERS};
use crate::error::{Fault, FaultKind};
use crate::shared::{End, Ended, Fill, Filled, Hold, Lease, Leased, Over, Stamp, WriteOutcome, stamps};

#[cfg(test)]
mod tests;

/// The expiry of what does not expire.
pub const NEVER: u64 = u64::MAX;

/// What stands under a key.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The bytes.
    pub record: &'a [u8],
    /// When they expire, in milliseconds since the Unix epoch; [`NEVER`]: not by themselves.
    pub expires_ms: u64,
}

/// What to do with what stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// Store this instead.
    Put {
        /// The bytes.
        record: Bytes,
        /// When they expire, in milliseconds since the Unix epoch; [`NEVER`]: not by themselves.
        expires_ms: u64,
    },
    /// Remove it; nothing stands there then.
    Remove,
}

/// [`crate::shared::Shared::lease`], for one key.
///
/// Places the lease where nothing stands that a reader could use or has to respect: nothing, foreign
/// bytes, an entry of another incarnation (`R11`), or the one that the reader judged outdated. A hold is
/// always respected.
pub fn lease(standing: Option<Standing<'_>>, incarnation: u64, now_ms: u64, ask: &Lease) -> (Change, Leased) {
    let granted =
        || (Change::Put { record: ask.record.clone(), expires_ms: after(now_ms, ask.ttl) }, Leased::Granted);
    let Some(standing) = live(standing, now_ms) else { return granted() };
    let Ok(entry) = EntryRef::read(standing.record) else { return granted() };
    let header = entry.header();
    let respected = match header.kind {
        Kind::Hold => !holders(&entry, now_ms).0.is_empty(),
        Kind::Value | Kind::Absent | Kind::Lease => {
            header.is_of(incarnation) && ask.over != Some(header.fence)
        }
    };
    if respected { (Change::Keep, Leased::Found(Bytes::copy_from_slice(standing.record))) } else { granted() }
}

/// The stamps of [`crate::shared::Shared::lease`]: the number that stands, or else the one given (`R12`).
pub fn stamp(standing: Option<Standing<'_>>, now_ms: u64, ask: &Stamp) -> (Change, u64) {
    match live(standing, now_ms).and_then(|it| it.record.try_into().ok()).map(u64::from_le_bytes) {
        Some(number) => (Change::Keep, number),
        None => (set_stamp(now_ms, ask), ask.value),
    }
}

/// The stamps of [`crate::shared::Shared::invalidate`]: the number given, whatever stands.
pub fn set_stamp(now_ms: u64, ask: &Stamp) -> Change {
    let expires_ms = ask.ttl.map_or(NEVER, |ttl| after(now_ms, ttl));
    Change::Put { record: Bytes::copy_from_slice(&ask.value.to_le_bytes()), expires_ms }
}

/// The renewal of a stamp by [`crate::shared::Shared::invalidate`], by a hold and by an end (`R16`): the record of stamps with
/// another number for the key. What is no such record goes: without one nothing is stored without a lease.
pub fn renew(standing: Option<Standing<'_>>, now_ms: u64, key: &[u8], number: u64) -> Change {
    let Some(standing) = live(standing, now_ms) else { return Change::Keep };
    match stamps::renewed(standing.record, key, number) {
        Some(record) => Change::Put { record, expires_ms: standing.expires_ms },
        None => Change::Remove,
    }
}

/// A record of stamps among the stamps of [`crate::shared::Shared::lease`]: the one that stands, or else this new one.
pub fn make_stamps(standing: Option<Standing<'_>>, now_ms: u64, record: Bytes) -> Change {
    match live(standing, now_ms) {
        Some(standing) if stamps::is_whole(standing.record) => Change::Keep,
        _ => Change::Put { record, expires_ms: NEVER },
    }
}

/// [`crate::shared::Shared::fill`], for one key and without a lease (`R15`): stores where the stamp of the key is still the
/// one that was read, and where nothing stands, or the record whose fence was read.
///
/// `stamps` is what stands under the key of the record of stamps. Both are to be looked at in one step.
pub fn fill_unleased(
    stamps: Option<Standing<'_>>,
    standing: Option<Standing<'_>>,
    incarnation: u64,
    now_ms: u64,
    ask: &Fill,
) -> (Change, Filled) {
    let Over::Unleased { stamp, .. } = ask.over else { return (Change::Keep, Filled::Refused) };
    let found = live(stamps, now_ms).and_then(|it| stamps::of(it.record, &ask.key));
    if found != Some(stamp) {
        return (Change::Keep, Filled::Refused);
    }
    if live(standing, now_ms).is_some() {
        return fill(standing, incarnation, now_ms, ask);
    }
    match entry::peek(&ask.record) {
        Ok(new) if new.is_of(incarnation) && matches!(new.kind, Kind::Value | Kind::Absent) => {
            stored(now_ms, ask)
        }
        _ => (Change::Keep, Filled::Refused),
    }
}

fn stored(now_ms: u64, ask: &Fill) -> (Change, Filled) {
    (Change::Put { record: ask.record.clone(), expires_ms: after(now_ms, ask.ttl) }, Filled::Stored)
}

/// [`crate::shared::Shared::fill`], for one key: a compare-and-set on exactly the fence (`R1`).
///
/// The fence must be that of a lease, a value or an absence, both of this incarnation (`R11`).
pub fn fill(standing: Option<Standing<'_>>, incarnation: u64, now_ms: u64, ask: &Fill) -> (Change, Filled) {
    let fits = |standing: Standing<'_>| {
        // without the checksum: whoever knows the fence has met the undamaged record
        let (there, new) = (entry::peek(standing.record).ok()?, entry::peek(&ask.record).ok()?);
        let fillable = there.kind != Kind::Hold && matches!(new.kind, Kind::Value | Kind::Absent);
        let same = there.is_of(incarnation) && new.is_of(incarnation);
        (fillable && same && there.fence == ask.expected).then_some(())
    };
    match live(standing, now_ms).and_then(fits) {
        Some(()) => stored(now_ms, ask),
        None => (Change::Keep, Filled::Refused),
    }
}

/// [`crate::shared::Shared::invalidate`], for one key: removes it, or makes a hold forget what it kept.
pub fn invalidate(standing: Option<Standing<'_>>, now_ms: u64) -> Change {
    let Some(held) = HoldRecord::read(standing, now_ms) else { return Change::Remove };
    HoldRecord { kept: None, ..held }.change()
}

/// [`crate::shared::Shared::hold`], for one key.
///
/// Fails only where [`MAX_HOLDERS`] others hold the key.
pub fn hold(
    standing: Option<Standing<'_>>,
    incarnation: u64,
    now_ms: u64,
    ask: &Hold,
) -> Result<Change, Fault> {
    let mut held = HoldRecord::read(standing, now_ms).unwrap_or_else(|| HoldRecord {
        of: Header::new(Kind::Hold, Fence::random(), incarnation),
        holders: Vec::new(),
        kept: keepable(standing, incarnation, now_ms),
    });
    if !ask.keep || !held.of.is_of(incarnation) {
        held.kept = None;
    }
    held.of.incarnation = incarnation;
    let expires_ms = after(now_ms, ask.ttl);
    let held_by = held.holders.len();
    match held.holders.iter_mut().find(|it| it.id == ask.holder) {
        // sent again: it stands for the longer of the two
        Some(again) => again.expires_ms = again.expires_ms.max(expires_ms),
        None if held_by >= MAX_HOLDERS => {
            return Err(Fault::new(
                FaultKind::Refused,
                format!("{MAX_HOLDERS} writes hold one key already; this one cannot be held"),
            ));
        }
        None => held.holders.push(Holder { id: ask.holder, expires_ms }),
    }
    Ok(held.change())
}

/// [`crate::shared::Shared::end`], for one key: removes only its own hold (`R9`).
///
/// After a commit also whatever came to stand there since a hold that was lost: it may be from before.
pub fn end(standing: Option<Standing<'_>>, incarnation: u64, now_ms: u64, ask: &End) -> (Change, Ended) {
    let committed = ask.outcome == WriteOutcome::Committed;
    let Some(mut held) = HoldRecord::read(standing, now_ms) else {
        // a record that is a hold without holders has expired and goes as well
        let gone = if committed || is_hold(standing) { Change::Remove } else { Change::Keep };
        return (gone, Ended::Gone);
    };
    let mine = held.holders.iter().position(|it| it.id == ask.holder);
    if let Some(at) = mine {
        held.holders.remove(at);
    }
    // R10: never after another commit, and not on the word of one whose hold is gone
    if committed || mine.is_none() || !held.of.is_of(incarnation) {
        held.kept = None;
    }
    let answer = match (mine, held.holders.is_empty(), held.kept) {
        (None, ..) => Ended::Gone,
        (_, false, _) => Ended::StillHeld,
        (_, true, Some(_)) => Ended::Restored,
        (_, true, None) => Ended::Freed,
    };
    (held.change(), answer)
}

/// A hold, taken apart.
#[derive(Debug)]
struct HoldRecord<'a> {
    of: Header,
    holders: Vec<Holder>,
    kept: Option<Standing<'a>>,
}

impl<'a> HoldRecord<'a> {
    /// `None` where nobody holds, or no longer.
    fn read(standing: Option<Standing<'a>>, now_ms: u64) -> Option<Self> {
        let entry = EntryRef::read(live(standing, now_ms)?.record).ok()?;
        let header = entry.header();
        if header.kind != Kind::Hold {
            return None;
        }
        let (holders, expired) = holders(&entry, now_ms);
        if holders.is_empty() {
            return None;
        }
        let kept = Standing { record: entry.payload(), expires_ms: header.kept_until_ms };
        // R10: the outcome of an expired hold is unknown, so nothing kept may come back
        let usable = !expired && !kept.record.is_empty() && kept.expires_ms > now_ms;
        Some(Self { of: header, holders, kept: usable.then_some(kept) })
    }

    fn change(&self) -> Change {
        let kept_record = self.kept.map_or(&[][..], |it| it.record);
        if let Some(last) = self.holders.iter().map(|it| it.expires_ms).max() {
            let header = Header {
                kept_until_ms: self.kept.map_or(0, |it| it.expires_ms),
                // nobody knows it, so nobody fills
                fence: Fence::random(),
                ..self.of
            };
            let record = entry::write(&header, &[], &self.holders, kept_record);
            return Change::Put { record: record.into(), expires_ms: last };
        }
        match (EntryRef::read(kept_record), self.kept) {
            // under a new fence: a refresh from before the hold has no right to what comes after it
            (Ok(entry), Some(kept)) => {
                Change::Put { record: entry.with_fence(Fence::random()).into(), expires_ms: kept.expires_ms }
            }
            _ => Change::Remove,
        }
    }
}

/// The value that a hold keeps, which is in the payload; `None` where it keeps none that can be used.
///
/// For serving what is held (write mode `Serve`).
pub fn kept<'a>(hold: &EntryRef<'a>, now_ms: u64) -> Option<EntryRef<'a>> {
    let header = hold.header();
    let (_, expired) = holders(hold, now_ms);
    let over = header.kept_until_ms <= now_ms;
    if header.kind != Kind::Hold || expired || over {
        return None;
    }
    EntryRef::read(hold.payload()).ok()
}

fn keepable(standing: Option<Standing<'_>>, incarnation: u64, now_ms: u64) -> Option<Standing<'_>> {
    let standing = live(standing, now_ms)?;
    let header = EntryRef::read(standing.record).ok()?.header();
    let value = matches!(header.kind, Kind::Value | Kind::Absent);
    (value && header.is_of(incarnation)).then_some(standing)
}

fn is_hold(standing: Option<Standing<'_>>) -> bool {
    standing.is_some_and(|it| entry::peek_kind(it.record) == Some(Kind::Hold))
}

fn live(standing: Option<Standing<'_>>, now_ms: u64) -> Option<Standing<'_>> {
    standing.filter(|it| it.expires_ms > now_ms)
}

/// Those who still hold, and whether the hold of another has expired.
fn holders(entry: &EntryRef<'_>, now_ms: u64) -> (Vec<Holder>, bool) {
    let all = entry.holders().count();
    let live: Vec<_> = entry.holders().filter(|it| it.expires_ms > now_ms).collect();
    let expired = live.len() < all;
    (live, expired)
}

/// The moment `ttl` after now.
pub fn after(now_ms: u64, ttl: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}
