//! The rules of the consistency protocol, driven step by step. Each test fails without its rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{Cache, LoadContext, NearConfig, Region, Rows, Source};
use mastaba_test::world::{UserById, World};

/// Miss, old read, commit and invalidate, late fill: the hole that read-through caches have.
async fn the_classic_race(world: World) {
    let gate = world.db.close_gate();
    let late = tokio::spawn({
        let request = world.request();
        async move { request.get::<UserById>(1).await }
    });
    world.db.reached(1).await; // it has read version 0
    world.db.update(1);
    world.request().invalidate::<UserById>([1]).await.unwrap();
    gate.open_for_good();
    assert_eq!(late.await.unwrap().unwrap().unwrap().version, 0, "it began before the write");
    world.idle().await;
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
    world.idle().await;
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn r1_a_late_fill_does_not_undo_an_invalidation() {
    the_classic_race(World::new().await).await;
}

#[tokio::test]
async fn r1_nor_where_other_processes_write() {
    the_classic_race(World::across_processes(|region| region).await).await;
}

#[tokio::test]
async fn r1_nor_with_near() {
    the_classic_race(World::with(|region| region.near(NearConfig::entries(100))).await).await;
}

#[tokio::test]
async fn r13_a_late_insert_into_near_does_not_either_where_nothing_else_is_fenced() {
    let world = World::build::<false>(
        Memory::default(),
        |_| Region::null().near(NearConfig::entries(100)),
        |builder, _| builder,
    )
    .await;
    the_classic_race(world.clone()).await;
    world.idle().await;
    let loads = world.loads().len();
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
    assert_eq!(world.loads().len(), loads, "near has it now");
}

/// A reader that begins after an invalidation, while the load from before it is under way.
async fn a_reader_after_the_write(world: World) {
    let gate = world.db.close_gate();
    let early = tokio::spawn({
        let request = world.request();
        async move { request.get::<UserById>(1).await }
    });
    world.db.reached(1).await;
    world.db.update(1);
    world.request().invalidate::<UserById>([1]).await.unwrap();
    let after = tokio::spawn({
        let request = world.request();
        async move { request.get::<UserById>(1).await }
    });
    world.db.reached(2).await; // it loads for itself
    gate.open_for_good();
    assert_eq!(early.await.unwrap().unwrap().unwrap().version, 0);
    assert_eq!(after.await.unwrap().unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn r5_a_reader_after_an_invalidation_does_not_join_the_load_from_before() {
    a_reader_after_the_write(World::new().await).await;
}

#[tokio::test]
async fn r5_nor_after_a_region_was_cleared_or_a_tag_invalidated() {
    for by_tag in [false, true] {
        let world = World::new().await;
        let gate = world.db.close_gate();
        let early = tokio::spawn({
            let request = world.request();
            async move { request.get::<UserById>(1).await }
        });
        world.db.reached(1).await;
        world.db.update(1);
        let region = world.cache.region("objects");
        if by_tag {
            region.invalidate_tag("x").await.unwrap();
        } else {
            region.clear().await.unwrap();
        }
        let after = tokio::spawn({
            let request = world.request();
            async move { request.get::<UserById>(1).await }
        });
        world.db.reached(2).await;
        gate.open_for_good();
        early.await.unwrap().unwrap();
        assert_eq!(after.await.unwrap().unwrap().unwrap().version, 1);
    }
}

#[tokio::test]
async fn r5_an_invalidation_by_another_process_is_seen_by_who_joins_late() {
    let world = World::across_processes(|region| region).await;
    let other = world.beside().await;
    let gate = world.db.close_gate();
    let early = tokio::spawn({
        let request = world.request();
        async move { request.get::<UserById>(1).await }
    });
    world.db.reached(1).await;
    world.db.update(1);
    other.request().invalidate::<UserById>([1]).await.unwrap(); // this process is not told
    let late = tokio::spawn({
        let request = world.request();
        async move { request.get::<UserById>(1).await }
    });
    // it joins, as nothing here speaks against it
    while !world.trips().iter().any(|trip| trip == "shared read [1]") {
        tokio::task::yield_now().await;
    }
    gate.open_for_good();
    early.await.unwrap().unwrap();
    assert_eq!(late.await.unwrap().unwrap().unwrap().version, 1, "the fill was refused, so it loaded again");
}

#[tokio::test]
async fn r5_where_the_fill_was_stored_a_late_reader_takes_the_load_of_the_early_one() {
    let world = World::across_processes(|region| region).await;
    let gate = world.db.close_gate();
    let read = |request: mastaba::RequestCache| tokio::spawn(async move { request.get::<UserById>(1).await });
    let early = read(world.request());
    world.db.reached(1).await;
    world.trips();
    let late = read(world.request());
    while world.trips().is_empty() {
        tokio::task::yield_now().await;
    }
    gate.open_for_good();
    early.await.unwrap().unwrap();
    assert!(late.await.unwrap().unwrap().is_some());
    world.idle().await;
    assert_eq!(world.db.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn r1_a_refresh_in_the_background_does_not_undo_an_invalidation() {
    let hour = Duration::from_secs(3600);
    let world = World::with(|region| region.ttl(Duration::from_secs(60)).stale(hour)).await;
    world.request().get::<UserById>(1).await.unwrap();
    world.idle().await;
    tokio::time::advance(Duration::from_secs(90)).await;
    let gate = world.db.close_gate();
    let stale = world.request().get_outcomes::<UserById>([1]).await;
    assert!(stale[&1].is_stale(), "{stale:?}");
    world.db.reached(2).await; // the refresh has read version 0
    world.db.update(1);
    world.request().invalidate::<UserById>([1]).await.unwrap();
    gate.open_for_good();
    world.idle().await;
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn r3_two_processes_that_miss_together_load_under_one_fence_and_store_once() {
    let world = World::across_processes(|region| region).await;
    let other = world.beside().await;
    let (here, there) = (world.db.close_gate(), other.db.close_gate());
    let read = |request: mastaba::RequestCache| tokio::spawn(async move { request.get::<UserById>(1).await });
    let (a, b) = (read(world.request()), read(other.request()));
    world.db.reached(1).await;
    other.db.reached(1).await;
    there.open_for_good();
    here.open_for_good();
    assert!(a.await.unwrap().unwrap().is_some() && b.await.unwrap().unwrap().is_some());
    world.idle().await;
    other.idle().await;
    assert_eq!(world.trips().iter().filter(|trip| trip.starts_with("shared fill")).count(), 1);
    world.request().get::<UserById>(1).await.unwrap();
    assert_eq!(world.db.started(), 1, "it was stored by one of the two");
}

#[tokio::test]
async fn r11_a_store_that_was_restarted_is_not_believed() {
    let world = World::new().await;
    world.request().get::<UserById>(1).await.unwrap();
    world.idle().await;
    let gate = world.db.close_gate();
    let late = tokio::spawn({
        let request = world.request();
        async move { request.get::<UserById>(2).await }
    });
    world.db.reached(2).await;
    world.memory.restart();
    gate.open_for_good();
    late.await.unwrap().unwrap();
    world.idle().await;
    world.trips();
    world.request().get_many::<UserById>([1, 2]).await.unwrap();
    assert_eq!(world.loads(), ["source load user [1, 2]"]);
}

#[tokio::test]
async fn r12_a_cleared_region_is_empty_also_for_a_fill_that_is_under_way() {
    let world = World::with(|region| region.near(NearConfig::entries(100))).await;
    world.request().get::<UserById>(1).await.unwrap();
    world.idle().await;
    let gate = world.db.close_gate();
    let late = tokio::spawn({
        let request = world.request();
        async move { request.get::<UserById>(2).await }
    });
    world.db.reached(2).await;
    world.db.update(1);
    world.db.update(2);
    world.cache.region("objects").clear().await.unwrap();
    gate.open_for_good();
    late.await.unwrap().unwrap();
    world.idle().await;
    let users = world.request().get_many::<UserById>([1, 2]).await.unwrap();
    let versions: Vec<_> = users.found().map(|(id, user)| (*id, user.version)).collect();
    assert_eq!(versions, [(1, 1), (2, 1)]);
}

/// A source whose entries stand under a tag of their own and one of their value's.
struct Tagged(Arc<Table>);

#[derive(Default)]
struct Table {
    version: AtomicU32,
    loads: AtomicU32,
    /// Invalidate this tag after the rows were read.
    disturb: AtomicBool,
    cache: std::sync::OnceLock<Cache>,
    unstored: AtomicBool,
}

impl Source for Tagged {
    type Key = u32;
    type Value = u32;
    type Error = std::io::Error;
    const NAME: &'static str = "tagged";
    const REGION: &'static str = "objects";
    const TAGS: &'static [&'static str] = &["all"];

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, std::io::Error> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        let version = self.0.version.load(Ordering::SeqCst);
        if self.0.disturb.swap(false, Ordering::SeqCst) {
            self.0.version.fetch_add(1, Ordering::SeqCst);
            let region = self.0.cache.get().unwrap().region("objects");
            region.invalidate_tag("even").await.unwrap();
        }
        if self.0.unstored.load(Ordering::SeqCst) {
            cx.do_not_store();
        }
        Ok(keys.iter().map(|key| (*key, version)).collect())
    }

    fn tags(&self, key: &u32, _: &u32) -> Vec<String> {
        vec![if key.is_multiple_of(2) { "even".into() } else { "odd".into() }]
    }
}

async fn tagged(region: Region) -> (Cache, Arc<Table>) {
    let table = Arc::new(Table::default());
    let cache =
        Cache::builder().region("objects", region).source(Tagged(table.clone())).build().await.unwrap();
    let _ = table.cache.set(cache.clone());
    (cache, table)
}

async fn all(cache: &Cache) -> Vec<u32> {
    let found = cache.request().get_many::<Tagged>([1, 2]).await.unwrap();
    cache.idle().await;
    found.found().map(|(_, version)| **version).collect()
}

#[tokio::test]
async fn r12_a_tag_voids_what_stands_under_it_and_nothing_else() {
    for region in [Region::memory(), Region::memory().near(NearConfig::entries(100))] {
        let (cache, table) = tagged(region).await;
        assert_eq!(all(&cache).await, [0, 0]);
        table.version.store(1, Ordering::SeqCst);
        assert_eq!(all(&cache).await, [0, 0], "nobody was told");
        cache.region("objects").invalidate_tag("even").await.unwrap();
        assert_eq!(all(&cache).await, [0, 1]);
        cache.region("objects").invalidate_tag("all").await.unwrap();
        assert_eq!(all(&cache).await, [1, 1]);
        assert_eq!(all(&cache).await, [1, 1]);
        assert_eq!(table.loads.load(Ordering::SeqCst), 3);
    }
}

#[tokio::test]
async fn r12_what_was_loaded_before_its_tag_was_invalidated_is_not_stored_under_the_new_stamp() {
    for region in [Region::memory(), Region::memory().near(NearConfig::entries(100))] {
        let (cache, table) = tagged(region).await;
        table.disturb.store(true, Ordering::SeqCst);
        assert_eq!(all(&cache).await, [0, 0], "the load began before the write");
        assert_eq!(all(&cache).await[1], 1);
        assert_eq!(all(&cache).await[1], 1);
    }
}

#[tokio::test]
async fn r12_tags_of_values_cost_one_trip_more_for_the_whole_batch() {
    let (cache, _) = tagged(Region::memory()).await;
    all(&cache).await;
    let request = cache.request();
    request.get_many::<Tagged>([1, 2]).await.unwrap();
    assert_eq!(request.report().shared_trips(), 2, "{}", request.report());
}

#[tokio::test]
async fn r4_a_load_that_may_be_old_is_not_stored() {
    for region in [Region::memory(), Region::memory().near(NearConfig::entries(100))] {
        let (cache, table) = tagged(region).await;
        table.unstored.store(true, Ordering::SeqCst);
        assert_eq!(all(&cache).await, [0, 0]);
        table.version.store(1, Ordering::SeqCst);
        assert_eq!(all(&cache).await, [1, 1]);
    }
}

/// Derived from a user.
struct Badge(AtomicU32);

impl Source for Badge {
    type Key = u64;
    type Value = String;
    type Error = mastaba::Error;
    const NAME: &'static str = "badge";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, mastaba::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let users = cx.request().get_many::<UserById>(keys.iter().copied()).await?;
        let badge = |id: u64, version: u32| (id, format!("{id}, version {version}"));
        Ok(users.found().map(|(id, user)| badge(*id, user.version)).collect())
    }
}

async fn with_badges() -> World {
    let more = |builder: mastaba::CacheBuilder, _: &Arc<mastaba_test::world::Db>| {
        builder.source(Badge(AtomicU32::new(0)))
    };
    World::build::<false>(Memory::default(), |region| region, more).await
}

#[tokio::test]
async fn r6_a_load_that_used_what_the_request_remembered_is_not_stored() {
    let world = with_badges().await;
    let request = world.request();
    request.get::<UserById>(1).await.unwrap(); // version 0, remembered by the request
    world.idle().await;
    world.db.update(1);
    let other = world.request();
    other.invalidate::<UserById>([1]).await.unwrap();
    other.invalidate::<Badge>([1]).await.unwrap();
    assert_eq!(*request.get::<Badge>(1).await.unwrap().unwrap(), "1, version 0");
    world.idle().await;
    assert_eq!(*world.request().get::<Badge>(1).await.unwrap().unwrap(), "1, version 1");
}

#[tokio::test]
async fn r6_a_load_that_read_everything_after_it_began_is_stored() {
    let world = with_badges().await;
    assert_eq!(*world.request().get::<Badge>(1).await.unwrap().unwrap(), "1, version 0");
    world.idle().await;
    world.trips();
    world.request().get::<Badge>(1).await.unwrap();
    assert_eq!(world.trips(), ["shared read [1]"]);
}

#[tokio::test]
async fn r7_a_write_voids_in_the_order_in_which_it_was_told() {
    let world = with_badges().await;
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([2, 1]).await.unwrap();
    write.invalidate::<Badge>([7]).await.unwrap();
    write.published().await.unwrap();
    assert_eq!(world.trips(), ["shared invalidate [2, 1, 7]"], "as told, all in one trip");
}

#[tokio::test]
async fn at_most_two_loads_of_a_key_are_under_way_however_many_writes_there_are() {
    let world = World::new().await;
    let gate = world.db.close_gate();
    let mut readers = Vec::new();
    for round in 1..=10 {
        let request = world.request();
        readers.push(tokio::spawn(async move { request.get::<UserById>(1).await }));
        if round <= 2 {
            world.db.reached(round).await;
        }
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        world.db.update(1);
        world.request().invalidate::<UserById>([1]).await.unwrap();
    }
    assert_eq!(world.db.started(), 2);
    gate.open_for_good();
    let last = readers.pop().unwrap();
    for reader in readers {
        reader.await.unwrap().unwrap();
    }
    assert!(last.await.unwrap().unwrap().unwrap().version >= 9);
    assert!(world.db.started() <= 4, "{} loads", world.db.started());
}
