//! Readers of one request that share its parts, around the library's own batches.
//!
//! The request and its waiting readers follow `request.rs` and `request/waiting.rs` step by step; the task that
//! carries a part follows `read.rs` and the settlement of `claim.rs`. Readers are dropped at any poll, and
//! carriers before they have sent, after, and not at all.

mod carrier;
mod waiting;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use futures_util::future::join_all;
use shuttle::future::batch_semaphore::{BatchSemaphore as Semaphore, Fairness};
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};
use smallvec::SmallVec;

use self::carrier::Carrier;
use self::waiting::Waiting;
use crate::batch::{Part, Sink};
use crate::lookout::Lookout;
use crate::standby::StandBy;
use crate::steps::cut_after;
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
        let carrier = Carrier::of(self, sink, coming);
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

impl State {
    fn want(&mut self, key: u32) -> (Arc<ThePart>, usize) {
        let next = &mut self.next_part;
        let part = self.gathering.get_or_insert_with(|| {
            *next += 1;
            Part::new(*next)
        });
        let part = part.clone();
        let at = part.places();
        assert!(part.want(SmallVec::from_buf([Some(key)])), "a part of this turn gathers");
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
