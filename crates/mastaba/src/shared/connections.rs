//! For backends over connections (feature `connections`): one link per runtime, why there is [none at start](ConnectError), and
//! what their [URLs](urls) have in common.
//!
//! A connection is driven by the runtime that it was made on, and by no other. Where that runtime has ended, or nobody drives
//! it any longer, a connection answers nobody. So each runtime gets its own when it asks for the first time, and takes it
//! along when it ends.
//!
//! ```
//! use std::sync::Arc;
//! use mastaba::shared::connections::PerRuntime;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let begin = || Ok((Arc::new("a link"), Box::pin(std::future::pending()) as _));
//! let links = PerRuntime::<&str, &str>::new(begin, || (), |what| what);
//! assert!(Arc::ptr_eq(&links.here().unwrap(), &links.here().unwrap()));
//! # });
//! ```

mod start;
pub mod urls;

use std::future::Future;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};

pub use start::{AtStart, ConnectError};

/// What keeps a link, in a task on its runtime.
pub type Keeping = Pin<Box<dyn Future<Output = ()> + Send>>;

type Begin<L, E> = dyn Fn() -> Result<(Arc<L>, Keeping), E> + Send + Sync;

/// The links of a backend, by runtime. `E` is why there is none.
pub struct PerRuntime<L, E> {
    begin: Box<Begin<L, E>>,
    left: Box<dyn Fn() + Send + Sync>,
    unfit: fn(&'static str) -> E,
    links: RwLock<Vec<RuntimeLink<L>>>,
    next: AtomicU64,
}

struct RuntimeLink<L> {
    runtime: Id,
    number: u64,
    link: Arc<L>,
}

/// Held by the task that keeps a link. When the task ends, and with its runtime it does, the link is forgotten.
struct Leaving<L, E> {
    links: Weak<PerRuntime<L, E>>,
    number: u64,
}

impl<L, E> Drop for Leaving<L, E> {
    fn drop(&mut self) {
        if let Some(links) = self.links.upgrade() {
            links.leave(self.number);
        }
    }
}

impl<L: Send + Sync + 'static, E: 'static> PerRuntime<L, E> {
    /// `begin` makes a link that connects once it is kept; `left` is called when one has ended; `unfit` makes an error of
    /// what a runtime lacks.
    pub fn new(
        begin: impl Fn() -> Result<(Arc<L>, Keeping), E> + Send + Sync + 'static,
        left: impl Fn() + Send + Sync + 'static,
        unfit: fn(&'static str) -> E,
    ) -> Arc<Self> {
        let (begin, left) = (Box::new(begin), Box::new(left));
        Arc::new(Self { begin, left, unfit, links: RwLock::default(), next: AtomicU64::new(0) })
    }

    /// The link of the runtime that the caller is on. Costs a look at a short list.
    ///
    /// # Errors
    /// There is no runtime, or it lacks something, or no link can be made.
    pub fn here(self: &Arc<Self>) -> Result<Arc<L>, E> {
        let runtime = current().map_err(self.unfit)?;
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = links.iter().find(|place| place.runtime == runtime.id()) {
            return Ok(place.link.clone());
        }
        drop(links);
        lacks().map_or(Ok(()), |what| Err((self.unfit)(what)))?;
        self.settle(&runtime, &self.begin)
    }

    /// Makes the link of a runtime, unless another one of its threads was faster.
    ///
    /// # Errors
    /// That of `begin`.
    pub fn settle(
        self: &Arc<Self>,
        runtime: &Handle,
        begin: impl FnOnce() -> Result<(Arc<L>, Keeping), E>,
    ) -> Result<Arc<L>, E> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = links.iter().find(|place| place.runtime == runtime.id()) {
            return Ok(place.link.clone());
        }
        let (link, keeping) = begin()?;
        links.push(RuntimeLink { runtime: runtime.id(), number, link: link.clone() });
        // Not under the lock: a runtime that is about to end drops the task at once, and with it what leaves.
        drop(links);
        let leaving = Leaving { links: Arc::downgrade(self), number };
        runtime.spawn(async move {
            let _leaving = leaving;
            keeping.await;
        });
        Ok(link)
    }
}

impl<L, E> PerRuntime<L, E> {
    fn leave(&self, number: u64) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let left = links.iter().position(|place| place.number == number).map(|at| links.swap_remove(at));
        drop(links);
        if left.is_some() {
            (self.left)();
        }
    }
}

/// The runtime of the caller.
///
/// # Errors
/// There is none.
pub fn current() -> Result<Handle, &'static str> {
    Handle::try_current().map_err(|_| "there is no tokio runtime here, and a connection needs one")
}

/// What the runtime of the caller lacks, and what to call. There is no way to ask but to use it, which panics where it is
/// missing.
#[must_use]
pub fn lacks() -> Option<&'static str> {
    if catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_err() {
        return Some(
            "this tokio runtime was built without timers: call `enable_all()` (or `enable_time()`) on its \
             `tokio::runtime::Builder`",
        );
    }
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))
        .and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    // where there is no such socket nothing is known, and connecting will show it
    let used = socket.map(|socket| catch_unwind(|| drop(tokio::net::UdpSocket::from_std(socket))));
    matches!(used, Ok(Err(_))).then_some(
        "this tokio runtime was built without IO, which connections need: call `enable_all()` (or `enable_io()`) on its \
         `tokio::runtime::Builder`",
    )
}
