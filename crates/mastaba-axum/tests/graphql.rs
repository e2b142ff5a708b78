//! Resolvers batch by themselves: one statement per level of a query.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use mastaba::{Operation, Report, RequestCache};
use tower::ServiceExt;

#[allow(dead_code)]
#[path = "../examples/graphql.rs"]
mod example;

/// The same schema as a program has it that knows of no cache: each resolver asks for its own object.
mod one_by_one {
    use async_graphql::{Context, EmptyMutation, EmptySubscription, Object, Result, Schema};

    use super::example::{AuthorById, AuthorRow, PhotoById, PhotoRow, PostById, PostRow, Table};
    use super::{Arc, Db};

    struct Query;
    struct Post(PostRow);
    struct Author(AuthorRow);
    struct Photo(PhotoRow);

    fn select<T: Table>(cx: &Context<'_>, id: u64) -> Result<T::Value> {
        let rows = T::select(cx.data::<Arc<Db>>()?, &[id]);
        Ok(rows.into_iter().next().expect("every row exists").1)
    }

    #[Object]
    impl Query {
        async fn posts(&self, cx: &Context<'_>, first: u64) -> Result<Vec<Post>> {
            // a list is one statement in either program
            let ids = (1..=first).collect::<Vec<_>>();
            let posts = PostById::select(cx.data::<Arc<Db>>()?, &ids);
            Ok(posts.into_iter().map(|(_, post)| Post(post)).collect())
        }
    }

    #[Object]
    impl Post {
        async fn title(&self) -> &str {
            &self.0.title
        }

        async fn author(&self, cx: &Context<'_>) -> Result<Author> {
            Ok(Author(select::<AuthorById>(cx, *self.0.author.key())?))
        }
    }

    #[Object]
    impl Author {
        async fn name(&self) -> &str {
            &self.0.name
        }

        async fn photo(&self, cx: &Context<'_>) -> Result<Photo> {
            Ok(Photo(select::<PhotoById>(cx, *self.0.photo.key())?))
        }
    }

    #[Object]
    impl Photo {
        async fn url(&self) -> &str {
            &self.0.url
        }
    }

    pub(super) async fn execute(query: async_graphql::Request) -> async_graphql::Response {
        Schema::new(Query, EmptyMutation, EmptySubscription).execute(query).await
    }
}

use example::{Db, QUERY, app, blog, cache};

async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs")
}

fn data(answer: &async_graphql::Response) -> String {
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    answer.data.to_string()
}

async fn execute(query: &str, request: RequestCache) -> String {
    data(&blog().execute(async_graphql::Request::new(query).data(request)).await)
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
        let naive = data(&one_by_one::execute(async_graphql::Request::new(QUERY).data(db.clone())).await);
        assert_eq!(db.statements.swap(0, Ordering::Relaxed), 41);

        let request = cache.request();
        assert_eq!(execute(QUERY, request.clone()).await, naive);
        assert_eq!(loads(&request.report()), [("post", 20), ("author", 7), ("photo", 7)]);
        assert_eq!(db.statements.swap(0, Ordering::Relaxed), 3);
        cache.idle().await;

        let again = cache.request();
        assert_eq!(execute(QUERY, again.clone()).await, naive);
        assert_eq!(loads(&again.report()), []);
        assert_eq!(again.report().shared_trips(), 3, "one per level\n{}", again.report());
    })
    .await;
}

#[tokio::test]
async fn the_key_of_a_relation_is_asked_for_without_what_it_leads_to() {
    in_time(async {
        let db = Arc::new(Db::default());
        let request = cache(&db).await.unwrap().request();
        let answer = execute("{ posts(first: 2) { authorId } }", request.clone()).await;
        assert_eq!(answer, r#"{posts: [{authorId: "1"}, {authorId: "2"}]}"#);
        assert_eq!(loads(&request.report()), [("post", 2)]);
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
