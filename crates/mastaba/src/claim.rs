//! The keys of one part on their way: what is known of each, what it may be filled under.
//!
//! This is the typed half of the read path; [`crate::read`] drives it.

mod fetch;
mod fill;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::timeout;

use crate::answer::Outcome;
use crate::batch::Part;
use crate::clock;
use crate::codec;
use crate::entry::{self, EntryRef, Fence, Format, Header, Kind};
use crate::error::Error;
use crate::event::Event;
use crate::flight::{Boarding, Departure, Late, Seat};
use crate::near::NearEntry;
use crate::policy::{EntryPolicy, refresh_early};
use crate::read::{AnyClaim, Bound};
use crate::region::{Era, RegionCore, Stamps};
use crate::registry::Registered;
use crate::report::{Outcomes, Tier};
use crate::request::{Cell, Lane, Memo, Meter, RequestCore, Slot, outcome};
use crate::shared::{Fill, Lease, Leased};
use crate::source::Source;
use crate::sync::lock;

/// The largest payload that is unpacked.
const MAX_RAW: usize = 64 << 20;

/// A value as readers share it.
pub(crate) enum Carried<S: Source> {
    /// The value itself.
    Live(Arc<S::Value>),
    /// Its encoding: the source has a hook that changes the value for each request.
    Packed(Arc<Packed>),
}

impl<S: Source> Clone for Carried<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Live(value) => Self::Live(value.clone()),
            Self::Packed(packed) => Self::Packed(packed.clone()),
        }
    }
}

impl<S: Source> Carried<S> {
    /// The value, where it is shared as such.
    pub(crate) fn live(self) -> Option<Arc<S::Value>> {
        match self {
            Self::Live(value) => Some(value),
            Self::Packed(_) => None,
        }
    }
}

/// An encoded value, not compressed.
pub(crate) struct Packed {
    pub(crate) format: Format,
    pub(crate) payload: Vec<u8>,
}

/// What a flight brings for a key.
pub(crate) enum Landed<S: Source> {
    Value(Carried<S>),
    Absent,
    Failed(Error),
    /// It cannot be shared: whoever joined loads for himself.
    Lost,
}

impl<S: Source> Clone for Landed<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Value(carried) => Self::Value(carried.clone()),
            Self::Absent => Self::Absent,
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Lost => Self::Lost,
        }
    }
}

/// The keys of one part on their way down the tiers.
///
/// Dropping a `Claim` before it is settled gives its keys back: readers claim them anew.
pub(crate) struct Claim<S: Source> {
    part: Arc<Part<S::Key, Outcome<S::Value>>>,
    source: Arc<Registered<S>>,
    request: Arc<RequestCore>,
    meter: Meter,
    lane: Lane,
    nested: bool,
    /// The tick at which the read began.
    begun: u64,
    now_ms: u64,
    /// What near compares with, as of before the shared tier was read.
    era: Era,
    /// The stamps that came with the read.
    read: Option<Stamps>,
    /// The stamps that a fill carries: read before the load (`R12`).
    carry: Option<Stamps>,
    /// The shared tier answers, as far as is known.
    ready: bool,
    items: Vec<Item<S>>,
    /// The items whose leases were asked for, in order.
    leasing: Vec<usize>,
    /// The items that were given to the shared tier to store, in order.
    filling: Vec<usize>,
    /// Our own flights, with the items that they carry.
    departures: Vec<(Departure<S::Key, Landed<S>>, Vec<usize>)>,
    /// How many of them have landed.
    landed: usize,
    outcomes: Outcomes,
    settled: bool,
}

struct Item<S: Source> {
    key: S::Key,
    /// Its place in the part, and those of the same key asked again.
    at: Vec<usize>,
    /// Its key in the shared tier.
    record: Bytes,
    /// What near had seen of the key before the shared tier was read (`R13`).
    seen: u64,
    answer: Option<Outcome<S::Value>>,
    /// Found, and under tags whose stamps are still to be read.
    hit: Option<Hit<S>>,
    /// What a fill has to meet (`R1`).
    fence: Option<Fence>,
    /// The fence of a record that may be replaced by a lease.
    over: Option<Fence>,
    /// Not to be stored, whatever is loaded.
    sealed: bool,
    /// Under a hold: to be loaded from the writer.
    held: bool,
    /// Served if the source fails.
    backup: Option<Arc<S::Value>>,
    /// Answered, and to be loaded anew in the background under this fence.
    refresh: Option<Fence>,
    way: Way<S>,
    loaded: Option<Loaded<S>>,
}

/// How an unanswered key gets its value.
enum Way<S: Source> {
    /// Not decided.
    Open,
    /// In our own flight.
    Own,
    /// Loaded by ourselves, outside of any flight.
    Alone,
    /// In a flight of another reader.
    Joined(Seat<Landed<S>>),
    /// After a flight of another reader.
    Queued(Seat<Landed<S>>),
}

/// A record of the shared tier that is as good as its tags.
struct Hit<S: Source> {
    header: Header,
    value: Option<S::Value>,
    tags: Vec<(String, u64)>,
    payload: Option<Packed>,
    size: u32,
}

/// What our own load brought for a key, until it is stored.
struct Loaded<S: Source> {
    carried: Option<Carried<S>>,
    policy: EntryPolicy,
    cost: Duration,
    tags: Vec<String>,
}

impl<S: Source> Claim<S> {
    pub(crate) fn new(bound: &Bound<S>, request: Arc<RequestCore>, keys: Vec<(usize, S::Key)>) -> Self {
        let begun = bound.part.begun();
        let mut claim = Self::empty(&bound.source, bound.part.clone(), request, bound.lane, begun);
        claim.nested = bound.nested;
        let records = claim.records(keys.iter().map(|(_, key)| key));
        claim.items.reserve(keys.len());
        // where readers do not see each other's keys on their way, two of them may have given the same one
        let mut twins: HashMap<S::Key, usize, foldhash::fast::RandomState> = HashMap::default();
        for ((at, key), record) in keys.into_iter().zip(records) {
            if !bound.lane.shows() {
                let next = claim.items.len();
                let first = *twins.entry(key.clone()).or_insert(next);
                if first < next {
                    claim.items[first].at.push(at);
                    continue;
                }
            }
            let mut item = claim.item(key, vec![at]);
            match record {
                Ok(record) => item.record = record,
                Err(error) => item.answer = Some(Outcome::Failed(error)),
            }
            claim.items.push(item);
        }
        claim
    }

    fn empty(
        source: &Arc<Registered<S>>,
        part: Arc<Part<S::Key, Outcome<S::Value>>>,
        request: Arc<RequestCore>,
        lane: Lane,
        begun: u64,
    ) -> Self {
        Self {
            part,
            meter: Meter::new(request.clone(), lane != Lane::Background),
            request,
            lane,
            nested: false,
            begun,
            now_ms: clock::now_ms(),
            era: source.region.era(),
            read: None,
            carry: None,
            ready: source.region.stores(),
            items: Vec::new(),
            leasing: Vec::new(),
            filling: Vec::new(),
            departures: Vec::new(),
            landed: 0,
            outcomes: Outcomes { source: S::NAME, ..Outcomes::default() },
            settled: false,
            source: source.clone(),
        }
    }

    fn item(&self, key: S::Key, at: Vec<usize>) -> Item<S> {
        Item {
            seen: self.source.near.as_ref().map_or(0, |near| near.seen(&key)),
            key,
            at,
            record: Bytes::new(),
            answer: None,
            hit: None,
            fence: None,
            over: None,
            sealed: false,
            held: false,
            backup: None,
            refresh: None,
            way: Way::Open,
            loaded: None,
        }
    }

    /// The keys of the shared tier, all in one buffer; a key that cannot be written fails alone.
    fn records<'k>(&self, keys: impl Iterator<Item = &'k S::Key> + Clone) -> Vec<Result<Bytes, Error>>
    where
        S::Key: 'k,
    {
        if !self.source.region.stores() {
            return keys.map(|_| Ok(Bytes::new())).collect();
        }
        match self.source.keys.encode_all(keys.clone()) {
            Ok(records) => records.into_iter().map(Ok).collect(),
            Err(_) => keys
                .map(|key| match self.source.keys.encode_all(std::iter::once(key)) {
                    Ok(mut records) => Ok(records.pop().unwrap_or_default()),
                    Err(sentence) => Err(Error::usage(sentence)),
                })
                .collect(),
        }
    }

    /// Looks at a record of the shared tier.
    fn judge(&mut self, at: usize, record: &Bytes, stamps: &Stamps) {
        let region = self.source.region.clone();
        let entry = match EntryRef::read(record) {
            Ok(entry) => entry,
            Err(why) => return self.foreign(at, why.to_string()),
        };
        let header = *entry.header();
        if header.incarnation != region.incarnation() {
            // R11: of a store that lost or brought back records
            self.items[at].over = Some(header.fence);
            return;
        }
        match header.kind {
            // who holds the lease loads now, and is slow or gone: load under the same fence (R3)
            Kind::Lease => self.items[at].fence = Some(header.fence),
            Kind::Hold => {
                self.items[at].sealed = true;
                self.items[at].held = true;
            }
            Kind::Value | Kind::Absent => self.weigh(at, &entry, header, stamps),
        }
    }

    fn weigh(&mut self, at: usize, entry: &EntryRef<'_>, header: Header, stamps: &Stamps) {
        let age = self.now_ms.saturating_sub(header.created_ms);
        let schema = header.schema == self.source.codec.schema();
        if !schema && header.created_ms > self.request.cache.started_ms {
            // written by a program that runs beside this one, with another shape: leave it to that one
            self.items[at].sealed = true;
            return;
        }
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
        if !schema || !current || !known || expired || fixed < S::TAGS.len() {
            self.items[at].over = Some(header.fence);
            return;
        }
        let (mut value, mut payload) = (None, None);
        let size = u32::try_from(entry.payload().len()).unwrap_or(u32::MAX);
        if !absent {
            let raw = codec::unpack(entry.payload(), header.compressed, header.raw_len, MAX_RAW);
            let decoded = raw.and_then(|raw| {
                let value = self.source.codec.decode(header.format, &raw)?;
                let keep = self.source.near.is_some() && self.source.hooked();
                Ok((value, keep.then(|| Packed { format: header.format, payload: raw.into_owned() })))
            });
            match decoded {
                Ok((decoded, packed)) => (value, payload) = (Some(decoded), packed),
                Err(why) => return self.foreign(at, why.to_string()),
            }
        }
        self.items[at].hit = Some(Hit { header, value, tags, payload, size });
    }

    /// Bytes that are no entry of this source count as a miss, and may be replaced.
    fn foreign(&mut self, at: usize, why: String) {
        let key = String::from_utf8_lossy(&self.items[at].record).into_owned();
        self.request.cache.events.tell(Event::ForeignRecord { source: S::NAME, key, why });
    }

    /// Takes a hit whose tags hold: an answer, or something to fall back on.
    fn accept(&mut self, at: usize, hit: Hit<S>) {
        let policy = &self.source.policy;
        let header = hit.header;
        let item = &mut self.items[at];
        let soft = header.created_ms.saturating_add(header.soft_ms);
        let value = hit.value.map(Arc::new);
        if self.lane == Lane::Refresh {
            // replaced under its own fence; no lease, which would take it from others meanwhile
            item.fence = Some(header.fence);
            return;
        }
        if self.now_ms < soft {
            let left = Duration::from_millis(soft - self.now_ms);
            let cost = Duration::from_micros(header.cost_us.into());
            if value.is_some() && refresh_early(policy.early_refresh, cost, left) {
                item.refresh = Some(header.fence);
            }
            if let Some(near) = &self.source.near {
                let carried = match hit.payload {
                    Some(packed) => Some(Carried::Packed(Arc::new(packed))),
                    None => value.clone().map(Carried::Live),
                };
                let tagged = !hit.tags.is_empty() || !S::TAGS.is_empty();
                let entry =
                    NearEntry { value: carried, until_ms: soft, era: self.era, tagged, size: hit.size };
                near.insert(item.key.clone(), self.source.near_entry(entry, self.now_ms), item.seen);
            }
            item.answer = Some(outcome(value, false, Tier::Shared));
        } else if self.now_ms < soft.saturating_add(millis(policy.stale)) {
            item.refresh = Some(header.fence);
            item.answer = Some(outcome(value, true, Tier::Shared));
        } else {
            // past serving while it is refreshed: kept for the case that the source fails, and so that it
            // stays there for others in that case, it is replaced under its own fence and not by a lease
            item.fence = Some(header.fence);
            item.backup = value;
        }
    }

    /// Answers from what a tier below carried.
    fn take(&mut self, at: usize, landed: Landed<S>) -> bool {
        self.items[at].answer = match landed {
            Landed::Value(Carried::Live(value)) => Some(outcome(Some(value), false, Tier::Source)),
            Landed::Value(Carried::Packed(packed)) => {
                match self.source.codec.decode(packed.format, &packed.payload) {
                    Ok(value) => Some(outcome(Some(Arc::new(value)), false, Tier::Source)),
                    Err(_) => return false,
                }
            }
            Landed::Absent => Some(outcome(None, false, Tier::Source)),
            Landed::Failed(error) => Some(self.failed(at, error)),
            Landed::Lost => return false,
        };
        true
    }

    fn failed(&self, at: usize, error: Error) -> Outcome<S::Value> {
        match &self.items[at].backup {
            Some(value) => Outcome::Stale { value: value.clone(), tier: Tier::Shared },
            None => Outcome::Failed(error),
        }
    }

    fn open(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|at| self.items[*at].answer.is_none()).collect()
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<S: Source> AnyClaim for Claim<S> {
    fn region(&self) -> &Arc<RegionCore> {
        &self.source.region
    }

    fn recall_near(&mut self) {
        let source = self.source.clone();
        let Some(near) = &source.near else { return };
        if !self.lane.asks_near() || !source.hooked() {
            return; // or asked already, when the keys were claimed
        }
        for item in self.items.iter_mut().filter(|item| item.answer.is_none()) {
            let Some(found) = near.get(&item.key, self.era, self.now_ms) else { continue };
            let value = match found {
                None => None,
                Some(Carried::Live(value)) => Some(value),
                Some(Carried::Packed(packed)) => match source.codec.decode(packed.format, &packed.payload) {
                    Ok(value) => Some(Arc::new(value)),
                    Err(_) => continue,
                },
            };
            item.answer = Some(outcome(value, false, Tier::Near));
        }
    }

    fn tags(&self) -> &'static [&'static str] {
        S::TAGS
    }

    fn wanted(&mut self) -> Vec<Bytes> {
        if !self.lane.asks_shared() || !self.source.region.stores() {
            return Vec::new();
        }
        self.items.iter().filter(|item| item.answer.is_none()).map(|item| item.record.clone()).collect()
    }

    fn recall(&mut self, found: Option<(&[Option<Bytes>], &Stamps)>) {
        let Some((records, stamps)) = found else { return };
        self.read = Some(stamps.clone());
        for (at, record) in self.open().into_iter().zip(records) {
            if let Some(record) = record {
                self.judge(at, record, stamps);
            }
        }
    }

    fn unproven(&self) -> Vec<String> {
        let hits = self.items.iter().filter_map(|item| item.hit.as_ref());
        hits.flat_map(|hit| hit.tags.iter().map(|(tag, _)| tag.clone())).collect()
    }

    fn prove(&mut self, stamps: Option<&Stamps>) {
        for at in 0..self.items.len() {
            let Some(hit) = self.items[at].hit.take() else { continue };
            let holds = hit.tags.iter().all(|(tag, stamp)| {
                stamps.and_then(|stamps| stamps.tags.get(tag)).is_some_and(|now| *now == Some(*stamp))
            });
            if holds {
                self.accept(at, hit);
            } else if stamps.is_some() {
                self.items[at].over = Some(hit.header.fence);
            } else {
                self.items[at].sealed = true;
            }
        }
    }

    fn board(&mut self, ready: bool) -> Option<Vec<Lease>> {
        self.leasing.clear();
        self.ready &= ready;
        let open = self.open();
        if open.is_empty() || self.lane == Lane::Peek {
            return None;
        }
        if !self.lane.fills() {
            for at in open {
                self.items[at].way = Way::Alone;
                self.items[at].sealed = true;
            }
            return None;
        }
        let source = self.source.clone();
        let board: Vec<_> =
            open.into_iter().filter(|at| !matches!(self.items[*at].way, Way::Alone)).collect();
        let keys: Vec<_> = board.iter().map(|at| &self.items[*at].key).collect();
        let (boarded, departure) = source.flights.board(&keys);
        let mut own = Vec::new();
        for (at, boarding) in board.into_iter().zip(boarded) {
            self.items[at].way = match boarding {
                Boarding::Own => {
                    own.push(at);
                    Way::Own
                }
                Boarding::Joined(seat) => Way::Joined(seat),
                Boarding::Queued(seat) => Way::Queued(seat),
            };
        }
        if self.lane == Lane::Background {
            // somebody loads it already
            self.items.retain(|item| matches!(item.way, Way::Own));
            own = (0..self.items.len()).collect();
        }
        let departure = departure?;
        // the load reads after this, and so does the lease that may bring a value (R4, R5)
        departure.sent(self.request.cache.tick());
        self.departures.push((departure, own.clone()));
        if !self.ready {
            own.iter().for_each(|at| self.items[*at].sealed = true);
            return None;
        }
        let ttl = self.source.policy.lease_ttl;
        let incarnation = self.source.region.incarnation();
        let mut leases = Vec::new();
        for at in own {
            let item = &mut self.items[at];
            if item.sealed || item.fence.is_some() {
                continue;
            }
            let header = Header::new(Kind::Lease, Fence::random(), incarnation);
            item.fence = Some(header.fence);
            let record = Bytes::from(entry::write(&header, &[], &[], &[]));
            leases.push(Lease { key: item.record.clone(), record, over: item.over, ttl });
            self.leasing.push(at);
        }
        if leases.is_empty() && self.read.is_some() && !self.source.tagged.load(Ordering::Relaxed) {
            // every fence is known, and the stamps were read with it
            self.carry.clone_from(&self.read);
            return None;
        }
        Some(leases)
    }

    fn leased(&mut self, leased: Option<(&[Leased], &Stamps)>) {
        let leasing = std::mem::take(&mut self.leasing);
        let Some((leased, stamps)) = leased else {
            self.items.iter_mut().for_each(|item| item.sealed = true);
            return;
        };
        self.carry = Some(stamps.clone());
        for (at, leased) in leasing.into_iter().zip(leased) {
            let Leased::Found(record) = leased else { continue };
            self.items[at].fence = None;
            self.items[at].over = None;
            self.judge(at, record, stamps);
            let item = &mut self.items[at];
            match item.hit.take() {
                Some(hit) if hit.tags.is_empty() => self.accept(at, hit),
                Some(hit) => item.fence = Some(hit.header.fence),
                None => item.fence = item.fence.or(item.over),
            }
        }
    }

    fn waits(&self) -> bool {
        self.lane != Lane::Peek && self.items.iter().any(|item| item.answer.is_none())
    }

    fn load(&mut self) -> BoxFuture<'_, ()> {
        async move {
            while self.waits() {
                self.load_once().await;
                if !self.waits() {
                    break;
                }
                let (region, meter, ready) = (self.source.region.clone(), self.meter.clone(), self.ready);
                crate::read::lease(&region, &mut [&mut *self], ready, &meter).await;
            }
        }
        .boxed()
    }

    fn enter(&mut self) -> BoxFuture<'_, ()> {
        if self.source.hooked() && self.lane != Lane::Background {
            self.run_hook().boxed()
        } else {
            std::future::ready(()).boxed()
        }
    }

    fn settle(&mut self) {
        // a flight with nothing left to load: its leases found it all
        self.land(&[]);
        self.settled = true;
        if self.lane == Lane::Background {
            return;
        }
        let mut answers = Vec::with_capacity(self.items.len());
        {
            let mut state = lock(&self.request.state);
            let state = &mut *state;
            state.waits.retain(|(_, on)| *on != self.part.id);
            let Ok(at) = self.request.slot::<S>(state) else { return };
            let wide = state.wide_writes > 0;
            let slot = Slot::<S>::of(&mut state.slots[at].1);
            for item in &self.items {
                let answer = item.answer.clone();
                count(&mut self.outcomes, answer.as_ref());
                remember(slot, self.lane, wide, &item.key, self.part.id, self.begun, answer.as_ref());
                if let Some(answer) = answer {
                    answers.extend(item.at.iter().map(|at| (*at, answer.clone())));
                }
            }
            add(&mut slot.outcomes, &self.outcomes);
        }
        self.part.settle(answers);
    }

    fn untagged(&mut self) -> Vec<String> {
        self.name_tags()
    }

    fn fills(&mut self, tags: Option<&Stamps>) -> Vec<Fill> {
        self.make_fills(tags)
    }

    fn filled(&mut self, stored: &[bool]) {
        self.confirm(stored);
    }

    fn refreshes(&mut self) -> Option<Box<dyn AnyClaim>> {
        let due: Vec<_> = self.items.iter().filter(|item| item.refresh.is_some()).collect();
        if due.is_empty() {
            return None;
        }
        let cache = &self.request.cache;
        let part = Part::new(0);
        let mut claim = Self::empty(&self.source, part, self.request.clone(), Lane::Background, cache.tick());
        for item in due {
            let mut again = claim.item(item.key.clone(), Vec::new());
            again.record.clone_from(&item.record);
            again.fence = item.refresh;
            claim.items.push(again);
        }
        Some(Box::new(claim))
    }

    fn patience(&self) -> Duration {
        self.source.policy.source_soft_budget
    }
}

/// Tells tier 1 what became of a key, unless it has forgotten that it asked.
fn remember<S: Source>(
    slot: &mut Slot<S>,
    lane: Lane,
    wide: bool,
    key: &S::Key,
    part: u64,
    begun: u64,
    answer: Option<&Outcome<S::Value>>,
) {
    let known = match answer {
        Some(Outcome::Value { value, .. }) => Some((Some(value.clone()), false)),
        Some(Outcome::Stale { value, .. }) => Some((Some(value.clone()), true)),
        Some(Outcome::Absent { .. }) => Some((None, false)),
        Some(Outcome::Failed(_)) | None => None,
    };
    let ours = slot.is_coming(key, part);
    let written = wide || slot.written.contains(key);
    match known {
        // a forced read replaces what is known, but not what the request wrote meanwhile
        Some((value, stale))
            if ours
                || (!lane.remembers() && !written)
                || (lane == Lane::Peek && !slot.cells.contains_key(key)) =>
        {
            slot.cells.insert(key.clone(), Cell { call: 0, memo: Memo::Known { value, stale, begun } });
        }
        // a failure is not remembered
        None if ours => {
            slot.cells.remove(key);
        }
        _ => {}
    }
}

fn count<V>(outcomes: &mut Outcomes, answer: Option<&Outcome<V>>) {
    let Some(answer) = answer else { return };
    match answer.tier() {
        None => outcomes.failed += 1,
        Some(Tier::Near) => outcomes.near_hits += 1,
        Some(Tier::Shared) => outcomes.shared_hits += 1,
        Some(_) => outcomes.loaded += 1,
    }
    outcomes.absent += u64::from(answer.is_absent());
    outcomes.stale += u64::from(answer.is_stale());
}

fn add(to: &mut Outcomes, more: &Outcomes) {
    to.near_hits += more.near_hits;
    to.shared_hits += more.shared_hits;
    to.loaded += more.loaded;
    to.joined += more.joined;
    to.absent += more.absent;
    to.stale += more.stale;
    to.failed += more.failed;
}

impl<S: Source> Drop for Claim<S> {
    fn drop(&mut self) {
        if self.settled || self.lane == Lane::Background {
            return;
        }
        let mut state = lock(&self.request.state);
        if let Ok(at) = self.request.slot::<S>(&mut state) {
            let slot = Slot::<S>::of(&mut state.slots[at].1);
            self.items.iter().for_each(|item| slot.give_back(&item.key, self.part.id));
        }
        drop(state);
        self.part.settle([]);
    }
}
