//! How long entries live, in every tier; what is served when it is late.

use std::time::Duration;

use mastaba::{Cache, EntryPolicy, LoadContext, NearConfig, Policy, Region, Rows, Source, Tier};
use mastaba_test::world::{DbFault, PostById, UserById, World};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn reads(world: &World, key: u64) -> Vec<String> {
    world.trips();
    world.request().get::<UserById>(key).await.unwrap();
    world.idle().await;
    world.loads()
}

#[tokio::test(start_paused = true)]
async fn values_and_absences_have_times_of_their_own() {
    let world = World::with(|region| region.ttl(60 * SECOND).absent_ttl(10 * SECOND)).await;
    reads(&world, 1).await;
    reads(&world, 2000).await;
    tokio::time::advance(9 * SECOND).await;
    assert!(reads(&world, 1).await.is_empty() && reads(&world, 2000).await.is_empty());
    tokio::time::advance(2 * SECOND).await;
    assert!(reads(&world, 1).await.is_empty());
    assert_eq!(reads(&world, 2000).await.len(), 1, "the absence is over");
    tokio::time::advance(50 * SECOND).await;
    assert_eq!(reads(&world, 1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn near_forgets_when_the_entry_does_or_sooner() {
    let near = NearConfig::entries(100).ttl(Some(5 * SECOND));
    let world = World::with(|region| region.ttl(60 * SECOND).near(near)).await;
    reads(&world, 1).await;
    world.request().get::<UserById>(1).await.unwrap();
    world.trips();
    world.request().get::<UserById>(1).await.unwrap();
    assert_eq!(world.trips(), [""; 0], "near");
    tokio::time::advance(6 * SECOND).await;
    world.request().get::<UserById>(1).await.unwrap();
    assert_eq!(world.trips(), ["shared read [1]"]);
    tokio::time::advance(60 * SECOND).await;
    assert_eq!(reads(&world, 1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn stale_is_served_at_once_and_refreshed_once_in_the_background() {
    let world = World::with(|region| region.ttl(60 * SECOND).stale(3600 * SECOND)).await;
    reads(&world, 1).await;
    world.db.update(1);
    tokio::time::advance(61 * SECOND).await;
    let gate = world.db.close_gate();
    let requests: Vec<_> = (0..5).map(|_| world.request()).collect();
    for request in &requests {
        let users = request.get_outcomes::<UserById>([1]).await;
        assert!(users[&1].is_stale());
        assert_eq!(users[&1].value().unwrap().unwrap().version, 0);
        assert_eq!(request.report().statements(), 0, "nobody waits for the refresh");
    }
    gate.open_for_good();
    world.idle().await;
    assert_eq!(world.db.started(), 2, "one refresh for all of them");
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
}

#[tokio::test(start_paused = true)]
async fn a_value_past_its_time_is_served_when_the_source_fails_and_only_then() {
    let world = World::with(|region| region.ttl(60 * SECOND).stale_if_error(3600 * SECOND)).await;
    reads(&world, 1).await;
    world.db.update(1);
    tokio::time::advance(61 * SECOND).await;
    for _ in 0..2 {
        world.db.fail_next(DbFault::Error("down".into()));
        let users = world.request().get_outcomes::<UserById>([1]).await;
        world.idle().await;
        assert!(users[&1].is_stale(), "{users:?}");
    }
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
    world.idle().await;
    world.db.fail_next(DbFault::Error("down".into()));
    assert!(world.request().refresh::<UserById>(1).await.is_err(), "who asks for a refresh is told");
    world.idle().await;
    tokio::time::advance(4000 * SECOND).await;
    world.db.fail_next(DbFault::Error("down".into()));
    assert!(world.request().get::<UserById>(1).await.is_err(), "too late");
}

#[tokio::test(start_paused = true)]
async fn what_was_dear_to_load_is_refreshed_before_its_time() {
    let world = World::with(|region| region.ttl(60 * SECOND).early_refresh(1.0)).await;
    *world.db.takes.lock().unwrap() = 5 * SECOND;
    world.request().get::<UserById>(1).await.unwrap();
    world.idle().await;
    // a tenth of a second is left of a value that took five to load
    tokio::time::advance(Duration::from_millis(59_900)).await;
    let mut early = 0;
    for _ in 0..20 {
        let users = world.request().get_outcomes::<UserById>([1]).await;
        assert!(!users[&1].is_stale());
        world.idle().await;
        early = world.db.started() - 1;
        if early > 0 {
            break;
        }
    }
    assert_eq!(early, 1);
}

/// A loader with a policy of its own, and entries with theirs.
struct Quotes;

impl Source for Quotes {
    type Key = u32;
    type Value = u32;
    type Error = std::io::Error;
    const NAME: &'static str = "quotes";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, std::io::Error> {
        let mut rows = Rows::new();
        for key in keys {
            match key {
                1 => rows.insert_with(1, 1, EntryPolicy::ttl(SECOND)),
                2 => rows.insert_with(2, 2, EntryPolicy::unstored()),
                3 => rows.absent_with(3, EntryPolicy::ttl(3600 * SECOND)),
                other => rows.insert(*other, *other),
            }
        }
        Ok(rows)
    }

    fn policy(&self, region: &Policy) -> Policy {
        region.clone().ttl(100 * SECOND).max_batch(3)
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_and_an_entry_may_know_better() {
    let world = World::build::<false>(
        mastaba::shared::memory::Memory::default(),
        |region: Region| region.ttl(10 * SECOND).absent_ttl(10 * SECOND),
        |builder, _| builder.source(Quotes),
    )
    .await;
    let loaded = async || {
        let request = world.request();
        request.get_many::<Quotes>([1, 2, 3, 4]).await.unwrap();
        world.idle().await;
        request.report().keys_loaded()
    };
    assert_eq!(loaded().await, 4);
    assert_eq!(loaded().await, 1, "2 is never stored");
    tokio::time::advance(2 * SECOND).await;
    assert_eq!(loaded().await, 2, "and 1 is over");
    tokio::time::advance(50 * SECOND).await;
    assert_eq!(loaded().await, 2, "4 lives as long as its source says, 3 as long as it says itself");
}

/// Keeps what stands under its tag for longer than its region does.
struct Lasting;

impl Source for Lasting {
    type Key = u32;
    type Value = u32;
    type Error = std::io::Error;
    const NAME: &'static str = "lasting";
    const REGION: &'static str = "objects";
    const TAGS: &'static [&'static str] = &["all"];

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, std::io::Error> {
        Ok(keys.iter().map(|key| (*key, *key)).collect())
    }

    fn policy(&self, region: &Policy) -> Policy {
        region.clone().ttl(30 * DAY)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_source_keeps_for_longer_than_its_region_outlives_no_stamp_of_its_tags() {
    let world = World::build::<false>(
        mastaba::shared::memory::Memory::default(),
        |region| region,
        |builder, _| builder.source(Lasting),
    )
    .await;
    let loaded = async || {
        let request = world.request();
        request.get::<Lasting>(1).await.unwrap();
        world.idle().await;
        request.report().keys_loaded()
    };
    assert_eq!(loaded().await, 1);
    tokio::time::advance(29 * DAY).await;
    assert_eq!(loaded().await, 0);
    let write = world.request().write();
    write.invalidate_tag("all");
    write.published().await.unwrap();
    assert_eq!(loaded().await, 1);
    tokio::time::advance(29 * DAY).await;
    assert_eq!(loaded().await, 0, "nor the stamp that an invalidation leaves");
    tokio::time::advance(2 * DAY).await;
    assert_eq!(loaded().await, 1);
}

/// Near keeps what the shared tier has stored; where there is none, near alone has to look.
#[tokio::test(start_paused = true)]
async fn near_before_nothing_keeps_what_may_be_kept_and_nothing_else() {
    let region = Region::null().near(NearConfig::entries(100));
    let cache = Cache::builder().region("objects", region).source(Quotes).build().await.unwrap();
    let tiers = async || {
        let found = cache.request().get_outcomes::<Quotes>([1, 2, 4]).await;
        cache.idle().await;
        [1, 2, 4].map(|key| found[&key].tier().unwrap())
    };
    assert_eq!(tiers().await, [Tier::Source; 3]);
    assert_eq!(tiers().await, [Tier::Near, Tier::Source, Tier::Near], "the second one is for one request");
    tokio::time::advance(2 * SECOND).await;
    assert_eq!(
        tiers().await,
        [Tier::Source, Tier::Source, Tier::Near],
        "the first one has a time of its own"
    );
}

#[tokio::test]
async fn a_batch_is_cut_to_what_a_source_takes() {
    let world = World::build::<false>(
        mastaba::shared::memory::Memory::default(),
        |region| region,
        |builder, _| builder.source(Quotes),
    )
    .await;
    let request = world.request();
    assert_eq!(request.get_many::<Quotes>(10..20).await.unwrap().found().count(), 10);
    let report = request.report();
    assert_eq!(report.statements(), 4, "{report}");
    assert_eq!(report.shared_trips(), 2, "{report}");
}

#[tokio::test]
async fn large_payloads_are_stored_compressed_and_come_back() {
    let world = World::with(|region| region.compress_above(Some(10))).await;
    world.request().get_many::<PostById>(1..=5).await.unwrap();
    world.idle().await;
    world.trips();
    let posts = world.request().get_many::<PostById>(1..=5).await.unwrap();
    assert_eq!(posts[&3].as_ref().unwrap().title, "post 3");
    assert!(world.loads().is_empty());
}
