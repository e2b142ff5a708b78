//! A small world to test in: a database of users, photos and posts in memory, a shared tier that writes down
//! every trip, and a cache over both.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use mastaba_test::world::{UserById, World};
//!
//! let world = World::new().await;
//! let request = world.request();
//! assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().name, "user 1");
//! world.idle().await;
//! assert_eq!(world.trips(), ["shared read [1]", "shared lease [1]", "source load user [1]", "shared fill [1]"]);
//! # });
//! ```

mod db;
mod gate;
mod watched;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::memory::Memory;
use mastaba::shared::{Lease, Shared};
use mastaba::{Cache, CacheBuilder, Event, Region, RequestCache, Source};
use tokio::task::JoinHandle;

pub use self::db::{Db, DbError, DbFault, Photo, PhotoById, Post, PostById, User, UserById};
pub use self::gate::Gate;
pub use self::watched::{Control, Watched};

/// Database, shared tier and cache.
#[derive(Clone)]
pub struct World {
    /// The cache.
    pub cache: Cache,
    /// The database.
    pub db: Arc<Db>,
    /// To make the shared tier fail.
    pub shared: Arc<Control>,
    /// The shared tier itself.
    pub memory: Memory,
    trips: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl World {
    /// A region `objects` in memory, with the default policy and without jitter.
    pub async fn new() -> Self {
        Self::with(|region| region).await
    }

    /// The same with another configuration of its region.
    pub async fn with(configure: impl FnOnce(Region) -> Region) -> Self {
        Self::build::<false>(Memory::default(), configure, |builder, _| builder).await
    }

    /// Like [`with`](World::with), over a shared tier that other processes may write to. Every load takes a lease, unless it is
    /// configured otherwise: whether one is cheap is a matter of time there.
    pub async fn across_processes(configure: impl FnOnce(Region) -> Region) -> Self {
        Self::build::<true>(Memory::default(), configure, |builder, _| builder).await
    }

    /// Another program over the same shared tier, with a database of its own.
    pub async fn beside(&self) -> Self {
        Self::build::<true>(self.memory.clone(), |region| region, |builder, _| builder).await
    }

    /// Another process over the same shared tier and the same database, whose ledger has the loads of both.
    pub async fn second(&self) -> Self {
        self.second_with(|region| region).await
    }

    /// The same with another configuration of its region.
    pub async fn second_with(&self, configure: impl FnOnce(Region) -> Region) -> Self {
        let trips = Arc::default();
        let (memory, db) = (self.memory.clone(), self.db.clone());
        Self::over::<true>(memory, db, trips, configure, |builder, _| builder).await
    }

    /// All choices.
    pub async fn build<const PROCESSES: bool>(
        memory: Memory,
        configure: impl FnOnce(Region) -> Region,
        more: impl FnOnce(CacheBuilder, &Arc<Db>) -> CacheBuilder,
    ) -> Self {
        let trips = Arc::new(Mutex::new(Vec::new()));
        let db = Arc::new(Db::new(trips.clone()));
        Self::over::<PROCESSES>(memory, db, trips, configure, more).await
    }

    async fn over<const PROCESSES: bool>(
        memory: Memory,
        db: Arc<Db>,
        trips: Arc<Mutex<Vec<String>>>,
        configure: impl FnOnce(Region) -> Region,
        more: impl FnOnce(CacheBuilder, &Arc<Db>) -> CacheBuilder,
    ) -> Self {
        let watched = Watched::<_, PROCESSES>::new(memory.clone(), trips.clone());
        let shared = watched.control();
        let events = Arc::new(Mutex::new(Vec::new()));
        let listener = events.clone();
        let region = Region::backend(watched).jitter(0.0).early_refresh(0.0).fill_without_lease(!PROCESSES);
        let builder = Cache::builder()
            .region("objects", configure(region))
            .source(UserById(db.clone()))
            .source(PhotoById(db.clone()))
            .source(PostById(db.clone()))
            .on_event(move |event| listener.lock().unwrap().push(event.clone()));
        let cache = more(builder, &db).build().await.expect("the world's configuration is sound");
        Self { cache, db, shared, memory, trips, events }
    }

    /// A new request.
    pub fn request(&self) -> RequestCache {
        self.cache.request()
    }

    /// Lets everything go on that can, in a runtime of one thread: what then still waits waits for a gate.
    pub async fn settle(&self) {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    /// A get of a request of its own, under way in a task.
    pub fn start<S: Source<Key = u64>>(&self, key: u64) -> JoinHandle<Arc<S::Value>> {
        let request = self.request();
        tokio::spawn(async move { request.get::<S>(key).await.unwrap().unwrap() })
    }

    /// The version of a user as a new request sees it.
    pub async fn sees(&self, key: u64) -> u32 {
        self.request().get::<UserById>(key).await.unwrap().unwrap().version
    }

    /// The record that stands under a key of the shared tier, `user:1` for example.
    pub async fn record(&self, key: &str) -> Option<Bytes> {
        let key = Bytes::from(format!("mastaba:objects:{key}"));
        self.memory.read(&[key]).await.unwrap().remove(0)
    }

    /// Puts any bytes under a key of the shared tier.
    pub async fn plant(&self, key: &str, record: impl Into<Bytes>) {
        let key = Bytes::from(format!("mastaba:objects:{key}"));
        self.memory.invalidate(std::slice::from_ref(&key), &[]).await.unwrap();
        let ttl = Duration::from_secs(3600);
        self.memory.lease(&[Lease { key, record: record.into(), over: None, ttl }], &[]).await.unwrap();
    }

    /// Waits for everything in the background.
    pub async fn idle(&self) {
        self.cache.idle().await;
    }

    /// The trips up to now, which are forgotten: the next call gives those after.
    pub fn trips(&self) -> Vec<String> {
        std::mem::take(&mut self.trips.lock().unwrap())
    }

    /// How often each key of a source was loaded, among the trips up to now.
    pub fn loads_of(&self, source: &str) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for load in self.loads() {
            let (what, keys) = load["source load ".len()..].split_once(" [").unwrap();
            if what.split(' ').next() == Some(source) {
                let keys = keys.trim_end_matches(']').split(", ").map(|key| key.parse().unwrap());
                keys.for_each(|key: u64| *counts.entry(key).or_default() += 1);
            }
        }
        counts
    }

    /// The loads among the trips up to now.
    pub fn loads(&self) -> Vec<String> {
        let of_source = |trip: &&String| trip.starts_with("source");
        self.trips.lock().unwrap().iter().filter(of_source).cloned().collect()
    }

    /// The events up to now, as sentences.
    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("cache", &self.cache).finish_non_exhaustive()
    }
}
