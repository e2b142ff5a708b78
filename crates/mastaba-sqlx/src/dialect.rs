//! What differs from database to database: what its errors mean for a transaction.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::future::Future;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sqlx::database::HasStatementCache;
use sqlx::{Database, Describe, Either, Execute, IntoArguments, SqlStr};

use crate::outbox::statements::Statements;
use crate::select::Places;
use crate::table::Catalog;

/// A database whose transactions this crate knows: [`sqlx::Postgres`], [`sqlx::MySql`] (MariaDB, too), [`sqlx::Sqlite`],
/// each with the feature of its name.
///
/// It is here to be named in bounds, and nobody else implements it.
pub trait Dialect:
    Database<Arguments: IntoArguments<Self>> + HasStatementCache + Calls + Statements + Catalog
{
    /// A statement that fails where COMMIT would roll back and not say so.
    #[doc(hidden)]
    const PROBE: Option<&'static str>;

    /// How the keys of a grouped select stand in it.
    #[doc(hidden)]
    const PLACES: Places;

    /// What stands around names.
    #[doc(hidden)]
    const QUOTE: char;

    /// Whether this error of COMMIT says for certain that nothing was committed.
    #[doc(hidden)]
    fn is_rolled_back(error: &sqlx::Error) -> bool;

    /// Whether this error says that the transaction lost against another one, so that it may succeed when all of it is
    /// tried again: a serialization failure, a deadlock, a busy file.
    fn is_conflict(error: &sqlx::Error) -> bool;

    /// Whether with this error of a statement the database has ended the whole transaction, and would go on to run, and
    /// to commit, each further statement by itself.
    #[doc(hidden)]
    fn ends_transaction(error: &sqlx::Error) -> bool;
}

/// What a connection does, in words that a generic function understands: for a connection that is known by its database
/// alone, no bound can say that a `&mut` of it is an [`Executor`](sqlx::Executor).
#[doc(hidden)]
pub trait Calls: Database {
    fn fetch_many<'e, 'q: 'e, E>(
        connection: &'e mut Self::Connection,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<Self::QueryResult, Self::Row>>>
    where
        E: 'q + Execute<'q, Self>;

    fn fetch_optional<'e, 'q: 'e, E>(
        connection: &'e mut Self::Connection,
        query: E,
    ) -> BoxFuture<'e, sqlx::Result<Option<Self::Row>>>
    where
        E: 'q + Execute<'q, Self>;

    fn prepare_with<'e>(
        connection: &'e mut Self::Connection,
        sql: SqlStr,
        parameters: &'e [Self::TypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<Self::Statement>>;

    fn describe<'e>(
        connection: &'e mut Self::Connection,
        sql: SqlStr,
    ) -> BoxFuture<'e, sqlx::Result<Describe<Self>>>;

    fn run<'e>(
        connection: &'e mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = sqlx::Result<()>> + Send + 'e;
}

/// The same for each of them.
macro_rules! calls {
    ($($feature:literal $database:ty;)*) => {$(
        #[cfg(feature = $feature)]
        impl Calls for $database {
            fn fetch_many<'e, 'q: 'e, E>(
                connection: &'e mut Self::Connection,
                query: E,
            ) -> BoxStream<'e, sqlx::Result<Either<Self::QueryResult, Self::Row>>>
            where
                E: 'q + Execute<'q, Self>,
            {
                sqlx::Executor::fetch_many(connection, query)
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                connection: &'e mut Self::Connection,
                query: E,
            ) -> BoxFuture<'e, sqlx::Result<Option<Self::Row>>>
            where
                E: 'q + Execute<'q, Self>,
            {
                sqlx::Executor::fetch_optional(connection, query)
            }

            fn prepare_with<'e>(
                connection: &'e mut Self::Connection,
                sql: SqlStr,
                parameters: &'e [Self::TypeInfo],
            ) -> BoxFuture<'e, sqlx::Result<Self::Statement>> {
                sqlx::Executor::prepare_with(connection, sql, parameters)
            }

            fn describe<'e>(
                connection: &'e mut Self::Connection,
                sql: SqlStr,
            ) -> BoxFuture<'e, sqlx::Result<Describe<Self>>> {
                sqlx::Executor::describe(connection, sql)
            }

            async fn run(connection: &mut Self::Connection, sql: &'static str) -> sqlx::Result<()> {
                sqlx::Executor::execute(connection, sql).await.map(drop)
            }
        }
    )*};
}

calls! {
    "postgres" sqlx::Postgres;
    "mysql" sqlx::MySql;
    "sqlite" sqlx::Sqlite;
}
