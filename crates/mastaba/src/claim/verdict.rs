//! What one record of the shared tier is worth to a read: what [`Scales`] make of it, and its value.
//!
//! Nothing here asks a tier or changes anything: the mirror of [`lease`](crate::lease), for those who read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::answer::Known;
use crate::carried::{Carried, Encoded};
use crate::clock::{Now, SKEW_MS};
use crate::codec;
use crate::entry::{EntryRef, Fence, Fields, Kind};
use crate::limits::millis;
use crate::policy::{WriteMode, refresh_early};
use crate::region::Stamps;
use crate::registry::{Registered, Undecoded};
use crate::request::Lane;
use crate::source::Source;
use crate::worth::{self, Scales, Soundness, Valued, Worth};

#[cfg(test)]
pub(super) mod tests;

/// The largest payload that is unpacked.
const MAX_RAW: usize = 64 << 20;
/// For how long an entry of another shape of the type is left to those who wrote it: so two versions of a program that
/// run side by side take a key from each other once in this time, and not at every read. A minute, and what clocks may
/// differ by.
const LEFT_ALONE_MS: u64 = 60_000 + SKEW_MS;

/// What records are judged by.
pub(super) struct Rules<'a, S: Source> {
    source: &'a Registered<S>,
    lane: Lane,
    scales: Scales<'a>,
}

/// What a record is worth.
pub(super) enum Verdict<S: Source> {
    /// An answer.
    Fresh(Found<S>),
    /// An answer, which is to be loaded anew.
    Stale(Found<S>),
    /// As good as its tags, whose stamps were not read with it.
    Unproven(Box<Unproven<S>>),
    Miss(Footing<S>, Option<Remark>),
}

/// What was found of a key.
pub(super) struct Found<S: Source> {
    pub(super) known: Known<S::Value>,
    /// Its encoding, where a hook is going to change it for each request.
    pub(super) encoded: Option<Arc<Encoded>>,
    /// To be loaded anew in the background, under this fence.
    pub(super) refresh: Option<Fence>,
    /// For how long it is fresh, in milliseconds.
    pub(super) left_ms: u64,
    /// The length of its encoding.
    pub(super) size: u32,
    pub(super) tagged: bool,
    /// A hold keeps it: it is served, and nothing is made of it.
    pub(super) kept: bool,
}

/// What is good if its tags are.
pub(super) struct Unproven<S: Source> {
    age: Aged,
    known: Known<S::Value>,
    encoded: Option<Arc<Encoded>>,
    size: u32,
    /// Beside those whose stamps were read with it.
    tags: Vec<(String, u64)>,
    /// It stands under a tag, of its source or of its own, whether its stamp was read with it or not.
    tagged: bool,
    kept: bool,
}

/// What is known, and the encoding of a value, where a hook is going to change it for each request.
type Decoded<S> = (Known<<S as Source>::Value>, Option<Arc<Encoded>>);

/// How long an entry is fresh, what it cost, and what replaces it has to meet.
#[derive(Clone, Copy)]
struct Aged {
    fence: Fence,
    soft_ms: u64,
    soft_until_ms: u64,
    cost_us: u32,
}

impl Aged {
    fn of(fields: Fields<'_>) -> Self {
        Self {
            fence: fields.fence(),
            soft_ms: fields.soft_ms(),
            soft_until_ms: worth::soft_until_ms(fields),
            cost_us: fields.cost_us(),
        }
    }
}

/// What a miss stands on: what is known of the key's place in the shared tier, and so how it may be filled (`R1`).
pub(super) enum Footing<S: Source> {
    /// Something that is not ours, or of another incarnation of the store; the latter has a fence. Nothing but a lease takes
    /// its place.
    Foreign(Option<Fence>),
    /// Something that is over: a lease, or what is loaded without one, may take its place if it is still this.
    Outdated(Fence),
    /// The lease of somebody who loads just now (`R3`).
    Lease(Fence),
    /// An entry that stays there for others until it is replaced under its own fence, and perhaps its value, for the case
    /// that the source fails.
    Replaced(Fence, Option<Carried<S>>),
    /// A write is under way, or one of ours is not confirmed yet: nothing may be stored. The value may be one that the hold
    /// keeps, which is good if the source fails.
    Held(Option<Carried<S>>),
    /// Another version of the program wrote it just now: what is loaded here goes into near alone.
    LeftAlone,
    /// What is there could not be judged, and so nothing may take its place.
    Unknown,
}

/// What is to be said of a record that is a miss.
pub(super) enum Remark {
    /// It is not a value of this source.
    Foreign { cause: &'static str, why: String },
    /// It has another shape of the type.
    OtherShape,
    /// It was made so far in the future.
    Clocks(Duration),
}

impl<'a, S: Source> Rules<'a, S> {
    pub(super) fn new(source: &'a Registered<S>, lane: Lane, stamps: &'a Stamps, incarnation: u64) -> Self {
        Self { source, lane, scales: Scales { stamps, folded: stamps.folded(S::TAGS), incarnation } }
    }

    /// Looks at a record. `now` is looked at again where the record is newer.
    pub(super) fn verdict(&self, record: &Bytes, now: &mut Now) -> Verdict<S> {
        let region = &self.source.region;
        let schema = |fields: Fields<'_>| self.source.schema(fields.format());
        let serves = || (region.policy.write_mode == WriteMode::Serve).then(|| region.store_ms());
        match self.scales.weigh(record, schema, serves, now) {
            Worth::Foreign(why) => {
                let (cause, why) = (why.sentence(), why.to_string());
                Verdict::Miss(Footing::Foreign(None), Some(Remark::Foreign { cause, why }))
            }
            Worth::OtherStore(fence) => Verdict::Miss(Footing::Foreign(Some(fence)), None),
            Worth::Lease(fence) => Verdict::Miss(Footing::Lease(fence), None),
            Worth::Held => Verdict::Miss(Footing::Held(None), None),
            Worth::Valued(valued) => self.weigh(valued, now),
        }
    }

    fn weigh(&self, Valued { entry, kept, state }: Valued<'_>, now: &mut Now) -> Verdict<S> {
        let fields = entry.fields();
        let miss = |footing: Footing<S>, remark| {
            // no fence of what a hold keeps is good for anything: the hold stands in its place
            let footing = if kept { Footing::Held(None) } else { footing };
            Verdict::Miss(footing, remark)
        };
        let (unproven, tagged) = match state {
            Soundness::Ahead(ahead) => {
                return miss(Footing::Outdated(fields.fence()), Some(Remark::Clocks(ahead)));
            }
            Soundness::Void(_) => return miss(Footing::Outdated(fields.fence()), None),
            // Good for the version of the program that wrote it. Just written, it is left to that version, which may run
            // beside this one. Later it is replaced, under its own fence: a lease would take it from the others before
            // there is anything in its place. Clocks decide who stores, and nothing else. Whoever wrote to a store of this
            // process alone is gone; and who refreshes says so.
            Soundness::OtherShape(age) => {
                let at_once = self.source.region.is_private() || self.lane == Lane::Refresh;
                let footing = match at_once || age >= LEFT_ALONE_MS {
                    true => Footing::Replaced(fields.fence(), None),
                    false => Footing::LeftAlone,
                };
                return miss(footing, Some(Remark::OtherShape));
            }
            Soundness::Sound { unproven, tagged } => (unproven, tagged || !S::TAGS.is_empty()),
        };
        let (mut known, mut encoded) = (Known::Absent, None);
        let size = u32::try_from(entry.payload().len()).unwrap_or(u32::MAX);
        if fields.kind() != Kind::Absent {
            match self.decode(&entry) {
                Ok((value, bytes)) => (known, encoded) = (Known::Value(value), bytes),
                // sound, and of no use: replaced as an outdated one is
                Err(Undecoded { cause, why }) => {
                    return miss(Footing::Outdated(fields.fence()), Some(Remark::Foreign { cause, why }));
                }
            }
        }
        let age = Aged::of(fields);
        if unproven.is_empty() {
            return self.accept(age, (known, encoded), size, (tagged, kept), *now);
        }
        let tags = unproven.into_iter().map(|(tag, stamp)| (tag.to_owned(), stamp)).collect();
        Verdict::Unproven(Box::new(Unproven { age, known, encoded, size, tags, tagged, kept }))
    }

    /// The value, and its encoding where it is handed on before the hook has changed it.
    fn decode(&self, entry: &EntryRef<'_>) -> Result<(Arc<S::Value>, Option<Arc<Encoded>>), Undecoded> {
        let format = entry.fields().format();
        let raw = codec::unpack(entry.payload(), entry.fields().compressed(), MAX_RAW)
            .map_err(|why| Undecoded { cause: "does not unpack", why: why.to_string() })?;
        let value = self.source.decode(format, &raw)?;
        let encoded = || Arc::new(Encoded { format, payload: raw.into_owned() });
        Ok((value, self.source.hooked().then(encoded)))
    }

    /// What was to be proven, once the stamps of its tags are known; `None`: they could not be read.
    pub(super) fn prove(&self, hit: Unproven<S>, stamps: Option<&Stamps>, now: Now) -> Verdict<S> {
        let Some(stamps) = stamps else { return Verdict::Miss(Footing::Unknown, None) };
        let holds = hit.tags.iter().all(|(tag, stamp)| stamps.tags.get(tag) == Some(&Some(*stamp)));
        match (holds, hit.kept) {
            (true, _) => {
                self.accept(hit.age, (hit.known, hit.encoded), hit.size, (hit.tagged, hit.kept), now)
            }
            (false, true) => Verdict::Miss(Footing::Held(None), None),
            (false, false) => Verdict::Miss(Footing::Outdated(hit.age.fence), None),
        }
    }

    /// Takes what is good: an answer, or something to fall back on.
    fn accept(
        &self,
        age: Aged,
        (known, encoded): Decoded<S>,
        size: u32,
        (tagged, kept): (bool, bool),
        now: Now,
    ) -> Verdict<S> {
        if self.lane == Lane::Refresh {
            // replaced under its own fence; no lease, which would take it from others meanwhile
            let footing = if kept { Footing::Held(None) } else { Footing::Replaced(age.fence, None) };
            return Verdict::Miss(footing, None);
        }
        let policy = &self.source.policy;
        let left_ms = worth::left_ms(age.soft_until_ms, now);
        let fresh = left_ms > 0;
        let due = !fresh || !known.is_absent() && refresh_early(policy.early_refresh, age.cost_us, left_ms);
        let refresh = (due && !kept && self.lane != Lane::Peek).then_some(age.fence);
        let left_ms = left_ms.min(age.soft_ms);
        let mut found = Found { known, encoded, refresh, left_ms, size, tagged, kept };
        match fresh {
            true => Verdict::Fresh(found),
            false if now.unix_ms < age.soft_until_ms.saturating_add(millis(policy.stale)) => {
                Verdict::Stale(found)
            }
            // Past serving while it is refreshed: kept for the case that the source fails. So that it stays there for
            // others in that case, it is replaced under its own fence and not by a lease.
            false => {
                let backup = (!found.known.is_absent()).then(|| found.carried());
                let footing = if kept { Footing::Held(backup) } else { Footing::Replaced(age.fence, backup) };
                Verdict::Miss(footing, None)
            }
        }
    }
}

impl<S: Source> Found<S> {
    /// As others may share it.
    pub(super) fn carried(&mut self) -> Carried<S> {
        match (self.encoded.take(), &self.known) {
            (Some(encoded), _) => Carried::Encoded(encoded),
            (None, Known::Value(value)) => Carried::Live(value.clone()),
            (None, Known::Absent) => Carried::Absent,
        }
    }
}

impl<S: Source> Unproven<S> {
    /// The tags that it stands under, beside those whose stamps were read with it.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(|(tag, _)| tag.as_str())
    }

    /// What stands without a proof.
    pub(super) fn unread(self) -> Footing<S> {
        if self.kept { Footing::Held(None) } else { Footing::Replaced(self.age.fence, None) }
    }
}
