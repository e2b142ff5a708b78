//! Answering: tier 1 first, and then whoever waits.

use std::sync::atomic::Ordering;

use super::Claim;
use crate::answer::{Answered, Outcome};
use crate::report::{Outcomes, Tier};
use crate::request::{Cell, Lane, Memo, Slot};
use crate::source::Source;
use crate::sync::lock;
use crate::telemetry;

impl<S: Source> Claim<S> {
    /// Tells tier 1 and the readers what became of the keys.
    pub(super) fn answer_readers(&mut self) {
        self.settled = true;
        if self.lane == Lane::Background {
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
            let wide = state.wide_writes > 0;
            let slot = Slot::<S>::of(&mut state.slots[at].1);
            for item in self.items.iter_mut().filter(|item| !item.early.load(Ordering::Relaxed)) {
                let answer = item.answer.take();
                count(&mut self.outcomes, answer.as_ref());
                let begun = if item.sound { self.begun } else { 0 };
                let read = (self.lane, self.part.id, self.begun, begun);
                remember(slot, wide, &item.key, read, answer.as_ref());
                if let Some(answer) = answer {
                    let answer = Answered { outcome: answer, sound: item.sound };
                    item.twins.iter().for_each(|at| put(*at, answer.clone()));
                    put(item.at, answer);
                }
            }
            add(&mut slot.outcomes, &self.outcomes);
        }
        telemetry::settled(&self.source.region.name, &self.outcomes, self.lane.asks_shared());
        self.part.settle(answers);
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
        if self.settled || self.lane == Lane::Background {
            return;
        }
        let mut state = lock(&self.request.state);
        if let Ok(at) = self.request.slot::<S>(&mut state) {
            let slot = Slot::<S>::of(&mut state.slots[at].1);
            self.items.iter().for_each(|item| slot.give_back(&item.key, self.part.id));
        }
        drop(state);
        self.part.settle(Vec::new());
    }
}
