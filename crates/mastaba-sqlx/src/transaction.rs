//! A transaction, from its beginning to its end.

use std::fmt;
use std::ops::{Deref, DerefMut};

use mastaba::{CommitError, Committed};

use crate::commit;
use crate::counted::Counted;
use crate::dialect::Dialect;

/// A transaction of the database that collects which keys it changes, and voids them once it is committed.
///
/// It derefs to its connection, so that every call of sqlx works on it: `.execute(&mut *tx)`. Each statement counts in the
/// [report](mastaba::RequestCache::report) of the request, so that a budget holds for writes, too; BEGIN and COMMIT are
/// trips there without a statement. Functions that take a plain `&mut PgConnection` get one by `&mut tx`; what they do is
/// not counted.
///
/// * **Collecting** costs no trip. From then on the request reads these keys from the source and stores nothing of them.
///   Other requests go on with what was there before the commit: it is what the database says, too.
/// * **[`commit`](Transaction::commit)** goes to its end when its caller is dropped.
/// * **Dropping** it rolls it back: nothing is voided and nothing is said, so that any `?` may leave a handler. A handler
///   that is dropped does the same, up to the first poll of `commit`.
/// * **Faults** of the shared tier are none of the transaction's, except in write modes that
///   [commit nothing without](mastaba::WriteMode::Strict) it.
pub struct Transaction<DB: Dialect>(Counted<DB>);

impl<DB: Dialect> Transaction<DB> {
    pub(crate) fn new(counted: Counted<DB>) -> Self {
        Self(counted)
    }

    /// Commits, and voids everything that was collected, in a task of its own that goes on to its end when this future is
    /// dropped after its first poll.
    ///
    /// One trip to the database, and then as [`Write::commit`](mastaba::Write::commit). What was collected is voided when
    /// COMMIT succeeds, and when nobody knows whether it did: the connection was lost, for example. Errors of which the
    /// database is known to roll back (a constraint that is checked at the commit, a serialization failure, a busy file of
    /// SQLite) void nothing.
    ///
    /// PostgreSQL answers the COMMIT of a transaction in which a statement has failed by rolling it back, without an
    /// error. Here that is the error [`CommitError::RolledBack`]. To see it costs one trip more, where a statement has
    /// failed or was cut off, or the plain connection was lent; otherwise nothing.
    ///
    /// # Errors
    /// [`CommitError::RolledBack`], [`CommitError::Unknown`], or [`CommitError::Refused`] where keys could not be held. An
    /// invalidation that is not confirmed is no error: [`Committed::published`] says so.
    pub async fn commit(self) -> Result<Committed<()>, CommitError<sqlx::Error>> {
        commit::run(self.0).await.map_err(|error| error.map(|failed| failed.error))
    }

    pub(crate) fn into_counted(self) -> Counted<DB> {
        self.0
    }

    /// Rolls back, and waits for that. Nothing is voided, and nothing is said. What the request read of these keys is
    /// forgotten, as with a drop.
    ///
    /// # Errors
    /// If the database did not answer. The transaction is rolled back all the same, as it was never committed.
    pub async fn rollback(self) -> sqlx::Result<()> {
        self.0.rollback().await
    }
}

impl<DB: Dialect> Deref for Transaction<DB> {
    type Target = Counted<DB>;

    fn deref(&self) -> &Counted<DB> {
        &self.0
    }
}

impl<DB: Dialect> DerefMut for Transaction<DB> {
    fn deref_mut(&mut self) -> &mut Counted<DB> {
        &mut self.0
    }
}

impl<DB: Dialect> fmt::Debug for Transaction<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transaction").field(&self.0).finish()
    }
}
