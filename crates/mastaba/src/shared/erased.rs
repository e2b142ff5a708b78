//! A backend whose type has been forgotten, and whose panics are faults.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{Abilities, End, Ended, Fill, Filled, Hold, Lease, Leases, Listener, Shared, Stamp};
use crate::error::Fault;
use crate::guarded::{Guarded, guard};

/// What a backend is going to answer.
pub(crate) struct Answer<'a, T> {
    operation: &'static str,
    work: Guarded<'a, Result<T, Fault>>,
}

impl<'a, T> Answer<'a, T> {
    fn new<F>(operation: &'static str, call: impl FnOnce() -> F) -> Self
    where
        F: Future<Output = Result<T, Fault>> + Send + 'a,
    {
        Self { operation, work: Guarded::new(call) }
    }
}

impl<T> Future for Answer<'_, T> {
    type Output = Result<T, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = std::task::ready!(Pin::new(&mut self.work).poll(cx));
        Poll::Ready(done.unwrap_or_else(|why| Err(Fault::panicked(self.operation, &why))))
    }
}

/// [`Shared`], with its futures boxed: one allocation per trip.
pub(crate) trait DynShared: Send + Sync + 'static {
    fn abilities(&self) -> Abilities;
    fn read<'a>(&'a self, keys: &'a [Bytes]) -> Answer<'a, Vec<Option<Bytes>>>;
    fn lease<'a>(&'a self, leases: &'a [Lease], stamps: &'a [Stamp]) -> Answer<'a, Leases>;
    fn fill<'a>(&'a self, fills: &'a [Fill]) -> Answer<'a, Vec<Filled>>;
    fn invalidate<'a>(&'a self, keys: &'a [Bytes], stamps: &'a [Stamp]) -> Answer<'a, ()>;
    fn hold<'a>(&'a self, holds: &'a [Hold]) -> Answer<'a, ()>;
    fn end<'a>(&'a self, ends: &'a [End]) -> Answer<'a, Vec<Ended>>;
    fn stamps(&self, prefix: &[u8], record: &Bytes) -> Result<bool, Fault>;
    fn incarnation(&self) -> Result<u64, Fault>;
    fn max_value(&self) -> Result<usize, Fault>;
    fn now_ms(&self) -> Result<u64, Fault>;
    fn runs_here(&self) -> Result<(), Fault>;
    fn full_key(&self, key: &Bytes) -> Result<Bytes, Fault>;
    fn listen(&self, prefix: &[u8], listener: Arc<dyn Listener>) -> Result<(), Fault>;
    fn catch_up(&self) -> Answer<'_, ()>;
    fn close(&self) -> Answer<'_, ()>;
}

impl<B: Shared> DynShared for B {
    fn abilities(&self) -> Abilities {
        guard(|| Shared::abilities(self)).unwrap_or(B::ABILITIES)
    }

    fn read<'a>(&'a self, keys: &'a [Bytes]) -> Answer<'a, Vec<Option<Bytes>>> {
        Answer::new("read", move || Shared::read(self, keys))
    }

    fn lease<'a>(&'a self, leases: &'a [Lease], stamps: &'a [Stamp]) -> Answer<'a, Leases> {
        Answer::new("lease", move || Shared::lease(self, leases, stamps))
    }

    fn fill<'a>(&'a self, fills: &'a [Fill]) -> Answer<'a, Vec<Filled>> {
        Answer::new("fill", move || Shared::fill(self, fills))
    }

    fn invalidate<'a>(&'a self, keys: &'a [Bytes], stamps: &'a [Stamp]) -> Answer<'a, ()> {
        Answer::new("invalidate", move || Shared::invalidate(self, keys, stamps))
    }

    fn hold<'a>(&'a self, holds: &'a [Hold]) -> Answer<'a, ()> {
        Answer::new("hold", move || Shared::hold(self, holds))
    }

    fn end<'a>(&'a self, ends: &'a [End]) -> Answer<'a, Vec<Ended>> {
        Answer::new("end", move || Shared::end(self, ends))
    }

    fn stamps(&self, prefix: &[u8], record: &Bytes) -> Result<bool, Fault> {
        guard(|| Shared::stamps(self, prefix, record)).map_err(|why| Fault::panicked("stamps", &why))
    }

    fn incarnation(&self) -> Result<u64, Fault> {
        guard(|| Shared::incarnation(self)).map_err(|why| Fault::panicked("incarnation", &why))
    }

    fn runs_here(&self) -> Result<(), Fault> {
        guard(|| Shared::runs_here(self)).unwrap_or_else(|why| Err(Fault::panicked("runs_here", &why)))
    }

    fn full_key(&self, key: &Bytes) -> Result<Bytes, Fault> {
        guard(|| Shared::full_key(self, key)).map_err(|why| Fault::panicked("full_key", &why))
    }

    fn max_value(&self) -> Result<usize, Fault> {
        guard(|| Shared::max_value(self)).map_err(|why| Fault::panicked("max_value", &why))
    }

    fn now_ms(&self) -> Result<u64, Fault> {
        guard(|| Shared::now_ms(self)).map_err(|why| Fault::panicked("now_ms", &why))
    }

    fn listen(&self, prefix: &[u8], listener: Arc<dyn Listener>) -> Result<(), Fault> {
        guard(|| Shared::listen(self, prefix, listener)).map_err(|why| Fault::panicked("listen", &why))
    }

    fn catch_up(&self) -> Answer<'_, ()> {
        Answer::new("catch_up", move || Shared::catch_up(self))
    }

    fn close(&self) -> Answer<'_, ()> {
        Answer::new("close", move || Shared::close(self))
    }
}

/// A backend that several owners share: a test keeps one in its hand, for example.
impl<B: Shared> Shared for Arc<B> {
    const ABILITIES: Abilities = B::ABILITIES;

    fn abilities(&self) -> Abilities {
        B::abilities(self)
    }

    fn read(&self, keys: &[Bytes]) -> impl Future<Output = Result<Vec<Option<Bytes>>, Fault>> + Send {
        B::read(self, keys)
    }

    fn lease(
        &self,
        leases: &[Lease],
        stamps: &[Stamp],
    ) -> impl Future<Output = Result<Leases, Fault>> + Send {
        B::lease(self, leases, stamps)
    }

    fn fill(&self, fills: &[Fill]) -> impl Future<Output = Result<Vec<Filled>, Fault>> + Send {
        B::fill(self, fills)
    }

    fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> impl Future<Output = Result<(), Fault>> + Send {
        B::invalidate(self, keys, stamps)
    }

    fn hold(&self, holds: &[Hold]) -> impl Future<Output = Result<(), Fault>> + Send {
        B::hold(self, holds)
    }

    fn end(&self, ends: &[End]) -> impl Future<Output = Result<Vec<Ended>, Fault>> + Send {
        B::end(self, ends)
    }

    fn stamps(&self, prefix: &[u8], record: &Bytes) -> bool {
        B::stamps(self, prefix, record)
    }

    fn incarnation(&self) -> u64 {
        B::incarnation(self)
    }

    fn runs_here(&self) -> Result<(), Fault> {
        B::runs_here(self)
    }

    fn full_key(&self, key: &Bytes) -> Bytes {
        B::full_key(self, key)
    }

    fn max_value(&self) -> usize {
        B::max_value(self)
    }

    fn now_ms(&self) -> u64 {
        B::now_ms(self)
    }

    fn listen(&self, prefix: &[u8], listener: Arc<dyn Listener>) {
        B::listen(self, prefix, listener);
    }

    fn catch_up(&self) -> impl Future<Output = Result<(), Fault>> + Send {
        B::catch_up(self)
    }

    fn close(&self) -> impl Future<Output = Result<(), Fault>> + Send {
        B::close(self)
    }
}
