//! Processes whose clocks differ, over one server: the server's own expiry is the only clock that counts.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{OverRedis, Process, limited};
use mastaba::Tier;
use mastaba_test::clock::Clock;
use mastaba_test::outages::clocks;
use mastaba_test::servers::RedisServer;
use mastaba_test::world::Db;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn what_a_process_stores_whose_clock_is_ahead_is_replaced_by_one_whose_clock_is_right() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let clock = Clock::take();
        let db = Arc::new(Db::default());
        let (ahead, right) =
            (Process::start(&server.url(), &db).await, Process::start(&server.url(), &db).await);
        clock.ahead(DAY);
        ahead.warm(1).await;
        clock.right();
        db.update(1); // by somebody who tells nobody
        assert_eq!(right.finds(1).await, (1, Tier::Source));
        right.cache.idle().await;
        assert_eq!(right.finds(1).await, (1, Tier::Shared));
        let left: u64 = server.command(&["PTTL", &common::record(1)]).await.parse().unwrap();
        assert!(left <= 300_000, "the server drops it in its time, {left} ms from now");
    })
    .await;
}

#[tokio::test]
async fn a_hold_stands_as_long_as_the_server_keeps_it_whatever_the_clocks_of_processes_say() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        clocks::a_hold_stands_as_long_as_the_store_keeps_it::<OverRedis>(&server.url()).await;
    })
    .await;
}
