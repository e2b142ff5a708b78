//! Fills are dropped beyond what may be under way: `max_fills` and `max_fill_bytes`.

use crate::rows;

use std::time::Duration;

use bytes::Bytes;
use mastaba::entry::{self, Fence, Header, Kind};
use mastaba::shared::{Fill, Filled, Lease, Leased, Over, Shared};
use mastaba_redis::Redis;
use mastaba_test::servers::RedisServer;
use rows::{Table, connect, process, sees};

const TTL: Duration = Duration::from_secs(60);

/// Takes a lease, and gives the fill under it.
async fn leased(redis: &Redis, key: &'static str, payload: usize) -> Fill {
    let (fence, incarnation) = (Fence::random(), redis.incarnation());
    let lease =
        Lease { key: key.into(), record: entry::lease(fence, incarnation).into(), over: None, ttl: TTL };
    assert_eq!(redis.lease(&[lease], &[]).await.unwrap().leased, [Leased::Granted]);
    let header = Header::new(Kind::Value, Fence::random(), incarnation);
    let record = Bytes::from(entry::write(&header, &[], &[], &vec![7; payload]));
    Fill { key: key.into(), expected: fence, over: Over::Lease, record, ttl: TTL }
}

async fn fill(redis: &Redis, fill: &Fill) -> Filled {
    redis.fill(std::slice::from_ref(fill)).await.unwrap().remove(0)
}

async fn limited_to(server: &RedisServer, arguments: &str) -> Redis {
    server.command(&["FLUSHALL"]).await;
    connect(&format!("{}?{arguments}", server.url())).await
}

#[tokio::test]
async fn of_two_fills_at_once_the_second_is_dropped_where_one_may_be_under_way() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = limited_to(&server, "max_fills=1").await;
    let (one, two) = (leased(&redis, "m:1", 10).await, leased(&redis, "m:2", 10).await);
    let filled = tokio::join!(fill(&redis, &one), fill(&redis, &two));
    assert_eq!(filled, (Filled::Stored, Filled::Refused));
    assert_eq!(fill(&redis, &two).await, Filled::Stored, "the first one is over");
    let redis = limited_to(&server, "max_fills=2").await;
    let (one, two) = (leased(&redis, "m:1", 10).await, leased(&redis, "m:2", 10).await);
    assert_eq!(tokio::join!(fill(&redis, &one), fill(&redis, &two)), (Filled::Stored, Filled::Stored));
}

#[tokio::test]
async fn fills_at_once_are_dropped_where_their_records_are_too_large_together() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = limited_to(&server, "max_fill_bytes=3000").await;
    let large = leased(&redis, "m:large", 4000).await;
    assert_eq!(fill(&redis, &large).await, Filled::Refused, "it is too large alone");
    let (one, two) = (leased(&redis, "m:1", 2000).await, leased(&redis, "m:2", 2000).await);
    assert_eq!(tokio::join!(fill(&redis, &one), fill(&redis, &two)), (Filled::Stored, Filled::Refused));
    assert_eq!(fill(&redis, &two).await, Filled::Stored, "the first one is over");
    let both = [leased(&redis, "m:3", 2000).await, leased(&redis, "m:4", 2000).await];
    assert_eq!(
        redis.fill(&both).await.unwrap(),
        [Filled::Refused; 2],
        "a call is stored whole or not at all"
    );
    let both = [leased(&redis, "m:5", 1000).await, leased(&redis, "m:6", 1000).await];
    assert_eq!(redis.fill(&both).await.unwrap(), [Filled::Stored; 2]);
}

#[tokio::test]
async fn a_fill_that_nobody_waits_for_any_longer_is_no_longer_under_way() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = limited_to(&server, "max_fills=1").await;
    let (one, two) = (leased(&redis, "m:1", 10).await, leased(&redis, "m:2", 10).await);
    server.pause().await;
    let gone = tokio::time::timeout(Duration::from_millis(50), fill(&redis, &one)).await;
    assert!(gone.is_err(), "a stopped server answers nobody");
    server.resume().await;
    assert_eq!(fill(&redis, &two).await, Filled::Stored);
}

#[tokio::test]
async fn what_is_dropped_stays_a_miss_and_reaches_its_reader_all_the_same() {
    let Some(server) = RedisServer::start().await else { return };
    for (arguments, loads) in [("max_fills=0", 2), ("max_fill_bytes=10", 2), ("max_fills=1", 1)] {
        server.command(&["FLUSHALL"]).await;
        let table = Table::new();
        let cache = process(&format!("{}?{arguments}", server.url()), &table, |region| region).await;
        for _ in 0..2 {
            assert_eq!(sees(&cache, 1).await, 0);
            cache.idle().await;
        }
        assert_eq!(table.loads().len(), loads, "{arguments}");
    }
}
