//! Sources that are written as one closure.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mastaba::{Cache, Region, RequestCache, Source};
use mastaba_test::world::DbError;

mastaba::source! {
    /// With something that it holds, and an early return.
    struct Halved(Arc<AtomicUsize>) as "halved" in "numbers" {
        const TAGS: &'static [&'static str] = &["halves"];
        const VERSION: u32 = 2;
    }

    async |calls, cx, keys: &[u32]| -> Result<Vec<(u32, u32)>, DbError> {
        calls.fetch_add(1, Ordering::Relaxed);
        if keys.contains(&13) {
            return Err(DbError("unlucky".into()));
        }
        if keys.contains(&100) {
            cx.do_not_store();
        }
        let halve = |key: &u32| key.is_multiple_of(2).then(|| (*key, key / 2));
        Ok(keys.iter().filter_map(halve).collect())
    }
}

mastaba::source! {
    struct Texts as "texts" in "numbers";

    async |_, keys: &[(u8, String)]| -> Result<Vec<((u8, String), String)>, DbError> {
        std::future::ready(()).await;
        Ok(keys.iter().map(|key| (key.clone(), key.1.repeat(key.0.into()))).collect())
    }
}

async fn request() -> (RequestCache, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let builder = Cache::builder().region("numbers", Region::memory()).source(Halved(calls.clone()));
    (builder.source(Texts).build().await.unwrap().request(), calls)
}

#[tokio::test]
async fn a_closure_is_called_once_for_what_is_awaited_together_and_rows_that_it_leaves_out_are_absent() {
    let (request, calls) = request().await;
    let halved = |key: u32| request.get::<Halved>(key);
    let (four, six, odd) = tokio::try_join!(halved(4), halved(6), halved(7)).unwrap();
    assert_eq!((four.as_deref(), six.as_deref(), odd), (Some(&2), Some(&3), None));
    assert_eq!((request.report().statements(), calls.load(Ordering::Relaxed)), (1, 1));
    let text = request.get::<Texts>((3, "ab".to_owned())).await.unwrap().unwrap();
    assert_eq!(*text, "ababab");
}

#[tokio::test]
async fn its_error_is_the_cause_and_what_it_says_of_itself_counts() {
    let (request, _) = request().await;
    let error = request.get::<Halved>(13).await.unwrap_err();
    assert!(error.is_source() && error.downcast_ref::<DbError>().is_some(), "{error:?}");
    assert!(error.to_string().contains("source halved") && error.to_string().contains("unlucky"), "{error}");
    assert_eq!(
        (Halved::TAGS, Halved::VERSION, Halved::NAME, Halved::REGION),
        (&["halves"][..], 2, "halved", "numbers")
    );
    // through its context: not stored, and so loaded again by the next request
    let cache = request.cache();
    for _ in 0..2 {
        let request = cache.request();
        assert_eq!(request.get::<Halved>(100).await.unwrap().as_deref(), Some(&50));
        assert_eq!(request.report().statements(), 1);
        cache.idle().await;
    }
    // a tag that it says voids what it loaded
    request.get::<Halved>(2).await.unwrap();
    cache.idle().await;
    cache.region("numbers").invalidate_tag("halves").await.unwrap();
    let request = cache.request();
    request.get::<Halved>(2).await.unwrap();
    assert_eq!(request.report().statements(), 1);
}
