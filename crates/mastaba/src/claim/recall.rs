//! What a record of the shared tier is worth.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Carried, Claim, Packed, Way, millis};
use crate::clock::{Now, SKEW_MS};
use crate::codec;
use crate::entry::{EntryRef, Header, Kind};
use crate::event::Event;
use crate::lease;
use crate::near::NearEntry;
use crate::policy::{WriteMode, refresh_early};
use crate::region::Stamps;
use crate::registry::{HIDDEN, Once, Undecoded};
use crate::report::Tier;
use crate::request::{Lane, outcome};
use crate::source::Source;

/// The largest payload that is unpacked.
const MAX_RAW: usize = 64 << 20;
/// For how long an entry of another shape of the type is left to those who wrote it: so two versions of a program that
/// run side by side take a key from each other once in this time, and not at every read. A minute, and what clocks may
/// differ by.
const LEFT_ALONE_MS: u64 = 60_000 + SKEW_MS;

/// A record of the shared tier that is as good as its tags.
pub(super) struct Hit<S: Source> {
    pub(super) header: Header,
    pub(super) value: Option<Arc<S::Value>>,
    pub(super) tags: Vec<(String, u64)>,
    pub(super) payload: Option<Packed>,
    pub(super) size: u32,
}

impl<S: Source> Claim<S> {
    /// Looks at a record of the shared tier, whose store is of this incarnation.
    pub(super) fn judge(&mut self, at: usize, record: &Bytes, stamps: &Stamps, incarnation: u64) {
        if self.source.region.unconfirmed.covers(&self.items[at].record) {
            // An invalidation by this process that was not confirmed while the record was on its way: it may be old. One
            // that was confirmed meanwhile was not acknowledged before this read began.
            (self.items[at].sealed, self.items[at].held) = (true, true);
            return;
        }
        let entry = match EntryRef::read(record) {
            Ok(entry) => entry,
            Err(why) => return self.foreign(at, why.sentence(), why.to_string()),
        };
        let header = *entry.header();
        if header.incarnation != incarnation {
            // R11: of a store that lost or brought back records
            self.items[at].over = Some(header.fence);
            return;
        }
        match header.kind {
            // who holds the lease loads now, or is slow, or gone: wait, or load under the same fence (R3)
            Kind::Lease => {
                self.items[at].fence = Some(header.fence);
                self.items[at].lease = Some(header.fence);
                let refused = self.source.refusals.hold(&self.items[at].record);
                self.items[at].elsewhere = self.waits_for_others() && !refused;
                if self.source.near.is_none() {
                    // what has been told by now; what came before was missed by the read, or is found by the next look
                    self.items[at].mark = self.source.region.changes.mark(&self.items[at].record);
                }
            }
            Kind::Hold => {
                self.items[at].sealed = true;
                self.items[at].held = true;
                if self.source.region.policy.write_mode == WriteMode::Serve {
                    self.serve_kept(at, &entry, stamps, incarnation);
                }
            }
            Kind::Value | Kind::Absent => self.weigh(at, &entry, header, stamps),
        }
    }

    fn weigh(&mut self, at: usize, entry: &EntryRef<'_>, header: Header, stamps: &Stamps) {
        let Some(age) = self.age(&header) else {
            self.items[at].over = Some(header.fence);
            return;
        };
        let schema = header.schema == self.source.codec.schema(header.format);
        let absent = header.kind == Kind::Absent;
        let current = stamps.generation == Some(header.region_stamp);
        let expired = age >= header.hard_ms || (absent && age >= header.soft_ms);
        let mut tags: Vec<(String, u64)> = Vec::new();
        let mut known = true;
        let mut fixed = 0;
        for (tag, stamp) in entry.tags() {
            fixed += usize::from(S::TAGS.contains(&tag));
            match stamps.tags.get(tag) {
                Some(now) => known &= *now == Some(stamp),
                None => tags.push((tag.to_owned(), stamp)),
            }
        }
        if !current || !known || expired || fixed < S::TAGS.len() {
            self.items[at].over = Some(header.fence);
            return;
        }
        if !schema {
            return self.leave_or_replace(at, &header, age);
        }
        let (mut value, mut payload) = (None, None);
        let size = u32::try_from(entry.payload().len()).unwrap_or(u32::MAX);
        if !absent {
            let decoded = match codec::unpack(entry.payload(), header.compressed, header.raw_len, MAX_RAW) {
                Err(why) => Err(Undecoded { cause: "does not unpack", why: why.to_string() }),
                Ok(raw) => self.source.decode(header.format, &raw).map(|value| {
                    // a flight or near hand on what the hook has not changed yet
                    let keep = self.source.hooked();
                    let packed = keep.then(|| Packed { format: header.format, payload: raw.into_owned() });
                    (value, packed)
                }),
            };
            match decoded {
                Ok((decoded, packed)) => (value, payload) = (Some(decoded), packed),
                Err(Undecoded { cause, why }) => {
                    // sound, and of no use: replaced as an outdated one is
                    self.items[at].over = Some(header.fence);
                    return self.foreign(at, cause, why);
                }
            }
        }
        let hit = Hit { header, value, tags, payload, size };
        if hit.tags.is_empty() {
            self.accept(at, hit);
        } else {
            self.items[at].hit = Some(Box::new(hit));
        }
    }

    /// Looks at an entry of another shape of the type, which is good for the version of the program that wrote it.
    ///
    /// Just written, it is left to that version, which may run beside this one; what is loaded here goes into near alone.
    /// Later it is replaced, under its own fence: a lease would take it from the others before there is anything in its
    /// place. Clocks decide who stores, and nothing else.
    fn leave_or_replace(&mut self, at: usize, header: &Header, age: u64) {
        self.outcomes.other_shape += 1;
        if self.source.says(Once::OtherShape) {
            self.request.cache.events.tell(Event::OtherShape { source: S::NAME });
        }
        // whoever wrote to a store of this process alone is gone; and who refreshes says so
        let at_once = self.source.region.is_private() || self.lane == Lane::Refresh;
        let item = &mut self.items[at];
        if at_once || age >= LEFT_ALONE_MS {
            item.fence = Some(header.fence);
        } else {
            (item.sealed, item.left_alone) = (true, true);
        }
    }

    /// How old an entry is, in milliseconds; `None`: nobody can say, for one of two clocks is wrong.
    fn age(&mut self, header: &Header) -> Option<u64> {
        if let Some(age) = self.now.age_ms(header.created_ms) {
            return Some(age);
        }
        // it may have been made while this read waited
        self.now = Now::look();
        let age = self.now.age_ms(header.created_ms);
        if age.is_none() && self.source.says(Once::Clocks) {
            let ahead = Duration::from_millis(header.created_ms.saturating_sub(self.now.unix_ms));
            self.request.cache.events.tell(Event::ClocksDiffer { source: S::NAME, ahead });
        }
        age
    }

    /// Write mode `Serve`: while a key is held, what it held before goes on to be served, and nothing is made of it.
    fn serve_kept(&mut self, at: usize, hold: &EntryRef<'_>, stamps: &Stamps, incarnation: u64) {
        let Some(kept) = lease::kept(hold, self.source.region.store_ms()) else { return };
        let header = *kept.header();
        if header.incarnation == incarnation && matches!(header.kind, Kind::Value | Kind::Absent) {
            self.weigh(at, &kept, header, stamps);
            // no fence of it is good for anything: the hold stands in its place
            (self.items[at].over, self.items[at].fence, self.items[at].refresh) = (None, None, None);
        }
    }

    /// A record that is no value of this source counts as a miss, and is replaced by whoever misses: by a lease over it.
    fn foreign(&mut self, at: usize, cause: &'static str, why: String) {
        let Some(more) = self.source.seldom.is_due(cause) else { return };
        let key = match S::SHOW_KEYS {
            true => String::from_utf8_lossy(&self.items[at].record).into_owned(),
            false => HIDDEN.to_owned(),
        };
        self.request.cache.events.tell(Event::ForeignRecord { source: S::NAME, key, why, more });
    }

    /// Takes a hit whose tags hold: an answer, or something to fall back on.
    pub(super) fn accept(&mut self, at: usize, hit: Hit<S>) {
        let policy = &self.source.policy;
        let header = hit.header;
        let item = &mut self.items[at];
        let soft = header.created_ms.saturating_add(header.soft_ms);
        let value = hit.value;
        if self.lane == Lane::Refresh {
            // replaced under its own fence; no lease, which would take it from others meanwhile
            item.fence = Some(header.fence);
            return;
        }
        let now = self.now;
        if now.unix_ms < soft {
            let left_ms = soft - now.unix_ms;
            let left = Duration::from_millis(left_ms);
            let cost = Duration::from_micros(header.cost_us.into());
            if value.is_some() && self.lane != Lane::Peek && refresh_early(policy.early_refresh, cost, left) {
                item.refresh = Some(header.fence);
            }
            // found by a lease: for those who joined the flight as well
            let flies = matches!(item.way, Way::Own);
            if flies || self.source.near.is_some() {
                let carried = match hit.payload {
                    Some(packed) => Some(Carried::Packed(Arc::new(packed))),
                    None => value.clone().map(Carried::Live),
                };
                if flies {
                    item.found.clone_from(&carried);
                }
                if let Some(near) = self.source.near.as_ref().filter(|_| !item.sealed) {
                    let tagged = !hit.tags.is_empty() || !S::TAGS.is_empty();
                    let entry = NearEntry {
                        value: carried,
                        // not by the time that it was made: that is of another clock
                        until_ms: now.steady_ms.saturating_add(left_ms.min(header.soft_ms)),
                        era: self.era,
                        tagged,
                        mark: item.mark,
                        size: hit.size,
                    };
                    near.insert(item.key.clone(), self.source.near_entry(entry, now.steady_ms), item.seen);
                }
            }
            item.answer = Some(outcome(value, false, Tier::Shared));
        } else if now.unix_ms < soft.saturating_add(millis(policy.stale)) {
            if self.lane != Lane::Peek {
                item.refresh = Some(header.fence);
            }
            item.answer = Some(outcome(value, true, Tier::Shared));
        } else {
            // past serving while it is refreshed: kept for the case that the source fails, and so that it
            // stays there for others in that case, it is replaced under its own fence and not by a lease
            item.fence = Some(header.fence);
            item.backup = match hit.payload {
                Some(packed) => Some(Carried::Packed(Arc::new(packed))),
                None => value.map(Carried::Live),
            };
        }
    }
}
