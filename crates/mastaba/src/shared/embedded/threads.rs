//! Two threads of our own: one writes, one reads. redb blocks, and a runtime must not.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase};
use tokio::sync::{oneshot, watch};

use super::tables::{RECORDS, Tables, Work, standing};
use super::time::FileTime;
use super::{EmbeddedConfig, file};
use crate::clock;
use crate::error::{Fault, FaultKind};
use crate::shared::stamps::StampBook;

/// How many calls may wait for a thread.
const QUEUE: usize = 1 << 16;
/// How many calls one transaction takes.
const GROUP: usize = 512;
/// How long after a failure the file is opened again.
const AGAIN: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(60);

/// Called once the transaction is committed.
type Answer = Box<dyn FnOnce() + Send>;
type Written = Box<dyn FnOnce(&mut Tables<'_>) -> Result<Answer, Box<redb::Error>> + Send>;

struct WriteJob {
    durable: bool,
    work: Written,
    /// Keeps the caller waiting until the reason of a failure is noted: it learns it when this is gone.
    waiting: Arc<dyn Any + Send + Sync>,
}

struct ReadJob {
    keys: Vec<Bytes>,
    /// The time of the file.
    now_ms: u64,
    answer: Option<oneshot::Sender<Result<Vec<Option<Bytes>>, Fault>>>,
}

/// The file, for both threads. `None`: it has failed or is closed.
struct OpenFile {
    config: EmbeddedConfig,
    database: RwLock<Option<Database>>,
    pub(super) time: FileTime,
    /// The latest time that a caller has sent, by the clock of the process. The threads have no clock of their own: that of a test may
    /// stand still.
    now_ms: AtomicU64,
    /// Why the file failed last.
    failure: Mutex<Option<Fault>>,
}

impl OpenFile {
    fn fault(&self) -> Fault {
        let last = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.unwrap_or_else(|| {
            let sentence = format!("the embedded store {} is closed", self.config.path.display());
            Fault::new(FaultKind::Down, sentence)
        })
    }

    fn fail(&self, doing: &str, cause: Option<redb::Error>) {
        let sentence = format!("the embedded store {} failed {doing}", self.config.path.display());
        let damaged = matches!(&cause, None | Some(redb::Error::Corrupted(_)));
        let kind = if damaged { FaultKind::Damaged } else { FaultKind::Down };
        tracing::warn!(cause = cause.as_ref().map(tracing::field::display), "{sentence}");
        let mut fault = Fault::new(kind, sentence);
        if let Some(cause) = cause {
            fault = fault.because(cause);
        }
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
}

/// What is left of a store in the hands of callers.
pub(super) struct Handle {
    pub(super) path: PathBuf,
    pub(super) incarnation: u64,
    pub(super) stamps: StampBook,
    opened: Arc<OpenFile>,
    queues: RwLock<Option<(SyncSender<WriteJob>, SyncSender<ReadJob>)>>,
    closed: watch::Receiver<bool>,
}

/// Opens the file on a thread that goes on to write to it.
pub(super) async fn start(config: EmbeddedConfig, now_ms: u64) -> Result<Handle, Fault> {
    let (ready, opened) = oneshot::channel();
    let (writes, to_write) = sync_channel(QUEUE);
    let (reads, to_read) = sync_channel(QUEUE);
    let (close, closed) = watch::channel(false);
    let path = config.path.clone();
    thread("mastaba-write", move || match file::open(&config, now_ms) {
        Err(fault) => drop(ready.send(Err(fault))),
        Ok(file::File { database, incarnation, time }) => {
            let opened = Arc::new(OpenFile {
                config,
                database: RwLock::new(Some(database)),
                time,
                now_ms: AtomicU64::new(now_ms),
                failure: Mutex::new(None),
            });
            let for_reads = Arc::clone(&opened);
            let started = thread("mastaba-read", move || read_all(&for_reads, &to_read));
            let answer = started.map(|()| (Arc::clone(&opened), incarnation));
            if ready.send(answer).is_ok() {
                Writer { opened: &opened, incarnation, dirty_since: None, more: false, failed: None }
                    .run(&to_write);
            }
            *opened.database.write().unwrap_or_else(PoisonError::into_inner) = None;
            close.send_replace(true);
        }
    })?;
    let (opened, incarnation) = answered(opened)
        .await
        .ok_or_else(|| Fault::new(FaultKind::Down, "the embedded store's thread ended"))??;
    let queues = RwLock::new(Some((writes, reads)));
    Ok(Handle { path, incarnation, stamps: StampBook::default(), opened, queues, closed })
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|cause| {
        Fault::new(FaultKind::Refused, "the embedded store cannot start its threads").because(cause)
    })
}

/// What a thread answers; `None`: it has let go of the question.
///
/// A runtime whose clock a test has stopped moves that clock on to the next timer as soon as all of its tasks wait, and
/// sees nothing of a thread that works for one of them: the budget of the trip would be over at once. It does wait for
/// its own blocking threads, so there one of them waits for the answer.
async fn answered<T: Send + 'static>(answer: oneshot::Receiver<T>) -> Option<T> {
    if clock::is_real() {
        return answer.await.ok();
    }
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(move || answer.blocking_recv().ok()).await.ok().flatten(),
        Err(_) => answer.await.ok(),
    }
}

impl Handle {
    /// The time of the file, from the clock of this process.
    pub(super) fn time_of(&self, now_ms: u64) -> u64 {
        self.opened.time.of(now_ms)
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        durable: bool,
        now_ms: u64,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, Work> + Send + 'static,
    ) -> Result<T, Fault> {
        self.opened.now_ms.fetch_max(now_ms, Ordering::Relaxed);
        let (send, answer) = oneshot::channel();
        let send = Arc::new(Mutex::new(Some(send)));
        let waiting = Arc::clone(&send);
        let work: Written = Box::new(move |tables| {
            let result = match work(tables) {
                Ok(answer) => Ok(answer),
                Err(Work::Refused(fault)) => Err(fault),
                Err(Work::Failed(cause)) => return Err(cause),
            };
            Ok(Box::new(move || {
                let send = send.lock().unwrap_or_else(PoisonError::into_inner).take();
                drop(send.map(|it| it.send(result)));
            }))
        });
        self.send(|(writes, _)| queued(writes.try_send(WriteJob { durable, work, waiting })))?;
        answered(answer).await.ok_or_else(|| self.opened.fault())?
    }

    pub(super) async fn read(&self, keys: Vec<Bytes>, now_ms: u64) -> Result<Vec<Option<Bytes>>, Fault> {
        self.opened.now_ms.fetch_max(now_ms, Ordering::Relaxed);
        let (send, answer) = oneshot::channel();
        let now_ms = self.time_of(now_ms);
        self.send(|(_, reads)| queued(reads.try_send(ReadJob { keys, now_ms, answer: Some(send) })))?;
        answered(answer).await.ok_or_else(|| self.opened.fault())?
    }

    fn send(
        &self,
        put: impl FnOnce(&(SyncSender<WriteJob>, SyncSender<ReadJob>)) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        match &*self.queues.read().unwrap_or_else(PoisonError::into_inner) {
            Some(queues) => put(queues),
            None => Err(self.opened.fault()),
        }
    }

    /// Lets the threads finish what is queued, and waits until the file is closed.
    pub(super) async fn close(&self) -> Result<(), Fault> {
        drop(self.queues.write().unwrap_or_else(PoisonError::into_inner).take());
        let mut closed = self.closed.clone();
        // an error says that the thread has ended, and the file with it
        let _ = closed.wait_for(|closed| *closed).await;
        Ok(())
    }
}

fn queued<T>(sent: Result<(), TrySendError<T>>) -> Result<(), Fault> {
    sent.map_err(|cause| match cause {
        TrySendError::Full(_) => {
            Fault::new(FaultKind::Timeout, format!("{QUEUE} calls wait for the embedded store already"))
        }
        TrySendError::Disconnected(_) => Fault::new(FaultKind::Down, "the embedded store's thread ended"),
    })
}

/// The thread that writes.
struct Writer<'o> {
    opened: &'o OpenFile,
    incarnation: u64,
    /// Since when there are transactions that are not on disk.
    dirty_since: Option<Instant>,
    /// There is more to sweep.
    more: bool,
    /// When the file failed.
    failed: Option<Instant>,
}

impl Writer<'_> {
    /// Until nobody can send any more.
    fn run(&mut self, queue: &Receiver<WriteJob>) {
        loop {
            let pause = if self.more {
                Duration::from_millis(10)
            } else if self.dirty_since.is_some() {
                self.opened.config.sync_every
            } else {
                IDLE
            };
            match queue.recv_timeout(pause) {
                Ok(first) => {
                    let mut group = vec![first];
                    group.extend(queue.try_iter().take(GROUP - 1));
                    self.write(group, false);
                }
                Err(RecvTimeoutError::Timeout) if self.dirty_since.is_some() || self.more => {
                    self.write(Vec::new(), false);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if self.dirty_since.is_some() {
                        self.write(Vec::new(), true);
                    }
                    return;
                }
            }
        }
    }

    /// All of them in one transaction; when it fails, all of them learn that.
    fn write(&mut self, group: Vec<WriteJob>, last: bool) {
        if !self.ready() {
            return; // dropping a piece of work answers it with the failure
        }
        let overdue = self.dirty_since.is_some_and(|since| since.elapsed() >= self.opened.config.sync_every);
        let durable = last || overdue || group.iter().any(|it| it.durable);
        let _waiting: Vec<_> = group.iter().map(|it| Arc::clone(&it.waiting)).collect();
        let database = self.opened.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &*database else { return };
        match catch_unwind(AssertUnwindSafe(|| self.commit(open, durable, group))) {
            Ok(Ok(more)) => {
                self.more = more;
                self.dirty_since = if durable { None } else { self.dirty_since.or(Some(Instant::now())) };
                return;
            }
            Ok(Err(cause)) => self.opened.fail("to write", Some(*cause)),
            Err(_) => self.opened.fail("to write, with a panic", None),
        }
        drop(database);
        // redb refuses everything after an input or output error, until it is opened anew
        *self.opened.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.failed = Some(Instant::now());
        (self.more, self.dirty_since) = (false, None);
    }

    /// Whether the file is open, perhaps again.
    fn ready(&mut self) -> bool {
        let Some(failed) = self.failed else { return true };
        if failed.elapsed() < AGAIN {
            return false;
        }
        self.failed = Some(Instant::now());
        // The incarnation stays: what was acknowledged as durable is in the file, and what is lost are the
        // last leases and fills, the newest first.
        match file::open(&self.opened.config, self.opened.now_ms.load(Ordering::Relaxed)) {
            Ok(file::File { database, incarnation, .. }) if incarnation == self.incarnation => {
                *self.opened.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
                *self.opened.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.failed = None;
            }
            Ok(_) => self.opened.fail("to open again: it is another file now", None),
            Err(fault) => {
                *self.opened.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
            }
        }
        self.failed.is_none()
    }

    fn commit(
        &self,
        database: &Database,
        durable: bool,
        group: Vec<WriteJob>,
    ) -> Result<bool, Box<redb::Error>> {
        fn boxed(cause: impl Into<redb::Error>) -> Box<redb::Error> {
            Box::new(cause.into())
        }
        let mut txn = database.begin_write().map_err(boxed)?;
        let durability = if durable { Durability::Immediate } else { Durability::None };
        txn.set_durability(durability).map_err(boxed)?;
        let config = &self.opened.config;
        let mut tables = Tables::open(&txn, self.incarnation, config.max_bytes).map_err(boxed)?;
        let mut answers = Vec::with_capacity(group.len());
        for write in group {
            answers.push((write.work)(&mut tables)?);
        }
        let more = tables
            .settle(self.opened.time.remember(self.opened.now_ms.load(Ordering::Relaxed)))
            .map_err(boxed)?;
        txn.commit().map_err(boxed)?;
        for answer in answers {
            answer();
        }
        Ok(more)
    }
}

/// The thread that reads, until nobody can send any more.
fn read_all(opened: &OpenFile, queue: &Receiver<ReadJob>) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter().take(GROUP - 1));
        let database = opened.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &*database else { continue };
        match catch_unwind(AssertUnwindSafe(|| read(open, &mut group))) {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => opened.fail("to read", Some(*cause)),
            Err(_) => opened.fail("to read, with a panic", None),
        }
    }
}

fn read(database: &Database, group: &mut [ReadJob]) -> Result<(), Box<redb::Error>> {
    fn boxed(cause: impl Into<redb::Error>) -> Box<redb::Error> {
        Box::new(cause.into())
    }
    let txn = database.begin_read().map_err(boxed)?;
    let records = txn.open_table(RECORDS).map_err(boxed)?;
    for ReadJob { keys, now_ms, answer } in group {
        let mut out = Vec::with_capacity(keys.len());
        for key in &*keys {
            let found = records.get(&key[..]).map_err(boxed)?;
            let live =
                found.as_ref().and_then(|it| standing(key, it.value())).filter(|it| it.expires_ms > *now_ms);
            out.push(live.map(|it| Bytes::copy_from_slice(it.record)));
        }
        drop(answer.take().map(|it| it.send(Ok(out))));
    }
    Ok(())
}
