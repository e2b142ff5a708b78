//! Grouped selects: the SQL of a source, whose keys and rows are looked after here.

mod bind;
mod pools;
mod statement;
#[cfg(test)]
mod tests;

use std::any::{Any, type_name};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::future::{BoxFuture, ready};
use mastaba::{LoadContext, Rows, Source};
use sqlx::Connection;

pub use self::bind::{Bind, Four, One, ReadFrom, Three, Two};
pub use self::pools::Pools;
pub(crate) use self::statement::{Places, Statement};
use crate::children::FillChildren;
use crate::dialect::Dialect;
use crate::table::Expected;

/// A grouped select for a [`Source`]: one statement for all keys of a load.
///
/// The SQL is the caller's and names no keys: `in {keys}` stands where they go. It becomes what its database does best:
///
/// | database | `id in {keys}` | `(a, b) in {keys}` |
/// | --- | --- | --- |
/// | PostgreSQL | `id = any($1)`: one prepared statement | `(a, b) in (select * from unnest($1, $2))`: one |
/// | SQLite | `id in (select value from json_each(?))` for integers and text: one | a list of marks, padded |
/// | MySQL, MariaDB | a list of marks, padded to a power of two: eleven statements for 1 to 1024 keys | the same |
///
/// Loading costs one statement (where keys are a list of marks: one for each 16,384 marks) on one connection of the pool,
/// which is given back when the future is dropped. Its errors are those of sqlx. Rows are looked up by the key that stands
/// in them: where the database takes two texts for equal (a collation that ignores case) and the key was asked for in
/// another spelling, it is absent.
///
/// ```
/// # #[cfg(not(feature = "sqlite"))] fn main() {}
/// # #[cfg(feature = "sqlite")]
/// # fn main() { tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::{Cache, LoadContext, Region, Rows, Source};
/// use mastaba_sqlx::Select;
///
/// struct VotesOfPost(Select<Self>);
///
/// impl Source for VotesOfPost {
///     type Key = i64;
///     type Value = i64;
///     type Error = sqlx::Error;
///     const NAME: &'static str = "votes.of_post";
///     const REGION: &'static str = "objects";
///
///     async fn load_many(&self, cx: &LoadContext<'_>, posts: &[i64]) -> sqlx::Result<Rows<Self>> {
///         self.0.load(cx, posts).await
///     }
/// }
///
/// # let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
/// # let pool = options.connect("sqlite::memory:").await?;
/// # sqlx::raw_sql("create table vote (post_id integer); insert into vote values (1), (1), (2)").execute(&pool).await?;
/// let sql = "select post_id, count(*) from vote where post_id in {keys} group by post_id";
/// let votes = VotesOfPost(Select::rows(&pool, sql, |row: (i64, i64)| row));
/// let cache = Cache::builder().region("objects", Region::memory()).source(votes).build().await?;
/// let request = cache.request();
/// let votes = request.get_many::<VotesOfPost>([1, 2, 3]).await?;
/// assert_eq!(votes.found().map(|(_, votes)| **votes).collect::<Vec<_>>(), [2, 1]);
/// assert_eq!(request.report().statements(), 1);
/// # Ok::<_, mastaba::BoxError>(()) }).unwrap() }
/// ```
pub struct Select<S: Source> {
    run: Arc<dyn Run<S>>,
}

impl<S: Source> Select<S> {
    /// A select that gives at most one row for each key. `row` takes it apart into its key and its value.
    ///
    /// `Shape` is found by itself: [`One`] column, or [`Two`], [`Three`], [`Four`] for a key that is a tuple.
    ///
    /// # Panics
    /// If `in {keys}` does not stand in the SQL just once: it is a mistake in the text of the program.
    pub fn rows<DB, P, R, Shape>(pools: &P, sql: &str, row: fn(R) -> (S::Key, S::Value)) -> Self
    where
        DB: Dialect,
        P: Pools<DB>,
        R: ReadFrom<DB> + Send + Unpin + 'static,
        S::Key: Bind<DB, Shape>,
        Shape: Send + Sync + 'static,
    {
        Self::of(pools, Statement::new(sql), Looks::AtStatement, Collect::new(row, at_most_one::<S>))
    }

    /// A select that gives any number of rows for each key, in the order of its list. A key without rows has an empty
    /// list, and is not absent.
    ///
    /// Nothing bounds the lists but the SQL: see that it does.
    ///
    /// # Panics
    /// As [`rows`](Select::rows).
    pub fn lists<DB, P, R, Shape, T>(pools: &P, sql: &str, row: fn(R) -> (S::Key, T)) -> Self
    where
        DB: Dialect,
        P: Pools<DB>,
        R: ReadFrom<DB> + Send + Unpin + 'static,
        S: Source<Value = Vec<T>>,
        S::Key: Bind<DB, Shape>,
        Shape: Send + Sync + 'static,
        T: Send + 'static,
    {
        Self::of(pools, Statement::new(sql), Looks::AtStatement, Collect::new(row, lists::<S, T>))
    }

    pub(crate) fn of<DB, P, R, Shape, T>(
        pools: &P,
        statement: Statement,
        looks: Looks<DB>,
        collect: Collect<DB, S, R, T>,
    ) -> Self
    where
        DB: Dialect,
        P: Pools<DB>,
        R: ReadFrom<DB> + Send + Unpin + 'static,
        S::Key: Bind<DB, Shape>,
        Shape: Send + Sync + 'static,
        T: Send + 'static,
    {
        Self { run: Arc::new(Grouped { pools: pools.clone(), statement, looks, collect, of: PhantomData }) }
    }

    /// Loads these keys, for [`Source::load_many`].
    ///
    /// # Errors
    /// Those of sqlx: no connection came free, the statement failed, or a row cannot be decoded.
    pub async fn load(&self, cx: &LoadContext<'_>, keys: &[S::Key]) -> sqlx::Result<Rows<S>> {
        self.run.load(cx, keys).await
    }

    /// Loads these keys through a connection of the caller's, for [`LoadIn::load_in`](mastaba::LoadIn::load_in).
    ///
    /// # Errors
    /// As [`load`](Select::load), or if it is a connection to another kind of database than that of the pool.
    pub async fn load_in<C: Connection + 'static>(
        &self,
        connection: &mut C,
        keys: &[S::Key],
    ) -> sqlx::Result<Rows<S>> {
        self.run.load_in(connection, keys).await
    }

    /// What is wrong with the statement, for [`Source::check`]: the database prepares it, and is asked for no key.
    pub async fn check(&self) -> Vec<String> {
        self.run.check().await
    }
}

/// A select whose database is known to it alone, so that the type of its source does not depend on it.
trait Run<S: Source>: Send + Sync {
    fn load<'a>(
        &'a self,
        cx: &'a LoadContext<'_>,
        keys: &'a [S::Key],
    ) -> BoxFuture<'a, sqlx::Result<Rows<S>>>;

    fn load_in<'a>(
        &'a self,
        connection: &'a mut (dyn Any + Send),
        keys: &'a [S::Key],
    ) -> BoxFuture<'a, sqlx::Result<Rows<S>>>;

    fn check(&self) -> BoxFuture<'_, Vec<String>>;
}

struct Grouped<S: Source, DB: Dialect, P, R, Shape, T> {
    pools: P,
    statement: Statement,
    looks: Looks<DB>,
    collect: Collect<DB, S, R, T>,
    of: PhantomData<fn() -> Shape>,
}

/// What becomes of rows: of each, and of all.
pub(crate) struct Collect<DB: Dialect, S: Source, R, T> {
    pub(crate) row: fn(R) -> (S::Key, T),
    pub(crate) all: fn(&[S::Key], Vec<(S::Key, T)>) -> Rows<S>,
    /// What is kept in the rows beside their own columns.
    pub(crate) embeds: Vec<Box<dyn FillChildren<DB, S>>>,
}

impl<DB: Dialect, S: Source, R, T> Collect<DB, S, R, T> {
    pub(crate) fn new(row: fn(R) -> (S::Key, T), all: fn(&[S::Key], Vec<(S::Key, T)>) -> Rows<S>) -> Self {
        Self { row, all, embeds: Vec::new() }
    }
}

/// What a select looks at when the cache is built.
pub(crate) enum Looks<DB: Dialect> {
    /// At nothing: another one looks at the table.
    Nowhere,
    /// Whether the database takes its statement.
    AtStatement,
    /// At the table, its columns and keys.
    AtTable(Expected<DB>),
}

/// At most one row for each key. Two of one key are for Mastaba to refuse.
pub(crate) fn at_most_one<S: Source>(_: &[S::Key], rows: Vec<(S::Key, S::Value)>) -> Rows<S> {
    rows.into_iter().collect()
}

/// A list for each key, in the order of the rows.
pub(crate) fn lists<S: Source<Value = Vec<T>>, T>(keys: &[S::Key], rows: Vec<(S::Key, T)>) -> Rows<S> {
    let mut lists: HashMap<&S::Key, Vec<T>> = keys.iter().map(|key| (key, Vec::new())).collect();
    let mut foreign = Vec::new();
    for (key, each) in rows {
        match lists.get_mut(&key) {
            Some(list) => list.push(each),
            // it goes on, for Mastaba to say so
            None => foreign.push((key, vec![each])),
        }
    }
    lists.into_iter().map(|(key, list)| (key.clone(), list)).chain(foreign).collect()
}

impl<S, DB, P, R, Shape, T> Grouped<S, DB, P, R, Shape, T>
where
    S: Source,
    DB: Dialect,
    R: ReadFrom<DB>,
    S::Key: Bind<DB, Shape>,
{
    /// The rows, and how many statements it took to find them.
    async fn run(&self, connection: &mut DB::Connection, keys: &[S::Key]) -> sqlx::Result<(Rows<S>, usize)> {
        let (rows, mut statements) = fetch::<DB, R, _, _>(&self.statement, connection, keys).await?;
        let mut rows = (self.collect.all)(keys, rows.into_iter().map(self.collect.row).collect());
        if !rows.is_empty() {
            for embed in &self.collect.embeds {
                statements += embed.fill(connection, &mut rows).await?;
            }
        }
        Ok((rows, statements))
    }

    /// Why the database does not take the statement.
    async fn statement_refused(&self, connection: &mut DB::Connection) -> Option<sqlx::Error> {
        match DB::PLACES {
            // PostgreSQL has to know the types of its arrays: it is asked for no keys at all
            Places::Arrays => {
                fetch_part::<DB, R, S::Key, Shape>(&self.statement, connection, &[]).await.err()
            }
            Places::Values | Places::Marks => {
                DB::describe(connection, self.statement.example::<DB>(S::Key::COLUMNS)).await.err()
            }
        }
    }
}

/// The rows of these keys, and how many statements it took to find them: one, as long as a statement takes so many keys.
pub(crate) async fn fetch<DB, R, K, Shape>(
    statement: &Statement,
    connection: &mut DB::Connection,
    keys: &[K],
) -> sqlx::Result<(Vec<R>, usize)>
where
    DB: Dialect,
    R: ReadFrom<DB>,
    K: Bind<DB, Shape>,
{
    let parts = keys.chunks(K::MOST);
    let (mut rows, statements) = (Vec::new(), parts.len());
    for part in parts {
        rows.extend(fetch_part::<DB, R, K, Shape>(statement, connection, part).await?);
    }
    Ok((rows, statements))
}

async fn fetch_part<DB, R, K, Shape>(
    statement: &Statement,
    connection: &mut DB::Connection,
    keys: &[K],
) -> sqlx::Result<Vec<R>>
where
    DB: Dialect,
    R: ReadFrom<DB>,
    K: Bind<DB, Shape>,
{
    let (sql, arguments) = K::bind(statement, keys).map_err(sqlx::Error::Encode)?;
    let answers = DB::fetch_many(connection, sqlx::query_with::<DB, _>(sql, arguments));
    let rows: Vec<DB::Row> = answers.try_filter_map(|answer| ready(Ok(answer.right()))).try_collect().await?;
    rows.iter().map(R::read).collect()
}

impl<S, DB, P, R, Shape, T> Run<S> for Grouped<S, DB, P, R, Shape, T>
where
    S: Source,
    DB: Dialect,
    P: Pools<DB>,
    R: ReadFrom<DB> + Send + Unpin + 'static,
    S::Key: Bind<DB, Shape>,
    Shape: Send + Sync + 'static,
    T: Send + 'static,
{
    fn load<'a>(
        &'a self,
        cx: &'a LoadContext<'_>,
        keys: &'a [S::Key],
    ) -> BoxFuture<'a, sqlx::Result<Rows<S>>> {
        Box::pin(async move {
            let mut connection = self.pools.pick(cx).await.acquire().await?;
            let (rows, statements) = self.run(&mut connection, keys).await?;
            // one is counted already
            cx.count_statements(u32::try_from(statements.saturating_sub(1)).unwrap_or(u32::MAX));
            Ok(rows)
        })
    }

    fn load_in<'a>(
        &'a self,
        connection: &'a mut (dyn Any + Send),
        keys: &'a [S::Key],
    ) -> BoxFuture<'a, sqlx::Result<Rows<S>>> {
        Box::pin(async move {
            let Some(connection) = connection.downcast_mut::<DB::Connection>() else {
                let sentence = format!("this select is one of {}, and the connection is not", DB::NAME);
                return Err(sqlx::Error::Configuration(sentence.into()));
            };
            self.run(connection, keys).await.map(|(rows, _)| rows)
        })
    }

    fn check(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            if matches!(self.looks, Looks::Nowhere) {
                return Vec::new();
            }
            let mut connection = match self.pools.writer().acquire().await {
                Ok(connection) => connection,
                Err(error) => return vec![format!("it was not checked, as there is no connection: {error}")],
            };
            match &self.looks {
                Looks::Nowhere => Vec::new(),
                Looks::AtTable(table) => table.check(&mut connection).await,
                Looks::AtStatement => {
                    let refused = self.statement_refused(&mut connection).await;
                    refused
                        .map(|error| format!("the database refuses its statement: {error}"))
                        .into_iter()
                        .collect()
                }
            }
        })
    }
}

impl<S: Source> Clone for Select<S> {
    fn clone(&self) -> Self {
        Self { run: self.run.clone() }
    }
}

impl<S: Source> fmt::Debug for Select<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Select<{}>", type_name::<S>())
    }
}
