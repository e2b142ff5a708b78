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

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::memory::Memory;
use mastaba::shared::{Abilities, End, Ended, Fill, Filled, Hold, Lease, Leases, Reach, Shared, Stamp};
use mastaba::{Cache, CacheBuilder, Event, Fault, Lazy, LoadContext, Region, RequestCache, Rows, Source};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// A row with a relation and a version that tests count up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its key.
    pub id: u64,
    /// Text.
    pub name: String,
    /// Counted up by [`Db::update`].
    pub version: u32,
    /// A relation.
    pub photo: Lazy<PhotoById>,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Photo {
    /// Its key.
    pub id: u64,
    /// Text.
    pub url: String,
}

/// A row with a relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Its key.
    pub id: u64,
    /// Text.
    pub title: String,
    /// A relation.
    pub author: Lazy<UserById>,
}

/// Loads users. Keys 1 to 999 exist.
#[derive(Clone, Debug)]
pub struct UserById(pub Arc<Db>);
/// Loads photos. Keys 1 to 1999 exist.
#[derive(Clone, Debug)]
pub struct PhotoById(pub Arc<Db>);
/// Loads posts. Keys 1 to 999 exist.
#[derive(Clone, Debug)]
pub struct PostById(pub Arc<Db>);

/// What the loaders of a [`World`] do, and what they did.
#[derive(Default)]
pub struct Db {
    versions: Mutex<BTreeMap<u64, u32>>,
    removed: Mutex<Vec<u64>>,
    faults: Mutex<Vec<DbFault>>,
    gate: Mutex<Option<Arc<Semaphore>>>,
    started: AtomicU64,
    /// How long a statement takes.
    pub takes: Mutex<Duration>,
    trips: Arc<Mutex<Vec<String>>>,
}

/// Something that goes wrong in the next load of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DbFault {
    /// It fails.
    Error(String),
    /// It panics.
    Panic(String),
    /// It never comes back.
    Hang,
    /// It forgets these keys.
    Forget(Vec<u64>),
    /// It gives these twice.
    Twice(Vec<u64>),
    /// It gives rows under keys that were not asked for.
    Foreign(Vec<u64>),
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

impl Db {
    /// Commits a new version of a user; gives its number.
    pub fn update(&self, id: u64) -> u32 {
        let mut versions = self.versions.lock().unwrap();
        let version = versions.entry(id).or_insert(0);
        *version += 1;
        *version
    }

    /// The committed version of a user.
    pub fn version(&self, id: u64) -> u32 {
        self.versions.lock().unwrap().get(&id).copied().unwrap_or(0)
    }

    /// Deletes a user.
    pub fn remove(&self, id: u64) {
        self.removed.lock().unwrap().push(id);
    }

    /// Inserts a user that was deleted.
    pub fn restore(&self, id: u64) {
        self.removed.lock().unwrap().retain(|each| *each != id);
    }

    /// What goes wrong in the next load of users; the one after it is sound again.
    pub fn fail_next(&self, fault: DbFault) {
        self.faults.lock().unwrap().push(fault);
    }

    /// From now on every load of users reads its rows and then waits for a [`permit`](Gate::open).
    pub fn close_gate(self: &Arc<Self>) -> Gate {
        let semaphore = Arc::new(Semaphore::new(0));
        *self.gate.lock().unwrap() = Some(semaphore.clone());
        Gate { semaphore, db: self.clone() }
    }

    /// How many loads have read their rows.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }

    fn user(&self, id: u64) -> Option<User> {
        let there = (1..1000).contains(&id) && !self.removed.lock().unwrap().contains(&id);
        there.then(|| User {
            id,
            name: format!("user {id}"),
            version: self.version(id),
            photo: Lazy::new(1000 + id),
        })
    }

    fn wrote(&self, what: &str, keys: &[u64]) {
        self.trips.lock().unwrap().push(format!("source load {what} {keys:?}"));
    }

    async fn wait(&self) {
        let takes = *self.takes.lock().unwrap();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
    }
}

/// Holds loads back between their reading and their answering.
#[derive(Debug)]
pub struct Gate {
    semaphore: Arc<Semaphore>,
    db: Arc<Db>,
}

impl Gate {
    /// Lets one load through.
    pub fn open(&self) {
        self.semaphore.add_permits(1);
    }

    /// Lets all through, also those to come.
    pub fn open_for_good(&self) {
        *self.db.gate.lock().unwrap() = None;
        self.semaphore.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Waits until so many loads, since the world began, have read their rows.
    pub async fn started(&self, loads: u64) {
        while self.db.started() < loads {
            tokio::task::yield_now().await;
        }
    }
}

/// A failed statement.
#[derive(Debug)]
pub struct DbError(pub String);

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DbError {}

impl Source for UserById {
    type Key = u64;
    type Value = User;
    type Error = DbError;
    const NAME: &'static str = "user";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        self.0.wrote(if cx.needs_writer() { "user from the writer" } else { "user" }, ids);
        let fault = self.0.faults.lock().unwrap().pop();
        let mut rows: Rows<Self> = ids.iter().filter_map(|id| Some((*id, self.0.user(*id)?))).collect();
        self.0.started.fetch_add(1, Ordering::SeqCst);
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        self.0.wait().await;
        match fault {
            None => {}
            Some(DbFault::Error(why)) => return Err(DbError(why)),
            Some(DbFault::Panic(why)) => panic!("{why}"),
            Some(DbFault::Hang) => std::future::pending().await,
            Some(DbFault::Forget(keys)) => {
                rows = ids
                    .iter()
                    .filter(|id| !keys.contains(id))
                    .filter_map(|id| Some((*id, self.0.user(*id)?)))
                    .collect();
            }
            Some(DbFault::Twice(keys) | DbFault::Foreign(keys)) => {
                rows.extend(keys.iter().filter_map(|id| Some((*id, self.0.user(*id)?))));
            }
        }
        Ok(rows)
    }
}

impl Source for PhotoById {
    type Key = u64;
    type Value = Photo;
    type Error = DbError;
    const NAME: &'static str = "photo";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        self.0.wrote("photo", ids);
        self.0.wait().await;
        let there = ids.iter().filter(|id| (1..2000).contains(*id));
        Ok(there.map(|id| (*id, Photo { id: *id, url: format!("/{id}.png") })).collect())
    }
}

impl Source for PostById {
    type Key = u64;
    type Value = Post;
    type Error = DbError;
    const NAME: &'static str = "post";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        self.0.wrote("post", ids);
        self.0.wait().await;
        let there = ids.iter().filter(|id| (1..1000).contains(*id));
        let post = |id: u64| Post { id, title: format!("post {id}"), author: Lazy::new(1 + id % 10) };
        Ok(there.map(|id| (*id, post(*id))).collect())
    }
}

/// A shared tier that writes down its trips, and fails when told to.
///
/// It can also pass for a server that other processes write to: its reach is then [`Reach::Processes`].
#[derive(Clone)]
pub struct Watched<B, const PROCESSES: bool = false> {
    inner: B,
    trips: Arc<Mutex<Vec<String>>>,
    control: Arc<Control>,
}

/// What a [`Watched`] does to the operations of its tier.
#[derive(Debug, Default)]
pub struct Control {
    down: Mutex<Vec<&'static str>>,
    slow: Mutex<Duration>,
}

impl Control {
    /// These operations fail from now on: `read`, `lease`, `fill`, `invalidate`.
    pub fn down(&self, operations: &[&'static str]) {
        *self.down.lock().unwrap() = operations.to_vec();
    }

    /// Every operation takes this long from now on.
    pub fn slow(&self, takes: Duration) {
        *self.slow.lock().unwrap() = takes;
    }
}

impl<B, const PROCESSES: bool> Watched<B, PROCESSES> {
    /// Watches a tier.
    pub fn new(inner: B, trips: Arc<Mutex<Vec<String>>>) -> Self {
        Self { inner, trips, control: Arc::default() }
    }

    /// To make it fail.
    pub fn control(&self) -> Arc<Control> {
        self.control.clone()
    }

    async fn pass<'k>(
        &self,
        operation: &'static str,
        keys: impl Iterator<Item = &'k Bytes>,
    ) -> Result<(), Fault> {
        // of a key, what its source writes; of stamps nothing
        let text = |key: &Bytes| {
            let key = String::from_utf8_lossy(key).into_owned();
            key.split(':').nth(3).map(str::to_owned)
        };
        let keys: Vec<_> = keys.filter_map(text).collect();
        self.trips.lock().unwrap().push(format!("shared {operation} [{}]", keys.join(", ")));
        let slow = *self.control.slow.lock().unwrap();
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        if self.control.down.lock().unwrap().contains(&operation) {
            return Err(Fault::new(mastaba::FaultKind::Down, "unplugged by the test"));
        }
        Ok(())
    }
}

impl<B: Shared, const PROCESSES: bool> Shared for Watched<B, PROCESSES> {
    const ABILITIES: Abilities =
        Abilities { reach: if PROCESSES { Reach::Processes } else { Reach::Process }, ..B::ABILITIES };

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        self.pass("read", keys.iter()).await?;
        self.inner.read(keys).await
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        self.pass("lease", leases.iter().map(|lease| &lease.key)).await?;
        self.inner.lease(leases, stamps).await
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        self.pass("fill", fills.iter().map(|fill| &fill.key)).await?;
        self.inner.fill(fills).await
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        self.pass("invalidate", keys.iter()).await?;
        self.inner.invalidate(keys, stamps).await
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        self.inner.hold(holds).await
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        self.inner.end(ends).await
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }
}

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
        Self::build::<false>(Memory::default(), configure, |builder| builder).await
    }

    /// Like [`with`](World::with), over a shared tier that other processes may write to.
    pub async fn across_processes(configure: impl FnOnce(Region) -> Region) -> Self {
        Self::build::<true>(Memory::default(), configure, |builder| builder).await
    }

    /// Another program over the same shared tier, with a database of its own.
    pub async fn beside(&self) -> Self {
        Self::build::<true>(self.memory.clone(), |region| region, |builder| builder).await
    }

    /// All choices.
    pub async fn build<const PROCESSES: bool>(
        memory: Memory,
        configure: impl FnOnce(Region) -> Region,
        more: impl FnOnce(CacheBuilder) -> CacheBuilder,
    ) -> Self {
        let trips = Arc::new(Mutex::new(Vec::new()));
        let db = Arc::new(Db { trips: trips.clone(), ..Db::default() });
        let watched = Watched::<_, PROCESSES>::new(memory.clone(), trips.clone());
        let shared = watched.control();
        let events = Arc::new(Mutex::new(Vec::new()));
        let listener = events.clone();
        let builder = Cache::builder()
            .region("objects", configure(Region::backend(watched).jitter(0.0).early_refresh(0.0)))
            .source(UserById(db.clone()))
            .source(PhotoById(db.clone()))
            .source(PostById(db.clone()))
            .on_event(move |event| listener.lock().unwrap().push(event.clone()));
        let cache = more(builder).build().await.expect("the world's configuration is sound");
        Self { cache, db, shared, memory, trips, events }
    }

    /// A new request.
    pub fn request(&self) -> RequestCache {
        self.cache.request()
    }

    /// Waits for everything in the background.
    pub async fn idle(&self) {
        self.cache.idle().await;
    }

    /// The trips up to now, which are forgotten: the next call gives those after.
    pub fn trips(&self) -> Vec<String> {
        std::mem::take(&mut self.trips.lock().unwrap())
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
