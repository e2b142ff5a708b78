//! Invalidations that the shared tier has not confirmed.
//!
//! One that failed may have happened or not, and whoever wrote has committed in any case. So it is kept, by key, tag and
//! region, and sent again until it is confirmed. Until then this process acts as if it had happened: it does not use what
//! the shared tier holds under these keys, and stores nothing there. A read checks one number while nothing is kept.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{Extent, RegionCore, SAMPLE, What};
use crate::error::Fault;
use crate::event::Event;
use crate::sync::lock;

/// So many keys are kept one by one; with more, the whole region is voided instead.
const MOST_KEYS: usize = 100_000;
/// So many steps are kept one by one.
const MOST_STEPS: usize = 1_000;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Without an attempt for so long, the task that sends has no runtime that runs it.
const STALLED: Duration = Duration::from_secs(15);

/// What one region still has to send.
#[derive(Default)]
pub(crate) struct Unconfirmed {
    /// The number of steps in the queue.
    count: AtomicUsize,
    state: Mutex<State>,
    /// The shared tier has answered something: no need to wait out the pause.
    hope: Notify,
    confirmed: Notify,
}

#[derive(Default)]
struct State {
    /// In the order in which they were collected (`R7`).
    queue: VecDeque<Kept>,
    /// How many steps of the queue name a key.
    keys: HashMap<Bytes, usize>,
    /// How many of them concern keys that are not known.
    wide: usize,
    last: u64,
    /// When the first of the queue failed.
    since: Option<Instant>,
    /// Everything that was kept since then, for the event at the end.
    collected: Extent,
    /// Some of the routes whose requests wrote it.
    routes: Vec<String>,
    sender: Option<Sender>,
}

struct Sender {
    task: JoinHandle<()>,
    alive: Instant,
}

struct Kept {
    /// The oldest ticket that it answers for.
    first: u64,
    ticket: u64,
    what: Arc<What>,
    /// What the same write collected before it, in other regions, and was not confirmed either (`R7`): it goes first.
    after: Behind,
}

/// Tickets of other regions, the last of each.
pub(crate) type Behind = Vec<(Arc<RegionCore>, u64)>;

impl Unconfirmed {
    /// Whether anything is kept at all.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Whether what the shared tier holds under a key counts as void.
    pub(crate) fn covers(&self, key: &Bytes) -> bool {
        self.any() && {
            let state = lock(&self.state);
            state.wide > 0 || state.keys.contains_key(key)
        }
    }

    /// The shared tier has answered: what is kept may be sent now.
    pub(super) fn hope(&self) {
        if self.any() {
            self.hope.notify_one();
        }
    }

    /// Waits until everything up to a ticket has been confirmed.
    pub(crate) async fn confirmed(&self, ticket: u64) {
        loop {
            let mut next = std::pin::pin!(self.confirmed.notified());
            next.as_mut().enable(); // what is confirmed from here on wakes it
            if lock(&self.state).is_done(ticket) {
                return;
            }
            next.await;
        }
    }

    /// Whether everything up to a ticket has been confirmed.
    pub(crate) fn is_confirmed(&self, ticket: u64) -> bool {
        lock(&self.state).is_done(ticket)
    }

    fn push(&self, what: What, after: Behind, collected: &Extent, route: Option<&str>) -> u64 {
        let mut state = lock(&self.state);
        state.since.get_or_insert_with(Instant::now);
        // a tag counts in each region whose queue it is in, and once in its write
        state.collected.add(&Extent { count: what.len(), ..collected.clone() });
        if let Some(route) = route
            && state.routes.len() < SAMPLE
            && state.routes.iter().all(|each| each != route)
        {
            state.routes.push(route.to_owned());
        }
        if state.queue.len() + 1 > MOST_STEPS || state.keys.len() + what.len() > MOST_KEYS {
            return self.push_region(&mut state, after);
        }
        let ticket = state.ticket();
        state.push(Kept { first: ticket, ticket, what: Arc::new(what), after });
        self.count.store(state.queue.len(), Ordering::Release);
        ticket
    }

    /// The whole region, in place of everything that is kept.
    fn push_region(&self, state: &mut State, mut after: Behind) -> u64 {
        let first = state.queue.front().map(|oldest| oldest.first);
        after.extend(state.queue.drain(..).flat_map(|kept| kept.after));
        (state.keys, state.wide) = Default::default();
        let region = Arc::new(What::Region);
        // a new ticket in any case: a step that is on its way now has not confirmed the region
        let mut ticket = state.ticket();
        state.push(Kept {
            first: first.unwrap_or(ticket),
            ticket,
            what: region.clone(),
            after: Behind::new(),
        });
        if !after.is_empty() {
            // Once at once, for others may wait for what was kept here, and once behind what was to go first: in one they
            // could wait for each other.
            ticket = state.ticket();
            state.push(Kept { first: ticket, ticket, what: region, after });
        }
        self.count.store(state.queue.len(), Ordering::Release);
        ticket
    }

    /// The next to be sent. `None`: nothing is left, and the task that asks ends.
    fn next(&self) -> Option<(u64, Arc<What>, Behind)> {
        let mut state = lock(&self.state);
        if let Some(kept) = state.queue.front() {
            let next = (kept.ticket, kept.what.clone(), kept.after.clone());
            if let Some(sender) = &mut state.sender {
                sender.alive = Instant::now();
            }
            return Some(next);
        }
        state.sender = None;
        None
    }

    /// One was confirmed. Gives the event that all are, if it was the last one.
    fn done(&self, ticket: u64, region: &str) -> Option<Event> {
        let mut state = lock(&self.state);
        // the queue may have been replaced by the whole region meanwhile
        if state.queue.front().is_none_or(|kept| kept.ticket != ticket) {
            return None;
        }
        let kept = state.queue.pop_front()?;
        state.uncount(&kept.what);
        self.count.store(state.queue.len(), Ordering::Release);
        let all = state.queue.is_empty().then(|| {
            let Extent { count, sources, sample } = std::mem::take(&mut state.collected);
            Event::InvalidationsConfirmed {
                region: region.to_owned(),
                sources,
                collected: count,
                sample,
                routes: std::mem::take(&mut state.routes),
                after: state.since.take().map_or(Duration::ZERO, |since| since.elapsed()),
            }
        });
        drop(state);
        self.confirmed.notify_waiters();
        all
    }

    /// Waits for the next attempt: the whole pause, or less when the shared tier has answered something.
    async fn pause(&self, pause: Duration) {
        sleep(FIRST_PAUSE.min(pause)).await;
        let _ = timeout(pause.saturating_sub(FIRST_PAUSE), self.hope.notified()).await;
    }
}

impl State {
    fn ticket(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn push(&mut self, kept: Kept) {
        self.count(&kept.what);
        self.queue.push_back(kept);
    }

    fn is_done(&self, ticket: u64) -> bool {
        self.queue.front().is_none_or(|kept| kept.first > ticket)
    }

    fn count(&mut self, what: &What) {
        match what {
            What::Keys(keys) => keys.iter().for_each(|key| *self.keys.entry(key.clone()).or_default() += 1),
            What::Tags(_) | What::Region => self.wide += 1,
        }
    }

    fn uncount(&mut self, what: &What) {
        match what {
            What::Keys(keys) => {
                for key in keys {
                    if let Some(steps) = self.keys.get_mut(key) {
                        *steps -= 1;
                        if *steps == 0 {
                            self.keys.remove(key);
                        }
                    }
                }
            }
            What::Tags(_) | What::Region => self.wide -= 1,
        }
    }
}

impl RegionCore {
    /// Keeps an invalidation that was not confirmed, or that has to be sent again behind one of the same write that was
    /// not. Gives its ticket, for whoever waits for its confirmation.
    pub(crate) fn keep(
        self: &Arc<Self>,
        what: What,
        mut after: Behind,
        collected: &Extent,
        route: Option<&str>,
    ) -> u64 {
        after.retain(|(region, _)| !Arc::ptr_eq(region, self)); // one queue keeps its order
        let ticket = self.unconfirmed.push(what, after, collected, route);
        self.send_unconfirmed();
        ticket
    }

    /// Sees to it that a task sends what is kept, on the runtime of the caller: one that did so before may have ended
    /// with its runtime.
    pub(crate) fn send_unconfirmed(self: &Arc<Self>) {
        if !self.unconfirmed.any() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let mut state = lock(&self.unconfirmed.state);
        let lives = |sender: &Sender| !sender.task.is_finished() && sender.alive.elapsed() < STALLED;
        if state.queue.is_empty() || state.sender.as_ref().is_some_and(lives) {
            return;
        }
        // It keeps the region: what is committed has to reach the shared tier, also when the cache is dropped.
        let task = runtime.spawn(resend(self.clone()));
        state.sender = Some(Sender { task, alive: Instant::now() });
    }

    /// Waits until nothing is kept, for at most so long. Where there is no runtime with timers it does not wait.
    pub(crate) async fn all_confirmed(self: &Arc<Self>, within: Duration) -> Result<(), Fault> {
        if !self.unconfirmed.any() {
            return Ok(());
        }
        let waits = Handle::try_current().is_ok() && crate::runtime::check_timers().is_ok();
        let done = if waits {
            self.send_unconfirmed();
            let last = lock(&self.unconfirmed.state).last;
            timeout(within, self.unconfirmed.confirmed(last)).await.is_ok()
        } else {
            false
        };
        done.then_some(()).ok_or_else(|| {
            let left: usize = lock(&self.unconfirmed.state).queue.iter().map(|kept| kept.what.len()).sum();
            Fault::new(
                crate::FaultKind::Down,
                format!("{left} invalidated keys, tags and regions were not confirmed within {within:?}"),
            )
        })
    }
}

/// Sends what is kept, one step after the other, until nothing is left.
async fn resend(region: Arc<RegionCore>) {
    let mut pause = FIRST_PAUSE;
    let mut first = true;
    while let Some((ticket, what, after)) = region.unconfirmed.next() {
        if let Some((other, its)) =
            after.into_iter().find(|(other, its)| !other.unconfirmed.is_confirmed(*its))
        {
            other.send_unconfirmed();
            let _ = timeout(LONGEST_PAUSE, other.unconfirmed.confirmed(its)).await;
            continue;
        }
        // the first attempt was made by the write itself, just before
        if first || region.void(None, &what).await.is_err() {
            first = false;
            region.unconfirmed.pause(pause.mul_f64(1.0 - 0.25 * fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            continue;
        }
        pause = FIRST_PAUSE;
        if let Some(all) = region.unconfirmed.done(ticket, &region.name) {
            region.events.tell(all);
        }
    }
}
