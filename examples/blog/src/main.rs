//! A blog. Start as many of them as you like: `DATABASE_URL=postgres://.. REDIS_URL=redis://.. cargo run -p blog`

mod sources;

use std::env;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::future::try_join_all;
use mastaba::{BoxError, Cache, NearConfig, Region, RequestCache};
use mastaba_axum::CacheLayer;
use mastaba_redis::{Redis, RedisConfig};
use mastaba_sqlx::Begin;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::sources::{Comment, Post, Team, User};

/// Reads are written for one object. What is awaited together travels together, whatever it belongs to.
async fn person(request: &RequestCache, id: i64) -> Result<Value, Failed> {
    let user = request.find::<User>(id).await?.ok_or(Failed::NotFound)?;
    let team = request.find::<Team>(user.team_id).await?.ok_or(Failed::NotFound)?;
    Ok(json!({"name": user.name, "team": team.name}))
}

async fn page(request: &RequestCache, id: i64) -> Result<Value, Failed> {
    let post = request.find::<Post>(id).await?.ok_or(Failed::NotFound)?;
    let comments = post.comments.get(request).await?;
    let comments = try_join_all(comments.iter().map(async |comment| {
        Ok::<_, Failed>(json!({"author": person(request, comment.author_id).await?, "text": comment.text}))
    }));
    let (author, comments) = tokio::try_join!(person(request, post.author_id), comments)?;
    Ok(json!({"title": post.title, "author": author, "comments": comments}))
}

async fn pages(request: RequestCache, Path(ids): Path<String>) -> Result<Json<Vec<Value>>, Failed> {
    let ids =
        ids.split(',').map(str::parse).collect::<Result<Vec<i64>, _>>().map_err(|_| Failed::NotFound)?;
    Ok(Json(try_join_all(ids.into_iter().map(|id| page(&request, id))).await?))
}

async fn user(request: RequestCache, Path(email): Path<String>) -> Result<Json<Value>, Failed> {
    let user = User::by_email(&request, email).await?.ok_or(Failed::NotFound)?;
    Ok(Json(person(&request, user.id).await?))
}

#[derive(Deserialize)]
struct Edit {
    name: String,
    email: String,
}

async fn edit(
    request: RequestCache,
    State(pool): State<PgPool>,
    Path(id): Path<i64>,
    Json(edit): Json<Edit>,
) -> Result<StatusCode, Failed> {
    let mut tx = request.begin(&pool).await?;
    let old = sqlx::query_as::<_, User>("select * from account where id = $1 for update").bind(id);
    let old = old.fetch_optional(&mut *tx).await?.ok_or(Failed::NotFound)?;
    let new = sqlx::query_as::<_, User>("update account set name = $2, email = $3 where id = $1 returning *");
    let new = new.bind(id).bind(edit.name).bind(edit.email).fetch_one(&mut *tx).await?;
    tx.changed(&old, &new)?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Draft {
    author_id: i64,
    text: String,
}

async fn comment(
    request: RequestCache,
    State(pool): State<PgPool>,
    Path(post): Path<i64>,
    Json(draft): Json<Draft>,
) -> Result<StatusCode, Failed> {
    let mut tx = request.begin(&pool).await?;
    let insert = "insert into comment (post_id, author_id, text) values ($1, $2, $3) returning *";
    let insert = sqlx::query_as::<_, Comment>(insert).bind(post).bind(draft.author_id).bind(draft.text);
    let comment = insert.fetch_one(&mut *tx).await?;
    tx.inserted(&comment)?;
    tx.commit().await?;
    Ok(StatusCode::CREATED)
}

enum Failed {
    NotFound,
    Other(BoxError),
}

impl<E: Into<BoxError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Self::Other(error) = self else { return StatusCode::NOT_FOUND.into_response() };
        let broken = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
        let status = match broken.is_some_and(|error| error.kind() != sqlx::error::ErrorKind::Other) {
            true => StatusCode::CONFLICT, // an address that is taken, an author that is not there
            false => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, error.to_string()).into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let pool = PgPool::connect(&env::var("DATABASE_URL")?).await?;
    sqlx::raw_sql(include_str!("schema.sql")).execute(&pool).await?;
    let redis = Redis::connect(RedisConfig::from_url(&env::var("REDIS_URL")?)?).await?;
    let cache = Cache::builder()
        .region("blog", Region::backend(redis).near(NearConfig::entries(10_000)))
        .sources(Team::sources(&pool))
        .sources(User::sources(&pool))
        .sources(Post::sources(&pool))
        .sources(Comment::sources(&pool))
        .build()
        .await?;
    let app = Router::new()
        .route("/posts/{id}", get(pages))
        .route("/posts/{id}/comments", post(comment))
        .route("/users/{id}", put(edit))
        .route("/users/by-email/{email}", get(user))
        .layer(CacheLayer::new(cache.clone()))
        .with_state(pool);
    let listener =
        tokio::net::TcpListener::bind(env::var("LISTEN").unwrap_or("127.0.0.1:3000".into())).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(cache.close().await?)
}
