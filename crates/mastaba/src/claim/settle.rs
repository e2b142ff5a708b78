//! Answering: tier 1 first, and then whoever waits.

use std::sync::atomic::Ordering;

use super::{Claim, Item};
use crate::answer::{Answered, Outcome};
use crate::guarded::each;
use crate::report::{Outcomes, Tier};
use crate::request::{Cell, Lane, Memo, Slot};
use crate::source::Source;
use crate::sync::lock;
use crate::telemetry;

impl<S: Source> Claim<S> {
    /// Tells tier 1 and the readers what became of the keys.
    pub(super) fn answer_readers(&mut self) {
        if self.lane == Lane::Background {
            self.settled = true;
            return;
        }
        let mut answers: Vec<Option<Answered<S::Value>>> = Vec::with_capacity(self.items.len());
        let mut put = |at: usize, answer| {
            // mostly one after the other
            if answers.len() <= at {
                answers.resize_with(at, || None);
                answers.push(Some(answer));
            } else {
                answers[at] = Some(answer);
            }
        };
        {
            let mut state = lock(&self.request.state);
            let state = &mut *state;
            let Ok(at) = self.request.slot::<S>(state) else { return };
            let (wide, items) = (state.wide_writes > 0, self.items.len());
            let slot = Slot::<S>::of(&mut state.slots[at].1);
            let (begun, id, outcomes, lane) = (self.begun, self.part.id, &mut self.outcomes, self.lane);
            let mut give = |item: &mut Item<S>| {
                if let Some(answer) = item.answer.take() {
                    let answer = Answered { outcome: answer, sound: item.sound };
                    item.twins.iter().for_each(|at| put(*at, answer.clone()));
                    put(item.at, answer);
                }
            };
            each(
                &mut (&mut self.items, &mut *slot, &mut give),
                items,
                |(items, slot, give), nth| {
                    let item = &mut items[nth];
                    if item.early.load(Ordering::Relaxed) {
                        return;
                    }
                    count(outcomes, item.answer.as_ref());
                    let read = (lane, id, begun, if item.sound { begun } else { 0 });
                    remember(slot, wide, &item.key, read, item.answer.as_ref());
                    give(item);
                },
                // it is answered all the same, and not remembered
                |(items, _, give), nth, _| give(&mut items[nth]),
            );
            for (at, error) in std::mem::take(&mut self.broken) {
                let outcome = Outcome::Failed(error);
                count(&mut self.outcomes, Some(&outcome));
                put(at, Answered { outcome, sound: false });
            }
            add(&mut slot.outcomes, &self.outcomes);
        }
        telemetry::settled(&self.source.region.name, &self.outcomes, self.lane.asks_shared());
        self.part.settle(answers);
        self.settled = true;
    }
}

/// Tells tier 1 what became of a key, unless it has forgotten that it asked.
pub(super) fn remember<S: Source>(
    slot: &mut Slot<S>,
    wide: bool,
    key: &S::Key,
    (lane, part, begun, sound_since): (Lane, u64, u64, u64),
    answer: Option<&Outcome<S::Value>>,
) {
    let known = match answer {
        Some(Outcome::Value { value, .. }) => Some((Some(value.clone()), false)),
        Some(Outcome::Stale { value, .. }) => Some((Some(value.clone()), true)),
        Some(Outcome::Absent { .. }) => Some((None, false)),
        Some(Outcome::Failed(_)) | None => None,
    };
    if let Some(cell) = slot.cells.get_mut(key)
        && matches!(&cell.memo, Memo::Coming { part: of, .. } if of.id == part)
    {
        match known {
            Some((value, stale)) => {
                *cell = Cell { call: 0, memo: Memo::Known { value, stale, begun: sound_since } };
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
            Some(Memo::Known { begun: known, .. }) => *known > begun || lane == Lane::Peek,
            Some(Memo::Coming { .. }) => true,
            None => false,
        };
        !matches!(lane, Lane::Normal | Lane::Written) && !written && !newer
    };
    if let Some((value, stale)) = known
        && replaces()
    {
        let memo = Memo::Known { value, stale, begun: sound_since };
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
    to.absent += more.absent;
    to.stale += more.stale;
    to.failed += more.failed;
    to.other_shape += more.other_shape;
}

impl<S: Source> Drop for Claim<S> {
    fn drop(&mut self) {
        if !self.settled && self.lane != Lane::Background {
            let mut state = lock(&self.request.state);
            if let Ok(at) = self.request.slot::<S>(&mut state) {
                let slot = Slot::<S>::of(&mut state.slots[at].1);
                let give_back = |slot: &mut Slot<S>, nth: usize| {
                    let Some(item) = self.items.get(nth) else { return };
                    slot.give_back(&item.key, self.part.id);
                };
                // a key that panics stays there, and whoever asks for it finds that its part is settled
                each(slot, self.items.len(), give_back, |_, _, _| {});
            }
            drop(state);
            self.part.settle(Vec::new());
        }
        // one by one: the second panic while the first one unwinds would end the process
        self.items.drain(..).for_each(Item::let_go);
    }
}
