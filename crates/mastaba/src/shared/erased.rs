//! A backend whose type has been forgotten.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::{Abilities, End, Ended, Fill, Filled, Hold, Lease, Leases, Listener, Shared, Stamp};
use crate::error::Fault;

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// [`Shared`], with its futures boxed: one allocation per trip.
pub(crate) trait DynShared: Send + Sync + 'static {
    fn abilities(&self) -> Abilities;
    fn read<'a>(&'a self, keys: &'a [Bytes]) -> Answer<'a, Vec<Option<Bytes>>>;
    fn lease<'a>(&'a self, leases: &'a [Lease], stamps: &'a [Stamp]) -> Answer<'a, Leases>;
    fn fill<'a>(&'a self, fills: &'a [Fill]) -> Answer<'a, Vec<Filled>>;
    fn invalidate<'a>(&'a self, keys: &'a [Bytes], stamps: &'a [Stamp]) -> Answer<'a, ()>;
    fn hold<'a>(&'a self, holds: &'a [Hold]) -> Answer<'a, ()>;
    fn end<'a>(&'a self, ends: &'a [End]) -> Answer<'a, Vec<Ended>>;
    fn incarnation(&self) -> u64;
    fn now_ms(&self) -> u64;
    fn runs_here(&self) -> Result<(), Fault>;
    fn listen(&self, prefix: &[u8], listener: Arc<dyn Listener>);
    fn catch_up(&self) -> Answer<'_, ()>;
    fn close(&self) -> Answer<'_, ()>;
}

impl<B: Shared> DynShared for B {
    fn abilities(&self) -> Abilities {
        B::ABILITIES
    }

    fn read<'a>(&'a self, keys: &'a [Bytes]) -> Answer<'a, Vec<Option<Bytes>>> {
        Box::pin(Shared::read(self, keys))
    }

    fn lease<'a>(&'a self, leases: &'a [Lease], stamps: &'a [Stamp]) -> Answer<'a, Leases> {
        Box::pin(Shared::lease(self, leases, stamps))
    }

    fn fill<'a>(&'a self, fills: &'a [Fill]) -> Answer<'a, Vec<Filled>> {
        Box::pin(Shared::fill(self, fills))
    }

    fn invalidate<'a>(&'a self, keys: &'a [Bytes], stamps: &'a [Stamp]) -> Answer<'a, ()> {
        Box::pin(Shared::invalidate(self, keys, stamps))
    }

    fn hold<'a>(&'a self, holds: &'a [Hold]) -> Answer<'a, ()> {
        Box::pin(Shared::hold(self, holds))
    }

    fn end<'a>(&'a self, ends: &'a [End]) -> Answer<'a, Vec<Ended>> {
        Box::pin(Shared::end(self, ends))
    }

    fn incarnation(&self) -> u64 {
        Shared::incarnation(self)
    }

    fn runs_here(&self) -> Result<(), Fault> {
        Shared::runs_here(self)
    }

    fn now_ms(&self) -> u64 {
        Shared::now_ms(self)
    }

    fn listen(&self, prefix: &[u8], listener: Arc<dyn Listener>) {
        Shared::listen(self, prefix, listener);
    }

    fn catch_up(&self) -> Answer<'_, ()> {
        Box::pin(Shared::catch_up(self))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(Shared::close(self))
    }
}

/// A backend that several owners share: a test keeps one in its hand, for example.
impl<B: Shared> Shared for Arc<B> {
    const ABILITIES: Abilities = B::ABILITIES;

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

    fn incarnation(&self) -> u64 {
        B::incarnation(self)
    }

    fn runs_here(&self) -> Result<(), Fault> {
        B::runs_here(self)
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
