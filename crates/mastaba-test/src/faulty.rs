//! A backend that fails when a test says so.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::{Abilities, End, Ended, Fill, Filled, Hold, Lease, Leases, Shared, Stamp};
use mastaba::{Fault, FaultKind};

/// An operation of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// [`Shared::read`]
    Read,
    /// [`Shared::lease`]
    Lease,
    /// [`Shared::fill`]
    Fill,
    /// [`Shared::invalidate`]
    Invalidate,
    /// [`Shared::hold`]
    Hold,
    /// [`Shared::end`]
    End,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Read, Self::Lease, Self::Fill, Self::Invalidate, Self::Hold, Self::End];
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It fails, and is not done.
    Down,
    /// It is done, but its answer is lost: it fails.
    Lost,
    /// It is done this much later, and answers.
    Late(Duration),
    /// It never answers, and is not done.
    Silent,
}

/// The switchboard of a [`Faulty`]. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    always: HashMap<Op, Mishap>,
    next: HashMap<Op, VecDeque<Mishap>>,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on it goes wrong every time.
    pub fn always(&self, op: Op, mishap: Mishap) {
        self.state(|state| state.always.insert(op, mishap));
    }

    /// It goes wrong once, after those that were asked for before.
    pub fn next(&self, op: Op, mishap: Mishap) {
        self.state(|state| state.next.entry(op).or_default().push_back(mishap));
    }

    /// Nothing answers from now on.
    pub fn down(&self) {
        for op in Op::ALL {
            self.always(op, Mishap::Down);
        }
    }

    /// Nothing goes wrong from now on.
    pub fn heal(&self) {
        self.state(|state| *state = State::default());
    }

    fn take(&self, op: Op) -> Option<Mishap> {
        self.state(|state| {
            let next = state.next.get_mut(&op).and_then(VecDeque::pop_front);
            next.or_else(|| state.always.get(&op).cloned())
        })
    }

    fn state<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Passes everything on, unless its [`Faults`] say otherwise.
///
/// ```
/// use mastaba::shared::{Shared, memory::Memory};
/// use mastaba_test::faulty::{Faults, Faulty, Mishap, Op};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let faults = Faults::new();
/// let store = Faulty::new(Memory::default(), faults.clone());
/// faults.next(Op::Read, Mishap::Down);
/// assert!(store.read(&["a".into()]).await.is_err());
/// assert!(store.read(&["a".into()]).await.is_ok());
/// # });
/// ```
#[derive(Clone)]
pub struct Faulty<B> {
    inner: B,
    faults: Faults,
}

impl<B> Faulty<B> {
    /// Lets `faults` decide over the operations of `inner`.
    pub fn new(inner: B, faults: Faults) -> Self {
        Self { inner, faults }
    }

    async fn pass<T>(&self, op: Op, run: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let fault = |what: &str| Fault::new(FaultKind::Down, format!("{op:?} {what}, as the test wished"));
        match self.faults.take(op) {
            None => run.await,
            Some(Mishap::Down) => Err(fault("was not done")),
            Some(Mishap::Lost) => run.await.and(Err(fault("was done but not answered"))),
            Some(Mishap::Late(by)) => {
                tokio::time::sleep(by).await;
                run.await
            }
            Some(Mishap::Silent) => std::future::pending().await,
        }
    }
}

impl<B> fmt::Debug for Faulty<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl<B: Shared> Shared for Faulty<B> {
    const ABILITIES: Abilities = B::ABILITIES;

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        self.pass(Op::Read, self.inner.read(keys)).await
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        self.pass(Op::Lease, self.inner.lease(leases, stamps)).await
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        self.pass(Op::Fill, self.inner.fill(fills)).await
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        self.pass(Op::Invalidate, self.inner.invalidate(keys, stamps)).await
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        self.pass(Op::Hold, self.inner.hold(holds)).await
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        self.pass(Op::End, self.inner.end(ends)).await
    }

    fn stamps(&self, prefix: &[u8], record: &Bytes) -> bool {
        self.inner.stamps(prefix, record)
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }

    fn full_key(&self, key: &Bytes) -> Bytes {
        self.inner.full_key(key)
    }

    fn runs_here(&self) -> Result<(), Fault> {
        self.inner.runs_here()
    }

    async fn close(&self) -> Result<(), Fault> {
        self.inner.close().await
    }
}
