//! What a route costs, as tests of a program ask for it.

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{Request, StatusCode};
use axum::routing::{get, post};
use futures_util::{FutureExt, StreamExt, stream};
use mastaba::{Budget, Operation};
use mastaba_axum::test::{self, Cost};
use mastaba_axum::{CacheLayer, RequestCache};
use mastaba_test::assert_flat;
use mastaba_test::world::{PostById, UserById, World};

async fn said(work: impl Future<Output = Cost>) -> String {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(_) => String::new(),
        Err(why) => why.downcast_ref::<String>().cloned().expect("a panic with a sentence"),
    }
}

async fn authors(cache: RequestCache, Path(rows): Path<u64>) -> String {
    let posts = cache.get_many::<PostById>(1..=rows).await.unwrap();
    let authors = posts.found().map(|(_, post)| post.author.get(&cache));
    let authors = futures_util::future::try_join_all(authors).await.unwrap();
    authors.into_iter().flatten().map(|author| author.name.clone()).collect::<Vec<_>>().join(" ")
}

/// The same page with the mistake in it.
async fn authors_one_by_one(cache: RequestCache, Path(rows): Path<u64>) -> String {
    let mut names = Vec::new();
    for (_, post) in cache.get_many::<PostById>(1..=rows).await.unwrap().found() {
        names.extend(post.author.get(&cache).await.unwrap().map(|author| author.name.clone()));
    }
    names.join(" ")
}

/// Reads while its body is read.
async fn streamed(cache: RequestCache) -> Body {
    Body::from_stream(stream::iter(1..=3).then(move |key| {
        let cache = cache.clone();
        async move { cache.get::<UserById>(key).await.map(|user| user.unwrap().name.clone()) }
    }))
}

async fn greet(cache: RequestCache, Path(id): Path<u64>, body: String) -> (StatusCode, String) {
    let user = cache.get::<UserById>(id).await.unwrap().unwrap();
    (StatusCode::CREATED, format!("{body} {}", user.name))
}

async fn app() -> Router {
    Router::new()
        .route("/authors/{rows}", get(authors))
        .route("/one-by-one/{rows}", get(authors_one_by_one))
        .route("/streamed", get(streamed))
        .route("/greet/{id}", post(greet))
        .layer(CacheLayer::new(World::new().await.cache))
        .route("/without", get(|| async { "nothing is cached" }))
}

#[tokio::test]
async fn a_route_gives_its_response_and_what_it_cost() {
    let app = app().await;
    let cold = test::get(&app, "/authors/20").await;
    assert_eq!(cold.response.status(), StatusCode::OK);
    assert!(cold.text().starts_with("user ") && cold.text().split("user").count() == 21, "{}", cold.text());
    assert_eq!((cold.report.shared_trips(), cold.report.statements()), (4, 2), "{}", cold.report);
    assert!(
        cold.report.trips.iter().any(|trip| trip.operation == Operation::Fill),
        "what it left to do is done"
    );
    let warm = test::get(&app, "/authors/20").await;
    assert_eq!((warm.report.shared_trips(), warm.report.statements()), (2, 0), "{}", warm.report);
    assert_eq!(warm.text(), cold.text());
    let request = Request::post("/greet/7").body(Body::from("hello")).unwrap();
    let greeted = test::cost_of(&app, request).await;
    assert_eq!((greeted.response.status(), &*greeted.text()), (StatusCode::CREATED, "hello user 7"));
}

#[tokio::test]
async fn what_a_stream_reads_is_counted() {
    let cost = test::get(&app().await, "/streamed").await;
    assert_eq!((&*cost.text(), cost.report.statements()), ("user 1user 2user 3", 3), "{}", cost.report);
    assert!(!cost.report.is_within(Budget::statements(2)));
}

#[tokio::test]
async fn a_route_that_batches_is_flat_and_one_that_does_not_is_caught() {
    assert_flat([1, 10, 100], async |rows| test::get(&app().await, &format!("/authors/{rows}")).await).await;
    let page = async |rows| test::get(&app().await, &format!("/one-by-one/{rows}")).await;
    let grows = AssertUnwindSafe(assert_flat([1, 10], page)).catch_unwind().await;
    let said = *grows.expect_err("N+1").downcast::<String>().unwrap();
    assert!(said.contains("1 cost 4 trips and 2 statements, and 10 cost 13 and 11"), "{said}");
}

#[tokio::test]
async fn a_route_without_a_layer_or_without_a_path_says_so() {
    let app = app().await;
    let without = said(test::get(&app, "/without")).await;
    assert!(
        without.starts_with("GET /without was answered with 200 OK and went through no `CacheLayer`"),
        "{without}"
    );
    let no_path = said(test::get(&app, "no path")).await;
    assert!(no_path.starts_with("\"no path\" is no path"), "{no_path}");
}
