//! What happens to keys between the read that asks for them and the trip that they take.

use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use mastaba_test::world::{UserById, World};

#[tokio::test]
async fn a_key_that_is_written_again_while_it_gathers_has_its_row_for_both_readers() {
    let world = World::new().await;
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let again = async {
        write.invalidate::<UserById>([1]).await.unwrap();
        request.get::<UserById>(1).await
    };
    let (one, two) = tokio::join!(request.get::<UserById>(1), again);
    assert!(one.unwrap().is_some() && two.unwrap().is_some());
    // two loads: no loader is given a key twice
    assert_eq!(world.trips(), ["source load user from the writer [1]"; 2]);
}

/// A reader waits for others to add keys to its batch. Somebody who always adds one more must not keep it from leaving.
#[tokio::test]
async fn a_reader_is_answered_although_another_task_adds_a_key_at_every_poll() {
    let world = World::new().await;
    let request = world.request();
    let mut adding = Vec::new();
    let mut keys = (2..).map(|nth| nth % 900 + 2);
    let always_more = std::future::poll_fn({
        let request = request.clone();
        move |cx| {
            let request = request.clone();
            let key = keys.next().unwrap();
            let mut get = async move { request.get::<UserById>(key).await }.boxed();
            // it gathers; held, so that its key stays in the batch
            if get.poll_unpin(cx).is_pending() {
                adding.push(get);
            }
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }
    });
    let always_more = tokio::spawn(always_more);
    let first = tokio::spawn(async move { request.get::<UserById>(1).await });
    let first =
        tokio::time::timeout(Duration::from_secs(8), first).await.expect("it leaves without the others");
    assert_eq!(first.unwrap().unwrap().unwrap().id, 1);
    always_more.abort();
}
