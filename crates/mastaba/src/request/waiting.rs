//! A reader that waits for keys on their way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, RawWakerVTable, Waker};

use smallvec::SmallVec;

use tokio::runtime::Handle;

use super::RequestCache;
use super::slot::{Lane, PartOf, Slot};
use super::standby::Place;
use super::traffic::Look;
use crate::answer::Asked;
use crate::batch::Phase;
use crate::guarded::{guard, let_go};
use crate::runtime::minder::WakeSleepers;
use crate::source::Source;
use crate::sync::lock;
use crate::waits::{Endless, Load, Wait};

/// Waits until the parts that carry its keys are settled.
///
/// Where it is the one that looks out, it sends the batch that gathers, once no read came to wait between several of its
/// polls. Dropping it gives back the keys that nobody else waits for and that were not sent, and hands the lookout over.
pub(super) struct Waiting<'r, S: Source> {
    request: &'r RequestCache,
    /// Mostly one, as it is with the tickets of a single get: neither then costs an allocation.
    parts: SmallVec<[Joined<S>; 1]>,
    /// Which asked keys are which keys of which part.
    tickets: SmallVec<[Ticket; 1]>,
    /// The load that reads here waits for the loads of these parts, until this is dropped.
    waits: Vec<Wait>,
    /// How it was at the last poll.
    seen: Option<Look>,
    /// For how many polls in a row that has not changed.
    calm: u32,
    /// How often it has waited for more.
    looks: u32,
    /// Where it stands by.
    stands: Option<Place>,
    /// The number of the gathering that it has keys in.
    gathering: usize,
    /// It looks out, for itself and for those who sleep.
    looks_out: bool,
    /// It sleeps, and this is woken.
    sleeps: Option<Asleep>,
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

/// What a reader that sleeps was polled with.
struct Asleep {
    /// Keeps what it points to alive: nothing else comes to stand at its address.
    waker: Waker,
    /// That of the waker that was lent, and not of the copy: one type's may stand in a program several times, so that a waker
    /// and its copy do not always look alike ([`Waker::will_wake`]).
    vtable: &'static RawWakerVTable,
}

impl Asleep {
    fn new(lent: &Waker) -> Self {
        Self { waker: lent.clone(), vtable: lent.vtable() }
    }

    /// Whether this is the waker again that it left with its parts.
    fn on(&self, lent: &Waker) -> bool {
        self.waker.data() == lent.data() && std::ptr::eq(self.vtable, lent.vtable())
    }
}

/// Keys that follow each other, in the call and in a part: mostly all that a call waits for.
struct Ticket {
    /// Which of the asked keys the first one is.
    nth: usize,
    part: usize,
    /// The place of the first one in the part.
    at: usize,
    count: usize,
}

impl Ticket {
    /// Their places in the part.
    fn places(&self) -> std::ops::Range<usize> {
        self.at..self.at + self.count
    }
}

impl<'r, S: Source> Waiting<'r, S> {
    pub(super) fn new(request: &'r RequestCache) -> Self {
        Self {
            request,
            parts: SmallVec::new(),
            tickets: SmallVec::new(),
            waits: Vec::new(),
            seen: None,
            calm: 0,
            looks: 0,
            stands: None,
            gathering: 0,
            looks_out: false,
            sleeps: None,
            done: false,
        }
    }

    /// It has come to wait for all that it was given. Under the lock of the request.
    pub(super) fn arrived(&mut self) {
        let core = &self.request.inner;
        self.gathering = core.lookout.gathering();
        core.traffic.arrived();
    }

    /// A load is going to wait here for a part.
    pub(super) fn hold_up(&mut self, load: &Arc<Load>, part: &PartOf<S>) -> Result<(), Endless> {
        let on = part.load(S::name());
        if !self.waits.iter().any(|wait| wait.is_for(on)) {
            self.waits.push(load.wait_for(on)?);
        }
        Ok(())
    }

    pub(super) fn add(&mut self, nth: usize, part: &Arc<PartOf<S>>, at: usize, lane: Lane) {
        // the parts of one call are few: one per mode of reading, and those on their way
        let known = self.parts.iter().rposition(|joined| Arc::ptr_eq(&joined.part, part));
        let part = known.unwrap_or_else(|| {
            self.parts.push(Joined { part: part.clone(), lane, place: None });
            self.parts.len() - 1
        });
        match self.tickets.last_mut() {
            Some(last) if last.part == part && last.nth + last.count == nth && last.at + last.count == at => {
                last.count += 1;
            }
            _ => self.tickets.push(Ticket { nth, part, at, count: 1 }),
        }
    }

    /// Hands the answers over; whether there was one for every key.
    pub(super) fn deliver(&self, asked: &mut [Asked<S>]) -> bool {
        let mut all = true;
        for ticket in &self.tickets {
            let asked = &mut asked[ticket.nth..ticket.nth + ticket.count];
            self.parts[ticket.part].part.answers(ticket.places(), |nth, begun, answer| {
                if let (Some(nesting), Some(answer)) = (&self.request.nesting, &answer) {
                    nesting.saw(begun, !answer.sound || answer.outcome.is_stale());
                }
                all &= answer.is_some();
                asked[nth].answer = answer.map(|answer| answer.outcome);
            });
        }
        all
    }
}

impl<S: Source> Waiting<'_, S> {
    /// Looks at the parts, and is woken when those on their way are settled; when it `sleeps`, also while they gather.
    fn phase(&mut self, cx: &mut Context<'_>, sleeps: bool) -> Phase {
        let (mut settled, mut gathering) = (true, false);
        for (nth, joined) in self.parts.iter_mut().enumerate() {
            let phase = joined.part.poll(cx, &mut joined.place, sleeps);
            settled &= match phase {
                Phase::Settled => true,
                Phase::Partly => {
                    let ours = self.tickets.iter().filter(|ticket| ticket.part == nth);
                    let has = joined.part.has(ours.flat_map(Ticket::places));
                    if has {
                        // the part goes on for others, and has nobody to wake here
                        joined.part.forget(joined.place.take());
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

    /// Whether it looks out, now at least.
    fn looks_out(&mut self) -> bool {
        self.looks_out = self.looks_out || self.request.inner.lookout.take(self.gathering);
        self.looks_out
    }

    /// Whether it sleeps on, as it did at the last poll: nothing that it waits for was sent, somebody looks out, and this
    /// is what it was polled with. What it costs to be polled meanwhile is these looks, of which none takes a lock.
    fn sleeps_on(&self, cx: &Context<'_>) -> bool {
        !self.looks_out
            && self.sleeps.as_ref().is_some_and(|sleeps| sleeps.on(cx.waker()))
            && self.parts.iter().all(|joined| joined.part.gathers())
            && !self.request.inner.lookout.can_take(self.gathering)
    }

    /// Sleeps while another reader looks out, and is woken when that one goes.
    ///
    /// How far its parts have come: if they gather and it does not look out, it sleeps.
    fn sleep(&mut self, cx: &mut Context<'_>) -> Phase {
        let phase = self.phase(cx, true);
        if phase != Phase::Gathering {
            return phase;
        }
        if !self.request.inner.lookout.sleeps(self.gathering) {
            return self.phase(cx, false); // what gathered was sent meanwhile
        }
        // who looked out may have gone before our waker was there
        if !self.looks_out() {
            match self.request.inner.is_minded(self.gathering) {
                true => self.sleeps = Some(Asleep::new(cx.waker())),
                false => self.looks_out = true,
            }
        }
        phase
    }

    /// Whether a batch of this request asks the shared tier just now: the reader is woken when it has.
    fn stands_by(&mut self, cx: &Context<'_>) -> bool {
        let home = || Handle::try_current().ok().map(|handle| handle.id());
        self.request.inner.stand_by.waits(home, cx, &mut self.stands)
    }

    /// Whether nobody came between several polls, so that all who are awaited together have been polled.
    fn is_calm(&mut self) -> bool {
        let traffic = &self.request.inner.traffic;
        let Some(mut look) = traffic.look() else {
            self.calm = 0;
            return false;
        };
        self.looks += 1;
        self.calm = if self.seen == Some(look) { self.calm + 1 } else { 0 };
        if self.seen.is_none_or(|seen| seen.settled != look.settled) {
            // Those who were woken meanwhile stand behind this reader: that it looks for the first time since then counts
            // as an arrival, to hold back others that are polled more often.
            look.arrivals = traffic.arrived();
        }
        self.seen = Some(look);
        let enough = if look.settled == 0 { CALM } else { CALM_AFTER_AN_ANSWER };
        self.calm >= enough || self.looks > MOST_LOOKS
    }
}

impl<S: Source> Future for &mut Waiting<'_, S> {
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
        if phase == Phase::Gathering && this.stands_by(cx) {
            return Poll::Pending;
        }
        if phase == Phase::Gathering && this.is_calm() {
            let core = &this.request.inner;
            core.send(&mut lock(&core.state));
            // sent by now, by us or by another one just before: only now it takes our waker
            phase = this.phase(cx, false);
        }
        match phase {
            Phase::Settled => {
                this.done = true;
                return Poll::Ready(());
            }
            // others may be about to add keys in this turn: look again when they have been polled
            Phase::Gathering => cx.waker().wake_by_ref(),
            Phase::Sent | Phase::Partly => {}
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
        let places = self.tickets.iter().flat_map(|of| of.places().map(|at| (&self.parts[of.part], at)));
        for (joined, at) in places {
            if let Some(key) = joined.part.leave(at)
                && joined.lane.remembers()
                && let Ok(at) = self.request.inner.slot::<S>(&mut state)
            {
                let slot = Slot::<S>::of(&mut state.slots[at].1);
                // a key that panics stays there: its part goes without it, and gives it back when it is settled
                let _ = guard(|| slot.give_back(&key, joined.part.id));
                let_go(key);
            }
        }
        drop(state);
        for joined in &self.parts {
            joined.part.forget(joined.place);
        }
        if self.looks_out && self.request.inner.lookout.leave(self.gathering) {
            self.request.inner.wake_sleepers();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, LoadContext, Region, Rows};
    use std::convert::Infallible;
    use std::pin::pin;

    struct Same;

    impl Source for Same {
        type Key = u32;
        type Value = u32;
        type Error = Infallible;
        const NAME: &'static str = "same";
        const REGION: &'static str = "objects";

        async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, Infallible> {
            Ok(keys.iter().map(|key| (*key, *key)).collect())
        }
    }

    #[tokio::test]
    async fn nobody_sends_while_a_batch_is_being_answered() {
        let builder = Cache::builder().region("objects", Region::memory()).source(Same);
        let request = builder.build().await.unwrap().request();
        let gathering = || lock(&request.inner.state).gathering.len();
        let settling = request.inner.traffic.settling();
        let mut read = pin!(request.get::<Same>(1));
        for _ in 0..100 {
            assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(gathering(), 1, "others of that batch may be about to add keys");
        drop(settling);
        assert_eq!(read.await.unwrap().as_deref(), Some(&1));
        assert_eq!(gathering(), 0);
    }
}
