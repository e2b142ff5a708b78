//! Near in one process, while another one writes.

use crate::rows;

use std::time::{Duration, Instant};

use mastaba::{Cache, Coherence, NearConfig, Region, Tier};
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::{Cluster, RedisServer};
use rows::{Row, Table, Tagged, process, sees, sees_tagged, until};

const FOREVER: Duration = Duration::from_secs(3600);

fn near(coherence: Coherence) -> NearConfig {
    NearConfig::entries(1000).coherence(coherence)
}

async fn tier(cache: &Cache, id: u64) -> Option<Tier> {
    cache.request().get_outcomes::<Row>([id]).await[&id].tier()
}

/// Reads until near has it.
async fn warm(cache: &Cache, id: u64) {
    until("a hit of near", async || {
        cache.idle().await;
        tier(cache, id).await == Some(Tier::Near)
    })
    .await;
}

/// No read that began later than this after a write was acknowledged misses it.
async fn a_write_is_seen_within(bound: Duration, table: &Table, writer: &Cache, reader: &Cache) {
    let expected = table.commit(1);
    writer.request().invalidate::<Row>([1]).await.unwrap();
    let acknowledged = Instant::now();
    loop {
        let began = Instant::now();
        if sees(reader, 1).await == expected {
            break;
        }
        assert!(began - acknowledged < bound, "a read that began {:?} after it", began - acknowledged);
    }
}

#[tokio::test]
async fn a_write_elsewhere_is_seen_at_once_by_a_fenced_near_which_costs_one_ping_a_request() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let reader = process(&server.url(), &table, |region| region.near(near(Coherence::Fenced))).await;
    let writer = process(&server.url(), &table, |region| region).await;
    warm(&reader, 1).await;
    for round in 1..=50 {
        assert_eq!(table.commit(1), round);
        writer.request().invalidate::<Row>([1]).await.unwrap();
        assert_eq!(sees(&reader, 1).await, round, "read after the write was acknowledged");
        if round % 10 == 0 {
            warm(&reader, 1).await;
        }
    }
    warm(&reader, 1).await;
    warm(&reader, 2).await;
    let request = reader.request();
    server.reset_stats().await;
    request.get_many::<Row>([1, 2]).await.unwrap();
    request.with(mastaba::Force::PastRequest).get::<Row>(1).await.unwrap();
    let stats = server.commandstats().await;
    assert_eq!(stats.get("ping"), Some(&1), "{stats:?}");
    assert_eq!(stats.get("mget"), None, "{stats:?}");
    assert_eq!(request.report().shared_trips(), 1);
}

#[tokio::test]
async fn under_a_prefix_near_is_told_of_the_writes_and_clears_of_others_too() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let url = format!("{}?prefix=shop:", server.url());
    let reader = process(&url, &table, |region| region.near(near(Coherence::Fenced))).await;
    let writer = process(&url, &table, |region| region).await;
    warm(&reader, 1).await;
    let expected = table.commit(1);
    writer.request().invalidate::<Row>([1]).await.unwrap();
    assert_eq!(sees(&reader, 1).await, expected);
    warm(&reader, 1).await;
    let expected = table.commit(1);
    writer.region("objects").clear().await.unwrap();
    assert_eq!(sees(&reader, 1).await, expected);
}

#[tokio::test]
async fn the_ping_travels_beside_the_read_of_what_near_does_not_know() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let reader = process(&server.url(), &table, |region| region.near(near(Coherence::Fenced))).await;
    let other = process(&server.url(), &table, |region| region).await;
    warm(&reader, 1).await;
    sees(&other, 2).await;
    other.idle().await;
    let request = reader.request();
    let rows = request.get_outcomes::<Row>([1, 2]).await;
    assert_eq!((rows[&1].tier(), rows[&2].tier()), (Some(Tier::Near), Some(Tier::Shared)));
    let report = request.report();
    assert_eq!(report.shared_trips(), 2, "{report}");
    let (ping, read) = (&report.trips[0], &report.trips[1]);
    assert!(ping.began.max(read.began) < (ping.began + ping.took).min(read.began + read.took), "{report}");
}

#[tokio::test]
async fn a_request_that_is_renewed_makes_sure_of_near_anew() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let reader = process(&server.url(), &table, |region| region.near(near(Coherence::Fenced))).await;
    let writer = process(&server.url(), &table, |region| region).await;
    let connection = reader.request();
    let mut expected = sees(&writer, 1).await;
    for message in 0..5 {
        warm(&reader, 1).await;
        connection.renew();
        server.reset_stats().await;
        for _ in 0..3 {
            let row = connection.get::<Row>(1).await.unwrap().unwrap();
            assert_eq!(row.1, expected, "message {message}");
            connection.forget::<Row>([1]);
        }
        let stats = server.commandstats().await;
        assert_eq!(stats.get("ping"), Some(&1), "one per renewal, and forgetting costs none: {stats:?}");
        expected = table.commit(1);
        writer.request().invalidate::<Row>([1]).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_elsewhere_is_seen_by_a_bounded_near_within_its_bound() {
    let Some(server) = RedisServer::start().await else { return };
    let bound = Duration::from_millis(200);
    let table = Table::new();
    let reader = process(&server.url(), &table, |region| region.near(near(Coherence::Bounded(bound)))).await;
    let writer = process(&server.url(), &table, |region| region).await;
    warm(&reader, 1).await;
    a_write_is_seen_within(bound, &table, &writer, &reader).await;
}

#[tokio::test]
async fn near_serves_nothing_past_its_bound_when_the_server_has_fallen_silent() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::to(server.addr()).await;
    let bound = Duration::from_millis(300);
    let table = Table::new();
    let reader = process(&proxy.url(), &table, |region| region.near(near(Coherence::Bounded(bound)))).await;
    let writer = process(&server.url(), &table, |region| region).await;
    warm(&reader, 1).await;
    proxy.half_open().await;
    a_write_is_seen_within(bound, &table, &writer, &reader).await;
}

#[tokio::test]
async fn a_lost_connection_empties_near_and_tracking_is_set_again() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::to(server.addr()).await;
    let table = Table::new();
    // near would serve for an hour, did the gap not empty it
    let reader = process(&proxy.url(), &table, |region| region.near(near(Coherence::Bounded(FOREVER)))).await;
    let writer = process(&server.url(), &table, |region| region).await;
    warm(&reader, 1).await;
    proxy.refuse().await;
    proxy.cut().await;
    until("the loss being noticed", async || tier(&reader, 1).await != Some(Tier::Near)).await;
    let expected = table.commit(1);
    writer.request().invalidate::<Row>([1]).await.unwrap();
    assert_eq!(sees(&reader, 1).await, expected);
    proxy.pass().await;
    // near takes in what this process stores, unless the server notifies it of its own script
    let back = if server.traits().await.compares { Tier::Near } else { Tier::Shared };
    until("the shared tier being back", async || {
        reader.idle().await;
        tier(&reader, 1).await == Some(back)
    })
    .await;
    // near would serve for an hour again: what is seen now was told on the new connection
    warm(&reader, 1).await;
    let expected = table.commit(1);
    writer.request().invalidate::<Row>([1]).await.unwrap();
    until("the write being told", async || sees(&reader, 1).await == expected).await;
}

#[tokio::test]
async fn a_flush_and_a_delete_by_an_operator_reach_near() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let reader = process(&server.url(), &table, |region| region.near(near(Coherence::Fenced))).await;
    warm(&reader, 1).await;
    let expected = table.commit(1);
    server.command(&["DEL", "mastaba:objects:row:1"]).await;
    assert_eq!(sees(&reader, 1).await, expected);
    warm(&reader, 1).await;
    let expected = table.commit(1);
    server.command(&["FLUSHALL"]).await;
    assert_eq!(sees(&reader, 1).await, expected);
}

#[tokio::test]
async fn a_clear_and_tags_of_another_process_reach_near() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let reader = process(&server.url(), &table, |region| region.near(near(Coherence::Fenced))).await;
    let writer = process(&server.url(), &table, |region| region).await;
    warm(&reader, 1).await;
    let expected = table.commit(1);
    writer.region("objects").clear().await.unwrap();
    assert_eq!(sees(&reader, 1).await, expected);
    for tag in ["row:2", "rows"] {
        until("a hit of near", async || {
            reader.idle().await;
            reader.request().get_outcomes::<Tagged>([2]).await[&2].tier() == Some(Tier::Near)
        })
        .await;
        let expected = table.commit(2);
        let request = writer.request();
        let write = request.write();
        write.invalidate_tag(tag);
        write.published().await.unwrap();
        assert_eq!(sees_tagged(&reader, 2).await, expected, "after the tag {tag}");
    }
}

#[tokio::test]
async fn in_a_cluster_every_node_tells_near() {
    let Some(cluster) = Cluster::start().await else { return };
    let url = cluster.url();
    let table = Table::new();
    let reader = process(&url, &table, |region| region.near(near(Coherence::Fenced))).await;
    let writer = process(&url, &table, |region| region).await;
    for id in 1..=12 {
        warm(&reader, id).await;
    }
    for id in 1..=12 {
        let expected = table.commit(id);
        writer.request().invalidate::<Row>([id]).await.unwrap();
        assert_eq!(sees(&reader, id).await, expected, "row {id}");
    }
}

#[tokio::test]
async fn near_without_notifications_is_refused_at_start() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = rows::connect(&format!("{}?tell=false", server.url())).await;
    let region = Region::backend(redis).near(near(Coherence::Bounded(FOREVER)));
    let built = Cache::builder().region("objects", region).source(Row(Table::new())).build().await;
    let error = built.unwrap_err();
    assert!(error.to_string().contains("near needs a backend that tells"), "{error}");
}
