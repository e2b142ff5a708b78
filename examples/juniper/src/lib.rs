//! Posts, their authors and the photos of these, by Juniper: a relation is a resolver of one line, and the resolvers of
//! one level of a query are one statement. `cargo run -p juniper-example` serves it at <http://127.0.0.1:3000/graphql>.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use juniper::http::{GraphQLRequest, GraphQLResponse};
use juniper::{EmptyMutation, EmptySubscription, FieldResult, RootNode, graphql_object};
use mastaba::{Cache, Lazy, LoadContext, Region, Rows, Source};
use mastaba_axum::{CacheLayer, RequestCache};
use serde::{Deserialize, Serialize};

/// What the resolvers of one query share: the cache of its request.
pub struct Context(pub RequestCache);

impl juniper::Context for Context {}

/// A post, as it is stored: its author is a key.
#[derive(Serialize, Deserialize)]
pub struct Post {
    title: String,
    author: Lazy<AuthorById>,
}

/// An author.
#[derive(Serialize, Deserialize)]
pub struct Author {
    name: String,
    photo: Option<Lazy<PhotoById>>,
}

/// A photo.
#[derive(Serialize, Deserialize)]
pub struct Photo {
    url: String,
}

/// The root of all queries.
pub struct Query;

#[graphql_object(context = Context)]
impl Query {
    async fn posts(context: &Context, first: i32) -> FieldResult<Vec<Arc<Post>>> {
        let posts = context.0.get_many::<PostById>(1..=u64::try_from(first)?.min(100)).await?;
        Ok(posts.found().map(|(_, post)| post.clone()).collect())
    }
}

#[graphql_object(context = Context)]
impl Post {
    fn title(&self) -> &str {
        &self.title
    }

    async fn author(&self, context: &Context) -> FieldResult<Option<Arc<Author>>> {
        Ok(self.author.get(&context.0).await?)
    }
}

#[graphql_object(context = Context)]
impl Author {
    fn name(&self) -> &str {
        &self.name
    }

    async fn photo(&self, context: &Context) -> FieldResult<Option<Arc<Photo>>> {
        match &self.photo {
            Some(photo) => Ok(photo.get(&context.0).await?),
            None => Ok(None),
        }
    }
}

#[graphql_object(context = Context)]
impl Photo {
    fn url(&self) -> &str {
        &self.url
    }
}

/// The schema.
pub type Schema = RootNode<Query, EmptyMutation<Context>, EmptySubscription<Context>>;

/// Makes the schema.
pub fn schema() -> Schema {
    Schema::new(Query, EmptyMutation::new(), EmptySubscription::new())
}

macro_rules! table {
    ($(#[$doc:meta])* $source:ident, $name:literal, $row:ty, $make:expr) => {
        $(#[$doc])*
        pub struct $source;

        impl Source for $source {
            type Key = u64;
            type Value = $row;
            type Error = Infallible;
            const NAME: &'static str = $name;
            const REGION: &'static str = "objects";

            /// select * from .. where id = any($1)
            async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
                Ok(ids.iter().map(|id| (*id, $make(*id))).collect())
            }
        }
    };
}

table! {
    /// Posts.
    PostById, "post", Post, |id| Post { title: format!("Post {id}"), author: Lazy::new(id % 7) }
}
table! {
    /// Authors, of whom one has no photo.
    AuthorById, "author", Author, |id| {
        Author { name: format!("Author {id}"), photo: (id != 3).then(|| Lazy::new(id + 100)) }
    }
}
table! {
    /// Photos.
    PhotoById, "photo", Photo, |id| Photo { url: format!("/photo/{id}.jpg") }
}

/// A cache over the three of them.
///
/// # Errors
/// As [`CacheBuilder::build`](mastaba::CacheBuilder::build).
pub async fn cache() -> Result<Cache, mastaba::Error> {
    let cache = Cache::builder().region("objects", Region::memory());
    cache.source(PostById).source(AuthorById).source(PhotoById).build().await
}

async fn graphql(
    cache: RequestCache,
    State(schema): State<Arc<Schema>>,
    Json(query): Json<GraphQLRequest>,
) -> Json<GraphQLResponse> {
    Json(query.execute(&schema, &Context(cache)).await)
}

/// The schema in axum.
pub fn app(cache: Cache) -> Router {
    Router::new()
        .route("/graphql", post(graphql))
        .with_state(Arc::new(schema()))
        .layer(CacheLayer::new(cache))
}
