//! Stamps and near: what was read before something was voided does not answer after it, wherever it stands (`R12`, `R13`).

use std::sync::{Arc, Mutex};

use mastaba::shared::memory::Memory;
use mastaba::shared::{Abilities, Listener, Shared};
use mastaba::{Cache, Coherence, Fault, NearConfig, Region};
use mastaba_test::world::{UserById, Watched, World};

use super::{Guest, Member, near, over, world, write};

#[tokio::test]
async fn r12_a_region_is_cleared_in_one_trip_in_shared_and_near() {
    for configure in [near as fn(Region) -> Region, |region| region] {
        let world = world(configure).await;
        world.request().get_many::<UserById>(1..=50).await.unwrap();
        world.idle().await;
        for key in 1..=50 {
            world.db.update(key);
        }
        assert_eq!(world.sees(1).await, 0);
        world.trips();
        world.cache.region("objects").clear().await.unwrap();
        assert_eq!(world.trips(), ["shared invalidate [@generation]"]);
        let users = world.request().get_many::<UserById>(1..=50).await.unwrap();
        let versions: Vec<_> = users.found().map(|(id, user)| (*id, user.version)).collect();
        assert_eq!(versions, (1..=50).map(|id| (id, 1)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn r12_a_load_from_before_a_clear_is_not_served_after_it() {
    for configure in [near as fn(Region) -> Region, |region| region] {
        let world = world(configure).await;
        let gate = world.db.close_gate();
        let slow = world.start::<UserById>(1);
        gate.arrived(1).await;
        world.db.update(1);
        world.cache.region("objects").clear().await.unwrap();
        let new = world.start::<UserById>(1);
        gate.arrived(2).await;
        gate.open_for_good();
        assert_eq!((slow.await.unwrap().version, new.await.unwrap().version), (0, 1));
        world.idle().await;
        assert_eq!(world.sees(1).await, 1);
    }
}

#[tokio::test]
async fn r12_tags_of_a_source_travel_with_the_values_and_those_of_a_value_in_one_trip_more() {
    let world = world(|region| region).await;
    world.request().get_many::<Member>([1, 2, 101]).await.unwrap();
    world.idle().await;
    world.trips();
    world.request().get::<Member>(101).await.unwrap();
    assert_eq!(world.trips(), ["shared read [101, #team]"]);
    world.request().get_many::<Member>([1, 2, 101]).await.unwrap();
    assert_eq!(world.trips(), ["shared read [1, 2, 101, #team]", "shared read [#member-1, #member-2]"]);
}

#[tokio::test]
async fn r12_an_invalidated_tag_voids_what_stands_under_it_in_shared_and_near() {
    for configure in [near as fn(Region) -> Region, |region| region] {
        let world = world(configure).await;
        let seen = async || {
            let members = world.request().get_many::<Member>([1, 2, 101]).await.unwrap();
            world.idle().await;
            members.found().map(|(_, version)| **version).collect::<Vec<_>>()
        };
        assert_eq!(seen().await, [0, 0, 0]);
        for key in [1, 2, 101] {
            world.db.update(key);
        }
        assert_eq!(seen().await, [0, 0, 0]);
        world.trips();
        world.cache.region("objects").invalidate_tag("member-2").await.unwrap();
        assert_eq!(world.trips(), ["shared invalidate [@tags, #member-2]"]);
        assert_eq!(seen().await, [0, 1, 0]);
        world.cache.region("objects").invalidate_tag("nobody").await.unwrap();
        assert_eq!(seen().await, [0, 1, 0]);
        world.cache.region("objects").invalidate_tag("team").await.unwrap();
        assert_eq!(seen().await, [1, 1, 1]);
    }
}

#[tokio::test]
async fn r12_a_tag_that_is_invalidated_between_load_and_fill_keeps_the_fill_from_being_served() {
    for configure in [near as fn(Region) -> Region, |region| region] {
        for tag in ["team", "member-1"] {
            let world = world(configure).await;
            let gate = world.db.close_gate();
            let slow = world.start::<Member>(1);
            gate.arrived(1).await;
            world.db.update(1);
            world.cache.region("objects").invalidate_tag(tag).await.unwrap();
            gate.open_for_good();
            assert_eq!(*slow.await.unwrap(), 0);
            world.idle().await;
            assert_eq!(*world.request().get::<Member>(1).await.unwrap().unwrap(), 1, "{tag}");
        }
    }
}

#[tokio::test]
async fn r12_a_stamp_that_was_evicted_voids_what_stands_under_it() {
    for stamp in ["#team", "#member-1", "@generation"] {
        let world = world(|region| region).await;
        world.request().get::<Member>(1).await.unwrap();
        world.idle().await;
        world.db.update(1);
        let key = format!("mastaba:objects:{stamp}").into();
        world.memory.invalidate(&[key], &[]).await.unwrap();
        assert_eq!(*world.request().get::<Member>(1).await.unwrap().unwrap(), 1, "{stamp}");
    }
}

/// A world with an empty near over a shared tier that has user 1 and member 101.
async fn with_near_over_a_filled_tier() -> World {
    let filler = world(|region| region).await;
    let request = filler.request();
    request.get::<UserById>(1).await.unwrap();
    request.get::<Member>(101).await.unwrap();
    filler.idle().await;
    over(filler.memory.clone(), near).await
}

/// The stamp of a tag that another source of the batch names for all its entries is there at once, and no trip is needed.
#[tokio::test]
async fn r12_a_tag_of_a_value_voids_it_in_near_also_where_its_stamp_came_with_the_values() {
    let filler = world(|region| region).await;
    filler.request().get::<Member>(101).await.unwrap();
    filler.request().get::<Guest>(1).await.unwrap();
    filler.idle().await;
    let world = over(filler.memory.clone(), near).await;
    let request = world.request();
    let (member, guest) = tokio::join!(request.get::<Member>(101), request.get::<Guest>(1));
    assert_eq!((*member.unwrap().unwrap(), *guest.unwrap().unwrap()), (0, 0));
    assert_eq!(world.trips(), ["shared read [101, 1, #team]"], "one trip, with the stamp");
    assert_eq!(*world.request().get::<Guest>(1).await.unwrap().unwrap(), 0);
    assert_eq!(world.trips(), [""; 0], "near has it");
    world.db.update(1);
    world.cache.region("objects").invalidate_tag("team").await.unwrap();
    assert_eq!(*world.request().get::<Guest>(1).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn r13_what_was_read_before_an_invalidation_does_not_enter_near_after_it() {
    let world = with_near_over_a_filled_tier().await;
    let reads = world.shared.after("read");
    let slow = world.start::<UserById>(1);
    reads.arrived(1).await;
    write(&world, 1).await;
    reads.open_for_good();
    assert_eq!(slow.await.unwrap().version, 0);
    world.idle().await;
    assert_eq!(world.sees(1).await, 1);
    world.idle().await;
    world.trips();
    assert_eq!(world.sees(1).await, 1);
    assert_eq!(world.trips(), [""; 0], "near has the new one");
}

#[tokio::test]
async fn r13_what_was_read_before_a_clear_or_a_tag_does_not_enter_near_after_it() {
    for clear in [true, false] {
        let world = with_near_over_a_filled_tier().await;
        let reads = world.shared.after("read");
        let slow = world.start::<Member>(101);
        reads.arrived(1).await;
        world.db.update(101);
        let region = world.cache.region("objects");
        if clear {
            region.clear().await.unwrap();
        } else {
            region.invalidate_tag("team").await.unwrap();
        }
        reads.open_for_good();
        assert_eq!(*slow.await.unwrap(), 0);
        world.idle().await;
        assert_eq!(*world.request().get::<Member>(101).await.unwrap().unwrap(), 1, "{clear}");
    }
}

/// A shared tier that other processes write to, and that tells of their changes when the test does.
#[derive(Clone)]
struct Telling {
    inner: Watched<Memory, true>,
    listener: Arc<Mutex<Option<Arc<dyn Listener>>>>,
}

impl Telling {
    /// Another process has changed this key, and its notification has come.
    fn changed(&self, key: &str) {
        let listener = self.listener.lock().unwrap().clone();
        listener.expect("somebody listens").changed(format!("mastaba:objects:{key}").as_bytes());
    }
}

impl Shared for Telling {
    const ABILITIES: Abilities = Abilities { tells: true, ..Watched::<Memory, true>::ABILITIES };

    mastaba_test::pass_on!(inner: read, lease, fill, invalidate, hold, end, incarnation);

    fn listen(&self, _: &[u8], listener: Arc<dyn Listener>) {
        *self.listener.lock().unwrap() = Some(listener);
    }

    async fn catch_up(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Near must not answer with what was read before a change that another process made, whether the read was a hit or a
/// load of its own.
#[tokio::test]
async fn r13_what_was_read_before_a_change_elsewhere_does_not_answer_from_near_after_it() {
    for hit in [true, false] {
        let world = World::across_processes(|region| region).await; // the other process
        let inner = Watched::<_, true>::new(world.memory.clone(), Arc::default());
        let shared = inner.control();
        let telling = Telling { inner, listener: Arc::default() };
        let near = NearConfig::entries(100).coherence(Coherence::Fenced);
        let cache = Cache::builder()
            .region("objects", Region::backend(telling.clone()).jitter(0.0).early_refresh(0.0).near(near))
            .source(UserById(world.db.clone()))
            .build()
            .await
            .unwrap();
        if hit {
            world.sees(1).await;
            world.idle().await;
        }
        let gate = shared.after(if hit { "read" } else { "fill" });
        let slow = tokio::spawn({
            let request = cache.request();
            async move { request.get::<UserById>(1).await.unwrap().unwrap().version }
        });
        gate.arrived(1).await;
        write(&world, 1).await;
        telling.changed("user:1");
        gate.open_for_good();
        assert_eq!(slow.await.unwrap(), 0, "it began before the write");
        cache.idle().await;
        let after = cache.request().get::<UserById>(1).await.unwrap().unwrap().version;
        assert_eq!(after, 1, "hit: {hit}");
    }
}
