//! GraphQL resolvers that read through the cache of the request: one statement per level of a query, and
//! beside it the same query with one statement per object. Given an address, it then serves `/graphql` there.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::{Context, EmptyMutation, EmptySubscription, Object, Result, Schema};
use axum::{Json, Router, routing::post};
use mastaba::{Cache, LoadContext, Region, Rows, Source};
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
trait Table: Source<Key = u64> {
    /// select * from .. where id = any($1)
    fn select(db: &Db, ids: &[u64]) -> Vec<(u64, Self::Value)>;
}

#[derive(Serialize, Deserialize)]
pub(crate) struct PostRow {
    title: String,
    author: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct AuthorRow {
    name: String,
    photo: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct PhotoRow {
    url: String,
}

macro_rules! table {
    ($source:ident, $name:literal, $row:ty, $make:expr) => {
        struct $source(Arc<Db>);

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

table!(PostById, "post", PostRow, |id| PostRow { title: format!("Post {id}"), author: id % 7 });
table!(AuthorById, "author", AuthorRow, |id| AuthorRow { name: format!("Author {id}"), photo: id + 100 });
table!(PhotoById, "photo", PhotoRow, |id| PhotoRow { url: format!("/photo/{id}.jpg") });

/// How resolvers read: through the request's cache, or as a program does that has no such thing.
pub(crate) enum Reading {
    Mastaba(RequestCache),
    OneByOne(Arc<Db>),
}

async fn read<T: Table>(cx: &Context<'_>, id: u64) -> Result<Arc<T::Value>> {
    let row = match cx.data::<Reading>()? {
        Reading::Mastaba(cache) => cache.get::<T>(id).await?,
        Reading::OneByOne(db) => T::select(db, &[id]).pop().map(|(_, row)| Arc::new(row)),
    };
    row.ok_or_else(|| format!("there is no {} {id}", T::NAME).into())
}

pub(crate) struct Query;
struct Post(Arc<PostRow>);
struct Author(Arc<AuthorRow>);
struct Photo(Arc<PhotoRow>);

#[Object]
impl Query {
    async fn posts(&self, cx: &Context<'_>, first: u64) -> Result<Vec<Post>> {
        let ids = 1..=first.min(100);
        // a list is one statement in either program
        Ok(match cx.data::<Reading>()? {
            Reading::Mastaba(cache) => {
                let posts = cache.get_many::<PostById>(ids).await?;
                posts.found().map(|(_, post)| Post(post.clone())).collect()
            }
            Reading::OneByOne(db) => {
                let posts = PostById::select(db, &ids.collect::<Vec<_>>());
                posts.into_iter().map(|(_, post)| Post(Arc::new(post))).collect()
            }
        })
    }
}

#[Object]
impl Post {
    async fn title(&self) -> &str {
        &self.0.title
    }

    async fn author(&self, cx: &Context<'_>) -> Result<Author> {
        Ok(Author(read::<AuthorById>(cx, self.0.author).await?))
    }
}

#[Object]
impl Author {
    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn photo(&self, cx: &Context<'_>) -> Result<Photo> {
        Ok(Photo(read::<PhotoById>(cx, self.0.photo).await?))
    }
}

#[Object]
impl Photo {
    async fn url(&self) -> &str {
        &self.0.url
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
        Json(blog.execute(query.data(Reading::Mastaba(cache))).await)
    };
    Router::new().route("/graphql", post(graphql)).layer(CacheLayer::new(cache))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Arc::new(Db::default());
    let cache = cache(&db).await?;
    println!("{QUERY}\n");

    blog().execute(async_graphql::Request::new(QUERY).data(Reading::OneByOne(db.clone()))).await;
    println!("one by one: {} statements\n", db.statements.swap(0, Ordering::Relaxed));

    for what in ["a first time", "again"] {
        let request = cache.request();
        blog().execute(async_graphql::Request::new(QUERY).data(Reading::Mastaba(request.clone()))).await;
        println!("with mastaba, {what}: {}", request.report());
        cache.idle().await;
    }
    if let Some(address) = std::env::args().nth(1) {
        axum::serve(tokio::net::TcpListener::bind(address).await?, app(cache)).await?;
    }
    Ok(())
}
