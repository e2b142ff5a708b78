//! The counterexamples of the protocol's model over real servers.

use mastaba_memcached::Memcached;
use mastaba_test::servers::MemcachedServer;

use crate::common::{connect, three, url, url_of};
use crate::schedules::Store;

impl Store for MemcachedServer {
    type Backend = Memcached;
    const FORGETS: bool = true;

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
