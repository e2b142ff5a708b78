//! What processes do alone: each finds out by itself that Redis is out, and each adds its own loads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mastaba::Region;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::rounds::{Effort, Table, recorded};
use crate::servers::Redis;

use super::Processes;
use super::together::{FleetRows, cache};

const PROCESSES: [(&str, usize); 3] = [("1 process", 1), ("5 processes", 5), ("20 processes", 20)];
/// Reads of a process, each of a key of its own, per second.
const READS: u32 = 200;
/// What a process may add in an outage, in place of 500.
const LOADS: u32 = 50;
/// How long an operation of Redis may take, in place of 500 ms.
const BUDGET: Duration = Duration::from_millis(100);

/// What one outage came to.
struct Outage {
    /// Loads per second, after the first second.
    loads: f64,
    /// Reads that took as long as the budget of an operation.
    waited: f64,
}

pub(super) fn tables(effort: Effort) -> Vec<Table> {
    let mut killed = Vec::new();
    let mut frozen = Vec::new();
    for (name, count) in PROCESSES {
        let (Some(one), Some(other)) = (Redis::start(), Redis::start()) else { return Vec::new() };
        killed.push((name, vec![outage(&one, count, Redis::kill, Some(LOADS), effort).loads]));
        frozen.push((name, vec![outage(&other, count, Redis::freeze, None, effort).waited]));
    }
    let all = format!("processes of {READS} reads a second, each of another key");
    vec![
        recorded(
            "P14 outage loads",
            format!("loads per second that an outage of Redis adds: {all}, outage_loads_per_second {LOADS}"),
            ("loads/s", None),
            killed,
        ),
        recorded(
            "P14 outage waits",
            format!(
                "reads that wait for a Redis that hangs until their budget is over: {all}, shared_budget 100 ms"
            ),
            ("reads", None),
            frozen,
        ),
    ]
}

fn outage(redis: &Redis, count: usize, begin: fn(&Redis), most: Option<u32>, effort: Effort) -> Outage {
    let source = FleetRows::default();
    let own = source.clone();
    let processes = Processes::of(redis.url(), count, async move |backend| {
        let region = Region::backend(backend).outage_loads_per_second(most).shared_budget(BUDGET);
        cache(region.source_budget(Duration::from_millis(500)), own.clone()).await
    });
    begin(redis);
    let seconds = if effort.quick { 1 } else { 3 };
    let waited = Arc::new(AtomicU64::new(0));
    let counted = waited.clone();
    let caches = processes.caches.clone();
    let (loads, time) = processes.within(async move {
        let began = Instant::now();
        let mut ticks = interval(Duration::from_secs(1) / READS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut id, mut first) = (0, None);
        let loads = || source.loads.load(Ordering::Relaxed);
        while began.elapsed() < Duration::from_secs(seconds + 1) {
            ticks.tick().await;
            if began.elapsed() >= Duration::from_secs(1) && first.is_none() {
                first = Some((loads(), began.elapsed()));
            }
            for cache in &caches {
                id += 1;
                let (request, waited) = (cache.request(), counted.clone());
                tokio::spawn(async move {
                    let began = Instant::now();
                    let outcome = request.get::<FleetRows>(id).await;
                    if outcome.is_ok() && began.elapsed() >= BUDGET {
                        waited.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        let (before, since) = first.unwrap_or((0, Duration::ZERO));
        // a busy machine may have made it longer
        (loads() - before, began.elapsed() - since)
    });
    #[allow(clippy::cast_precision_loss)]
    let (loads, waited) = (loads as f64 / time.as_secs_f64(), waited.load(Ordering::Relaxed) as f64);
    Outage { loads, waited }
}
