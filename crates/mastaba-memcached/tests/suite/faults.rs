//! The network fails between one process and the store, which another process reaches. Each test asserts what was
//! acknowledged (I1), what callers and the database saw, and that it is over when the fault is.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use mastaba::Tier;
use mastaba::shared::{Shared, Stamp};
use mastaba_test::proxy::{Direction, Proxy};
use mastaba_test::servers::MemcachedServer;

use crate::common::{BUDGET, Stage, connect, limited, through, until};

/// What only these commands have in them, as they travel: the beginning of a record, by its kind.
const A_LEASE: &str = "Mt`";
const A_VALUE: &str = "Mt@";
const A_REMOVAL: &str = "md mastaba";

/// What a fault of the network comes to as long as it lasts: values for all, one statement for each read of the
/// process that is cut off, no acknowledgement without the store.
async fn is_cut_off(stage: &Stage, key: u64) {
    let old = stage.db.version(key);
    stage.far.events();
    for _ in 0..2 {
        let (seen, statements) = stage.statements(stage.far.finds(key)).await;
        assert_eq!((seen, statements), ((old, Tier::Source), 1));
    }
    assert!(stage.far.faults("read") >= 2);
    let (seen, statements) = stage.statements(stage.other.finds(key)).await;
    assert_eq!((seen, statements), ((old, Tier::Shared), 0), "the other process is not concerned");

    let acknowledged = stage.other.write(key).await.unwrap();
    stage.both_see(key).await;
    let error = stage.far.write(key).await.unwrap_err();
    assert!(error.is_shared(), "{error}");
    assert_eq!(stage.far.sees(key).await, acknowledged + 1, "it is committed");
    assert!(stage.other.sees(key).await >= acknowledged);
    assert!(stage.far.faults("invalidate") >= 1);
    assert_eq!(stage.other.events(), [""; 0]);
}

async fn warm_in_both(stage: &Stage, key: u64) {
    stage.far.warm(key).await;
    stage.other.warm(key).await;
}

#[tokio::test]
async fn a_server_that_refuses_connections_costs_statements_and_no_answers() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        warm_in_both(&stage, 1).await;
        stage.proxy.refuse().await;
        is_cut_off(&stage, 1).await;
        stage.proxy.pass().await;
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_slower_than_the_budget_is_not_waited_for() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        warm_in_both(&stage, 1).await;
        stage.proxy.slow(BUDGET).await;
        is_cut_off(&stage, 1).await;
        stage.proxy.pass().await;
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_swallows_everything_is_given_up() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        warm_in_both(&stage, 1).await;
        stage.proxy.half_open().await;
        is_cut_off(&stage, 1).await;
        stage.proxy.pass().await;
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn answers_that_are_lost_on_their_way_are_not_taken_for_done() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        warm_in_both(&stage, 1).await;
        stage.proxy.swallow(Direction::ToClient).await;
        let error = stage.far.write(1).await.unwrap_err();
        assert!(error.is_shared(), "{error}");
        stage.proxy.pass().await;
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_read_whose_connection_is_reset_is_answered_by_the_source() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        warm_in_both(&stage, 1).await;
        stage.proxy.reset_after("objects:user:1 v\r\n");
        let (seen, statements) = stage.statements(stage.far.finds(1)).await;
        assert_eq!((seen, statements), ((0, Tier::Source), 1));
        assert_eq!(stage.far.faults("read"), 1);
        stage.other.write(1).await.unwrap();
        stage.both_see(1).await;
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_lease_whose_answer_is_lost_gives_no_right_to_fill() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        warm_in_both(&stage, 2).await;
        stage.proxy.reset_after(A_LEASE);
        let (seen, statements) = stage.statements(stage.far.finds(1)).await;
        assert_eq!((seen, statements), ((0, Tier::Source), 1));
        stage.far.cache.idle().await;
        let events = stage.far.events();
        let failed =
            |what: &str| events.iter().filter(|event| event.contains(&format!("{what} failed"))).count();
        assert_eq!((failed("lease"), failed("fill")), (1, 0), "{events:?}");
        assert!(stage.stands(1).await, "the lease was placed, and nobody knows whose it is");
        // it is waited for, and then loaded under (R3): it keeps nobody from filling
        let (seen, statements) = stage.statements(stage.other.finds(1)).await;
        assert_eq!((seen, statements), ((0, Tier::Source), 1));
        stage.other.cache.idle().await;
        assert_eq!(stage.far.finds(1).await, (0, Tier::Shared));
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_fill_whose_answer_is_lost_is_voided_like_any_other() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        warm_in_both(&stage, 2).await;
        stage.proxy.reset_after(A_VALUE);
        assert_eq!(stage.far.sees(1).await, 0);
        stage.far.cache.idle().await;
        assert_eq!(stage.far.faults("fill"), 1);
        let (seen, statements) = stage.statements(stage.other.finds(1)).await;
        assert_eq!((seen, statements), ((0, Tier::Shared), 0), "it was stored");
        stage.other.write(1).await.unwrap();
        stage.both_see(1).await;
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn an_invalidation_whose_answer_is_lost_is_sent_again_on_the_next_connection() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        warm_in_both(&stage, 1).await;
        stage.proxy.reset_after(A_REMOVAL);
        assert_eq!(stage.far.write(1).await.unwrap(), 1, "and confirmed by that");
        assert_eq!(stage.far.faults("invalidate"), 1);
        stage.both_see(1).await;
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn an_invalidation_that_never_arrived_is_not_acknowledged_and_sent_until_it_arrives() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        warm_in_both(&stage, 1).await;
        stage.proxy.ban(A_REMOVAL).await;
        stage.far.write(1).await.unwrap_err();
        assert_eq!(
            stage.other.finds(1).await,
            (0, Tier::Shared),
            "nothing was voided, and nothing acknowledged"
        );
        assert_eq!(stage.far.sees(1).await, 1, "the process that wrote does not go back in time");
        stage.proxy.pass().await;
        // nobody writes again
        until("what was kept", async || stage.other.finds(1).await.0 == 1).await;
        stage.both_see(1).await;
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_write_waits_no_longer_than_its_budget_for_a_silent_server() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        warm_in_both(&stage, 1).await;
        stage.server.pause().await;
        let began = Instant::now();
        stage.far.write(1).await.unwrap_err();
        assert_eq!(stage.far.sees(1).await, 1);
        // two trips; everything else is the machine's
        assert!(began.elapsed() < BUDGET * 2 + Duration::from_secs(5));
        stage.server.resume().await;
        stage.recovers(1).await;
    })
    .await;
}

/// A call that is dropped in the middle leaves nothing of its answers to the next one: the connection goes on, and reads them.
#[tokio::test]
async fn who_gives_up_leaves_nothing_behind_for_others() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        let proxy = Proxy::to(server.addr()).await;
        let memcached = connect(&through(&proxy)).await;
        let keys: Vec<Bytes> = (0..20).map(|n| format!("stamp {n}").into()).collect();
        let stamps = (0..20).map(|n| Stamp { key: keys[n].clone(), value: n as u64, ttl: None });
        memcached.lease(&[], &stamps.collect::<Vec<_>>()).await.unwrap();
        for round in 0..200 {
            let (gone, wanted) = (round % 20, (round + 7) % 20);
            assert!(
                memcached.read(&keys[gone..]).now_or_never().is_none(),
                "it was sent, and not answered yet"
            );
            let found = memcached.read(&keys[wanted..=wanted]).await.unwrap();
            assert_eq!(found, [Some(Bytes::copy_from_slice(&(wanted as u64).to_le_bytes()))]);
        }
        assert_eq!(proxy.accepted(), 1, "and the connection is the same");
    })
    .await;
}
