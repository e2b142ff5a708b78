//! What is on a page: 10,000 users, 100,000 posts and as many photos.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{FromRow, Row as _};

use crate::by_hand;
use crate::fixture::User;

pub(super) const USERS: i64 = 10_000;
pub(super) const POSTS: i64 = 100_000;
pub(super) const ON_PAGE: usize = 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Post {
    pub(super) id: i64,
    pub(super) author: i64,
    pub(super) photo: i64,
    pub(super) title: String,
    pub(super) text: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Photo {
    pub(super) id: i64,
    pub(super) place: String,
    pub(super) caption: String,
    pub(super) width: i32,
    pub(super) height: i32,
}

/// A row of one of the tables.
pub(super) trait Record:
    Clone + Serialize + DeserializeOwned + Send + Sync + Unpin + for<'r> FromRow<'r, PgRow> + 'static
{
    const NAME: &'static str;
    /// All of these rows.
    const SELECT: &'static str;

    fn id(&self) -> i64;

    fn key(id: i64) -> String {
        format!("{}:{id}", Self::NAME)
    }
}

macro_rules! record {
    ($type:ty, $name:literal, $select:literal) => {
        impl Record for $type {
            const NAME: &'static str = $name;
            const SELECT: &'static str = $select;

            fn id(&self) -> i64 {
                self.id
            }
        }
    };
}

impl FromRow<'_, PgRow> for Post {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let (id, author, photo) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Self { id, author, photo, title: row.try_get(3)?, text: row.try_get(4)? })
    }
}

impl FromRow<'_, PgRow> for Photo {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let (id, place, caption) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Self { id, place, caption, width: row.try_get(3)?, height: row.try_get(4)? })
    }
}

record!(User, "user", "select id, name, email, about, created, posts from users where id = any($1)");
record!(Post, "post", "select id, author, photo, title, text from posts where id = any($1)");
record!(Photo, "photo", "select id, place, caption, width, height from photos where id = any($1)");

/// One statement for all of them.
pub(super) async fn select<R: Record>(pool: &PgPool, ids: &[i64]) -> Result<Vec<R>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(R::SELECT).bind(ids).fetch_all(pool).await
}

pub(super) async fn create(pool: &PgPool) {
    by_hand::create_users(pool, USERS).await;
    let posts = "create table posts as select i as id, i * 7919 % 10000 as author, i * 104729 % 100000 as photo, \
                 'Post number ' || i as title, repeat('Something about sand. ', 4) as text \
                 from generate_series(0::bigint, 99999) as t (i)";
    let photos = "create table photos as select i as id, 'https://photos.example.org/' || i || '.jpg' as place, \
                  repeat('A step among steps. ', 3) as caption, 1600 as width, 900 as height \
                  from generate_series(0::bigint, 99999) as t (i)";
    for statement in [
        posts,
        photos,
        "alter table posts add primary key (id)",
        "alter table photos add primary key (id)",
        "vacuum analyze posts",
        "vacuum analyze photos",
    ] {
        sqlx::query(statement).execute(pool).await.expect("tables");
    }
}

/// Who is visited in a round: few of them often.
pub(super) fn visits(round: u64, pages: usize) -> Vec<i64> {
    let mut random = fastrand::Rng::with_seed(round);
    (0..pages).map(|_| zipf(&mut random, USERS)).collect()
}

/// The posts on somebody's page.
pub(super) fn feed(user: i64) -> Vec<i64> {
    let mut random = fastrand::Rng::with_seed(user.unsigned_abs());
    let mut posts = Vec::with_capacity(ON_PAGE);
    while posts.len() < ON_PAGE {
        let post = zipf(&mut random, POSTS);
        if !posts.contains(&post) {
            posts.push(post);
        }
    }
    posts
}

/// Of `count`, the nth as often as 1 in n, nearly.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn zipf(random: &mut fastrand::Rng, count: i64) -> i64 {
    (((count as f64).powf(random.f64()) - 1.0) as i64).clamp(0, count - 1)
}

/// The keys of the pages of these users: users, posts, photos.
pub(super) fn keys(users: &[i64]) -> [Vec<i64>; 3] {
    let posts: Vec<_> = users.iter().flat_map(|user| feed(*user)).collect();
    let mut all = [
        users.iter().copied().chain(posts.iter().map(|post| post * 7919 % USERS)).collect(),
        posts.clone(),
        posts.iter().map(|post| post * 104_729 % POSTS).collect(),
    ];
    for ids in &mut all {
        ids.sort_unstable();
        ids.dedup();
    }
    all
}

/// The page, for a browser.
pub(super) fn render<'r>(
    user: &User,
    posts: impl Iterator<Item = (&'r Post, &'r User, &'r Photo)>,
) -> String {
    use std::fmt::Write as _;
    let mut page = String::with_capacity(6 << 10);
    let _ = write!(page, "<h1>{}</h1><p>{}</p>", user.name, user.about);
    for (post, author, photo) in posts {
        let _ = write!(
            page,
            "<article><h2>{}</h2><img src={:?} width={} height={} alt={:?}><p>{}</p><i>{}</i></article>",
            post.title, photo.place, photo.width, photo.height, photo.caption, post.text, author.name
        );
    }
    page
}

/// By their id.
pub(super) fn by_id<R: Record>(records: impl IntoIterator<Item = R>) -> HashMap<i64, R> {
    records.into_iter().map(|record| (record.id(), record)).collect()
}
