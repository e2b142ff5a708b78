//! What a request knows of one source.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::Force;
use crate::answer::{Answered, Known};
use crate::batch::{Part, Sink};
use crate::cache::CacheCore;
use crate::clock::Now;
use crate::guarded::{guard, let_go};
use crate::registry::Registered;
use crate::report::Outcomes;
use crate::source::Source;

pub(crate) type PartOf<S> = Part<<S as Source>::Key, Answered<<S as Source>::Value>>;

pub(crate) type SinkOf<S> = Sink<<S as Source>::Key, Answered<<S as Source>::Value>>;

/// A part that gathers, bound to its source. Where the task that was to carry it never runs, it is dropped with its sink.
pub(crate) struct Bound<S: Source> {
    pub(crate) sink: SinkOf<S>,
    pub(crate) source: Arc<Registered<S>>,
    pub(crate) lane: Lane,
    /// A loader waits for one of its keys.
    pub(crate) nested: bool,
    /// The keys, once sent: each at its place in the part.
    pub(crate) keys: Vec<Option<S::Key>>,
}

/// The map of one source, and the parts that gather for it.
pub(crate) struct Slot<S: Source> {
    pub(crate) source: Arc<Registered<S>>,
    pub(crate) cells: HashMap<S::Key, Cell<S>, foldhash::fast::RandomState>,
    /// The tick at which it last forgot something: reads from before have no way back in.
    pub(crate) forgotten: u64,
    /// Keys that this request has written: not joined, not filled, loaded from the writer.
    pub(crate) written: HashSet<S::Key, foldhash::fast::RandomState>,
    pub(crate) outcomes: Outcomes,
    /// The parts that gather, one for each mode of reading, and those on their way.
    pub(super) parts: SmallVec<[Travelling<S>; 1]>,
}

/// The keys of one call that go into one part: they are added to it together, when this is dropped, which is at the end of the
/// call also if that panics. Before, the request knows of places that the part does not have.
pub(super) struct Joining<S: Source> {
    lane: Lane,
    part: Arc<PartOf<S>>,
    /// The place of the first of them in the part. It stays so, for nobody adds keys without the lock of the request.
    first: usize,
    /// None for one that panicked.
    keys: SmallVec<[Option<S::Key>; 1]>,
}

/// Of one mode of reading, mostly.
pub(super) type JoiningParts<S> = SmallVec<[Joining<S>; 1]>;

impl<S: Source> Drop for Joining<S> {
    fn drop(&mut self) {
        let gathers = self.part.want(std::mem::take(&mut self.keys));
        debug_assert!(gathers, "a part of this turn gathers");
    }
}

/// A part that gathers in one mode of reading, or is on its way.
pub(super) struct Travelling<S: Source> {
    lane: Lane,
    /// The turn that it gathers for.
    turn: u64,
    part: Arc<PartOf<S>>,
}

pub(crate) struct Cell<S: Source> {
    /// The last call that asked for it.
    pub(crate) call: u32,
    pub(crate) memo: Memo<S>,
}

/// The time that near entries are judged by: a clock is read once for many of them.
pub(crate) struct Glance {
    steady_ms: u64,
    hits: u32,
}

impl Glance {
    pub(crate) fn new() -> Self {
        Self { steady_ms: Now::look().steady_ms, hits: 0 }
    }

    fn count(&mut self) {
        self.hits += 1;
        if self.hits == 64 {
            *self = Self::new();
        }
    }
}

/// What the request knows of a key.
pub(crate) enum Memo<S: Source> {
    Known {
        known: Known<S::Value>,
        stale: bool,
        /// The tick at which the read began that found it.
        begun: u64,
    },
    /// The part of this number gathers, or is on its way, and has it at this place: see [`Slot::part`].
    Coming { part: u64, at: usize },
}

/// Who asks for more keys than a map has room for at first asks for so many more, mostly.
const FEW: usize = 20;

/// A map of so many keys only doubles.
const MANY: usize = 100;

/// The way that a key takes down the tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// All tiers in turn.
    Normal,
    /// Not the request.
    PastRequest,
    /// The source alone, for this request alone.
    PastShared,
    /// The source, and store what it finds.
    Refresh,
    /// All tiers but the source.
    Peek,
    /// This request wrote the key: the source alone, from the writer, joined by nobody and not stored.
    Written,
    /// Its source is [private](Source::PRIVATE): the source alone, joined by no other request and not stored.
    Private,
    /// A refresh that nobody waits for.
    Background,
}

impl Lane {
    /// Whether the request's own memory answers, and gets the answer before others.
    pub(crate) fn remembers(self) -> bool {
        matches!(self, Self::Normal | Self::Written | Self::Private | Self::Peek)
    }

    /// Whether readers that come later wait for this one, so that a part has each key once.
    pub(crate) fn shows(self) -> bool {
        matches!(self, Self::Normal | Self::Written | Self::Private)
    }

    /// Whether what it gives is for this request alone, so that no load may be stored that has used it.
    pub(crate) fn is_own<S: Source>(self) -> bool {
        S::PRIVATE || self == Self::Written
    }

    pub(crate) fn asks_near(self) -> bool {
        matches!(self, Self::Normal | Self::PastRequest | Self::Peek)
    }

    pub(crate) fn asks_shared(self) -> bool {
        matches!(self, Self::Normal | Self::PastRequest | Self::Peek | Self::Refresh)
    }

    /// Whether what it loads may be stored, and be shared with other readers.
    pub(crate) fn fills(self) -> bool {
        matches!(self, Self::Normal | Self::PastRequest | Self::Refresh | Self::Background)
    }
}

impl<S: Source> Slot<S> {
    pub(crate) fn new(source: Arc<Registered<S>>) -> Self {
        Self {
            source,
            cells: HashMap::default(),
            forgotten: 0,
            written: HashSet::default(),
            outcomes: Outcomes { source: S::name(), ..Outcomes::default() },
            parts: SmallVec::new(),
        }
    }

    /// Room for the keys of a call: those of a first one are all new, and the map then grows once. Singles that follow each
    /// other grow it in a few steps, of which each moves all that is there: 3, 28, 112, and twice as many from there on.
    pub(crate) fn make_room(&mut self, keys: usize) {
        let known = self.cells.len();
        if known == 0 && keys > 1 {
            self.cells.reserve(keys);
        } else if (1..MANY).contains(&known) && known == self.cells.capacity() {
            self.cells.reserve(keys.max(3 * known).max(FEW));
        }
    }

    /// The slot behind its erased form.
    pub(crate) fn of(slot: &mut Box<dyn AnySlot>) -> &mut Self {
        let slot: &mut dyn Any = slot.as_mut();
        slot.downcast_mut().expect("slots are found by the type of their source")
    }

    /// The way that a key takes.
    pub(crate) fn lane(&self, force: Force, peek: bool, wide_writes: bool, key: &S::Key) -> Lane {
        let written = wide_writes || (!self.written.is_empty() && self.written.contains(key));
        match force {
            _ if written => Lane::Written,
            _ if S::PRIVATE && (peek || force == Force::No) => Lane::Private,
            _ if S::PRIVATE => Lane::PastShared,
            _ if peek => Lane::Peek,
            Force::No => Lane::Normal,
            Force::PastRequest => Lane::PastRequest,
            Force::PastShared => Lane::PastShared,
            Force::Refresh => Lane::Refresh,
        }
    }

    /// What near knows of a key, which the request then knows too.
    pub(crate) fn recall_near(
        &mut self,
        key: &S::Key,
        call: u32,
        fenced: &[usize],
        glance: &mut Glance,
        cache: &CacheCore,
    ) -> Option<Known<S::Value>> {
        let near = self.source.near.as_ref()?;
        if self.source.hooked() {
            return None; // its values are made for each request, in the task of the batch
        }
        let region = &self.source.region;
        if !region.near_answers(fenced.contains(&region.id())) {
            return None; // or after the ping that travels with the batch
        }
        let known = near.get(key, region.era(), &region.changes, glance.steady_ms)?.known()?;
        glance.count();
        self.outcomes.near_hits += 1;
        self.outcomes.absent += u64::from(known.is_absent());
        let memo = Memo::Known { known: known.clone(), stale: false, begun: cache.now() };
        self.cells.insert(key.clone(), Cell { call, memo });
        Some(known)
    }

    /// Takes a key into the part that gathers in this mode of reading, and gives that and the place of the key in it. A part
    /// that is new is given to `gather`.
    pub(super) fn want<'j>(
        &mut self,
        joining: &'j mut JoiningParts<S>,
        lane: Lane,
        key: &S::Key,
        call: u32,
        (turn, next_part, room): (u64, &mut u64, usize),
        gather: impl FnOnce(Bound<S>),
    ) -> (&'j Arc<PartOf<S>>, usize) {
        // one that cannot be cloned leaves nothing behind
        let (key, copy) = (key.clone(), key.clone());
        let which = joining.iter().position(|each| each.lane == lane).unwrap_or_else(|| {
            let part = self.gathering_part(lane, (turn, next_part), gather);
            let (first, part) = (part.places(), part.clone());
            joining.push(Joining { lane, part, first, keys: SmallVec::with_capacity(room) });
            joining.len() - 1
        });
        let Joining { part, first, keys, .. } = &mut joining[which];
        let at = *first + keys.len();
        if lane.shows() {
            let shown = guard(|| {
                self.cells.insert(copy, Cell { call, memo: Memo::Coming { part: part.id, at } });
            });
            if let Err(why) = shown {
                // its place stays empty: the next key would be answered to whoever finds this one there
                keys.push(None);
                let_go(key);
                why.resume();
            }
        }
        keys.push(Some(key));
        (part, at)
    }

    /// The part that gathers in this mode of reading.
    fn gathering_part(
        &mut self,
        lane: Lane,
        (turn, next_part): (u64, &mut u64),
        gather: impl FnOnce(Bound<S>),
    ) -> &Arc<PartOf<S>> {
        // who has nobody else left was answered, or cut off: nobody waits for it, and it brings nothing
        self.parts.retain(|each| each.turn == turn || Arc::strong_count(&each.part) > 1);
        let found = self.parts.iter().position(|each| each.turn == turn && each.lane == lane);
        let found = found.unwrap_or_else(|| {
            *next_part += 1;
            let part = Part::new(*next_part);
            let (sink, source) = (Sink::new(part.clone()), self.source.clone());
            gather(Bound { sink, source, lane, nested: false, keys: Vec::new() });
            self.parts.push(Travelling { lane, turn, part });
            self.parts.len() - 1
        });
        &self.parts[found].part
    }

    /// The part of this number, unless it is over.
    pub(super) fn part(parts: &[Travelling<S>], id: u64) -> Option<&Arc<PartOf<S>>> {
        parts.iter().map(|each| &each.part).rfind(|part| part.id == id)
    }

    /// How many parts it has in mind.
    #[cfg(test)]
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Forgets these keys; what is on its way with them has no way back in.
    pub(crate) fn forget(&mut self, keys: &[S::Key], tick: u64) {
        self.forgotten = tick;
        if guard(|| keys.iter().for_each(|key| let_go(self.cells.remove(key)))).is_err() {
            self.forget_all(tick); // a key panicked, and what is known of it cannot be found
        }
    }

    /// Forgets a key that the last reader gave back.
    pub(crate) fn give_back(&mut self, key: &S::Key, part: u64) {
        if self.is_coming(key, part) {
            self.cells.remove(key);
        }
    }

    /// Whether a key is on its way with this part.
    pub(crate) fn is_coming(&self, key: &S::Key, part: u64) -> bool {
        matches!(self.cells.get(key), Some(Cell { memo: Memo::Coming { part: of, .. }, .. }) if *of == part)
    }
}

/// A slot whose source is not known.
pub(crate) trait AnySlot: Any + Send {
    fn outcomes(&self) -> Outcomes;
    fn region(&self) -> &str;
    fn forget_all(&mut self, tick: u64);
    /// Forgets everything, and gives its memory back; `published`: also which keys were written.
    fn renew(&mut self, tick: u64, published: bool);
    /// No key was asked for by any call up to now.
    fn unmark(&mut self);
}

impl<S: Source> AnySlot for Slot<S> {
    fn outcomes(&self) -> Outcomes {
        self.outcomes
    }

    fn region(&self) -> &str {
        &self.source.region.name
    }

    fn forget_all(&mut self, tick: u64) {
        self.forgotten = tick;
        // what is on its way began before the write: its readers get it, and nobody after them
        let_go(std::mem::take(&mut self.cells));
    }

    fn renew(&mut self, tick: u64, published: bool) {
        self.forget_all(tick);
        self.cells = HashMap::default();
        self.parts = SmallVec::new(); // of earlier turns; what has not been sent yet is, by its readers
        if published {
            self.written = HashSet::default();
        }
    }

    fn unmark(&mut self) {
        self.cells.values_mut().for_each(|cell| cell.call = 0);
    }
}
