//! The store forgets, evicts, or does not take what it is given.

use std::sync::Arc;
use std::time::Duration;

use mastaba::{Cache, LoadContext, Region, Rows, Source, Tier};
use mastaba_test::servers::MemcachedServer;

use crate::common::{connect, limited, url};

mastaba_test::every_outage!(store crate::common::OverMemcached);

/// As many bytes as its key says, each of them the version.
struct Large(Arc<std::sync::atomic::AtomicU8>);

impl Source for Large {
    type Key = u32;
    type Value = Vec<u8>;
    type Error = std::convert::Infallible;
    const NAME: &'static str = "large";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, Self::Error> {
        let version = self.0.load(std::sync::atomic::Ordering::SeqCst);
        Ok(keys.iter().map(|key| (*key, noise(*key, version))).collect())
    }
}

/// Bytes that no compression makes smaller, after the version.
fn noise(length: u32, version: u8) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length.into());
    std::iter::once(version).chain((1..length).map(|_| random.u8(..))).collect()
}

struct LargeRows {
    cache: Cache,
    version: Arc<std::sync::atomic::AtomicU8>,
    events: Arc<std::sync::Mutex<Vec<String>>>,
}

async fn large_rows(url: &str) -> LargeRows {
    let version = Arc::new(std::sync::atomic::AtomicU8::new(0));
    let events = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = events.clone();
    let region = Region::backend(connect(url).await).jitter(0.0).early_refresh(0.0);
    let region = region.shared_budget(Duration::from_secs(5)).shared_soft_budget(Duration::from_secs(5));
    let cache = Cache::builder().region("objects", region).source(Large(version.clone()));
    let cache = cache.on_event(move |event| listener.lock().unwrap().push(event.to_string()));
    LargeRows { cache: cache.build().await.unwrap(), version, events }
}

impl LargeRows {
    async fn tier(&self, key: u32) -> Option<Tier> {
        let answers = self.cache.request().get_outcomes::<Large>([key]).await;
        let value = answers[&key].value().unwrap().unwrap();
        assert_eq!(value.len(), key as usize);
        assert!(
            value[0] == self.version.load(std::sync::atomic::Ordering::SeqCst),
            "an acknowledged write is not seen"
        );
        self.cache.idle().await;
        answers[&key].tier()
    }
}

#[tokio::test]
async fn a_record_that_is_too_large_for_the_server_is_an_event_and_no_failure_of_others() {
    limited(async {
        for (size, stored, too_large) in [(1024, 1_000_000, 1_050_000), (4096, 3_000_000, 5_000_000)] {
            let Some(server) = MemcachedServer::builder().item_size(size).start().await else { return };
            let rows = large_rows(&url(&server)).await;
            let both = [stored, too_large];
            let request = rows.cache.request();
            let found = request.get_many::<Large>(both).await.unwrap();
            assert!(
                found.found().all(|(key, value)| value.len() == *key as usize) && found.found().count() == 2
            );
            rows.cache.idle().await;
            let events = std::mem::take(&mut *rows.events.lock().unwrap());
            assert!(events.iter().any(|event| event.contains("and the backend takes")), "{events:?}");
            assert_eq!(rows.tier(stored).await, Some(Tier::Shared), "{size} KiB");
            assert_eq!(rows.tier(too_large).await, Some(Tier::Source), "{size} KiB");
        }
    })
    .await;
}

/// With 4 MiB nearly everything is evicted that was stored: leases, values, stamps. What is read is never old.
#[tokio::test]
async fn a_server_that_evicts_all_the_time_gives_nothing_old() {
    limited(async {
        let Some(server) = MemcachedServer::builder().memory(4).start().await else { return };
        let rows = large_rows(&url(&server)).await;
        let keys: Vec<u32> = (0..400).map(|n| 20_000 + n).collect();
        for version in 1..=3 {
            rows.version.store(version, std::sync::atomic::Ordering::SeqCst);
            rows.cache
                .request()
                .invalidate::<Large>(keys.clone())
                .await
                .unwrap()
                .confirmed(Duration::ZERO)
                .await
                .unwrap();
            for part in keys.chunks(20) {
                let answers = rows.cache.request().get_many::<Large>(part.iter().copied()).await.unwrap();
                assert!(
                    answers.found().all(|(_, value)| value[0] == version)
                        && answers.found().count() == part.len()
                );
            }
            rows.cache.idle().await;
            assert_eq!(rows.tier(keys[399]).await, Some(Tier::Shared), "what was stored last");
            for key in keys.iter().step_by(13) {
                rows.tier(*key).await;
            }
        }
        let evicted: u64 = server.stats("").await["evictions"].parse().unwrap();
        assert!(evicted > 200, "{evicted} were evicted");
    })
    .await;
}
