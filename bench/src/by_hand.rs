//! What a program does by hand over `redis`, `memcache` and `sqlx`, and the loaders of its peers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::dataloader::{DataLoader, Loader};
use memcache::exp::{AsyncMetaClient, Delete, Get, Set};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, Pipeline};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{FromRow, Row};

use crate::fixture::{User, user};

/// Longer than any run.
const TTL_S: u64 = 36_000;

pub(crate) fn key(id: i64) -> String {
    format!("user:{id}")
}

pub(crate) fn decode(bytes: &[u8]) -> User {
    postcard::from_bytes(bytes).expect("a user")
}

fn decoded(found: Vec<Option<Vec<u8>>>) -> Vec<Option<User>> {
    found.into_iter().map(|bytes| bytes.map(|bytes| decode(&bytes))).collect()
}

/// A client of the shared tier.
#[derive(Clone)]
pub(crate) enum Hand {
    Redis(MultiplexedConnection),
    /// It has a few connections, of which each does one call at a time.
    Memcached(Arc<AsyncMetaClient>),
}

impl Hand {
    /// All of these in one trip.
    pub(crate) async fn mget(&self, keys: Vec<String>) -> Vec<Option<Vec<u8>>> {
        if keys.is_empty() {
            return Vec::new();
        }
        match self {
            Self::Redis(redis) => redis.clone().mget(keys).await.expect("an answer"),
            Self::Memcached(client) => {
                let found = client.run_many(keys.iter().map(Get::new)).await.expect("an answer");
                found.into_iter().map(|found| found.expect("an answer").value).collect()
            }
        }
    }

    /// Stores all of these in one trip.
    pub(crate) async fn store(&self, entries: Vec<(String, Vec<u8>)>) {
        match self {
            Self::Redis(redis) => {
                let mut pipeline = Pipeline::with_capacity(entries.len());
                for (key, value) in entries {
                    pipeline.set_ex(key, value, TTL_S).ignore();
                }
                let () = pipeline.query_async(&mut redis.clone()).await.expect("an answer");
            }
            Self::Memcached(client) => {
                let sets =
                    entries.iter().map(|(key, value)| Set::new(key, value).ttl(Duration::from_secs(TTL_S)));
                for stored in client.run_many(sets).await.expect("an answer") {
                    stored.expect("an answer");
                }
            }
        }
    }

    /// Removes all of these in one trip.
    pub(crate) async fn remove(&self, keys: Vec<String>) {
        if keys.is_empty() {
            return;
        }
        match self {
            Self::Redis(redis) => {
                let () = redis.clone().unlink(keys).await.expect("an answer");
            }
            Self::Memcached(client) => {
                for removed in client.run_many(keys.iter().map(Delete::new)).await.expect("an answer") {
                    removed.expect("an answer");
                }
            }
        }
    }

    /// Users, in the order of their ids.
    pub(crate) async fn users(&self, ids: &[i64]) -> Vec<Option<User>> {
        decoded(self.mget(ids.iter().map(|id| key(*id)).collect()).await)
    }

    pub(crate) async fn user(&self, id: i64) -> Option<User> {
        match self {
            Self::Redis(redis) => get(&mut redis.clone(), id).await,
            Self::Memcached(_) => self.users(&[id]).await.pop().flatten(),
        }
    }

    pub(crate) async fn fill(&self, users: &[User]) {
        let bytes = |user: &User| postcard::to_stdvec(user).expect("bytes");
        self.store(users.iter().map(|user| (key(user.id), bytes(user))).collect()).await;
    }

    pub(crate) async fn forget(&self, ids: &[i64]) {
        self.remove(ids.iter().map(|id| key(*id)).collect()).await;
    }
}

/// `MGET`, decoded.
pub(crate) async fn mget(redis: &mut MultiplexedConnection, ids: &[i64]) -> Vec<Option<User>> {
    mget_keys(redis, ids.iter().map(|id| key(*id)).collect()).await
}

/// The same of these keys, from one server or a cluster.
pub(crate) async fn mget_keys(redis: &mut impl AsyncCommands, keys: Vec<String>) -> Vec<Option<User>> {
    decoded(redis.mget(keys).await.expect("an answer"))
}

/// `GET`, decoded.
pub(crate) async fn get(redis: &mut MultiplexedConnection, id: i64) -> Option<User> {
    let found: Option<Vec<u8>> = redis.get(key(id)).await.expect("an answer");
    found.map(|bytes| decode(&bytes))
}

/// All `GET` in one pipeline, decoded.
pub(crate) async fn pipelined(redis: &mut MultiplexedConnection, ids: &[i64]) -> Vec<Option<User>> {
    let mut pipeline = Pipeline::with_capacity(ids.len());
    ids.iter().for_each(|id| {
        pipeline.get(key(*id));
    });
    decoded(pipeline.query_async(redis).await.expect("an answer"))
}

impl FromRow<'_, PgRow> for User {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            email: row.try_get(2)?,
            about: row.try_get(3)?,
            created: row.try_get(4)?,
            posts: row.try_get::<i32, _>(5)?.unsigned_abs(),
        })
    }
}

/// A table of users.
pub(crate) async fn create_users(pool: &PgPool, count: i64) {
    let create = "create table users (id bigint primary key, name text not null, email text not null, \
                  about text not null, created bigint not null, posts integer not null)";
    sqlx::query(create).execute(pool).await.expect("a table");
    let users: Vec<_> = (0..count).map(user).collect();
    let insert = "insert into users select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], \
                  $5::bigint[], $6::integer[])";
    let insert = sqlx::query(insert)
        .bind(users.iter().map(|user| user.id).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.name.clone()).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.email.clone()).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.about.clone()).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.created).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.posts.cast_signed()).collect::<Vec<_>>());
    insert.execute(pool).await.expect("rows");
    sqlx::query("vacuum analyze users").execute(pool).await.expect("statistics");
}

/// One statement for all of these rows.
pub(crate) async fn select(pool: &PgPool, ids: &[i64]) -> Result<Vec<User>, sqlx::Error> {
    let select = "select id, name, email, about, created, posts from users where id = any($1)";
    sqlx::query_as(select).bind(ids).fetch_all(pool).await
}

/// One read of the shared tier, one statement for what it misses, and one fill of that, all of it awaited.
pub(crate) async fn two_pass(hand: &Hand, pool: &PgPool, ids: &[i64]) -> Vec<User> {
    let found = hand.users(ids).await;
    let missing = missing(ids, &found);
    let mut users: Vec<_> = found.into_iter().flatten().collect();
    if !missing.is_empty() {
        let loaded = select(pool, &missing).await.expect("users");
        hand.fill(&loaded).await;
        users.extend(loaded);
    }
    users
}

pub(crate) fn missing(ids: &[i64], found: &[Option<User>]) -> Vec<i64> {
    ids.iter().zip(found).filter(|(_, user)| user.is_none()).map(|(id, _)| *id).collect()
}

/// The same for one key: a read, a statement, a fill.
pub(crate) async fn single(hand: &Hand, pool: &PgPool, id: i64) -> Option<User> {
    if let Some(user) = hand.user(id).await {
        return Some(user);
    }
    let loaded = select(pool, &[id]).await.expect("a user");
    hand.fill(&loaded).await;
    loaded.into_iter().next()
}

/// The loader of async-graphql over the shared tier, and over the database where there is one.
pub(crate) struct Tiers {
    pub(crate) hand: Hand,
    pub(crate) pool: Option<PgPool>,
}

impl Loader<i64> for Tiers {
    type Value = User;
    type Error = ();

    async fn load(&self, ids: &[i64]) -> Result<HashMap<i64, User>, ()> {
        let users = match &self.pool {
            Some(pool) => two_pass(&self.hand, pool, ids).await,
            None => self.hand.users(ids).await.into_iter().flatten().collect(),
        };
        Ok(users.into_iter().map(|user| (user.id, user)).collect())
    }
}

/// A loader as each request has its own, with no delay.
pub(crate) fn loader(tiers: Tiers) -> DataLoader<Tiers> {
    DataLoader::new(tiers, tokio::spawn).delay(std::time::Duration::ZERO)
}
