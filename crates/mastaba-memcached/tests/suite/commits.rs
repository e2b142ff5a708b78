//! Commits as two processes see them: one writes, the other reads.

use std::sync::Arc;
use std::time::Duration;

use mastaba::{CommitError, Region, Tier, WriteMode};
use mastaba_test::servers::MemcachedServer;
use mastaba_test::world::{Db, UserById};
use tokio::sync::oneshot;

use crate::common::{Process, limited, three, until, url, url_of};

/// A write of user 1 whose COMMIT waits for a word.
struct Committing {
    go: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<bool>,
}

async fn begin(writer: &Process, db: &Arc<Db>) -> Committing {
    let write = writer.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let (go, gone) = oneshot::channel();
    let (begun, began) = oneshot::channel();
    let db = db.clone();
    let done = tokio::spawn(async move {
        let commit = async move {
            begun.send(()).unwrap();
            gone.await.unwrap();
            Ok::<_, String>(db.update(1))
        };
        write.commit(commit).await.unwrap().published.is_confirmed()
    });
    began.await.unwrap();
    Committing { go, done }
}

async fn strict(url: &str) {
    let db = Arc::new(Db::default());
    let mode = |region: Region| region.write_mode(WriteMode::Strict);
    let (writer, reader) = (Process::with(url, &db, mode).await, Process::with(url, &db, mode).await);
    for round in 0..3 {
        assert_eq!(reader.warm(1).await, round);
        let write = begin(&writer, &db).await;
        assert_eq!(reader.finds(1).await, (round, Tier::Source), "not committed, and held");
        write.go.send(()).unwrap();
        until("a commit", async || db.version(1) == round + 1).await;
        assert_eq!(reader.sees(1).await, round + 1, "from COMMIT on (I2)");
        assert!(write.done.await.unwrap());
        assert_eq!(reader.sees(1).await, round + 1);
        writer.cache.idle().await; // the hold is ended
    }
}

async fn serve(url: &str, mode: WriteMode, meanwhile: Tier) {
    let db = Arc::new(Db::default());
    let mode = |region: Region| region.write_mode(mode);
    let (writer, reader) = (Process::with(url, &db, mode).await, Process::with(url, &db, mode).await);
    reader.warm(1).await;
    let write = begin(&writer, &db).await;
    assert_eq!(reader.finds(1).await, (0, meanwhile));
    write.go.send(()).unwrap();
    assert!(write.done.await.unwrap());
    assert_eq!(reader.sees(1).await, 1, "acknowledged (I1)");
    writer.cache.idle().await;
    reader.warm(1).await;
    // a rollback brings back what was held (R10)
    let write = writer.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let failed = std::future::ready(Err::<(), _>("conflict"));
    let error = write.commit_unless(failed, |_| true).await.unwrap_err();
    assert!(matches!(error, CommitError::RolledBack("conflict")));
    writer.cache.idle().await;
    assert_eq!(reader.finds(1).await, (1, Tier::Shared));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_keep_their_word_on_one_server() {
    limited(async {
        for (mode, meanwhile) in [(WriteMode::Serve, Tier::Shared), (WriteMode::Degrade, Tier::Source)] {
            let Some(server) = MemcachedServer::start().await else { return };
            serve(&url(&server), mode, meanwhile).await;
        }
        let Some(server) = MemcachedServer::start().await else { return };
        strict(&url(&server)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_keep_their_word_on_three_servers() {
    limited(async {
        let Some(servers) = three().await else { return };
        strict(&url_of(&servers)).await;
        let Some(servers) = three().await else { return };
        serve(&url_of(&servers), WriteMode::Serve, Tier::Shared).await;
    })
    .await;
}

/// The process that wrote is gone after COMMIT, with its hold: nobody ever reads what was there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_dies_after_commit_leaves_a_hold_that_runs_out_and_nothing_old() {
    let Some(server) = MemcachedServer::start().await else { return };
    let db = Arc::new(Db::default());
    let ttl = Duration::from_millis(600);
    let mode = move |region: Region| region.write_mode(WriteMode::Strict).hold_ttl(ttl);
    let reader = Process::with(&url(&server), &db, mode).await;
    assert_eq!(reader.warm(1).await, 0);
    let (url, of_the_writer) = (url(&server), db.clone());
    // a runtime of its own that is torn down is as good as a process that is killed: nothing more is sent
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let writer = Process::with(&url, &of_the_writer, mode).await;
            let write = writer.request().write();
            write.invalidate::<UserById>([1]).await.unwrap();
            let committing = of_the_writer.clone();
            let never = async move {
                committing.update(1);
                std::future::pending::<Result<(), String>>().await
            };
            tokio::spawn(write.commit(never));
            until("a commit", async || of_the_writer.version(1) == 1).await;
        });
        runtime.shutdown_background();
    })
    .join()
    .unwrap();
    let began = std::time::Instant::now();
    while began.elapsed() < ttl * 2 {
        assert_eq!(reader.sees(1).await, 1, "from COMMIT on, whatever became of the writer (I2)");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(reader.warm(1).await, 1, "stored again once the hold has run out (I3)");
}
