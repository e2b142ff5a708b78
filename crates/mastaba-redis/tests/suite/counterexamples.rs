//! The counterexamples of the protocol's model over real servers.

use crate::schedules;

use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};
use schedules::Store;

/// A prefix for each place.
async fn connect(url: &str, place: usize) -> Redis {
    let url = format!("{url}?prefix=place{place}:");
    Redis::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap()
}

impl Store for RedisServer {
    type Backend = Redis;
    const FORGETS: bool = true;

    async fn connect(&self, place: usize) -> Redis {
        connect(&self.url(), place).await
    }

    async fn forget(&self, _: usize) {
        assert_eq!(self.command(&["FLUSHALL"]).await, "OK");
    }
}

impl Store for Cluster {
    type Backend = Redis;
    const FORGETS: bool = true;

    async fn connect(&self, place: usize) -> Redis {
        connect(&self.url(), place).await
    }

    async fn forget(&self, _: usize) {
        for node in (0..3).map(|master| self.node(master)) {
            assert_eq!(node.command(&["FLUSHALL"]).await, "OK");
        }
    }
}

impl Store for Sentinels {
    type Backend = Redis;
    const FORGETS: bool = true;

    async fn connect(&self, place: usize) -> Redis {
        connect(&self.url(), place).await
    }

    async fn forget(&self, _: usize) {
        assert_eq!(self.master().command(&["FLUSHALL"]).await, "OK");
    }
}

mod one_server {
    crate::schedules::every_row!(mastaba_test::servers::RedisServer::start());
}

// a cluster takes seconds to start

crate::schedules::every_row!(as every_row_over_a_cluster, Cluster::start());
crate::schedules::every_row!(as every_row_behind_sentinels, Sentinels::start());
