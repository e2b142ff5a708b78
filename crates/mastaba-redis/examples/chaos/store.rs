//! The server under the processes, and what can happen to it.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::{MemcachedServer, RedisServer};
use tokio::time::sleep;

pub(crate) enum Store {
    Redis(Box<RedisServer>),
    Memcached(Box<MemcachedServer>),
}

/// The URL of a server, by its sort.
pub(crate) enum Place {
    Redis(String),
    Memcached(String),
}

impl Store {
    pub(crate) async fn start(name: &str) -> Option<Self> {
        Some(match name {
            "memcached" => Self::Memcached(Box::new(MemcachedServer::start().await?)),
            _ => Self::Redis(Box::new(RedisServer::builder().persistent().start().await?)),
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Redis(server) => server.addr(),
            Self::Memcached(server) => server.addr(),
        }
    }

    pub(crate) fn through(&self, proxy: &Proxy) -> Place {
        match self {
            Self::Redis(_) => Place::Redis(proxy.url()),
            Self::Memcached(_) => Place::Memcached(format!("memcached://{}", proxy.addr())),
        }
    }

    /// Whether there can be near over it.
    pub(crate) fn tells(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// What is in commands of one kind.
    pub(crate) fn words(&self) -> [&'static str; 5] {
        match self {
            Self::Redis(_) => ["MGET", "NX GET", "EVALSHA", "PING", "CLIENT TRACKING"],
            // a lease, a value, a hold, a removal, what every connection looks at
            Self::Memcached(_) => ["Mt`", "Mt@", "Mtp", "md ", "mastaba@servers"],
        }
    }

    /// One fault of the server itself, and its end.
    pub(crate) async fn harm(&self, lasts: Duration, random: &mut Rng) -> &'static str {
        match self {
            Self::Redis(server) => harm_redis(server, lasts, random).await,
            Self::Memcached(server) => harm_memcached(server, lasts, random).await,
        }
    }
}

async fn harm_redis(server: &RedisServer, lasts: Duration, random: &mut Rng) -> &'static str {
    match random.u32(76..100) {
        76..84 => {
            let _ = server.call(&["SCRIPT", "FLUSH"]).await;
            "scripts flushed"
        }
        84..90 => {
            let _ = server.call(&["FLUSHALL"]).await;
            "flushed"
        }
        90..93 => {
            server.pause().await;
            sleep(lasts * 2).await;
            server.resume().await;
            "paused"
        }
        93..95 => {
            let _ = server.call(&["SAVE"]).await;
            "saved"
        }
        95..98 => {
            server.kill().await;
            sleep(lasts / 4).await;
            server.restart().await;
            "restarted from the last dump"
        }
        _ => {
            server.restart_empty().await;
            "restarted empty"
        }
    }
}

async fn harm_memcached(server: &MemcachedServer, lasts: Duration, random: &mut Rng) -> &'static str {
    match random.u32(76..100) {
        76..84 => {
            let _ = server.call(b"flush_all 1\r\n").await;
            "flushed in a second"
        }
        84..90 => {
            let _ = server.call(b"flush_all\r\n").await;
            "flushed"
        }
        90..94 => {
            server.pause().await;
            sleep(lasts * 2).await;
            server.resume().await;
            "paused"
        }
        94..97 => {
            server.kill().await;
            sleep(lasts / 4).await;
            server.restart().await;
            "killed"
        }
        _ => {
            server.restart().await;
            "restarted"
        }
    }
}
