//! Resolvers batch by themselves: one statement per level of a query.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use mastaba::{Operation, Report};
use tower::ServiceExt;

#[allow(dead_code)]
#[path = "../examples/graphql.rs"]
mod example;

use example::{Db, QUERY, Reading, app, blog, cache};

async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs")
}

async fn execute(reading: Reading) -> String {
    let answer = blog().execute(async_graphql::Request::new(QUERY).data(reading)).await;
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    answer.data.to_string()
}

fn loads(report: &Report) -> Vec<(&str, usize)> {
    let loads = report.trips.iter().filter(|trip| trip.operation == Operation::Load);
    loads.map(|trip| (trip.name.as_str(), trip.keys)).collect()
}

#[tokio::test]
async fn a_query_of_three_levels_is_three_statements_where_resolvers_one_by_one_send_41() {
    in_time(async {
        let db = Arc::new(Db::default());
        let cache = cache(&db).await.unwrap();
        let naive = execute(Reading::OneByOne(db.clone())).await;
        assert_eq!(db.statements.swap(0, Ordering::Relaxed), 41);

        let request = cache.request();
        assert_eq!(execute(Reading::Mastaba(request.clone())).await, naive);
        assert_eq!(loads(&request.report()), [("post", 20), ("author", 7), ("photo", 7)]);
        assert_eq!(db.statements.swap(0, Ordering::Relaxed), 3);
        cache.idle().await;

        let again = cache.request();
        assert_eq!(execute(Reading::Mastaba(again.clone())).await, naive);
        assert_eq!(loads(&again.report()), []);
        assert_eq!(again.report().shared_trips(), 3, "one per level\n{}", again.report());
    })
    .await;
}

#[tokio::test]
async fn the_same_in_axum_where_the_layer_opens_the_request() {
    in_time(async {
        let db = Arc::new(Db::default());
        let app = app(cache(&db).await.unwrap());
        let query = serde_json::json!({ "query": QUERY }).to_string();
        let request = http::Request::post("/graphql").header("content-type", "application/json");
        let response = app.oneshot(request.body(Body::from(query)).unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["data"]["posts"][7]["author"]["photo"]["url"], "/photo/101.jpg", "{body}");
        assert_eq!(db.statements.load(Ordering::Relaxed), 3);
    })
    .await;
}
