//! The whole stack as a test sees it: a database of versioned rows, and processes with a cache each over one store.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mastaba::{Cache, Error, Event, Region, RequestCache, Tier};
use mastaba_memcached::{Memcached, MemcachedConfig};
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::{MemcachedBuilder, MemcachedServer};
use mastaba_test::world::{Db, UserById};

/// How long a trip to the shared tier may take before the read goes on without it. Long enough for a busy machine.
pub(crate) const BUDGET: Duration = Duration::from_millis(400);

/// What stands for a process: a cache, with connections of its own.
pub(crate) struct Process {
    pub(crate) cache: Cache,
    db: Arc<Db>,
    events: Arc<Mutex<Vec<Event>>>,
}

/// A backend with connections of its own.
pub(crate) async fn connect(url: &str) -> Memcached {
    Memcached::connect(MemcachedConfig::from_url(url).unwrap()).await.unwrap()
}

/// The URL of a server.
pub(crate) fn url(server: &MemcachedServer) -> String {
    format!("memcached://{}", server.addr())
}

/// The URL of several.
pub(crate) fn url_of(servers: &[MemcachedServer]) -> String {
    let addresses: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
    format!("memcached://{}", addresses.join(","))
}

/// Three servers that share the keys.
pub(crate) async fn three() -> Option<Vec<MemcachedServer>> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(MemcachedServer::start().await?);
    }
    Some(servers)
}

impl Process {
    pub(crate) async fn start(url: &str, db: &Arc<Db>) -> Self {
        Self::with(url, db, |region| region).await
    }

    pub(crate) async fn with(url: &str, db: &Arc<Db>, configure: impl FnOnce(Region) -> Region) -> Self {
        Self::over(connect(url).await, db, configure).await
    }

    pub(crate) async fn over(
        memcached: Memcached,
        db: &Arc<Db>,
        configure: impl FnOnce(Region) -> Region,
    ) -> Self {
        let region = Region::backend(memcached);
        // how fast a machine is that others work on says nothing: events are for what went wrong
        let region = region.jitter(0.0).early_refresh(0.0).shared_budget(BUDGET).shared_soft_budget(BUDGET);
        let events = Arc::new(Mutex::new(Vec::new()));
        let listener = events.clone();
        let cache = Cache::builder()
            .region("objects", configure(region))
            .source(UserById(db.clone()))
            .on_event(move |event| listener.lock().unwrap().push(event.clone()))
            .build()
            .await
            .unwrap();
        Self { cache, db: db.clone(), events }
    }

    pub(crate) fn request(&self) -> RequestCache {
        self.cache.request()
    }

    /// The version of a user as a new request sees it, and the tier that it came from. Never an error.
    pub(crate) async fn finds(&self, key: u64) -> (u32, Tier) {
        let users = self.request().get_outcomes::<UserById>([key]).await;
        let value = users[&key].value().expect("a fault of the shared tier reaches no caller");
        (value.expect("the row exists").version, users[&key].tier().unwrap())
    }

    pub(crate) async fn sees(&self, key: u64) -> u32 {
        self.finds(key).await.0
    }

    /// Stores a user in the shared tier; gives its version.
    pub(crate) async fn warm(&self, key: u64) -> u32 {
        until("a hit of the shared tier", async || {
            let tier = self.finds(key).await.1;
            self.cache.idle().await;
            tier == Tier::Shared
        })
        .await;
        self.sees(key).await
    }

    /// Commits a new version and voids the old one.
    pub(crate) async fn write(&self, key: u64) -> Result<u32, Error> {
        let version = self.db.update(key);
        self.invalidate(key).await.map(|()| version)
    }

    pub(crate) async fn invalidate(&self, key: u64) -> Result<(), Error> {
        // acknowledged is what the shared tier has confirmed
        self.request().invalidate::<UserById>([key]).await?.confirmed(Duration::ZERO).await
    }

    /// The events up to now, which are forgotten.
    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().drain(..).map(|event| event.to_string()).collect()
    }

    /// How many of the events up to now say that an operation failed.
    pub(crate) fn faults(&self, operation: &str) -> usize {
        self.events()
            .iter()
            .filter(|event| event.contains(&format!("region objects: {operation} failed")))
            .count()
    }
}

/// One server; a process that reaches it through a proxy, and another one that reaches it straight.
pub(crate) struct Stage {
    pub(crate) server: MemcachedServer,
    pub(crate) proxy: Proxy,
    pub(crate) db: Arc<Db>,
    pub(crate) far: Process,
    pub(crate) other: Process,
}

impl Stage {
    pub(crate) async fn new() -> Option<Self> {
        Self::over(MemcachedServer::builder(), |region| region).await
    }

    pub(crate) async fn over(shape: MemcachedBuilder, configure: impl Fn(Region) -> Region) -> Option<Self> {
        let server = shape.start().await?;
        let proxy = Proxy::to(server.addr()).await;
        let db = Arc::new(Db::default());
        let far = Process::with(&through(&proxy), &db, &configure).await;
        let other = Process::with(&url(&server), &db, &configure).await;
        Some(Self { server, proxy, db, far, other })
    }

    pub(crate) fn both(&self) -> [&Process; 2] {
        [&self.far, &self.other]
    }

    /// I1: new requests of both processes see what is committed.
    pub(crate) async fn both_see(&self, key: u64) {
        let committed = self.db.version(key);
        for process in self.both() {
            assert_eq!(process.sees(key).await, committed, "an acknowledged write is not seen");
        }
    }

    /// Both processes are served by the shared tier again, with what is committed, and writes are acknowledged again.
    pub(crate) async fn recovers(&self, key: u64) {
        for writer in self.both() {
            until("an acknowledged write", async || writer.write(key).await.is_ok()).await;
            self.both_see(key).await;
        }
        for process in self.both() {
            assert_eq!(process.warm(key).await, self.db.version(key));
        }
        let statements = self.db.started();
        self.both_see(key).await;
        assert_eq!(self.db.started(), statements, "what the shared tier has is not loaded again");
    }

    /// How many statements some work needs.
    pub(crate) async fn statements<T>(&self, work: impl Future<Output = T>) -> (T, u64) {
        let before = self.db.started();
        let done = work.await;
        (done, self.db.started() - before)
    }

    /// Whether something stands under a user's key in the store.
    pub(crate) async fn stands(&self, key: u64) -> bool {
        stands(&self.server, key).await
    }
}

/// The URL of a server behind a proxy.
pub(crate) fn through(proxy: &Proxy) -> String {
    format!("memcached://{}", proxy.addr())
}

/// Whether something stands under a user's key at a server.
pub(crate) async fn stands(server: &MemcachedServer, key: u64) -> bool {
    server.command(&format!("mg mastaba:objects:user:{key} s\r\n")).await.starts_with("HD")
}

/// Looks again and again until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A test that would hang fails instead.
pub(crate) async fn limited<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test took longer than a minute")
}
