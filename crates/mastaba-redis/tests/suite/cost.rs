//! What it costs, as the server counts it.

use crate::rows;

use mastaba_test::servers::RedisServer;
use rows::{Row, Table, process};

#[tokio::test]
async fn a_warm_request_of_a_hundred_keys_is_one_mget_and_nothing_else() {
    let Some(server) = RedisServer::start().await else { return };
    server.reset_stats().await;
    let table = Table::new();
    let cache = process(&server.url(), &table, |region| region).await;
    cache.request().prefetch::<Row>(0..100).await.unwrap();
    cache.idle().await;
    told(&server).await;
    // a process that has filled nothing itself
    let cache = process(&server.url(), &table, |region| region).await;
    told(&server).await;
    let rows = cache.request().get_many::<Row>(0..100).await.unwrap();
    let mut stats = server.commandstats().await;
    assert_eq!(rows.found().count(), 100);
    // asked by this test, and by the look that is taken at the server now and then
    stats.retain(|command, _| !command.starts_with("config") && command != "info");
    assert_eq!(stats.into_iter().collect::<Vec<_>>(), [("mget".to_owned(), 1)]);
    assert_eq!(table.loads().len(), 1);
}

#[tokio::test]
async fn a_cold_read_is_one_mget_one_lease_each_and_one_fill_each() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let cache = process(&server.url(), &table, |region| region).await;
    server.reset_stats().await;
    let request = cache.request();
    request.prefetch::<Row>(0..10).await.unwrap();
    cache.idle().await;
    let stats = server.commandstats().await;
    assert_eq!(stats.get("mget"), Some(&1), "{stats:?}");
    // ten leases, three stamps of the region (its generation, the epoch of its tags, its writes), ten fills from within the
    // script; of the first load nothing is known, so it took leases
    assert_eq!(stats.get("set"), Some(&23), "{stats:?}");
    assert_eq!(request.report().shared_trips(), 2, "a read and the leases; nobody waits for the fill");
    assert_eq!(table.loads(), [(0..10).collect::<Vec<_>>()]);
}

/// Waits until a process that has just connected is being told of changes, and counts anew from there. It pings twice: as
/// it looks at its rights, and in a task of its own once it is told.
async fn told(server: &RedisServer) {
    let pinged = async || server.commandstats().await.get("ping") == Some(&2);
    rows::until("the connection being told of changes", pinged).await;
    server.reset_stats().await;
}
