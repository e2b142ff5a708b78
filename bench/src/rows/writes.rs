//! P11: what a write costs in each mode, and which share of reads a steady load of writes sends to the source.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use mastaba::{Cache, LoadContext, Region, Rows, Source, WriteMode};
use tokio::runtime::Runtime;

use crate::fixture::{User, UserById, cache, runtime, user};
use crate::rounds::{Case, Effort, Table, measure, recorded};
use crate::servers::{self, Redis};
use crate::task::{Job, per_call, within};

const MODES: [(&str, WriteMode); 4] = [
    ("mastaba simple", WriteMode::Simple),
    ("mastaba strict", WriteMode::Strict),
    ("mastaba serve", WriteMode::Serve),
    ("mastaba degrade", WriteMode::Degrade),
];

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let runtime = runtime();
    let mut tables = vec![
        cost_in_memory(effort, &runtime),
        share("memory", effort, &runtime, |mode| Region::memory().write_mode(mode)),
    ];
    if let Some(redis) = Redis::start() {
        let region = |mode: WriteMode| {
            Region::backend(runtime.block_on(servers::backend(&redis.url()))).write_mode(mode)
        };
        tables.push(cost_in_redis(effort, &runtime, &redis, region));
        tables.push(trips(&runtime, region));
        tables.push(share("Redis", effort, &runtime, |mode| {
            redis.empty();
            region(mode)
        }));
    }
    tables
}

/// A write of one row whose COMMIT costs nothing: all else is ours.
fn write(cache: &Cache) -> Job {
    let cache = cache.clone();
    Arc::new(move || {
        let cache = cache.clone();
        async move {
            let write = cache.request().write();
            write.invalidate::<UserById>([1]).await.expect("a key");
            let committed = write.commit(async { Ok::<_, Infallible>(()) }).await.expect("a commit");
            assert!(committed.published.is_confirmed());
        }
        .boxed()
    })
}

/// All that a mode does, what nobody waits for included.
fn cost<'r>(runtime: &'r Runtime, calls: u32, region: impl Fn(WriteMode) -> Region) -> Vec<Case<'r>> {
    let case = |(name, mode)| {
        let job = write(&cache(runtime, region(mode), [1]));
        Case::new(name, move || per_call(runtime, calls, &job))
    };
    MODES.into_iter().map(case).collect()
}

fn cost_in_memory(effort: Effort, runtime: &Runtime) -> Table {
    let calls = if effort.quick { 20 } else { 200 };
    let by_hand = Arc::new(quick_cache::sync::Cache::<i64, Arc<User>>::new(10_000));
    by_hand.insert(1, Arc::new(user(1)));
    let remove: Job = Arc::new(move || {
        let by_hand = by_hand.clone();
        // in a task of its own as well: a handler that is dropped forgets nothing
        async move { drop(tokio::spawn(async move { by_hand.remove(&1) }).await.expect("no panic")) }.boxed()
    });
    let mut cases = vec![Case::new("reference", || per_call(runtime, calls, &remove))];
    cases.extend(cost(runtime, calls, |mode| Region::memory().write_mode(mode)));
    measure(
        "P11 memory",
        "a write of one row, its COMMIT free; reference: remove it from a quick_cache, in a task",
        ("us/write", None),
        effort.rounds(41),
        cases,
    )
}

fn cost_in_redis(
    effort: Effort,
    runtime: &Runtime,
    redis: &Redis,
    region: impl Fn(WriteMode) -> Region,
) -> Table {
    let calls = if effort.quick { 10 } else { 100 };
    let connection = runtime.block_on(servers::connect(&redis.url()));
    let unlink: Job = Arc::new(move || {
        let mut connection = connection.clone();
        async move {
            let unlink = async move {
                redis::cmd("UNLINK").arg("by-hand:1").query_async::<i64>(&mut connection).await
            };
            tokio::spawn(unlink).await.expect("no panic").expect("an answer");
        }
        .boxed()
    });
    let mut cases = vec![Case::new("reference", || per_call(runtime, calls, &unlink))];
    cases.extend(cost(runtime, calls, region));
    measure(
        "P11 Redis",
        "a write of one row, its COMMIT free; reference: UNLINK by hand, in a task",
        ("us/write", None),
        effort.rounds(41),
        cases,
    )
}

/// The trips of a write, as its request reports them.
fn trips(runtime: &Runtime, region: impl Fn(WriteMode) -> Region) -> Table {
    let mut cases = vec![("reference", vec![1.0])];
    for (name, mode) in MODES {
        let cache = cache(runtime, region(mode), [1]);
        let count = runtime.block_on(async {
            let request = cache.request();
            let write = request.write();
            write.invalidate::<UserById>([1]).await.expect("a key");
            write.commit(async { Ok::<_, Infallible>(()) }).await.expect("a commit");
            cache.idle().await;
            request.report().trips.len()
        });
        #[allow(clippy::cast_precision_loss)]
        cases.push((name, vec![count as f64]));
    }
    recorded("P11 trips", "trips of a write of one row; reference: one", ("trips/write", None), cases)
}

/// Users whose loads are counted.
struct Counted(Arc<AtomicU64>);

impl Source for Counted {
    type Key = i64;
    type Value = User;
    type Error = Infallible;
    const NAME: &'static str = "counted";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> Result<Rows<Self>, Infallible> {
        self.0.fetch_add(ids.len() as u64, Ordering::Relaxed);
        tokio::time::sleep(STATEMENT).await;
        Ok(ids.iter().map(|id| (*id, user(*id))).collect())
    }
}

const STATEMENT: Duration = Duration::from_millis(1);
const COMMIT: Duration = Duration::from_millis(2);
const ROWS: i64 = 100;
const READERS: u64 = 8;
/// One write to so many reads.
const READS: u64 = 50;

/// Readers of one row each time and a writer of one row after every fifty reads, over a hundred rows.
fn share(place: &str, effort: Effort, runtime: &Runtime, region: impl Fn(WriteMode) -> Region) -> Table {
    let writes = if effort.quick { 4 } else { 100 };
    let percent = |cache: Cache, loads: Arc<AtomicU64>| {
        move || {
            let (cache, loads) = (cache.clone(), loads.clone());
            within(runtime, async move {
                cache.request().prefetch::<Counted>(0..ROWS).await.expect("users");
                cache.idle().await;
                let before = loads.load(Ordering::Relaxed);
                let reads = steady(&cache, writes).await;
                #[allow(clippy::cast_precision_loss)]
                let share = (loads.load(Ordering::Relaxed) - before) as f64 / reads as f64 * 100.0;
                share
            })
        }
    };
    // what no cache can do without: each write costs one load of its row
    #[allow(clippy::cast_precision_loss)]
    let mut cases = vec![Case::new("reference", || 100.0 / READS as f64)];
    for (name, mode) in MODES {
        let loads = Arc::new(AtomicU64::new(0));
        let region = region(mode).early_refresh(0.0).ttl(Duration::from_secs(36_000));
        let built = Cache::builder().region("objects", region).source(Counted(loads.clone())).build();
        let cache = runtime.block_on(built).expect("a sound configuration");
        cases.push(Case::new(name, percent(cache, loads)));
    }
    measure(
        format!("P11 {place} reads"),
        format!(
            "share of reads that goes to the source: {READERS} readers of {ROWS} rows, one write to {READS} reads, \
             COMMIT takes {COMMIT:?}; reference: one load a write"
        ),
        ("%", None),
        effort.rounds(9),
        cases,
    )
}

/// Gives how many reads there were.
async fn steady(cache: &Cache, writes: u64) -> u64 {
    let (reads, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let readers = (0..READERS).map(|_| {
        let (cache, reads, done) = (cache.clone(), reads.clone(), done.clone());
        tokio::spawn(async move {
            while done.load(Ordering::Relaxed) < writes {
                let read = reads.fetch_add(1, Ordering::Relaxed);
                // a reader that is ahead of the writer waits for it, so that the ratio is what it is said to be
                while read >= (done.load(Ordering::Relaxed) + 2) * READS {
                    tokio::time::sleep(STATEMENT).await;
                }
                cache.request().get::<Counted>(fastrand::i64(0..ROWS)).await.expect("a user");
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for nth in 1..=writes {
        while reads.load(Ordering::Relaxed) < nth * READS {
            tokio::task::yield_now().await;
        }
        let write = cache.request().write();
        write.invalidate::<Counted>([fastrand::i64(0..ROWS)]).await.expect("a key");
        let commit = async {
            tokio::time::sleep(COMMIT).await;
            Ok::<_, Infallible>(())
        };
        write.commit(commit).await.expect("a commit");
        done.store(nth, Ordering::Relaxed);
    }
    join_all(readers).await.into_iter().for_each(|done| done.expect("no panic"));
    cache.idle().await;
    reads.load(Ordering::Relaxed)
}
