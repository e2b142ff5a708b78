//! Commits over real deployments, as two processes see them: one writes, the other reads.

use crate::rows;

use std::sync::Arc;
use std::time::Duration;

use mastaba::{Cache, Coherence, CommitError, NearConfig, Region, Tier, WriteMode};
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};
use tokio::sync::oneshot;

use self::rows::{Row, Table, process, sees, until};

/// A write of row 1 whose COMMIT waits for a word.
struct Committing {
    go: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<bool>,
}

async fn begin(writer: &Cache, table: &Arc<Table>) -> Committing {
    let write = writer.request().write();
    write.invalidate::<Row>([1]).await.unwrap();
    let (go, gone) = oneshot::channel();
    let (begun, began) = oneshot::channel();
    let table = table.clone();
    let done = tokio::spawn(async move {
        let commit = async move {
            begun.send(()).unwrap();
            gone.await.unwrap();
            Ok::<_, String>(table.commit(1))
        };
        write.commit(commit).await.unwrap().published.is_confirmed()
    });
    began.await.unwrap();
    Committing { go, done }
}

async fn tier(cache: &Cache) -> Option<Tier> {
    cache.request().get_outcomes::<Row>([1]).await[&1].tier()
}

/// Waits until the other process has committed, without its word.
async fn committed(table: &Table, version: u32) {
    until("a commit", async || table.committed(1) == version).await;
}

async fn strict(url: &str) {
    let table = Table::new();
    let mode = |region: Region| region.write_mode(WriteMode::Strict);
    let writer = process(url, &table, mode).await;
    let fenced = NearConfig::entries(100).coherence(Coherence::Fenced);
    let reader = process(url, &table, |region| mode(region).near(fenced)).await;
    for round in 0..3 {
        assert_eq!(sees(&reader, 1).await, round);
        reader.idle().await;
        until("a hit of near", async || {
            let tier = tier(&reader).await;
            reader.idle().await;
            tier == Some(Tier::Near)
        })
        .await;
        let write = begin(&writer, &table).await;
        assert_eq!(sees(&reader, 1).await, round, "not committed");
        assert_eq!(tier(&reader).await, Some(Tier::Source), "held");
        write.go.send(()).unwrap();
        committed(&table, round + 1).await;
        assert_eq!(sees(&reader, 1).await, round + 1, "from COMMIT on (I2)");
        assert!(write.done.await.unwrap());
        assert_eq!(sees(&reader, 1).await, round + 1);
        writer.idle().await; // the hold is ended
    }
}

async fn serve(url: &str) {
    let table = Table::new();
    let mode = |region: Region| region.write_mode(WriteMode::Serve);
    let (writer, reader) = (process(url, &table, mode).await, process(url, &table, mode).await);
    assert_eq!(sees(&reader, 1).await, 0);
    reader.idle().await;
    let write = begin(&writer, &table).await;
    assert_eq!((sees(&reader, 1).await, tier(&reader).await), (0, Some(Tier::Shared)), "served meanwhile");
    write.go.send(()).unwrap();
    assert!(write.done.await.unwrap());
    assert_eq!(sees(&reader, 1).await, 1, "acknowledged (I1)");
    reader.idle().await;
    // a rollback brings back what was held (R10)
    let write = writer.request().write();
    write.invalidate::<Row>([1]).await.unwrap();
    let failed = std::future::ready(Err::<(), _>("conflict"));
    let error = write.commit_unless(failed, |_| true).await.unwrap_err();
    assert!(matches!(error, CommitError::RolledBack("conflict")));
    writer.idle().await;
    assert_eq!((sees(&reader, 1).await, tier(&reader).await), (1, Some(Tier::Shared)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_keep_their_word_on_one_server() {
    let Some(server) = RedisServer::start().await else { return };
    strict(&server.url()).await;
    server.command(&["FLUSHALL"]).await;
    serve(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_keep_their_word_on_a_cluster() {
    let Some(cluster) = Cluster::start().await else { return };
    strict(&cluster.url()).await;
    let Some(cluster) = Cluster::start().await else { return };
    serve(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_keep_their_word_behind_sentinels() {
    let Some(sentinels) = Sentinels::start().await else { return };
    strict(&sentinels.url()).await;
}

/// The process that wrote is gone after COMMIT, with its hold: nobody ever reads what was there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_dies_after_commit_leaves_a_hold_that_runs_out_and_nothing_old() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let ttl = Duration::from_millis(600);
    let mode = move |region: Region| region.write_mode(WriteMode::Strict).hold_ttl(ttl);
    let reader = process(&server.url(), &table, mode).await;
    assert_eq!(sees(&reader, 1).await, 0);
    reader.idle().await;
    let (url, of_the_writer, watched) = (server.url(), table.clone(), table.clone());
    // a runtime of its own that is torn down is as good as a process that is killed: nothing more is sent
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let writer = process(&url, &of_the_writer, mode).await;
            let write = writer.request().write();
            write.invalidate::<Row>([1]).await.unwrap();
            let never = async move {
                of_the_writer.commit(1);
                std::future::pending::<Result<(), String>>().await
            };
            tokio::spawn(write.commit(never));
            committed(&watched, 1).await;
        });
        runtime.shutdown_background();
    })
    .join()
    .unwrap();
    committed(&table, 1).await;
    let began = std::time::Instant::now();
    while began.elapsed() < ttl * 2 {
        assert_eq!(sees(&reader, 1).await, 1, "from COMMIT on, whatever became of the writer (I2)");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    reader.idle().await;
    assert_eq!(tier(&reader).await, Some(Tier::Shared), "stored again once the hold has run out (I3)");
}
