//! Readers and writers, and what each read has to see.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::FutureExt;
use mastaba::{CommitError, Source, Write};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::process::{Database, KEYS, MODES, Process, RowId, of_mode};

/// For each row the newest versions whose writes were confirmed, and when.
#[derive(Default)]
pub(crate) struct Oracle {
    confirmed: [[Mutex<Vec<(u32, Instant)>>; KEYS as usize]; MODES.len()],
    pub(crate) counts: Counts,
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) reads: AtomicU64,
    /// Writes that were confirmed, by mode.
    pub(crate) confirmed: [AtomicU64; MODES.len()],
    /// Committed, and sent again until it is confirmed.
    pub(crate) unconfirmed: AtomicU64,
    /// Refused before COMMIT.
    pub(crate) refused: AtomicU64,
    pub(crate) rolled_back: AtomicU64,
    pub(crate) unknown: AtomicU64,
    /// Whose caller went away.
    pub(crate) dropped: AtomicU64,
    /// Reads that gave an error.
    pub(crate) failed: AtomicU64,
    /// Reads that did not see a write that was confirmed before they began.
    pub(crate) stale: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Oracle {
    fn of(&self, (mode, key): RowId) -> std::sync::MutexGuard<'_, Vec<(u32, Instant)>> {
        self.confirmed[mode][key as usize].lock().expect("nobody panics here")
    }

    /// The version that a read which begins now has to see, where changes may go unseen for `bound`.
    fn floor(&self, row: RowId, bound: Duration) -> u32 {
        let confirmed = self.of(row);
        let binding = confirmed.iter().filter(|(_, at)| at.elapsed() >= bound);
        binding.map(|(version, _)| *version).max().unwrap_or(0)
    }

    fn is_confirmed(&self, row: RowId, version: u32) {
        let mut confirmed = self.of(row);
        // what is older than any bound is summed up in one
        let old = confirmed.iter().filter(|(_, at)| at.elapsed() > Duration::from_secs(5));
        if let Some(newest) = old.copied().max_by_key(|(version, _)| *version) {
            confirmed.retain(|(_, at)| at.elapsed() <= Duration::from_secs(5));
            confirmed.push(newest);
        }
        confirmed.push((version, Instant::now()));
        add(&self.counts.confirmed[row.0]);
    }

    async fn read(&self, process: &Process, mode: usize, keys: &[u64]) {
        let floors: Vec<_> = keys.iter().map(|key| self.floor((mode, *key), process.bound)).collect();
        let versions = process.read(mode, keys).await;
        for ((key, floor), version) in keys.iter().zip(floors).zip(versions) {
            add(&self.counts.reads);
            match version {
                Ok(version) if version >= floor => {}
                Ok(version) => {
                    add(&self.counts.stale);
                    eprintln!(
                        "STALE: row {key} of {} has version {version}; {floor} was confirmed",
                        MODES[mode].0
                    );
                }
                Err(why) => {
                    add(&self.counts.failed);
                    eprintln!("FAILED: row {key} of {}: {why}", MODES[mode].0);
                }
            }
        }
    }
}

/// A write of one row, in one of the ways in which a program writes.
async fn write<S: Source<Key = u64, Value = u32>>(
    oracle: &Oracle,
    process: &Process,
    database: &Arc<Database>,
    row: RowId,
    random: &mut Rng,
) {
    let request = process.cache.request();
    let write = request.write();
    write.invalidate::<S>([row.1]).await.expect("a key");
    let takes = Duration::from_millis(random.u64(0..4));
    match random.u32(0..100) {
        0..45 => finish(oracle, row, write.commit(commit(database, row, takes)).await),
        // the client hangs up: the handler is dropped after a while, or after some polls
        45..60 => {
            let mut writing = pin!(write.commit(commit(database, row, takes)));
            let goes = Duration::from_micros(random.u64(0..5000));
            tokio::select! {
                biased;
                done = &mut writing => finish(oracle, row, done),
                () = sleep(goes) => add(&oracle.counts.dropped),
            }
        }
        60..68 => {
            let mut writing = pin!(write.commit(commit(database, row, takes)));
            for _ in 0..random.u32(1..8) {
                if let Some(done) = (&mut writing).now_or_never() {
                    return finish(oracle, row, done);
                }
                tokio::task::yield_now().await;
            }
            add(&oracle.counts.dropped);
        }
        // the answer to COMMIT is lost
        68..74 => {
            let committed = commit(database, row, takes);
            let lost = async move {
                let version = committed.await.unwrap_or_else(|never| match never {});
                Err::<u32, _>(version)
            };
            match write.commit(lost).await {
                Err(CommitError::Unknown { cause: mastaba::Lost::Failed(version), published }) => {
                    add(&oracle.counts.unknown);
                    if published.is_confirmed() {
                        oracle.is_confirmed(row, version);
                    }
                }
                Err(CommitError::Refused(_)) => add(&oracle.counts.refused),
                other => panic!("a commit that failed became {other:?}"),
            }
        }
        74..82 => match write.commit_unless(std::future::ready(Err::<(), _>("conflict")), |_| true).await {
            Err(CommitError::RolledBack(_)) => add(&oracle.counts.rolled_back),
            Err(CommitError::Refused(_)) => add(&oracle.counts.refused),
            other => panic!("a rollback became {other:?}"),
        },
        // a commit of the program's own, between hold and publish
        _ => publish_by_hand(oracle, row, write, commit(database, row, takes)).await,
    }
}

async fn publish_by_hand(
    oracle: &Oracle,
    row: RowId,
    write: Write,
    commit: impl Future<Output = Result<u32, Infallible>>,
) {
    if write.hold().await.is_err() {
        write.discard();
        return add(&oracle.counts.refused);
    }
    let Ok(version) = commit.await;
    let published = write.published().await.expect("there is a runtime");
    if published.is_confirmed() { oracle.is_confirmed(row, version) } else { add(&oracle.counts.unconfirmed) }
}

fn commit(
    database: &Arc<Database>,
    row: RowId,
    takes: Duration,
) -> impl Future<Output = Result<u32, Infallible>> + Send + 'static {
    let database = database.clone();
    async move {
        sleep(takes / 2).await;
        let version = database.commit(row);
        sleep(takes / 2).await;
        Ok(version)
    }
}

fn finish(oracle: &Oracle, row: RowId, done: Result<mastaba::Committed<u32>, CommitError<Infallible>>) {
    match done {
        Ok(committed) if committed.published.is_confirmed() => oracle.is_confirmed(row, committed.value),
        Ok(_) => add(&oracle.counts.unconfirmed),
        Err(CommitError::Refused(_)) => add(&oracle.counts.refused),
        Err(error) => panic!("a commit that cannot fail: {error}"),
    }
}

/// Readers and writers under way.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Two readers and two writers for each process.
    pub(crate) fn start(
        oracle: &Arc<Oracle>,
        database: &Arc<Database>,
        processes: &[Arc<Process>],
        random: &mut Rng,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for process in processes {
            for role in 0..4 {
                let (process, oracle, database, stop) =
                    (process.clone(), oracle.clone(), database.clone(), stop.clone());
                let mut random = random.fork();
                tasks.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let (mode, key) = (random.usize(..MODES.len()), random.u64(0..KEYS));
                        if role < 2 {
                            let (oracle, process, random) = (&oracle, &process, &mut random);
                            of_mode!(mode, write(oracle, process, &database, (mode, key), random));
                            sleep(Duration::from_millis(random.u64(0..10))).await;
                        } else {
                            let mut keys = vec![key];
                            keys.extend((0..random.u64(0..4)).map(|_| random.u64(0..KEYS)));
                            keys.sort_unstable();
                            keys.dedup();
                            oracle.read(&process, mode, &keys).await;
                            sleep(Duration::from_millis(random.u64(0..3))).await;
                        }
                    }
                });
            }
        }
        Self { stop, tasks }
    }

    /// Stops them, and waits until they have stopped.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(done) = self.tasks.join_next().await {
            done.expect("no reader or writer panics");
        }
    }
}

/// The rows that some process does not see as they are committed, though nobody writes and everything answers: their
/// invalidations were forgotten.
pub(crate) async fn forgotten(database: &Database, processes: &[Arc<Process>]) -> Vec<String> {
    let began = Instant::now();
    loop {
        let mut old = Vec::new();
        let keys: Vec<_> = (0..KEYS).collect();
        for (nth, process) in processes.iter().enumerate() {
            for (mode, (name, _)) in MODES.iter().enumerate() {
                for (key, version) in keys.iter().zip(process.read(mode, &keys).await) {
                    let committed = database.committed((mode, *key));
                    if version != Ok(committed) {
                        old.push(format!(
                            "process {nth} has {version:?} of row {key} of {name}, not {committed}"
                        ));
                    }
                }
            }
        }
        // what is sent again is sent after at most five seconds
        if old.is_empty() || began.elapsed() > Duration::from_secs(30) {
            return old;
        }
        sleep(Duration::from_millis(50)).await;
    }
}
