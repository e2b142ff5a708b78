//! One server, and two processes.

use std::sync::Arc;

use mastaba::{Coherence, NearConfig, Region};

use super::{CacheProcess, Server, Setup, record, until};
use crate::proxy::Proxy;
use crate::world::Db;

/// One server; a process that reaches it through a proxy, and another one that reaches it straight.
pub struct OutageStage<D: Setup> {
    /// The server.
    pub server: D::Server,
    /// What stands before it.
    pub proxy: Proxy,
    /// The database of both processes.
    pub db: Arc<Db>,
    /// The process behind the proxy.
    pub far: CacheProcess<D>,
    /// The other one.
    pub other: CacheProcess<D>,
}

impl<D: Setup> std::fmt::Debug for OutageStage<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutageStage").field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

impl<D: Setup> OutageStage<D> {
    /// Nothing special about it. `None` when no server is installed.
    pub async fn new() -> Option<Self> {
        Self::alike(|region| region).await
    }

    /// The far process has near before the shared tier.
    pub async fn near(coherence: Coherence) -> Option<Self> {
        let near = NearConfig::entries(1000).coherence(coherence);
        Self::over(Default::default(), |region| region.near(near)).await
    }

    /// Over a server with settings; the far process with some of its own.
    pub async fn over(
        shape: <D::Server as Server>::Shape,
        far: impl FnOnce(Region) -> Region,
    ) -> Option<Self> {
        Self::of(shape, far, |region| region).await
    }

    /// Both processes with the same settings.
    pub async fn alike(configure: impl Fn(Region) -> Region) -> Option<Self> {
        Self::of(Default::default(), &configure, &configure).await
    }

    async fn of(
        shape: <D::Server as Server>::Shape,
        far: impl FnOnce(Region) -> Region,
        other: impl FnOnce(Region) -> Region,
    ) -> Option<Self> {
        let server = D::Server::start(shape).await?;
        let proxy = Proxy::to(server.addr()).await;
        let db = Arc::new(Db::default());
        let far = CacheProcess::with(&D::url(proxy.addr()), &db, far).await;
        let other = CacheProcess::with(&D::url(server.addr()), &db, other).await;
        Some(Self { server, proxy, db, far, other })
    }

    /// Both processes.
    pub fn both(&self) -> [&CacheProcess<D>; 2] {
        [&self.far, &self.other]
    }

    /// Stores a user, as seen by both processes.
    pub async fn warm_in_both(&self, key: u64) {
        for process in self.both() {
            process.warm(key).await;
        }
    }

    /// I1: new requests of both processes see what is committed.
    pub async fn both_see(&self, key: u64) {
        let committed = self.db.version(key);
        for process in self.both() {
            assert_eq!(process.sees(key).await, committed, "an acknowledged write is not seen");
        }
    }

    /// Both processes are served by the shared tier again, with what is committed, and writes are acknowledged again.
    pub async fn recovers(&self, key: u64) {
        for writer in self.both() {
            until("an acknowledged write", async || writer.write(key).await.is_ok()).await;
            self.both_see(key).await;
        }
        for process in self.both() {
            assert_eq!(process.warm(key).await, self.db.version(key));
        }
        self.nothing_is_loaded(key).await;
    }

    /// Near of the far process answers again with what is committed, and so does the shared tier for the other one.
    pub async fn recovers_near(&self, key: u64) {
        assert_eq!(self.far.warm_near(key).await, self.db.version(key));
        assert_eq!(self.other.warm(key).await, self.db.version(key));
        self.nothing_is_loaded(key).await;
    }

    async fn nothing_is_loaded(&self, key: u64) {
        let ((), statements) = self.statements(self.both_see(key)).await;
        assert_eq!(statements, 0, "what the tiers have is not loaded again");
    }

    /// How many statements some work needs.
    pub async fn statements<T>(&self, work: impl Future<Output = T>) -> (T, u64) {
        let before = self.db.started();
        let done = work.await;
        (done, self.db.started() - before)
    }

    /// Whether something stands under a user's key in the store.
    pub async fn stands(&self, key: u64) -> bool {
        self.server.has(&record(key)).await
    }
}
