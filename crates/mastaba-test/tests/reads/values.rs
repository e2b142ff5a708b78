//! Values that do not come back from a format as they are, or are nested too deep, are answered and not stored.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{BoxError, Cache, Event, Fetched, LoadContext, NearConfig, Region, Rows, Source};
use mastaba_test::world;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Thing {
    Addr(IpAddr),
    Pools(BTreeMap<String, Vec<u8>>),
    Exact(u128),
    Text(String),
    List(Vec<Thing>),
}

/// What stands under a key.
fn thing(key: u32) -> Thing {
    match key {
        0..100 => Thing::Addr(IpAddr::from([127, 0, 0, 1])),
        100..200 => Thing::Pools(BTreeMap::from([("V4".into(), vec![127, 0, 0, 1])])),
        // serde gives an untagged enum no number of 128 bits
        200..300 => Thing::Exact(u128::MAX),
        300..400 => nested(100),
        _ => nested(1_000),
    }
}

fn nested(levels: usize) -> Thing {
    (0..levels).fold(Thing::Text("end".into()), |inner, _| Thing::List(vec![inner]))
}

/// Loads things.
struct Plain(Arc<AtomicUsize>);

/// The same with a hook that changes what enters a request.
struct Hooked(Arc<AtomicUsize>);

async fn load<S: Source<Key = u32, Value = Thing>>(loads: &AtomicUsize, keys: &[u32]) -> Rows<S> {
    loads.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(20)).await;
    keys.iter().map(|key| (*key, thing(*key))).collect()
}

impl Source for Plain {
    type Key = u32;
    type Value = Thing;
    type Error = BoxError;
    const NAME: &'static str = "thing";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, BoxError> {
        Ok(load(&self.0, keys).await)
    }
}

impl Source for Hooked {
    type Key = u32;
    type Value = Thing;
    type Error = BoxError;
    const NAME: &'static str = "thing";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, BoxError> {
        Ok(load(&self.0, keys).await)
    }

    async fn after_fetch(&self, _: &LoadContext<'_>, rows: &mut Fetched<Self>) -> Result<(), BoxError> {
        for (_, value) in rows.iter_mut() {
            if let Thing::Pools(pools) = value {
                assert_eq!(pools.len(), 1, "nobody else's change is in it");
                pools.insert("hooked".into(), vec![]);
            }
        }
        Ok(())
    }
}

/// What a request sees under a key.
fn seen<S: Source>(key: u32) -> Thing {
    match thing(key) {
        Thing::Pools(mut pools) if std::any::type_name::<S>().ends_with("Hooked") => {
            pools.insert("hooked".into(), vec![]);
            Thing::Pools(pools)
        }
        thing => thing,
    }
}

struct World {
    cache: Cache,
    loads: Arc<AtomicUsize>,
    events: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn new<S: Source>(region: Region, source: impl FnOnce(Arc<AtomicUsize>) -> S) -> Self {
        let (loads, events) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let said = events.clone();
        let cache = Cache::builder()
            .region("objects", region)
            .source(source(loads.clone()))
            .on_event(move |event| {
                assert!(matches!(event, Event::CannotBeStored { .. }), "{event}");
                said.lock().unwrap().push(event.to_string());
            })
            .build()
            .await
            .unwrap();
        Self { cache, loads, events }
    }

    /// Reads a key in a new request, and waits for what goes on behind it.
    async fn read<S: Source<Key = u32, Value = Thing>>(&self, key: u32) -> Arc<Thing> {
        let thing = self.cache.request().get::<S>(key).await.unwrap().unwrap();
        self.cache.idle().await;
        thing
    }

    fn loads(&self) -> usize {
        self.loads.swap(0, Ordering::SeqCst)
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

#[tokio::test]
async fn what_serde_buffers_comes_back_from_the_shared_tier_as_it_was_loaded() {
    async fn stored<S: Source<Key = u32, Value = Thing>>(new: fn(Arc<AtomicUsize>) -> S, region: Region) {
        let world = World::new(region, new).await;
        for key in [1, 101, 301] {
            for _ in 0..3 {
                assert_eq!(*world.read::<S>(key).await, seen::<S>(key));
            }
            assert_eq!(world.loads(), 1, "{key}");
        }
        assert_eq!(world.events(), [""; 0]);
    }
    stored(Plain, Region::memory()).await;
    stored(Hooked, Region::memory()).await;
    stored(Hooked, Region::memory().near(NearConfig::entries(100))).await;
}

#[tokio::test]
async fn what_would_come_back_as_another_value_is_answered_and_not_stored_and_said_once() {
    async fn unstored<S: Source<Key = u32, Value = Thing>>(new: fn(Arc<AtomicUsize>) -> S, region: Region) {
        let world = World::new(region, new).await;
        for key in [201, 202, 201] {
            assert_eq!(*world.read::<S>(key).await, seen::<S>(key));
        }
        assert_eq!(world.loads(), 3);
        let events = world.events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].contains("values::Thing") && events[0].contains("another value"), "{events:?}");
        assert!(events[0].starts_with("source thing: "), "{events:?}");
        // too deep is another reason
        for key in [401, 402] {
            assert_eq!(*world.read::<S>(key).await, seen::<S>(key));
        }
        assert_eq!(world.loads(), 2);
        let events = world.events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].contains("512 steps"), "{events:?}");
    }
    unstored(Plain, Region::memory()).await;
    unstored(Hooked, Region::memory()).await;
    unstored(Plain, Region::memory().near(NearConfig::entries(100))).await;
    unstored(Hooked, Region::memory().near(NearConfig::entries(100))).await;
}

#[tokio::test]
async fn those_who_join_the_load_of_a_value_that_is_not_stored_are_answered_by_it() {
    let world = World::new(Region::memory(), Plain).await;
    for key in [201, 401] {
        let requests: Vec<_> = (0..10).map(|_| world.cache.request()).collect();
        let gets = requests.iter().map(|request| request.get::<Plain>(key));
        for answer in futures_util::future::join_all(gets).await {
            assert_eq!(*answer.unwrap().unwrap(), thing(key));
        }
        assert_eq!(world.loads(), 1);
        world.cache.idle().await;
    }
    // with a hook each of them needs a value of its own, and there is no other way to one than to load it
    let world = World::new(Region::memory(), Hooked).await;
    let requests: Vec<_> = (0..10).map(|_| world.cache.request()).collect();
    let gets = requests.iter().map(|request| request.get::<Hooked>(201));
    for answer in futures_util::future::join_all(gets).await {
        assert_eq!(*answer.unwrap().unwrap(), thing(201));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_fill_of_a_value_that_is_not_stored() {
    async fn quick<S: Source<Key = u32, Value = Thing>>(new: fn(Arc<AtomicUsize>) -> S) {
        let loads = Arc::new(AtomicUsize::new(0));
        let source = new(loads.clone());
        // others may write to this tier, and a lease in it may be that of somebody who fills in a moment
        let configure = |region: Region| region.lease_patience(Duration::from_secs(5));
        let world =
            world::World::build::<true>(Memory::default(), configure, |all, _| all.source(source)).await;
        for nth in 1..=3 {
            let began = Instant::now();
            assert_eq!(*world.request().get::<S>(201).await.unwrap().unwrap(), thing(201));
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            world.idle().await;
            assert_eq!(loads.load(Ordering::SeqCst), nth);
        }
    }
    quick(Plain).await;
    quick(Hooked).await;
}

#[tokio::test]
async fn a_field_that_is_read_and_never_written_is_named_once_when_such_a_value_is_stored() {
    #[derive(Serialize, Deserialize)]
    struct Account {
        id: u32,
        #[serde(skip_serializing, default)]
        password_hash: String,
    }

    struct AccountById;

    impl Source for AccountById {
        type Key = u32;
        type Value = Account;
        type Error = BoxError;
        const NAME: &'static str = "account";
        const REGION: &'static str = "objects";

        async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, BoxError> {
            Ok(keys.iter().map(|id| (*id, Account { id: *id, password_hash: "h".into() })).collect())
        }
    }

    let events = Arc::new(Mutex::new(Vec::new()));
    let said = events.clone();
    let cache = Cache::builder()
        .region("objects", Region::memory())
        .source(AccountById)
        .on_event(move |event| said.lock().unwrap().push(event.clone()))
        .build()
        .await
        .unwrap();
    for id in [1, 2, 1] {
        assert_eq!(cache.request().get::<AccountById>(id).await.unwrap().unwrap().id, id);
        cache.idle().await;
    }
    assert_eq!(cache.request().get::<AccountById>(1).await.unwrap().unwrap().password_hash, "");
    let events = events.lock().unwrap();
    let [Event::FieldsNotStored { source: "account", value, fields }] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(value.ends_with("Account"), "{value}");
    assert_eq!(fields, &["Account.password_hash"]);
}
