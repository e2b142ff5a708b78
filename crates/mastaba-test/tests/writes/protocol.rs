//! The rules of the consistency protocol, one by one: what races each of them decides, and how.

mod stamps;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mastaba::entry::{EntryRef, Kind};
use mastaba::shared::memory::Memory;
use mastaba::shared::{Shared, Stamp};
use mastaba::{LoadContext, NearConfig, Outcome, Region, Rows, Source, Tier};
use mastaba_test::world::{Db, DbError, UserById, World};

/// Versions of users under a tag of all and a tag of each.
struct Member(Arc<Db>);

impl Source for Member {
    type Key = u64;
    type Value = u32;
    type Error = DbError;
    const NAME: &'static str = "member";
    const REGION: &'static str = "objects";
    const TAGS: &'static [&'static str] = &["team"];

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        self.0.wrote("member", ids);
        let rows = ids.iter().map(|id| (*id, self.0.version(*id))).collect();
        self.0.answer().await;
        Ok(rows)
    }

    fn tags(&self, key: &u64, _: &u32) -> Vec<String> {
        if *key < 100 { vec![format!("member-{key}")] } else { Vec::new() }
    }
}

/// Versions of users, each under a tag of its own that is one of all members.
struct Guest(Arc<Db>);

impl Source for Guest {
    type Key = u64;
    type Value = u32;
    type Error = DbError;
    const NAME: &'static str = "guest";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        self.0.wrote("guest", ids);
        Ok(ids.iter().map(|id| (*id, self.0.version(*id))).collect())
    }

    fn tags(&self, _: &u64, _: &u32) -> Vec<String> {
        vec!["team".to_owned()]
    }
}

/// The version of user n under the key 100 + n, read through the cache.
struct Derived(Arc<Db>);

impl Source for Derived {
    type Key = u64;
    type Value = u32;
    type Error = mastaba::Error;
    const NAME: &'static str = "derived";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, mastaba::Error> {
        self.0.wrote("derived", ids);
        let users = cx.request().get_many::<UserById>(ids.iter().map(|id| id - 100)).await?;
        Ok(users.found().map(|(id, user)| (id + 100, user.version)).collect())
    }
}

/// Reads in a transaction that is older than its lease.
struct Snapshot(Arc<Db>);

impl Source for Snapshot {
    type Key = u64;
    type Value = u32;
    type Error = DbError;
    const NAME: &'static str = "snapshot";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        self.0.wrote("snapshot", ids);
        cx.do_not_store();
        Ok(ids.iter().map(|id| (*id, self.0.version(*id))).collect())
    }
}

async fn world(configure: impl FnOnce(Region) -> Region) -> World {
    over(Memory::default(), configure).await
}

async fn over(memory: Memory, configure: impl FnOnce(Region) -> Region) -> World {
    World::build::<false>(memory, configure, |builder, db| {
        let builder = builder.source(Member(db.clone())).source(Guest(db.clone()));
        builder.source(Derived(db.clone())).source(Snapshot(db.clone()))
    })
    .await
}

fn near(region: Region) -> Region {
    region.near(NearConfig::entries(1000))
}

async fn write(world: &World, key: u64) {
    world.db.update(key);
    world.request().invalidate::<UserById>([key]).await.unwrap();
}

#[tokio::test]
async fn r1_a_fill_that_comes_after_an_invalidation_is_refused() {
    let worlds =
        [World::new().await, World::across_processes(|region| region).await, World::with(near).await];
    for world in worlds {
        let gate = world.db.close_gate();
        let slow = world.start::<UserById>(1);
        gate.arrived(1).await;
        write(&world, 1).await;
        gate.open_for_good();
        assert_eq!(slow.await.unwrap().version, 0, "it began before");
        world.idle().await;
        assert_eq!(world.trips().last().unwrap(), "shared fill [1]", "it tried");
        assert_eq!(world.sees(1).await, 1);
        world.idle().await;
        assert_eq!(world.sees(1).await, 1);
    }
}

#[tokio::test]
async fn r1_a_fill_does_not_pass_for_that_of_a_later_lease() {
    for world in [World::new().await, World::across_processes(|region| region).await] {
        let gate = world.db.close_gate();
        let old = world.start::<UserById>(1);
        gate.arrived(1).await;
        write(&world, 1).await;
        let new = world.start::<UserById>(1);
        gate.arrived(2).await;
        gate.open(); // the old load, while the lease of the new one stands
        assert_eq!(old.await.unwrap().version, 0);
        world.settle().await;
        assert!(world.trips().contains(&"shared fill [1]".to_owned()), "the old one tried");
        assert!(world.request().peek::<UserById>(1).await.unwrap().is_none(), "and was refused");
        gate.open_for_good();
        assert_eq!(new.await.unwrap().version, 1);
        world.idle().await;
        assert_eq!(world.sees(1).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn r1_a_refresh_in_the_background_does_not_bring_back_what_was_invalidated_meanwhile() {
    let worlds = [World::with(stale).await, World::across_processes(stale).await];
    for world in worlds {
        assert_eq!(world.sees(1).await, 0);
        world.idle().await;
        tokio::time::advance(Duration::from_secs(20)).await;
        let gate = world.db.close_gate();
        assert_eq!(world.sees(1).await, 0, "stale");
        gate.arrived(1).await;
        write(&world, 1).await;
        let new = world.start::<UserById>(1);
        gate.arrived(2).await;
        gate.open_for_good();
        assert_eq!(new.await.unwrap().version, 1);
        world.idle().await;
        assert_eq!(world.sees(1).await, 1);
    }
}

fn stale(region: Region) -> Region {
    region.ttl(Duration::from_secs(10)).stale(Duration::from_secs(60))
}

#[tokio::test]
async fn r2_fences_are_random_and_never_repeat() {
    let mut fences = BTreeSet::new();
    for _ in 0..4 {
        let world = World::new().await;
        world.request().get_many::<UserById>(1..=100).await.unwrap();
        world.idle().await;
        for key in 1..=100 {
            let record = world.record(&format!("user:{key}")).await.unwrap();
            fences.insert(EntryRef::read(&record).unwrap().header().fence.0);
        }
    }
    assert_eq!(fences.len(), 400, "another program on the same store would meet its own old fences");
    let high = fences.iter().filter(|fence| **fence > u64::MAX / 2).count();
    assert!((120..280).contains(&high), "{high} of 400 in the upper half");
}

#[tokio::test]
async fn r3_a_reader_who_meets_a_lease_loads_under_its_fence() {
    let world = World::across_processes(|region| region).await;
    let second = world.second().await;
    let gate = world.db.close_gate();
    let slow = world.start::<UserById>(1);
    gate.arrived(1).await;
    gate.only_those_here();
    assert_eq!(second.sees(1).await, 0, "who holds the lease is not waited for");
    second.idle().await;
    let record = second.record("user:1").await.unwrap();
    assert_eq!(EntryRef::read(&record).unwrap().header().kind, Kind::Value, "stored under that lease");
    gate.open();
    slow.await.unwrap();
    world.idle().await;
    assert_eq!(world.record("user:1").await.unwrap(), record, "and not overwritten by the slow one");
}

#[tokio::test(start_paused = true)]
async fn r3_a_load_that_outlives_its_lease_has_no_right_to_fill_any_more() {
    let world = World::with(|region| region.lease_ttl(Duration::from_secs(1))).await;
    *world.db.takes.lock().unwrap() = Duration::from_secs(5);
    let slow = world.start::<UserById>(1);
    tokio::time::sleep(Duration::from_secs(2)).await; // nothing is left that an invalidation could void
    write(&world, 1).await;
    assert_eq!(slow.await.unwrap().version, 0);
    world.idle().await;
    assert_eq!(world.sees(1).await, 1);
}

#[tokio::test]
async fn r4_what_a_loader_says_is_old_is_not_stored_and_not_shared() {
    let world = world(|region| region).await;
    assert_eq!(*world.request().get::<Snapshot>(1).await.unwrap().unwrap(), 0);
    world.idle().await;
    assert_eq!(world.trips().last().unwrap(), "source load snapshot [1]");
    world.db.update(1);
    assert_eq!(*world.request().get::<Snapshot>(1).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn r6_what_was_made_from_the_older_memory_of_a_request_is_for_that_request_alone() {
    let world = world(|region| region).await;
    let request = world.request();
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 0);
    world.idle().await;
    write(&world, 1).await;
    world.trips();
    assert_eq!(*request.get::<Derived>(101).await.unwrap().unwrap(), 0, "repeatable");
    world.idle().await;
    let cold = ["shared read [101]", "shared lease [101]", "source load derived [101]"];
    assert_eq!(world.trips(), cold, "no fill");

    assert_eq!(*world.request().get::<Derived>(101).await.unwrap().unwrap(), 1);
    world.idle().await;
    assert!(world.trips().contains(&"shared fill [101]".to_owned()), "made from what is fresh");
    assert_eq!(*world.request().get::<Derived>(101).await.unwrap().unwrap(), 1);
    assert_eq!(world.trips(), ["shared read [101]"]);
}

#[tokio::test(start_paused = true)]
async fn r6_what_was_made_from_a_stale_value_is_not_stored() {
    let world = world(stale).await;
    world.sees(1).await;
    world.idle().await;
    tokio::time::advance(Duration::from_secs(20)).await;
    let _gate = world.db.close_gate(); // keeps the refresh from coming first
    let request = world.request();
    assert_eq!(*request.get::<Derived>(101).await.unwrap().unwrap(), 0);
    world.settle().await;
    assert!(!world.trips().contains(&"shared fill [101]".to_owned()));
    world.db.open_gate();
}

/// The flight of an inner object that was sent before an invalidation is still in the table while the answer to that
/// invalidation is on its way. A reader may take what it brings; a loader that stores what it makes of it may not.
#[tokio::test]
async fn r6_a_loader_does_not_take_what_a_load_from_before_it_brings() {
    let world = world(|region| region).await;
    let loads = world.db.close_gate();
    let early = world.start::<UserById>(1);
    loads.arrived(1).await; // it has read the old row
    world.db.update(1);
    let answers = world.shared.after("invalidate");
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    write.invalidate::<Derived>([101]).await.unwrap();
    let write = tokio::spawn(write.published());
    answers.arrived(1).await;
    let derived = world.start::<Derived>(101);
    world.settle().await;
    assert_eq!(world.trips().last().unwrap(), "shared read [1]", "the loader asks for the inner object");
    loads.open_for_good();
    assert_eq!(early.await.unwrap().version, 0);
    assert_eq!(*derived.await.unwrap(), 1);
    world.settle().await; // its fill
    answers.open_for_good();
    write.await.unwrap().unwrap();
    world.idle().await;
    assert_eq!(*world.request().get::<Derived>(101).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn r7_a_write_voids_in_the_order_of_collecting_also_within_one_trip() {
    let world = world(|region| region).await;
    for (first, trip) in [(true, "shared invalidate [2, 1, 101]"), (false, "shared invalidate [101, 2, 1]")] {
        let write = world.request().write();
        if first {
            write.invalidate::<UserById>([2, 1]).await.unwrap();
        }
        write.invalidate::<Derived>([101]).await.unwrap();
        if !first {
            write.invalidate::<UserById>([2, 1]).await.unwrap();
        }
        write.published().await.unwrap();
        assert_eq!(world.trips(), [trip]);
    }
}

#[tokio::test]
async fn r11_records_of_another_incarnation_are_misses() {
    let world = World::new().await;
    world.sees(1).await;
    world.idle().await;
    let old = world.record("user:1").await.unwrap();
    let generation = world.record("@generation").await.unwrap();
    world.db.update(1);
    world.memory.restart();
    // a failover that resurrects everything as it was
    world.plant("user:1", old.clone()).await;
    let value = u64::from_le_bytes(generation[..].try_into().unwrap());
    let stamp = Stamp { key: "mastaba:objects:@generation".into(), value, ttl: None };
    world.memory.invalidate(&[], &[stamp]).await.unwrap();
    assert_eq!(world.sees(1).await, 1);
    world.idle().await;
    assert_ne!(world.record("user:1").await.unwrap(), old, "replaced");
    world.trips();
    assert_eq!(world.sees(1).await, 1);
    assert_eq!(world.trips(), ["shared read [1]"]);
}

#[tokio::test]
async fn r11_a_fill_does_not_survive_a_restart_of_the_store() {
    let world = World::new().await;
    let gate = world.db.close_gate();
    let slow = world.start::<UserById>(1);
    gate.arrived(1).await;
    world.memory.restart();
    write(&world, 1).await;
    gate.open_for_good();
    slow.await.unwrap();
    world.idle().await;
    assert_eq!(world.sees(1).await, 1);
}

/// Who asks for a refresh asks for what is there now.
#[tokio::test]
async fn r5_a_refresh_does_not_take_the_load_of_an_earlier_reader() {
    for world in [World::new().await, World::across_processes(|region| region).await] {
        let gate = world.db.close_gate();
        let early = world.start::<UserById>(1);
        gate.arrived(1).await;
        world.db.update(1); // and nobody has said so yet
        let refresh = tokio::spawn({
            let request = world.request();
            async move { request.refresh::<UserById>(1).await.unwrap().unwrap().version }
        });
        world.settle().await;
        gate.open_for_good();
        assert_eq!(early.await.unwrap().version, 0);
        assert_eq!(refresh.await.unwrap(), 1);
        world.idle().await;
        assert_eq!(world.sees(1).await, 1, "and it is stored");
    }
}

/// What the request remembers is older than the refresh that its read begins: built on it, nothing could be stored.
#[tokio::test(start_paused = true)]
async fn r6_a_refresh_in_the_background_uses_nothing_that_its_request_remembers() {
    let world = world(stale).await;
    assert_eq!(*world.request().get::<Derived>(101).await.unwrap().unwrap(), 0);
    world.idle().await;
    tokio::time::advance(Duration::from_secs(20)).await;
    let request = world.request();
    assert_eq!(request.refresh::<UserById>(1).await.unwrap().unwrap().version, 0, "remembered from now on");
    world.idle().await;
    write(&world, 1).await;
    assert_eq!(*request.get::<Derived>(101).await.unwrap().unwrap(), 0, "stale");
    world.idle().await;
    world.trips();
    let found = world.request().get_outcomes::<Derived>([101]).await;
    assert!(matches!(found[&101], Outcome::Value { tier: Tier::Shared, .. }), "{found:?}");
    assert_eq!(**found[&101].value().unwrap().unwrap(), 1, "the refresh has stored what is there now");
}
