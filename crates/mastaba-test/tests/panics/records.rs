//! Records that are sound, and that the program cannot read.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{Cache, Fetched, Force, LoadContext, NearConfig, Region, Rows, Source};
use mastaba_test::world::Watched;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fuse::{self, Part};
use crate::sore::{Db, Hooked, Innocent, Key, Sore, Stage, Tier};

/// A number that is read back, unless the switch of its thread says so: for ever, or for so many times.
#[derive(Debug, PartialEq)]
struct Moody(u32);

thread_local! {
    static READABLE: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
    static FAILS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        let fails = FAILS.get();
        FAILS.set(fails.saturating_sub(1));
        match READABLE.get() && fails == 0 {
            true => Ok(Self(number)),
            false => Err(serde::de::Error::custom("not in the mood")),
        }
    }
}

macro_rules! moody {
    ($source:ident $(, $hook:item)?) => {
        struct $source(Arc<Mutex<u32>>);

        impl Source for $source {
            type Key = u64;
            type Value = Moody;
            type Error = Infallible;
            const NAME: &'static str = "moody";
            const REGION: &'static str = "objects";

            async fn load_many(&self, _: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Infallible> {
                let mut loads = self.0.lock().unwrap();
                *loads += 1;
                Ok(keys.iter().map(|key| (*key, Moody(*loads))).collect())
            }

            $($hook)?
        }
    };
}

moody!(MoodyById);
moody!(
    MoodyHooked,
    async fn after_fetch(&self, _: &LoadContext<'_>, _: &mut Fetched<Self>) -> Result<(), Infallible> {
        Ok(())
    }
);

struct Moods {
    cache: Cache,
    loads: Arc<Mutex<u32>>,
    trips: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Moods {
    async fn new<S: Source, const PROCESSES: bool>(
        near: bool,
        source: impl FnOnce(Arc<Mutex<u32>>) -> S,
    ) -> Self {
        READABLE.set(true);
        let (trips, loads, events) = (Arc::default(), Arc::default(), Arc::new(Mutex::new(Vec::new())));
        let region = Region::backend(Watched::<_, PROCESSES>::new(Memory::default(), Arc::clone(&trips)));
        // so that it is no matter of time which trips there are
        let region = region.jitter(0.0).early_refresh(0.0).fill_without_lease(false);
        let region = if near { region.near(NearConfig::entries(100)) } else { region };
        let listener = events.clone();
        let builder = Cache::builder().region("objects", region).source(source(Arc::clone(&loads)));
        let hear = move |event: &mastaba::Event| listener.lock().unwrap().push(event.to_string());
        let cache = builder.on_event(hear).build().await.unwrap();
        Self { cache, loads, trips, events }
    }

    /// What a new request sees, and which trips that took.
    async fn sees<S: Source<Key = u64, Value = Moody>>(&self, force: Force) -> (u32, Vec<String>) {
        let request = self.cache.request().with(force);
        let value = request.get::<S>(1).await.unwrap().unwrap().0;
        self.cache.idle().await;
        (value, std::mem::take(&mut self.trips.lock().unwrap()))
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

const MISS: &str =
    "source moody: the record under mastaba:objects:moody:1 counts as a miss: Serde Deserialization Error";

/// A record is stored, and does not decode for one moment: that one read loads it, and replaces it.
async fn is_replaced<S: Source<Key = u64, Value = Moody>, const PROCESSES: bool>(
    force: Force,
    source: impl FnOnce(Arc<Mutex<u32>>) -> S,
) {
    let moods = Moods::new::<S, PROCESSES>(false, source).await;
    assert_eq!(moods.sees::<S>(Force::No).await.0, 1);
    FAILS.set(1);
    let request = moods.cache.request().with(force);
    assert_eq!(request.get::<S>(1).await.unwrap().unwrap().0, 2, "{force:?}: loaded");
    moods.cache.idle().await;
    assert_eq!(moods.events(), [MISS], "{force:?}: once");
    let trips = std::mem::take(&mut *moods.trips.lock().unwrap());
    assert_eq!(trips, ["shared read [1]", "shared lease [1]", "shared fill [1]"], "{force:?}");
    assert_eq!(
        moods.sees::<S>(Force::No).await,
        (2, vec!["shared read [1]".to_owned()]),
        "{force:?}: replaced"
    );
    assert_eq!(moods.events(), [""; 0], "{force:?}");
}

#[tokio::test]
async fn a_sound_record_that_does_not_decode_is_replaced_by_the_read_that_meets_it() {
    for force in [Force::No, Force::PastRequest, Force::Refresh] {
        is_replaced::<_, false>(force, MoodyById).await;
        is_replaced::<_, true>(force, MoodyById).await;
        is_replaced::<_, false>(force, MoodyHooked).await;
        is_replaced::<_, true>(force, MoodyHooked).await;
    }
}

#[tokio::test]
async fn a_peek_that_meets_such_a_record_knows_nothing_and_leaves_it() {
    let moods = Moods::new::<_, true>(false, MoodyById).await;
    moods.sees::<MoodyById>(Force::No).await;
    READABLE.set(false);
    for _ in 0..3 {
        assert_eq!(moods.cache.request().peek::<MoodyById>(1).await.unwrap(), None);
    }
    assert_eq!(moods.events(), [MISS]);
    assert_eq!(*moods.loads.lock().unwrap(), 1);
}

/// What is never readable is said twice at the most (of the record, and of the value), and stored once at the most.
async fn is_given_up<S: Source<Key = u64, Value = Moody>, const PROCESSES: bool>(
    source: impl FnOnce(Arc<Mutex<u32>>) -> S,
) {
    let moods = Moods::new::<S, PROCESSES>(false, source).await;
    moods.sees::<S>(Force::No).await;
    READABLE.set(false);
    let began = tokio::time::Instant::now();
    let mut values = Vec::new();
    for round in 0..10 {
        let (value, trips) = moods.sees::<S>(Force::No).await;
        values.push(value);
        let fills = trips.iter().filter(|trip| trip.starts_with("shared fill")).count();
        // of another process's view: the lease is given back
        let most = if PROCESSES { 1 } else { 0 };
        assert!(fills <= most, "round {round}: {trips:?}");
        assert!(
            !trips.iter().any(|trip| trip.starts_with("shared read [1]")) || trips.len() <= 4,
            "{trips:?}"
        );
    }
    assert_eq!(values, (2..12).collect::<Vec<_>>(), "each reads what is true now");
    assert!(began.elapsed() < Duration::from_millis(100), "nobody waits for a fill that does not come");
    let events = moods.events();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0], MISS);
    assert!(events[1].contains("reading it back failed: Serde Deserialization Error"), "{events:?}");
    // and it comes back by itself
    READABLE.set(true);
    let (value, _) = moods.sees::<S>(Force::No).await;
    assert_eq!(moods.sees::<S>(Force::No).await.0, value, "stored again");
}

#[tokio::test(start_paused = true)]
async fn values_that_cannot_be_read_back_are_not_stored_again_and_again() {
    is_given_up::<_, false>(MoodyById).await;
    is_given_up::<_, true>(MoodyById).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_met_such_a_record_does_not_read_back_what_it_stores() {
    let moods = Moods::new::<_, true>(false, MoodyById).await;
    READABLE.set(false);
    moods.sees::<MoodyById>(Force::No).await;
    assert!(moods.events().is_empty(), "it was stored unread");
    READABLE.set(true);
    assert_eq!(moods.sees::<MoodyById>(Force::No).await, (1, vec!["shared read [1]".to_owned()]));
}

#[tokio::test]
async fn a_record_whose_deserialize_panics_is_a_miss_and_costs_nobody_else_anything() {
    async fn meets<S: Source<Key = Key, Value = crate::sore::Value>>(tier: Tier, source: fn(Db) -> S) {
        let writer = Stage::new(tier, source).await;
        writer.cache.request().get_many::<S>([12, 13, 14].map(Key)).await.unwrap();
        writer.cache.request().get_many::<Innocent>([1, 2]).await.unwrap();
        writer.cache.idle().await;
        // another process, which has nothing in near
        let stage = Stage::beside(tier, writer.memory.clone(), writer.db.clone(), source).await;
        fuse::always(Part::ValueDeserialize, 13);
        let request = stage.cache.request();
        let (sore, innocent, cold) = futures_util::join!(
            request.get_many::<S>([12, 13, 14].map(Key)),
            request.get_many::<Innocent>([1, 2]),
            request.get::<Innocent>(7),
        );
        fuse::disarm();
        assert_eq!(innocent.unwrap().found().count(), 2);
        assert_eq!(cold.unwrap().unwrap().id, 7);
        // a hook's value is decoded for each request, and there the panic is its reader's
        assert_eq!(sore.unwrap().found().count(), 3, "{tier:?}");
        stage.cache.idle().await;
        let events = stage.events.lock().unwrap().clone();
        let miss = "counts as a miss: `Deserialize` of the value panicked: the fuse of ValueDeserialize";
        assert_eq!(events.iter().filter(|event| event.contains(miss)).count(), 1, "{events:?}");
        let loads = stage.db.loads.lock().unwrap().clone();
        assert_eq!((loads[&12], loads[&13], loads[&1]), (1, 2, 1), "{tier:?}");
    }
    meets(Tier::Shared, Sore).await;
    meets(Tier::Shared, Hooked).await;
    meets(Tier::Near, Sore).await;
}

#[tokio::test]
async fn foreign_bytes_of_every_sort_are_replaced() {
    use mastaba::shared::{Lease, Shared};
    let moods_memory = Memory::default();
    for damage in
        [b"".to_vec(), b"hello".to_vec(), vec![b'{'; 500], [b"Mt\x02\x01".as_slice(), &[7; 200]].concat()]
    {
        let key = bytes::Bytes::from_static(b"mastaba:objects:moody:1");
        moods_memory.invalidate(std::slice::from_ref(&key), &[]).await.unwrap();
        let lease = Lease { key, record: damage.into(), over: None, ttl: Duration::from_secs(3600) };
        moods_memory.lease(&[lease], &[]).await.unwrap();
        READABLE.set(true);
        let loads = Arc::<Mutex<u32>>::default();
        let region = Region::backend(moods_memory.clone()).jitter(0.0).early_refresh(0.0);
        let builder = Cache::builder().region("objects", region).source(MoodyById(loads.clone()));
        let cache = builder.build().await.unwrap();
        for force in [Force::No, Force::No] {
            cache.request().with(force).get::<MoodyById>(1).await.unwrap().unwrap();
            cache.idle().await;
        }
        assert_eq!(*loads.lock().unwrap(), 1);
    }
}
