//! Being told of changes, by the backend alone: how tracking is set while it is asked for from several sides.

use crate::rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mastaba::entry::{self, Fence, Header, Kind};
use mastaba::shared::{Fill, Filled, Lease, Leased, Listener, Shared, Stamp};
use mastaba_redis::Redis;
use mastaba_test::servers::RedisServer;
use rows::{connect, until};
use tokio::time::timeout;

#[derive(Default)]
struct Heard {
    changes: AtomicUsize,
    gaps: AtomicUsize,
}

impl Listener for Heard {
    fn changed(&self, _: &[u8]) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::SeqCst);
    }
}

impl Heard {
    fn so_far(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }
}

/// Listens, and gives what has been heard once it is told of everything.
async fn listen(redis: &Redis) -> (Arc<Heard>, usize) {
    let heard = Arc::new(Heard::default());
    redis.listen(b"m:one:", heard.clone());
    redis.catch_up().await.unwrap();
    let before = heard.so_far();
    (heard, before)
}

const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn several_who_ask_at_once_to_be_told_do_not_get_in_each_others_way() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    let (one, two) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
    redis.listen(b"m:one:", one.clone());
    let asked = timeout(LONG, async { tokio::join!(redis.catch_up(), redis.catch_up()) }).await.unwrap();
    assert!(asked.0.is_ok() && asked.1.is_ok(), "{asked:?}");
    redis.listen(b"m:two:", two.clone());
    let asked = timeout(LONG, async { tokio::join!(redis.catch_up(), redis.catch_up()) }).await.unwrap();
    assert!(asked.0.is_ok() && asked.1.is_ok(), "{asked:?}");
    for (heard, key) in [(one, "m:one:1"), (two, "m:two:1")] {
        let before = heard.so_far();
        server.command(&["SET", key, "x"]).await;
        redis.catch_up().await.unwrap();
        assert_eq!(heard.so_far(), before + 1, "{key}");
    }
}

/// While tracking is off and on again, changes of what was tracked before go by.
#[tokio::test]
async fn when_tracking_is_set_anew_for_one_all_others_have_a_gap() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    let (one, _) = listen(&redis).await;
    redis.catch_up().await.unwrap();
    let before = one.gaps.load(Ordering::SeqCst);
    redis.catch_up().await.unwrap();
    assert_eq!(one.gaps.load(Ordering::SeqCst), before, "nothing was set anew");
    redis.listen(b"m:two:", Arc::new(Heard::default()));
    redis.catch_up().await.unwrap();
    assert!(one.gaps.load(Ordering::SeqCst) > before);
}

#[tokio::test]
async fn who_lost_patience_while_tracking_was_being_set_is_told_later_all_the_same() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    let heard = Arc::new(Heard::default());
    // its commands reach the server, and the answers come when nobody waits for them any longer
    server.pause().await;
    redis.listen(b"m:one:", heard.clone());
    let asked = timeout(Duration::from_millis(100), redis.catch_up()).await;
    assert!(asked.is_err(), "a stopped server answers nobody");
    server.resume().await;
    until("the server telling of changes", async || redis.catch_up().await.is_ok()).await;
    let before = heard.so_far();
    server.command(&["SET", "m:one:1", "x"]).await;
    redis.catch_up().await.unwrap();
    assert_eq!(heard.so_far(), before + 1);
}

#[tokio::test]
async fn what_this_process_voids_itself_its_other_caches_are_told_of_once() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    let (heard, before) = listen(&redis).await;
    let stamp = |key: &'static str| Stamp { key: key.into(), value: 7, ttl: None };
    redis.invalidate(&[], &[stamp("m:one:#tag"), stamp("m:other:#tag")]).await.unwrap();
    assert_eq!(heard.so_far(), before + 1, "before it has returned");
    redis.catch_up().await.unwrap();
    assert_eq!(heard.so_far(), before + 1, "and not by the server as well");
    redis.invalidate(&["m:one:1".into()], &[]).await.unwrap();
    assert!(heard.so_far() > before + 1);
}

/// A wish to fill this key, and the fence of its lease.
fn wish(redis: &Redis, key: &'static str, over: Option<Fence>) -> (Lease, Fence) {
    let fence = Fence::random();
    let record = entry::lease(fence, redis.incarnation()).into();
    (Lease { key: key.into(), record, over, ttl: LONG }, fence)
}

fn missing_stamp() -> Stamp {
    Stamp { key: "m:one:#tag".into(), value: 7, ttl: None }
}

#[tokio::test]
async fn what_this_process_places_where_nothing_stood_its_caches_are_told_of_and_what_it_finds_they_are_not()
{
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    let (heard, before) = listen(&redis).await;
    let (lease, fence) = wish(&redis, "m:one:1", None);
    let leased = redis.lease(&[lease], &[missing_stamp()]).await.unwrap();
    assert_eq!(leased.leased, [Leased::Granted]);
    assert_eq!(heard.so_far(), before + 2, "the lease and the stamp, before it has returned");
    redis.catch_up().await.unwrap();
    assert_eq!(heard.so_far(), before + 2, "and not by the server as well");
    let (again, _) = wish(&redis, "m:one:1", None);
    let found = redis.lease(&[again], &[Stamp { value: 8, ..missing_stamp() }]).await.unwrap();
    assert!(matches!(found.leased[..], [Leased::Found(_)]), "{found:?}");
    assert_eq!(heard.so_far(), before + 2, "nothing was changed");
    let (over, _) = wish(&redis, "m:one:1", Some(fence));
    assert_eq!(redis.lease(&[over], &[]).await.unwrap().leased, [Leased::Granted]);
    assert!(heard.so_far() > before + 2);
}

#[tokio::test]
async fn a_lease_that_nobody_waits_for_any_longer_is_told_of_all_the_same() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    let (heard, before) = listen(&redis).await;
    server.pause().await;
    let (lease, _) = wish(&redis, "m:one:1", None);
    let given_up = timeout(Duration::from_millis(100), redis.lease(&[lease], &[])).await;
    assert!(given_up.is_err(), "a stopped server answers nobody");
    server.resume().await;
    redis.catch_up().await.unwrap();
    assert_eq!(server.command(&["EXISTS", "m:one:1"]).await, "1", "it was placed");
    assert_eq!(heard.so_far(), before + 1);
}

#[tokio::test]
async fn a_ping_is_not_answered_before_the_leases_that_were_sent_before_it_are_told_of() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    let (heard, before) = listen(&redis).await;
    let (lease, _) = wish(&redis, "m:one:1", None);
    let leases = [lease];
    let mut leasing = std::pin::pin!(redis.lease(&leases, &[]));
    // it is sent, and whoever waits for its answer is not woken
    assert!(futures_util::poll!(leasing.as_mut()).is_pending());
    until("the lease being placed", async || server.command(&["EXISTS", "m:one:1"]).await == "1").await;
    let early = timeout(Duration::from_millis(200), redis.catch_up()).await;
    assert!(early.is_err(), "what the lease may hide has not been told of");
    assert_eq!(heard.so_far(), before);
    let (leased, caught_up) = tokio::join!(leasing, redis.catch_up());
    assert_eq!(leased.unwrap().leased, [Leased::Granted]);
    caught_up.unwrap();
    assert_eq!(heard.so_far(), before + 1);
    // one that is sent later is not waited for
    let (lease, _) = wish(&redis, "m:one:2", None);
    let leases = [lease];
    let mut asked = std::pin::pin!(redis.catch_up());
    assert!(futures_util::poll!(asked.as_mut()).is_pending(), "the ping is on its way");
    let mut leasing = std::pin::pin!(redis.lease(&leases, &[]));
    assert!(futures_util::poll!(leasing.as_mut()).is_pending());
    timeout(LONG, asked).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_key_that_another_process_voids_is_told_of_also_where_nothing_stands() {
    let Some(server) = RedisServer::start().await else { return };
    let (redis, other) = (connect(&server.url()).await, connect(&server.url()).await);
    let (heard, before) = listen(&redis).await;
    other.invalidate(&["m:one:1".into()], &[]).await.unwrap();
    redis.catch_up().await.unwrap();
    assert!(heard.so_far() > before, "what was read before it went may be about to enter near");
}

#[tokio::test]
async fn a_lease_of_another_incarnation_that_an_old_dump_brought_back_is_not_filled() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    let now = redis.incarnation();
    for (incarnation, expected) in [(now ^ 1, Filled::Refused), (now, Filled::Stored)] {
        let header = Header::new(Kind::Lease, Fence::random(), incarnation);
        let lease = entry::write(&header, &[], &[], &[]);
        server.call(&[&b"SET"[..], b"m:one:1", &lease]).await.unwrap();
        let record = entry::write(&Header::new(Kind::Value, Fence::random(), now), &[], &[], b"row").into();
        let fill = Fill {
            key: "m:one:1".into(),
            expected: header.fence,
            over: mastaba::shared::Over::Lease,
            record,
            ttl: LONG,
        };
        assert_eq!(redis.fill(&[fill]).await.unwrap(), [expected]);
    }
}
