//! Many readers of one cold key, in several processes.

use crate::rows;

use std::convert::Infallible;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mastaba::{Cache, LoadContext, Region, Rows, Source};
use mastaba_test::servers::RedisServer;
use mastaba_test::servers::resp::Connection;
use rows::{Table, connect, process, sees};

/// Counts its loads at the server, where all processes can see them.
struct Counted(String);

impl Source for Counted {
    type Key = u64;
    type Value = u64;
    type Error = Infallible;
    const NAME: &'static str = "counted";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
        let mut connection = Connection::open(self.0.as_str()).await.unwrap();
        connection.call(&["INCR", "loads"]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(ids.iter().map(|id| (*id, id * 10)).collect())
    }
}

const CHILD: &str = "MASTABA_STAMPEDE_CHILD";
const READERS: usize = 334;

/// One of the processes: waits for the start, and reads.
async fn child(address: &str) {
    // a thousand readers on a busy machine take as long as the usual budgets allow, and this is not about those
    let long = Duration::from_secs(20);
    let region = Region::backend(connect(&format!("redis://{address}")).await);
    let region = region.shared_budget(long).lease_patience(long);
    let cache =
        Cache::builder().region("objects", region).source(Counted(address.to_owned())).build().await.unwrap();
    let mut connection = Connection::open(address).await.unwrap();
    connection.call(&["INCR", "ready"]).await.unwrap();
    connection.call(&["BLPOP", "go", "20"]).await.unwrap();
    let reads = (0..READERS).map(|_| {
        let request = cache.request();
        async move { *request.get::<Counted>(7).await.unwrap().unwrap() }
    });
    assert!(join_all(reads).await.into_iter().all(|value| value == 70));
    cache.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_readers_in_three_processes_ask_the_source_once() {
    if let Ok(address) = std::env::var(CHILD) {
        return child(&address).await;
    }
    let Some(server) = RedisServer::start().await else { return };
    let address = server.addr().to_string();
    let this = std::env::current_exe().unwrap();
    let children: Vec<_> = (0..3)
        .map(|_| {
            tokio::process::Command::new(&this)
                .args([
                    "--exact",
                    "stampede::a_thousand_readers_in_three_processes_ask_the_source_once",
                    "--nocapture",
                ])
                .env(CHILD, &address)
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        })
        .collect();
    rows::until("all three processes", async || server.command(&["GET", "ready"]).await == "3").await;
    server.command(&["RPUSH", "go", "1", "2", "3"]).await;
    for mut child in children {
        let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
        assert!(status.expect("a process that ends").unwrap().success());
    }
    assert_eq!(server.command(&["GET", "loads"]).await, "1", "loads in all processes together");
}

/// Waits until so many processes have met a lease of somebody else, and look whether it was filled: they have read, and
/// taken no lease.
async fn looks_for_fills(server: &RedisServer, processes: usize) {
    rows::until("processes that wait for a fill", async || {
        let clients = server.command(&["CLIENT", "LIST"]).await;
        clients.lines().filter(|client| client.contains(" cmd=mget ")).count() == processes
    })
    .await;
}

#[tokio::test]
async fn who_waits_for_another_process_is_woken_by_its_fill_and_does_not_load() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let patient = |region: Region| region.lease_patience(Duration::from_secs(20));
    let one = process(&server.url(), &table, patient).await;
    let two = process(&server.url(), &table, patient).await;
    table.hold_up();
    let first = tokio::spawn(async move { sees(&one, 1).await });
    table.begun(1).await;
    let second = {
        let request = two.request();
        tokio::spawn(async move { (rows::version(&request, 1).await, request.report()) })
    };
    looks_for_fills(&server, 1).await;
    assert!(!second.is_finished(), "it waits");
    assert_eq!(table.loads().len(), 1);
    table.let_go();
    first.await.unwrap();
    let (version, report) = second.await.unwrap();
    assert_eq!(version, 0);
    assert_eq!(table.loads().len(), 1, "{report}");
}

#[tokio::test]
async fn who_is_out_of_patience_loads_under_the_same_fence_and_the_first_fill_counts() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let hasty = |region: Region| region.lease_patience(Duration::from_millis(30));
    let one = Arc::new(process(&server.url(), &table, hasty).await);
    let two = process(&server.url(), &table, hasty).await;
    let gate = table.hold_up();
    let slow = one.clone();
    let first = tokio::spawn(async move { sees(&slow, 1).await });
    table.begun(1).await;
    let second = tokio::spawn(async move {
        let seen = sees(&two, 1).await;
        two.idle().await;
        (seen, two)
    });
    table.begun(2).await; // out of patience
    gate.add_permits(2);
    first.await.unwrap();
    let (_, two) = second.await.unwrap();
    one.idle().await;
    table.let_go();
    sees(&two, 1).await;
    sees(&one, 1).await;
    assert_eq!(table.loads().len(), 2, "what was loaded under the one fence is stored, once");
}

#[tokio::test]
async fn a_lease_that_is_voided_while_others_wait_is_taken_over_by_one_of_them() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let patient = |region: Region| region.lease_patience(Duration::from_secs(20));
    let one = process(&server.url(), &table, patient).await;
    let two = process(&server.url(), &table, patient).await;
    let three = process(&server.url(), &table, patient).await;
    let writer = process(&server.url(), &table, patient).await;
    let gate = table.hold_up();
    let first = tokio::spawn(async move { sees(&one, 1).await });
    table.begun(1).await;
    let waiting = [two, three].map(|cache| tokio::spawn(async move { sees(&cache, 1).await }));
    looks_for_fills(&server, 2).await;
    let expected = table.commit(1);
    writer.request().invalidate::<rows::Row>([1]).await.unwrap();
    table.begun(2).await;
    gate.add_permits(1); // the old load ends, and is refused its fill
    assert_eq!(first.await.unwrap(), 0);
    table.let_go();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), expected, "it was answered after the write");
    }
    assert_eq!(table.loads().len(), 2, "one load before the write and one after it");
}
