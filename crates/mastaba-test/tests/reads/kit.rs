//! The kit for tests of programs, each part of it seen failing.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use mastaba::{
    Cache, CacheBuilder, LoadContext, NearConfig, Policy, Region, Report, RequestCache, Rows, Source,
};
use mastaba_test::world::{PostById, UserById, World};
use mastaba_test::{TestCache, assert_flat};

/// What a future panicked with; nothing if it did not.
async fn said(work: impl Future<Output = ()>) -> String {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(()) => String::new(),
        Err(why) => why.downcast_ref::<String>().cloned().expect("a panic with a sentence"),
    }
}

/// Posts with their authors, as they should be read.
async fn together(rows: usize) -> RequestCache {
    let request = World::new().await.request();
    let posts = request.get_many::<PostById>(1..=rows as u64).await.unwrap();
    let authors = posts.found().map(|(_, post)| post.author.get(&request));
    futures_util::future::try_join_all(authors).await.unwrap();
    request
}

/// The same, each author by itself.
async fn one_by_one(rows: usize) -> RequestCache {
    let request = World::new().await.request();
    let posts = request.get_many::<PostById>(1..=rows as u64).await.unwrap();
    for (_, post) in posts.found() {
        post.author.get(&request).await.unwrap();
    }
    request
}

#[tokio::test]
async fn a_page_that_batches_is_flat() {
    assert_flat([1, 10, 100], together).await;
    assert_flat([1, 10], async |rows| Report::from(&together(rows).await)).await;
}

#[tokio::test]
async fn a_page_that_grows_with_its_rows_fails_with_both_reports() {
    assert_flat([1], one_by_one).await; // which cannot be told from one row
    let said = said(assert_flat([1, 10, 100], one_by_one)).await;
    let first = said.lines().next().unwrap();
    assert!(
        first.contains("kit.rs") && first.contains("the page grows with its rows: 1 cost 4 trips"),
        "{said}"
    );
    assert!(first.contains("and 2 statements, and 10 cost 13 and 11"), "{said}");
    assert!(said.contains("with 1:\n") && said.contains("with 10:\n"), "both reports: {said}");
    assert!(!said.contains("with 100:"), "it ends at the first that grows: {said}");
}

#[tokio::test]
async fn trips_alone_make_a_page_grow_too() {
    // all of it is stored: one by one costs no statement, and a trip each
    let world = World::new().await;
    world.request().get_many::<UserById>(1..=100).await.unwrap();
    world.idle().await;
    let page = async |rows: usize| {
        let request = world.request();
        for key in 1..=rows as u64 {
            request.get::<UserById>(key).await.unwrap();
        }
        request
    };
    let said = said(assert_flat([1, 10], page)).await;
    assert!(said.contains("1 cost 1 trips and 0 statements, and 10 cost 10 and 0"), "{said}");
}

/// A source that would refresh whatever it finds.
struct Eager;

impl Source for Eager {
    type Key = u64;
    type Value = u64;
    type Error = std::convert::Infallible;
    const NAME: &'static str = "eager";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Self::Error> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(keys.iter().map(|key| (*key, *key)).collect())
    }

    fn policy(&self, region: &Policy) -> Policy {
        // 20 milliseconds of work, a million times over: refreshed by every read
        region.clone().early_refresh(1e6).jitter(0.5)
    }
}

fn program() -> CacheBuilder {
    let settings = [("cache.objects.backend", "redis"), ("cache.objects.arguments.url", "redis://nowhere:1")];
    Cache::from_settings(settings).source(Eager)
}

#[tokio::test]
async fn a_cache_for_tests_keeps_in_memory_what_it_loads_and_refreshes_nothing_early() {
    let cache = TestCache::of(program()).await;
    let load = async |request: &RequestCache| *request.get::<Eager>(7).await.unwrap().unwrap();
    let (value, report) = cache.run(load).await;
    assert_eq!((value, report.statements()), (7, 1));
    assert!(
        report.trips.iter().any(|trip| trip.operation == mastaba::Operation::Fill),
        "waited for: {report}"
    );
    for _ in 0..20 {
        let (_, report) = cache.run(load).await;
        let loads = report.trips.iter().filter(|trip| trip.operation == mastaba::Operation::Load);
        assert_eq!((report.shared_trips(), loads.count()), (1, 0), "nor in the background: {report}");
    }
}

#[tokio::test]
async fn a_cache_for_tests_has_what_its_builder_says_besides() {
    // near, of a region that the program keeps in a file
    let region = Region::embedded("/nowhere/to/be/written").near(NearConfig::entries(100));
    let cache = TestCache::of(Cache::builder().region("objects", region).source(Eager)).await;
    for hits in [(0, 1), (1, 0)] {
        let (_, report) = cache.run(async |request| request.get::<Eager>(1).await.unwrap()).await;
        assert_eq!((report.outcomes[0].near_hits, report.outcomes[0].loaded), hits, "{report}");
    }
    assert!(!std::path::Path::new("/nowhere").exists());
    // and one region for all, where it names none
    let cache = TestCache::of(Cache::builder().source(Eager)).await;
    for statements in [1, 0] {
        let (_, report) = cache.run(async |request| request.get::<Eager>(1).await.unwrap()).await;
        assert_eq!(report.statements(), statements, "{report}");
    }
}

#[tokio::test]
async fn a_cache_for_tests_that_cannot_be_built_says_why() {
    let wrong = Cache::from_settings([("cache.objects.tll", "1h")]).source(Eager);
    let said = said(async { drop(TestCache::of(wrong).await) }).await;
    assert!(said.contains("tll") && said.contains("ttl"), "{said}");
    let other = Cache::builder().region("others", Region::null()).source(Eager);
    let said = self::said(async { drop(TestCache::of(other).await) }).await;
    assert!(said.contains("source eager") && said.contains("objects"), "{said}");
}
