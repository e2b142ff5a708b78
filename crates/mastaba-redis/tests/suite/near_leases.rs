//! Near, while this process takes leases: a server that tells of changes `NOLOOP` says nothing of a change by somebody
//! else that is followed, before it comes round to telling, by our own `SET` of the same key (R13).

use crate::common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Process, limited, until};
use mastaba::{Coherence, Known, NearConfig, Region, RequestCache, Tier};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::servers::RedisServer;
use mastaba_test::world::{Control, Db, UserById, Watched};

/// A process whose leases can be held back; near answers until it hears of a change.
async fn held_back(url: &str, db: &Arc<Db>) -> (Process, Arc<Control>) {
    let redis = Redis::connect(RedisConfig::from_url(url).unwrap()).await.unwrap();
    let watched = Watched::<_, true>::new(redis, Arc::new(Mutex::default()));
    let control = watched.control();
    let near = NearConfig::entries(1000).coherence(Coherence::Bounded(Duration::from_secs(3600)));
    let region = Region::backend(watched).jitter(0.0).early_refresh(0.0).near(near);
    // the server stands still for a moment
    let region = region.shared_budget(Duration::from_secs(5));
    (Process::with(url, db, |_| region).await, control)
}

/// What near or the shared tier knows of a user: nothing is loaded, and no load is waited for.
async fn known(request: &RequestCache, key: u64) -> Option<u32> {
    match request.peek::<UserById>(key).await.unwrap() {
        Some(Known::Value(user)) => Some(user.version),
        _ => None,
    }
}

/// A read misses; another process fills, and near takes that in; then, in one turn of the server, the other process
/// voids the key and the lease of the first read is placed. Whether it came to that: should another command of the first
/// process have been under way, its lease comes before the invalidation.
async fn a_lease_right_after_an_invalidation(server: &RedisServer, key: u64) -> bool {
    let db = Arc::new(Db::default());
    let (far, control) = held_back(&server.url(), &db).await;
    let other = Process::start(&server.url(), &db).await;
    other.invalidate(key).await.unwrap(); // so that the server knows the script
    let lease = control.before("lease");
    let late = tokio::spawn({
        let request = far.request();
        async move { request.get::<UserById>(key).await.unwrap().unwrap().version }
    });
    lease.arrived(1).await;
    other.warm(key).await;
    // not `warm_near`, which would wait for the read that is held back
    until("a hit of near", async || far.finds(key).await == (0, Tier::Near)).await;

    let load = db.close_gate();
    server.pause().await;
    db.update(key);
    let request = other.request();
    let voided = tokio::spawn(async move { request.invalidate::<UserById>([key]).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    lease.open_for_good();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.resume().await;
    voided.await.unwrap().unwrap();
    until("the lease being answered", async || late.is_finished() || db.started() == 2).await;
    if late.is_finished() {
        return false;
    }
    let seen = known(&far.request(), key).await;
    assert_eq!(seen, None, "near answers with what was voided before");
    load.open_for_good();
    assert_eq!(late.await.unwrap(), 1);
    far.cache.idle().await;
    assert_eq!(far.sees(key).await, 1);
    assert_eq!(far.warm_near(key).await, 1, "near takes the new value in");
    true
}

#[tokio::test]
async fn a_lease_right_after_an_invalidation_by_another_process_does_not_hide_it_from_near() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let mut came = 0;
        for key in 1..=12 {
            came += usize::from(a_lease_right_after_an_invalidation(&server, key).await);
            if came == 3 {
                return;
            }
        }
        panic!("a lease came right after an invalidation {came} times only");
    })
    .await;
}
