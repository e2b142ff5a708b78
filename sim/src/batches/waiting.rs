//! What a reader waits with: as `request/waiting.rs`.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{BatchRule, Request, ThePart};
use crate::batch::Phase;
use crate::standby::Place;
use crate::sync::{Arc, lock};

/// As `Waiting`.
pub(super) struct Waiting {
    request: Arc<Request>,
    parts: Vec<(Arc<ThePart>, Option<usize>)>,
    tickets: Vec<(usize, usize, usize)>,
    seen: usize,
    done: bool,
    stands: Option<Place>,
    pub(super) gathering: usize,
    looks_out: bool,
    sleeps: Option<Waker>,
}

impl Waiting {
    pub(super) fn new(request: Arc<Request>) -> Self {
        Self {
            request,
            parts: Vec::new(),
            tickets: Vec::new(),
            seen: 0,
            done: false,
            stands: None,
            gathering: 0,
            looks_out: false,
            sleeps: None,
        }
    }

    pub(super) fn add(&mut self, nth: usize, part: Arc<ThePart>, at: usize) {
        let known = self.parts.iter().rposition(|(each, _)| Arc::ptr_eq(each, &part));
        let part = known.unwrap_or_else(|| {
            self.parts.push((part, None));
            self.parts.len() - 1
        });
        self.tickets.push((nth, part, at));
    }

    pub(super) fn deliver(&self, answers: &mut [Option<u32>]) -> bool {
        let mut all = true;
        for (nth, part, at) in &self.tickets {
            self.parts[*part].0.answers(std::iter::once(*at), |_, _, answer| answers[*nth] = answer);
            all &= answers[*nth].is_some();
        }
        all
    }
}

impl Waiting {
    /// As `Waiting::phase`.
    fn phase(&mut self, cx: &mut Context<'_>, sleeps: bool) -> Phase {
        let careless = self.request.scene.broken == Some(BatchRule::ReadersLeaveAWaker);
        let (mut settled, mut gathering) = (true, false);
        for (nth, (part, place)) in self.parts.iter_mut().enumerate() {
            let phase = if careless {
                part.poll(&mut Context::from_waker(Waker::noop()), place, sleeps)
            } else {
                part.poll(cx, place, sleeps)
            };
            settled &= match phase {
                Phase::Settled => true,
                Phase::Partly => {
                    let ours = self.tickets.iter().filter(|(_, part, _)| *part == nth).map(|(.., at)| *at);
                    let hasty = self.request.scene.broken == Some(BatchRule::ReadersLookForAllTheirKeys);
                    let has = hasty || part.has(ours);
                    if has {
                        part.forget(place.take());
                    }
                    has
                }
                Phase::Gathering | Phase::Sent => false,
            };
            gathering |= phase == Phase::Gathering;
        }
        match settled {
            true => Phase::Settled,
            false if gathering => Phase::Gathering,
            false => Phase::Sent,
        }
    }

    /// As `Waiting::looks_out`.
    fn looks_out(&mut self) -> bool {
        self.looks_out = self.looks_out || self.request.lookout.take(self.gathering);
        self.looks_out
    }

    /// As `Waiting::sleeps_on`.
    fn sleeps_on(&self, cx: &Context<'_>) -> bool {
        !self.looks_out
            && self.sleeps.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
            && self.parts.iter().all(|(part, _)| part.gathers())
            && !self.request.lookout.can_take(self.gathering)
    }

    /// As `Waiting::sleep`.
    fn sleep(&mut self, cx: &mut Context<'_>) -> Phase {
        let phase = self.phase(cx, true);
        if phase != Phase::Gathering {
            return phase;
        }
        if !self.request.lookout.sleeps(self.gathering) {
            return self.phase(cx, false);
        }
        if !self.looks_out() {
            match self.request.is_minded(self.gathering) {
                true => self.sleeps = Some(cx.waker().clone()),
                false => self.looks_out = true,
            }
        }
        phase
    }
}

impl Future for &mut Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut **self;
        if this.sleeps_on(cx) {
            return Poll::Pending;
        }
        let mut phase = this.phase(cx, false);
        if phase == Phase::Gathering && !this.looks_out() {
            phase = this.sleep(cx);
            if phase == Phase::Gathering && !this.looks_out {
                return Poll::Pending;
            }
        }
        if phase == Phase::Gathering && this.request.stand_by.waits(|| Some(()), cx, &mut this.stands) {
            return Poll::Pending;
        }
        if phase == Phase::Gathering {
            let mut state = lock(&this.request.state);
            if state.gathered == this.seen {
                this.request.send(&mut state);
                drop(state);
                let told = this.request.scene.broken != Some(BatchRule::SendersLookAgain);
                phase = if told { this.phase(cx, false) } else { Phase::Sent };
            } else {
                this.seen = state.gathered;
            }
        }
        match phase {
            Phase::Settled => {
                this.done = true;
                return Poll::Ready(());
            }
            Phase::Gathering => cx.waker().wake_by_ref(),
            Phase::Sent | Phase::Partly => {}
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.done {
            for (_, part, at) in &self.tickets {
                self.request.tell(|ledger| ledger.leaves(self.parts[*part].0.id, *at, None));
            }
            return;
        }
        let mut state = lock(&self.request.state);
        let mut given_back = 0;
        for (_, part, at) in &self.tickets {
            let part = &self.parts[*part].0;
            let back = part.leave(*at);
            self.request.tell(|ledger| ledger.leaves(part.id, *at, back));
            if let Some(key) = back {
                given_back += 1;
                state.give_back(key, part);
            }
        }
        state.gathered = state.gathered.saturating_sub(given_back);
        drop(state);
        for (part, place) in &self.parts {
            part.forget(*place);
        }
        let gone = self.looks_out && self.request.lookout.leave(self.gathering);
        if gone && self.request.scene.broken != Some(BatchRule::LookoutIsHandedOver) {
            self.request.wake_sleepers();
        }
    }
}
