//! One link per runtime: a connection is driven by the runtime that it was made on, and by no other.
//!
//! Where that runtime has ended, or nobody drives it any longer, a connection answers nobody. So each runtime gets its
//! own when it asks for the first time, and takes it along when it ends.

use std::future::Future;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use redis::{ErrorKind, RedisResult};
use tokio::runtime::{Handle, Id};

use crate::hub::Hub;

/// What keeps a link, in a task on its runtime.
pub(super) type Keeping = Pin<Box<dyn Future<Output = ()> + Send>>;

type Begin<L> = dyn Fn() -> RedisResult<(Arc<L>, Keeping)> + Send + Sync;

/// The links of a backend, by runtime.
pub(crate) struct PerRuntime<L> {
    hub: Weak<Hub>,
    begin: Box<Begin<L>>,
    links: RwLock<Vec<RuntimeLink<L>>>,
    next: AtomicU64,
}

struct RuntimeLink<L> {
    runtime: Id,
    number: u64,
    link: Arc<L>,
}

/// Held by the task that keeps a link. When the task ends, and with its runtime it does, the link is forgotten.
struct Leaving<L> {
    links: Weak<PerRuntime<L>>,
    number: u64,
}

impl<L> Drop for Leaving<L> {
    fn drop(&mut self) {
        if let Some(links) = self.links.upgrade() {
            links.leave(self.number);
        }
    }
}

impl<L: Send + Sync + 'static> PerRuntime<L> {
    /// `begin` makes a link that connects once it is kept.
    pub(super) fn new(
        hub: &Arc<Hub>,
        begin: impl Fn() -> RedisResult<(Arc<L>, Keeping)> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (hub, begin) = (Arc::downgrade(hub), Box::new(begin));
        Arc::new(Self { hub, begin, links: RwLock::default(), next: AtomicU64::new(0) })
    }

    /// The link of the runtime that the caller is on.
    pub(crate) fn here(self: &Arc<Self>) -> RedisResult<Arc<L>> {
        let runtime = current()?;
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = links.iter().find(|place| place.runtime == runtime.id()) {
            return Ok(place.link.clone());
        }
        drop(links);
        lacks().map_or(Ok(()), |what| Err(unfit(what)))?;
        self.settle(&runtime, &self.begin)
    }

    /// Makes the link of a runtime, unless another one of its threads was faster.
    pub(super) fn settle(
        self: &Arc<Self>,
        runtime: &Handle,
        begin: impl FnOnce() -> RedisResult<(Arc<L>, Keeping)>,
    ) -> RedisResult<Arc<L>> {
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

impl<L> PerRuntime<L> {
    fn leave(&self, number: u64) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let left = links.iter().position(|place| place.number == number).map(|at| links.swap_remove(at));
        drop(links);
        // what it was still to hear is lost (R13)
        if let (Some(_), Some(hub)) = (left, self.hub.upgrade()) {
            hub.gap();
        }
    }
}

/// The runtime of the caller.
pub(super) fn current() -> RedisResult<Handle> {
    Handle::try_current().map_err(|_| unfit("there is no tokio runtime here, and a connection needs one"))
}

/// What the runtime of the caller lacks, and what to call. There is no way to ask but to use it, which panics where it is
/// missing.
pub(crate) fn lacks() -> Option<&'static str> {
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
        "this tokio runtime was built without IO, which connections to Redis need: call `enable_all()` (or \
         `enable_io()`) on its `tokio::runtime::Builder`",
    )
}

fn unfit(what: &'static str) -> redis::RedisError {
    (ErrorKind::InvalidClientConfig, what).into()
}
