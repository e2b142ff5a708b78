//! Readers and writers that go on while something happens, and an oracle that knows what each read has to see.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mastaba_test::world::{Db, UserById};
use tokio::task::JoinSet;

use super::Process;

/// What each read has to see: for each key the newest version whose write was acknowledged.
pub(crate) struct Oracle {
    /// For each key the writes that were acknowledged, newest last: the version, and when it became binding.
    acked: Vec<Mutex<Vec<(u32, Instant)>>>,
    pub(crate) counts: Counts,
    tiers: Mutex<BTreeMap<String, u64>>,
    /// What the writes that were not acknowledged said.
    unsure: Mutex<Vec<String>>,
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    /// Writes that were not acknowledged.
    pub(crate) unsure: AtomicU64,
    /// Reads that gave an error.
    pub(crate) failed: AtomicU64,
    /// Reads that did not see a write that was acknowledged before they started.
    pub(crate) stale: AtomicU64,
}

impl Oracle {
    pub(crate) fn new(keys: u64) -> Arc<Self> {
        Arc::new(Self {
            acked: (0..=keys).map(|_| Vec::new().into()).collect(),
            counts: Counts::default(),
            tiers: Mutex::default(),
            unsure: Mutex::default(),
        })
    }

    fn keys(&self) -> u64 {
        self.acked.len() as u64 - 1
    }

    /// The version that a read which starts now has to see, where changes may go unseen for `bound`.
    fn floor(&self, key: u64, bound: Duration) -> u32 {
        let now = Instant::now();
        let acked = self.acked[usize::try_from(key).unwrap()].lock().unwrap();
        acked
            .iter()
            .filter(|(_, at)| now.duration_since(*at) >= bound)
            .map(|(version, _)| *version)
            .max()
            .unwrap_or(0)
    }

    fn acked(&self, key: u64, version: u32) {
        self.acked[usize::try_from(key).unwrap()].lock().unwrap().push((version, Instant::now()));
    }

    /// Reads some keys in one request, and compares them.
    pub(crate) async fn read(&self, process: &Process, keys: &[u64], bound: Duration) {
        let floors: Vec<_> = keys.iter().map(|key| self.floor(*key, bound)).collect();
        let users = process.request().get_outcomes::<UserById>(keys.iter().copied()).await;
        for (key, floor) in keys.iter().zip(floors) {
            self.counts.reads.fetch_add(1, Ordering::Relaxed);
            let tier = users[key].tier().map_or("none".to_owned(), |tier| tier.to_string());
            *self.tiers.lock().unwrap().entry(tier).or_default() += 1;
            match users[key].value() {
                Ok(Some(user)) if user.version >= floor => {}
                Ok(Some(user)) => {
                    self.counts.stale.fetch_add(1, Ordering::Relaxed);
                    eprintln!(
                        "STALE: user {key} has version {} from {:?}; {floor} was acknowledged before the read",
                        user.version,
                        users[key].tier(),
                    );
                }
                other => {
                    self.counts.failed.fetch_add(1, Ordering::Relaxed);
                    eprintln!("FAILED: user {key}: {other:?}");
                }
            }
        }
    }

    /// Writes a key. What is not acknowledged at once is not waited for: it is sent again behind the program's back.
    pub(crate) async fn write(&self, process: &Process, key: u64) {
        match process.write(key).await {
            Ok(version) => {
                self.acked(key, version);
                self.counts.writes.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert!(error.is_shared(), "{error}");
                self.counts.unsure.fetch_add(1, Ordering::Relaxed);
                self.unsure.lock().unwrap().push(error.to_string());
            }
        }
    }

    /// How many answers came from where.
    pub(crate) fn tiers(&self) -> String {
        format!("{:?}", self.tiers.lock().unwrap())
    }

    /// Every write was acknowledged.
    pub(crate) fn assert_sure(&self) {
        assert_eq!(*self.unsure.lock().unwrap(), [""; 0]);
    }

    /// Nothing was wrong.
    pub(crate) fn assert_sound(&self) {
        let counts = &self.counts;
        let wrong = counts.stale.load(Ordering::Relaxed) + counts.failed.load(Ordering::Relaxed);
        assert_eq!(wrong, 0, "{counts:?}");
        assert!(
            counts.reads.load(Ordering::Relaxed) > 0 && counts.writes.load(Ordering::Relaxed) > 0,
            "{counts:?}"
        );
    }
}

/// Readers and writers under way; dropping it stops them.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    oracle: Arc<Oracle>,
}

impl Load {
    /// Two readers and a writer for each process, with the bound of its near.
    pub(crate) fn start(oracle: &Arc<Oracle>, processes: &[(Arc<Process>, Duration)], seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for (nth, (process, bound)) in (0..).zip(processes) {
            for role in 0..3 {
                let (process, bound, oracle, stop) = (process.clone(), *bound, oracle.clone(), stop.clone());
                let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(1000) + nth * 3 + role);
                tasks.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let key = random.u64(1..=oracle.keys());
                        if role == 0 {
                            oracle.write(&process, key).await;
                            tokio::time::sleep(Duration::from_millis(random.u64(0..10))).await;
                        } else {
                            let mut keys = vec![key];
                            keys.extend((0..random.u64(0..4)).map(|_| random.u64(1..=oracle.keys())));
                            keys.sort_unstable();
                            keys.dedup();
                            oracle.read(&process, &keys, bound).await;
                            tokio::time::sleep(Duration::from_millis(random.u64(0..3))).await;
                        }
                    }
                });
            }
        }
        Self { stop, tasks, oracle: oracle.clone() }
    }

    /// Waits until so many more reads and writes were done.
    pub(crate) async fn goes_on(&self, reads: u64, writes: u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.oracle.counts;
        let (reads, writes) = (count(&counts.reads) + reads, count(&counts.writes) + writes);
        super::until("reads and writes", async || {
            count(&counts.reads) >= reads && count(&counts.writes) >= writes
        })
        .await;
    }

    /// Stops them, and waits until they have stopped.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
    }
}

/// Whether a process sees what is committed of every key, now that nobody writes.
pub(crate) async fn all_current(process: &Process, db: &Db, oracle: &Oracle) {
    for key in 1..=oracle.keys() {
        let floor = oracle.floor(key, Duration::ZERO);
        let seen = process.sees(key).await;
        assert!(
            seen >= floor && seen <= db.version(key),
            "user {key} has version {seen}; {floor} was acknowledged"
        );
    }
}
