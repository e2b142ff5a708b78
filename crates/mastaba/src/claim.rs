//! The keys of one part on their way: what is known of each, what it may be filled under.
//!
//! This is the typed half of the read path; [`crate::read`] drives it.

mod board;
mod direct;
mod early;
mod elsewhere;
mod fetch;
mod fill;
mod panics;
mod recall;
mod right;
mod settle;
mod sort;

mod turn;
mod verdict;

pub(crate) use self::direct::load_in;
use self::recall::Ask;
use self::right::Storable;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answered, Known, Outcome};
use crate::carried::{Carried, Landed};
use crate::clock::Now;
use crate::coherence::Mark;
use crate::entry::Fence;
use crate::error::{Error, OF_A_KEY};
use crate::flight::{Departure, Seat};
use crate::guarded::{guard, let_go};
use crate::policy::EntryPolicy;
use crate::read::LookingUp;
use crate::region::{Era, Stamps};
use crate::registry::Registered;
use crate::report::{Meter, Outcomes, Tier};
use crate::request::{AnyPart, Bound, Lane, RequestCore, SinkOf};
use crate::source::Source;

/// The keys of one part on their way down the tiers.
///
pub(crate) struct Claim<S: Source> {
    /// Where its answers go. Dropped before that, it gives the keys back to their readers.
    sink: SinkOf<S>,
    /// Set when a load waits for this batch.
    hurry: CancellationToken,
    source: Arc<Registered<S>>,
    request: Arc<RequestCore>,
    meter: Meter,
    lane: Lane,
    nested: bool,
    /// The tick at which the read began.
    begun: u64,
    now: Now,
    /// What near compares with, as of before the shared tier was read.
    era: Era,
    /// The stamps that came with the read.
    read: Option<Stamps>,
    /// The stamps that a fill carries: read before the load (`R12`).
    carry: Option<Stamps>,
    /// The store's incarnation as of the leases (`R11`).
    incarnation: u64,
    /// The store's incarnation before the shared tier was read: what goes without a lease is stored in no other one.
    incarnation_read: u64,
    /// The shared tier answers, as far as is known.
    ready: bool,
    /// The shared tier was asked and did not answer: what is loaded, the outage adds.
    outage: bool,
    /// The keys that are looked up: all at first, and those that were found once it is known which were not.
    asks: Vec<Ask<S>>,
    /// How many of them have no answer.
    open: usize,
    /// The keys that no tier had.
    items: Vec<Item<S>>,
    /// The places in the part of the same key asked again, each behind the first one's.
    twins: Vec<(usize, usize)>,
    /// Which `asks` the shared tier is being asked for, in order.
    asking: SmallVec<[usize; 4]>,
    /// The items whose leases were asked for, in order.
    leasing: Vec<usize>,
    /// The items that were given to the shared tier to store, in order.
    filling: Vec<usize>,
    /// The places of keys that panicked before they became items.
    broken: Vec<(usize, Error)>,
    /// Our own flights, with the items that they carry.
    departures: Vec<(Departure<S::Key, Landed<S>>, Vec<usize>)>,
    /// How many of them have landed.
    landed: usize,
    outcomes: Outcomes,
    /// When its load has taken longer than the soft budget: what is known is then answered before the rest.
    late: Option<Instant>,
}

/// A miss.
struct Item<S: Source> {
    key: S::Key,
    /// Its place in the part.
    at: usize,
    /// Its key in the shared tier.
    record: Bytes,
    /// What near had seen of the key before the shared tier was read (`R13`).
    seen: u64,
    /// How many changes of the key had been reported before then.
    mark: Mark,
    answer: Option<Outcome<S::Value>>,
    /// Its readers were answered while the load of the claim went on.
    early: AtomicBool,
    /// What stands under its key in the shared tier, and so whether it may be stored.
    storable: Storable,
    /// The lease of another process that loads it just now, while its fill is waited for (`R3`).
    elsewhere: Option<Fence>,
    /// It has queued behind a load that was not for this read, for the key had been voided: it mostly was again since.
    waited: bool,
    /// As new as this read: what a load makes of it may be stored (`R6`).
    sound: bool,
    /// Served if the source fails, or is slow.
    backup: Option<Carried<S>>,
    /// Answered, and to be loaded anew in the background under this fence.
    refresh: Option<Fence>,
    way: Way<S>,
    /// What the shared tier had, for those who joined our flight.
    found: Option<Carried<S>>,
    /// Boxed: a hit has none, and items are moved about.
    loaded: Option<Box<Loaded<S>>>,
    /// Given to the shared tier already, while others of the claim were waited for; and whether it was stored.
    stored: Option<bool>,
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

/// What our own load brought for a key, until it is stored.
struct Loaded<S: Source> {
    carried: Carried<S>,
    policy: EntryPolicy,
    cost: Duration,
    tags: Tags,
}

/// The tags of one loaded value, beside those of its source.
enum Tags {
    /// Not named yet; and if naming them panicked, they never are. Nothing else says what voids the value, so without
    /// them it is stored nowhere.
    Unknown,
    Named(Vec<String>),
}

impl Tags {
    /// Whether there are none, as far as is known.
    fn are_none(&self) -> bool {
        matches!(self, Self::Named(tags) if tags.is_empty())
    }
}

impl<S: Source> Claim<S> {
    pub(crate) fn new(bound: Bound<S>, request: Arc<RequestCore>, hurry: CancellationToken) -> Self {
        let Bound { sink, source, lane, nested, keys } = bound;
        let begun = sink.begun();
        let mut claim = Self::empty(&source, sink, request, lane, begun, hurry);
        claim.nested = nested;
        let records = claim.encoded(keys.iter().filter_map(Option::as_ref));
        claim.asks.reserve(keys.len());
        // where readers do not see each other's keys on their way, two of them may have given the same one
        let mut met: HashMap<S::Key, usize, foldhash::fast::RandomState> = HashMap::default();
        let keys = keys.into_iter().enumerate().filter_map(|(at, key)| Some((at, key?)));
        let mut pairs = keys.zip(records);
        let mut place = 0;
        while let Err(why) = guard(|| {
            for ((at, key), record) in pairs.by_ref() {
                place = at;
                claim.admit(at, key, record, &mut met);
            }
        }) {
            claim.broken.push((place, Error::panicked(S::name(), OF_A_KEY, &why)));
        }
        let_go(met);
        claim
    }

    /// Takes a key in, or notes that it is there already.
    fn admit(
        &mut self,
        at: usize,
        key: S::Key,
        record: Result<Bytes, Error>,
        met: &mut HashMap<S::Key, usize, foldhash::fast::RandomState>,
    ) {
        let mut copy = None;
        if !self.lane.shows() {
            if let Some(first) = met.get(&key) {
                self.twins.push((*first, at));
                return;
            }
            copy = Some(key.clone());
        }
        let (record, failed) = match record {
            Ok(record) => (record, None),
            Err(error) => (Bytes::new(), Some(error)),
        };
        // near alone compares these with later ones
        let (mut seen, mut mark) = (0, Mark::default());
        if let Some(near) = &self.source.near {
            seen = near.seen(&key);
            if failed.is_none() {
                mark = self.source.region.changes.mark(&record);
            }
        }
        // the last that may panic: who is in one of the two is in both
        if let Some(copy) = copy {
            met.insert(copy, at);
        }
        self.asks.push(Ask::new(key, at, record, seen, mark));
        self.open += 1;
        if let Some(error) = failed {
            self.answer(self.asks.len() - 1, Outcome::Failed(error));
        }
    }

    fn empty(
        source: &Arc<Registered<S>>,
        sink: SinkOf<S>,
        request: Arc<RequestCore>,
        lane: Lane,
        begun: u64,
        hurry: CancellationToken,
    ) -> Self {
        Self {
            sink,
            meter: Meter::new(request.clone(), lane != Lane::Background),
            request,
            lane,
            nested: false,
            begun,
            now: Now::look(),
            era: source.region.era(),
            read: None,
            carry: None,
            incarnation: source.region.incarnation(),
            incarnation_read: source.region.incarnation(),
            hurry,
            ready: source.region.stores(),
            outage: false,
            asks: Vec::new(),
            open: 0,
            items: Vec::new(),
            twins: Vec::new(),
            asking: SmallVec::new(),
            leasing: Vec::new(),
            filling: Vec::new(),
            broken: Vec::new(),
            departures: Vec::new(),
            landed: 0,
            outcomes: Outcomes { source: S::name(), ..Outcomes::default() },
            late: None,
            source: source.clone(),
        }
    }

    /// The keys of the shared tier, all in one buffer; a key that cannot be written fails alone.
    fn encoded<'k>(&self, keys: impl Iterator<Item = &'k S::Key> + Clone) -> Vec<Result<Bytes, Error>>
    where
        S::Key: 'k,
    {
        if !self.source.is_stored() {
            return keys.map(|_| Ok(Bytes::new())).collect();
        }
        match self.source.keys.encode_all(keys.clone()) {
            Ok(records) => records.into_iter().map(Ok).collect(),
            Err(_) => keys
                .map(|key| {
                    let mut records = self.source.keys.encode_all(std::iter::once(key))?;
                    Ok(records.pop().unwrap_or_default())
                })
                .collect(),
        }
    }

    /// Answers from what a tier below carried.
    fn take(&mut self, at: usize, landed: Landed<S>) -> bool {
        self.items[at].answer = match landed {
            Landed::Found(carried) => match self.unpack(&carried) {
                Some(known) => Some(Outcome::of(known, false, Tier::Source)),
                None => return false,
            },
            Landed::Failed(error) => Some(self.failed(at, error)),
            Landed::Lost => return false,
        };
        true
    }

    fn failed(&self, at: usize, error: Error) -> Outcome<S::Value> {
        self.fallback(at).unwrap_or(Outcome::Failed(error))
    }

    /// What the shared tier has of a key for the case that the source fails.
    fn fallback(&self, at: usize) -> Option<Outcome<S::Value>> {
        let known = self.unpack(self.items[at].backup.as_ref()?)?;
        Some(Outcome::of(known, true, Tier::Shared))
    }

    /// A value that others may have as well; one of its own, where a hook changes it for each request.
    fn unpack(&self, carried: &Carried<S>) -> Option<Known<S::Value>> {
        match carried {
            Carried::Live(value) => Some(Known::Value(value.clone())),
            Carried::Encoded(encoded) => {
                self.source.decode(encoded.format, &encoded.payload).ok().map(Known::Value)
            }
            Carried::Absent => Some(Known::Absent),
        }
    }

    /// How many keys it has, found or missed.
    fn keys(&self) -> usize {
        self.asks.len() + self.items.len()
    }

    fn unanswered(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|at| self.items[*at].answer.is_none()).collect()
    }
}

impl<S: Source> Item<S> {
    fn new(key: S::Key, at: usize, record: Bytes, seen: u64, mark: Mark) -> Self {
        Self {
            key,
            at,
            record,
            seen,
            mark,
            answer: None,
            early: AtomicBool::new(false),
            storable: Storable::Nothing,
            elsewhere: None,
            waited: false,
            sound: true,
            backup: None,
            refresh: None,
            way: Way::Open,
            found: None,
            loaded: None,
            stored: None,
        }
    }
}

impl<S: Source> AnyPart for Bound<S> {
    fn id(&self) -> u64 {
        self.sink.id
    }

    fn set_nested(&mut self) {
        self.nested = true;
    }

    fn sleepers(&self, into: &mut Vec<Waker>) {
        self.sink.sleepers(into);
    }

    fn send(&mut self, begun: u64, hurry: &CancellationToken) {
        self.keys = self.sink.send(begun, hurry);
    }

    fn claim(
        self: Box<Self>,
        request: &Arc<RequestCore>,
        hurry: &CancellationToken,
    ) -> Option<Box<dyn LookingUp>> {
        if self.keys.iter().all(Option::is_none) {
            return None;
        }
        Some(Box::new(Claim::new(*self, request.clone(), hurry.clone())))
    }

    fn fail(&mut self, error: &Error) {
        let keys = self.sink.send(0, &CancellationToken::new());
        // nobody waits any longer for those that were not sent
        let count = keys.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let error = error.named(S::name());
        let failed = || Some(Answered { outcome: Outcome::Failed(error.clone()), sound: false });
        self.sink.settle(std::iter::repeat_with(failed).take(count).collect());
    }
}
