//! The whole stack as a test sees it: a database of versioned rows, and processes with a cache each over one store.

use std::net::SocketAddr;

use mastaba_memcached::{Memcached, MemcachedConfig};
use mastaba_test::outages::{self, Server as _, Setup, Words, record};
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::MemcachedServer;

pub(crate) use mastaba_test::outages::{limited, until};

/// Memcached.
pub(crate) enum OverMemcached {}

pub(crate) type Process = outages::CacheProcess<OverMemcached>;

impl Setup for OverMemcached {
    type Server = MemcachedServer;
    type Backend = Memcached;
    const INVALIDATES_AT_ONCE: bool = false;

    fn url(addr: SocketAddr) -> String {
        format!("memcached://{addr}")
    }

    async fn connect(url: &str) -> Memcached {
        connect(url).await
    }

    /// Commands have no names of their own; a record begins with its kind.
    async fn words(_: &MemcachedServer) -> Words {
        Words { read: "objects:user:1 v\r\n", lease: "Mt`", fill: "Mt@", invalidation: "md mastaba" }
    }
}

/// A backend with connections of its own.
pub(crate) async fn connect(url: &str) -> Memcached {
    Memcached::connect(MemcachedConfig::from_url(url).unwrap()).await.unwrap()
}

/// The URL of a server.
pub(crate) fn url(server: &MemcachedServer) -> String {
    OverMemcached::url(server.addr())
}

/// The URL of a server behind a proxy.
pub(crate) fn through(proxy: &Proxy) -> String {
    OverMemcached::url(proxy.addr())
}

/// The URL of several.
pub(crate) fn url_of(servers: &[MemcachedServer]) -> String {
    let addresses: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
    format!("memcached://{}", addresses.join(","))
}

/// Three servers that share the keys.
pub(crate) async fn three() -> Option<Vec<MemcachedServer>> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(MemcachedServer::start().await?);
    }
    Some(servers)
}

/// Whether something stands under a user's key at a server.
pub(crate) async fn stands(server: &MemcachedServer, key: u64) -> bool {
    server.has(&record(key)).await
}
