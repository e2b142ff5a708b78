//! The counterexamples of the protocol's model over real servers.

use std::time::Duration;

use bytes::Bytes;
use mastaba::entry::{self, Fence};
use mastaba::shared::{Lease, Leased, Shared};
use mastaba_memcached::Memcached;
use mastaba_test::servers::MemcachedServer;

use crate::common::{connect, three, url, url_of};
use crate::schedules::Store;

impl Store for MemcachedServer {
    type Backend = Memcached;
    const FORGETS: bool = true;
    /// It counts in whole seconds.
    const LINGERS: Duration = Duration::from_secs(2);

    async fn connect(&self, place: usize) -> Memcached {
        connect(&format!("{}?prefix=place{place}:", url(self))).await
    }

    async fn forget(&self, _: usize) {
        assert_eq!(self.command("flush_all\r\n").await, "OK\r\n");
    }
}

/// Servers that share the keys.
struct Servers(Vec<MemcachedServer>);

impl Store for Servers {
    type Backend = Memcached;
    const FORGETS: bool = true;
    /// It counts in whole seconds.
    const LINGERS: Duration = Duration::from_secs(2);

    async fn connect(&self, place: usize) -> Memcached {
        connect(&format!("{}?prefix=place{place}:", url_of(&self.0))).await
    }

    async fn forget(&self, _: usize) {
        for server in &self.0 {
            assert_eq!(server.command("flush_all\r\n").await, "OK\r\n");
        }
    }
}

mod one_server {
    crate::schedules::every_row!(mastaba_test::servers::MemcachedServer::start());
}

crate::schedules::every_row!(as every_row_over_three_servers, async { three().await.map(Servers) });

/// R7: what was absent when an invalidation looked may be derived from what it removes only after that.
#[tokio::test]
async fn keys_of_which_a_later_one_is_absent_are_voided_twice() {
    let Some(server) = MemcachedServer::start().await else { return };
    let memcached = connect(&url(&server)).await;
    let misses = async || server.stats("").await["get_misses"].parse::<u64>().unwrap();
    let rounds = 10;
    let mut counts = Vec::new();
    for order in [[true, false], [false, true]] {
        let before = misses().await;
        for round in 0..rounds {
            let keys =
                [0, 1].map(|at| Bytes::from(format!("mastaba:objects:twice:{}:{round}.{at}", order[0])));
            let record = Bytes::from(entry::lease(Fence::random(), memcached.incarnation()));
            let there = keys.iter().zip(order).filter(|(_, there)| *there).map(|(key, _)| Lease {
                key: key.clone(),
                record: record.clone(),
                over: None,
                ttl: Duration::from_secs(60),
            });
            let leased = memcached.lease(&there.collect::<Vec<_>>(), &[]).await.unwrap();
            assert_eq!(leased.leased, [Leased::Granted]);
            memcached.invalidate(&keys, &[]).await.unwrap();
        }
        counts.push((misses().await - before) / rounds);
    }
    // whoever looks which list of servers is used, every two seconds, finds nothing either: fewer than one in a round
    assert_eq!(counts, [3, 1], "the second of them once, and then both; and the first of them once");
}
