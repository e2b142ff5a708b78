//! Any value of any shape comes back from the shared tier as it is, or is refused with an event; never another one.
//!
//! The shapes are those that serde has and those of crates that many types are made of. They go through a backend in
//! three ways: as types that can be traced, with names, and through the buffer of `flatten`.

mod shapes;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mastaba::shared::Shared;
use mastaba::{BoxError, Cache, Event, LoadContext, Region, Rows, Source};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use shapes::{Buffered, Named, Plain};

/// What the sources have under their keys.
struct Database<V> {
    rows: Mutex<HashMap<u64, V>>,
    loads: AtomicUsize,
}

impl<V> Default for Database<V> {
    fn default() -> Self {
        Self { rows: Mutex::default(), loads: AtomicUsize::new(0) }
    }
}

struct Of<V>(Arc<Database<V>>);

macro_rules! sources {
    ($($value:ident $name:literal)*) => {$(
        impl Source for Of<$value> {
            type Key = u64;
            type Value = $value;
            type Error = BoxError;
            const NAME: &'static str = $name;
            const REGION: &'static str = "zoo";

            async fn load_many(&self, _: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, BoxError> {
                self.0.loads.fetch_add(keys.len(), Ordering::SeqCst);
                let rows = self.0.rows.lock().unwrap();
                Ok(keys.iter().map(|key| (*key, rows[key].clone())).collect())
            }
        }
    )*};
}

sources! { Plain "zoo.plain" Named "zoo.named" Buffered "zoo.buffered" }

/// How many values of a kind came back from the shared tier, and how many were refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    stored: usize,
    refused: usize,
}

struct Zoo {
    cache: Cache,
    plain: Arc<Database<Plain>>,
    named: Arc<Database<Named>>,
    buffered: Arc<Database<Buffered>>,
    refused: Arc<AtomicBool>,
}

impl Zoo {
    async fn open(backend: impl Shared) -> Self {
        let refused = Arc::new(AtomicBool::new(false));
        let said = refused.clone();
        let (plain, named, buffered) = <(Arc<_>, Arc<_>, Arc<_>)>::default();
        let cache = Cache::builder()
            .region("zoo", Region::backend(backend))
            .source(Of(Arc::clone(&plain)))
            .source(Of(Arc::clone(&named)))
            .source(Of(Arc::clone(&buffered)))
            .on_event(move |event| match event {
                Event::CannotBeStored { .. } => said.store(true, Ordering::SeqCst),
                event => panic!("{event}"),
            })
            .build()
            .await
            .unwrap();
        Self { cache, plain, named, buffered, refused }
    }

    /// Loads values in one request, and reads them in the next one.
    async fn through<V>(&self, rows: &Database<V>, values: Vec<V>, first: u64) -> Result<Count, TestCaseError>
    where
        V: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static,
        Of<V>: Source<Key = u64, Value = V>,
    {
        let keys = first..first + values.len() as u64;
        rows.rows.lock().unwrap().extend(keys.clone().zip(values.clone()));
        let mut loads = [0; 2];
        for loads in &mut loads {
            rows.loads.store(0, Ordering::SeqCst);
            let answers = self.cache.request().get_many::<Of<V>>(keys.clone()).await.unwrap();
            self.cache.idle().await;
            for (key, value) in keys.clone().zip(&values) {
                prop_assert_eq!(answers[&key].as_deref(), Some(value));
            }
            *loads = rows.loads.load(Ordering::SeqCst);
        }
        prop_assert_eq!(loads[0], values.len());
        let count = Count { stored: loads[0] - loads[1], refused: loads[1] };
        prop_assert!(count.refused == 0 || self.refused.load(Ordering::SeqCst), "refused without an event");
        Ok(count)
    }
}

/// Puts values of every shape through a backend, some hundreds of each way.
pub(crate) fn every_value_comes_back_or_is_refused(runtime: &Runtime, backend: impl Shared) {
    let zoo = runtime.block_on(Zoo::open(backend));
    let next = AtomicUsize::new(0);
    let mut counts = [Count::default(); 3];
    let mut run = |way: usize, values: usize| {
        let mut runner =
            TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
        let counted = Mutex::new(Count::default());
        let some = prop::collection::vec(shapes::named(), values);
        runner
            .run(&some, |values| {
                let first = next.fetch_add(values.len(), Ordering::SeqCst) as u64;
                let count = runtime.block_on(async {
                    match way {
                        0 => {
                            let plain = values.into_iter().filter_map(Named::plain).collect();
                            zoo.through(&zoo.plain, plain, first).await
                        }
                        1 => zoo.through(&zoo.named, values, first).await,
                        _ => {
                            let held = values.into_iter().map(Buffered::new).collect();
                            zoo.through(&zoo.buffered, held, first).await
                        }
                    }
                })?;
                let mut all = counted.lock().unwrap();
                all.stored += count.stored;
                all.refused += count.refused;
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{failure}"));
        counts[way] = counted.into_inner().unwrap();
    };
    (0..3).for_each(|way| run(way, 40));
    let [plain, named, buffered] = counts;
    assert_eq!(zoo.cache.encoding_of::<Of<Plain>>().unwrap().why_named, None);
    assert!(zoo.cache.encoding_of::<Of<Named>>().unwrap().why_named.is_some());
    assert!(plain.stored > 100 && plain.refused == 0, "{counts:?}");
    // what is refused are lost nulls, numbers of 128 bits in a buffer, and texts that are taken for something else
    for count in [named, buffered] {
        assert!(count.stored > 5 * count.refused && count.refused > 0, "{counts:?}");
    }
    runtime.block_on(zoo.cache.close()).unwrap();
}
