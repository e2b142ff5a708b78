//! A process, as far as a server can tell.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::{Cache, Coherence, Error, Event, NearConfig, Region, RequestCache, Tier};

use super::{Setup, until};
use crate::world::{Db, UserById};

/// How long a trip to the shared tier may take before the read goes on without it. Long enough for a busy machine.
pub const BUDGET: Duration = Duration::from_millis(400);

/// What stands for a process: a cache of the users of a database, in the region `objects`, with connections of its own.
pub struct CacheProcess<D> {
    /// Its cache.
    pub cache: Cache,
    db: Arc<Db>,
    events: Arc<Mutex<Vec<Event>>>,
    over: PhantomData<fn() -> D>,
}

impl<D> fmt::Debug for CacheProcess<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheProcess").finish_non_exhaustive()
    }
}

impl<D: Setup> CacheProcess<D> {
    /// Connects to a server.
    pub async fn start(url: &str, db: &Arc<Db>) -> Self {
        Self::with(url, db, |region| region).await
    }

    /// The same, with near before the shared tier.
    pub async fn near(url: &str, db: &Arc<Db>, coherence: Coherence) -> Self {
        Self::with(url, db, |region| region.near(NearConfig::entries(1000).coherence(coherence))).await
    }

    /// The same, with a region that is configured.
    pub async fn with(url: &str, db: &Arc<Db>, configure: impl FnOnce(Region) -> Region) -> Self {
        Self::over(D::connect(url).await, db, configure).await
    }

    /// Over a backend that is connected.
    pub async fn over(backend: D::Backend, db: &Arc<Db>, configure: impl FnOnce(Region) -> Region) -> Self {
        let region = Region::backend(backend);
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
        Self { cache, db: db.clone(), events, over: PhantomData }
    }
}

impl<D> CacheProcess<D> {
    /// A new request.
    pub fn request(&self) -> RequestCache {
        self.cache.request()
    }

    /// The version of a user as a new request sees it, and the tier that it came from. Never an error.
    pub async fn finds(&self, key: u64) -> (u32, Tier) {
        let users = self.request().get_outcomes::<UserById>([key]).await;
        let value = users[&key].value().expect("a fault of the shared tier reaches no caller");
        (value.expect("the row exists").version, users[&key].tier().unwrap())
    }

    /// The version of a user as a new request sees it.
    pub async fn sees(&self, key: u64) -> u32 {
        self.finds(key).await.0
    }

    /// Stores a user in the shared tier; gives its version.
    pub async fn warm(&self, key: u64) -> u32 {
        self.reads_until("a hit of the shared tier", key, |tier| matches!(tier, Tier::Shared | Tier::Near))
            .await
    }

    /// Reads until near answers.
    pub async fn warm_near(&self, key: u64) -> u32 {
        self.reads_until("a hit of near", key, |tier| tier == Tier::Near).await
    }

    async fn reads_until(&self, what: &str, key: u64, wanted: impl Fn(Tier) -> bool) -> u32 {
        until(what, async || {
            let tier = self.finds(key).await.1;
            self.cache.idle().await;
            wanted(tier)
        })
        .await;
        self.sees(key).await
    }

    /// Commits a new version and voids the old one.
    pub async fn write(&self, key: u64) -> Result<u32, Error> {
        let version = self.db.update(key);
        self.invalidate(key).await.map(|()| version)
    }

    /// Voids what is stored of a user.
    pub async fn invalidate(&self, key: u64) -> Result<(), Error> {
        // acknowledged is what the shared tier has confirmed
        self.request().invalidate::<UserById>([key]).await?.confirmed(Duration::ZERO).await
    }

    /// The events up to now, which are forgotten.
    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().drain(..).map(|event| event.to_string()).collect()
    }
}

/// How many events there are of each operation that failed.
pub fn faults(events: &[String]) -> BTreeMap<&str, usize> {
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

/// The key of a user in the store.
pub fn record(key: u64) -> String {
    format!("mastaba:objects:user:{key}")
}
