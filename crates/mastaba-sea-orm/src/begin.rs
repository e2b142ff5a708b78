//! How a request begins a transaction.

use std::future::Future;

use mastaba::RequestCache;
use sea_orm::{DatabaseTransaction, DbErr, TransactionOptions, TransactionTrait};

use crate::transaction::Transaction;

/// Begins transactions: a method of [`RequestCache`], and so of everything that derefs to one, as the extractors for axum
/// and actix do.
///
/// A job without a web request takes `cache.request()`.
pub trait Begin {
    /// Begins a transaction on a connection of the pool.
    ///
    /// Costs what [`TransactionTrait::begin`] costs: a connection, and one trip. Nothing of the cache is asked. Dropping
    /// the future gives the connection back.
    ///
    /// # Errors
    /// Those of [`TransactionTrait::begin`].
    fn begin(
        &self,
        db: &impl TransactionTrait<Transaction = DatabaseTransaction>,
    ) -> impl Future<Output = Result<Transaction, DbErr>> + Send;

    /// [`begin`](Begin::begin) with an isolation level, an access mode, or as SQLite begins what is going to write.
    ///
    /// # Errors
    /// Those of [`TransactionTrait::begin_with_options`].
    fn begin_with(
        &self,
        db: &impl TransactionTrait<Transaction = DatabaseTransaction>,
        options: TransactionOptions,
    ) -> impl Future<Output = Result<Transaction, DbErr>> + Send;
}

impl Begin for RequestCache {
    fn begin(
        &self,
        db: &impl TransactionTrait<Transaction = DatabaseTransaction>,
    ) -> impl Future<Output = Result<Transaction, DbErr>> + Send {
        self.begin_with(db, TransactionOptions::default())
    }

    async fn begin_with(
        &self,
        db: &impl TransactionTrait<Transaction = DatabaseTransaction>,
        options: TransactionOptions,
    ) -> Result<Transaction, DbErr> {
        let trip = self.database_trip("begin", 0);
        let begun = db.begin_with_options(options).await;
        trip.ended(begun.is_ok());
        // the write begins after the transaction: what has not begun has nothing to discard
        Ok(Transaction::new(begun?, self.clone()))
    }
}
