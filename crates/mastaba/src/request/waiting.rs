//! A reader that waits for keys on their way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::RequestCache;
use super::slot::{Lane, PartOf, Slot};
use crate::answer::Asked;
use crate::batch::Phase;
use crate::source::Source;
use crate::sync::lock;

/// Waits until the parts that carry its keys are settled.
///
/// It sends the batch that gathers itself, once no read came to wait between two of its polls. Dropping it
/// gives back the keys that nobody else waits for and that were not sent.
pub(super) struct Waiting<'r, S: Source> {
    request: &'r RequestCache,
    parts: Vec<Joined<S>>,
    /// Which asked key is which key of which part.
    tickets: Vec<Ticket>,
    /// How many reads had come to wait, and how many batches had been answered, at the last poll.
    seen: Option<(u64, u64)>,
    /// For how many polls in a row that has not changed.
    calm: u32,
    /// How often it has waited for more.
    looks: u32,
    done: bool,
}

/// How many polls in a row must bring nothing new before a reader sends, at first: a set of futures polls one that
/// wakes itself a second time before it hands over to the set around it.
const CALM: u32 = 2;

/// And once a batch has been answered: an answer wakes readers from another thread while they are being polled, and
/// puts one in front of those that are woken after it, once in each of the queues between it and its task.
const CALM_AFTER_AN_ANSWER: u32 = 4;

/// Other tasks of the request may go on adding keys; so often one waits for them.
const MOST_LOOKS: u32 = 1000;

struct Joined<S: Source> {
    part: Arc<PartOf<S>>,
    lane: Lane,
    /// Our place among the part's wakers.
    place: Option<usize>,
}

struct Ticket {
    nth: usize,
    part: usize,
    at: usize,
}

impl<'r, S: Source> Waiting<'r, S> {
    pub(super) fn new(request: &'r RequestCache) -> Self {
        Self { request, parts: Vec::new(), tickets: Vec::new(), seen: None, calm: 0, looks: 0, done: false }
    }

    pub(super) fn add(&mut self, nth: usize, part: Arc<PartOf<S>>, at: usize, lane: Lane) {
        // the parts of one call are few: one per lane, and those on their way
        let known = self.parts.iter().rposition(|joined| Arc::ptr_eq(&joined.part, &part));
        let part = known.unwrap_or_else(|| {
            self.parts.push(Joined { part, lane, place: None });
            self.parts.len() - 1
        });
        self.tickets.push(Ticket { nth, part, at });
    }

    /// Hands the answers over; whether there was one for every key.
    pub(super) fn deliver(&self, asked: &mut [Asked<S>]) -> bool {
        let mut all = true;
        // tickets of one part mostly follow each other: its lock is taken once for them
        for tickets in self.tickets.chunk_by(|one, next| one.part == next.part) {
            let part = &self.parts[tickets[0].part].part;
            part.answers(tickets.iter().map(|ticket| ticket.at), |nth, begun, answer| {
                if let (Some(nesting), Some(answer)) = (&self.request.nesting, &answer) {
                    nesting.saw(begun, !answer.sound || answer.outcome.is_stale());
                }
                all &= answer.is_some();
                asked[tickets[nth].nth].answer = answer.map(|answer| answer.outcome);
            });
        }
        all
    }
}

impl<S: Source> Future for &mut Waiting<'_, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut **self;
        let (mut settled, mut gathering) = (true, false);
        for joined in &mut this.parts {
            let phase = joined.part.poll(cx, &mut joined.place);
            settled &= phase == Phase::Settled;
            gathering |= phase == Phase::Gathering;
        }
        if settled {
            this.done = true;
            return Poll::Ready(());
        }
        if gathering {
            let mut state = lock(&this.request.inner.state);
            this.looks += u32::from(state.settling == 0);
            let calm = state.settling == 0 && this.seen == Some((state.arrivals, state.settled));
            this.calm = if calm { this.calm + 1 } else { 0 };
            if this.seen.is_none_or(|(_, settled)| settled != state.settled) {
                // Those who were woken meanwhile stand behind this reader: that it looks for the first time
                // since then counts as an arrival, to hold back others that are polled more often.
                state.arrivals += 1;
            }
            let enough = if state.settled == 0 { CALM } else { CALM_AFTER_AN_ANSWER };
            if this.calm >= enough || this.looks > MOST_LOOKS {
                this.request.inner.send(&mut state);
            } else {
                // others may be about to add keys in this turn: look again when they have been polled
                this.seen = Some((state.arrivals, state.settled));
                drop(state);
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

impl<S: Source> Drop for Waiting<'_, S> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = lock(&self.request.inner.state);
        for ticket in &self.tickets {
            let joined = &self.parts[ticket.part];
            if let Some(key) = joined.part.leave(ticket.at)
                && joined.lane.remembers()
                && let Ok(at) = self.request.inner.slot::<S>(&mut state)
            {
                Slot::<S>::of(&mut state.slots[at].1).give_back(&key, joined.part.id);
            }
        }
        drop(state);
        for joined in &self.parts {
            joined.part.forget(joined.place);
        }
    }
}
