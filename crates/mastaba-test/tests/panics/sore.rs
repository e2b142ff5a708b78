//! Sources whose every piece may panic, and innocent ones beside them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mastaba::shared::memory::Memory;
use mastaba::shared::{Abilities, End, Ended, Fill, Filled, Hold, Lease, Leases, Reach, Shared, Stamp};
use mastaba::{Cache, Event, Fault, Fetched, LoadContext, NearConfig, Region, Rows, Source};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fuse::{Part, pass};

/// A key that may panic wherever it is used.
#[derive(Debug)]
pub(crate) struct Key(pub(crate) u64);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        pass(Part::KeyHash, self.0);
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        pass(Part::KeyEq, self.0);
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        pass(Part::KeyClone, self.0);
        Self(self.0)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        pass(Part::KeyDrop, self.0);
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        pass(Part::KeySerialize, self.0);
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plain {
    pub(crate) id: u64,
    pub(crate) version: u32,
}

/// A value that may panic wherever it is used.
#[derive(Debug, PartialEq)]
pub(crate) struct Value(pub(crate) Plain);

impl Deref for Value {
    type Target = Plain;

    fn deref(&self) -> &Plain {
        &self.0
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        pass(Part::ValueDrop, self.id);
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        pass(Part::ValueSerialize, self.id);
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let plain = Plain::deserialize(deserializer)?;
        pass(Part::ValueDeserialize, plain.id);
        Ok(Self(plain))
    }
}

/// How often the database has changed; and how often each key was loaded.
#[derive(Clone, Default)]
pub(crate) struct Db {
    version: Arc<AtomicU32>,
    pub(crate) loads: Arc<Mutex<BTreeMap<u64, u32>>>,
}

impl Db {
    pub(crate) fn version(&self) -> u32 {
        self.version.load(Ordering::SeqCst)
    }

    pub(crate) fn update(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Every key has a row, but for those from 900 on.
    fn rows(&self, ids: impl Iterator<Item = u64>) -> Vec<Plain> {
        let version = self.version();
        ids.filter(|id| *id < 900)
            .map(|id| {
                *self.loads.lock().unwrap().entry(id).or_default() += 1;
                Plain { id, version }
            })
            .collect()
    }
}

macro_rules! sore {
    ($source:ident $(, $hook:item)?) => {
        #[derive(Clone)]
        pub(crate) struct $source(pub(crate) Db);

        impl Source for $source {
            type Key = Key;
            type Value = Value;
            type Error = Infallible;
            const NAME: &'static str = "sore";
            const REGION: &'static str = "objects";

            fn load_many(
                &self,
                _: &LoadContext<'_>,
                keys: &[Key],
            ) -> impl Future<Output = Result<Rows<Self>, Infallible>> + Send {
                pass(Part::LoadCalled, 0);
                async move {
                    tokio::task::yield_now().await;
                    pass(Part::LoadAwaited, 0);
                    let mut rows = Rows::new();
                    for plain in self.0.rows(keys.iter().map(|key| key.0)) {
                        rows.insert(Key(plain.id), Value(plain));
                    }
                    Ok(rows)
                }
            }

            fn before_store(
                &self,
                _: &LoadContext<'_>,
                _: &mut Rows<Self>,
            ) -> impl Future<Output = Result<(), Infallible>> + Send {
                pass(Part::BeforeStoreCalled, 0);
                async {
                    tokio::task::yield_now().await;
                    pass(Part::BeforeStoreAwaited, 0);
                    Ok(())
                }
            }

            fn tags(&self, _: &Key, value: &Value) -> Vec<String> {
                pass(Part::Tags, value.id);
                vec!["group".to_owned()]
            }

            $($hook)?
        }
    };
}

sore!(Sore);
sore!(
    Hooked,
    fn after_fetch(
        &self,
        _: &LoadContext<'_>,
        _: &mut Fetched<Self>,
    ) -> impl Future<Output = Result<(), Infallible>> + Send {
        pass(Part::AfterFetchCalled, 0);
        async {
            tokio::task::yield_now().await;
            pass(Part::AfterFetchAwaited, 0);
            Ok(())
        }
    }
);

macro_rules! innocent {
    ($source:ident, $name:literal, $region:literal) => {
        #[derive(Clone)]
        pub(crate) struct $source(pub(crate) Db);

        impl Source for $source {
            type Key = u64;
            type Value = Plain;
            type Error = Infallible;
            const NAME: &'static str = $name;
            const REGION: &'static str = $region;

            async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
                Ok(self.0.rows(ids.iter().copied()).into_iter().map(|plain| (plain.id, plain)).collect())
            }
        }
    };
}

innocent!(Innocent, "innocent", "objects");
innocent!(Elsewhere, "elsewhere", "others");

/// A backend that may panic, and that passes for one that other processes write to.
#[derive(Clone)]
pub(crate) struct Backend(pub(crate) Memory);

impl Backend {
    fn pass<T>(work: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        pass(Part::BackendCalled, 0);
        async move {
            tokio::task::yield_now().await;
            pass(Part::BackendAwaited, 0);
            work.await
        }
    }
}

impl Shared for Backend {
    const ABILITIES: Abilities = Abilities { reach: Reach::Processes, ..Memory::ABILITIES };

    fn read(&self, keys: &[Bytes]) -> impl Future<Output = Result<Vec<Option<Bytes>>, Fault>> + Send {
        Self::pass(self.0.read(keys))
    }

    fn lease(
        &self,
        leases: &[Lease],
        stamps: &[Stamp],
    ) -> impl Future<Output = Result<Leases, Fault>> + Send {
        Self::pass(self.0.lease(leases, stamps))
    }

    fn fill(&self, fills: &[Fill]) -> impl Future<Output = Result<Vec<Filled>, Fault>> + Send {
        Self::pass(self.0.fill(fills))
    }

    fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> impl Future<Output = Result<(), Fault>> + Send {
        Self::pass(self.0.invalidate(keys, stamps))
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        self.0.hold(holds).await
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        self.0.end(ends).await
    }

    fn incarnation(&self) -> u64 {
        pass(Part::Incarnation, 0);
        self.0.incarnation()
    }
}

/// A cache over all of them.
pub(crate) struct Stage {
    pub(crate) cache: Cache,
    pub(crate) db: Db,
    pub(crate) memory: Memory,
    pub(crate) events: Arc<Mutex<Vec<String>>>,
}

/// What stands behind the sore source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// This process alone, with near before it.
    Near,
    /// Other processes as well.
    Shared,
    /// Nothing.
    Null,
}

impl Stage {
    pub(crate) async fn new<S: Source>(tier: Tier, sore: impl FnOnce(Db) -> S) -> Self {
        Self::beside(tier, Memory::default(), Db::default(), sore).await
    }

    /// The same over a store and a database that are there.
    pub(crate) async fn beside<S: Source>(
        tier: Tier,
        memory: Memory,
        db: Db,
        sore: impl FnOnce(Db) -> S,
    ) -> Self {
        let region = match tier {
            Tier::Near => Region::backend(memory.clone()).near(NearConfig::bytes(1 << 20)),
            Tier::Shared => Region::backend(Backend(memory.clone())),
            Tier::Null => Region::null().near(NearConfig::entries(100)),
        };
        let region = region.jitter(0.0).early_refresh(0.0).breaker_failures(0).mangler(|key| {
            if key.windows(4).any(|part| part == b"sore" || part == b"#gro") {
                pass(Part::Mangler, 0);
            }
            key.to_vec()
        });
        let events = Arc::new(Mutex::new(Vec::new()));
        let listener = events.clone();
        let hear = move |event: &Event| {
            listener.lock().unwrap().push(event.to_string());
            pass(Part::Listener, 0);
        };
        let builder = Cache::builder().region("objects", region).region("others", Region::memory());
        let builder =
            builder.source(sore(db.clone())).source(Innocent(db.clone())).source(Elsewhere(db.clone()));
        let cache = builder.on_event(hear).build().await.unwrap();
        Self { cache, db, memory, events }
    }
}
