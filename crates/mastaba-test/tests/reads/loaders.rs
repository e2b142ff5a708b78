//! Loaders and hooks that fail, panic, hang, break their contract, or read through the cache themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{Cache, Fetched, LoadContext, NearConfig, Region, Rows, Source};
use mastaba_test::world::{DbFault, UserById, World};
use serde::{Deserialize, Serialize};

#[tokio::test]
async fn an_error_reaches_every_waiter_and_is_not_remembered() {
    let world = World::new().await;
    *world.db.takes.lock().unwrap() = Duration::from_millis(10);
    world.db.fail_next(DbFault::Error("no connection".into()));
    let (a, b) = (world.request(), world.request());
    let (first, second) = tokio::join!(a.get::<UserById>(1), b.get::<UserById>(1));
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert!(error.is_source() && error.to_string().contains("user"), "{error}");
        assert!(error.to_string().contains("no connection"), "{error}");
        assert!(error.downcast_ref::<mastaba_test::world::DbError>().is_some());
    }
    assert_eq!(world.loads().len(), 1, "one load for both");
    assert_eq!(a.get::<UserById>(1).await.unwrap().unwrap().id, 1);
}

#[tokio::test]
async fn a_panic_fails_its_own_keys() {
    let world = World::new().await;
    world.db.fail_next(DbFault::Panic("out of luck".into()));
    let request = world.request();
    let (user, photo) =
        tokio::join!(request.get::<UserById>(1), request.get::<mastaba_test::world::PhotoById>(1));
    let error = user.unwrap_err();
    assert!(error.is_panic() && error.to_string().contains("out of luck"), "{error}");
    assert!(photo.unwrap().is_some());
    assert!(world.events().iter().any(|event| event.contains("panicked")), "{:?}", world.events());
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_hangs_fails_its_own_keys_and_does_not_hold_up_the_rest() {
    let world = World::with(|region| region.source_budget(Duration::from_secs(5))).await;
    world.db.fail_next(DbFault::Hang);
    let request = world.request();
    let began = tokio::time::Instant::now();
    let (user, photo) = tokio::join!(request.get::<UserById>(1), async {
        let photo = request.get::<mastaba_test::world::PhotoById>(1).await;
        assert!(began.elapsed() <= Duration::from_millis(110), "{:?}", began.elapsed());
        photo
    });
    assert!(photo.unwrap().is_some());
    assert!(user.unwrap_err().is_timeout());
    assert!(began.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn forgotten_keys_are_absent_foreign_rows_are_dropped_and_double_ones_fail_alone() {
    let world = World::new().await;
    world.db.fail_next(DbFault::Forget(vec![2]));
    let users = world.request().get_many::<UserById>([1, 2]).await.unwrap();
    assert!(users[&1].is_some() && users[&2].is_none());

    world.db.fail_next(DbFault::Foreign(vec![77]));
    let users = world.request().get_many::<UserById>([3, 4]).await.unwrap();
    assert_eq!(users.found().count(), 2);
    assert!(world.events().iter().any(|event| event.contains("77")), "{:?}", world.events());

    world.db.fail_next(DbFault::Twice(vec![5]));
    let users = world.request().get_outcomes::<UserById>([5, 6]).await;
    assert!(users[&6].value().unwrap().is_some());
    let error = users[&5].error().unwrap().to_string();
    assert!(error.contains("two rows for 5"), "{error}");
    world.idle().await;
    assert!(world.request().get::<UserById>(5).await.unwrap().is_some(), "and it is not remembered");
}

#[tokio::test]
async fn the_shared_tier_being_out_is_an_event_and_no_error() {
    for what in [vec!["read"], vec!["lease"], vec!["fill"], vec!["read", "lease", "fill"]] {
        let world = World::new().await;
        world.shared.down(&what);
        let users = world.request().get_many::<UserById>(1..=10).await.unwrap();
        assert_eq!(users.found().count(), 10);
        world.idle().await;
        assert!(world.events().iter().any(|event| event.contains("unplugged")), "{:?}", world.events());
        assert_eq!(world.loads().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_tier_that_is_too_slow_counts_as_knowing_nothing() {
    let world = World::with(|region| region.shared_budget(Duration::from_millis(100))).await;
    world.shared.slow(Duration::from_secs(60));
    let began = tokio::time::Instant::now();
    assert!(world.request().get::<UserById>(1).await.unwrap().is_some());
    assert!(began.elapsed() < Duration::from_millis(250), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn with_the_shared_tier_out_a_stampede_is_at_most_two_loads_per_key() {
    let world = World::across_processes(|region| region).await;
    world.shared.down(&["read", "lease", "fill"]);
    *world.db.takes.lock().unwrap() = Duration::from_millis(20);
    let mut readers = Vec::new();
    for _ in 0..100 {
        let request = world.request();
        readers.push(tokio::spawn(async move { request.get_many::<UserById>(1..=20).await.map(|_| ()) }));
        tokio::task::yield_now().await;
    }
    for reader in readers {
        reader.await.unwrap().unwrap();
    }
    for key in 1..=20 {
        let of_key = |load: &&String| {
            let keys = load.split_once('[').unwrap().1.trim_end_matches(']');
            keys.split(", ").any(|each| each == key.to_string())
        };
        assert!(world.loads().iter().filter(of_key).count() <= 2, "{:?}", world.loads());
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_costs_nobody_a_value() {
    let world = World::new().await;
    let gate = world.db.close_gate();
    let starter = tokio::spawn({
        let request = world.request();
        async move { request.get::<UserById>(1).await }
    });
    world.db.reached(1).await;
    let joiner = tokio::spawn({
        let request = world.request();
        async move { request.get::<UserById>(1).await }
    });
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    starter.abort();
    gate.open_for_good();
    assert!(joiner.await.unwrap().unwrap().is_some());
    world.idle().await;
    assert_eq!(world.db.started(), 1);
    assert!(world.trips().contains(&"shared fill [1]".to_owned()), "and it was stored");
}

#[tokio::test]
async fn a_get_that_is_dropped_before_it_is_sent_gives_its_key_back() {
    let world = World::new().await;
    let request = world.request();
    let mut first = Box::pin(request.get::<UserById>(1));
    let mut again = Box::pin(request.get::<UserById>(2));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut again).is_pending());
    let mut other = Box::pin(request.get::<UserById>(1));
    assert!(futures_util::poll!(&mut other).is_pending());
    drop(again);
    drop(first);
    assert!(other.await.unwrap().is_some());
    assert_eq!(world.loads(), ["source load user [1]"]);
    assert!(request.get::<UserById>(2).await.unwrap().is_some());
}

#[tokio::test]
async fn a_get_that_is_held_and_not_polled_stops_nobody() {
    let world = World::new().await;
    let request = world.request();
    let mut held = Box::pin(request.get::<UserById>(1));
    assert!(futures_util::poll!(&mut held).is_pending());
    assert!(request.get::<UserById>(2).await.unwrap().is_some());
    let of_other_request = world.request();
    assert!(of_other_request.get::<UserById>(1).await.unwrap().is_some());
    assert!(held.await.unwrap().is_some());
}

/// A value that hooks change.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    stored: u32,
    here: u32,
}

#[derive(Default)]
struct Counts {
    before: AtomicU32,
    after: AtomicU32,
    loads: AtomicU32,
}

struct Hooked(Arc<Counts>);

impl Source for Hooked {
    type Key = u32;
    type Value = Seen;
    type Error = std::io::Error;
    const NAME: &'static str = "hooked";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, std::io::Error> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await; // long enough to be joined
        Ok(keys.iter().map(|key| (*key, Seen { stored: 0, here: 0 })).collect())
    }

    async fn before_store(&self, _: &LoadContext<'_>, rows: &mut Rows<Self>) -> Result<(), std::io::Error> {
        self.0.before.fetch_add(1, Ordering::SeqCst);
        rows.iter_mut().for_each(|(key, seen)| seen.stored = key * 10);
        Ok(())
    }

    async fn after_fetch(
        &self,
        cx: &LoadContext<'_>,
        rows: &mut Fetched<Self>,
    ) -> Result<(), std::io::Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let mark = cx.request().stash().get::<u32>().map_or(0, |mark| *mark);
        self.0.after.fetch_add(1, Ordering::SeqCst);
        rows.iter_mut().for_each(|(_, seen)| seen.here += mark);
        Ok(())
    }
}

#[tokio::test]
async fn hooks_run_once_per_load_and_on_everything_that_enters_a_request() {
    for region in [Region::memory(), Region::memory().near(NearConfig::entries(100)), Region::null()] {
        let counts = Arc::new(Counts::default());
        let cache =
            Cache::builder().region("objects", region).source(Hooked(counts.clone())).build().await.unwrap();
        let mut requests = Vec::new();
        for mark in 1..=3u32 {
            let request = cache.request();
            request.stash().insert(mark);
            for _ in 0..2 {
                let found = request.get_many::<Hooked>([1, 2]).await.unwrap();
                let seen = found[&2].as_ref().unwrap();
                assert_eq!((seen.stored, seen.here), (20, mark), "changed for this request, once");
            }
            cache.idle().await;
            requests.push(request);
            assert_eq!(counts.after.load(Ordering::SeqCst), mark);
        }
        let loads = counts.loads.load(Ordering::SeqCst);
        assert_eq!(counts.before.load(Ordering::SeqCst), loads);
    }
}

#[tokio::test]
async fn those_who_join_a_hooked_load_get_values_of_their_own() {
    let counts = Arc::new(Counts::default());
    let cache = Cache::builder()
        .region("objects", Region::null())
        .source(Hooked(counts.clone()))
        .build()
        .await
        .unwrap();
    let (a, b) = (cache.request(), cache.request());
    a.stash().insert(1u32);
    b.stash().insert(2u32);
    let (one, two) = tokio::join!(a.get::<Hooked>(1), b.get::<Hooked>(1));
    assert_eq!((one.unwrap().unwrap().here, two.unwrap().unwrap().here), (1, 2));
    assert_eq!(counts.loads.load(Ordering::SeqCst), 1);
}

/// Reads another key of another source, or of itself.
struct Left;
struct Right;

macro_rules! reads_the_other {
    ($this:ident, $other:ident, $name:literal) => {
        impl Source for $this {
            type Key = u32;
            type Value = u32;
            type Error = mastaba::Error;
            const NAME: &'static str = $name;
            const REGION: &'static str = "objects";

            async fn load_many(
                &self,
                cx: &LoadContext<'_>,
                keys: &[u32],
            ) -> Result<Rows<Self>, mastaba::Error> {
                tokio::task::yield_now().await;
                let mut rows = Rows::new();
                for key in keys {
                    // key 1 goes in a circle, others end
                    let next = if *key == 1 { 1 } else { key + 100 };
                    if *key < 100 {
                        cx.request().get::<$other>(next).await?;
                    }
                    rows.insert(*key, *key);
                }
                Ok(rows)
            }
        }
    };
}

reads_the_other!(Left, Right, "left");
reads_the_other!(Right, Left, "right");

async fn circle() -> Cache {
    let builder = Cache::builder().region("objects", Region::memory()).source(Left).source(Right);
    builder.build().await.unwrap()
}

#[tokio::test]
async fn a_loader_that_waits_for_itself_is_told_so() {
    let cache = circle().await;
    let read = tokio::time::timeout(Duration::from_secs(5), async { cache.request().get::<Left>(1).await });
    let error = read.await.expect("no hang").unwrap_err();
    assert!(error.to_string().contains("wait for ever"), "{error}");
    assert_eq!(*cache.request().get::<Left>(2).await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn two_requests_whose_loaders_wait_for_each_other_come_through() {
    let cache = circle().await;
    let (a, b) = (cache.request(), cache.request());
    let both = tokio::time::timeout(Duration::from_secs(8), async {
        tokio::join!(a.get::<Left>(1), b.get::<Right>(1))
    });
    let (one, two) = both.await.expect("no hang");
    // each is part of a circle, so each is told so, sooner or later
    assert!(one.is_err() && two.is_err());
}

#[tokio::test]
async fn reads_of_a_loader_stand_in_the_report_of_its_request() {
    let cache = circle().await;
    let request = cache.request();
    request.get::<Left>(5).await.unwrap();
    let report = request.report();
    assert_eq!(report.statements(), 2, "{report}");
    assert_eq!(report.outcomes.len(), 2, "{report}");
}

#[tokio::test]
async fn a_world_of_its_own_is_sound() {
    let world = World::build::<false>(Memory::default(), |region| region, |builder, _| builder).await;
    assert!(world.events().is_empty());
}

/// Two statements more per call than the one that every call counts as.
struct Thrice;

impl Source for Thrice {
    type Key = u32;
    type Value = u32;
    type Error = std::io::Error;
    const NAME: &'static str = "thrice";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, std::io::Error> {
        cx.count_statements(1);
        cx.count_statements(1);
        if ids.contains(&9) {
            return Err(std::io::Error::other("the third one failed"));
        }
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
}

#[tokio::test]
async fn what_a_loader_counts_is_added_to_the_one_statement_of_each_call() {
    let cache = Cache::builder()
        .region("objects", Region::memory().max_batch(2))
        .source(Thrice)
        .build()
        .await
        .unwrap();
    let request = cache.request();
    request.get_many::<Thrice>([1, 2, 3]).await.unwrap();
    let report = request.report();
    assert_eq!(report.statements(), 6, "two calls of three statements each: {report}");
    assert!(report.is_within(mastaba::Budget { trips: 2, statements: 6 }));
    assert!(!report.is_within(mastaba::Budget { trips: 2, statements: 5 }));
    let (source, statements) = report.worst_source().unwrap();
    assert_eq!((source, statements), ("thrice", 6));
    assert!(report.server_timing().contains("desc=\"6 statements\""), "{}", report.server_timing());
    let request = cache.request();
    assert!(request.get::<Thrice>(9).await.unwrap_err().is_source());
    assert_eq!(request.report().statements(), 3, "also where the load fails");
}
