//! Another incarnation of the server: what it brings back is a miss (R11), and fills may be held back for a while.

use crate::rows;

use mastaba::Tier;
use mastaba::shared::Shared;
use mastaba_test::servers::RedisServer;
use rows::{Row, Table, connect, process, sees, until};

/// The third byte of a record that is a value.
const VALUE: &str = "@";

#[tokio::test]
async fn what_an_old_dump_brings_back_is_not_served() {
    let Some(server) = RedisServer::builder().persistent().start().await else { return };
    let table = Table::new();
    let cache = process(&server.url(), &table, |region| region).await;
    let writer = process(&server.url(), &table, |region| region).await;
    sees(&cache, 1).await;
    cache.idle().await;
    server.command(&["SAVE"]).await;
    server.config_set("save", "").await;
    let expected = table.commit(1);
    writer.request().invalidate::<Row>([1]).await.unwrap();
    server.kill().await;
    server.restart().await;
    let head = server.command(&["GETRANGE", "mastaba:objects:row:1", "2", "2"]).await;
    assert_eq!(head, VALUE, "the old value is back at the server");
    for cache in [&cache, &writer] {
        assert_eq!(sees(cache, 1).await, expected);
    }
    until("the shared tier being back", async || {
        cache.idle().await;
        let rows = writer.request().get_outcomes::<Row>([1]).await;
        assert_eq!(rows[&1].value().unwrap().unwrap().1, expected);
        rows[&1].tier() == Some(Tier::Shared)
    })
    .await;
}

#[tokio::test]
async fn in_quarantine_nothing_is_stored() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let patient = process(&format!("{}?quarantine=1h", server.url()), &table, |region| region).await;
    let ordinary = process(&server.url(), &table, |region| region).await;
    let stored =
        async |id: u64| server.command(&["EXISTS", &format!("mastaba:objects:row:{id}")]).await == "1";
    sees(&patient, 1).await;
    patient.idle().await;
    assert!(stored(1).await, "the first incarnation is no change");
    server.restart_empty().await;
    until("the shared tier being back", async || {
        sees(&ordinary, 2).await;
        ordinary.idle().await;
        stored(2).await
    })
    .await;
    until("a hit of what another process has stored", async || {
        let rows = patient.request().get_outcomes::<Row>([2]).await;
        rows[&2].tier() == Some(Tier::Shared)
    })
    .await;
    for id in 3..10 {
        sees(&patient, id).await;
        patient.idle().await;
        let head = server.command(&["GETRANGE", &format!("mastaba:objects:row:{id}"), "2", "2"]).await;
        assert_ne!(head, VALUE, "row {id} is in the store");
    }
}

/// The connection stays; what stands there came from elsewhere.
#[tokio::test]
async fn a_server_that_was_a_replica_for_a_moment_is_another_one_on_the_same_connection_too() {
    let Some(server) = RedisServer::start().await else { return };
    let Some(other) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    let before = redis.incarnation();
    assert_ne!(before, 0);
    other.command(&["SET", "brought", "1"]).await;
    server.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).await;
    until("a copy", async || server.command(&["GET", "brought"]).await == "1").await;
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    until("another incarnation", async || {
        let now = redis.incarnation();
        now != 0 && now != before
    })
    .await;
}
