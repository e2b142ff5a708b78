//! Commits over real deployments, as two processes see them: one writes, the other reads; and what becomes of a write whose
//! process dies. The URL may be that of several servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mastaba::{Coherence, CommitError, NearConfig, Region, Tier, WriteMode};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{CacheProcess, Setup, until};
use crate::world::{Db, UserById};

/// A write of user 1 whose COMMIT waits for a word.
#[derive(Debug)]
pub struct Committing {
    go: oneshot::Sender<()>,
    done: JoinHandle<bool>,
}

impl Committing {
    /// Names what will change, begins, and waits in the middle.
    pub async fn begin<D>(writer: &CacheProcess<D>, db: &Arc<Db>) -> Self {
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
        Self { go, done }
    }

    /// Lets it commit; gives what tells whether it is confirmed.
    pub fn go(self) -> JoinHandle<bool> {
        self.go.send(()).unwrap();
        self.done
    }

    /// Lets it commit; whether it is confirmed.
    pub async fn end(self) -> bool {
        self.go().await.unwrap()
    }
}

/// Nobody sees from COMMIT on what was before (I2), also where near stands before the shared tier of those who read.
pub async fn strict<D: Setup>(url: &str, near: Option<Coherence>) {
    let db = Arc::new(Db::default());
    let mode = |region: Region| region.write_mode(WriteMode::Strict);
    let writer = CacheProcess::<D>::with(url, &db, mode).await;
    let reader = CacheProcess::<D>::with(url, &db, |region| match near {
        Some(coherence) => mode(region).near(NearConfig::entries(100).coherence(coherence)),
        None => mode(region),
    })
    .await;
    for round in 0..3 {
        assert_eq!(reader.sees(1).await, round);
        let warm = if near.is_some() { reader.warm_near(1).await } else { reader.warm(1).await };
        assert_eq!(warm, round);
        let write = Committing::begin(&writer, &db).await;
        assert_eq!(reader.finds(1).await, (round, Tier::Source), "not committed, and held");
        let done = write.go();
        // without its word
        until("a commit", async || db.version(1) == round + 1).await;
        assert_eq!(reader.sees(1).await, round + 1, "from COMMIT on (I2)");
        assert!(done.await.unwrap());
        assert_eq!(reader.sees(1).await, round + 1);
        writer.cache.idle().await; // the hold is ended
    }
}

/// What is held may be read `meanwhile`; the new one is seen when it is acknowledged (I1), and a rollback brings back what
/// was held (R10).
pub async fn loose<D: Setup>(url: &str, mode: WriteMode, meanwhile: Tier) {
    let db = Arc::new(Db::default());
    let mode = |region: Region| region.write_mode(mode);
    let (writer, reader) =
        (CacheProcess::<D>::with(url, &db, mode).await, CacheProcess::<D>::with(url, &db, mode).await);
    assert_eq!(reader.warm(1).await, 0);
    let write = Committing::begin(&writer, &db).await;
    assert_eq!(reader.finds(1).await, (0, meanwhile));
    assert!(write.end().await);
    assert_eq!(reader.sees(1).await, 1, "acknowledged (I1)");
    writer.cache.idle().await;
    reader.warm(1).await;
    let write = writer.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let failed = std::future::ready(Err::<(), _>("conflict"));
    let error = write.commit_unless(failed, |_| true).await.unwrap_err();
    assert!(matches!(error, CommitError::RolledBack("conflict")));
    writer.cache.idle().await;
    assert_eq!(reader.finds(1).await, (1, Tier::Shared));
}

/// The process that wrote is gone after COMMIT, with its hold: nobody ever reads what was there before. Gives the process that
/// read until twice the time of the hold was over.
pub async fn a_writer_that_dies_after_commit<D: Setup>(url: &str) -> CacheProcess<D> {
    let db = Arc::new(Db::default());
    let ttl = Duration::from_millis(600);
    let mode = move |region: Region| region.write_mode(WriteMode::Strict).hold_ttl(ttl);
    let reader = CacheProcess::<D>::with(url, &db, mode).await;
    assert_eq!(reader.warm(1).await, 0);
    let (place, of_the_writer) = (url.to_owned(), db.clone());
    // a runtime of its own that is torn down is as good as a process that is killed: nothing more is sent
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let writer = CacheProcess::<D>::with(&place, &of_the_writer, mode).await;
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
    assert_eq!(db.version(1), 1);
    let began = Instant::now();
    while began.elapsed() < ttl * 2 {
        assert_eq!(reader.sees(1).await, 1, "from COMMIT on, whatever became of the writer (I2)");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    reader
}
