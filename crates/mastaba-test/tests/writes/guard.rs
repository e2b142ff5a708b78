//! A broken shared tier is kept harmless: its breaker, and the turns of the loads that its outage adds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::memory::Memory;
use mastaba::shared::{Abilities, Shared};
use mastaba::{Cache, Event, Fault, Force, LoadContext, Region, Rows, Settings, Source};
use mastaba_test::world::{UserById, World};
use tokio::time::{Instant, advance, sleep, timeout};

const LONG: Duration = Duration::from_secs(3600);
const ALL: [&str; 4] = ["read", "lease", "fill", "invalidate"];

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Fails five reads, which opens the breaker.
async fn break_it(world: &World) {
    world.shared.down(&ALL);
    for key in 901..=905 {
        world.sees(key).await;
    }
    world.trips();
}

/// Nothing takes longer than an hour of a paused clock.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(LONG, work).await.expect("it hangs")
}

fn shared_trips(world: &World) -> Vec<String> {
    world.trips().into_iter().filter(|trip| trip.starts_with("shared")).collect()
}

#[tokio::test(start_paused = true)]
async fn after_five_failures_the_shared_tier_is_passed_over_until_it_answers_again() {
    let world = World::new().await;
    world.shared.down(&ALL);
    for key in 1..=30 {
        assert_eq!(in_time(world.sees(key)).await, 0, "a broken cache is no error");
    }
    assert_eq!(shared_trips(&world), (1..=5).map(|key| format!("shared read [{key}]")).collect::<Vec<_>>());
    let mut told = vec!["region objects: read failed: unplugged by the test"; 5];
    told.push("region objects: the shared tier is passed over after 5 failures: unplugged by the test");
    assert_eq!(world.events(), told);

    world.shared.down(&[]);
    world.sees(31).await;
    world.idle().await;
    assert_eq!(shared_trips(&world), [""; 0], "not before its pause is over");
    advance(Duration::from_secs(1)).await;
    world.sees(32).await;
    world.idle().await;
    assert_eq!(shared_trips(&world), ["shared read [32]", "shared lease [32]", "shared fill [32]"]);
    assert_eq!(
        world.events()[6..],
        ["region objects: the shared tier answers again, after 1.0s".to_owned()],
        "and nothing in between"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_passed_over_costs_no_time_and_stands_in_the_report() {
    let world = World::with(|region| region.shared_budget(millis(100))).await;
    world.shared.slow(LONG);
    let began = Instant::now();
    for key in 1..=5 {
        world.sees(key).await;
    }
    assert!(began.elapsed() >= millis(500), "a time-out each: {:?}", began.elapsed());
    let began = Instant::now();
    let request = world.request();
    request.get_many::<UserById>([6, 7]).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    let report = request.report();
    assert_eq!((report.passed_over, report.shared_trips()), (1, 0));
    assert!(report.to_string().contains("shared tier passed over 1 time: breaker open"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn one_read_tries_again_and_all_others_go_on_at_once() {
    let world = World::new().await;
    break_it(&world).await;
    world.shared.down(&[]);
    advance(Duration::from_secs(1)).await;
    let gate = world.shared.before("read");
    let probe = world.start::<UserById>(1);
    in_time(gate.arrived(1)).await;
    for key in 2..=20 {
        assert_eq!(timeout(millis(1), world.sees(key)).await, Ok(0));
    }
    assert_eq!(shared_trips(&world), ["shared read [1]"]);
    gate.open_for_good();
    in_time(probe).await.unwrap();
    world.idle().await;
    assert!(world.events().last().unwrap().contains("answers again"), "{:?}", world.events());
}

#[tokio::test(start_paused = true)]
async fn while_it_stays_down_the_pauses_between_two_tries_grow() {
    let world = World::new().await;
    break_it(&world).await;
    let events = world.events().len();
    let began = Instant::now();
    let mut tries = Vec::new();
    while began.elapsed() < Duration::from_secs(120) {
        sleep(millis(100)).await;
        world.sees(1).await;
        if !shared_trips(&world).is_empty() {
            tries.push(began.elapsed());
        }
    }
    let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        (6..=10).contains(&tries.len()),
        "1, 2, 4, 8, 16, 30, 30 .. seconds, a little shorter: {tries:?}"
    );
    assert!(pauses[..4].windows(2).all(|pair| pair[1] > pair[0]), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(31)), "{pauses:?}");
    assert_eq!(world.events().len(), events, "failed tries are not told: {:?}", world.events());
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_travels_in_any_case_and_its_success_lets_a_reader_try() {
    let world = World::new().await;
    break_it(&world).await;
    let events = world.events().len();
    let published = world.request().invalidate::<UserById>([1]).await.unwrap();
    let error = published.error().unwrap();
    assert!(error.is_shared(), "{error}");
    assert_eq!(shared_trips(&world), ["shared invalidate [1]"]);
    let cleared = world.cache.region("objects").clear().await.unwrap();
    assert!(!cleared.is_confirmed());
    assert_eq!(shared_trips(&world), ["shared invalidate [@generation]"]);
    let new = world.events().split_off(events);
    assert!(new.iter().all(|event| event.contains("has not confirmed")) && new.len() == 2, "{new:?}");

    world.shared.down(&[]);
    cleared.confirmed(LONG * 100).await.unwrap();
    assert!(published.is_confirmed(), "in the order of the writes");
    world.trips();
    world.sees(1).await;
    assert_eq!(shared_trips(&world)[0], "shared read [1]", "at once, and not after the pause");
}

#[tokio::test(start_paused = true)]
async fn failed_invalidations_open_it_too() {
    let world = World::new().await;
    world.shared.down(&["invalidate"]);
    for _ in 0..5 {
        assert!(!world.request().invalidate::<UserById>([1]).await.unwrap().is_confirmed());
    }
    world.trips();
    world.sees(1).await;
    assert_eq!(shared_trips(&world), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reads_that_time_out_together_are_told_of_five_times() {
    let world = World::new().await;
    world.shared.slow(LONG);
    let readers: Vec<_> = (1..=100).map(|key| world.start::<UserById>(key)).collect();
    for reader in readers {
        in_time(reader).await.unwrap();
    }
    let told = |what: &str| world.events().iter().filter(|event| event.contains(what)).count();
    assert_eq!((told("read failed"), told("passed over")), (5, 1), "{:?}", world.events());
}

#[tokio::test(start_paused = true)]
async fn with_no_failures_set_every_read_tries() {
    let world = World::with(|region| region.breaker_failures(0)).await;
    world.shared.down(&ALL);
    for key in 1..=50 {
        world.sees(key).await;
    }
    assert_eq!(shared_trips(&world).len(), 50);
}

#[tokio::test(start_paused = true)]
async fn settings_reach_the_breaker() {
    let settings = [
        ("cache.objects.breaker_failures", "2"),
        ("cache.objects.breaker_pause", "1h"),
        ("cache.objects.outage_loads_per_second", "unlimited"),
    ];
    let with = |region: Region| region.outage_loads_per_second(Some(1));
    let world = World::build::<false>(Memory::default(), with, |builder, _| {
        builder.settings(Settings::from_map(settings))
    })
    .await;
    world.shared.down(&ALL);
    let began = Instant::now();
    for key in 1..=10 {
        world.sees(key).await;
    }
    assert_eq!(shared_trips(&world).len(), 2);
    assert_eq!(began.elapsed(), Duration::ZERO, "no load waits for a turn");
    advance(Duration::from_secs(40 * 60)).await;
    world.sees(11).await;
    assert_eq!(shared_trips(&world), [""; 0]);
}

/// Answers half of what it was asked.
struct Half(Memory);

impl Shared for Half {
    const ABILITIES: Abilities = Memory::ABILITIES;

    mastaba_test::pass_on!(0: lease, fill, invalidate, hold, end, incarnation);

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        self.0.read(&keys[..keys.len() / 2]).await
    }
}

/// Loads that take 50 ms, and how many of each key are under way.
#[derive(Clone, Default)]
struct Counted(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    now: HashMap<u64, usize>,
    most: usize,
    loads: usize,
}

impl Source for Counted {
    type Key = u64;
    type Value = u64;
    type Error = std::convert::Infallible;
    const NAME: &'static str = "counted";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Self::Error> {
        {
            let mut counts = self.0.lock().unwrap();
            counts.loads += 1;
            for key in keys {
                let now = counts.now.entry(*key).or_default();
                *now += 1;
                let now = *now;
                counts.most = counts.most.max(now);
            }
        }
        sleep(millis(50)).await;
        let mut counts = self.0.lock().unwrap();
        keys.iter().for_each(|key| *counts.now.get_mut(key).unwrap() -= 1);
        Ok(keys.iter().map(|key| (*key, key * 2)).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_too_short_are_faults_and_open_it() {
    let events: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = events.clone();
    let cache = Cache::builder()
        .region("objects", Region::backend(Half(Memory::default())))
        .source(Counted::default())
        .on_event(move |event: &Event| listener.lock().unwrap().push(event.to_string()))
        .build()
        .await
        .unwrap();
    for key in 1..=10 {
        assert_eq!(*cache.request().get::<Counted>(key).await.unwrap().unwrap(), key * 2);
    }
    let events = events.lock().unwrap();
    assert_eq!(events.len(), 6, "{events:?}");
    assert!(events[0].contains("2 records were asked for, and 1 came back"), "{events:?}");
    assert!(events[5].contains("passed over"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn with_the_tier_down_readers_that_come_one_by_one_are_at_most_two_loads_of_a_key_at_a_time() {
    for failures in [5, 0] {
        let source = Counted::default();
        let world = World::build::<true>(
            Memory::default(),
            |region| region.breaker_failures(failures),
            |builder, _| builder.source(source.clone()),
        )
        .await;
        world.shared.down(&ALL);
        let mut readers = Vec::new();
        for nth in 0..200_u64 {
            let request = world.request();
            // overlapping, but not the same
            let keys = (nth % 3)..(nth % 3 + 20);
            readers.push(tokio::spawn(async move { request.get_many::<Counted>(keys).await.map(|_| ()) }));
            sleep(millis(2)).await;
        }
        for reader in readers {
            in_time(reader).await.unwrap().unwrap();
        }
        let counts = source.0.lock().unwrap();
        assert!(counts.most <= 2, "{} loads of one key at the same time", counts.most);
        assert!(counts.loads < 100, "{} loads for 200 readers over 400 ms", counts.loads);
        assert!(counts.now.values().all(|now| *now == 0));
    }
}

#[tokio::test(start_paused = true)]
async fn loads_that_an_outage_adds_wait_for_their_turn_in_order() {
    let world = World::with(|region| region.outage_loads_per_second(Some(10))).await;
    world.shared.down(&ALL);
    let began = Instant::now();
    let readers: Vec<_> = (1..=21).map(|key| world.start::<UserById>(key)).collect();
    let mut ended = Vec::new();
    for reader in readers {
        in_time(reader).await.unwrap();
        ended.push(began.elapsed().as_millis() / 100);
    }
    assert_eq!(ended, (0..=20).collect::<Vec<_>>(), "one each tenth of a second");
    assert_eq!(world.loads(), (1..=21).map(|key| format!("source load user [{key}]")).collect::<Vec<_>>());
    let held: Vec<_> = world.events().into_iter().filter(|event| event.contains("turn")).collect();
    assert_eq!(
        held,
        [
            "region objects: the shared tier is out, and loads wait for their turn, 10 per second (the first: source user)"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_load_whose_turn_would_come_too_late_fails_at_once() {
    let world =
        World::with(|region| region.outage_loads_per_second(Some(10)).source_budget(millis(250))).await;
    world.shared.down(&ALL);
    let began = Instant::now();
    let readers: Vec<_> = (1..=6)
        .map(|key| {
            let request = world.request();
            tokio::spawn(async move { (request.get::<UserById>(key).await, Instant::now()) })
        })
        .collect();
    let mut failed = Vec::new();
    for (nth, reader) in readers.into_iter().enumerate() {
        let (answer, ended) = in_time(reader).await.unwrap();
        if let Err(error) = answer {
            assert!(error.is_timeout() && !error.is_source());
            assert!(
                error.to_string().contains("loading 1 key did not begin: the shared tier is out"),
                "{error}"
            );
            assert_eq!(ended, began, "it does not wait for nothing");
            failed.push(nth + 1);
        }
    }
    assert_eq!(failed, [4, 5, 6]);
    assert_eq!(world.loads().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_waited_has_what_is_left_of_its_budget() {
    let world =
        World::with(|region| region.outage_loads_per_second(Some(1)).source_budget(millis(1200))).await;
    world.shared.down(&ALL);
    *world.db.takes.lock().unwrap() = millis(500);
    let began = Instant::now();
    let (first, second) = (world.request(), world.request());
    let (first, second) = tokio::join!(first.get::<UserById>(1), second.get::<UserById>(2));
    assert!(first.is_ok());
    assert!(second.unwrap_err().is_timeout());
    assert_eq!(began.elapsed(), millis(1200));
}

#[tokio::test(start_paused = true)]
async fn where_a_load_is_refused_a_stale_value_is_served_if_there_is_one() {
    let world = World::with(|region| {
        region
            .outage_loads_per_second(Some(1))
            .source_budget(millis(500))
            .ttl(Duration::from_secs(10))
            .stale_if_error(LONG)
            .fill_without_lease(false)
    })
    .await;
    world.sees(1).await;
    world.idle().await;
    advance(Duration::from_secs(11)).await;
    // reads still work, and leases do not: nothing that is loaded now can be stored
    world.shared.down(&["lease", "fill"]);
    world.sees(2).await;
    let users = world.request().get_outcomes::<UserById>([1, 3]).await;
    assert!(users[&1].is_stale(), "{:?}", users[&1]);
    assert!(users[&3].error().unwrap().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn with_the_tier_sound_or_not_asked_no_load_waits() {
    let one = |region: Region| region.outage_loads_per_second(Some(1));
    let began = Instant::now();
    let sound = World::with(one).await;
    let readers: Vec<_> = (1..=50).map(|key| sound.start::<UserById>(key)).collect();
    for reader in readers {
        in_time(reader).await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO);

    sound.shared.down(&ALL);
    for key in 1..=10 {
        let past = sound.request().with(Force::PastShared);
        past.get::<UserById>(key).await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "these were never to be looked up");

    let cache = Cache::builder().region("objects", one(Region::null()));
    let cache = cache.source(UserById(sound.db.clone())).build().await.unwrap();
    for key in 1..=10 {
        cache.request().get::<UserById>(key).await.unwrap();
    }
    // a refresh waits for the load that is under way, and then loads for itself
    let gate = sound.db.close_gate();
    let get = |key, force| {
        let request = cache.request().with(force);
        tokio::spawn(async move { request.get::<UserById>(key).await.map(|_| ()) })
    };
    let mut readers: Vec<_> = (1..=5).map(|key| get(key, Force::No)).collect();
    in_time(gate.arrived(5)).await;
    readers.extend((1..=5).map(|key| get(key, Force::Refresh)));
    sound.settle().await;
    gate.open_for_good();
    for reader in readers {
        in_time(reader).await.unwrap().unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "where nothing is kept, nothing is out");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_was_not_to_be_looked_up_does_not_wait_beside_one_that_was() {
    let world = World::with(|region| region.outage_loads_per_second(Some(1))).await;
    world.shared.down(&ALL);
    world.sees(1).await;
    let began = Instant::now();
    let request = world.request();
    let past = request.with(Force::PastShared);
    let (looked_up, forced) =
        tokio::join!(async { request.get::<UserById>(2).await.map(|_| began.elapsed()) }, async {
            past.get::<UserById>(3).await.map(|_| began.elapsed())
        });
    assert_eq!(looked_up.unwrap(), Duration::from_secs(1));
    // what was asked together waits for the slowest that long
    assert_eq!(forced.unwrap(), mastaba::Policy::default().source_soft_budget);
}

#[tokio::test(start_paused = true)]
async fn each_outage_tells_once_that_loads_wait() {
    let world = World::with(|region| region.outage_loads_per_second(Some(10))).await;
    let held = || world.events().iter().filter(|event| event.contains("turn")).count();
    for outage in 1..=2 {
        world.shared.down(&ALL);
        for key in 1..=30 {
            in_time(world.sees(key + 100 * outage)).await;
        }
        assert_eq!(held() as u64, outage);
        world.shared.down(&[]);
        advance(Duration::from_secs(10)).await;
        world.sees(1).await;
        assert!(world.events().last().unwrap().contains("answers again"), "{:?}", world.events());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_full_and_refuses_to_store_is_still_read() {
    let world = World::new().await;
    world.sees(1).await;
    world.idle().await;
    world.shared.refuse(&["lease", "fill"]);
    for key in 2..100 {
        world.sees(key).await;
    }
    let request = world.request();
    let known = request.get_outcomes::<UserById>([1]).await;
    assert_eq!(known[&1].tier(), Some(mastaba::Tier::Shared), "{}", request.report());
}
