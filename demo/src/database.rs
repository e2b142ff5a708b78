//! The database, SQLite or Postgres: made from the metadata, and read through one place that counts
//! statements.

mod fill;
mod schema;
mod statement;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{Connection, FromRow, PgConnection, Postgres, Sqlite};

use self::statement::bound;
pub(crate) use self::statement::{Statement, Value, by_key};
use crate::Result;
use crate::sources::{Id, PackageId, Select};

/// How long a database may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// A row that both databases can give.
pub(crate) trait Row:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// The database, and how many statements were made through this handle.
#[derive(Clone)]
pub(crate) struct Database {
    pool: Pool,
    statements: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Database {
    /// Opens the SQLite database of a folder, or makes an empty one.
    pub(crate) async fn open(folder: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("packages.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        Ok(Self { pool: Pool::Sqlite(pool), statements: Arc::default() })
    }

    /// Opens a Postgres database, which must be there.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(
                "--postgres: the address has to look like postgres://user:password@host/database".into()
            );
        }
        let options = PgConnectOptions::from_str(url)
            .map_err(|why| format!("--postgres: the address cannot be read: {}", sentence(&why)))?;
        let (host, port) = (options.get_host(), options.get_port());
        let at = format!("the database {} at {host}:{port}", options.get_database().unwrap_or("of the user"));
        // the pool would try again until it is out of time, and not say why
        let first = tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options)).await;
        let first = first.map_err(|_| format!("--postgres: {at} does not answer in 5 s"))?;
        let first = first.map_err(|why| format!("--postgres: no way into {at}: {}", sentence(&why)))?;
        first.close().await?;
        let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(PATIENCE).connect_with(options);
        Ok(Self { pool: Pool::Postgres(pool.await?), statements: Arc::default() })
    }

    /// The same database with a count of its own.
    pub(crate) fn counted_apart(&self) -> Self {
        Self { pool: self.pool.clone(), statements: Arc::default() }
    }

    /// How many statements were made through this handle and its clones.
    pub(crate) fn statements(&self) -> usize {
        self.statements.load(Ordering::SeqCst)
    }

    /// What kind of database it is.
    pub(crate) fn kind(&self) -> &'static str {
        match self.pool {
            Pool::Sqlite(_) => "SQLite",
            Pool::Postgres(_) => "Postgres",
        }
    }

    /// Which database it is; `None` if nothing was put into it yet.
    pub(crate) async fn identity(&self) -> Result<Option<String>, sqlx::Error> {
        let there = match self.pool {
            Pool::Sqlite(_) => "select count(*) from sqlite_master where name = 'identity'",
            Pool::Postgres(_) => {
                "select count(*) from pg_tables where schemaname = any(current_schemas(false)) \
                                  and tablename = 'identity'"
            }
        };
        let there: Vec<(i64,)> = self.select(there, &[]).await?;
        if there.first().is_none_or(|(tables,)| *tables == 0) {
            return Ok(None);
        }
        let identity: Vec<(String,)> = self.select("select id from identity", &[]).await?;
        Ok(identity.into_iter().next().map(|(id,)| id))
    }

    /// What a source says of many keys, by one grouped select.
    pub(crate) async fn many<S: Select>(
        &self,
        keys: &[S::Key],
    ) -> Result<Vec<(S::Key, S::Value)>, sqlx::Error> {
        self.count();
        let ids: Vec<i64> = keys.iter().map(|key| key.number()).collect();
        let statement = S::STATEMENT;
        let rows: Vec<S::Row> = match &self.pool {
            Pool::Sqlite(pool) => {
                let ids = serde_json::to_string(&ids).map_err(|why| sqlx::Error::Encode(why.into()))?;
                sqlx::query_as(statement.sqlite).bind(ids).fetch_all(pool).await?
            }
            Pool::Postgres(pool) => sqlx::query_as(statement.postgres).bind(ids).fetch_all(pool).await?,
        };
        Ok(S::gather(rows))
    }

    /// What a source says of one key.
    pub(crate) async fn one<S: Select>(&self, key: S::Key) -> Result<Option<S::Value>, sqlx::Error> {
        let rows = self.select(S::STATEMENT.single, &[key.number().into()]).await?;
        Ok(S::gather(rows).pop().map(|(_, value)| value))
    }

    /// The ids of packages by name and version.
    pub(crate) async fn named<T: Row>(&self, names: &[(String, String)]) -> Result<Vec<T>, sqlx::Error> {
        self.count();
        match &self.pool {
            Pool::Sqlite(pool) => {
                let select = "select id, name, version from package where (name, version) in \
                              (select value ->> 0, value ->> 1 from json_each($1))";
                let names = serde_json::to_string(names).map_err(|why| sqlx::Error::Encode(why.into()))?;
                sqlx::query_as(select).bind(names).fetch_all(pool).await
            }
            Pool::Postgres(pool) => {
                let select = "select id, name, version from package where (name, version) in \
                              (select * from unnest($1::text[], $2::text[]))";
                let (names, versions): (Vec<_>, Vec<_>) = names.iter().cloned().unzip();
                sqlx::query_as(select).bind(names).bind(versions).fetch_all(pool).await
            }
        }
    }

    /// Executes one select that is the same in both databases, and counts it.
    pub(crate) async fn select<T: Row>(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<T>, sqlx::Error> {
        self.count();
        match &self.pool {
            Pool::Sqlite(pool) => bound!(sqlx::query_as(sql), values).fetch_all(pool).await,
            Pool::Postgres(pool) => bound!(sqlx::query_as(sql), values).fetch_all(pool).await,
        }
    }

    /// A transaction, to write in.
    pub(crate) async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        Ok(match &self.pool {
            Pool::Sqlite(pool) => Transaction::Sqlite(pool.begin().await?),
            Pool::Postgres(pool) => Transaction::Postgres(pool.begin().await?),
        })
    }

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }

    fn count(&self) {
        self.statements.fetch_add(1, Ordering::SeqCst);
    }
}

/// What an error says, without where in the sources of the database it came up.
fn sentence(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// A transaction. Dropped before it is committed, it is rolled back.
pub(crate) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Transaction {
    /// Executes one statement, and says how many rows it changed.
    pub(crate) async fn execute(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(within) => {
                bound!(sqlx::query(sql), values).execute(&mut **within).await?.rows_affected()
            }
            Self::Postgres(within) => {
                bound!(sqlx::query(sql), values).execute(&mut **within).await?.rows_affected()
            }
        })
    }

    /// Puts a package under a keyword.
    pub(crate) async fn keyword(
        &mut self,
        package: i64,
        position: i64,
        word: &str,
    ) -> Result<(), sqlx::Error> {
        let [insert, link] = fill::KEYWORD;
        self.execute(insert, &[word.into()]).await?;
        self.execute(link, &[package.into(), position.into(), word.into()]).await.map(drop)
    }

    /// Makes what was written visible to all.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(within) => within.commit().await,
            Self::Postgres(within) => within.commit().await,
        }
    }

    async fn make_tables(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(within) => sqlx::raw_sql(schema::SQLITE).execute(&mut **within).await.map(drop),
            Self::Postgres(within) => sqlx::raw_sql(schema::POSTGRES).execute(&mut **within).await.map(drop),
        }
    }
}

/// What the tour asks for.
pub(crate) struct Cast {
    /// The first packages, in the order of the database.
    pub(crate) packages: Vec<PackageId>,
    /// Their names and versions.
    pub(crate) names: Vec<(String, String)>,
    /// A key that no package has.
    pub(crate) nobody: PackageId,
}

impl Cast {
    /// So many packages; all of them, where there are fewer.
    pub(crate) async fn of(database: &Database, most: u32) -> Result<Self> {
        let database = database.counted_apart();
        let select = "select id, name, version from package order by id limit $1";
        let all: Vec<(i64, String, String)> = database.select(select, &[i64::from(most).into()]).await?;
        if all.is_empty() {
            return Err("the database has no packages".into());
        }
        let last: Vec<(i64,)> = database.select("select max(id) from package", &[]).await?;
        let last = last.first().map_or(0, |(id,)| *id);
        Ok(Self {
            packages: all.iter().map(|(id, ..)| PackageId(*id)).collect(),
            names: all.into_iter().map(|(_, name, version)| (name, version)).collect(),
            nobody: PackageId(last + 1),
        })
    }
}

/// Changes the description of a package: somebody writes.
pub(crate) async fn describe(
    transaction: &mut Transaction,
    id: PackageId,
    description: &str,
) -> Result<(), sqlx::Error> {
    let update = "update package set description = $1 where id = $2";
    transaction.execute(update, &[description.into(), id.0.into()]).await.map(drop)
}
