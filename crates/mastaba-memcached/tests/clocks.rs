//! Processes whose clocks differ, over one server: the server's own expiry is the only clock that counts.

#[path = "suite/common.rs"]
#[allow(dead_code, unused_imports, reason = "each file of tests uses its own part")]
mod common;

use common::{OverMemcached, limited, url};
use mastaba_test::outages::clocks;
use mastaba_test::servers::MemcachedServer;

#[tokio::test]
async fn a_hold_stands_as_long_as_the_server_keeps_it_whatever_the_clocks_of_processes_say() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        clocks::a_hold_stands_as_long_as_the_store_keeps_it::<OverMemcached>(&url(&server)).await;
    })
    .await;
}
