//! The runtimes that a cache is used on.
//!
//! A cache may outlive the runtime that it was built on: it stands in a `static` that every test reads, it was built
//! before the server's own runtime, it serves workers that have a runtime each. So nothing of it belongs to one of
//! them. Work goes to the runtime of whoever asks for it, and what was left on a runtime that has ended, or that nobody
//! drives any longer, holds nobody up.

pub(crate) mod minder;

use std::panic::catch_unwind;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::error::Error;

/// How long a runtime may take to run one empty task before it counts as one that nobody drives.
const STANDSTILL: Duration = Duration::from_millis(500);

const NO_TIMERS: &str = "this tokio runtime was built without timers, which the budgets of all trips need: call \
                         `enable_all()` (or `enable_time()`) on its `tokio::runtime::Builder`";

/// The runtimes that one cache has been used on, while they last.
#[derive(Default)]
pub(crate) struct Runtimes {
    known: RwLock<Vec<Arc<Home>>>,
}

/// One runtime, as one cache uses it.
pub(crate) struct Home {
    /// Its own, for as long as the handle is kept.
    id: Id,
    handle: Handle,
    /// What goes on there after its caller was answered.
    tasks: TaskTracker,
    /// Why the cache cannot work there.
    unfit: Option<Error>,
    minder: minder::Minder,
}

impl Runtimes {
    /// The runtime of the caller, which is looked at when it asks for the first time. It wants `what`, and `unfit`
    /// knows why a backend cannot work there.
    ///
    /// Costs a look at a short list.
    ///
    /// # Errors
    /// Of usage: there is no runtime, or it lacks something; the sentence says what, and what to call.
    pub(crate) fn here(&self, what: &str, unfit: impl FnOnce() -> Option<Error>) -> Result<Arc<Home>, Error> {
        let Ok(handle) = Handle::try_current() else {
            return Err(Error::usage(format!("{what} needs a tokio runtime, and there is none here")));
        };
        let id = handle.id();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let home = known.iter().find(|home| home.id == id).cloned();
        drop(known);
        let home = home.unwrap_or_else(|| self.enter(handle, check_timers().err().or_else(unfit)));
        match &home.unfit {
            Some(error) => Err(error.clone()),
            None => Ok(home),
        }
    }

    fn enter(&self, handle: Handle, unfit: Option<Error>) -> Arc<Home> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = known.iter().find(|home| home.id == handle.id()) {
            return home.clone();
        }
        known.retain(|home| !home.has_ended());
        let tasks = TaskTracker::new();
        // closed, it still takes tasks, and can be waited for by several at a time
        tasks.close();
        let home =
            Arc::new(Home { id: handle.id(), handle, tasks, unfit, minder: minder::Minder::default() });
        known.push(home.clone());
        home
    }

    /// Waits until nothing goes on in the background, on any of them.
    pub(crate) async fn idle(&self) {
        let here = Handle::try_current().ok().map(|handle| handle.id());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        join_all(known.iter().map(|home| home.idle(Some(home.id) == here))).await;
    }
}

impl Home {
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// Runs a task there, which [`Runtimes::idle`] waits for.
    pub(crate) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(self.tasks.track_future(work))
    }

    /// Runs a task there that is nobody's work: [`Runtimes::idle`] does not wait for it.
    pub(crate) fn spawn_aside(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }

    /// Ends once nobody drives the runtime any longer: it was shut down, or its `block_on` has returned.
    pub(crate) async fn stands_still(&self, look_every: Duration) {
        loop {
            tokio::time::sleep(look_every.clamp(Duration::from_millis(20), Duration::from_secs(1))).await;
            if !self.is_driven().await {
                return;
            }
        }
    }

    /// Waits for its tasks; those of a runtime that nobody drives do not go on.
    async fn idle(&self, is_here: bool) {
        if is_here {
            return self.tasks.wait().await;
        }
        while !self.tasks.is_empty() {
            let standstill = async {
                if self.is_driven().await {
                    real_time(STANDSTILL).await;
                    return false;
                }
                true
            };
            tokio::select! {
                () = self.tasks.wait() => return,
                stands_still = standstill => if stands_still {
                    return;
                },
            }
        }
    }

    /// Whether somebody drives the runtime: tokio does not say, so it is given something to do.
    async fn is_driven(&self) -> bool {
        tokio::select! {
            biased;
            done = self.handle.spawn(std::future::ready(())) => done.is_ok(),
            () = real_time(STANDSTILL) => false,
        }
    }

    /// Whether it was shut down: it then refuses a task at once.
    pub(crate) fn has_ended(&self) -> bool {
        use futures_util::FutureExt;
        self.handle.spawn(std::future::ready(())).now_or_never().is_some_and(|done| done.is_err())
    }
}

/// Whether the runtime of the caller has timers.
///
/// There is no way to ask but to make one, which panics where they are missing. Tokio's own message is then printed by
/// the panic hook, before our error.
///
/// # Errors
/// Of usage, with what to call.
pub(crate) fn check_timers() -> Result<(), Error> {
    let made = catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO)));
    made.map_err(|_| Error::usage(NO_TIMERS))
}

/// A pause by the real clock. The runtime of the caller may have no timers, or a clock that a test has stopped: that one
/// moves on at once when everybody waits, and another runtime would seem to stand still.
async fn real_time(pause: Duration) {
    let (over, wait) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("mastaba-pause".to_owned());
    let started = thread.spawn(move || {
        std::thread::sleep(pause);
        drop(over);
    });
    if started.is_ok() {
        let _ = wait.await;
    }
}
