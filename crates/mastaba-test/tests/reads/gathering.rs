//! What happens to keys between the read that asks for them and the trip that they take.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{join_all, poll_fn};
use mastaba_test::world::{UserById, World};

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn new() -> (Arc<Self>, Waker) {
        let woken = Arc::new(Self::default());
        (woken.clone(), woken.into())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

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

#[tokio::test]
async fn of_those_who_are_awaited_together_one_looks_out_and_the_others_sleep() {
    let world = World::new().await;
    let request = world.request();
    let (polls, task) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let gets = (1..=100).map(|id| {
        let mut get = Box::pin(request.get::<UserById>(id));
        let polls = &polls;
        poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            get.as_mut().poll(cx)
        })
    });
    let mut all = pin!(join_all(gets));
    let users = poll_fn(|cx| {
        task.fetch_add(1, Ordering::Relaxed);
        all.as_mut().poll(cx)
    })
    .await;
    assert!(users.iter().all(|user| user.as_ref().unwrap().is_some()));
    let trips = world.trips();
    let count = |what: &str| trips.iter().filter(|trip| trip.starts_with(what)).count();
    assert_eq!((count("shared read"), count("source load")), (1, 1), "{trips:?}");
    // each when it comes to wait and when it is answered, and one a few times in between
    let (polls, task) = (polls.load(Ordering::Relaxed), task.load(Ordering::Relaxed));
    assert!(polls <= 2 * 100 + 6, "{polls} polls of 100 gets");
    assert!(task <= 8, "{task} polls of their task");
}

#[tokio::test]
async fn a_reader_that_sleeps_is_woken_at_once_when_the_one_that_looks_out_goes() {
    let world = World::new().await;
    let request = world.request();
    let (first, second) = (Woken::new(), Woken::new());
    let mut looks_out = Box::pin(request.get::<UserById>(1));
    assert!(looks_out.as_mut().poll(&mut Context::from_waker(&first.1)).is_pending());
    let mut sleeps = Box::pin(request.get::<UserById>(2));
    assert!(sleeps.as_mut().poll(&mut Context::from_waker(&second.1)).is_pending());
    assert_eq!((first.0.count(), second.0.count()), (1, 0), "one wakes itself, the other one sleeps");
    drop(looks_out);
    assert_eq!(second.0.count(), 1, "it has the lookout now");
    assert!(sleeps.as_mut().poll(&mut Context::from_waker(&second.1)).is_pending());
    assert_eq!(second.0.count(), 2, "and wakes itself");
    assert_eq!(sleeps.await.unwrap().unwrap().id, 2);
    assert_eq!(world.loads(), ["source load user [2]"], "nobody waits for the first key any longer");
}

#[tokio::test]
async fn a_reader_that_is_kept_and_not_polled_holds_nobody_up() {
    let world = World::new().await;
    let request = world.request();
    let mut kept = Box::pin(request.get::<UserById>(1));
    assert!(kept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let began = Instant::now();
    let read = tokio::time::timeout(Duration::from_secs(5), request.get::<UserById>(2));
    assert_eq!(read.await.expect("it is answered").unwrap().unwrap().id, 2);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(world.loads(), ["source load user [1, 2]"], "what gathered with it has travelled with it");
    assert_eq!(kept.await.unwrap().unwrap().id, 1);
}

#[tokio::test]
async fn a_reader_may_move_to_another_task_while_it_sleeps() {
    let world = World::new().await;
    let request = world.request();
    let mut looks_out = Box::pin({
        let request = request.clone();
        async move { request.get::<UserById>(1).await }
    });
    assert!(looks_out.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let mut sleeps = Box::pin({
        let request = request.clone();
        async move { request.get::<UserById>(2).await }
    });
    let old = Woken::new();
    assert!(sleeps.as_mut().poll(&mut Context::from_waker(&old.1)).is_pending());
    let sleeps = tokio::spawn(sleeps);
    tokio::task::yield_now().await; // it has been polled there
    let user = tokio::time::timeout(Duration::from_secs(5), sleeps).await.expect("it is woken where it is");
    assert_eq!(user.unwrap().unwrap().unwrap().id, 2);
    assert_eq!(looks_out.await.unwrap().unwrap().id, 1);
    assert_eq!(old.0.count(), 0, "and not where it was");
}
