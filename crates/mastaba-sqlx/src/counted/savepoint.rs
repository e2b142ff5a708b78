//! Parts of a transaction that are rolled back by themselves.

use std::fmt;
use std::ops::{Deref, DerefMut};

use sqlx_core::transaction::TransactionManager;

use super::Counted;
use crate::dialect::Dialect;

/// A part of a transaction, from a savepoint on: what it collects is dropped with it when it is rolled back, and what was
/// collected before never is.
///
/// It derefs to the same connection as the transaction, and may have savepoints within it. Dropping it rolls it back.
///
/// A nested transaction of sqlx (`Connection::begin` on the plain connection) works as well. Collect what it changes
/// through the transaction around it, before or after: that is voided even where the nested one is rolled back.
#[must_use = "dropping it rolls it back"]
pub struct Savepoint<'t, DB: Dialect> {
    counted: &'t mut Counted<DB>,
    collected: mastaba::Savepoint,
    /// Whether there was a doubt before.
    unsure: bool,
    open: bool,
}

impl<DB: Dialect> Counted<DB> {
    /// Sets a savepoint: a part of the transaction begins that can be rolled back by itself.
    ///
    /// Costs one trip, and so does its end. Dropping the future ends the whole transaction: it is rolled back.
    ///
    /// # Errors
    /// If the database refuses it.
    pub async fn savepoint(&mut self) -> sqlx::Result<Savepoint<'_, DB>> {
        if let Some(error) = self.over() {
            return Err(error);
        }
        let collected = self.collected.write().savepoint();
        let unsure = std::mem::replace(&mut self.seen.unsure, true);
        let trip = self.request.database_trip("savepoint", 0);
        let set = DB::TransactionManager::begin(&mut self.transaction, None).await;
        trip.ended(set.is_ok());
        set?;
        self.seen.unsure = unsure;
        Ok(Savepoint { counted: self, collected, unsure, open: true })
    }
}

impl<DB: Dialect> Savepoint<'_, DB> {
    /// Ends the part: what it did and what it collected belong to the transaction.
    ///
    /// # Errors
    /// If the database refuses it: the part is rolled back then.
    pub async fn release(mut self) -> sqlx::Result<()> {
        let trip = self.counted.request.database_trip("release", 0);
        let done = DB::TransactionManager::commit(&mut self.counted.transaction).await;
        trip.ended(done.is_ok());
        self.open = done.is_err();
        done
    }

    /// Rolls the part back, and waits for that.
    ///
    /// # Errors
    /// If the database did not answer.
    pub async fn rollback(mut self) -> sqlx::Result<()> {
        let trip = self.counted.request.database_trip("rollback", 0);
        let done = DB::TransactionManager::rollback(&mut self.counted.transaction).await;
        trip.ended(done.is_ok());
        done?;
        self.open = false;
        // statements that have failed are as if they had never been
        self.counted.seen.unsure = self.unsure;
        self.take_back();
        Ok(())
    }

    fn take_back(&self) {
        self.counted.collected.write().rolled_back_to(self.collected);
    }
}

impl<DB: Dialect> Drop for Savepoint<'_, DB> {
    fn drop(&mut self) {
        if self.open {
            // it is sent before the next statement
            DB::TransactionManager::start_rollback(&mut self.counted.transaction);
            self.take_back();
        }
    }
}

impl<DB: Dialect> Deref for Savepoint<'_, DB> {
    type Target = Counted<DB>;

    fn deref(&self) -> &Counted<DB> {
        self.counted
    }
}

impl<DB: Dialect> DerefMut for Savepoint<'_, DB> {
    fn deref_mut(&mut self) -> &mut Counted<DB> {
        self.counted
    }
}

impl<DB: Dialect> fmt::Debug for Savepoint<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Savepoint").field("of", &self.counted).finish_non_exhaustive()
    }
}
