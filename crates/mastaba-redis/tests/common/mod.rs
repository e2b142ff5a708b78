//! The whole stack as a test sees it: a database of versioned rows, and processes with a cache each over one store.
#![allow(dead_code)] // each file of tests uses its own part

pub(crate) mod load;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mastaba::{Cache, Coherence, Error, Event, NearConfig, Region, RequestCache, Tier};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::{RedisBuilder, RedisServer};
use mastaba_test::world::{Db, UserById};

/// How long a trip to the shared tier may take before the read goes on without it. Long enough for a busy machine.
pub(crate) const BUDGET: Duration = Duration::from_millis(400);

/// What stands for a process: a cache, with connections of its own.
pub(crate) struct Process {
    pub(crate) cache: Cache,
    db: Arc<Db>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Process {
    pub(crate) async fn start(url: &str, db: &Arc<Db>) -> Self {
        Self::with(url, db, |region| region).await
    }

    pub(crate) async fn near(url: &str, db: &Arc<Db>, coherence: Coherence) -> Self {
        Self::with(url, db, |region| region.near(NearConfig::entries(1000).coherence(coherence))).await
    }

    pub(crate) async fn with(url: &str, db: &Arc<Db>, configure: impl FnOnce(Region) -> Region) -> Self {
        let mut config = RedisConfig::from_url(url).unwrap();
        config.connect_timeout = Duration::from_millis(500);
        let region = Region::backend(Redis::connect(config).await.unwrap());
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
            matches!(tier, Tier::Shared | Tier::Near)
        })
        .await;
        self.sees(key).await
    }

    /// Reads until near answers.
    pub(crate) async fn warm_near(&self, key: u64) -> u32 {
        until("a hit of near", async || {
            let tier = self.finds(key).await.1;
            self.cache.idle().await;
            tier == Tier::Near
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
}

/// One server; a process that reaches it through a proxy, and another one that reaches it straight.
pub(crate) struct Stage {
    pub(crate) server: RedisServer,
    pub(crate) proxy: Proxy,
    pub(crate) db: Arc<Db>,
    pub(crate) far: Process,
    pub(crate) other: Process,
}

impl Stage {
    pub(crate) async fn new() -> Option<Self> {
        Self::over(RedisServer::builder(), |region| region).await
    }

    /// The far process has near before the shared tier.
    pub(crate) async fn near(coherence: Coherence) -> Option<Self> {
        let near = NearConfig::entries(1000).coherence(coherence);
        Self::over(RedisServer::builder(), |region| region.near(near)).await
    }

    pub(crate) async fn over(shape: RedisBuilder, far: impl FnOnce(Region) -> Region) -> Option<Self> {
        let server = shape.start().await?;
        let proxy = Proxy::to(server.addr()).await;
        let db = Arc::new(Db::default());
        let far = Process::with(&proxy.url(), &db, far).await;
        let other = Process::start(&server.url(), &db).await;
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

    /// Near of the far process answers again with what is committed, and so does the shared tier for the other one.
    pub(crate) async fn recovers_near(&self, key: u64) {
        assert_eq!(self.far.warm_near(key).await, self.db.version(key));
        assert_eq!(self.other.warm(key).await, self.db.version(key));
        let statements = self.db.started();
        self.both_see(key).await;
        assert_eq!(self.db.started(), statements, "what the tiers have is not loaded again");
    }

    /// How many statements some work needs.
    pub(crate) async fn statements<T>(&self, work: impl Future<Output = T>) -> (T, u64) {
        let before = self.db.started();
        let done = work.await;
        (done, self.db.started() - before)
    }

    /// Whether something stands under a user's key in the store.
    pub(crate) async fn stands(&self, key: u64) -> bool {
        self.server.command(&["EXISTS", &record(key)]).await == "1"
    }
}

/// The key of a user in the store.
pub(crate) fn record(key: u64) -> String {
    format!("mastaba:objects:user:{key}")
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

/// How many events there are of each operation that failed.
pub(crate) fn faults(events: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        if let Some(operation) =
            event.strip_prefix("region objects: ").and_then(|rest| rest.split_once(" failed"))
        {
            *counts.entry(operation.0).or_default() += 1;
        }
    }
    counts
}
