//! Many readers of one cold key, in several processes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mastaba_test::servers::MemcachedServer;
use mastaba_test::world::{Db, UserById};

use crate::common::{Process, limited, three, url, url_of};

async fn a_thousand_readers(url: &str) {
    let db = Arc::new(Db::default());
    *db.takes.lock().unwrap() = Duration::from_millis(50);
    // this is not about how long a busy machine takes
    let long = Duration::from_secs(20);
    let mut processes = Vec::new();
    for _ in 0..4 {
        let patient = |region: mastaba::Region| {
            region.shared_budget(long).shared_soft_budget(long).lease_patience(long)
        };
        processes.push(Process::with(url, &db, patient).await);
    }
    let reads = (0..1000).map(|n| {
        let request = processes[n % 4].request();
        async move { request.get::<UserById>(7).await.unwrap().unwrap().version }
    });
    assert!(join_all(reads).await.into_iter().all(|version| version == 0));
    assert_eq!(db.started(), 1, "loads in all processes together");
    for process in &processes {
        assert_eq!(process.events(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_readers_in_four_processes_ask_the_source_once() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        a_thousand_readers(&url(&server)).await;
        let Some(servers) = three().await else { return };
        a_thousand_readers(&url_of(&servers)).await;
    })
    .await;
}
