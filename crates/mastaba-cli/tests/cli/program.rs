//! A program over the server that the binary looks into.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::{Cache, Coherence, LoadContext, NearConfig, Policy, Region, Rows, Source};
use mastaba_memcached::{Memcached, MemcachedConfig};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::world::{Control, Db, Watched};
use serde::{Deserialize, Serialize};

/// The rows of a program: each changes when it is written.
#[derive(Clone, Default)]
pub(crate) struct Shelf(pub(crate) Arc<Mutex<u32>>);

/// A book. What has an alias is stored with the names of its fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Book {
    #[serde(alias = "name")]
    pub(crate) title: String,
    pub(crate) version: u32,
}

/// The key of its stamp is longer than Memcached takes.
pub(crate) const LONG_TAG: [char; 240] = ['x'; 240];

/// With a tag of its own; number 8 has a long one.
pub(crate) struct BookById(pub(crate) Shelf);

impl Source for BookById {
    type Key = u32;
    type Value = Book;
    type Error = std::convert::Infallible;
    const NAME: &'static str = "book";
    const REGION: &'static str = "objects";

    fn tags(&self, id: &u32, _: &Book) -> Vec<String> {
        vec![if *id == 8 { LONG_TAG.iter().collect() } else { "books".to_owned() }]
    }

    fn policy(&self, region: &Policy) -> Policy {
        region.clone().ttl(Duration::from_secs(3600)).jitter(0.0).early_refresh(0.0)
    }

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
        let version = *self.0.0.lock().unwrap();
        Ok(ids
            .iter()
            .filter(|id| **id < 100)
            .map(|id| (*id, Book { title: format!("Book {id}"), version }))
            .collect())
    }
}

/// A program with near, which is to be told of every change.
pub(crate) struct Program {
    pub(crate) cache: Cache,
    pub(crate) shelf: Shelf,
}

impl Program {
    pub(crate) async fn start(url: &str) -> Self {
        let redis = Redis::connect(RedisConfig::from_url(url).unwrap()).await.unwrap();
        let near = NearConfig::entries(1000).coherence(Coherence::Fenced);
        Self::with(Region::backend(redis).near(near)).await
    }

    /// Without near, for Memcached tells nobody of changes.
    pub(crate) async fn over_memcached(url: &str) -> Self {
        let memcached = Memcached::connect(MemcachedConfig::from_url(url).unwrap()).await.unwrap();
        Self::with(Region::backend(memcached)).await
    }

    async fn with(region: Region) -> Self {
        let shelf = Shelf::default();
        let region = region.shared_budget(Duration::from_secs(5));
        let builder = Cache::builder().region("objects", region).source(BookById(shelf.clone()));
        Self { cache: builder.build().await.unwrap(), shelf }
    }

    /// The version of a book as a request sees it, whatever tier answers.
    pub(crate) async fn sees(&self, id: u32) -> u32 {
        let request = self.cache.request();
        let book = request.get::<BookById>(id).await.unwrap();
        self.cache.idle().await;
        book.map_or(0, |book| book.version)
    }

    /// Reads it until near answers.
    pub(crate) async fn warm(&self, id: u32) {
        for _ in 0..200 {
            let request = self.cache.request();
            request.get::<BookById>(id).await.unwrap();
            self.cache.idle().await;
            if request.report().outcomes[0].near_hits == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("near does not answer");
    }

    /// What is written, and nobody is told of.
    pub(crate) fn change(&self) {
        *self.shelf.0.lock().unwrap() += 1;
    }
}

/// A program whose loads go without a lease, for its trips are slow beside them.
pub(crate) async fn unleased(url: &str, db: &Arc<Db>) -> (Cache, Arc<Control>) {
    let redis = Redis::connect(RedisConfig::from_url(url).unwrap()).await.unwrap();
    let watched = Watched::<_, true>::new(redis, Arc::default());
    let control = watched.control();
    control.slow(Duration::from_millis(20));
    let region = Region::backend(watched).jitter(0.0).early_refresh(0.0).fill_without_lease(true);
    let region = region.shared_budget(Duration::from_secs(5)).source_budget(Duration::from_secs(60));
    let source = mastaba_test::world::UserById(db.clone());
    let cache = Cache::builder().region("objects", region).source(source).build().await.unwrap();
    for _ in 0..2 {
        cache.request().get::<mastaba_test::world::UserById>(900).await.unwrap(); // the first load takes a lease
        cache.idle().await;
    }
    (cache, control)
}
