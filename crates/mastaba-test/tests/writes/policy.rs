//! Policy: how long entries live, who waits how long, how large batches get. Time is the tests' own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use mastaba::entry::{self, EntryRef};
use mastaba::shared::memory::Memory;
use mastaba::{Cache, EntryPolicy, LoadContext, NearConfig, Outcome, Policy, Region, Rows, Source, Tier};
use mastaba_test::world::{Db, DbError, DbFault, PhotoById, UserById, Watched, World};
use tokio::time::{Instant, advance};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn outcome(world: &World, key: u64) -> Outcome<mastaba_test::world::User> {
    world.request().get_outcomes::<UserById>([key]).await[&key].clone()
}

fn version(outcome: &Outcome<mastaba_test::world::User>) -> Option<(&'static str, u32, Tier)> {
    match outcome {
        Outcome::Value { value, tier } => Some(("fresh", value.version, *tier)),
        Outcome::Stale { value, tier } => Some(("stale", value.version, *tier)),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_lives_as_long_as_its_ttl_in_shared_and_in_near() {
    let near = |region: Region| region.ttl(secs(10)).near(NearConfig::entries(100));
    for (configure, tier) in
        [((|region| region.ttl(secs(10))) as fn(Region) -> Region, Tier::Shared), (near, Tier::Near)]
    {
        let world = World::with(configure).await;
        world.sees(1).await;
        world.idle().await;
        world.db.update(1);
        advance(millis(9_990)).await;
        assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 0, tier)));
        advance(millis(20)).await;
        assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 1, Tier::Source)));
    }
}

#[tokio::test(start_paused = true)]
async fn near_may_forget_sooner_than_the_shared_tier() {
    let world = World::with(|region| region.near(NearConfig::entries(100).ttl(Some(secs(1))))).await;
    world.sees(1).await;
    world.idle().await;
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 0, Tier::Near)));
    advance(millis(1_001)).await;
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 0, Tier::Shared)));
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 0, Tier::Near)), "and learns it anew");
}

#[tokio::test(start_paused = true)]
async fn an_absence_has_a_time_to_live_of_its_own_and_is_never_served_stale() {
    let world = World::with(|region| {
        region.ttl(secs(100)).absent_ttl(secs(5)).stale(secs(50)).stale_if_error(secs(50))
    })
    .await;
    world.db.remove(1);
    assert!(outcome(&world, 1).await.is_absent());
    world.idle().await;
    world.db.restore(1);
    advance(millis(4_990)).await;
    assert!(outcome(&world, 1).await.is_absent());
    advance(millis(20)).await;
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 0, Tier::Source)));
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_served_at_once_and_refreshed_once_in_the_background() {
    let world = World::with(|region| region.ttl(secs(10)).stale(secs(20))).await;
    world.sees(1).await;
    world.idle().await;
    world.db.update(1);
    advance(secs(11)).await;
    world.trips();
    let gate = world.db.close_gate();
    for _ in 0..5 {
        assert_eq!(version(&outcome(&world, 1).await), Some(("stale", 0, Tier::Shared)));
    }
    gate.arrived(1).await;
    world.settle().await;
    assert_eq!(world.loads(), ["source load user [1]"]);
    gate.open_for_good();
    world.idle().await;
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 1, Tier::Shared)));

    advance(secs(31)).await;
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 1, Tier::Source)), "past both");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_in_the_background_is_in_the_report_and_costs_the_request_no_wait() {
    let world = World::with(|region| region.ttl(secs(10)).stale(secs(20))).await;
    world.sees(1).await;
    world.idle().await;
    advance(secs(11)).await;
    let request = world.request();
    assert!(request.get_outcomes::<UserById>([1]).await[&1].is_stale());
    world.idle().await;
    let report = request.report();
    assert_eq!((report.shared_trips(), report.statements()), (1, 0), "{report}");
    assert!(report.trips.iter().any(|trip| trip.statements == 1 && !trip.waited), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_covered_by_what_was_there_as_long_as_the_policy_says() {
    let world = World::with(|region| region.ttl(secs(10)).stale_if_error(secs(60))).await;
    world.sees(1).await;
    world.idle().await;
    world.db.update(1);
    advance(secs(11)).await;
    for _ in 0..3 {
        world.db.fail_next(DbFault::Error("down".into()));
        assert_eq!(version(&outcome(&world, 1).await), Some(("stale", 0, Tier::Shared)));
        world.idle().await;
        advance(secs(10)).await;
    }
    assert_eq!(world.events().len(), 3, "and the failures are told");
    advance(secs(30)).await;
    world.db.fail_next(DbFault::Error("down".into()));
    assert!(outcome(&world, 1).await.error().is_some(), "past its time");
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 1, Tier::Source)));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_works_is_asked_first_where_stale_values_are_for_errors_only() {
    let world = World::with(|region| region.ttl(secs(10)).stale_if_error(secs(60))).await;
    world.sees(1).await;
    world.idle().await;
    world.db.update(1);
    advance(secs(11)).await;
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 1, Tier::Source)));
    world.idle().await;
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 1, Tier::Shared)), "and replaces it");
}

/// A backend may keep a record for longer than it was asked to, or under a clock of its own.
#[tokio::test(start_paused = true)]
async fn past_its_hard_age_a_record_is_not_served_however_long_its_backend_keeps_it() {
    let world = World::with(|region| region.ttl(secs(10)).stale_if_error(secs(60))).await;
    world.sees(1).await;
    world.idle().await;
    let record = world.record("user:1").await.unwrap();
    let entry = EntryRef::read(&record).unwrap();
    for (age, served) in [(secs(69), true), (secs(71), false)] {
        let mut header = entry.header();
        header.created_ms -= u64::try_from(age.as_millis()).unwrap();
        world.plant("user:1", entry::write(&header, &[], &[], entry.payload())).await;
        world.db.fail_next(DbFault::Error("down".into()));
        let found = world.request().get_outcomes::<UserById>([1]).await;
        assert_eq!(found[&1].is_stale(), served, "{age:?}: {found:?}");
        assert_eq!(found[&1].error().is_some(), !served, "{age:?}: {found:?}");
        world.idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dear_value_is_refreshed_before_it_expires_and_nobody_waits() {
    let world = World::with(|region| region.ttl(secs(100)).early_refresh(1e9)).await;
    *world.db.takes.lock().unwrap() = millis(50);
    world.sees(1).await;
    world.idle().await;
    world.db.update(1);
    world.trips();
    let began = Instant::now();
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 0, Tier::Shared)));
    assert_eq!(began.elapsed(), Duration::ZERO);
    world.idle().await;
    // the lease takes nothing but the stamps that the fill carries: its fence is that of the value
    let refreshed = ["shared read [1]", "shared lease []", "source load user [1]", "shared fill [1]"];
    assert_eq!(world.trips(), refreshed);
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 1, Tier::Shared)));
}

/// Key 1 is fresh for no time, key 2 is absent for no time; the others as the region says.
struct Fleeting(Arc<Db>);

impl Source for Fleeting {
    type Key = u64;
    type Value = String;
    type Error = DbError;
    const NAME: &'static str = "fleeting";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        self.0.wrote("fleeting", ids);
        let mut rows = Rows::new();
        for id in ids {
            match id {
                1 => rows.insert_with(*id, "gone".into(), EntryPolicy::ttl(Duration::ZERO)),
                2 => rows.absent_with(*id, EntryPolicy::ttl(Duration::ZERO)),
                3 => rows.insert(*id, "kept".into()),
                _ => {}
            }
        }
        Ok(rows)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_fresh_for_no_time_is_for_its_request_alone_and_no_stale_value_either() {
    let stale = |region: Region| region.stale(secs(60)).stale_if_error(secs(60));
    let near = |region: Region| stale(region).near(NearConfig::entries(100));
    for configure in [Box::new(stale) as Box<dyn FnOnce(Region) -> Region>, Box::new(near)] {
        let world = World::build::<false>(Memory::default(), configure, |builder, db| {
            builder.source(Fleeting(db.clone()))
        })
        .await;
        for round in 0..3 {
            let request = world.request();
            for _ in 0..2 {
                let found = request.get_outcomes::<Fleeting>([1, 2, 3]).await;
                assert!(matches!(&found[&1], Outcome::Value { .. }), "{:?}", found[&1]);
                assert!(found[&2].is_absent());
            }
            world.idle().await;
            let loads: Vec<_> = world.loads_of("fleeting").into_iter().collect();
            let expected: &[_] = if round == 0 { &[(1, 1), (2, 1), (3, 1)] } else { &[(1, 1), (2, 1)] };
            assert_eq!(loads, expected, "once in each request");
            world.trips();
            advance(millis(2)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_absence_that_is_fresh_for_no_time_is_not_remembered_for_other_requests() {
    let world = World::with(|region| region.absent_ttl(Duration::ZERO)).await;
    world.db.remove(1);
    for _ in 0..2 {
        assert!(outcome(&world, 1).await.is_absent());
        world.idle().await;
        assert_eq!(world.loads_of("user"), [(1, 1)].into());
        world.trips();
    }
    world.db.restore(1);
    assert_eq!(version(&outcome(&world, 1).await), Some(("fresh", 0, Tier::Source)));
}

#[tokio::test(start_paused = true)]
async fn another_process_does_not_wait_for_a_fill_that_is_not_to_come() {
    let (memory, db) = (Memory::default(), Arc::default());
    let build = |memory: &Memory| {
        let watched = Watched::<_, true>::new(memory.clone(), Arc::default());
        let db: &Arc<Db> = &db;
        Cache::builder().region("objects", Region::backend(watched)).source(Fleeting(db.clone())).build()
    };
    let (one, two) = (build(&memory).await.unwrap(), build(&memory).await.unwrap());
    one.request().get::<Fleeting>(1).await.unwrap();
    one.idle().await;
    let began = Instant::now();
    assert_eq!(two.request().get::<Fleeting>(1).await.unwrap().as_deref().map(String::as_str), Some("gone"));
    assert_eq!(began.elapsed(), Duration::ZERO, "the lease of the first one has been given back");
}

/// Key 1 lives for a second, key 2 is not stored, absent key 3 lives for a second; the others as the source says.
struct Picky(Arc<Db>);

impl Source for Picky {
    type Key = u64;
    type Value = String;
    type Error = DbError;
    const NAME: &'static str = "picky";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        self.0.wrote("picky", ids);
        let mut rows = Rows::new();
        for id in ids {
            match id {
                1 => rows.insert_with(*id, "short".into(), EntryPolicy::ttl(secs(1))),
                2 => rows.insert_with(*id, "unstored".into(), EntryPolicy::unstored()),
                3 => rows.absent_with(*id, EntryPolicy::ttl(secs(1))),
                _ => rows.insert(*id, "a".repeat(usize::try_from(*id).unwrap())),
            }
        }
        Ok(rows)
    }

    fn policy(&self, region: &Policy) -> Policy {
        region.clone().ttl(secs(10))
    }
}

async fn picky(configure: impl FnOnce(Region) -> Region) -> World {
    World::build::<false>(Memory::default(), configure, |builder, db| builder.source(Picky(db.clone()))).await
}

#[tokio::test(start_paused = true)]
async fn a_source_and_an_entry_may_have_policies_of_their_own() {
    for configure in [|region| region, (|region: Region| region.near(NearConfig::entries(100))) as fn(_) -> _]
    {
        let world = picky(configure).await;
        let loaded = async || {
            world.request().get_many::<Picky>(1..=4).await.unwrap();
            world.idle().await;
            let loads = world.loads_of("picky");
            world.trips();
            loads.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(loaded().await, [1, 2, 3, 4]);
        assert_eq!(loaded().await, [2]);
        advance(millis(1_001)).await;
        assert_eq!(loaded().await, [1, 2, 3]);
        advance(secs(10)).await;
        assert_eq!(loaded().await, [1, 2, 3, 4], "the source's ttl, not the region's");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_batch_is_cut_and_its_parts_are_loaded_at_the_same_time() {
    let world = World::with(|region| region.max_batch(10)).await;
    *world.db.takes.lock().unwrap() = millis(80);
    let request = world.request();
    let began = Instant::now();
    assert_eq!(request.get_many::<UserById>(1..=25).await.unwrap().found().count(), 25);
    assert_eq!(began.elapsed(), millis(80));
    let sizes: Vec<_> = world.loads().iter().map(|load| load.matches(',').count() + 1).collect();
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(request.report().statements(), 3);
    world.idle().await;
    assert_eq!(
        world.trips().iter().filter(|trip| trip.starts_with("shared")).count(),
        3,
        "read, lease, fill"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_source_holds_the_others_of_its_batch_back_no_longer_than_its_soft_budget() {
    let world = World::with(|region| region.source_soft_budget(millis(200))).await;
    let gate = world.db.close_gate();
    let request = world.request();
    let began = Instant::now();
    let user = async {
        let user = request.get::<UserById>(1).await;
        (user, began.elapsed())
    };
    let photo = async {
        let photo = request.get::<PhotoById>(1).await;
        let took = began.elapsed();
        tokio::time::sleep(secs(1)).await;
        gate.open();
        (photo, took)
    };
    let ((user, user_took), (photo, photo_took)) = future::join(user, photo).await;
    assert!(user.unwrap().is_some() && photo.unwrap().is_some());
    assert_eq!(photo_took, millis(200));
    assert_eq!(user_took, millis(1_200));
    world.idle().await;
    let fills: Vec<_> = world.trips().into_iter().filter(|trip| trip.starts_with("shared fill")).collect();
    assert_eq!(fills.len(), 2, "each is stored when it is there");
}

#[tokio::test(start_paused = true)]
async fn a_load_within_the_soft_budget_is_waited_for_so_that_what_follows_travels_together() {
    let world = World::new().await;
    let gate = world.db.close_gate();
    let request = world.request();
    let began = Instant::now();
    let photo = async {
        request.get::<PhotoById>(1).await.unwrap();
        began.elapsed()
    };
    let open = async {
        tokio::time::sleep(millis(60)).await;
        gate.open();
    };
    let (_, took, ()) = tokio::join!(request.get::<UserById>(1), photo, open);
    assert_eq!(took, millis(60));
}

#[tokio::test(start_paused = true)]
async fn a_slow_operation_of_the_shared_tier_is_told() {
    let world = World::with(|region| region.shared_soft_budget(millis(20))).await;
    world.shared.slow(millis(30));
    world.sees(1).await;
    world.idle().await;
    let slow = |operation| format!("region objects: {operation} took 30ms, over its soft budget of 20ms");
    let events = ["read", "lease", "fill"].map(slow);
    assert_eq!(world.events(), events);
}

#[tokio::test(start_paused = true)]
async fn counts_of_one_and_times_are_told_as_people_say_them() {
    let world = World::with(|region| region.source_budget(Duration::from_nanos(1_499_999_999))).await;
    world.db.fail_next(DbFault::Error("down".into()));
    let one = world.request().get::<UserById>(1).await.unwrap_err();
    assert_eq!(one.to_string(), "source user: loading 1 key failed: down");
    world.db.fail_next(DbFault::Hang);
    let late = world.request().get::<UserById>(1).await.unwrap_err();
    assert!(late.to_string().ends_with("loading 1 key took longer than the budget of 1.5s"), "{late}");
    let write = world.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    drop(write);
    world.shared.slow(millis(600));
    let request = world.request();
    request.get::<UserById>(2).await.unwrap();
    world.idle().await;
    let told = world.events().join("\n");
    for part in [
        "source user: a load of 1 key failed: ",
        "a write was dropped before it was published: 1 key, tag or region was not invalidated",
        "region objects: read failed: no answer within the budget of 500ms",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    let table = request.report().to_string();
    assert!(!table.contains("1 keys") && table.contains("1 key "), "{table}");
}

#[tokio::test]
async fn large_payloads_are_compressed_and_small_ones_are_not() {
    for (above, compressed) in [(Some(1000), true), (None, false)] {
        let world = picky(|region| region.compress_above(above)).await;
        world.request().get_many::<Picky>([900, 50_000]).await.unwrap();
        world.idle().await;
        let large = world.record("picky:50000").await.unwrap();
        let header = EntryRef::read(&large).unwrap().header();
        assert_eq!(header.compressed.is_some(), compressed);
        assert_eq!(large.len() < 2000, compressed, "{}", large.len());
        let small = world.record("picky:900").await.unwrap();
        assert_eq!(EntryRef::read(&small).unwrap().header().compressed, None);
        let request = world.request();
        assert_eq!(request.get::<Picky>(50_000).await.unwrap().unwrap().len(), 50_000);
        assert_eq!(request.get::<Picky>(900).await.unwrap().unwrap().len(), 900);
        assert_eq!(world.loads().len(), 1);
    }
}
