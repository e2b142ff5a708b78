//! What stands for a process: a cache with a region for each write mode, and rows in each of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use mastaba::shared::Shared;
use mastaba::{Cache, Event, LoadContext, NearConfig, Region, Rows, Source, WriteMode};
use mastaba_memcached::{Memcached, MemcachedConfig};
use mastaba_redis::{Redis, RedisConfig};

use crate::store::Place;

pub(crate) const MODES: [(&str, WriteMode); 4] = [
    ("simple", WriteMode::Simple),
    ("strict", WriteMode::Strict),
    ("serve", WriteMode::Serve),
    ("degrade", WriteMode::Degrade),
];

/// Rows in each region.
pub(crate) const KEYS: u64 = 12;

/// A row, by the number of its mode and its key.
pub(crate) type RowId = (usize, u64);

/// The database: the version of each row that is committed.
#[derive(Default)]
pub(crate) struct Database {
    versions: [[AtomicU32; KEYS as usize]; MODES.len()],
    pub(crate) statements: AtomicU64,
}

impl Database {
    fn row(&self, (mode, key): RowId) -> &AtomicU32 {
        &self.versions[mode][key as usize]
    }

    pub(crate) fn commit(&self, row: RowId) -> u32 {
        self.row(row).fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn committed(&self, row: RowId) -> u32 {
        self.row(row).load(Ordering::SeqCst)
    }
}

/// The rows of one region.
pub(crate) struct RowsOf<const MODE: usize>(Arc<Database>);

impl<const MODE: usize> Source for RowsOf<MODE> {
    type Key = u64;
    type Value = u32;
    type Error = Infallible;
    const NAME: &'static str = MODES[MODE].0;
    const REGION: &'static str = MODES[MODE].0;

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Infallible> {
        self.0.statements.fetch_add(1, Ordering::Relaxed);
        let rows = keys.iter().map(|key| (*key, self.0.committed((MODE, *key)))).collect();
        if fastrand::u32(0..4) == 0 {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..4))).await;
        }
        Ok(rows)
    }
}

/// Calls a function that is generic over the source with that of a mode.
macro_rules! of_mode {
    ($mode:expr, $call:ident($($argument:expr),*)) => {
        match $mode {
            0 => $call::<crate::process::RowsOf<0>>($($argument),*).await,
            1 => $call::<crate::process::RowsOf<1>>($($argument),*).await,
            2 => $call::<crate::process::RowsOf<2>>($($argument),*).await,
            3 => $call::<crate::process::RowsOf<3>>($($argument),*).await,
            other => panic!("there is no mode {other}"),
        }
    };
}
pub(crate) use of_mode;

/// A cache with connections of its own.
pub(crate) struct Process {
    pub(crate) cache: Cache,
    /// How late its near may be.
    pub(crate) bound: Duration,
    /// Events that say that something was not confirmed, and that everything is.
    pub(crate) kept: Arc<AtomicU64>,
    pub(crate) sent: Arc<AtomicU64>,
}

impl Process {
    pub(crate) async fn start(
        place: Place,
        database: &Arc<Database>,
        near: Option<NearConfig>,
        bound: Duration,
        unleased: bool,
    ) -> Self {
        let connect_timeout = Duration::from_millis(500);
        match place {
            Place::Redis(url) => {
                let mut config = RedisConfig::from_url(&url).expect("a URL");
                config.connect_timeout = connect_timeout;
                let redis = Redis::connect(config).await.expect("a connection");
                Self::over(redis, database, near, bound, unleased).await
            }
            Place::Memcached(url) => {
                let mut config = MemcachedConfig::from_url(&url).expect("a URL");
                config.connect_timeout = connect_timeout;
                let memcached = Memcached::connect(config).await.expect("a connection");
                Self::over(memcached, database, near, bound, unleased).await
            }
        }
    }

    async fn over(
        backend: impl Shared + Clone,
        database: &Arc<Database>,
        near: Option<NearConfig>,
        bound: Duration,
        unleased: bool,
    ) -> Self {
        let (kept, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (kept.clone(), sent.clone());
        let mut builder = Cache::builder().on_event(move |event| match event {
            Event::InvalidationUnconfirmed { .. } => drop(counts.0.fetch_add(1, Ordering::Relaxed)),
            Event::InvalidationsConfirmed { .. } => drop(counts.1.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        });
        for (name, mode) in MODES {
            let region = Region::backend(backend.clone()).write_mode(mode).hold_ttl(Duration::from_secs(3));
            // nothing heals by itself while the soak lasts
            let region = region.ttl(Duration::from_secs(36_000)).jitter(0.0).early_refresh(0.0);
            let region = region.shared_budget(Duration::from_millis(400)).fill_without_lease(unleased);
            builder = builder.region(name, if let Some(near) = near { region.near(near) } else { region });
        }
        let builder = builder.source(RowsOf::<0>(database.clone())).source(RowsOf::<1>(database.clone()));
        let builder = builder.source(RowsOf::<2>(database.clone())).source(RowsOf::<3>(database.clone()));
        Self { cache: builder.build().await.expect("a sound configuration"), bound, kept, sent }
    }

    /// The versions of some rows of one mode, in one request.
    pub(crate) async fn read(&self, mode: usize, keys: &[u64]) -> Vec<Result<u32, String>> {
        of_mode!(mode, versions(&self.cache, keys))
    }
}

async fn versions<S: Source<Key = u64, Value = u32>>(
    cache: &Cache,
    keys: &[u64],
) -> Vec<Result<u32, String>> {
    let answers = cache.request().get_outcomes::<S>(keys.iter().copied()).await;
    let version = |key| match answers[key].value() {
        Ok(Some(version)) => Ok(**version),
        other => Err(format!("{other:?}")),
    };
    keys.iter().map(version).collect()
}
