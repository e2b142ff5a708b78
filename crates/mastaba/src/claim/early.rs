//! A load that is slower than its soft budget: what is known already is answered before it has come.
//!
//! The load goes on: for the keys that nothing is known of, for the flights that others have joined, and for the tiers.

use std::future::Future;
use std::sync::atomic::Ordering;

use tokio::time::sleep_until;

use super::Claim;
use super::settle::{Seen, add, count, remember};
use crate::answer::{Answered, Outcome};
use crate::guarded::guard;
use crate::report::Outcomes;
use crate::request::{Lane, Slot};
use crate::source::Source;
use crate::sync::lock;
use crate::telemetry;

impl<S: Source> Claim<S> {
    /// Waits for what a load or a flight brings. Once the soft budget is over, whoever waits for nothing else is
    /// answered with what is known.
    pub(super) async fn patiently<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(late) = self.late.filter(|_| (0..self.keys()).any(|nth| self.is_known(nth))) else {
            return work.await;
        };
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep_until(late) => {}
        }
        // a hook may be as slow as the load: whatever comes first
        tokio::select! {
            biased;
            done = &mut work => done,
            () = self.answer_early() => work.await,
        }
    }

    /// Whether a key could be answered now, and has not been.
    fn is_known(&self, nth: usize) -> bool {
        let seen = self.seen(nth);
        if self.lane == Lane::Background || seen.early.load(Ordering::Relaxed) {
            return false;
        }
        match seen.answer {
            // its value is changed for this request by a hook, together with what the load brings
            Some(_) => !self.source.hooked(),
            // a read that was to go past what is known waits for the source, and falls back if that fails
            None => self.lane == Lane::Normal && seen.miss.is_some_and(|at| self.items[at].backup.is_some()),
        }
    }

    /// What a key could be answered with now.
    fn known(&self, nth: usize) -> Option<Outcome<S::Value>> {
        let seen = self.seen(nth);
        seen.answer.cloned().or_else(|| self.fallback(seen.miss?))
    }

    async fn answer_early(&self) {
        let known = (0..self.keys()).filter(|nth| self.is_known(*nth));
        let mut known: Vec<(usize, Outcome<S::Value>)> =
            known.filter_map(|nth| Some((nth, self.known(nth)?))).collect();
        if self.source.hooked() && self.hook(&mut known).await.is_err() {
            return; // which an event has said; the load may still bring something better
        }
        let _settling = self.request.traffic.settling();
        let mut outcomes = Outcomes { source: S::name(), ..Outcomes::default() };
        let mut answers = Vec::with_capacity(known.len());
        {
            let mut state = lock(&self.request.state);
            let state = &mut *state;
            let Ok(slot) = self.request.slot::<S>(state) else { return };
            let wide = state.wide_writes > 0;
            let slot = Slot::<S>::of(&mut state.slots[slot].1);
            for (nth, answer) in known {
                let Seen { key, at, early, sound, .. } = self.seen(nth);
                early.store(true, Ordering::Relaxed);
                count(&mut outcomes, Some(&answer));
                let read = (self.lane, self.sink.id, self.begun, if sound { self.begun } else { 0 });
                // a key that panics is answered all the same, and not remembered
                let _ = guard(|| remember(slot, wide, key, read, Some(&answer)));
                let answer = Answered { outcome: answer, sound };
                let twins = self.twins.iter().filter(|(first, _)| *first == at);
                answers.extend(twins.map(|(_, twin)| (*twin, answer.clone())));
                answers.push((at, answer));
            }
            add(&mut slot.outcomes, &outcomes);
        }
        telemetry::settled(&self.source.region.name, &outcomes, self.lane.asks_shared());
        self.sink.answer_early(answers);
    }
}
