//! Single flight: who loads, who joins, and what becomes of those who wait when a load goes wrong.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, future};
use mastaba::{Error, Outcome, RequestCache};
use mastaba_test::world::{DbError, DbFault, PhotoById, User, UserById, World};
use tokio::task::JoinHandle;

type Get = JoinHandle<Result<Option<Arc<User>>, Error>>;

/// A get of a request of its own, under way.
fn get(world: &World, key: u64) -> Get {
    get_in(world.request(), key)
}

fn get_in(request: RequestCache, key: u64) -> Get {
    tokio::spawn(async move { request.get::<UserById>(key).await })
}

async fn version(get: Get) -> u32 {
    get.await.unwrap().unwrap().unwrap().version
}

/// Twenty keys of a hundred, others for each request.
fn some_keys(nth: u64) -> Vec<u64> {
    (0..20).map(|at| 1 + (nth * 7 + at * 3) % 100).collect()
}

async fn two_hundred_requests(world: &World) {
    let requests = (0..200).map(|nth| {
        let request = world.request();
        tokio::spawn(async move {
            let users = request.get_many::<UserById>(some_keys(nth)).await.unwrap();
            assert_eq!(users.keys().copied().collect::<Vec<_>>(), some_keys(nth));
            assert!(users.found().all(|(key, user)| user.id == *key));
            assert_eq!(users.found().count(), 20);
        })
    });
    let requests: Vec<_> = requests.collect();
    world.settle().await;
    world.db.open_gate();
    for request in requests {
        request.await.unwrap();
    }
    world.idle().await;
}

#[tokio::test]
async fn two_hundred_requests_at_once_load_each_key_once() {
    for world in [World::new().await, World::across_processes(|region| region).await] {
        two_hundred_requests(&world).await;
        let loads = world.loads_of("user");
        assert_eq!(loads.len(), 100);
        assert!(loads.values().all(|loads| *loads == 1), "{loads:?}");
    }
}

#[tokio::test]
async fn two_hundred_requests_over_a_slow_load_join_it() {
    let world = World::new().await;
    let _gate = world.db.close_gate();
    two_hundred_requests(&world).await;
    let loads = world.loads_of("user");
    assert_eq!(loads.len(), 100);
    assert!(loads.values().all(|loads| *loads == 1), "{loads:?}");
}

#[tokio::test]
async fn two_hundred_requests_over_a_slow_load_join_it_where_other_processes_write_too() {
    let world = World::across_processes(|region| region).await;
    let _gate = world.db.close_gate();
    two_hundred_requests(&world).await;
    let loads = world.loads_of("user");
    assert_eq!(loads.len(), 100);
    assert!(loads.values().all(|loads| *loads == 1), "{loads:?}");
}

#[tokio::test]
async fn a_late_reader_joins_a_load_under_way() {
    let world = World::new().await;
    let gate = world.db.close_gate();
    let fills = world.shared.before("fill");
    let first = get(&world, 1);
    gate.arrived(1).await;
    let request = world.request();
    let late = get_in(request.clone(), 1);
    world.settle().await;
    gate.open();
    assert_eq!((version(first).await, version(late).await), (0, 0));
    assert_eq!(request.report().outcomes[0].joined, 1);
    assert_eq!(world.loads(), ["source load user [1]"]);
    fills.open_for_good();
}

#[tokio::test]
async fn where_others_write_a_late_reader_takes_a_value_only_once_its_fill_is_confirmed() {
    let world = World::across_processes(|region| region).await;
    let fills = world.shared.before("fill");
    let gate = world.db.close_gate();
    let first = get(&world, 1);
    gate.arrived(1).await;
    let late = get(&world, 1);
    world.settle().await;
    gate.open();
    assert_eq!(version(first).await, 0);
    fills.arrived(1).await;
    world.settle().await;
    assert!(!late.is_finished(), "it waits for the fill (R5)");
    fills.open();
    assert_eq!(version(late).await, 0);
    assert_eq!(world.loads(), ["source load user [1]"]);
}

#[tokio::test]
async fn where_others_write_a_reader_that_began_before_the_load_does_not_wait_for_its_fill() {
    let world = World::across_processes(|region| region).await;
    let fills = world.shared.before("fill");
    let reads = world.shared.after("read");
    let gate = world.db.close_gate();
    let first = get(&world, 1);
    let second = get(&world, 1);
    reads.arrived(2).await;
    reads.open();
    gate.arrived(1).await;
    reads.open();
    world.settle().await;
    gate.open();
    assert_eq!((version(first).await, version(second).await), (0, 0));
    assert_eq!(world.loads(), ["source load user [1]"]);
    fills.open_for_good();
}

#[tokio::test]
async fn where_others_write_a_late_reader_of_a_load_whose_fill_is_refused_loads_again() {
    let world = World::across_processes(|region| region).await;
    let elsewhere = world.second().await;
    let gate = world.db.close_gate();
    let first = get(&world, 1);
    gate.arrived(1).await;
    world.db.update(1);
    elsewhere.request().invalidate::<UserById>([1]).await.unwrap();
    let late = get(&world, 1); // nothing in this process knows of the invalidation
    world.settle().await;
    assert_eq!(gate.arrivals(), 1, "it joins");
    gate.open_for_good();
    assert_eq!(version(first).await, 0, "it began before the write");
    assert_eq!(version(late).await, 1);
    world.idle().await;
    assert_eq!(version(get(&world, 1)).await, 1);
    assert_eq!(world.loads_of("user"), [(1, 2)].into());
}

/// That a fill was stored says nothing of an invalidation by another process that came after it (R5).
#[tokio::test]
async fn where_others_write_nobody_joins_a_load_whose_fill_was_sent() {
    let world = World::across_processes(|region| region).await;
    let elsewhere = world.second().await;
    let fills = world.shared.after("fill");
    assert_eq!(version(get(&world, 1)).await, 0);
    fills.arrived(1).await; // stored, and the answer is on its way
    world.db.update(1);
    elsewhere.request().invalidate::<UserById>([1]).await.unwrap();
    let late = get(&world, 1);
    world.settle().await;
    fills.open_for_good();
    assert_eq!(version(late).await, 1);
}

#[tokio::test]
async fn a_reader_that_begins_after_an_invalidation_does_not_join_a_load_from_before_it() {
    for world in [World::new().await, World::across_processes(|region| region).await] {
        let gate = world.db.close_gate();
        let before = get(&world, 1);
        gate.arrived(1).await;
        world.db.update(1);
        world.request().invalidate::<UserById>([1]).await.unwrap();
        let after = get(&world, 1);
        gate.arrived(2).await;
        gate.open_for_good();
        assert_eq!((version(before).await, version(after).await), (0, 1));
        world.idle().await;
        assert_eq!(version(get(&world, 1)).await, 1);
        assert_eq!(world.loads_of("user"), [(1, 2)].into());
    }
}

#[tokio::test]
async fn however_many_invalidations_come_two_loads_of_a_key_are_under_way_at_most() {
    let world = World::new().await;
    let gate = world.db.close_gate();
    let mut readers = vec![get(&world, 1)];
    gate.arrived(1).await;
    for _ in 0..5 {
        world.db.update(1);
        world.request().invalidate::<UserById>([1]).await.unwrap();
        readers.push(get(&world, 1));
        world.settle().await;
    }
    assert_eq!(gate.arrivals(), 2);
    gate.open(); // the oldest: those that queue may go on
    gate.arrived(3).await;
    world.settle().await;
    assert_eq!(gate.arrivals(), 3, "one load for all that queued");
    gate.open_for_good();
    let mut versions = Vec::new();
    for reader in readers {
        versions.push(version(reader).await);
    }
    assert_eq!(versions, [0, 1, 5, 5, 5, 5]);
    world.idle().await;
    assert_eq!(version(get(&world, 1)).await, 5);
    assert_eq!(world.loads_of("user"), [(1, 3)].into());
}

#[tokio::test]
async fn the_error_of_a_load_reaches_everybody_who_waits_and_is_not_remembered() {
    let world = World::new().await;
    world.db.fail_next(DbFault::Error("the disk is on fire".into()));
    let gate = world.db.close_gate();
    let requests: Vec<_> = (0..10).map(|_| world.request()).collect();
    let gets = requests.iter().map(|request| request.get_many::<UserById>([1, 2, 3]));
    let (all, ()) = tokio::join!(future::join_all(gets), async {
        gate.arrived(1).await;
        world.settle().await;
        gate.open_for_good();
    });
    for each in all {
        let error = each.err().unwrap();
        assert!(error.is_source() && !error.is_panic() && !error.is_timeout());
        assert_eq!(error.to_string(), "source user: loading 3 keys failed: the disk is on fire");
        assert_eq!(error.downcast_ref::<DbError>().unwrap().0, "the disk is on fire");
    }
    assert_eq!(world.loads(), ["source load user [1, 2, 3]"]);
    assert_eq!(world.events().len(), 1, "{:?}", world.events());
    assert_eq!(requests[0].get_many::<UserById>([1, 2, 3]).await.unwrap().found().count(), 3);
    assert_eq!(world.loads().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn dropping_who_started_a_load_at_any_moment_costs_nobody_else_his_value() {
    let step = Duration::from_millis(1);
    for moment in 0..24 {
        let world = World::new().await;
        world.shared.slow(step * 4);
        *world.db.takes.lock().unwrap() = step * 4;
        let request = world.request();
        let mut starter = Box::pin(request.get_many::<UserById>([1, 2]));
        assert!((&mut starter).now_or_never().is_none());
        let in_the_same = get_in(request.clone(), 1);
        tokio::task::yield_now().await;
        let elsewhere = get(&world, 2);
        for _ in 0..moment {
            if (&mut starter).now_or_never().is_some() {
                break;
            }
            tokio::time::sleep(step).await;
        }
        drop(starter);
        assert_eq!(in_the_same.await.unwrap().unwrap().unwrap().id, 1, "dropped at {moment}");
        assert_eq!(elsewhere.await.unwrap().unwrap().unwrap().id, 2, "dropped at {moment}");
        world.idle().await;
        assert_eq!(world.loads_of("user"), [(1, 1), (2, 1)].into(), "dropped at {moment}");
        assert_eq!(world.trips().last().unwrap()[..11], *"shared fill", "dropped at {moment}");
    }
}

#[tokio::test]
async fn a_get_that_is_dropped_before_its_batch_is_sent_is_not_asked_for() {
    let world = World::new().await;
    let request = world.request();
    let mut dropped = Box::pin(request.get_many::<UserById>([1, 2]));
    assert!((&mut dropped).now_or_never().is_none());
    let mut kept = Box::pin(request.get_many::<UserById>([2, 3]));
    assert!((&mut kept).now_or_never().is_none());
    drop(dropped);
    assert_eq!(kept.await.unwrap().len(), 2);
    assert_eq!(world.loads(), ["source load user [2, 3]"]);
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().id, 1, "asked for anew");
}

#[tokio::test]
async fn a_loader_that_panics_fails_its_own_keys_alone() {
    let world = World::with(|region| region.max_batch(2)).await;
    world.db.fail_next(DbFault::Panic("division by zero".into()));
    let request = world.request();
    let (users, photo) =
        tokio::join!(request.get_outcomes::<UserById>([1, 2, 3]), request.get::<PhotoById>(1));
    let error = users[&1].error().unwrap();
    assert!(error.is_panic() && error.is_source());
    let sentence = "source user: the loader panicked while loading 2 keys: division by zero";
    assert_eq!(error.to_string(), sentence);
    assert_eq!(users[&2].error().unwrap().to_string(), sentence);
    assert!(matches!(users[&3], Outcome::Value { .. }));
    assert!(photo.unwrap().is_some());
    assert_eq!(world.events(), [format!("source user: a load of 2 keys failed: {sentence}")]);
    assert!(request.get::<UserById>(1).await.unwrap().is_some(), "and is not remembered");
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_hangs_fails_its_own_keys_when_its_budget_is_over() {
    let world = World::with(|region| region.source_budget(Duration::from_secs(2))).await;
    world.db.fail_next(DbFault::Hang);
    let request = world.request();
    let began = tokio::time::Instant::now();
    let user = request.get::<UserById>(1);
    let photo = async {
        let photo = request.get::<PhotoById>(1).await;
        (photo, began.elapsed())
    };
    let (user, (photo, photo_took)) = tokio::join!(user, photo);
    let error = user.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(error.to_string(), "source user: loading 1 key took longer than the budget of 2s");
    assert_eq!(began.elapsed().as_secs(), 2);
    assert!(photo.unwrap().is_some() && photo_took < Duration::from_millis(200), "{photo_took:?}");
    assert_eq!(world.events().len(), 1);
    assert!(request.get::<UserById>(1).await.unwrap().is_some());
}

#[tokio::test]
async fn keys_that_a_loader_leaves_out_are_absent_and_rows_it_was_not_asked_for_are_dropped() {
    let world = World::new().await;
    world.db.fail_next(DbFault::Forget(vec![2]));
    world.db.fail_next(DbFault::Foreign(vec![9]));
    let users = world.request().get_many::<UserById>([1, 2]).await.unwrap();
    assert!(users[&1].is_some() && users[&2].is_none());
    let users = world.request().get_many::<UserById>([3, 4]).await.unwrap();
    assert_eq!(users.found().count(), 2);
    assert_eq!(users.len(), 2);
    world.idle().await;
    let events = ["source user: the loader gave back a row for 9, which it was not asked for"];
    assert_eq!(world.events(), events);
    assert!(world.request().peek::<UserById>(9).await.unwrap().is_none(), "it went nowhere");
}

#[tokio::test]
async fn two_rows_for_one_key_fail_that_key_alone() {
    let world = World::new().await;
    world.db.fail_next(DbFault::Twice(vec![2]));
    let users = world.request().get_outcomes::<UserById>([1, 2, 3]).await;
    assert!(matches!((&users[&1], &users[&3]), (Outcome::Value { .. }, Outcome::Value { .. })));
    let error = users[&2].error().unwrap();
    assert!(error.is_source());
    assert_eq!(error.to_string(), "source user: the loader gave back two rows for 2, and there may be one");
    assert_eq!(world.events(), ["source user: the loader gave back two rows for 2"]);
    world.idle().await;
    assert_eq!(world.trips().last().unwrap(), "shared fill [1, 3]");
}

#[tokio::test]
async fn a_shared_tier_that_is_down_costs_no_value_and_at_most_two_loads_of_a_key() {
    let parts: [&[&'static str]; 4] = [&["read"], &["lease"], &["fill"], &["read", "lease", "fill"]];
    for down in parts {
        for world in [World::new().await, World::across_processes(|region| region).await] {
            world.shared.down(down);
            let gate = world.db.close_gate();
            let readers: Vec<_> = (0..50).map(|_| get(&world, 1)).collect();
            world.settle().await;
            assert_eq!(gate.arrivals(), 1, "{down:?}");
            gate.open_for_good();
            for reader in readers {
                assert_eq!(version(reader).await, 0);
            }
            world.idle().await;
            assert!(world.loads_of("user")[&1] <= 2, "{down:?} {:?}", world.loads());
            let event = format!("region objects: {} failed: unplugged by the test", down[0]);
            assert!(world.events().contains(&event), "{:?}", world.events());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_tier_that_is_too_slow_counts_as_knowing_nothing() {
    for world in [World::new().await, World::across_processes(|region| region).await] {
        world.shared.slow(Duration::from_secs(5));
        *world.db.takes.lock().unwrap() = Duration::from_millis(10);
        let began = tokio::time::Instant::now();
        let readers: Vec<_> = (0..50).map(|_| get(&world, 1)).collect();
        for reader in readers {
            assert_eq!(version(reader).await, 0);
        }
        let took = began.elapsed();
        assert!(took < Duration::from_millis(1100), "one budget for the read, {took:?} in all");
        assert!(world.loads_of("user")[&1] <= 2, "{:?}", world.loads());
        let event = "region objects: read failed: no answer within the budget of 500ms".to_owned();
        assert!(world.events().contains(&event), "{:?}", world.events());
    }
}
