//! Writes: what they void and when, what their own request sees, and what happens when they go wrong.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use mastaba::{Cache, Force, LoadContext, NearConfig, Region, Replicated, RequestCache, Rows, Source, Tier};
use mastaba_test::world::{DbError, Photo, PhotoById, User, UserById, World};

async fn version(request: &RequestCache, key: u64) -> u32 {
    request.get::<UserById>(key).await.unwrap().unwrap().version
}

fn near(region: Region) -> Region {
    region.near(NearConfig::entries(1000))
}

/// A world whose tiers know users 1 to 3.
async fn warm(configure: impl FnOnce(Region) -> Region) -> World {
    let world = World::with(configure).await;
    world.request().get_many::<UserById>([1, 2, 3]).await.unwrap();
    world.idle().await;
    world.trips();
    world
}

#[tokio::test]
async fn a_write_voids_nothing_before_it_is_published_and_everything_when_it_has_been() {
    for configure in [near as fn(Region) -> Region, |region| region] {
        let world = warm(configure).await;
        let write = world.request().write();
        write.invalidate::<UserById>([1, 2]).await.unwrap();
        assert_eq!(world.trips(), [""; 0], "collecting costs no trip");
        world.db.update(1);
        assert_eq!(world.sees(1).await, 0, "not yet");
        world.trips();
        write.published().await.unwrap();
        assert_eq!(world.trips(), ["shared invalidate [1, 2]"]);
        assert_eq!(world.sees(1).await, 1);
        world.trips();
        world.sees(3).await;
        assert!(!world.trips().iter().any(|trip| trip.starts_with("source")), "what it did not name stays");
    }
}

#[tokio::test]
async fn a_write_that_is_dropped_voids_nothing_and_says_so() {
    let world = warm(near).await;
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([1, 2, 3]).await.unwrap();
    write.invalidate::<PhotoById>([1]).await.unwrap();
    write.invalidate_tag("team");
    drop(write);
    drop(request.write());
    world.idle().await;
    assert_eq!(world.trips(), [""; 0]);
    let events =
        ["a write was dropped before it was published: 5 keys, tags and regions were not invalidated \
          (user, photo: 1, 2, 3, 1, ..)"];
    assert_eq!(world.events(), events);
    world.db.update(1);
    assert_eq!(world.sees(1).await, 0);
}

#[tokio::test]
async fn a_write_that_is_dropped_leaves_near_as_it_was() {
    let world = warm(near).await;
    assert_eq!(world.sees(1).await, 0);
    world.trips();
    assert_eq!(world.sees(1).await, 0);
    assert_eq!(world.trips(), [""; 0], "near has it");
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    drop(write);
    assert_eq!(world.sees(1).await, 0);
    assert_eq!(world.trips(), [""; 0], "near has it still");
}

#[tokio::test]
async fn what_a_request_reads_inside_a_write_is_forgotten_when_the_write_is_dropped() {
    let world = warm(|region| region).await;
    for wide in [false, true] {
        let request = world.request();
        let write = request.write();
        if wide {
            write.clear("objects").unwrap();
        } else {
            write.invalidate::<UserById>([1]).await.unwrap();
        }
        let inside = version(&request, 1).await;
        world.db.update(1); // in place of a rollback: what the request has read is not what is there now
        assert_eq!(version(&request, 1).await, inside, "the request remembers what it read");
        drop(write);
        world.request().invalidate::<UserById>([1]).await.unwrap();
        assert_eq!(version(&request, 1).await, inside + 1, "wide: {wide}");
    }
}

#[tokio::test]
async fn a_write_whose_publishing_is_never_polled_was_dropped() {
    let world = warm(near).await;
    let write = world.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    drop(write.published());
    world.idle().await;
    assert_eq!(world.trips(), [""; 0]);
    assert_eq!(world.events().len(), 1, "{:?}", world.events());
}

#[tokio::test]
async fn a_request_reads_its_own_writes_from_the_writer_and_others_what_was_before() {
    let world = warm(|region| region).await;
    let request = world.request();
    assert_eq!(version(&request, 1).await, 0);
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    world.db.update(1);
    world.trips();
    assert_eq!(version(&request, 1).await, 1);
    assert_eq!(version(&request, 1).await, 1);
    world.idle().await;
    assert_eq!(world.trips(), ["source load user from the writer [1]"], "once, and not filled");
    assert_eq!(world.sees(1).await, 0, "others do not see it before it is published");

    world.db.update(1); // in the same transaction, after the read
    write.published().await.unwrap();
    world.trips();
    assert_eq!(version(&request, 1).await, 2, "what was read before the commit is forgotten");
    world.idle().await;
    assert_eq!(world.trips(), ["source load user from the writer [1]"]);
    assert_eq!(world.sees(1).await, 2);
}

#[tokio::test]
async fn what_a_request_that_wrote_reads_beside_comes_from_the_writer_too_and_is_stored() {
    let world = World::new().await;
    let request = world.request();
    request.invalidate::<UserById>([1]).await.unwrap();
    world.trips();
    version(&request, 2).await;
    world.idle().await;
    let cold =
        ["shared read [2]", "shared lease [2]", "source load user from the writer [2]", "shared fill [2]"];
    assert_eq!(world.trips(), cold);
}

#[tokio::test]
async fn a_key_that_a_request_wrote_neither_joins_a_load_nor_is_joined() {
    let world = World::new().await;
    let gate = world.db.close_gate();
    let before = world.start::<UserById>(1);
    gate.arrived(1).await;
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    world.db.update(1);
    let own = tokio::spawn(async move { version(&request, 1).await });
    gate.arrived(2).await;
    let other = world.start::<UserById>(2);
    let joins = world.start::<UserById>(1);
    gate.arrived(3).await;
    world.settle().await;
    gate.open_for_good();
    assert_eq!(own.await.unwrap(), 1);
    assert_eq!(before.await.unwrap().version, 0);
    assert_eq!(joins.await.unwrap().version, 0, "it joined the one before, which nothing has voided yet");
    other.await.unwrap();
    write.published().await.unwrap();
    assert_eq!(world.sees(1).await, 1);
}

#[tokio::test]
async fn a_write_by_tag_or_of_a_region_reads_everything_from_the_source_until_it_is_published() {
    for by_tag in [true, false] {
        let world = warm(near).await;
        let request = world.request();
        assert_eq!(version(&request, 1).await, 0);
        let write = request.write();
        if by_tag {
            write.invalidate_tag("team");
        } else {
            write.clear("objects").unwrap();
        }
        world.db.update(1);
        world.trips();
        assert_eq!(version(&request, 1).await, 1);
        assert_eq!(world.trips(), ["source load user from the writer [1]"]);
        write.published().await.unwrap();
        let voided =
            if by_tag { "shared invalidate [@tags, #team]" } else { "shared invalidate [@generation]" };
        assert_eq!(world.trips(), [voided]);
        version(&request, 2).await;
        let known = if by_tag { 0 } else { 1 };
        assert_eq!(world.loads().len(), known, "tiers are asked again");
        assert_eq!(world.sees(1).await, u32::from(!by_tag), "users stand under no tag");
    }
}

#[tokio::test]
async fn a_write_of_what_does_not_exist_is_an_error_that_names_what_does() {
    let world = World::new().await;
    let error = world.request().write().clear("objcets").unwrap_err();
    assert!(error.is_usage());
    assert_eq!(error.to_string(), "there is no region \"objcets\"; configured: objects");
    let cache = Cache::builder().region("objects", Region::memory()).build().await.unwrap();
    let write = cache.request().write();
    let error = write.invalidate::<UserById>([1]).await.unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("source user"), "{error}");
}

#[tokio::test]
async fn an_invalidation_at_once_is_one_trip_for_many_keys() {
    let world = warm(near).await;
    [1, 2, 3].iter().for_each(|key| assert_eq!(world.db.update(*key), 1));
    world.request().invalidate::<UserById>([3, 1, 1, 2]).await.unwrap();
    assert_eq!(world.trips(), ["shared invalidate [3, 1, 2]"]);
    for key in 1..=3 {
        assert_eq!(world.sees(key).await, 1);
    }
    world.request().invalidate::<UserById>([]).await.unwrap();
}

#[tokio::test]
async fn a_put_is_seen_by_its_request_and_voids_the_other_tiers() {
    let world = warm(near).await;
    let request = world.request();
    world.db.update(1);
    let user = User { version: 77, ..world.db.user(1).unwrap() };
    request.put::<UserById>(1, user).await.unwrap();
    assert_eq!(world.trips(), ["shared invalidate [1]"]);
    assert_eq!(version(&request, 1).await, 77);
    assert_eq!(world.trips(), [""; 0]);
    assert_eq!(world.sees(1).await, 1, "others load what is committed");
    assert_eq!(version(&request, 1).await, 77);
}

#[tokio::test]
async fn a_refresh_replaces_what_every_tier_has() {
    let world = warm(near).await;
    let request = world.request();
    assert_eq!(version(&request, 1).await, 0);
    world.db.update(1);
    assert_eq!(request.refresh::<UserById>(1).await.unwrap().unwrap().version, 1);
    world.idle().await;
    assert_eq!(world.trips(), ["shared read [1]", "source load user [1]", "shared fill [1]"]);
    assert_eq!(version(&request, 1).await, 1);
    assert_eq!(world.sees(1).await, 1);
    assert_eq!(world.trips(), [""; 0], "near has it");
}

#[tokio::test]
async fn an_invalidation_that_is_not_confirmed_voids_near_and_the_request_and_is_sent_again() {
    let world = warm(near).await;
    let request = world.request();
    assert_eq!(version(&request, 1).await, 0);
    world.db.update(1);
    world.shared.down(&["invalidate"]);
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    write.invalidate_tag("team");
    write.invalidate::<PhotoById>([7]).await.unwrap();
    let published = write.published().await.unwrap();
    let error = published.error().unwrap().clone();
    assert!(error.is_shared() && !error.is_source());
    assert!(
        error.to_string().starts_with("region objects: the invalidation is not confirmed yet"),
        "{error}"
    );
    assert!(error.to_string().ends_with("unplugged by the test"), "{error}");
    let mut tried = world.trips();
    tried.dedup();
    let steps = ["shared invalidate [1]", "shared invalidate [@tags, #team]", "shared invalidate [7]"];
    assert_eq!(tried, steps, "every step is tried");
    assert_eq!(version(&request, 1).await, 1);
    let seen = world.request().get_outcomes::<UserById>([1]).await;
    assert_eq!(seen[&1].tier(), Some(Tier::Source), "no tier of this process goes back in time");

    world.shared.down(&[]);
    published.confirmed(Duration::from_secs(10)).await.unwrap();
    world.trips();
    assert_eq!(world.sees(1).await, 1, "without trying again");
    world.idle().await;
    assert!(world.trips().contains(&"shared fill [1]".to_owned()), "and stored again");
}

/// What near takes in between would stay: the shared tier still has the old value.
#[tokio::test]
async fn near_is_voided_after_the_shared_tier_and_not_before_it() {
    let world = warm(near).await;
    let gate = world.shared.before("invalidate");
    world.db.update(1);
    let write = tokio::spawn({
        let request = world.request();
        async move { request.invalidate::<UserById>([1]).await }
    });
    gate.arrived(1).await;
    assert_eq!(world.sees(1).await, 0, "nothing is acknowledged yet");
    world.settle().await;
    gate.open_for_good();
    write.await.unwrap().unwrap();
    assert_eq!(world.sees(1).await, 1);
}

#[tokio::test]
async fn publishing_goes_on_to_its_end_when_its_future_is_dropped() {
    let world = warm(near).await;
    let invalidations = world.shared.before("invalidate");
    let write = world.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    write.invalidate_tag("team");
    write.invalidate::<UserById>([2]).await.unwrap();
    world.db.update(1);
    world.db.update(2);
    let mut published = Box::pin(write.published());
    assert!((&mut published).now_or_never().is_none());
    invalidations.arrived(1).await;
    drop(published);
    invalidations.open_for_good();
    world.idle().await;
    assert_eq!(world.events(), [""; 0]);
    let trips = ["shared invalidate [1]", "shared invalidate [@tags, #team]", "shared invalidate [2]"];
    assert_eq!(world.trips(), trips);
    assert_eq!((world.sees(1).await, world.sees(2).await), (1, 1));
}

#[tokio::test]
async fn a_fill_of_the_same_request_does_not_bring_back_what_it_wrote_meanwhile() {
    let world = World::new().await;
    let request = world.request();
    let gate = world.db.close_gate();
    let slow = tokio::spawn({
        let request = request.clone();
        async move { version(&request, 1).await }
    });
    gate.arrived(1).await;
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    world.db.update(1);
    write.published().await.unwrap();
    gate.open_for_good();
    assert_eq!(slow.await.unwrap(), 0, "it began before");
    world.idle().await;
    assert_eq!(version(&request, 1).await, 1, "and is not remembered");
    assert_eq!(world.sees(1).await, 1);
}

/// Says which database it read.
struct Where(Replicated<&'static str>);

impl Source for Where {
    type Key = u64;
    type Value = String;
    type Error = DbError;
    const NAME: &'static str = "where";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        Ok(ids.iter().map(|id| (*id, (*self.0.pick(cx)).to_owned())).collect())
    }
}

#[tokio::test]
async fn a_replica_is_read_for_what_is_not_stored_and_if_it_may_lag_by_requests_that_did_not_write() {
    let cases = [
        (Replicated::consistent("writer", "reader"), ["writer", "reader", "writer"]),
        (Replicated::lagging("writer", "reader"), ["reader", "reader", "writer"]),
    ];
    for (pools, expected) in cases {
        let cache =
            Cache::builder().region("objects", Region::memory()).source(Where(pools)).build().await.unwrap();
        let request = cache.request();
        let stored = request.get::<Where>(1).await.unwrap().unwrap();
        let unstored = request.with(Force::PastShared).get::<Where>(2).await.unwrap().unwrap();
        request.invalidate::<Where>([9]).await.unwrap();
        let after = request.with(Force::PastShared).get::<Where>(3).await.unwrap().unwrap();
        assert_eq!([&**stored, &**unstored, &**after], expected);
    }
}

#[tokio::test]
async fn many_values_are_put_in_one_trip() {
    let world = World::new().await;
    let request = world.request();
    let photo = |id| Arc::new(Photo { id, url: "new".into() });
    request.put_many::<PhotoById>((1..=3).map(|id| (id, photo(id)))).await.unwrap();
    assert_eq!(world.trips(), ["shared invalidate [1, 2, 3]"]);
    let photos = request.get_many::<PhotoById>(1..=3).await.unwrap();
    let urls: Vec<_> = photos.found().map(|(id, photo)| (*id, photo.url.as_str())).collect();
    assert_eq!(urls, [(1, "new"), (2, "new"), (3, "new")]);
    assert_eq!(world.trips(), [""; 0]);
}
