//! Relations as fields of GraphQL: `Lazy` resolves by itself, in one batch per level.

use std::convert::Infallible;
use std::sync::Arc;

use async_graphql::{
    Context, EmptyMutation, EmptySubscription, Object, PathSegment, Response, Result, Schema, SimpleObject,
};
use mastaba::{Cache, Lazy, LoadContext, Operation, Region, Report, RequestCache, Rows, Source};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, SimpleObject)]
struct Post {
    title: String,
    author: Lazy<AuthorById>,
    editor: Option<Lazy<AuthorById>>,
    readers: Vec<Lazy<AuthorById>>,
    statistics: Lazy<StatisticsById>,
}

#[derive(Serialize, Deserialize, SimpleObject)]
struct Author {
    name: String,
    /// Leads back to its own type.
    friend: Lazy<AuthorById>,
    /// Leads to a value that is a list.
    posts: Lazy<PostsByAuthor>,
}

#[derive(Serialize, Deserialize, SimpleObject)]
struct Statistics {
    views: u64,
}

struct PostById;
struct AuthorById;
struct PostsByAuthor;
struct StatisticsById;

macro_rules! source {
    ($source:ident, $value:ty, $error:ty, $name:literal, |$ids:ident| $load:expr) => {
        impl Source for $source {
            type Key = u64;
            type Value = $value;
            type Error = $error;
            const NAME: &'static str = $name;
            const REGION: &'static str = "objects";

            async fn load_many(&self, _: &LoadContext<'_>, $ids: &[u64]) -> Result<Rows<Self>, $error> {
                $load
            }
        }
    };
}

source!(PostById, Post, Infallible, "post", |ids| {
    let post = |id: u64| Post {
        title: format!("post {id}"),
        author: Lazy::new(id % 7),
        editor: (id % 2 == 1).then(|| Lazy::new(id % 7 + 10)),
        readers: (20..20 + id % 4).map(Lazy::new).collect(),
        statistics: Lazy::new(id),
    };
    Ok(ids.iter().map(|id| (*id, post(*id))).collect())
});

// nobody is there from 30 on
source!(AuthorById, Author, Infallible, "author", |ids| {
    let author =
        |id: u64| Author { name: format!("author {id}"), friend: Lazy::new(id + 10), posts: Lazy::new(id) };
    Ok(ids.iter().filter(|id| **id < 30).map(|id| (*id, author(*id))).collect())
});

source!(PostsByAuthor, Vec<Lazy<PostById>>, Infallible, "posts", |ids| {
    Ok(ids.iter().map(|id| (*id, vec![Lazy::new(*id), Lazy::new(id + 7)])).collect())
});

source!(StatisticsById, Statistics, std::io::Error, "statistics", |ids| {
    let mut rows = Rows::new();
    for id in ids {
        match id {
            3 => rows.fail(*id, "they are being counted"),
            id => rows.insert(*id, Statistics { views: id * 100 }),
        }
    }
    Ok(rows)
});

struct Query;

#[Object]
impl Query {
    async fn posts(&self, cx: &Context<'_>, first: u64) -> Result<Vec<Arc<Post>>> {
        let posts = cx.data::<RequestCache>()?.get_many::<PostById>(1..=first).await?;
        Ok(posts.found().map(|(_, post)| post.clone()).collect())
    }

    async fn author(&self, id: u64) -> Lazy<AuthorById> {
        id.into()
    }
}

fn schema() -> Schema<Query, EmptyMutation, EmptySubscription> {
    Schema::new(Query, EmptyMutation, EmptySubscription)
}

async fn request() -> RequestCache {
    let cache = Cache::builder().region("objects", Region::memory());
    let cache = cache.source(PostById).source(AuthorById).source(PostsByAuthor).source(StatisticsById);
    cache.build().await.unwrap().request()
}

/// What it answers, in JSON, and what was loaded for it: names of sources with the number of their keys.
async fn execute(query: &str) -> (serde_json::Value, Vec<(String, usize)>) {
    let request = request().await;
    let answer = schema().execute(async_graphql::Request::new(query).data(request.clone())).await;
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    (answer.data.into_json().unwrap(), loads(&request.report()))
}

fn loads(report: &Report) -> Vec<(String, usize)> {
    let loads = report.trips.iter().filter(|trip| trip.operation == Operation::Load);
    let mut loads: Vec<_> = loads.map(|trip| (trip.name.clone(), trip.keys)).collect();
    loads.sort();
    loads
}

fn expected(loads: &[(&str, usize)]) -> Vec<(String, usize)> {
    loads.iter().map(|(name, keys)| ((*name).to_owned(), *keys)).collect()
}

#[test]
fn a_relation_has_the_type_of_its_value_and_may_be_null() {
    let sdl = schema().sdl();
    for field in [
        "author: Author\n",
        "editor: Author\n",
        "readers: [Author]!\n",
        "friend: Author\n",
        "posts: [Post]\n",
        "statistics: Statistics\n",
        "author(id: Int!): Author\n",
    ] {
        assert!(sdl.contains(field), "{field:?} is not in\n{sdl}");
    }
}

#[tokio::test]
async fn the_relations_of_twenty_rows_are_one_statement() {
    let (data, loads) = execute("{ posts(first: 20) { author { name } } }").await;
    assert_eq!(data["posts"][8]["author"]["name"], "author 2");
    assert_eq!(loads, expected(&[("author", 7), ("post", 20)]));
}

#[tokio::test]
async fn one_relation_an_optional_one_and_a_list_of_them_travel_together() {
    let query = "{ posts(first: 20) { title author { name } editor { name } readers { name } } }";
    let (data, loads) = execute(query).await;
    assert_eq!(
        data["posts"][2],
        serde_json::json!({
            "title": "post 3",
            "author": { "name": "author 3" },
            "editor": { "name": "author 13" },
            "readers": [{ "name": "author 20" }, { "name": "author 21" }, { "name": "author 22" }],
        })
    );
    assert_eq!(data["posts"][3]["editor"], serde_json::Value::Null);
    assert_eq!(loads, expected(&[("author", 7 + 7 + 3), ("post", 20)]));
}

#[tokio::test]
async fn four_levels_of_different_sources_are_one_statement_each() {
    let query = "{ posts(first: 20) { author { friend { name } posts { title author { name } } } } }";
    let (data, loads) = execute(query).await;
    let author = &data["posts"][1]["author"];
    assert_eq!(author["friend"]["name"], "author 12");
    assert_eq!(
        author["posts"][1],
        serde_json::json!({ "title": "post 9", "author": { "name": "author 2" } })
    );
    // posts; their authors; the friends and the lists of these; a post that the request has not seen yet.
    // The authors of the last level are known.
    assert_eq!(loads, expected(&[("author", 7), ("author", 7), ("post", 1), ("post", 20), ("posts", 7)]));
}

#[tokio::test]
async fn what_does_not_exist_is_null_and_no_error() {
    let (data, loads) =
        execute("{ a: author(id: 25) { name friend { name } } b: author(id: 99) { name } }").await;
    let expected_data = serde_json::json!({ "a": { "name": "author 25", "friend": null }, "b": null });
    assert_eq!(data, expected_data);
    assert_eq!(loads, expected(&[("author", 1), ("author", 2)]));
}

#[tokio::test]
async fn a_relation_that_cannot_be_loaded_is_null_and_an_error_beside_the_data() {
    let request = request().await;
    let query = "{ posts(first: 4) { title statistics { views } } }";
    let answer: Response = schema().execute(async_graphql::Request::new(query).data(request)).await;
    let [error] = &answer.errors[..] else { panic!("{:?}", answer.errors) };
    let path = ["posts", "2", "statistics"];
    let found = error.path.iter().map(|segment| match segment {
        PathSegment::Field(name) => name.clone(),
        PathSegment::Index(index) => index.to_string(),
    });
    assert_eq!(found.collect::<Vec<_>>(), path);
    assert!(error.source::<mastaba::Error>().unwrap().is_source(), "{error:?}");
    assert_eq!(error.message, "this Statistics could not be loaded", "the cause is not for clients");
    let data = answer.data.into_json().unwrap();
    assert_eq!(data["posts"][2], serde_json::json!({ "title": "post 3", "statistics": null }));
    assert_eq!(data["posts"][3]["statistics"]["views"], 400, "the others are answered");
}

#[tokio::test]
async fn a_query_without_the_cache_says_what_is_missing() {
    let answer = schema().execute("{ author(id: 1) { name } }").await;
    let [error] = &answer.errors[..] else { panic!("{:?}", answer.errors) };
    assert!(error.message.contains("query.data(cache)"), "{}", error.message);
    assert_eq!(answer.data.into_json().unwrap(), serde_json::json!({ "author": null }));
}
