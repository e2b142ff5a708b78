//! What one thing costs Redis, and a process that is told of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use mastaba::{Cache, Coherence, NearConfig};

use crate::fixture::UserById;
use crate::rounds::{Effort, Table, recorded};
use crate::servers::Redis;
use crate::task::Job;

use super::Processes;

/// How many processes listen.
const LISTENERS: [(&str, usize); 5] = [
    ("nobody listens", 0),
    ("1 process", 1),
    ("10 processes", 10),
    ("50 processes", 50),
    ("100 processes", 100),
];
const MOST: usize = LISTENERS[LISTENERS.len() - 1].1;
/// Writes per second.
const RATE: u32 = 1000;
/// Keys of a write that changes many.
pub(super) const MANY: i64 = 100;
/// How often those of whom pings are measured send one.
const PING_EVERY: Duration = Duration::from_millis(20);

/// Microseconds of one core, and bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    pub(super) message: f64,
    pub(super) message_bytes: f64,
    /// Of the process that gets it.
    pub(super) taken_in: f64,
    pub(super) ping: f64,
    pub(super) read: f64,
}

/// What was used while something was done.
#[derive(Clone, Copy, Default)]
struct Used {
    server: f64,
    processes: f64,
    bytes: f64,
}

/// As many jobs, at a steady rate or as fast as they go, and what each of them came to.
fn used(
    redis: &Redis,
    listeners: &Processes,
    worker: &Processes,
    job: &Job,
    (count, rate): (u32, Option<u32>),
) -> Used {
    let before = (redis.cpu(), listeners.cpu(), redis.sent());
    let job = job.clone();
    worker.within(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.unwrap_or(1));
        for _ in 0..count {
            if rate.is_some() {
                ticks.tick().await;
            }
            job().await;
        }
    });
    // what is told of the last of them is on its way
    std::thread::sleep(Duration::from_millis(5));
    let each = |now: f64, before: f64| (now - before) / f64::from(count);
    Used {
        server: each(redis.cpu(), before.0) * 1e6,
        processes: each(listeners.cpu(), before.1) * 1e6,
        bytes: each(redis.sent(), before.2),
    }
}

/// Changes keys that stand.
fn write(cache: &Cache, keys: i64) -> Job {
    let cache = cache.clone();
    Arc::new(move || {
        let cache = cache.clone();
        async move {
            let write = cache.request().write();
            write.invalidate::<UserById>(0..keys).await.expect("keys");
            assert!(write.published().await.expect("a write").is_confirmed());
        }
        .boxed()
    })
}

/// Reads keys that stand.
fn read(cache: &Cache, keys: i64) -> Job {
    let cache = cache.clone();
    Arc::new(move || {
        let cache = cache.clone();
        async move { drop(cache.request().get_many::<UserById>(0..keys).await.expect("users")) }.boxed()
    })
}

/// Reads a key that nobody has read, and stores it.
fn miss(cache: &Cache) -> Job {
    let cache = cache.clone();
    Arc::new(move || {
        let cache = cache.clone();
        async move {
            let id = fastrand::i64(1_000_000..i64::MAX);
            drop(cache.request().get::<UserById>(id).await.expect("a user"));
            cache.idle().await;
        }
        .boxed()
    })
}

/// What was used by each of the things that a process does, with some processes that listen.
#[derive(Clone, Copy, Default)]
struct Things {
    paced: Used,
    write: Used,
    many: Used,
    miss: Used,
    read: Used,
    page: Used,
}

impl Things {
    fn of(redis: &Redis, listeners: usize, effort: Effort) -> Self {
        redis.empty();
        let (worker, listeners) =
            (Processes::deaf(redis), Processes::start(redis, listeners, |region| region));
        let work = worker.caches[0].clone();
        let (calls, paced) = if effort.quick { (20, 20) } else { (300, RATE / 2) };
        let of = |job: &Job, how| {
            used(redis, &listeners, &worker, job, (5, None)); // warm
            used(redis, &listeners, &worker, job, how)
        };
        Self {
            read: of(&read(&work, 1), (calls, None)),
            page: of(&read(&work, MANY), (calls / 5, None)),
            miss: of(&miss(&work), (calls, None)),
            paced: of(&write(&work, 1), (paced, Some(RATE))),
            write: of(&write(&work, 1), (calls, None)),
            many: of(&write(&work, MANY), (calls / 20, None)),
        }
    }
}

pub(super) fn measured(redis: &Redis, place: &str, effort: Effort) -> (Costs, Vec<Table>) {
    let rounds = if effort.quick { 1 } else { 9 };
    let mut things: Vec<Vec<Things>> = LISTENERS.iter().map(|_| Vec::with_capacity(rounds)).collect();
    let mut pings = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let mut order: Vec<_> = (0..LISTENERS.len()).collect();
        fastrand::shuffle(&mut order);
        for at in order {
            things[at].push(Things::of(redis, LISTENERS[at].1, effort));
        }
        pings.push(ping(redis, effort));
    }
    let (alone, most) = (&things[0], &things[LISTENERS.len() - 1]);
    let of_one = |of: fn(&Things) -> f64| alone.iter().map(of).collect::<Vec<_>>();
    // what the most listeners add, for each of them
    let added = |of: fn(&Things) -> f64| {
        most.iter().zip(alone).map(|(most, alone)| (of(most) - of(alone)) / MOST_F).collect::<Vec<_>>()
    };
    let (message, bytes) = (added(|of| of.paced.server), added(|of| of.paced.bytes));
    let (taken_in, read) = (added(|of| of.paced.processes), of_one(|of| of.read.server));
    let costs = Costs {
        message: median(message.clone()),
        message_bytes: median(bytes.clone()),
        taken_in: median(taken_in.clone()),
        ping: median(pings.clone()),
        read: median(read.clone()),
    };
    let named = |of: fn(&Things) -> f64| {
        LISTENERS.iter().zip(&things).map(|((name, _), all)| (*name, all.iter().map(of).collect())).collect()
    };
    let at_rate = format!("{RATE} writes of one key a second, beside processes that listen, {place}");
    let tables = vec![
        recorded(
            "P14 write",
            format!("CPU of Redis per write; {at_rate}"),
            ("us/write", None),
            named(|of| of.paced.server),
        ),
        recorded(
            "P14 sent",
            format!("bytes that Redis sends per write; {at_rate}"),
            ("bytes", None),
            named(|of| of.paced.bytes),
        ),
        recorded(
            "P14 costs",
            format!(
                "CPU of Redis for one thing, {place}; reference: a read of one key by a process without near"
            ),
            ("us", None),
            vec![
                ("a read of 1 key", read),
                ("a read of 100 keys", of_one(|of| of.page.server)),
                ("a miss, and its fill", of_one(|of| of.miss.server)),
                ("a write of 1 key", of_one(|of| of.write.server)),
                ("a write of 100 keys", of_one(|of| of.many.server)),
                ("a ping", pings),
                ("a write, to each process", message),
                ("a miss, to each process", added(|of| of.miss.server)),
                ("100 keys, to each process", added(|of| of.many.server)),
            ],
        ),
        recorded(
            "P14 bytes",
            "what each process that listens is sent",
            ("bytes", None),
            vec![
                ("for a write of 1 key", bytes),
                ("for a miss, and its fill", added(|of| of.miss.bytes)),
                ("for a write of 100 keys", added(|of| of.many.bytes)),
            ],
        ),
        recorded(
            "P14 taken in",
            format!("CPU of each process that listens, {place}"),
            ("us", None),
            vec![
                ("for a write of 1 key", taken_in),
                ("for a miss, and its fill", added(|of| of.miss.processes)),
                ("for a write of 100 keys", added(|of| of.many.processes)),
            ],
        ),
    ];
    (costs, tables)
}

#[allow(clippy::cast_precision_loss)]
const MOST_F: f64 = MOST as f64;

/// What a ping costs Redis, of processes with near that send many.
fn ping(redis: &Redis, effort: Effort) -> f64 {
    let near = || NearConfig::entries(1000).coherence(Coherence::Bounded(PING_EVERY * 2));
    let processes = Processes::start(redis, MOST, move |region| region.near(near()));
    let time = Duration::from_millis(if effort.quick { 50 } else { 500 });
    let mut server = 0.0;
    let calls = redis.counted_all(|| {
        let before = redis.cpu();
        processes.rest(time);
        server = redis.cpu() - before;
    });
    #[allow(clippy::cast_precision_loss)]
    let pings = calls.get("ping").copied().unwrap_or(0).max(1) as f64;
    server * 1e6 / pings
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
