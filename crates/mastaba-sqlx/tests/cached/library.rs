//! Authors, posts and what belongs to them, in a real database, and a cache over them.

use std::future::Future;
use std::time::Duration;

use mastaba::{Cache, Lazy, LoadContext, Region, RequestCache, Rows, Source, Sources};
use mastaba_sqlx::{Cached, Children, Dialect, Select};
use mastaba_test::servers::{Mariadb, Postgres};
use serde::{Deserialize, Serialize};
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Executor, FromRow, Pool};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, Cached)]
#[cached(
    table = "post",
    key = "id",
    region = "objects",
    index(slug, unique),
    list(author_id, order = "score desc", limit = 3),
    list(editor_id),
    list("author_id", name = "drafts_of", filter = "state = 'draft'")
)]
pub(crate) struct Post {
    pub(crate) id: i64,
    pub(crate) slug: String,
    pub(crate) author_id: i64,
    pub(crate) editor_id: Option<i64>,
    pub(crate) title: String,
    pub(crate) score: i32,
    pub(crate) state: String,
}

/// A seat of a team: its key has two columns, and so has its index.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, Cached)]
#[cached(
    table = "seat",
    key(team, nr),
    index(team, holder, unique),
    list(team, name = "of_team", order = "holder desc")
)]
pub(crate) struct Seat {
    pub(crate) team: i64,
    pub(crate) nr: i32,
    pub(crate) holder: String,
}

/// Keys of a type of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(transparent)]
pub(crate) struct Word(pub(crate) String);

/// Its fields are called otherwise than its columns.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, Cached)]
#[cached(table = "tag", key = "word", name = "keyword", version = 2)]
pub(crate) struct Tag {
    #[sqlx(rename = "name")]
    pub(crate) word: Word,
    #[sqlx(flatten)]
    pub(crate) uses: Uses,
    #[sqlx(skip)]
    pub(crate) seen: bool,
}

#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize)]
pub(crate) struct Uses {
    pub(crate) uses: i64,
}

/// A note to a post: a relation is a column, and what a list goes by.
#[derive(Debug, FromRow, Serialize, Deserialize, Cached)]
#[cached(table = "note", key = "id", list(post), list(answers_id, order = "id desc"))]
pub(crate) struct Note {
    pub(crate) id: i64,
    #[sqlx(rename = "post_id")]
    pub(crate) post: Lazy<PostById>,
    #[sqlx(rename = "answers_id")]
    pub(crate) answers: Option<Lazy<NoteById>>,
}

/// An order, with its lines in its own record.
#[derive(Debug, FromRow, Serialize, Deserialize, Cached)]
#[cached(table = "orders", key = "id")]
pub(crate) struct Order {
    pub(crate) id: i64,
    pub(crate) customer: String,
    #[sqlx(skip)]
    pub(crate) lines: Children<LineKeysByOrderId>,
}

#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, Cached)]
#[cached(table = "line", key(order_id, nr), list(order_id, order = "nr desc", embed = "Order", cap = 3))]
pub(crate) struct Line {
    pub(crate) order_id: i64,
    pub(crate) nr: i32,
    pub(crate) thing: String,
}

/// How many posts an author has: the SQL is its own.
pub(crate) struct CountOfPosts(pub(crate) Select<Self>);

impl Source for CountOfPosts {
    type Key = i64;
    type Value = i64;
    type Error = sqlx::Error;
    const NAME: &'static str = "count_of_posts";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[i64]) -> sqlx::Result<Rows<Self>> {
        self.0.load(cx, keys).await
    }

    async fn check(&self) -> Vec<String> {
        self.0.check().await
    }
}

pub(crate) const COUNT: &str =
    "select author_id, count(*) from post where author_id in {keys} group by author_id";

/// What the scenarios need of a database.
pub(crate) trait Base: Dialect {
    type Server: Send + Sync;

    /// `None` where it is not installed.
    fn start() -> impl Future<Output = Option<Self::Server>>;

    /// Where it is.
    fn url(server: &Self::Server) -> String;

    /// Everything that is cached.
    fn sources(pool: &Pool<Self>) -> Sources;

    /// Counts of posts, by this text.
    fn counts(pool: &Pool<Self>, sql: &str) -> CountOfPosts;

    /// Runs one statement, which the report does not count.
    fn execute(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
}

macro_rules! base {
    ($database:ty, $server:ty, $start:expr, $url:expr) => {
        impl Base for $database {
            type Server = $server;

            async fn start() -> Option<$server> {
                $start.await
            }

            fn url(server: &$server) -> String {
                $url(server)
            }

            fn sources(pool: &Pool<Self>) -> Sources {
                let all =
                    [Post::sources(pool), Seat::sources(pool), Tag::sources(pool), Order::sources(pool)];
                let all = all.into_iter().chain([Line::sources(pool), Note::sources(pool)]);
                all.fold(Sources::new(), Sources::and)
            }

            fn counts(pool: &Pool<Self>, sql: &str) -> CountOfPosts {
                CountOfPosts(Select::rows(pool, sql, |row: (i64, i64)| row))
            }

            async fn execute(connection: &mut Self::Connection, sql: String) -> sqlx::Result<()> {
                connection.execute(AssertSqlSafe(sql)).await.map(drop)
            }
        }
    };
}

base!(sqlx::Postgres, Postgres, Postgres::start(), Postgres::url);
base!(sqlx::MySql, Mariadb, Mariadb::start(), Mariadb::url);
base!(sqlx::Sqlite, TempDir, async { tempfile::tempdir().ok() }, in_folder);

fn in_folder(folder: &TempDir) -> String {
    format!("sqlite://{}/library?mode=rwc", folder.path().display())
}

pub(crate) struct Library<DB: Base> {
    pub(crate) pool: Pool<DB>,
    pub(crate) cache: Cache,
}

impl<DB: Base> Library<DB> {
    /// Twenty posts of authors 0 to 3: number n has the score n % 5; and six seats of two teams.
    pub(crate) async fn new(server: &DB::Server) -> Self {
        let pool = PoolOptions::<DB>::new().max_connections(3).acquire_timeout(Duration::from_secs(5));
        let pool = pool.connect(&DB::url(server)).await.unwrap();
        let mut connection = pool.acquire().await.unwrap();
        let posts = (1..=20).map(|id| {
            let editor = if id % 2 == 0 { "null".to_owned() } else { (id % 3).to_string() };
            let state = if id % 5 == 0 { "draft" } else { "shown" };
            format!("({id}, 'post-{id}', {}, {editor}, 'Title {id}', {}, '{state}')", id % 4, id % 5)
        });
        let posts = posts.collect::<Vec<_>>().join(", ");
        for sql in [
            "drop view if exists post_view",
            "drop table if exists post",
            "drop table if exists seat",
            "drop table if exists tag",
            "drop table if exists note",
            "drop table if exists orders",
            "drop table if exists line",
            "create table post (id bigint primary key, slug varchar(100) not null unique, author_id bigint not null, \
             editor_id bigint, title varchar(100) not null, score int not null, state varchar(10) not null)",
            "create table seat (team bigint not null, nr int not null, holder varchar(50) not null, \
             primary key (team, nr), unique (team, holder))",
            "create table tag (name varchar(100) primary key, uses bigint not null)",
            "create table note (id bigint primary key, post_id bigint not null, answers_id bigint)",
            "insert into note values (1, 5, null), (2, 5, 1), (3, 6, 1), (4, 7, 2)",
            "create table orders (id bigint primary key, customer varchar(50) not null)",
            "create table line (order_id bigint not null, nr int not null, thing varchar(50) not null, \
             primary key (order_id, nr))",
            "insert into orders values (1, 'ada'), (2, 'bob'), (3, 'eve')",
            "insert into line values (1, 1, 'pen'), (1, 2, 'ink'), (2, 1, 'a'), (2, 2, 'b'), (2, 3, 'c'), (2, 4, 'd')",
            &format!("insert into post values {posts}"),
            "insert into seat values (1, 1, 'ada'), (1, 2, 'bob'), (1, 3, 'eve'), (2, 1, 'bob'), (2, 2, 'ada'), (2, 3, 'dan')",
            "insert into tag values ('rust', 7), ('it''s \"quoted\"', 1), ('größe', 2), ('a,b', 3)",
        ] {
            DB::execute(&mut connection, sql.to_owned()).await.unwrap();
        }
        let cache = Self::cache(&pool, DB::sources(&pool)).await.unwrap();
        Self { pool, cache }
    }

    pub(crate) async fn cache(pool: &Pool<DB>, sources: Sources) -> Result<Cache, mastaba::Error> {
        Cache::builder()
            .region("objects", Region::memory().jitter(0.0).early_refresh(0.0))
            .sources(sources)
            .source(DB::counts(pool, COUNT))
            .build()
            .await
    }

    pub(crate) fn request(&self) -> RequestCache {
        self.cache.request()
    }

    /// Runs statements of somebody who tells nobody.
    pub(crate) async fn run(&self, sql: &str) {
        DB::execute(&mut *self.pool.acquire().await.unwrap(), sql.to_owned()).await.unwrap();
    }
}
