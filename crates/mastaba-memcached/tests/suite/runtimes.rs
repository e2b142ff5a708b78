//! A cache in a `static`, over a real server, that one runtime after the other and several at once read and write through.

use std::sync::{Arc, OnceLock};

use mastaba::Tier;
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::MemcachedServer;
use mastaba_test::world::Db;
use tokio::runtime::{Builder, Runtime};

use crate::common::{Process, through, until};

/// As `#[tokio::test]` has it, and a worker of actix.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

static CACHE: OnceLock<Process> = OnceLock::new();

async fn all_works(key: u64) {
    let cache = CACHE.get().unwrap();
    let version = cache.write(key).await.expect("a write that the shared tier confirms");
    assert_eq!(cache.sees(key).await, version);
    assert_eq!(cache.warm(key).await, version);
    assert_eq!(cache.finds(key).await, (version, Tier::Shared));
    assert_eq!(cache.events(), [""; 0]);
}

#[test]
fn connections_follow_runtimes() {
    let lasting = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = lasting.block_on(MemcachedServer::start()) else { return };
    let proxy = lasting.block_on(Proxy::to(server.addr()));
    let url = through(&proxy);
    let first = runtime();
    first.block_on(async {
        let db = Arc::new(Db::default());
        assert!(CACHE.set(Process::start(&url, &db).await).is_ok());
        all_works(1).await;
    });
    assert_eq!(proxy.accepted(), 1);
    // the one that made the first connection stands still, and then ends
    runtime().block_on(all_works(1));
    assert_eq!(proxy.accepted(), 2, "each has a connection of its own");
    drop(first);
    for key in 2..5 {
        runtime().block_on(all_works(key));
    }
    assert_eq!(proxy.accepted(), 5);
    lasting.block_on(until("closed connections", async || proxy.open() == 0));
    // several at the same time
    std::thread::scope(|scope| {
        for key in 10..14 {
            scope.spawn(move || runtime().block_on(all_works(key)));
        }
    });
    assert_eq!(proxy.accepted(), 9);
    // a connection that is lost comes back where it was lost
    let last = runtime();
    last.block_on(all_works(20));
    lasting.block_on(proxy.cut());
    last.block_on(async {
        let cache = CACHE.get().unwrap();
        until("a hit", async || cache.finds(20).await.1 == Tier::Shared).await;
        until("a write", async || cache.write(20).await.is_ok()).await;
    });
    assert_eq!(proxy.accepted(), 11);
}
