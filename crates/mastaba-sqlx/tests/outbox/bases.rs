//! A database of each kind, and what tests ask of it.

use std::any::Any;
use std::time::{Duration, Instant};

use mastaba::{Region, WriteMode};
use mastaba_sqlx::{Dialect, Outbox};
use mastaba_test::servers::{Mariadb, Postgres};
use mastaba_test::world::{UserById, World};
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, MySql, Pool, Sqlite};

/// Statements that a generic test needs.
#[allow(async_fn_in_trait, reason = "nobody asks whether its futures are Send")]
pub(super) trait Sql: Dialect {
    async fn script(pool: &Pool<Self>, text: String);
    async fn on(connection: &mut Self::Connection, text: &'static str);
    async fn number(pool: &Pool<Self>, text: String) -> i64;
}

macro_rules! sql {
    ($($database:ty),*) => {$(
        impl Sql for $database {
            async fn on(connection: &mut Self::Connection, text: &'static str) {
                sqlx::query(text).execute(connection).await.unwrap();
            }

            async fn script(pool: &Pool<Self>, text: String) {
                sqlx::query(AssertSqlSafe(text)).execute(pool).await.unwrap();
            }

            async fn number(pool: &Pool<Self>, text: String) -> i64 {
                sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(pool).await.unwrap()
            }
        }
    )*};
}

sql!(sqlx::Postgres, MySql, Sqlite);

/// A database, and who keeps it.
pub(super) struct Base<DB: Sql> {
    pub(super) pool: Pool<DB>,
    pub(super) server: Server,
}

pub(super) enum Server {
    Postgres(Postgres),
    Mariadb(Mariadb),
    File(#[allow(dead_code, reason = "kept until the end")] Box<dyn Any + Send + Sync>),
}

impl Server {
    pub(super) fn url(&self) -> String {
        match self {
            Self::Postgres(server) => server.url(),
            Self::Mariadb(server) => server.url(),
            Self::File(_) => unreachable!("nobody else opens the file"),
        }
    }

    pub(super) async fn stop(&self) {
        match self {
            Self::Postgres(server) => server.stop().await,
            Self::Mariadb(server) => server.stop().await,
            Self::File(_) => unreachable!("a file is always there"),
        }
    }

    pub(super) async fn restart(&self) {
        match self {
            Self::Postgres(server) => server.restart().await,
            Self::Mariadb(server) => server.restart().await,
            Self::File(_) => unreachable!("a file is always there"),
        }
    }
}

/// It waits for a server that is away, but not for as long as it is its default.
fn patient<DB: Sql>() -> PoolOptions<DB> {
    PoolOptions::new().acquire_timeout(Duration::from_secs(5))
}

pub(super) async fn postgres() -> Option<Base<sqlx::Postgres>> {
    let server = Postgres::start().await?;
    let pool = patient().connect(&server.url()).await.unwrap();
    Some(Base { pool, server: Server::Postgres(server) })
}

pub(super) async fn mariadb() -> Option<Base<MySql>> {
    let server = Mariadb::start().await?;
    let pool = patient().connect(&server.url()).await.unwrap();
    Some(Base { pool, server: Server::Mariadb(server) })
}

pub(super) async fn sqlite() -> Option<Base<Sqlite>> {
    let folder = tempfile::tempdir().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.path().join("base"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
    let pool = Pool::connect_with(options).await.unwrap();
    Some(Base { pool, server: Server::File(Box::new(folder)) })
}

impl<DB: Sql> Base<DB> {
    /// An outbox with a table of its own, from which a relay takes everything at once, and looks often.
    pub(super) async fn outbox(&self, table: &str) -> Outbox<DB> {
        let outbox =
            Outbox::new(&self.pool).table(table).grace(Duration::ZERO).poll(Duration::from_millis(20));
        DB::script(&self.pool, outbox.ddl()).await;
        outbox
    }

    pub(super) async fn rows(&self, table: &str) -> i64 {
        DB::number(&self.pool, format!("select count(*) from {table}")).await
    }

    pub(super) async fn run(&self, text: impl Into<String>) {
        DB::script(&self.pool, text.into()).await;
    }

    /// The first row of a write.
    pub(super) async fn id_of(&self, table: &str) -> i64 {
        DB::number(&self.pool, format!("select max(id) from {table} where piece = 0")).await
    }
}

/// What a write of users leaves when its process dies right after COMMIT.
pub(super) async fn leave<DB: Sql>(outbox: &Outbox<DB>, pool: &Pool<DB>, world: &World, users: &[u64]) {
    let write = world.request().write();
    write.invalidate::<UserById>(users.to_vec()).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    outbox.write_down(&write, &mut transaction).await.unwrap();
    for user in users {
        world.db.update(*user);
    }
    transaction.commit().await.unwrap();
    write.discard();
}

/// A process whose region degrades.
pub(super) async fn degrading() -> World {
    World::across_processes(degrades).await
}

pub(super) fn degrades(region: Region) -> Region {
    // a tier that a test holds up is not out
    region.write_mode(WriteMode::Degrade).shared_budget(Duration::from_secs(60))
}

pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn said(world: &World, what: &str) -> usize {
    world.events().iter().filter(|event| event.contains(what)).count()
}
