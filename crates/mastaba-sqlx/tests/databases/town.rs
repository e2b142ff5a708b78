//! A small town in a real database: people with a name and an e-mail address, a cache over them, and a ledger of all trips.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{
    Cache, Event, Keyed, Keys, LoadContext, LoadIn, NearConfig, Region, RequestCache, Rows, Source, WriteMode,
};
use mastaba_sqlx::{Counted, Dialect};
use mastaba_test::servers::{Mariadb, Postgres};
use mastaba_test::world::{Control, Watched};
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, Pool};
use tempfile::TempDir;

/// What the scenarios need of a database beside its transactions.
pub(crate) trait Database: Dialect {
    type Server: Send + Sync;

    /// One failed statement fails the transaction.
    const FAILS_AS_A_WHOLE: bool;
    /// It can check constraints at the commit.
    const DEFERS: bool;
    /// An update can give back the rows that it changed.
    const UPDATE_RETURNS: bool;

    /// `None` where it is not installed.
    fn start() -> impl Future<Output = Option<Self::Server>>;

    /// Where it is.
    fn url(server: &Self::Server) -> String;

    /// Runs one or more statements, uncounted.
    fn script(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Numbers and texts that a select finds.
    fn select(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = sqlx::Result<Vec<(i64, String)>>> + Send;
}

macro_rules! database {
    ($database:ty, $server:ty, $start:expr, $url:expr, $fails:expr, $defers:expr, $returns:expr) => {
        impl Database for $database {
            type Server = $server;
            const FAILS_AS_A_WHOLE: bool = $fails;
            const DEFERS: bool = $defers;
            const UPDATE_RETURNS: bool = $returns;

            async fn start() -> Option<$server> {
                $start.await
            }

            fn url(server: &$server) -> String {
                $url(server)
            }

            async fn script(connection: &mut Self::Connection, sql: String) -> sqlx::Result<()> {
                connection.execute(AssertSqlSafe(sql)).await.map(drop)
            }

            async fn select(
                connection: &mut Self::Connection,
                sql: String,
            ) -> sqlx::Result<Vec<(i64, String)>> {
                sqlx::query_as(AssertSqlSafe(sql)).fetch_all(connection).await
            }
        }
    };
}

database!(sqlx::Postgres, Postgres, Postgres::start(), Postgres::url, true, true, true);
database!(sqlx::MySql, Mariadb, Mariadb::start(), Mariadb::url, false, false, false);
database!(sqlx::Sqlite, TempDir, async { tempfile::tempdir().ok() }, in_folder, false, true, true);

fn in_folder(folder: &TempDir) -> String {
    format!("sqlite://{}/town?mode=rwc", folder.path().display())
}

/// Names by number, and numbers by e-mail address.
pub(crate) struct NameOf<DB: Database>(pub(crate) Pool<DB>, pub(crate) Ledger);
pub(crate) struct NumberOf<DB: Database>(pub(crate) Pool<DB>, pub(crate) Ledger);

/// Owners of pets by the number of the pet.
pub(crate) struct OwnerOf<DB: Database>(pub(crate) Pool<DB>, pub(crate) Ledger);

/// Every trip, in its order.
pub(crate) type Ledger = Arc<Mutex<Vec<String>>>;

impl<DB: Database> Source for NameOf<DB> {
    type Key = i64;
    type Value = String;
    type Error = sqlx::Error;
    const NAME: &'static str = "name";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[i64]) -> sqlx::Result<Rows<Self>> {
        self.1.lock().unwrap().push(format!("load name {keys:?}"));
        names::<DB>(&mut *self.0.acquire().await?, keys).await.map(|rows| rows.into_iter().collect())
    }

    fn tags(&self, _: &i64, _: &String) -> Vec<String> {
        vec!["people".to_owned()]
    }
}

impl<DB: Database> LoadIn<DB::Connection> for NameOf<DB> {
    async fn load_in(&self, connection: &mut DB::Connection, keys: &[i64]) -> sqlx::Result<Rows<Self>> {
        self.1.lock().unwrap().push(format!("load name inside {keys:?}"));
        names::<DB>(connection, keys).await.map(|rows| rows.into_iter().collect())
    }
}

impl<DB: Database> Source for OwnerOf<DB> {
    type Key = i64;
    type Value = i64;
    type Error = sqlx::Error;
    const NAME: &'static str = "owner";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[i64]) -> sqlx::Result<Rows<Self>> {
        self.1.lock().unwrap().push(format!("load owner {keys:?}"));
        let list = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        // one digit, as an owner has: `char` is one letter
        let sql = format!("select number, cast(owner as char) from pet where number in ({list})");
        let rows = DB::select(&mut *self.0.acquire().await?, sql).await?;
        Ok(rows.into_iter().map(|(pet, owner)| (pet, owner.trim().parse().unwrap())).collect())
    }

    fn tags(&self, _: &i64, owner: &i64) -> Vec<String> {
        vec![format!("pets of {owner}")]
    }
}

/// A person, as it stands in the database.
pub(crate) struct Person<DB: Database> {
    pub(crate) number: i64,
    pub(crate) email: String,
    of: std::marker::PhantomData<DB>,
}

impl<DB: Database> Person<DB> {
    pub(crate) fn new(number: i64, email: &str) -> Self {
        Self { number, email: email.to_owned(), of: std::marker::PhantomData }
    }
}

impl<DB: Database> Keyed for Person<DB> {
    fn keys(&self, keys: &mut Keys) {
        keys.add::<NameOf<DB>>(self.number);
        keys.add::<NumberOf<DB>>(self.email.clone());
    }
}

impl<DB: Database> Source for NumberOf<DB> {
    type Key = String;
    type Value = i64;
    type Error = sqlx::Error;
    const NAME: &'static str = "number";
    const REGION: &'static str = "indexes";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[String]) -> sqlx::Result<Rows<Self>> {
        self.1.lock().unwrap().push(format!("load number {keys:?}"));
        let list = keys.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ");
        let sql = format!("select number, email from person where email in ({list})");
        let rows = DB::select(&mut *self.0.acquire().await?, sql).await?;
        Ok(rows.into_iter().map(|(number, email)| (email, number)).collect())
    }
}

pub(crate) async fn names<DB: Database>(
    connection: &mut DB::Connection,
    keys: &[i64],
) -> sqlx::Result<Vec<(i64, String)>> {
    let list = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    DB::select(connection, format!("select number, name from person where number in ({list})")).await
}

/// The name of this database in its URLs.
pub(crate) fn scheme<DB: Database>() -> &'static str {
    DB::URL_SCHEMES[0]
}

/// Five people of names `a` to `e`, in a database, and a cache that knows none of them.
pub(crate) struct Town<DB: Database> {
    pub(crate) pool: Pool<DB>,
    pub(crate) cache: Cache,
    /// To make the shared tier fail.
    pub(crate) shared: Arc<Control>,
    pub(crate) url: String,
    memory: Memory,
    ledger: Ledger,
    events: Ledger,
}

impl<DB: Database> Town<DB> {
    pub(crate) async fn new(server: &DB::Server) -> Self {
        let url = DB::url(server);
        let pool = pool::<DB>(&url, 5).await;
        let mut connection = pool.acquire().await.unwrap();
        let tables = [
            "drop table if exists pet",
            "drop table if exists person",
            "create table person (number bigint primary key, name varchar(100) not null, email varchar(100) unique)",
            "create table pet (number bigint primary key, owner bigint not null, \
             foreign key (owner) references person (number) on delete cascade)",
            "insert into person (number, name, email) values (1, 'a', 'a@town'), (2, 'b', 'b@town'), (3, 'c', 'c@town'), \
             (4, 'd', 'd@town'), (5, 'e', 'e@town')",
        ];
        for sql in tables {
            DB::script(&mut connection, sql.to_owned()).await.unwrap();
        }
        drop(connection);
        let near = |region: Region| region.near(NearConfig::entries(100));
        Self::over::<false>(pool, url, Memory::default(), near).await
    }

    /// Another process over the same database and the same shared tier, with a ledger of its own and without near.
    pub(crate) async fn second(&self) -> Self {
        let (pool, url) = (self.pool.clone(), self.url.clone());
        Self::over::<true>(pool, url, self.memory.clone(), |region| region).await
    }

    /// The same database, and new tiers in this write mode.
    pub(crate) async fn in_mode(&self, mode: WriteMode) -> Self {
        self.with(|region| region.write_mode(mode)).await
    }

    /// The same database, and new tiers of this configuration.
    pub(crate) async fn with(&self, configure: impl Fn(Region) -> Region) -> Self {
        let near = |region: Region| configure(region.near(NearConfig::entries(100)));
        Self::over::<false>(self.pool.clone(), self.url.clone(), Memory::default(), near).await
    }

    /// The same tiers and the same database, by way of another server or another pool.
    pub(crate) fn through(&self, pool: Pool<DB>) -> Self {
        Self {
            pool,
            cache: self.cache.clone(),
            shared: self.shared.clone(),
            url: self.url.clone(),
            memory: self.memory.clone(),
            ledger: self.ledger.clone(),
            events: self.events.clone(),
        }
    }

    /// Where the server listens, if it is one.
    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        self.url.split_once('@')?.1.split('/').next()?.parse().ok()
    }

    async fn over<const PROCESSES: bool>(
        pool: Pool<DB>,
        url: String,
        memory: Memory,
        configure: impl Fn(Region) -> Region,
    ) -> Self {
        let ledger = Ledger::default();
        let watched = Watched::<_, PROCESSES>::new(memory.clone(), ledger.clone());
        let shared = watched.control();
        let region = |watched| configure(Region::backend(watched).jitter(0.0).early_refresh(0.0));
        let events = Ledger::default();
        let said = events.clone();
        let cache = Cache::builder()
            .region("objects", region(watched.clone()))
            .region("indexes", region(watched))
            .source(NameOf(pool.clone(), ledger.clone()))
            .source(NumberOf(pool.clone(), ledger.clone()))
            .source(OwnerOf(pool.clone(), ledger.clone()))
            .on_event(move |event: &Event| said.lock().unwrap().push(event.to_string()))
            .build()
            .await
            .unwrap();
        Self { pool, cache, shared, url, memory, ledger, events }
    }

    pub(crate) fn request(&self) -> RequestCache {
        self.cache.request()
    }

    /// Every tier knows these people.
    pub(crate) async fn warm(self, keys: &[i64]) -> Self {
        self.request().get_many::<NameOf<DB>>(keys.iter().copied()).await.unwrap();
        self.cache.idle().await;
        self.trips();
        self
    }

    /// The trips up to now, which are forgotten.
    pub(crate) fn trips(&self) -> Vec<String> {
        std::mem::take(&mut self.ledger.lock().unwrap())
    }

    /// The events up to now.
    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    /// The name of a person as a new request sees it, and how it came by it.
    pub(crate) async fn sees(&self, key: i64) -> (String, Vec<String>) {
        self.cache.idle().await;
        self.trips();
        let name = self.request().get::<NameOf<DB>>(key).await.unwrap();
        self.cache.idle().await;
        (name.map_or_else(|| "nobody".to_owned(), |name| (*name).clone()), self.trips())
    }

    /// The name of a person in the database.
    pub(crate) async fn stored(&self, key: i64) -> String {
        let rows = names::<DB>(&mut *self.pool.acquire().await.unwrap(), &[key]).await.unwrap();
        rows.into_iter().next().map_or_else(|| "nobody".to_owned(), |(_, name)| name)
    }
}

/// So many connections at most, and no patience.
pub(crate) async fn pool<DB: Database>(url: &str, most: u32) -> Pool<DB> {
    let options = PoolOptions::<DB>::new().max_connections(most).acquire_timeout(Duration::from_secs(2));
    options.connect(url).await.unwrap()
}

/// A connection that no pool has.
pub(crate) async fn connection<DB: Database>(url: &str) -> DB::Connection {
    DB::Connection::connect(url).await.unwrap()
}

/// Gives a person another name, in one statement that counts.
pub(crate) async fn rename<DB: Database>(tx: &mut Counted<DB>, key: i64, name: &str) -> sqlx::Result<()> {
    let sql = format!("update person set name = '{name}' where number = {key}");
    tx.execute(AssertSqlSafe(sql)).await.map(drop)
}
