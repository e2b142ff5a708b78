//! The connection of a transaction: its statements are counted and watched, and what they change is collected.

mod collected;
mod outbox;
mod read;
mod savepoint;
mod watched;

use std::fmt;
use std::ops::{Deref, DerefMut};

use futures_util::future::{self, BoxFuture};
use futures_util::stream::{self, BoxStream, StreamExt};
use mastaba::{RequestCache, Write};
use sqlx::{Describe, Either, Execute, Executor, SqlStr};
use sqlx_core::transaction::TransactionManager;

use self::collected::Collected;
pub use self::savepoint::Savepoint;
use self::watched::{Observed, WatchedStatement};
use crate::commit::CommitFailure;
use crate::dialect::Dialect;
use crate::outbox::Outbox;

/// The connection of a [`Transaction`](crate::Transaction), and of everything within it: its statements count in the
/// report of the request, and what they change is collected.
///
/// `&mut Counted<DB>` is an [`Executor`], so that `.execute(&mut *tx)` runs a statement and counts it. A stream that is
/// dropped before its end was a statement, too, and a text of three statements counts as three. It derefs to the plain
/// connection, whose statements do not count.
pub struct Counted<DB: Dialect> {
    // first: it is rolled back before what was collected is let go
    transaction: sqlx::Transaction<'static, DB>,
    collected: Collected,
    request: RequestCache,
    seen: Observed,
    /// Where what is collected is written down, in whichever write mode.
    outbox: Option<Outbox<DB>>,
}

impl<DB: Dialect> Counted<DB> {
    /// The write begins after the transaction: what has not begun has nothing to discard.
    pub(crate) fn new(transaction: sqlx::Transaction<'static, DB>, request: RequestCache) -> Self {
        let collected = Collected::new(request.write());
        Self { transaction, collected, request, seen: Observed::default(), outbox: None }
    }

    /// Takes the write out, which then belongs to whoever commits.
    pub(crate) fn take_write(&mut self) -> Write {
        self.collected.take()
    }

    /// Why nothing more may be sent. The database has ended the transaction, or sqlx has: a savepoint that is not set, or
    /// is given up while it is being set, takes the whole transaction with it. Each statement would be committed by itself.
    fn over(&self) -> Option<sqlx::Error> {
        let depth = DB::TransactionManager::get_transaction_depth(&self.transaction);
        self.seen.over().or_else(|| {
            let sentence = "the transaction has been rolled back already, with a savepoint that was not set";
            (depth == 0).then(|| sqlx::Error::Protocol(sentence.to_owned()))
        })
    }

    /// Whether a statement has failed in a way that may be gone when the whole transaction is tried again.
    pub(crate) fn conflict(&self) -> bool {
        self.seen.conflict
    }

    /// Makes sure that COMMIT would commit: on PostgreSQL it rolls back without an error where a statement has failed.
    pub(crate) async fn is_sound(&mut self) -> Result<(), CommitFailure> {
        if let Some(error) = self.over() {
            return Err(self.rolled_back(error));
        }
        let Some(probe) = DB::PROBE.filter(|_| self.seen.unsure) else { return Ok(()) };
        let trip = self.request.database_trip("probe", 0);
        let done = DB::run(&mut self.transaction, probe).await;
        trip.ended(done.is_ok());
        // COMMIT is not sent
        done.map_err(|error| self.rolled_back(error))
    }

    fn rolled_back(&self, error: sqlx::Error) -> CommitFailure {
        let conflict = self.seen.conflict || DB::is_conflict(&error);
        CommitFailure { error, rolled_back: true, conflict }
    }

    pub(crate) async fn commit(self) -> Result<(), CommitFailure> {
        let trip = self.request.database_trip("commit", 0);
        // where it fails, sqlx rolls back what may still be open
        let done = self.transaction.commit().await;
        trip.ended(done.is_ok());
        done.map_err(|error| CommitFailure {
            rolled_back: DB::is_rolled_back(&error),
            conflict: DB::is_conflict(&error),
            error,
        })
    }

    pub(crate) async fn rollback(self) -> sqlx::Result<()> {
        let Self { transaction, collected, request, .. } = self;
        let trip = request.database_trip("rollback", 0);
        let done = transaction.rollback().await;
        trip.ended(done.is_ok());
        drop(collected);
        done
    }
}

impl<'c, DB: Dialect> Executor<'c> for &'c mut Counted<DB> {
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<DB::QueryResult, DB::Row>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, DB>,
    {
        if let Some(error) = self.over() {
            return stream::once(future::ready(Err(error))).boxed();
        }
        let trip = self.request.database_trip("statement", 1);
        let answers = DB::fetch_many(&mut self.transaction, query);
        WatchedStatement::new(&mut self.seen, trip).many::<DB>(answers)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<DB::Row>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, DB>,
    {
        if let Some(error) = self.over() {
            return Box::pin(future::ready(Err(error)));
        }
        let trip = self.request.database_trip("statement", 1);
        let row = DB::fetch_optional(&mut self.transaction, query);
        Box::pin(WatchedStatement::new(&mut self.seen, trip).one::<DB, _>(row))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<DB::Statement>>
    where
        'c: 'e,
    {
        if let Some(error) = self.over() {
            return Box::pin(future::ready(Err(error)));
        }
        let trip = self.request.database_trip("prepare", 0);
        let statement = DB::prepare_with(&mut self.transaction, sql, parameters);
        Box::pin(WatchedStatement::new(&mut self.seen, trip).one::<DB, _>(statement))
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<DB>>>
    where
        'c: 'e,
    {
        DB::describe(&mut self.transaction, sql)
    }
}

impl<DB: Dialect> Deref for Counted<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.transaction
    }
}

impl<DB: Dialect> DerefMut for Counted<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        // whatever is done with it is not seen here
        self.seen.unsure = true;
        &mut self.transaction
    }
}

impl<DB: Dialect> fmt::Debug for Counted<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").field("database", &DB::NAME).finish_non_exhaustive()
    }
}
