//! Processes whose clocks differ, over one server: the server's own expiry is the only clock that counts.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Process, limited, until};
use mastaba::Tier;
use mastaba::entry::{self, Fence};
use mastaba::shared::WriteOutcome::RolledBack;
use mastaba::shared::{End, Ended, Hold, Lease, Leased, Shared};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::clock::Clock;
use mastaba_test::servers::RedisServer;
use mastaba_test::world::Db;

const DAY: Duration = Duration::from_secs(86_400);
const LONG: Duration = Duration::from_secs(60);

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

async fn connect(server: &RedisServer) -> Redis {
    Redis::connect(RedisConfig::from_url(&server.url()).unwrap()).await.unwrap()
}

async fn lease(redis: &Redis, key: &Bytes) -> Leased {
    let record = entry::lease(Fence::random(), redis.incarnation()).into();
    let ask = Lease { key: key.clone(), record, over: None, ttl: LONG };
    redis.lease(&[ask], &[]).await.unwrap().leased.remove(0)
}

#[tokio::test]
async fn a_hold_stands_as_long_as_the_server_keeps_it_whatever_the_clocks_of_processes_say() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let (one, two) = (connect(&server).await, connect(&server).await);
        let clock = Clock::take();
        for (at, first_is_behind) in [true, false].into_iter().enumerate() {
            let key = Bytes::from(format!("key {at}"));
            let hold = |holder, ttl| Hold { key: key.clone(), holder, ttl, keep: false };
            let end = |holder| End { key: key.clone(), holder, outcome: RolledBack };
            let turn = |of_first: bool| match of_first == first_is_behind {
                true => clock.behind(DAY),
                false => clock.ahead(DAY),
            };
            turn(true);
            one.hold(&[hold(1, LONG)]).await.unwrap();
            turn(false);
            assert!(matches!(lease(&two, &key).await, Leased::Found(_)), "the hold of another is respected");
            two.hold(&[hold(2, LONG)]).await.unwrap();
            assert_eq!(two.end(&[end(2)]).await.unwrap(), [Ended::StillHeld]);
            // and one does not stand for longer than it was to
            let brief = Duration::from_millis(300);
            two.hold(&[hold(3, brief)]).await.unwrap();
            turn(true);
            assert_eq!(one.end(&[end(1)]).await.unwrap(), [Ended::StillHeld]);
            until("the last hold being over", async || lease(&one, &key).await == Leased::Granted).await;
            assert_eq!(two.end(&[end(3)]).await.unwrap(), [Ended::Gone]);
        }
    })
    .await;
}
