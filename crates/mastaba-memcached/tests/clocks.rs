//! Processes whose clocks differ, over one server: the server's own expiry is the only clock that counts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mastaba::entry::{self, Fence};
use mastaba::shared::WriteOutcome::RolledBack;
use mastaba::shared::{End, Ended, Hold, Lease, Leased, Shared};
use mastaba_memcached::{Memcached, MemcachedConfig};
use mastaba_test::clock::Clock;
use mastaba_test::servers::MemcachedServer;

const DAY: Duration = Duration::from_secs(86_400);
const LONG: Duration = Duration::from_secs(60);

async fn connect(server: &MemcachedServer) -> Memcached {
    let url = format!("memcached://{}", server.addr());
    Memcached::connect(MemcachedConfig::from_url(&url).unwrap()).await.unwrap()
}

async fn lease(memcached: &Memcached, key: &Bytes) -> Leased {
    let record = entry::lease(Fence::random(), memcached.incarnation()).into();
    let ask = Lease { key: key.clone(), record, over: None, ttl: LONG };
    memcached.lease(&[ask], &[]).await.unwrap().leased.remove(0)
}

#[tokio::test]
async fn a_hold_stands_as_long_as_the_server_keeps_it_whatever_the_clocks_of_processes_say() {
    let Some(server) = MemcachedServer::start().await else { return };
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
        // and one does not stand for longer than it was to, but by some seconds
        two.hold(&[hold(3, Duration::from_millis(300))]).await.unwrap();
        turn(true);
        assert_eq!(one.end(&[end(1)]).await.unwrap(), [Ended::StillHeld]);
        let began = Instant::now();
        while lease(&one, &key).await != Leased::Granted {
            assert!(began.elapsed() < Duration::from_secs(12), "the last hold is not over");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(two.end(&[end(3)]).await.unwrap(), [Ended::Gone]);
    }
}
