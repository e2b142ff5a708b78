//! What a request works out once.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{Error, LoadContext, RequestCache, Rows, Source};
use mastaba_test::world::{DbError, DbFault, UserById, World};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// Counts how often it is worked out.
#[derive(Default)]
struct Counter(AtomicU32);

impl Counter {
    async fn work(&self) -> Result<u32, DbError> {
        let nth = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(Duration::from_millis(5)).await;
        Ok(nth)
    }

    fn worked(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

async fn request() -> RequestCache {
    World::new().await.request()
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_once_share_one_run_and_so_do_those_who_come_later() {
    let (request, counter) = (request().await, Counter::default());
    let ask = || request.once("rates", 1, || counter.work());
    let (a, b, c) = tokio::try_join!(ask(), ask(), ask()).unwrap();
    assert!(Arc::ptr_eq(&a, &b) && Arc::ptr_eq(&b, &c));
    let later = request.clone().once("rates", 1, || counter.work()).await.unwrap();
    assert_eq!((*later, counter.worked()), (1, 1));
    // it belongs to its request
    let other = request.cache().request();
    assert_eq!(*other.once("rates", 1, || counter.work()).await.unwrap(), 2);
}

#[tokio::test]
async fn name_type_and_key_make_it_another_thing() {
    let request = request().await;
    let text =
        |key: u8, said: &'static str| request.once("a", key, move || async move { Ok::<_, DbError>(said) });
    assert_eq!(*text(1, "one").await.unwrap(), "one");
    assert_eq!(*text(2, "two").await.unwrap(), "two");
    assert_eq!(*text(1, "again").await.unwrap(), "one");
    let number = request.once("a", 1u8, || async { Ok::<_, DbError>(7) }).await.unwrap();
    assert_eq!(*number, 7, "another type of value");
    let wide = request.once("a", 1u64, || async { Ok::<_, DbError>("wide") }).await.unwrap();
    assert_eq!(*wide, "wide", "another type of key");
    let named = request.once("b", 1u8, || async { Ok::<_, DbError>("named") }).await.unwrap();
    assert_eq!(*named, "named");
    let pair = request.once("a", ("x".to_owned(), 1), || async { Ok::<_, DbError>("pair") }).await.unwrap();
    assert_eq!(*pair, "pair");
}

#[tokio::test(start_paused = true)]
async fn when_the_first_caller_is_dropped_another_one_takes_over() {
    let request = request().await;
    let first = timeout(
        Duration::from_millis(1),
        request.once("rates", (), || async {
            pending::<()>().await;
            Ok::<_, DbError>("never")
        }),
    );
    let counter = Counter::default();
    let other = || async {
        yield_now().await; // not the first
        request.once("rates", (), || async { counter.work().await.map(|_| "by another") }).await
    };
    let waiting = async { tokio::join!(other(), other(), other()) };
    let (first, (a, b, c)) = timeout(Duration::from_secs(5), async { tokio::join!(first, waiting) })
        .await
        .expect("nobody is left hanging");
    assert!(first.is_err(), "it was dropped");
    assert_eq!([*a.unwrap(), *b.unwrap(), *c.unwrap()], ["by another"; 3]);
    assert_eq!(counter.worked(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_all_callers_are_dropped_the_next_one_begins_anew() {
    let request = request().await;
    let hangs = || async {
        pending::<()>().await;
        Ok::<_, DbError>(1)
    };
    let both = async { tokio::join!(request.once("n", (), hangs), request.once("n", (), hangs)) };
    assert!(timeout(Duration::from_millis(1), both).await.is_err());
    assert_eq!(*request.once("n", (), || async { Ok::<_, DbError>(2) }).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_error_reaches_all_who_wait_and_is_not_remembered() {
    let (request, tries) = (request().await, &AtomicU32::new(0));
    let ask = || {
        request.once("rates", 1, move || async move {
            sleep(Duration::from_millis(5)).await;
            match tries.fetch_add(1, Ordering::Relaxed) {
                0 => Err(DbError("no line".into())),
                nth => Ok(nth),
            }
        })
    };
    let (a, b) = tokio::join!(ask(), ask());
    for error in [a.unwrap_err(), b.unwrap_err()] {
        assert!(error.is_source() && error.downcast_ref::<DbError>().is_some(), "{error:?}");
        assert_eq!(error.to_string(), "once \"rates\" failed: no line");
    }
    assert_eq!(*ask().await.unwrap(), 1);
    assert_eq!(tries.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_error_of_a_read_in_it_keeps_its_kind() {
    let world = World::new().await;
    world.db.fail_next(DbFault::Panic("out of luck".into()));
    let request = world.request();
    let user =
        request.once("user", 1, || async { request.get::<UserById>(1).await.map(|user| user.unwrap().id) });
    let error = user.await.unwrap_err();
    assert!(error.is_panic(), "{error:?}");
    assert!(error.to_string().starts_with("once \"user\": source user: the loader panicked"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_for_all_who_wait_and_is_not_remembered() {
    let request = request().await;
    let ask = || {
        request.once("rates", 1, || async {
            sleep(Duration::from_millis(5)).await;
            if true {
                panic!("out of luck");
            }
            Ok::<_, DbError>(1)
        })
    };
    let (a, b) = tokio::join!(ask(), ask());
    for error in [a.unwrap_err(), b.unwrap_err()] {
        assert!(error.is_panic(), "{error:?}");
        assert_eq!(error.to_string(), "once \"rates\": it panicked: out of luck");
    }
    assert_eq!(*request.once("rates", 1, || async { Ok::<_, DbError>(2) }).await.unwrap(), 2);
}

#[tokio::test]
async fn one_that_asks_for_itself_is_told_so() {
    let request = &request().await;
    let inner = || async move { request.once("a", 1, || async { Ok::<_, Error>(1) }).await.map(|one| *one) };
    let outer = request.once("a", 1, inner);
    let error = timeout(Duration::from_secs(5), outer).await.expect("it hangs").unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("it would wait for ever"), "{error}");
    // another key is another thing
    let inner = || async move { request.once("a", 2, || async { Ok::<_, Error>(2) }).await.map(|two| *two) };
    assert_eq!(*request.once("a", 1, inner).await.unwrap(), 2);
}

#[tokio::test]
async fn two_that_ask_for_each_other_are_told_so() {
    let request = request().await;
    let ask = |this: u8, other: u8| {
        let request = request.clone();
        tokio::spawn(async move {
            let within = request.clone();
            let work = move || async move {
                sleep(Duration::from_millis(5)).await; // both have begun
                let late = || async { Ok::<_, Error>(0) };
                within.once("each", other, late).await.map(|number| *number + 1)
            };
            request.once("each", this, work).await
        })
    };
    let both = async { tokio::join!(ask(1, 2), ask(2, 1)) };
    let (one, two) = timeout(Duration::from_secs(5), both).await.expect("they hang");
    let told = [one.unwrap(), two.unwrap()].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(!told.is_empty() && told.iter().all(Error::is_usage), "{told:?}");
}

#[tokio::test]
async fn its_reads_travel_with_all_others_of_the_request() {
    let request = &request().await;
    let name = |id: u64| {
        request.once("name", id, move || async move {
            request.get::<UserById>(id).await.map(|user| user.unwrap().name.clone())
        })
    };
    let (a, b, c) = tokio::try_join!(name(1), name(2), request.get::<UserById>(3)).unwrap();
    assert_eq!((a.as_str(), b.as_str(), c.unwrap().id), ("user 1", "user 2", 3));
    assert_eq!((request.report().shared_trips(), request.report().statements()), (2, 1));
}

#[tokio::test]
async fn a_request_that_is_renewed_works_it_out_again() {
    let (request, counter) = (request().await, Counter::default());
    assert_eq!(*request.once("rates", 1, || counter.work()).await.unwrap(), 1);
    request.renew();
    assert_eq!(*request.once("rates", 1, || counter.work()).await.unwrap(), 2);
    // a run that is on its way while the request is renewed is for those who wait, and does not go before a later one
    let slow = request.once("slow", 1, || counter.work());
    let renewed = async {
        yield_now().await;
        request.renew();
        request.once("slow", 1, || counter.work()).await
    };
    let (slow, renewed) = tokio::try_join!(slow, renewed).unwrap();
    assert_eq!((*slow, *renewed), (3, 4));
    assert_eq!(*request.once("slow", 1, || counter.work()).await.unwrap(), 4);
}

/// Uses what its request has worked out.
struct Rated;

impl Source for Rated {
    type Key = u64;
    type Value = u64;
    type Error = Error;
    const NAME: &'static str = "rated";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Error> {
        let rate = cx.request().once("rate", (), || async { Ok::<_, DbError>(3u64) }).await?;
        Ok(keys.iter().map(|key| (*key, key * *rate)).collect())
    }
}

#[tokio::test]
async fn a_load_is_stored_if_what_it_used_is_no_older_than_itself() {
    let world =
        World::build::<false>(Memory::default(), |region| region, |builder, _| builder.source(Rated)).await;
    for statements in [1, 0] {
        let request = world.request();
        assert_eq!(request.get::<Rated>(1).await.unwrap().as_deref(), Some(&3));
        assert_eq!(request.report().statements(), statements, "worked out by the load itself");
        world.idle().await;
    }
    let request = world.request();
    request.once("rate", (), || async { Ok::<_, DbError>(100u64) }).await.unwrap();
    assert_eq!(request.get::<Rated>(2).await.unwrap().as_deref(), Some(&200));
    world.idle().await;
    assert_eq!(
        world.request().get::<Rated>(2).await.unwrap().as_deref(),
        Some(&6),
        "nobody else has 200 (R6)"
    );
}
