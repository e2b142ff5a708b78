//! The suite that every backend has to pass, against real servers.

use mastaba_test::conformance;
use mastaba_test::servers::MemcachedServer;

use crate::common::{connect, three, url, url_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_server_conforms() {
    let Some(server) = MemcachedServer::start().await else { return };
    let memcached = connect(&url(&server)).await;
    conformance::run(|| async { memcached.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_with_a_prefix_conform() {
    let Some(servers) = three().await else { return };
    let memcached = connect(&format!("{}?prefix=shop:", url_of(&servers))).await;
    conformance::run(|| async { memcached.clone() }).await;
    for server in &servers {
        let items: u64 = server.stats("").await["cmd_set"].parse().unwrap();
        assert!(items > 1000, "each has its share, and one has {items}");
    }
}
