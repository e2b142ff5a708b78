//! The store forgets, evicts, or does not take what it is given.

use std::sync::Arc;
use std::time::Duration;

use mastaba::{Cache, LoadContext, Region, Rows, Source, Tier, WriteMode};
use mastaba_test::servers::MemcachedServer;
use mastaba_test::world::UserById;
use tokio::sync::oneshot;

use crate::common::{Stage, connect, limited, until, url};

/// A load has read its row under a lease; then something happens to the store; then the row is written, and voided, and
/// read by the other process; then the load ends, and its fill comes late.
async fn in_the_middle_of_a_load(stage: &Stage, happens: impl AsyncFn()) {
    let request = stage.far.request();
    let gate = stage.db.close_gate();
    let (late, ()) = tokio::join!(request.get::<UserById>(1), async {
        gate.arrived(1).await;
        gate.only_those_here();
        assert!(stage.stands(1).await, "the lease");
        happens().await;
        assert!(!stage.stands(1).await, "the lease is gone");
        until("a write", async || stage.other.write(1).await.is_ok()).await;
        stage.other.warm(1).await;
        gate.open();
    });
    assert_eq!(late.unwrap().unwrap().version, 0, "it began before the write");
    stage.far.cache.idle().await;
    let (seen, statements) = stage.statements(stage.other.finds(1)).await;
    assert_eq!((seen, statements), ((stage.db.version(1), Tier::Shared), 0), "the late fill was refused");
    stage.both_see(1).await;
    stage.recovers(1).await;
}

#[tokio::test]
async fn a_fill_after_a_flush_is_refused() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        in_the_middle_of_a_load(&stage, async || {
            assert_eq!(stage.server.command("flush_all\r\n").await, "OK\r\n");
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_fill_after_a_restart_with_nothing_is_refused() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        in_the_middle_of_a_load(&stage, async || stage.server.restart().await).await;
    })
    .await;
}

/// A hold is lost in the middle of a write. Somebody may read the old row then, and store it (I2 is no longer kept); the end
/// of the write voids that, so whoever reads after it was acknowledged sees the new one (I1).
#[tokio::test]
async fn a_hold_that_the_store_has_lost_is_made_good_by_the_end_of_its_write() {
    limited(async {
        let strict = |region: Region| region.write_mode(WriteMode::Strict);
        let Some(stage) = Stage::over(MemcachedServer::builder(), strict).await else { return };
        for restarts in [false, true] {
            stage.other.warm(1).await;
            let write = stage.far.request().write();
            write.invalidate::<UserById>([1]).await.unwrap();
            let (begun, began) = oneshot::channel();
            let (go, gone) = oneshot::channel::<()>();
            let db = stage.db.clone();
            let done = tokio::spawn(async move {
                let commit = async move {
                    begun.send(()).unwrap();
                    gone.await.unwrap();
                    Ok::<_, String>(db.update(1))
                };
                write.commit(commit).await.unwrap().published.is_confirmed()
            });
            began.await.unwrap();
            assert_eq!(stage.other.finds(1).await.1, Tier::Source, "held");
            if restarts {
                stage.server.restart().await;
            } else {
                stage.server.command("flush_all\r\n").await;
            }
            let old = stage.other.warm(1).await;
            go.send(()).unwrap();
            assert!(done.await.unwrap(), "acknowledged");
            stage.far.cache.idle().await;
            assert_eq!(stage.db.version(1), old + 1);
            stage.both_see(1).await;
            stage.recovers(1).await;
        }
    })
    .await;
}

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
