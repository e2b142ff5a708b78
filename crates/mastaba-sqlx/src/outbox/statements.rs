//! The statements of the outbox, for each database.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::{AssertSqlSafe, Database, Pool, QueryBuilder};
use tokio::sync::Notify;

use super::held::Held;

/// The pieces of one insert statement: about a megabyte.
pub(crate) const ROWS: usize = 64;
/// The rows of one delete statement.
const IDS: usize = 100;
/// How many writes a relay takes at a time.
pub(crate) const HEADS: i64 = 100;

/// The first row of a write that is due.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Its `id`.
    pub id: i64,
    /// The write.
    pub write: i64,
    /// How many rows the write has.
    pub pieces: i32,
}

/// A row of a write.
#[derive(Debug)]
pub struct OutboxRow {
    /// Its `id`.
    pub id: i64,
    /// The write.
    pub write: i64,
    /// Its place in the write.
    pub piece: i32,
    /// The piece itself.
    pub body: Vec<u8>,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, sqlx::Error>>;

/// What a database needs for an outbox.
pub trait Statements: Database {
    /// A name, with its schema before a dot if it has one, as it stands in a statement.
    fn quoted(table: &str) -> String;
    /// The statement that makes the table.
    fn ddl(table: &str) -> String;
    /// Fails if the table is not there or lacks a column.
    fn look<'a>(connection: &'a mut Self::Connection, table: &'a str) -> Answer<'a, ()>;
    /// Writes rows down: the first of these pieces, and of how many, and those after it.
    fn insert<'a>(
        connection: &'a mut Self::Connection,
        table: &'a str,
        write: i64,
        of: (i32, i32),
        bodies: &'a [Vec<u8>],
        grace_ms: i64,
    ) -> Answer<'a, ()>;
    /// Deletes these rows, which the caller has taken.
    fn delete<'a>(connection: &'a mut Self::Connection, table: &'a str, ids: &'a [i64]) -> Answer<'a, ()>;
    /// Deletes all rows of these writes.
    fn sweep<'a>(connection: &'a mut Self::Connection, table: &'a str, writes: &'a [i64]) -> Answer<'a, ()>;
    /// Lets the relays take a write at once, and wakes them where the database can.
    fn hand_over<'a>(connection: &'a mut Self::Connection, table: &'a str, write: i64) -> Answer<'a, ()>;
    /// Whether anything is due. Locks nothing.
    fn any_due<'a>(connection: &'a mut Self::Connection, table: &'a str) -> Answer<'a, bool>;
    /// Begins to take rows: nobody else takes those that are found until the end of it.
    fn begin(pool: &Pool<Self>) -> Answer<'_, Held<Self>>;
    /// The first rows of writes that are due, with an `id` beyond `after`, but those that somebody else has taken.
    fn heads<'a>(connection: &'a mut Self::Connection, table: &'a str, after: i64) -> Answer<'a, Vec<Head>>;
    /// All rows of these writes, each with its place.
    fn rows<'a>(
        connection: &'a mut Self::Connection,
        table: &'a str,
        writes: &'a [i64],
    ) -> Answer<'a, Vec<OutboxRow>>;
    /// Wakes a relay whenever a write is handed over, for ever. `None`: the database cannot.
    fn wakes(pool: &Pool<Self>, table: &str, wake: Arc<Notify>) -> Option<BoxFuture<'static, ()>>;
}

/// Each part of the name in quotes, so that any name is one.
fn quote(table: &str, mark: char) -> String {
    let twice = format!("{mark}{mark}");
    let part = |part: &str| format!("{mark}{}{mark}", part.replace(mark, &twice));
    table.split('.').map(part).collect::<Vec<_>>().join(".")
}

/// What is the same everywhere, but for a few words.
#[allow(unused_macros, reason = "without the feature of any database")]
macro_rules! statements {
    ($database:ty, mark: $mark:literal, now: $now:expr, lock: $lock:literal) => {
        fn quoted(table: &str) -> String {
            quote(table, $mark)
        }

        fn look<'a>(connection: &'a mut Self::Connection, table: &'a str) -> Answer<'a, ()> {
            let table = Self::quoted(table);
            let text = format!("select id, write_id, piece, pieces, due, body from {table} where id = 0");
            Box::pin(async move {
                // not prepared for good: it is asked once
                sqlx::query::<$database>(AssertSqlSafe(text)).persistent(false).fetch_all(connection).await?;
                Ok(())
            })
        }

        fn insert<'a>(
            connection: &'a mut Self::Connection,
            table: &'a str,
            write: i64,
            (first, pieces): (i32, i32),
            bodies: &'a [Vec<u8>],
            grace_ms: i64,
        ) -> Answer<'a, ()> {
            let head = format!("insert into {} (write_id, piece, pieces, due, body) ", Self::quoted(table));
            let mut query = QueryBuilder::<$database>::new(head);
            query.push_values((first..).zip(bodies), |mut row, (piece, body)| {
                row.push_bind(write).push_bind(piece).push_bind(pieces);
                row.push(concat!($now, " + ")).push_bind_unseparated(grace_ms).push_bind(body.as_slice());
            });
            Box::pin(async move {
                // most writes have one row: that statement is worth keeping
                query.build().persistent(bodies.len() == 1).execute(connection).await?;
                Ok(())
            })
        }

        fn any_due<'a>(connection: &'a mut Self::Connection, table: &'a str) -> Answer<'a, bool> {
            let text = format!(
                "select count(*) from (select 1 from {} where piece = 0 and due <= {} limit 1) as found",
                Self::quoted(table),
                $now
            );
            Box::pin(async move {
                let found: i64 =
                    sqlx::query_scalar::<$database, _>(AssertSqlSafe(text)).fetch_one(connection).await?;
                Ok(found > 0)
            })
        }

        fn heads<'a>(
            connection: &'a mut Self::Connection,
            table: &'a str,
            after: i64,
        ) -> Answer<'a, Vec<Head>> {
            let mut query = QueryBuilder::<$database>::new(format!(
                "select id, write_id, pieces from {} where piece = 0 and due <= {} and id > ",
                Self::quoted(table),
                $now
            ));
            query.push_bind(after).push(format_args!(" order by id limit {HEADS} {}", $lock));
            Box::pin(async move {
                let found: Vec<(i64, i64, i32)> = query.build_query_as().fetch_all(connection).await?;
                Ok(found.into_iter().map(|(id, write, pieces)| Head { id, write, pieces }).collect())
            })
        }

        fn rows<'a>(
            connection: &'a mut Self::Connection,
            table: &'a str,
            writes: &'a [i64],
        ) -> Answer<'a, Vec<OutboxRow>> {
            let mut query = QueryBuilder::<$database>::new(format!(
                "select id, write_id, piece, body from {} where write_id in ",
                Self::quoted(table)
            ));
            query.push_list(writes);
            Box::pin(async move {
                let found: Vec<(i64, i64, i32, Vec<u8>)> =
                    query.build_query_as().persistent(false).fetch_all(connection).await?;
                let row = |(id, write, piece, body)| OutboxRow { id, write, piece, body };
                Ok(found.into_iter().map(row).collect())
            })
        }
    };
}

/// How rows are deleted, where that needs no care.
#[allow(unused_macros, reason = "without the feature of any database")]
macro_rules! deletes {
    ($database:ty) => {
        fn delete<'a>(
            connection: &'a mut Self::Connection,
            table: &'a str,
            ids: &'a [i64],
        ) -> Answer<'a, ()> {
            Box::pin(async move {
                for ids in ids.chunks(IDS) {
                    let head = format!("delete from {} where id in ", Self::quoted(table));
                    let mut query = QueryBuilder::<$database>::new(head);
                    query.push_list(ids);
                    query.build().persistent(false).execute(&mut *connection).await?;
                }
                Ok(())
            })
        }

        fn sweep<'a>(
            connection: &'a mut Self::Connection,
            table: &'a str,
            writes: &'a [i64],
        ) -> Answer<'a, ()> {
            let head = format!("delete from {} where write_id in ", Self::quoted(table));
            let mut query = QueryBuilder::<$database>::new(head);
            query.push_list(writes);
            Box::pin(async move {
                query.build().persistent(writes.len() == 1).execute(connection).await?;
                Ok(())
            })
        }
    };
}

/// `(1, 2, 3)`, bound.
trait In {
    fn push_list(&mut self, numbers: &[i64]);
}

#[allow(unused_macros, reason = "without the feature of any database")]
macro_rules! in_list {
    ($database:ty) => {
        impl In for QueryBuilder<$database> {
            fn push_list(&mut self, numbers: &[i64]) {
                self.push("(");
                let mut list = self.separated(", ");
                numbers.iter().for_each(|number| {
                    list.push_bind(*number);
                });
                self.push(")");
            }
        }
    };
}

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
