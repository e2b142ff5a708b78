//! Gathers the keys of one turn: what is awaited together travels together.
//!
//! There is no time window. A reader that has to wait puts its keys into the part that is gathering. One of them wakes
//! itself, and sends the batch once no read came to wait between several of its polls: by then every other reader of the
//! same `join!`, `try_join_all`, stream or resolver tree has been polled too, and has added its keys. The others sleep.
//! None depends on that one being polled: see [`lookout`](crate::request::lookout).

use std::ops::Deref;
use std::sync::OnceLock;
use std::task::{Context, Waker};

use smallvec::SmallVec;
use tokio_util::sync::CancellationToken;

use crate::sync::{Arc, AtomicBool, Mutex, Ordering, lock};
use crate::waits::Load;

/// The keys of one source that travel together, and the answers to them.
///
/// Readers hold a part by `Arc` and a key by its index in it.
pub(crate) struct Part<K, A> {
    /// Distinguishes the parts of one request.
    pub(crate) id: u64,
    /// It has been sent: see [`Part::poll`].
    sent: AtomicBool,
    /// Made when something is loaded for it, or a load waits for it: most parts need none.
    load: OnceLock<Arc<Load>>,
    state: Mutex<State<K, A>>,
}

struct State<K, A> {
    phase: Phase,
    /// The tick at which it was sent.
    begun: u64,
    /// A load of the same batch, or of another one, waits for it: the batch that carries it must not wait.
    hurry: Option<CancellationToken>,
    /// Until they are sent: then all of them leave at once, where they stand.
    keys: Vec<Option<K>>,
    /// How many readers wait, by the index of the key.
    readers: SmallVec<[u32; FEW]>,
    /// By the index of the key.
    answers: Vec<Option<A>>,
    /// Some of its keys were answered before the others: see [`Part::answer_early`].
    partly: bool,
    wakers: SmallVec<[Option<Waker>; FEW]>,
}

/// As many stand where they are; who comes after them mostly is not the last one, and there is room for [`MORE`] at once.
const FEW: usize = 4;
const MORE: usize = 28;

/// The end at which a part that was sent is answered, by whoever has it on its way.
///
/// Dropped without an answer, it gives the keys back: their readers find the part settled, and claim them anew.
pub(crate) struct Sink<K, A: Clone> {
    part: Arc<Part<K, A>>,
    /// It was sent, and its readers wait.
    owes: bool,
}

impl<K, A: Clone> Sink<K, A> {
    pub(crate) fn new(part: Arc<Part<K, A>>) -> Self {
        Self { part, owes: false }
    }

    /// Sends the part: the keys that somebody still waits for, each at its index.
    pub(crate) fn send(&mut self, begun: u64, hurry: &CancellationToken) -> Vec<Option<K>> {
        self.owes = true;
        self.part.send(begun, hurry)
    }

    /// Answers, by the index of the key, and wakes every reader.
    pub(crate) fn settle(&mut self, answers: Vec<Option<A>>) {
        self.owes = false;
        self.part.settle(answers);
    }
}

impl<K, A: Clone> Deref for Sink<K, A> {
    type Target = Part<K, A>;

    fn deref(&self) -> &Part<K, A> {
        &self.part
    }
}

impl<K, A: Clone> Drop for Sink<K, A> {
    fn drop(&mut self) {
        if self.owes {
            self.settle(Vec::new());
        }
    }
}

/// How far a part has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Keys may still be added.
    Gathering,
    /// On its way.
    Sent,
    /// On its way, and some keys are answered already: a reader that waits for none of the others is done.
    Partly,
    /// Answered, or given back: a key without an answer is to be claimed anew.
    Settled,
}

impl<K, A: Clone> Part<K, A> {
    pub(crate) fn new(id: u64) -> Arc<Self> {
        let state = State {
            phase: Phase::Gathering,
            begun: 0,
            hurry: None,
            keys: Vec::new(),
            readers: SmallVec::new(),
            answers: Vec::new(),
            partly: false,
            wakers: SmallVec::new(),
        };
        Arc::new(Self { id, sent: AtomicBool::new(false), load: OnceLock::new(), state: Mutex::new(state) })
    }

    /// The load of its keys, from the source of this name, among those that wait for each other.
    pub(crate) fn load(&self, source: &'static str) -> &Arc<Load> {
        self.load.get_or_init(|| Load::new(source))
    }

    /// Whether a load waits for it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.load.get().is_some_and(|load| load.is_awaited())
    }

    /// How many keys it has, and so the place of the next one.
    pub(crate) fn places(&self) -> usize {
        lock(&self.state).readers.len()
    }

    /// Adds keys for one reader, while the part gathers; a place without one stays empty. The caller makes sure that keys are
    /// distinct.
    pub(crate) fn want(&self, keys: SmallVec<[Option<K>; 1]>) -> bool {
        let mut state = lock(&self.state);
        if state.phase != Phase::Gathering {
            return false;
        }
        if state.keys.len() >= FEW && state.keys.len() == state.keys.capacity() {
            // keys that come one by one, as those of a page do
            state.keys.reserve(MORE);
            state.readers.reserve(MORE);
        }
        state.readers.extend(keys.iter().map(|key| u32::from(key.is_some())));
        if state.keys.is_empty() && keys.spilled() {
            state.keys = keys.into_vec(); // where they stand
        } else {
            state.keys.extend(keys);
        }
        true
    }

    /// Another reader waits for a key that is here already. Not if the part is settled: what carried it was
    /// cut off before it answered anybody, and the key is to be claimed anew.
    pub(crate) fn share(&self, at: usize) -> bool {
        let mut state = lock(&self.state);
        if state.phase == Phase::Settled {
            return false;
        }
        let Some(readers) = state.readers.get_mut(at) else { return false };
        *readers = readers.saturating_add(1);
        true
    }

    /// A reader has gone. Gives the key back if it was the last one and the part has not been sent.
    pub(crate) fn leave(&self, at: usize) -> Option<K> {
        let mut state = lock(&self.state);
        let readers = state.readers.get_mut(at)?;
        *readers = readers.saturating_sub(1);
        // once sent, it is not here any longer
        if *readers == 0 { state.keys.get_mut(at)?.take() } else { None }
    }

    /// Sends the part: the keys that somebody still waits for, each at its index.
    fn send(&self, begun: u64, hurry: &CancellationToken) -> Vec<Option<K>> {
        let mut state = lock(&self.state);
        state.phase = Phase::Sent;
        self.sent.store(true, Ordering::Release);
        state.begun = begun;
        state.hurry = Some(hurry.clone());
        std::mem::take(&mut state.keys)
    }

    /// Answers some keys before the others, by their index, and lets every reader look whether it has what it waits
    /// for. The part stays on its way for the rest.
    pub(crate) fn answer_early(&self, answers: impl IntoIterator<Item = (usize, A)>) {
        let wakers: Vec<_> = {
            let mut state = lock(&self.state);
            if state.phase != Phase::Sent {
                return;
            }
            state.partly = true;
            for (at, answer) in answers {
                if state.answers.len() <= at {
                    state.answers.resize_with(at + 1, || None);
                }
                state.answers[at] = Some(answer);
            }
            // they stay where they are: who waits for the others is not done, and knows its place
            state.wakers.iter().flatten().cloned().collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether all of these keys are answered.
    pub(crate) fn has(&self, mut keys: impl Iterator<Item = usize>) -> bool {
        let state = lock(&self.state);
        keys.all(|at| state.answers.get(at).is_some_and(Option::is_some))
    }

    /// Answers, by the index of the key, and wakes every reader. Only the first settlement counts, and what was
    /// answered before it stays.
    fn settle(&self, answers: Vec<Option<A>>) {
        let wakers = {
            let mut state = lock(&self.state);
            if state.phase == Phase::Settled {
                return;
            }
            state.phase = Phase::Settled;
            self.sent.store(true, Ordering::Release);
            let early = std::mem::replace(&mut state.answers, answers);
            if state.answers.len() < early.len() {
                state.answers.resize_with(early.len(), || None);
            }
            for (answer, early) in state.answers.iter_mut().zip(early) {
                *answer = early.or_else(|| answer.take());
            }
            std::mem::take(&mut state.wakers)
        };
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }

    /// A load waits for a key of this part.
    pub(crate) fn hurry(&self) {
        if let Some(hurry) = &lock(&self.state).hurry {
            hurry.cancel();
        }
    }

    /// The tick at which it was sent.
    pub(crate) fn begun(&self) -> u64 {
        lock(&self.state).begun
    }

    /// Hands over the answers to these keys, once settled, each with its place among them and the tick at which the
    /// part was sent. A reader asks once for each key that it waited for: the last one takes the answer with it.
    pub(crate) fn answers(
        &self,
        keys: impl Iterator<Item = usize>,
        mut take: impl FnMut(usize, u64, Option<A>),
    ) {
        let mut state = lock(&self.state);
        let State { readers, answers, begun, .. } = &mut *state;
        for (nth, at) in keys.enumerate() {
            let last = readers.get_mut(at).is_none_or(|readers| {
                *readers = readers.saturating_sub(1);
                *readers == 0
            });
            let answer = answers.get_mut(at);
            take(nth, *begun, answer.and_then(|answer| if last { answer.take() } else { answer.clone() }));
        }
    }

    /// Whether it has not been sent yet: a look without a lock.
    pub(crate) fn gathers(&self) -> bool {
        !self.sent.load(Ordering::Acquire)
    }

    /// How far the part has come; while it is on its way, the reader is woken when it is settled. `place` is the
    /// reader's own place among the wakers.
    ///
    /// While it gathers, the reader leaves its waker only if it `sleeps`: another one looks out for it.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, place: &mut Option<usize>, sleeps: bool) -> Phase {
        if !sleeps && self.gathers() {
            return Phase::Gathering;
        }
        let mut state = lock(&self.state);
        if state.phase != Phase::Settled {
            match place.and_then(|place| state.wakers.get_mut(place)) {
                Some(Some(waker)) => waker.clone_from(cx.waker()),
                _ => {
                    if state.wakers.len() == FEW {
                        state.wakers.reserve(MORE);
                    }
                    state.wakers.push(Some(cx.waker().clone()));
                    *place = Some(state.wakers.len() - 1);
                }
            }
        }
        match state.phase {
            Phase::Sent if state.partly => Phase::Partly,
            phase => phase,
        }
    }

    /// The wakers of those who sleep while it gathers. They stay where they are.
    pub(crate) fn sleepers(&self, into: &mut Vec<Waker>) {
        into.extend(lock(&self.state).wakers.iter().flatten().cloned());
    }

    /// A reader stops waiting: its waker is dropped with it.
    pub(crate) fn forget(&self, place: Option<usize>) {
        let Some(place) = place else { return };
        let mut state = lock(&self.state);
        let waker = state.wakers.get_mut(place).and_then(Option::take);
        // readers that come and go while a part is on its way leave nothing behind
        while matches!(state.wakers.last(), Some(None)) {
            state.wakers.pop();
        }
        drop(state);
        drop(waker);
    }
}
