//! Reads of one request in tasks of their own, which arrive one after the other.

use std::time::Duration;

use mastaba_test::world::{UserById, World};
use tokio::task::{JoinSet, yield_now};

/// Lets every other task go on as far as it can, without the clock moving on.
async fn turns() {
    for _ in 0..200 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn reads_that_arrive_while_a_batch_asks_leave_together_once_it_has_asked() {
    let world = World::new().await;
    let request = world.request();
    let gate = world.shared.before("read");
    let mut tasks = JoinSet::new();
    for key in 1..=20 {
        let request = request.clone();
        tasks.spawn(async move { request.get::<UserById>(key).await.unwrap().unwrap().id });
        turns().await; // each alone
    }
    assert_eq!(gate.arrivals(), 1);
    gate.open_for_good();
    let mut users = tasks.join_all().await;
    users.sort_unstable();
    assert_eq!(users, (1..=20).collect::<Vec<_>>());
    assert_eq!(world.loads().len(), 2, "{:#?}", world.loads());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_hangs_holds_up_others_of_its_request_for_a_millisecond() {
    let world = World::new().await;
    let request = world.request();
    let gate = world.shared.before("read");
    let read = |key| {
        let request = request.clone();
        tokio::spawn(async move { request.get::<UserById>(key).await.unwrap().unwrap().id })
    };
    let first = read(1);
    turns().await;
    let second = read(2);
    turns().await;
    assert_eq!(gate.arrivals(), 1, "it stands by");
    tokio::time::advance(Duration::from_millis(1)).await;
    turns().await;
    assert_eq!(gate.arrivals(), 2, "it went without the answer of the first");
    gate.open_for_good();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
}
