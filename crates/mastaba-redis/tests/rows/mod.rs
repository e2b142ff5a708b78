//! Rows with a version, whose loads can be held up, and caches over one server that stand for processes.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::{Cache, LoadContext, Region, RequestCache, Rows, Source};
use mastaba_redis::{Redis, RedisConfig};
use tokio::sync::{Semaphore, watch};

/// The database: what is committed.
#[derive(Default)]
pub struct Table {
    versions: Mutex<BTreeMap<u64, u32>>,
    loads: Mutex<Vec<Vec<u64>>>,
    begun: watch::Sender<usize>,
    gate: Mutex<Option<Arc<Semaphore>>>,
}

impl Table {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Commits a new version.
    pub fn commit(&self, id: u64) -> u32 {
        let mut versions = self.versions.lock().unwrap();
        let version = versions.entry(id).or_default();
        *version += 1;
        *version
    }

    /// The version of a row that is committed.
    pub fn committed(&self, id: u64) -> u32 {
        self.versions.lock().unwrap().get(&id).copied().unwrap_or(0)
    }

    /// The loads up to now, each with its keys.
    pub fn loads(&self) -> Vec<Vec<u64>> {
        self.loads.lock().unwrap().clone()
    }

    /// From now on loads read their rows and then wait for a permit.
    pub fn hold_up(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    /// No load waits from now on; those that do go on.
    pub fn let_go(&self) {
        if let Some(gate) = self.gate.lock().unwrap().take() {
            gate.add_permits(1 << 20);
        }
    }

    async fn load(&self, ids: &[u64]) -> Vec<(u64, (u64, u32))> {
        let read = {
            let versions = self.versions.lock().unwrap();
            ids.iter().map(|id| (*id, (*id, versions.get(id).copied().unwrap_or(0)))).collect()
        };
        self.loads.lock().unwrap().push(ids.to_vec());
        self.begun.send_modify(|begun| *begun += 1);
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        read
    }

    /// Waits until so many loads have read their rows.
    pub async fn begun(&self, loads: usize) {
        let mut begun = self.begun.subscribe();
        let came =
            tokio::time::timeout(Duration::from_secs(10), begun.wait_for(|begun| *begun >= loads)).await;
        came.expect("a load was to begin").unwrap();
    }
}

/// A row is its id and its version.
pub struct Row(pub Arc<Table>);

impl Source for Row {
    type Key = u64;
    type Value = (u64, u32);
    type Error = Infallible;
    const NAME: &'static str = "row";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
        Ok(self.0.load(ids).await.into_iter().collect())
    }
}

/// The same rows, each under a tag of its own, `row:<id>`, and all under `rows`.
pub struct Tagged(pub Arc<Table>);

impl Source for Tagged {
    type Key = u64;
    type Value = (u64, u32);
    type Error = Infallible;
    const NAME: &'static str = "tagged";
    const REGION: &'static str = "objects";
    const TAGS: &'static [&'static str] = &["rows"];

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
        Ok(self.0.load(ids).await.into_iter().collect())
    }

    fn tags(&self, key: &u64, _: &(u64, u32)) -> Vec<String> {
        vec![format!("row:{key}")]
    }
}

pub async fn connect(url: &str) -> Redis {
    Redis::connect(RedisConfig::from_url(url).unwrap()).await.unwrap()
}

/// A process of its own, as far as the server can tell.
pub async fn process(url: &str, table: &Arc<Table>, shape: impl FnOnce(Region) -> Region) -> Cache {
    let region = Region::backend(connect(url).await).jitter(0.0).early_refresh(0.0);
    let builder = Cache::builder().region("objects", shape(region)).source(Row(table.clone()));
    builder.source(Tagged(table.clone())).build().await.unwrap()
}

/// The version of a row as this request sees it.
pub async fn version(request: &RequestCache, id: u64) -> u32 {
    request.get::<Row>(id).await.unwrap().unwrap().1
}

/// The version of a row as a new request sees it.
pub async fn sees(cache: &Cache, id: u64) -> u32 {
    version(&cache.request(), id).await
}

/// The version of a tagged row as a new request sees it.
pub async fn sees_tagged(cache: &Cache, id: u64) -> u32 {
    cache.request().get::<Tagged>(id).await.unwrap().unwrap().1
}

/// Polls until it holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(10), "{what} did not come about within ten seconds");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
