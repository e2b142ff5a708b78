//! Records that are damaged, not ours, or from before a source had a tag.

use std::sync::{Arc, Mutex};
use std::time::Duration;

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

/// A read meets what damage made of a record: it has to miss, say so once, load, and replace it. A cache of its own for
/// each, since one says the same only once a minute.
async fn is_a_miss(damage: impl FnOnce(&[u8]) -> Vec<u8>, why: &str) {
    let (world, record) = outdated().await;
    let record = damage(&record);
    world.plant("user:1", record.clone()).await;
    assert_eq!(world.sees(1).await, 1, "{why}");
    let mut events = world.events();
    events.retain(|event| !event.contains("over its soft budget")); // a busy machine
    assert_eq!(events.len(), 1, "{why}: {events:?}");
    assert!(events[0].starts_with("source user: the record under mastaba:objects:user:1 counts as a miss: "));
    assert!(events[0].ends_with(why), "{} is not {why}", events[0]);
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
        let flip = |record: &[u8]| {
            let mut damaged = record.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            damaged
        };
        is_a_miss(flip, "").await;
    }
}

#[tokio::test]
async fn a_truncated_record_is_a_miss_at_every_length() {
    let (_, record) = outdated().await;
    for length in 0..record.len() {
        is_a_miss(|record| record[..length].to_vec(), "").await;
    }
    let longer = |record: &[u8]| [record, b"x"].concat();
    is_a_miss(longer, "the checksum of the entry does not match: it is damaged").await;
}

#[tokio::test]
async fn bytes_of_others_are_a_miss() {
    is_a_miss(|_| b"hello".to_vec(), "the record is shorter than the header of an entry").await;
    is_a_miss(|_| vec![b'{'; 500], "the record was not written by Mastaba").await;
    let newer = |record: &[u8]| {
        let mut newer = record.to_vec();
        newer[2] = 99;
        newer
    };
    is_a_miss(newer, "the entry has a layout that this version does not know").await;
}

/// What a version of the program from before the second layout has written, or writes just now beside this one.
#[tokio::test]
async fn a_record_of_the_first_layout_is_a_miss_that_is_replaced_whatever_it_is() {
    for kind in 1..=4 {
        let of_old = |_: &[u8]| {
            let mut record = vec![0; 88];
            record[..4].copy_from_slice(&[b'M', b't', 1, kind]);
            record[8..].fill(7);
            record.extend_from_slice(b"payload");
            record
        };
        is_a_miss(of_old, "the entry has a layout that this version does not know").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_many_records_is_said_once_a_minute_with_their_number() {
    let world = World::new().await;
    for key in 1..=20 {
        world.plant(&format!("user:{key}"), "nonsense").await;
    }
    world.request().get_many::<UserById>(1..=20).await.unwrap();
    assert_eq!(world.events().len(), 1, "{:?}", world.events());
    world.idle().await;
    tokio::time::advance(Duration::from_secs(61)).await;
    world.plant("user:1", "nonsense").await;
    world.sees(1).await;
    let events = world.events();
    let last = "(and 19 more like it since this was said last)";
    assert!(events.len() == 2 && events[1].ends_with(last), "{events:?}");
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

/// An invalidation of the new tag would not reach it. Just written, it is left to the version of the program that has the
/// tags that it has: so each program here comes a minute after the one before.
#[tokio::test(start_paused = true)]
async fn an_entry_from_before_its_source_had_one_of_its_tags_is_a_miss() {
    let (memory, number, trips) = (Memory::default(), Arc::new(Mutex::new(1)), Trips::default());
    let first = program(&memory, &trips, Untagged(number.clone())).await;
    assert_eq!(*first.request().get::<Untagged>(1).await.unwrap().unwrap(), 1);
    first.idle().await;
    tokio::time::advance(Duration::from_secs(66)).await;
    *number.lock().unwrap() = 2;
    let second = program(&memory, &trips, OfTeam(number.clone())).await;
    assert_eq!(*second.request().get::<OfTeam>(1).await.unwrap().unwrap(), 2);
    second.idle().await;
    tokio::time::advance(Duration::from_secs(66)).await;
    *number.lock().unwrap() = 3;
    let third = program(&memory, &trips, OfTeamAndFloor(number.clone())).await;
    assert_eq!(*third.request().get::<OfTeamAndFloor>(1).await.unwrap().unwrap(), 3);
    third.idle().await;
    *number.lock().unwrap() = 4;
    let third = program(&memory, &trips, OfTeamAndFloor(number)).await;
    assert_eq!(*third.request().get::<OfTeamAndFloor>(1).await.unwrap().unwrap(), 3, "it has all of them");
}
