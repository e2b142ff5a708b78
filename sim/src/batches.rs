//! Readers of one request that share its parts, around the library's own batches.
//!
//! The request and its waiting readers follow `request.rs` and `request/waiting.rs` step by step; the task that
//! carries a part follows `read.rs` and the settlement of `claim.rs`. Readers are dropped at any poll, and
//! carriers before they have sent, after, and not at all.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use futures_util::future::{Either, join_all, select};
use shuttle::future::batch_semaphore::{BatchSemaphore as Semaphore, Fairness};
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};

use crate::batch::{Part, Phase, Sink};
use crate::lookout::Lookout;
use crate::standby::{Place, StandBy};
use crate::steps::{cut_after, trip};
use crate::sync::{Arc, Mutex, lock};

/// What is modelled.
#[derive(Clone, Copy, Debug)]
pub struct BatchScene {
    /// Tasks that read through one request.
    pub tasks: usize,
    /// Readers that each task awaits together.
    pub readers: usize,
    /// Some readers are dropped at some poll.
    pub dropped: bool,
    /// Some carriers are dropped before they have answered.
    pub cut_off: bool,
    /// Some parts are answered in two steps.
    pub slow: bool,
    /// What is asked for key 0 alone is answered once key 1 was.
    pub hangs: bool,
    /// Readers are polled once and then kept until another read was answered. Only then there are minders: their
    /// millisecond is over at any time, and would hide that a lookout that was dropped was not handed over.
    pub kept: bool,
    /// A rule that is broken on purpose.
    pub broken: Option<BatchRule>,
}

/// What a [`BatchScene`] can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchRule {
    /// A carrier that is dropped gives the keys back to their readers.
    CarriersGiveBack,
    /// The reader that looks out wakes those who sleep when it goes.
    LookoutIsHandedOver,
    /// Behind a reader that looks out and is not polled stands a minder.
    LookoutIsMinded,
    /// A reader that goes leaves the keys that others wait for.
    KeysAreSharedByCount,
    /// A reader tells the part that it waits.
    ReadersLeaveAWaker,
    /// Of a part that is answered in two steps, a reader looks whether it has all that it waits for.
    ReadersLookForAllTheirKeys,
    /// A reader that sends tells the part only then, and not before.
    SendersLookAgain,
    /// A carrier that is dropped is no longer waited for by those who stand by.
    CarriersEndTheStandBy,
    /// A carrier that asks for long is no longer waited for by those who stand by.
    StandByIsBounded,
}

const KEYS: u32 = 3;

/// A carrier is cut off at most so often: a reader tries three times.
const MOST_CUTS: usize = 2;

type ThePart = Part<u32, u32>;

struct Request {
    scene: BatchScene,
    state: Mutex<State>,
    /// Not a part of what is modelled.
    ledger: std::sync::Mutex<Ledger>,
    cuts: AtomicUsize,
    stand_by: StandBy<()>,
    lookout: Lookout<()>,
    /// Opens when key 1 was answered.
    second: Semaphore,
}

#[derive(Default)]
struct State {
    cells: HashMap<u32, Cell>,
    gathering: Option<Arc<ThePart>>,
    gathered: usize,
    next_part: u64,
}

enum Cell {
    Known(u32),
    Coming(Arc<ThePart>, usize),
}

/// What became of every key of every part.
#[derive(Default)]
struct Ledger(HashMap<(u64, usize), Fate>);

struct Fate {
    key: u32,
    readers: usize,
    given_back: bool,
    sent: usize,
}

/// Runs a scene once, under the schedule that shuttle has chosen. Gives the number of parts that were sent.
///
/// # Panics
/// If a reader that was not dropped has no answer or a wrong one, if a key was sent twice or neither sent nor
/// given back, or given back while somebody waited for it.
pub fn play(scene: BatchScene) -> usize {
    let request = Arc::new(Request {
        scene,
        state: Mutex::new(State::default()),
        ledger: std::sync::Mutex::default(),
        cuts: AtomicUsize::new(0),
        stand_by: StandBy::default(),
        lookout: Lookout::default(),
        second: Semaphore::new(0, Fairness::StrictlyFair),
    });
    let tasks: Vec<_> = (0..scene.tasks)
        .map(|nth| {
            let request = request.clone();
            spawn(async move {
                if scene.hangs {
                    let key = nth as u32;
                    assert_eq!(read(&request, &[key]).await, [Some(key * 10)]);
                    if key == 1 {
                        request.second.release(1);
                    }
                    return;
                }
                if scene.kept {
                    return keep(&request, nth as u32).await;
                }
                let readers = (0..scene.readers).map(|_| reader(&request));
                join_all(readers).await;
            })
        })
        .collect();
    block_on(async {
        for task in tasks {
            task.await.expect("no task is aborted");
        }
    });
    request.is_quiet()
}

async fn reader(request: &Arc<Request>) {
    let keys: Vec<u32> = (0..KEYS).filter(|_| thread_rng().gen_range(0..3) > 0).collect();
    let dropped = (request.scene.dropped && thread_rng().gen_range(0..2) == 0).then(|| {
        // many go at once, some when all is nearly done
        thread_rng().gen_range(0..5)
    });
    let Some(answers) = cut_after(dropped, read(request, &keys)).await else { return };
    for (key, answer) in keys.iter().zip(answers) {
        assert_eq!(answer, Some(key * 10), "key {key}");
    }
}

/// A read that is polled a few times and then kept, while others are awaited one after the other.
async fn keep(request: &Arc<Request>, own: u32) {
    let own = [own % KEYS];
    let mut kept = pin!(read(request, &own));
    let polls = thread_rng().gen_range(0..3);
    let mut early = None;
    for _ in 0..polls {
        if let Poll::Ready(answers) = poll_fn(|cx| Poll::Ready(kept.as_mut().poll(cx))).await {
            early = Some(answers);
            break;
        }
    }
    for key in (0..KEYS).filter(|key| *key != own[0]) {
        assert_eq!(read(request, &[key]).await, [Some(key * 10)]);
    }
    let answers = match early {
        Some(answers) => answers,
        None => kept.await,
    };
    assert_eq!(answers, [Some(own[0] * 10)]);
}

/// As `RequestCache::read`.
async fn read(request: &Arc<Request>, keys: &[u32]) -> Vec<Option<u32>> {
    let mut answers = vec![None; keys.len()];
    for _ in 0..=MOST_CUTS {
        let Some(mut waiting) = request.claim(keys, &mut answers) else { break };
        (&mut waiting).await;
        if waiting.deliver(&mut answers) {
            break;
        }
    }
    answers
}

impl Request {
    /// As `RequestCache::claim`.
    fn claim(self: &Arc<Self>, keys: &[u32], answers: &mut [Option<u32>]) -> Option<Waiting> {
        let mut waiting: Option<Waiting> = None;
        let mut state = lock(&self.state);
        let state = &mut *state;
        for (nth, key) in
            keys.iter().enumerate().filter(|(nth, _)| answers[*nth].is_none()).collect::<Vec<_>>()
        {
            let coming = match state.cells.get(key) {
                Some(Cell::Known(value)) => {
                    answers[nth] = Some(*value);
                    continue;
                }
                Some(Cell::Coming(part, at)) => {
                    let careless = self.scene.broken == Some(BatchRule::KeysAreSharedByCount);
                    (careless || part.share(*at)).then(|| (part.clone(), *at))
                }
                None => None,
            };
            let (part, at) = coming.unwrap_or_else(|| state.want(*key));
            self.tell(|ledger| ledger.waits(part.id, at, *key));
            let waiting = waiting.get_or_insert_with(|| Waiting::new(self.clone()));
            waiting.add(nth, part, at);
        }
        if let Some(waiting) = &mut waiting {
            waiting.gathering = self.lookout.gathering();
        }
        waiting
    }

    /// As `RequestCore::is_minded`.
    fn is_minded(self: &Arc<Self>, gathering: usize) -> bool {
        let minds = self.scene.kept && self.scene.broken != Some(BatchRule::LookoutIsMinded);
        if !self.lookout.is_minded(&(), gathering) && !self.lookout.set_minded((), gathering) && minds {
            spawn(mind(self.clone(), gathering));
        }
        true
    }

    /// As `RequestCore::wake_sleepers`.
    fn wake_sleepers(&self) {
        let mut sleepers = Vec::new();
        lock(&self.state).gathering.iter().for_each(|part| part.sleepers(&mut sleepers));
        sleepers.into_iter().for_each(Waker::wake);
    }

    /// As `RequestCore::send`.
    fn send(self: &Arc<Self>, state: &mut State) {
        state.gathered = 0;
        let Some(part) = state.gathering.take() else { return };
        let mut sink = Sink::new(part);
        let sent = sink.send(1, &tokio_util::sync::CancellationToken::new());
        let coming: Vec<_> = sent.into_iter().enumerate().filter_map(|(at, key)| Some((at, key?))).collect();
        self.lookout.sent();
        for (at, _) in &coming {
            self.tell(|ledger| {
                ledger.0.get_mut(&(sink.id, *at)).expect("a key that was waited for").sent += 1;
            });
        }
        let asking = Asking::new(self);
        let carrier = Carrier { request: self.clone(), sink: Some(sink), coming, asking: Some(asking) };
        let cut = self.scene.cut_off
            && thread_rng().gen_range(0..2) == 0
            && self.cuts.fetch_add(1, Ordering::Relaxed) < MOST_CUTS;
        let cut = cut.then(|| thread_rng().gen_range(0..3));
        // a task that is never polled is dropped all the same
        if cut != Some(0) || thread_rng().gen_range(0..2) == 0 {
            spawn(cut_after(cut, carrier.carry()));
        } else {
            spawn(async move { drop(carrier) });
        }
    }

    fn tell<T>(&self, what: impl FnOnce(&mut Ledger) -> T) -> T {
        what(&mut self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn is_quiet(&self) -> usize {
        self.tell(|ledger| {
            for ((part, _), Fate { key, readers, given_back, sent }) in &ledger.0 {
                assert!(*sent <= 1, "key {key} of part {part} was sent {sent} times");
                assert!(*sent == 0 || !given_back, "key {key} of part {part} was sent and given back");
                assert_eq!(
                    *readers, 0,
                    "a reader of key {key} of part {part} has neither gone nor been answered"
                );
            }
            let mut parts: Vec<u64> =
                ledger.0.iter().filter(|(_, fate)| fate.sent > 0).map(|((part, _), _)| *part).collect();
            parts.sort_unstable();
            parts.dedup();
            parts.len()
        })
    }
}

/// As the minder of a runtime. Its milliseconds are over once others have done their part.
async fn mind(request: Arc<Request>, gathering: usize) {
    for _ in 0..2 {
        yield_now().await;
        if request.lookout.sleeping() != Some(gathering) {
            return;
        }
    }
    request.lookout.give_up(gathering);
    request.wake_sleepers();
}

impl Ledger {
    fn waits(&mut self, part: u64, at: usize, key: u32) {
        let new = Fate { key, readers: 0, given_back: false, sent: 0 };
        let fate = self.0.entry((part, at)).or_insert(new);
        assert_eq!(fate.key, key, "one index of a part stands for two keys");
        assert!(!fate.given_back, "a reader joined key {key}, which was given back");
        fate.readers += 1;
    }

    fn leaves(&mut self, part: u64, at: usize, back: Option<u32>) {
        // readers leave in their destructors: the first violation unwinds through those of the others, and a
        // second panic there would abort the process instead of failing the run
        if std::thread::panicking() {
            return;
        }
        let fate = self.0.get_mut(&(part, at)).expect("a key that was waited for");
        fate.readers -= 1;
        if let Some(key) = back {
            assert_eq!(key, fate.key, "a reader was given back the key of another one");
            assert_eq!(fate.readers, 0, "key {key} was given back while somebody waits for it");
            fate.given_back = true;
        }
    }
}

/// As `Waiting`.
struct Waiting {
    request: Arc<Request>,
    parts: Vec<(Arc<ThePart>, Option<usize>)>,
    tickets: Vec<(usize, usize, usize)>,
    seen: usize,
    done: bool,
    stands: Option<Place>,
    gathering: usize,
    looks_out: bool,
    sleeps: Option<Waker>,
}

impl Waiting {
    fn new(request: Arc<Request>) -> Self {
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

    fn add(&mut self, nth: usize, part: Arc<ThePart>, at: usize) {
        let known = self.parts.iter().rposition(|(each, _)| Arc::ptr_eq(each, &part));
        let part = known.unwrap_or_else(|| {
            self.parts.push((part, None));
            self.parts.len() - 1
        });
        self.tickets.push((nth, part, at));
    }

    fn deliver(&self, answers: &mut [Option<u32>]) -> bool {
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

impl State {
    fn want(&mut self, key: u32) -> (Arc<ThePart>, usize) {
        let next = &mut self.next_part;
        let part = self.gathering.get_or_insert_with(|| {
            *next += 1;
            Part::new(*next, 1)
        });
        let part = part.clone();
        let at = part.want(key).expect("a part of this turn gathers");
        self.gathered += 1;
        self.cells.insert(key, Cell::Coming(part.clone(), at));
        (part, at)
    }

    fn give_back(&mut self, key: u32, part: &Arc<ThePart>) {
        if matches!(self.cells.get(&key), Some(Cell::Coming(of, _)) if Arc::ptr_eq(of, part)) {
            self.cells.remove(&key);
        }
    }
}

/// The task that carries a part: a `Bound` until the task runs, then a `Claim`. Neither touches tier 1 when it is dropped:
/// who finds a key coming with a part that is settled claims it anew.
struct Carrier {
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
    async fn carry(mut self) {
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
