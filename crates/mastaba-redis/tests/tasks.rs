//! Reads of one request in tasks of their own, over a real server.

mod rows;

use mastaba_test::servers::RedisServer;
use rows::{Row, Table, process};
use tokio::task::JoinSet;

const PAGES: u64 = 100;
const READS: u64 = 20;

/// How tasks are scheduled is up to the machine, so this asks for the mean: a page was 2.2 statements when nobody stood by,
/// and up to 20 on a busy machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_spawned_gets_are_a_few_statements() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let cache = process(&server.url(), &table, |region| region).await;
    for page in 0..PAGES {
        let request = cache.request();
        let mut tasks = JoinSet::new();
        for key in page * READS..(page + 1) * READS {
            let request = request.clone();
            tasks.spawn(async move { assert!(request.get::<Row>(key).await.unwrap().is_some()) });
        }
        tasks.join_all().await;
        cache.idle().await;
    }
    let statements = table.loads().len() as u64;
    println!("{statements} statements for {PAGES} pages of {READS} gets, each in a task of its own");
    assert!(statements <= 3 * PAGES, "{statements} statements for {PAGES} pages");
}
