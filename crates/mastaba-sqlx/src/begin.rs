//! How a request begins a transaction.

use std::future::Future;

use mastaba::RequestCache;
use sqlx::{Pool, SqlSafeStr, SqlStr};

use crate::counted::Counted;
use crate::dialect::Dialect;
use crate::transaction::Transaction;

/// Begins transactions: a method of [`RequestCache`], and so of everything that derefs to one, as the extractors for axum
/// and actix do.
///
/// A job without a web request takes `cache.request()`.
pub trait Begin {
    /// Begins a transaction on a connection of the pool.
    ///
    /// Costs what [`Pool::begin`] costs: a connection, and one trip. Nothing of the cache is asked. Dropping the future
    /// gives the connection back.
    ///
    /// # Errors
    /// Those of [`Pool::begin`]: [`sqlx::Error::PoolTimedOut`] where no connection became free in time.
    fn begin<DB: Dialect>(
        &self,
        pool: &Pool<DB>,
    ) -> impl Future<Output = sqlx::Result<Transaction<DB>>> + Send;

    /// [`begin`](Begin::begin) with a statement of one's own: `begin isolation level serializable` on Postgres,
    /// `begin immediate` on SQLite, `start transaction with consistent snapshot` on MySQL.
    ///
    /// # Errors
    /// Those of [`Pool::begin_with`]: [`sqlx::Error::BeginFailed`] where the statement begins no transaction.
    fn begin_with<DB: Dialect>(
        &self,
        pool: &Pool<DB>,
        statement: impl SqlSafeStr,
    ) -> impl Future<Output = sqlx::Result<Transaction<DB>>> + Send;
}

impl Begin for RequestCache {
    async fn begin<DB: Dialect>(&self, pool: &Pool<DB>) -> sqlx::Result<Transaction<DB>> {
        begin(self, pool, None).await
    }

    fn begin_with<DB: Dialect>(
        &self,
        pool: &Pool<DB>,
        statement: impl SqlSafeStr,
    ) -> impl Future<Output = sqlx::Result<Transaction<DB>>> + Send {
        begin(self, pool, Some(statement.into_sql_str()))
    }
}

pub(crate) async fn begin<DB: Dialect>(
    request: &RequestCache,
    pool: &Pool<DB>,
    statement: Option<SqlStr>,
) -> sqlx::Result<Transaction<DB>> {
    let trip = request.database_trip("begin", 0);
    let begun = match statement {
        Some(statement) => pool.begin_with(statement).await,
        None => pool.begin().await,
    };
    trip.ended(begun.is_ok());
    Ok(Transaction::new(Counted::new(begun?, request.clone())))
}
