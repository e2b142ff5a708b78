//! What a query costs.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use juniper::Variables;
use juniper_example::{Context, app, cache, schema};
use mastaba::{Operation, Report, RequestCache};
use tower::ServiceExt;

/// Three levels.
const QUERY: &str = "{ posts(first: 20) { title author { name photo { url } } } }";

async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs")
}

async fn execute(request: &RequestCache) -> serde_json::Value {
    let context = Context(request.clone());
    let variables = Variables::new();
    let (answer, errors) = juniper::execute(QUERY, None, &schema(), &variables, &context).await.unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    serde_json::to_value(answer).unwrap()
}

fn loads(report: &Report) -> Vec<(&str, usize)> {
    let loads = report.trips.iter().filter(|trip| trip.operation == Operation::Load);
    loads.map(|trip| (trip.name.as_str(), trip.keys)).collect()
}

#[tokio::test]
async fn a_query_of_three_levels_is_three_statements() {
    in_time(async {
        let cache = cache().await.unwrap();
        let request = cache.request();
        let answer = execute(&request).await;
        assert_eq!(answer["posts"][7]["author"]["photo"]["url"], "/photo/101.jpg", "{answer}");
        assert_eq!(answer["posts"][2]["author"], serde_json::json!({ "name": "Author 3", "photo": null }));
        assert_eq!(loads(&request.report()), [("post", 20), ("author", 7), ("photo", 6)]);
        assert_eq!(request.report().statements(), 3);
        cache.idle().await;

        let again = cache.request();
        assert_eq!(execute(&again).await, answer);
        assert_eq!(again.report().statements(), 0);
        assert_eq!(again.report().shared_trips(), 3, "one per level\n{}", again.report());
    })
    .await;
}

#[tokio::test]
async fn the_same_in_axum_where_the_layer_opens_the_request() {
    in_time(async {
        let app = app(cache().await.unwrap());
        let query = serde_json::json!({ "query": QUERY }).to_string();
        let request = Request::post("/graphql").header("content-type", "application/json");
        let response = app.oneshot(request.body(Body::from(query)).unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["data"]["posts"][7]["author"]["photo"]["url"], "/photo/101.jpg", "{body}");
    })
    .await;
}
