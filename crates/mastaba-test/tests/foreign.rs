//! Records that are damaged, not ours, or from before a source had a tag.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mastaba::shared::memory::Memory;
use mastaba::{Cache, LoadContext, Region, Rows, Source};
use mastaba_test::world::{DbError, UserById, Watched, World};

/// The record of user 1 in a new world, version 0, while the database has moved on to version 1.
async fn outdated() -> (World, Bytes) {
    let world = World::new().await;
    world.sees(1).await;
    world.idle().await;
    let record = world.record("user:1").await.unwrap();
    world.db.update(1);
    world.trips();
    (world, record)
}

/// A read meets this record: it has to miss, tell, load, and replace it.
async fn is_a_miss(world: &World, record: Vec<u8>, why: &str) {
    let told = world.events().len();
    world.plant("user:1", record.clone()).await;
    assert_eq!(world.sees(1).await, 1, "{why}");
    let events = world.events();
    assert!(events.len() > told, "{why}: not told");
    assert!(
        events[told].starts_with("source user: the record under mastaba:objects:user:1 counts as a miss: ")
    );
    assert!(events[told].ends_with(why), "{} is not {why}", events[told]);
    world.idle().await;
    assert_ne!(world.record("user:1").await.unwrap(), record, "{why}: not replaced");
    world.trips();
    assert_eq!(world.sees(1).await, 1);
    assert_eq!(world.trips(), ["shared read [1]"], "{why}: not replaced by a sound one");
}

#[tokio::test]
async fn every_flipped_bit_is_a_miss_that_is_told_and_replaced() {
    let (world, record) = outdated().await;
    world.plant("user:1", record.clone()).await;
    assert_eq!(world.sees(1).await, 0, "whole it would be served");
    for bit in (0..record.len() * 8).step_by(5) {
        let mut damaged = record.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        is_a_miss(&world, damaged, "").await;
    }
}

#[tokio::test]
async fn a_truncated_record_is_a_miss_at_every_length() {
    let (world, record) = outdated().await;
    for length in 0..record.len() {
        is_a_miss(&world, record[..length].to_vec(), "").await;
    }
    is_a_miss(
        &world,
        [&record[..], b"x"].concat(),
        "the checksum of the entry does not match: it is damaged",
    )
    .await;
}

#[tokio::test]
async fn bytes_of_others_are_a_miss() {
    let (world, record) = outdated().await;
    is_a_miss(&world, b"hello".to_vec(), "the record is shorter than the header of an entry").await;
    is_a_miss(&world, vec![b'{'; 500], "the record was not written by Mastaba").await;
    let mut newer = record.to_vec();
    newer[2] = 99;
    is_a_miss(&world, newer, "the entry has a layout that this version does not know").await;
}

#[tokio::test]
async fn a_damaged_record_costs_the_others_of_its_batch_nothing() {
    let world = World::new().await;
    world.request().get_many::<UserById>([1, 2, 3]).await.unwrap();
    world.idle().await;
    world.plant("user:2", "nonsense").await;
    world.trips();
    assert_eq!(world.request().get_many::<UserById>([1, 2, 3]).await.unwrap().found().count(), 3);
    world.idle().await;
    let trips = ["shared read [1, 2, 3]", "shared lease [2]", "source load user [2]", "shared fill [2]"];
    assert_eq!(world.trips(), trips);
}

type Trips = Arc<Mutex<Vec<String>>>;

async fn program<S: Source>(memory: &Memory, trips: &Trips, source: S) -> Cache {
    let watched = Watched::<_, true>::new(memory.clone(), trips.clone());
    let region = Region::backend(watched).jitter(0.0);
    Cache::builder().region("objects", region).source(source).build().await.unwrap()
}

macro_rules! badge {
    ($name:ident, $tags:expr) => {
        struct $name(Arc<Mutex<u32>>);

        impl Source for $name {
            type Key = u64;
            type Value = u32;
            type Error = DbError;
            const NAME: &'static str = "badge";
            const REGION: &'static str = "objects";
            const TAGS: &'static [&'static str] = $tags;

            async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
                let number = *self.0.lock().unwrap();
                Ok(ids.iter().map(|id| (*id, number)).collect())
            }
        }
    };
}

badge!(Untagged, &[]);
badge!(OfTeam, &["team"]);
badge!(OfTeamAndFloor, &["team", "floor"]);

/// An invalidation of the new tag would not reach it.
#[tokio::test]
async fn an_entry_from_before_its_source_had_one_of_its_tags_is_a_miss() {
    let (memory, number, trips) = (Memory::default(), Arc::new(Mutex::new(1)), Trips::default());
    let first = program(&memory, &trips, Untagged(number.clone())).await;
    assert_eq!(*first.request().get::<Untagged>(1).await.unwrap().unwrap(), 1);
    first.idle().await;
    *number.lock().unwrap() = 2;
    let second = program(&memory, &trips, OfTeam(number.clone())).await;
    assert_eq!(*second.request().get::<OfTeam>(1).await.unwrap().unwrap(), 2);
    second.idle().await;
    *number.lock().unwrap() = 3;
    let third = program(&memory, &trips, OfTeamAndFloor(number.clone())).await;
    assert_eq!(*third.request().get::<OfTeamAndFloor>(1).await.unwrap().unwrap(), 3);
    third.idle().await;
    *number.lock().unwrap() = 4;
    let third = program(&memory, &trips, OfTeamAndFloor(number)).await;
    assert_eq!(*third.request().get::<OfTeamAndFloor>(1).await.unwrap().unwrap(), 3, "it has all of them");
}
