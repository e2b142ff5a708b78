//! A load that is slower than its soft budget: what is known already is answered before it has come.
//!
//! The load goes on: for the keys that nothing is known of, for the flights that others have joined, and for the tiers.

use std::future::Future;
use std::sync::atomic::Ordering;

use tokio::time::sleep_until;

use super::Claim;
use super::settle::{add, count, remember};
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
        let Some(late) = self.late.filter(|_| (0..self.items.len()).any(|at| self.is_known(at))) else {
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
    fn is_known(&self, at: usize) -> bool {
        let item = &self.items[at];
        if self.lane == Lane::Background || item.early.load(Ordering::Relaxed) {
            return false;
        }
        match item.answer {
            // its value is changed for this request by a hook, together with what the load brings
            Some(_) => !self.source.hooked(),
            // a read that was to go past what is known waits for the source, and falls back if that fails
            None => self.lane == Lane::Normal && item.backup.is_some(),
        }
    }

    async fn answer_early(&self) {
        let ats: Vec<usize> = (0..self.items.len()).filter(|at| self.is_known(*at)).collect();
        let known = ats.into_iter().filter_map(|at| {
            let answer = self.items[at].answer.clone().or_else(|| self.fallback(at))?;
            Some((at, answer))
        });
        let mut known: Vec<(usize, Outcome<S::Value>)> = known.collect();
        if self.source.hooked() && self.hook(&mut known).await.is_err() {
            return; // which an event has said; the load may still bring something better
        }
        let _settling = self.request.traffic.settling();
        let mut outcomes = Outcomes { source: S::NAME, ..Outcomes::default() };
        let mut answers = Vec::with_capacity(known.len());
        {
            let mut state = lock(&self.request.state);
            let state = &mut *state;
            let Ok(slot) = self.request.slot::<S>(state) else { return };
            let wide = state.wide_writes > 0;
            let slot = Slot::<S>::of(&mut state.slots[slot].1);
            for (at, answer) in known {
                let item = &self.items[at];
                item.early.store(true, Ordering::Relaxed);
                count(&mut outcomes, Some(&answer));
                let begun = if item.sound { self.begun } else { 0 };
                let read = (self.lane, self.part.id, self.begun, begun);
                // a key that panics is answered all the same, and not remembered
                let _ = guard(|| remember(slot, wide, &item.key, read, Some(&answer)));
                let answer = Answered { outcome: answer, sound: item.sound };
                answers.extend(item.twins.iter().map(|at| (*at, answer.clone())));
                answers.push((item.at, answer));
            }
            add(&mut slot.outcomes, &outcomes);
        }
        telemetry::settled(&self.source.region.name, &outcomes, self.lane.asks_shared());
        self.part.answer_early(answers);
    }
}
