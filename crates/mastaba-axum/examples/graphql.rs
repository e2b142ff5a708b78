//! GraphQL over rows with relations: a field of type `Lazy` resolves by itself, with one statement per level of a query.
//! Given an address, it then serves `/graphql` there.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::{Context, EmptyMutation, EmptySubscription, ID, Object, Result, Schema, SimpleObject};
use axum::{Json, Router, routing::post};
use mastaba::{Cache, Lazy, LoadContext, Region, Rows, Source};
use mastaba_axum::{CacheLayer, RequestCache};
use serde::{Deserialize, Serialize};

/// Twenty posts by seven authors, and the photos of these.
pub(crate) const QUERY: &str = "{ posts(first: 20) { title author { name photo { url } } } }";

/// A database that counts its statements.
#[derive(Default)]
pub(crate) struct Db {
    pub(crate) statements: AtomicUsize,
}

/// A table of it, loaded by key.
pub(crate) trait Table: Source<Key = u64> {
    /// select * from .. where id = any($1)
    fn select(db: &Db, ids: &[u64]) -> Vec<(u64, Self::Value)>;
}

/// The rows are the objects of the schema: there is no second type, and no resolver.
#[derive(Serialize, Deserialize, SimpleObject)]
#[graphql(name = "Post")]
pub(crate) struct PostRow {
    pub(crate) title: String,
    /// In the schema `author` is an `Author`, and `authorId` the key alone, which costs nothing.
    #[graphql(derived(name = "author_id", into = "ID", owned))]
    pub(crate) author: Lazy<AuthorById>,
}

#[derive(Serialize, Deserialize, SimpleObject)]
#[graphql(name = "Author")]
pub(crate) struct AuthorRow {
    pub(crate) name: String,
    pub(crate) photo: Lazy<PhotoById>,
}

#[derive(Serialize, Deserialize, SimpleObject)]
#[graphql(name = "Photo")]
pub(crate) struct PhotoRow {
    pub(crate) url: String,
}

macro_rules! table {
    ($source:ident, $name:literal, $row:ty, $make:expr) => {
        pub(crate) struct $source(Arc<Db>);

        impl Source for $source {
            type Key = u64;
            type Value = $row;
            type Error = Infallible;
            const NAME: &'static str = $name;
            const REGION: &'static str = "objects";

            async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
                Ok(Self::select(&self.0, ids).into_iter().collect())
            }
        }

        impl Table for $source {
            fn select(db: &Db, ids: &[u64]) -> Vec<(u64, $row)> {
                db.statements.fetch_add(1, Ordering::Relaxed);
                ids.iter().map(|id| (*id, $make(*id))).collect()
            }
        }
    };
}

table!(PostById, "post", PostRow, |id| PostRow { title: format!("Post {id}"), author: Lazy::new(id % 7) });
table!(AuthorById, "author", AuthorRow, |id| {
    AuthorRow { name: format!("Author {id}"), photo: Lazy::new(id + 100) }
});
table!(PhotoById, "photo", PhotoRow, |id| PhotoRow { url: format!("/photo/{id}.jpg") });

pub(crate) struct Query;

#[Object]
impl Query {
    async fn posts(&self, cx: &Context<'_>, first: u64) -> Result<Vec<Arc<PostRow>>> {
        let posts = cx.data::<RequestCache>()?.get_many::<PostById>(1..=first.min(100)).await?;
        Ok(posts.found().map(|(_, post)| post.clone()).collect())
    }
}

pub(crate) type Blog = Schema<Query, EmptyMutation, EmptySubscription>;

pub(crate) fn blog() -> Blog {
    Schema::new(Query, EmptyMutation, EmptySubscription)
}

pub(crate) async fn cache(db: &Arc<Db>) -> Result<Cache, mastaba::Error> {
    Cache::builder()
        .region("objects", Region::memory())
        .source(PostById(db.clone()))
        .source(AuthorById(db.clone()))
        .source(PhotoById(db.clone()))
        .build()
        .await
}

/// The schema in axum: the cache of the request goes into the data of the query.
pub(crate) fn app(cache: Cache) -> Router {
    let blog = blog();
    let graphql = async move |cache: RequestCache, Json(query): Json<async_graphql::Request>| {
        Json(blog.execute(query.data(cache)).await)
    };
    Router::new().route("/graphql", post(graphql)).layer(CacheLayer::new(cache))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Arc::new(Db::default());
    let cache = cache(&db).await?;
    println!("{}\n{QUERY}\n", blog().sdl());
    for what in ["a first time", "again"] {
        let request = cache.request();
        blog().execute(async_graphql::Request::new(QUERY).data(request.clone())).await;
        println!("{what}: {}", request.report());
        cache.idle().await;
    }
    if let Some(address) = std::env::args().nth(1) {
        axum::serve(tokio::net::TcpListener::bind(address).await?, app(cache)).await?;
    }
    Ok(())
}
