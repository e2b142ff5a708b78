//! A cache outlives the runtimes that it is used from: what each of them leaves behind, and what the next one finds.

use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::time::{Duration, Instant};

use mastaba::{Cache, Event, Region, Tier};
use mastaba_test::world::{Db, UserById, World};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;

/// Nothing here takes so long, unless it waits for ever.
const LONG: Duration = Duration::from_secs(8);

/// As `#[tokio::test]` has it, and a worker of actix.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs something that may not hang.
fn run<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    runtime.block_on(async { timeout(LONG, work).await.expect("it hangs") })
}

type Events = Arc<Mutex<Vec<Event>>>;

/// A cache over one region, and what it says beside its answers.
async fn cache_over(region: Region, db: &Arc<Db>) -> (Cache, Events) {
    let events = Events::default();
    let listener = events.clone();
    let cache = Cache::builder()
        .region("objects", region.jitter(0.0).early_refresh(0.0))
        .source(UserById(db.clone()))
        .on_event(move |event| listener.lock().unwrap().push(event.clone()))
        .build()
        .await
        .unwrap();
    (cache, events)
}

/// The tier that a user comes from for a new request.
async fn tier(cache: &Cache, id: u64) -> Option<Tier> {
    cache.request().get_outcomes::<UserById>([id]).await[&id].tier()
}

fn said(events: &Events) -> Vec<String> {
    events.lock().unwrap().drain(..).map(|event| event.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_embedded_file_answers_within_its_budget_while_the_clock_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, events) = cache_over(Region::embedded(folder.path()), &Arc::default()).await;
    let began = tokio::time::Instant::now();
    for id in 1..=20 {
        assert_eq!(tier(&cache, id).await, Some(Tier::Source));
        cache.idle().await;
        assert_eq!(tier(&cache, id).await, Some(Tier::Shared), "user {id}");
        cache.request().invalidate::<UserById>([id]).await.unwrap();
        assert_eq!(tier(&cache, id).await, Some(Tier::Source));
    }
    cache.close().await.unwrap();
    assert_eq!(said(&events), [""; 0]);
    assert!(began.elapsed() < Duration::from_millis(500), "no budget ran out: {:?}", began.elapsed());
}

/// Everything works on the runtime of the caller: a load, a fill, a hit, a write, and a hit of what it left.
async fn all_works(cache: &Cache, db: &Db, id: u64) {
    let sees = async || {
        let users = cache.request().get_outcomes::<UserById>([id]).await;
        (users[&id].value().unwrap().unwrap().version, users[&id].tier().unwrap())
    };
    let version = db.update(id);
    cache.request().invalidate::<UserById>([id]).await.unwrap();
    assert_eq!(sees().await, (version, Tier::Source));
    cache.idle().await;
    assert_eq!(sees().await, (version, Tier::Shared));
}

/// A cache that one runtime after the other uses, then one beside one that is left standing, then two at once.
fn serves_every_runtime(cache: &'static OnceLock<(Cache, Events)>, region: Region) {
    let db = Arc::new(Db::default());
    let first = runtime();
    // a busy machine may be slow, and says so
    let region = region.shared_budget(LONG).shared_soft_budget(LONG);
    assert!(cache.set(first.block_on(cache_over(region, &db))).is_ok());
    let (cache, events) = cache.get().unwrap();
    run(&first, all_works(cache, &db, 1));
    drop(first);
    for id in 1..=3 {
        run(&runtime(), all_works(cache, &db, id));
    }
    let standing = runtime();
    run(&standing, all_works(cache, &db, 4));
    run(&runtime(), all_works(cache, &db, 4));
    run(&standing, all_works(cache, &db, 4));
    std::thread::scope(|scope| {
        for (id, rounds) in [(5, 1), (6, 20)] {
            let db = &db;
            scope.spawn(move || {
                let runtime = runtime();
                (0..rounds).for_each(|_| run(&runtime, all_works(cache, db, id)));
            });
        }
    });
    assert_eq!(said(events), [""; 0]);
    run(&runtime(), cache.close()).unwrap();
    run(&runtime(), cache.close()).expect("it is closed already");
    futures_util::FutureExt::now_or_never(cache.close()).expect("nothing is left to wait for").unwrap();
}

#[test]
fn a_cache_over_memory_serves_every_runtime() {
    static CACHE: OnceLock<(Cache, Events)> = OnceLock::new();
    serves_every_runtime(&CACHE, Region::memory());
}

#[test]
fn a_cache_over_an_embedded_file_serves_every_runtime() {
    static CACHE: OnceLock<(Cache, Events)> = OnceLock::new();
    let folder = tempfile::tempdir().unwrap();
    serves_every_runtime(&CACHE, Region::embedded(folder.path()));
}

/// A read that was under way on a runtime when that ended.
#[test]
fn a_load_that_went_down_with_its_runtime_is_done_by_those_who_wait_for_it() {
    let first = runtime();
    let world = first.block_on(World::new());
    let gate = world.db.close_gate();
    first.block_on(async {
        world.start::<UserById>(1);
        gate.arrived(1).await;
    });
    world.trips();
    let waiting = world.clone();
    let waits = std::thread::spawn(move || run(&runtime(), waiting.sees(1)));
    let began = Instant::now();
    while !world.trips().contains(&"shared read [1]".to_owned()) {
        assert!(began.elapsed() < LONG, "it does not look");
        std::thread::sleep(Duration::from_millis(5));
    }
    // it has looked, and waits for the flight
    std::thread::sleep(Duration::from_millis(50));
    gate.open_for_good();
    drop(first);
    assert_eq!(waits.join().unwrap(), 0);
}

/// Polls a read inside of a runtime that nobody drives, until it is done or waits for others.
fn poll_in<T>(handle: &Handle, read: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    let _inside = handle.enter();
    (0..1000).find_map(|_| futures_util::FutureExt::now_or_never(&mut *read))
}

/// What carries a read is a task, and the runtime that it would be given to runs none any longer.
#[test]
fn a_read_on_a_runtime_that_was_shut_down_says_so() {
    let ended = runtime();
    let world = ended.block_on(World::new());
    let handle = ended.handle().clone();
    drop(ended);
    let request = world.request();
    let says = |error: &mastaba::Error| {
        assert!(error.is_usage(), "{error}");
        assert_eq!(
            error.to_string(),
            "source user: the tokio runtime of this read was shut down, and nothing can be read on it any longer; read on \
             one that runs"
        );
    };
    let mut one = Box::pin(request.get::<UserById>(1));
    says(&poll_in(&handle, &mut one).expect("there is nothing to wait for").unwrap_err());
    let mut many = Box::pin(request.get_outcomes::<UserById>([1, 2]));
    let many = poll_in(&handle, &mut many).expect("there is nothing to wait for");
    many.values().for_each(|outcome| says(outcome.error().expect("nothing was read")));
    assert_eq!(world.trips(), [""; 0]);
    let read = request.get::<UserById>(1);
    assert_eq!(
        run(&runtime(), read).unwrap().unwrap().name,
        "user 1",
        "the request itself is as good as before"
    );
}

/// Readers of one request wait for each other's reads, also from one runtime to the next.
#[test]
fn a_read_that_goes_down_with_the_runtime_of_another_reader_is_begun_anew_twice_and_then_says_so() {
    let here = runtime();
    let world = here.block_on(World::new());
    let request = world.request();
    let gate = world.db.close_gate();
    // a runtime whose task carries the only read of the key
    let carrying = |nth: u64| {
        let carrier = runtime();
        let request = request.clone();
        carrier.block_on(async {
            tokio::spawn(async move { request.get::<UserById>(1).await });
            gate.arrived(nth).await;
        });
        carrier
    };
    let first = carrying(1);
    let mut read = Box::pin(request.get::<UserById>(1));
    assert!(poll_in(here.handle(), &mut read).is_none(), "it waits");
    drop(first);
    let second = carrying(2);
    assert!(poll_in(here.handle(), &mut read).is_none(), "it waits for the next");
    drop(second);
    let third = carrying(3);
    assert!(poll_in(here.handle(), &mut read).is_none(), "and for the one after");
    drop(third);
    let error = poll_in(here.handle(), &mut read).expect("three are enough").unwrap_err();
    assert!(error.is_usage(), "{error}");
    assert_eq!(
        error.to_string(),
        "source user: this read waited 3 times for a read of the same request on another runtime, and each of those \
         runtimes was shut down before it was answered; read again"
    );
    gate.open_for_good();
    assert_eq!(run(&here, request.get::<UserById>(1)).unwrap().unwrap().name, "user 1");
}

/// A program that warms its cache up on a runtime of its own, keeps that, and then serves on another one.
#[test]
fn what_stands_still_on_a_runtime_that_nobody_drives_holds_nobody_up() {
    for processes in [false, true] {
        let standing = runtime();
        let world = standing.block_on(async {
            if processes { World::across_processes(|region| region).await } else { World::new().await }
        });
        // answered, and its fill is not done
        standing.block_on(world.sees(1));
        // in the middle of its load
        let gate = world.db.close_gate();
        standing.block_on(async {
            world.start::<UserById>(2);
            gate.arrived(1).await;
        });
        gate.only_those_here();
        runtime().block_on(async {
            let began = Instant::now();
            let both = async { tokio::join!(world.sees(1), world.sees(2)) };
            assert_eq!(timeout(LONG, both).await.expect("both are answered"), (0, 0));
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
            // and from then on nobody waits
            let began = Instant::now();
            timeout(LONG, async { tokio::join!(world.sees(1), world.sees(2)) }).await.unwrap();
            assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
            world.db.update(2);
            world.request().invalidate::<UserById>([2]).await.unwrap();
            assert_eq!(world.sees(2).await, 1);
            timeout(LONG, world.idle()).await.expect("what stands still is not waited for");
            timeout(LONG, world.cache.close()).await.expect("nor at the end").unwrap();
        });
        // should it go on after all, it brings nothing back
        gate.open_for_good();
        standing.block_on(world.idle());
        assert_eq!(runtime().block_on(world.sees(2)), 1);
    }
}

/// A load on another runtime that gets on, however slowly, is waited for: it is one load.
#[test]
fn a_slow_load_on_another_runtime_that_is_driven_is_joined() {
    let first = runtime();
    let world = first.block_on(World::new());
    let gate = world.db.close_gate();
    let loading = world.clone();
    let loads = std::thread::spawn(move || run(&first, loading.sees(1)));
    runtime().block_on(async {
        gate.arrived(1).await;
        let open = async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            gate.open();
        };
        let (seen, ()) = tokio::join!(timeout(LONG, world.sees(1)), open);
        assert_eq!(seen.unwrap(), 0);
        assert_eq!(gate.arrivals(), 1, "nobody loaded it once more");
    });
    loads.join().unwrap();
}

/// The one operation that tries a broken tier again stands still with its runtime.
#[test]
fn a_probe_that_stands_still_with_its_runtime_does_not_keep_the_others_from_trying() {
    let standing = runtime();
    let pause = Duration::from_millis(50);
    let world = standing.block_on(World::with(|region| region.breaker_failures(1).breaker_pause(pause)));
    let probe = world.shared.before("read");
    standing.block_on(async {
        probe.only_those_here();
        world.sees(1).await;
        world.idle().await;
        world.shared.down(&["read"]);
        world.sees(1).await;
        assert!(world.events().iter().any(|event| event.contains("passed over")), "{:?}", world.events());
        world.shared.down(&[]);
        tokio::time::sleep(2 * pause).await;
        let probe = world.shared.before("read");
        world.start::<UserById>(1);
        probe.arrived(1).await;
        probe.only_those_here();
    });
    runtime().block_on(async {
        let began = Instant::now();
        while tier(&world.cache, 1).await != Some(Tier::Shared) {
            assert!(began.elapsed() < LONG, "the tier answers, and is passed over for ever");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_runtime_without_timers_is_named_and_what_to_call() {
    let bare = Builder::new_current_thread().enable_io().build().unwrap();
    let told = |error: mastaba::Error| {
        assert!(error.is_usage(), "{error}");
        let said = error.to_string();
        assert!(said.contains("without timers") && said.contains("enable_all"), "{said}");
    };
    let building = Cache::builder().region("objects", Region::memory()).build();
    told(bare.block_on(building).unwrap_err());

    let good = runtime();
    let world = good.block_on(World::new());
    let request = world.request();
    for _ in 0..2 {
        told(bare.block_on(request.get::<UserById>(1)).unwrap_err());
        told(bare.block_on(request.get_many::<UserById>([1, 2])).unwrap_err());
        told(bare.block_on(request.invalidate::<UserById>([1])).unwrap_err());
        told(bare.block_on(world.cache.region("objects").clear()).unwrap_err());
        told(bare.block_on(world.cache.region("objects").invalidate_tag("tag")).unwrap_err());
    }
    assert_eq!(world.trips(), [""; 0], "nothing was begun there");
    // it is a matter of that runtime alone
    assert_eq!(good.block_on(request.get::<UserById>(3)).unwrap().unwrap().id, 3);
    bare.block_on(world.idle());
    bare.block_on(world.cache.close()).unwrap();
}

/// Where nothing but memory is behind it, a cache is built anywhere.
#[test]
fn a_cache_may_be_built_and_dropped_where_there_is_no_runtime() {
    let building =
        Cache::builder().region("objects", Region::memory()).source(UserById(Arc::default())).build();
    let cache = futures_util::FutureExt::now_or_never(building).unwrap().unwrap();
    let other = cache.clone();
    assert_eq!(runtime().block_on(async move { tier(&other, 1).await }), Some(Tier::Source));
    drop(cache);
}

#[test]
fn runtimes_within_runtimes_and_local_sets_read_through_one_cache() {
    let around = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = around.block_on(World::new());
    let inner = world.clone();
    around.block_on(async {
        let nested = tokio::task::spawn_blocking(move || runtime().block_on(timeout(LONG, inner.sees(1))));
        assert_eq!(nested.await.unwrap().unwrap(), 0);
        let inner = world.clone();
        let blocking =
            async move { tokio::task::block_in_place(|| Handle::current().block_on(inner.sees(1))) };
        assert_eq!(timeout(LONG, tokio::spawn(blocking)).await.unwrap().unwrap(), 0);
    });
    let local = tokio::task::LocalSet::new();
    let inner = world.clone();
    let reads = local.block_on(&runtime(), async move {
        let reads = (1..=5).map(|id| {
            let inner = inner.clone();
            tokio::task::spawn_local(async move { inner.sees(id).await })
        });
        timeout(LONG, futures_util::future::join_all(reads)).await
    });
    assert!(reads.unwrap().into_iter().all(|seen| seen.unwrap() == 0));
}

/// Workers that have a runtime each and one cache, as actix has them; half of them end early.
#[test]
fn workers_with_a_runtime_each_share_their_loads_and_may_end_one_by_one() {
    let world = runtime().block_on(World::new());
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (world, barrier) = (&world, &barrier);
            scope.spawn(move || {
                let runtime = runtime();
                barrier.wait();
                for round in 0..if worker < 2 { 5 } else { 40 } {
                    let ids = round * 10 + 1..=round * 10 + 10;
                    let read =
                        async { world.request().get_many::<UserById>(ids).await.unwrap().found().count() };
                    assert_eq!(run(&runtime, read), 10);
                }
            });
        }
    });
}
