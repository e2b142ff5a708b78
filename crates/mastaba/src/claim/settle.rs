//! Answering: tier 1 first, and then whoever waits.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::recall::Ask;
use super::right::{Right, Storable};
use super::{Claim, Item};
use crate::answer::{Answered, Known, Outcome};
use crate::batch::{Part, Sink};
use crate::guarded::{each, let_go};
use crate::read::{Answering, Missing, Storing};
use crate::report::{Outcomes, Tier};
use crate::request::{Cell, Lane, Memo, RequestCache, Slot};
use crate::source::Source;
use crate::sync::{AtomicBool, lock};
use crate::telemetry;

impl<S: Source> Answering for Claim<S> {
    fn is_hooked(&self) -> bool {
        self.source.hooked() && self.lane != Lane::Background
    }

    fn enter(&mut self) -> BoxFuture<'_, ()> {
        self.run_hook().boxed()
    }

    fn answer_readers(&mut self) {
        // a flight with nothing left to load: its leases found it all
        self.land(&[]);
        if self.lane == Lane::Background {
            return;
        }
        let mut answers: Vec<Option<Answered<S::Value>>> = Vec::with_capacity(self.keys());
        {
            let mut state = lock(&self.request.state);
            let state = &mut *state;
            let Ok(at) = self.request.slot::<S>(state) else { return };
            let wide = state.wide_writes > 0;
            let slot = Slot::<S>::of(&mut state.slots[at].1);
            let (begun, id, lane, keys) = (self.begun, self.sink.id, self.lane, self.keys());
            let outcomes = &mut self.outcomes;
            each(
                &mut (&mut self.asks, &mut self.items, &mut *slot, &mut answers),
                keys,
                |(asks, items, slot, answers), nth| {
                    let reader = Reader::of(asks, items, nth);
                    if reader.early {
                        return;
                    }
                    count(outcomes, reader.answer.as_ref());
                    let read = (lane, id, begun, if reader.sound { begun } else { 0 });
                    remember(slot, wide, reader.key, read, reader.answer.as_ref());
                    reader.give(answers);
                },
                // it is answered all the same, and not remembered
                |(asks, items, _, answers), nth, _| Reader::of(asks, items, nth).give(answers),
            );
            for (at, error) in std::mem::take(&mut self.broken) {
                let outcome = Outcome::Failed(error);
                count(&mut self.outcomes, Some(&outcome));
                put(&mut answers, at, Answered { outcome, sound: false });
            }
            for (first, at) in &self.twins {
                // none, if the first one was answered early: so was this
                if let Some(answer) = answers.get(*first).cloned().flatten() {
                    put(&mut answers, *at, answer);
                }
            }
            add(&mut slot.outcomes, &self.outcomes);
        }
        telemetry::settled(&self.source.region.name, &self.outcomes, self.lane.asks_shared());
        self.sink.settle(answers);
    }

    fn refreshes(&mut self) -> Option<Box<dyn Missing>> {
        let found = self.asks.iter().filter_map(|ask| Some((&ask.key, &ask.record, ask.refresh?)));
        let late = self.items.iter().filter_map(|item| Some((&item.key, &item.record, item.refresh?)));
        let stale: Vec<_> = found.chain(late).collect();
        if stale.is_empty() {
            return None;
        }
        let cache = &self.request.cache;
        let nobody = Sink::new(Part::new(0));
        // in a request of its own: what this one remembers is older than the load (R6)
        let own = RequestCache::new(cache.clone());
        let (request, hurry) = (own.inner.clone(), CancellationToken::new());
        let mut claim = Self::empty(&self.source, nobody, request, Lane::Background, cache.tick(), hurry);
        claim.meter = self.meter.in_background();
        each(
            &mut claim,
            stale.len(),
            |claim, nth| {
                let (key, record, fence) = stale[nth];
                let key = key.clone();
                let seen = self.source.near.as_ref().map_or(0, |near| near.seen(&key));
                let mark = self.source.region.changes.mark(record);
                let mut again = Item::new(key, 0, record.clone(), seen, mark);
                again.storable = Storable::Right(Right::Record(fence));
                claim.items.push(again);
            },
            // it was answered already, and is refreshed by whoever reads it next
            |_, _, _| {},
        );
        Some(Box::new(claim))
    }

    fn storing(self: Box<Self>) -> Option<Box<dyn Storing>> {
        let brought = !self.departures.is_empty() || self.items.iter().any(|item| item.loaded.is_some());
        if brought {
            return Some(self);
        }
        let_go(self);
        None
    }
}

/// Mostly one after the other.
fn put<V>(answers: &mut Vec<Option<Answered<V>>>, at: usize, answer: Answered<V>) {
    if answers.len() <= at {
        answers.resize_with(at, || None);
        answers.push(Some(answer));
    } else {
        answers[at] = Some(answer);
    }
}

/// A key that readers wait for, found or missed.
pub(super) struct Reader<'c, S: Source> {
    pub(super) key: &'c S::Key,
    at: usize,
    /// They were answered already.
    pub(super) early: bool,
    sound: bool,
    pub(super) answer: &'c mut Option<Outcome<S::Value>>,
}

/// The same to look at.
pub(super) struct Seen<'c, S: Source> {
    pub(super) key: &'c S::Key,
    pub(super) at: usize,
    pub(super) early: &'c AtomicBool,
    pub(super) sound: bool,
    pub(super) answer: Option<&'c Outcome<S::Value>>,
    /// A miss, by its place among them.
    pub(super) miss: Option<usize>,
}

impl<S: Source> Claim<S> {
    /// By a number that counts through the keys that were found, and then through the misses.
    pub(super) fn seen(&self, nth: usize) -> Seen<'_, S> {
        match nth.checked_sub(self.asks.len()) {
            None => {
                let Ask { key, at, early, answer, .. } = &self.asks[nth];
                Seen { key, at: *at, early, sound: true, answer: answer.as_ref(), miss: None }
            }
            Some(miss) => {
                let Item { key, at, early, sound, answer, .. } = &self.items[miss];
                Seen { key, at: *at, early, sound: *sound, answer: answer.as_ref(), miss: Some(miss) }
            }
        }
    }
}

impl<'c, S: Source> Reader<'c, S> {
    /// By a number that counts through the keys that were found, and then through the misses.
    pub(super) fn of(asks: &'c mut [Ask<S>], items: &'c mut [Item<S>], nth: usize) -> Self {
        match nth.checked_sub(asks.len()) {
            None => {
                let Ask { key, at, early, answer, .. } = &mut asks[nth];
                Self { key, at: *at, early: *early.get_mut(), sound: true, answer }
            }
            Some(nth) => {
                let Item { key, at, early, sound, answer, .. } = &mut items[nth];
                Self { key, at: *at, early: *early.get_mut(), sound: *sound, answer }
            }
        }
    }

    fn give(self, answers: &mut Vec<Option<Answered<S::Value>>>) {
        if let Some(outcome) = self.answer.take() {
            put(answers, self.at, Answered { outcome, sound: self.sound });
        }
    }
}

/// Writes what became of a key into the request's memory, unless it has forgotten that it asked.
pub(super) fn remember<S: Source>(
    slot: &mut Slot<S>,
    wide: bool,
    key: &S::Key,
    (lane, part, begun, sound_since): (Lane, u64, u64, u64),
    answer: Option<&Outcome<S::Value>>,
) {
    let found = match answer {
        Some(Outcome::Value { value, .. }) => Some((Known::Value(value.clone()), false)),
        Some(Outcome::Stale { value, .. }) => Some((Known::Value(value.clone()), true)),
        Some(Outcome::Absent { .. }) => Some((Known::Absent, false)),
        Some(Outcome::Failed(_)) | None => None,
    };
    if let Some(cell) = slot.cells.get_mut(key)
        && matches!(&cell.memo, Memo::Coming { part: of, .. } if *of == part)
    {
        match found {
            Some((known, stale)) => {
                *cell = Cell { call: 0, memo: Memo::Known { known, stale, begun: sound_since } };
            }
            // a failure is not remembered
            None => drop(slot.cells.remove(key)),
        }
        return;
    }
    // A forced read or a look replaces what is known, but not what the request wrote meanwhile, and nothing
    // that is newer than itself.
    let replaces = || {
        let written = wide || slot.written.contains(key) || begun <= slot.forgotten;
        let newer = match slot.cells.get(key).map(|cell| &cell.memo) {
            Some(Memo::Known { begun: before, .. }) => *before > begun || lane == Lane::Peek,
            Some(Memo::Coming { .. }) => true,
            None => false,
        };
        !lane.shows() && !written && !newer
    };
    if let Some((known, stale)) = found
        && replaces()
    {
        let memo = Memo::Known { known, stale, begun: sound_since };
        slot.cells.insert(key.clone(), Cell { call: 0, memo });
    }
}

pub(super) fn count<V>(outcomes: &mut Outcomes, answer: Option<&Outcome<V>>) {
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

pub(super) fn add(to: &mut Outcomes, more: &Outcomes) {
    to.near_hits += more.near_hits;
    to.shared_hits += more.shared_hits;
    to.loaded += more.loaded;
    to.joined += more.joined;
    to.unleased += more.unleased;
    to.absent += more.absent;
    to.stale += more.stale;
    to.failed += more.failed;
    to.other_shape += more.other_shape;
}

impl<S: Source> Drop for Claim<S> {
    /// The keys and values are the user's, and are let go one by one: the second panic while the first one unwinds would end
    /// the process. The readers are the sink's.
    fn drop(&mut self) {
        if std::mem::needs_drop::<S::Key>() {
            self.asks.drain(..).for_each(Ask::let_go);
        } else {
            self.asks.iter_mut().for_each(Ask::let_go_of_values);
        }
        self.items.drain(..).for_each(Item::let_go);
    }
}
