//! Clocks that are wrong: they may cost loads, and never make anything live longer than it should.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mastaba::clock::SKEW;
use mastaba::entry::{self, Fence, Header, Kind};
use mastaba::shared::embedded::{Embedded, EmbeddedConfig};
use mastaba::shared::{Fill, Filled, Hold, Lease, Leased, Over, Shared};
use mastaba::{Cache, NearConfig, Region, Tier, WriteMode};
use mastaba_test::clock::Clock;
use mastaba_test::world::{Db, UserById, World};
use tokio::time::advance;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

async fn tier(cache: &Cache, key: u64) -> Option<Tier> {
    let tier = cache.request().get_outcomes::<UserById>([key]).await[&key].tier();
    cache.idle().await;
    tier
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_a_clock_that_is_ahead_is_a_miss_that_is_said_once_and_replaced() {
    let clock = Clock::take();
    let ahead = World::across_processes(|region| region.ttl(MINUTE)).await;
    let right = ahead.second_with(|region| region.ttl(MINUTE)).await;
    clock.ahead(DAY);
    for key in 1..=2 {
        assert_eq!(ahead.sees(key).await, 0);
    }
    ahead.idle().await;
    clock.right();
    for key in 1..=2 {
        ahead.db.update(key); // by somebody who tells nobody
        assert_eq!(tier(&right.cache, key).await, Some(Tier::Source), "an age below zero is none");
        assert_eq!(tier(&right.cache, key).await, Some(Tier::Shared), "it was replaced");
        assert_eq!(right.sees(key).await, 1);
    }
    let events = right.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("source user: an entry was made 24h in the future"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_a_clock_that_is_a_little_ahead_is_fresh_for_no_longer_than_that_past_its_time() {
    let clock = Clock::take();
    let little = SKEW - SECOND;
    let ahead = World::across_processes(|region| region.ttl(MINUTE)).await;
    let right = ahead.second_with(|region| region.ttl(MINUTE)).await;
    clock.ahead(little);
    ahead.sees(1).await;
    ahead.idle().await;
    clock.right();
    assert_eq!(tier(&right.cache, 1).await, Some(Tier::Shared));
    advance(MINUTE + SKEW).await;
    assert_eq!(tier(&right.cache, 1).await, Some(Tier::Source));
    assert!(right.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_made_while_a_read_waited_is_not_from_the_future() {
    let patience = SKEW * 4;
    let one = World::across_processes(|region| region.lease_patience(patience)).await;
    let two = one.second_with(|region| region.lease_patience(patience)).await;
    let gate = one.db.close_gate();
    let first = one.start::<UserById>(1);
    one.db.reached(1).await;
    let second = two.start::<UserById>(1); // waits for the fill of the first
    two.settle().await;
    advance(SKEW * 2).await;
    gate.open_for_good();
    first.await.unwrap();
    one.idle().await;
    advance(SECOND).await;
    second.await.unwrap();
    assert_eq!(one.db.started(), 1, "the second took what the first one stored");
    assert!(two.events().is_empty(), "{:?}", two.events());
}

#[tokio::test(start_paused = true)]
async fn near_keeps_nothing_past_its_time_to_live_for_a_clock_that_was_ahead() {
    let clock = Clock::take();
    let near = |region: Region| region.ttl(MINUTE).near(NearConfig::entries(100));
    let world = World::with(near).await;
    clock.ahead(SKEW - SECOND);
    world.sees(1).await;
    world.idle().await;
    clock.right();
    // another cache over the same store, whose near takes the entry from there
    let reader = World::build::<false>(world.memory.clone(), near, |builder, _| builder).await;
    assert_eq!(tier(&reader.cache, 1).await, Some(Tier::Shared));
    advance(MINUTE - SECOND).await;
    assert_eq!(tier(&reader.cache, 1).await, Some(Tier::Near));
    advance(SECOND).await;
    assert_ne!(tier(&reader.cache, 1).await, Some(Tier::Near));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_keeps_no_near_entry() {
    let clock = Clock::take();
    let world = World::with(|region| region.ttl(MINUTE).near(NearConfig::entries(100))).await;
    world.sees(1).await;
    world.idle().await;
    assert_eq!(tier(&world.cache, 1).await, Some(Tier::Near));
    clock.behind(DAY);
    advance(MINUTE).await;
    assert_ne!(tier(&world.cache, 1).await, Some(Tier::Near));
    clock.right();
}

/// Where the clock stands while something is written to a file, and where it stands when the file is opened again.
const CHANGES: [(i64, i64); 5] = [(1, 0), (0, 1), (0, 0), (0, -1), (-1, 1)];

fn set(clock: &Clock, days: i64) {
    match days {
        1 => clock.ahead(DAY),
        -1 => clock.behind(DAY),
        _ => clock.right(),
    }
}

async fn open(folder: &tempfile::TempDir) -> Embedded {
    Embedded::open(EmbeddedConfig::new(folder.path().join("cache.redb"))).await.unwrap()
}

async fn lease(store: &Embedded, key: &Bytes) -> (Leased, Fence) {
    let fence = Fence::random();
    let record = entry::lease(fence, store.incarnation()).into();
    let ask = Lease { key: key.clone(), record, over: None, ttl: MINUTE };
    (store.lease(&[ask], &[]).await.unwrap().leased.remove(0), fence)
}

#[tokio::test(start_paused = true)]
async fn a_file_drops_no_hold_early_and_keeps_nothing_longer_whatever_becomes_of_the_clock() {
    let clock = Clock::take();
    for (written, opened) in CHANGES {
        let folder = tempfile::tempdir().unwrap();
        set(&clock, written);
        let store = open(&folder).await;
        let (held, kept) = (Bytes::from("held"), Bytes::from("kept"));
        let (_, fence) = lease(&store, &kept).await;
        let header = Header::new(Kind::Value, Fence::random(), store.incarnation());
        let record = entry::write(&header, &[], &[], b"row").into();
        let fill = Fill { key: kept.clone(), expected: fence, over: Over::Lease, record, ttl: 10 * MINUTE };
        assert_eq!(store.fill(&[fill]).await.unwrap(), [Filled::Stored]);
        let hold = Hold { key: held.clone(), holder: 7, ttl: 10 * MINUTE, keep: false };
        store.hold(&[hold]).await.unwrap();
        store.close().await.unwrap();

        set(&clock, opened);
        let store = open(&folder).await;
        advance(10 * MINUTE - SECOND).await;
        let (found, _) = lease(&store, &held).await;
        assert!(matches!(found, Leased::Found(_)), "a hold was dropped early: {written} {opened}");
        let read = store.read(&[held.clone(), kept.clone()]).await.unwrap();
        assert!(read.iter().all(Option::is_some), "{written} {opened}");
        advance(SECOND).await;
        let read = store.read(&[held.clone(), kept]).await.unwrap();
        assert_eq!(read, [None, None], "kept for too long: {written} {opened}");
        assert_eq!(lease(&store, &held).await.0, Leased::Granted, "{written} {opened}");
        store.close().await.unwrap();
    }
}

/// A program over the file in this folder.
async fn program(folder: &tempfile::TempDir, db: &Arc<Db>) -> Cache {
    let region = Region::embedded(folder.path()).ttl(60 * MINUTE).jitter(0.0).early_refresh(0.0);
    let builder = Cache::builder().region("objects", region).source(UserById(db.clone()));
    builder.build().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_file_has_from_a_clock_that_was_ahead_is_loaded_anew() {
    let clock = Clock::take();
    for (written, opened) in CHANGES {
        let (folder, db) = (tempfile::tempdir().unwrap(), Arc::new(Db::default()));
        set(&clock, written);
        let first = program(&folder, &db).await;
        assert_eq!(tier(&first, 1).await, Some(Tier::Source));
        assert_eq!(tier(&first, 1).await, Some(Tier::Shared));
        first.close().await.unwrap();

        set(&clock, opened);
        let second = program(&folder, &db).await;
        let expected = if (written, opened) == (0, 0) { Tier::Shared } else { Tier::Source };
        assert_eq!(tier(&second, 1).await, Some(expected), "{written} {opened}");
        assert_eq!(tier(&second, 1).await, Some(Tier::Shared), "{written} {opened}");
        second.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_file_whose_clock_was_set_back_nothing_counts_also_what_seems_to_have_an_age() {
    let clock = Clock::take();
    let (folder, db) = (tempfile::tempdir().unwrap(), Arc::new(Db::default()));
    let first = program(&folder, &db).await;
    tier(&first, 1).await;
    advance(50 * MINUTE).await;
    tier(&first, 2).await;
    first.close().await.unwrap();
    // it was closed for a day, and by the clock the first entry is twenty minutes old
    clock.behind(30 * MINUTE);
    let second = program(&folder, &db).await;
    assert_eq!(tier(&second, 1).await, Some(Tier::Source));
    assert_eq!(tier(&second, 1).await, Some(Tier::Shared));
    second.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_hold_keeps_is_served_by_the_time_of_the_file_that_it_is_in() {
    let clock = Clock::take();
    for days in [1, 0, -1] {
        let (folder, db) = (tempfile::tempdir().unwrap(), Arc::new(Db::default()));
        open(&folder).await.close().await.unwrap();
        set(&clock, days);
        let store = open(&folder).await;
        let region =
            Region::backend(store.clone()).write_mode(WriteMode::Serve).jitter(0.0).early_refresh(0.0);
        let builder = Cache::builder().region("objects", region).source(UserById(db.clone()));
        let cache = builder.build().await.unwrap();
        tier(&cache, 1).await;
        let key = Bytes::from("mastaba:objects:user:1");
        store.hold(&[Hold { key, holder: 7, ttl: 2 * SECOND, keep: true }]).await.unwrap();
        advance(SECOND).await;
        assert_eq!(tier(&cache, 1).await, Some(Tier::Shared), "{days}");
        advance(2 * SECOND).await;
        assert_eq!(tier(&cache, 1).await, Some(Tier::Source), "its outcome is unknown: {days}");
        cache.close().await.unwrap();
    }
}
