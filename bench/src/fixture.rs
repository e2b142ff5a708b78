//! The work that is measured: users of about 160 bytes, by an integer.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use mastaba::{Cache, LoadContext, Region, Rows, Source};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

/// A row as a service has it: an id, three short strings, two integers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) about: String,
    pub(crate) created: i64,
    pub(crate) posts: u32,
}

pub(crate) fn user(id: i64) -> User {
    User {
        id,
        name: format!("User number {id}"),
        email: format!("user.{id}@example.org"),
        about: "Writes about steps, pyramids and the sand between them, and answers on most days.".into(),
        created: 1_700_000_000 + id,
        posts: 17,
    }
}

/// Users that cost nothing to load: what is measured is everything around.
pub(crate) struct UserById;

impl Source for UserById {
    type Key = i64;
    type Value = User;
    type Error = Infallible;
    const NAME: &'static str = "user";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> Result<Rows<Self>, Infallible> {
        Ok(ids.iter().map(|id| (*id, user(*id))).collect())
    }
}

/// A runtime of one thread.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A cache over one region, in which these keys are known to every tier that it has.
pub(crate) fn cache(runtime: &Runtime, region: Region, known: impl IntoIterator<Item = i64>) -> Cache {
    runtime.block_on(cache_of(region, known))
}

/// The same, on the runtime of the caller.
pub(crate) async fn cache_of(region: Region, known: impl IntoIterator<Item = i64>) -> Cache {
    let region = region.max_batch(1_000_000).early_refresh(0.0);
    let region = region.ttl(std::time::Duration::from_secs(36_000));
    let cache = Cache::builder().region("objects", region).source(UserById).build().await;
    let cache = cache.expect("a sound configuration");
    cache.request().prefetch::<UserById>(known).await.expect("users");
    cache.idle().await;
    cache
}

/// Keys in an order that no prefetcher knows.
pub(crate) fn keys(distinct: i64, count: usize) -> Vec<i64> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..count).map(|_| random.i64(0..distinct)).collect()
}

/// The private map that a hand-written program would have.
pub(crate) type Map = hashbrown::HashMap<i64, Arc<User>, foldhash::fast::RandomState>;

pub(crate) fn map(distinct: i64) -> Map {
    (0..distinct).map(|id| (id, Arc::new(user(id)))).collect()
}

/// Nanoseconds per operation.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn per(count: usize, work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    black_box(());
    began.elapsed().as_nanos() as f64 / count as f64
}
