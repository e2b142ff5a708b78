//! Batches of two processes that wait for each other: each has leases on what the other one asks for.

use std::time::Duration;

use mastaba::entry::{self, Fence, Header, Kind};
use mastaba::shared::Shared;
use mastaba_test::world::{PhotoById, UserById, World};
use tokio::time::{Instant, advance, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// The lease of a process that has been cut off.
fn lease_of_nobody(world: &World) -> Vec<u8> {
    entry::write(&Header::new(Kind::Lease, Fence::random(), world.memory.incarnation()), &[], &[], &[])
}

async fn two_processes() -> (World, World) {
    let one = World::across_processes(|region| region.lease_patience(PATIENCE)).await;
    let two = one.second_with(|region| region.lease_patience(PATIENCE)).await;
    (one, two)
}

#[tokio::test(start_paused = true)]
async fn batches_of_two_processes_that_lease_each_others_keys_do_not_wait_for_each_other() {
    let (one, two) = two_processes().await;
    one.plant("user:1", lease_of_nobody(&one)).await;
    let began = Instant::now();
    let first = tokio::spawn({
        let request = one.request();
        async move { request.get_many::<UserById>([1, 2]).await.unwrap().found().count() }
    });
    one.settle().await; // has the lease of user 2, and waits for user 1
    one.memory.invalidate(&["mastaba:objects:user:1".into()], &[]).await.unwrap();
    let second = tokio::spawn({
        let request = two.request();
        async move { request.get_many::<UserById>([1, 2]).await.unwrap().found().count() }
    });
    two.settle().await; // has the lease of user 1, and waits for user 2, if it was not stored by now
    advance(Duration::from_millis(1)).await;
    let found = timeout(PATIENCE * 2, async { (first.await.unwrap(), second.await.unwrap()) }).await.unwrap();
    assert_eq!(found, (2, 2));
    assert!(began.elapsed() < PATIENCE / 4, "they waited for each other, {:?}", began.elapsed());
    // what each has loaded is stored before it has come to the end of its wait
    assert_eq!(one.loads_of("user").values().sum::<usize>(), 2, "{:?}", one.loads_of("user"));
}

#[tokio::test(start_paused = true)]
async fn nor_where_the_keys_are_of_two_sources() {
    let (one, two) = two_processes().await;
    one.plant("photo:1", lease_of_nobody(&one)).await;
    let began = Instant::now();
    let both = |world: &World| {
        let request = world.request();
        tokio::spawn(async move {
            let (user, photo) = tokio::join!(request.get::<UserById>(1), request.get::<PhotoById>(1));
            (user.unwrap().is_some(), photo.unwrap().is_some())
        })
    };
    let first = both(&one);
    one.settle().await; // has the lease of the user, and waits for the photo
    one.memory.invalidate(&["mastaba:objects:photo:1".into()], &[]).await.unwrap();
    let second = both(&two);
    two.settle().await;
    advance(Duration::from_millis(1)).await;
    let found = timeout(PATIENCE * 2, async { (first.await.unwrap(), second.await.unwrap()) }).await.unwrap();
    assert_eq!(found, ((true, true), (true, true)));
    // the rest of a batch waits for this long for a load that is slow
    assert!(
        began.elapsed() < Duration::from_millis(400),
        "they waited for each other, {:?}",
        began.elapsed()
    );
}

/// R5: that a fill was stored says nothing of an invalidation that came after it, also where it was sent early, for others
/// that may wait for it.
#[tokio::test(start_paused = true)]
async fn nobody_joins_a_load_whose_fill_was_sent_while_its_batch_waits_for_another_process() {
    let (one, two) = two_processes().await;
    one.plant("user:1", lease_of_nobody(&one)).await;
    let fills = one.shared.after("fill");
    let batch = tokio::spawn({
        let request = one.request();
        async move { request.get_many::<UserById>([1, 2]).await.unwrap()[&2].clone().unwrap().version }
    });
    fills.arrived(1).await; // user 2 is stored, and the answer is on its way
    assert!(!batch.is_finished(), "it waits for user 1");
    one.db.update(2);
    two.request().invalidate::<UserById>([2]).await.unwrap();
    let late = one.start::<UserById>(2);
    one.settle().await;
    fills.open_for_good();
    assert_eq!(late.await.unwrap().version, 1);
    assert_eq!(batch.await.unwrap(), 0, "it began before the write");
}
