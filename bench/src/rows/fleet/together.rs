//! What processes do together: of all that miss a key at the same time, one loads it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use mastaba::{Cache, LoadContext, Region, Rows, Source};
use tokio::time::{Instant, sleep};

use crate::fixture::{User, user};
use crate::rounds::{Effort, Table, recorded};
use crate::servers::Redis;

use super::Processes;

const PROCESSES: [(&str, usize); 3] = [("1 process", 1), ("10 processes", 10), ("100 processes", 100)];
/// How long a load takes: several trips, so that nobody has read what it loads before all have asked.
const LOAD: Duration = Duration::from_millis(20);

/// How long everybody waits for the one that loads, and for Redis.
const PATIENCE: Duration = Duration::from_secs(10);

/// Rows that take time, and are counted.
#[derive(Clone, Default)]
pub(super) struct FleetRows {
    pub(super) loads: Arc<AtomicU64>,
    pub(super) takes: Duration,
}

impl Source for FleetRows {
    type Key = i64;
    type Value = User;
    type Error = Infallible;
    const NAME: &'static str = "user";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> Result<Rows<Self>, Infallible> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        sleep(self.takes).await;
        Ok(ids.iter().map(|id| (*id, user(*id))).collect())
    }
}

pub(super) async fn cache(region: Region, source: FleetRows) -> Cache {
    Cache::builder().region("objects", region).source(source).build().await.expect("a sound configuration")
}

/// Loads, commands and time of a key that all processes miss at once.
pub(super) fn tables(redis: &Redis, effort: Effort) -> [Table; 3] {
    let mut figures: BTreeMap<&str, Vec<[f64; 3]>> = BTreeMap::new();
    for (name, count) in PROCESSES {
        redis.empty();
        let source = FleetRows { takes: LOAD, ..FleetRows::default() };
        let own = source.clone();
        let processes = Processes::of(redis.url(), count, async move |backend| {
            // what is counted does not depend on how busy the machine is
            let region = Region::backend(backend).lease_patience(PATIENCE).shared_budget(PATIENCE);
            cache(region, own.clone()).await
        });
        redis.wait_for_listeners(count);
        for id in 0..i64::try_from(effort.rounds(9)).unwrap_or(1) {
            let before = source.loads.load(Ordering::Relaxed);
            let mut took = Duration::ZERO;
            let calls = redis.counted(|| {
                let caches = processes.caches.clone();
                took = processes.within(async move {
                    let began = Instant::now();
                    let read = |cache: &Cache| {
                        let request = cache.request();
                        async move { request.get::<FleetRows>(id).await.expect("a user").expect("a user") }
                    };
                    join_all(caches.iter().map(read)).await;
                    let took = began.elapsed();
                    join_all(caches.iter().map(Cache::idle)).await;
                    took
                });
            });
            #[allow(clippy::cast_precision_loss)]
            let (loads, commands, all) = (
                (source.loads.load(Ordering::Relaxed) - before) as f64,
                calls.values().sum::<u64>() as f64,
                count as f64,
            );
            figures.entry(name).or_default().push([loads, commands / all, took.as_secs_f64() * 1e3]);
        }
    }
    let named = |at: usize| {
        PROCESSES.iter().map(|(name, _)| (*name, figures[name].iter().map(|of| of[at]).collect())).collect()
    };
    let about = "of a key that all processes miss at once, and whose load takes 20 ms";
    [
        recorded("P14 together loads", format!("loads {about}"), ("loads", None), named(0)),
        recorded(
            "P14 together commands",
            format!("commands per process {about}"),
            ("commands", None),
            named(1),
        ),
        recorded(
            "P14 together time",
            format!("time until the last process has its answer, {about}"),
            ("ms", None),
            named(2),
        ),
    ]
}
