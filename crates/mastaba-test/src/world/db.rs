//! A database of users, photos and posts in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::{Lazy, LoadContext, Rows, Source};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::gate::{Gate, Place};

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

/// What the loaders of a [`World`](super::World) do, and what they did.
#[derive(Default)]
pub struct Db {
    versions: Mutex<BTreeMap<u64, u32>>,
    removed: Mutex<Vec<u64>>,
    faults: Mutex<Vec<DbFault>>,
    gate: Arc<Place>,
    started: watch::Sender<u64>,
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
    /// It gives errors for these, and rows for the others.
    FailKeys(Vec<u64>),
    /// It gives rows under keys that were not asked for.
    Foreign(Vec<u64>),
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

impl Db {
    pub(super) fn new(trips: Arc<Mutex<Vec<String>>>) -> Self {
        Self { trips, ..Self::default() }
    }

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

    fn next_fault(&self) -> Option<DbFault> {
        let mut faults = self.faults.lock().unwrap();
        (!faults.is_empty()).then(|| faults.remove(0))
    }

    /// How many loads of users have read their rows.
    pub fn started(&self) -> u64 {
        *self.started.borrow()
    }

    /// Waits until so many loads of users, since the world began, have read their rows.
    ///
    /// # Panics
    /// If they do not within ten seconds.
    pub async fn reached(&self, loads: u64) {
        let mut started = self.started.subscribe();
        let all = started.wait_for(|started| *started >= loads);
        let came = tokio::time::timeout(Duration::from_secs(10), all).await;
        assert!(came.is_ok(), "{loads} loads were to begin, and {} did", self.started());
    }

    /// From now on every load of users reads its rows and then waits for a [permit](Gate::open).
    pub fn close_gate(&self) -> Gate {
        Gate::close(&self.gate)
    }

    /// Opens the gate for good, if there is one.
    pub fn open_gate(&self) {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.open_for_good();
        }
    }

    /// A user as committed.
    pub fn user(&self, id: u64) -> Option<User> {
        let there = (1..1000).contains(&id) && !self.removed.lock().unwrap().contains(&id);
        there.then(|| User {
            id,
            name: format!("user {id}"),
            version: self.version(id),
            photo: Lazy::new(1000 + id),
        })
    }

    /// Writes a load down.
    pub fn wrote(&self, what: &str, keys: &[u64]) {
        self.trips.lock().unwrap().push(format!("source load {what} {keys:?}"));
    }

    /// Waits at the gate, and as long as a statement takes: to be called between reading and answering.
    pub async fn answer(&self) {
        Gate::pass(&self.gate).await;
        self.wait().await;
    }

    async fn wait(&self) {
        let takes = *self.takes.lock().unwrap();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
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
        let fault = self.0.next_fault();
        let mut rows: Rows<Self> = ids.iter().filter_map(|id| Some((*id, self.0.user(*id)?))).collect();
        self.0.started.send_modify(|started| *started += 1);
        self.0.answer().await;
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
            Some(DbFault::FailKeys(keys)) => {
                keys.into_iter().for_each(|id| rows.fail(id, DbError(format!("row {id} is locked"))));
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
