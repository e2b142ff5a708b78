//! The network fails between one process and the server, which another process reaches.

use bytes::Bytes;
use futures_util::FutureExt;
use mastaba::shared::{Shared, Stamp};
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::MemcachedServer;

use crate::common::{connect, limited, through};

mastaba_test::every_outage!(network crate::common::OverMemcached);

/// A call that is dropped in the middle leaves nothing of its answers to the next one: the connection goes on, and reads them.
#[tokio::test]
async fn who_gives_up_leaves_nothing_behind_for_others() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        let proxy = Proxy::to(server.addr()).await;
        let memcached = connect(&through(&proxy)).await;
        let keys: Vec<Bytes> = (0..20).map(|n| format!("stamp {n}").into()).collect();
        let stamps = (0..20).map(|n| Stamp { key: keys[n].clone(), value: n as u64, ttl: None });
        memcached.lease(&[], &stamps.collect::<Vec<_>>()).await.unwrap();
        for round in 0..200 {
            let (gone, wanted) = (round % 20, (round + 7) % 20);
            assert!(
                memcached.read(&keys[gone..]).now_or_never().is_none(),
                "it was sent, and not answered yet"
            );
            let found = memcached.read(&keys[wanted..=wanted]).await.unwrap();
            assert_eq!(found, [Some(Bytes::copy_from_slice(&(wanted as u64).to_le_bytes()))]);
        }
        assert_eq!(proxy.accepted(), 1, "and the connection is the same");
    })
    .await;
}
