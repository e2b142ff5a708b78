//! The whole stack as a test sees it: a database of versioned rows, and processes with a cache each over one store.
#![allow(dead_code, unused_imports, reason = "each file of tests uses its own part")]

pub(crate) mod load;

use std::net::SocketAddr;
use std::time::Duration;

use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::outages::{self, Setup, Words};
use mastaba_test::servers::RedisServer;

pub(crate) use mastaba_test::outages::{BUDGET, faults, limited, record, until};

/// Redis or Valkey.
pub(crate) enum OverRedis {}

pub(crate) type Process = outages::CacheProcess<OverRedis>;
pub(crate) type Stage = outages::OutageStage<OverRedis>;

impl Setup for OverRedis {
    type Server = RedisServer;
    type Backend = Redis;
    const INVALIDATES_AT_ONCE: bool = true;

    fn url(addr: SocketAddr) -> String {
        format!("redis://{addr}")
    }

    async fn connect(url: &str) -> Redis {
        let mut config = RedisConfig::from_url(url).unwrap();
        config.connect_timeout = Duration::from_millis(500);
        Redis::connect(config).await.unwrap()
    }

    async fn words(server: &RedisServer) -> Words {
        let fill = if server.traits().await.compares { "IFEQ" } else { "EVALSHA" };
        Words { read: "MGET", lease: "NX GET", fill, invalidation: "EVALSHA" }
    }
}
