//! What carries a part to its answer, or is dropped before.

use std::pin::pin;

use futures_util::future::{Either, select};
use shuttle::rand::{Rng, thread_rng};

use super::{BatchRule, Cell, Request};
use crate::batch::Sink;
use crate::steps::trip;
use crate::sync::{Arc, lock};

/// The task that carries a part: a `Bound` until the task runs, then a `Claim`. Neither touches tier 1 when it is dropped:
/// who finds a key coming with a part that is settled claims it anew.
pub(super) struct Carrier {
    request: Arc<Request>,
    sink: Option<Sink<u32, u32>>,
    coming: Vec<(usize, u32)>,
    asking: Option<Asking>,
}

/// As `Asking` in `request/state.rs`.
struct Asking {
    request: Arc<Request>,
    id: u64,
    ended: bool,
}

impl Asking {
    fn new(request: &Arc<Request>) -> Self {
        Self { request: request.clone(), id: request.stand_by.begin(()), ended: false }
    }

    /// Its millisecond is over at once.
    async fn was_long(&self) {
        std::future::poll_fn(|cx| self.request.stand_by.is_waited_for(self.id, cx)).await;
    }

    fn end(mut self) {
        self.ended = true;
        self.request.stand_by.end(self.id);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.ended && self.request.scene.broken != Some(BatchRule::CarriersEndTheStandBy) {
            self.request.stand_by.end(self.id);
        }
    }
}

impl Carrier {
    /// For a part that is sent. Those who stand by wait for it from now on.
    pub(super) fn of(request: &Arc<Request>, sink: Sink<u32, u32>, coming: Vec<(usize, u32)>) -> Self {
        let asking = Some(Asking::new(request));
        Self { request: request.clone(), sink: Some(sink), coming, asking }
    }

    pub(super) async fn carry(mut self) {
        if self.coming.is_empty() {
            return; // everybody has gone
        }
        trip().await;
        if self.request.scene.hangs && self.coming.iter().all(|(_, key)| *key == 0) {
            self.hang().await;
        }
        self.has_asked();
        if self.request.scene.slow && thread_rng().gen_range(0..2) == 0 {
            // as `Claim::answer_early`: what is known does not wait for the load
            let known: Vec<_> = self.coming.extract_if(.., |_| thread_rng().gen_range(0..2) == 0).collect();
            self.remember(&known);
            self.sink().answer_early(known.into_iter().map(|(at, key)| (at, key * 10)));
            trip().await;
        }
        let count = self.coming.last().map_or(0, |(at, _)| at + 1);
        let mut answers = vec![None; count];
        self.coming.iter().for_each(|(at, key)| answers[*at] = Some(key * 10));
        self.remember(&self.coming);
        self.sink().settle(answers);
    }

    fn sink(&mut self) -> &mut Sink<u32, u32> {
        self.sink.as_mut().expect("it is there until the carrier is dropped")
    }

    /// Waits for what comes after it, and is not waited for meanwhile.
    async fn hang(&mut self) {
        let request = self.request.clone();
        let mut hangs = pin!(request.second.acquire(1));
        if request.scene.broken != Some(BatchRule::StandByIsBounded)
            && let Some(asking) = self.asking.take()
        {
            // one that nobody stands by for goes on counting
            let answered = matches!(select(pin!(asking.was_long()), hangs.as_mut()).await, Either::Right(_));
            asking.end();
            if answered {
                return;
            }
        }
        hangs.await.expect("it is never closed");
    }

    fn has_asked(&mut self) {
        if let Some(asking) = self.asking.take() {
            asking.end();
        }
    }

    fn remember(&self, keys: &[(usize, u32)]) {
        let mut state = lock(&self.request.state);
        for (_, key) in keys {
            state.cells.insert(*key, Cell::Known(key * 10));
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if self.request.scene.broken == Some(BatchRule::CarriersGiveBack) {
            std::mem::forget(self.sink.take());
        }
    }
}
