//! Parts of a transaction that are rolled back by themselves.

use std::fmt;
use std::ops::{Deref, DerefMut};

use sea_orm::{DatabaseTransaction, DbErr, TransactionTrait};

use super::Transaction;
use crate::observed::{InDoubt, Sightings};

/// A part of a transaction, from a savepoint on: what it collects is dropped with it when it is rolled back, and what was
/// collected before never is.
///
/// It derefs to the transaction, and may have savepoints within it. Dropping it rolls it back. As a connection for SeaORM it
/// is lent by `&*savepoint`.
///
/// A nested transaction of SeaORM (`tx.plain().begin()`) works as well. Collect what it changes through the transaction
/// around it: that is voided even where the nested one is rolled back.
#[must_use = "dropping it rolls it back"]
pub struct Savepoint<'t> {
    transaction: &'t mut Transaction,
    collected: mastaba::Savepoint,
    doubts: InDoubt,
    open: bool,
}

impl Transaction {
    /// Sets a savepoint: a part of the transaction begins that can be rolled back by itself.
    ///
    /// Costs one trip, and so does its end. Dropping the future ends the whole transaction: it is rolled back.
    ///
    /// # Errors
    /// If the database refuses it; the whole transaction is rolled back then, too.
    pub async fn savepoint(&mut self) -> Result<Savepoint<'_>, DbErr> {
        self.seen.over()?;
        let (collected, doubts) = (self.collected.write().savepoint(), self.seen.doubts());
        let under_way = Unended::new(&self.seen, "set");
        let trip = self.request.database_trip("savepoint", 0);
        let set = self.level().begin().await;
        trip.ended(set.is_ok());
        let set = set?;
        under_way.has_ended();
        self.levels.push(set);
        Ok(Savepoint { transaction: self, collected, doubts, open: true })
    }
}

/// A savepoint that is being set or ended. Where that is given up, or fails, nobody knows here which part of the transaction
/// sqlx goes on in, so that all of it is over.
struct Unended<'t> {
    seen: &'t Sightings,
    what: &'static str,
    ended: bool,
}

impl<'t> Unended<'t> {
    fn new(seen: &'t Sightings, what: &'static str) -> Self {
        Self { seen, what, ended: false }
    }

    fn has_ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.seen.end(format!("a savepoint could not be {}, or that was given up", self.what));
        }
    }
}

impl Savepoint<'_> {
    /// Ends the part: what it did and what it collected belong to the transaction.
    ///
    /// One trip. Dropping the future ends the whole transaction: it is rolled back.
    ///
    /// # Errors
    /// If the database refuses it; the whole transaction is rolled back then, too.
    pub async fn release(mut self) -> Result<(), DbErr> {
        let Some(level) = self.close() else { return Ok(()) };
        let under_way = Unended::new(&self.transaction.seen, "released");
        let trip = self.transaction.request.database_trip("release", 0);
        let done = level.commit().await;
        trip.ended(done.is_ok());
        done?;
        under_way.has_ended();
        Ok(())
    }

    /// Rolls the part back, and waits for that.
    ///
    /// One trip. Dropping the future ends the whole transaction: it is rolled back.
    ///
    /// # Errors
    /// If the database did not answer; the whole transaction is rolled back then, too.
    pub async fn rollback(mut self) -> Result<(), DbErr> {
        let Some(level) = self.close() else { return Ok(()) };
        self.take_back();
        let under_way = Unended::new(&self.transaction.seen, "rolled back");
        let trip = self.transaction.request.database_trip("rollback", 0);
        let done = level.rollback().await;
        trip.ended(done.is_ok());
        done?;
        under_way.has_ended();
        // statements that have failed are as if they had never been
        self.transaction.seen.back_to(self.doubts);
        Ok(())
    }

    /// Takes the part out, so that dropping the rest of it ends nothing else.
    fn close(&mut self) -> Option<DatabaseTransaction> {
        self.open = false;
        self.transaction.levels.pop()
    }

    fn take_back(&self) {
        self.transaction.collected.write().rolled_back_to(self.collected);
    }
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        if self.open {
            // its rollback is sent before the next statement
            drop(self.transaction.levels.pop());
            self.take_back();
        }
    }
}

impl Deref for Savepoint<'_> {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        self.transaction
    }
}

impl DerefMut for Savepoint<'_> {
    fn deref_mut(&mut self) -> &mut Transaction {
        self.transaction
    }
}

impl fmt::Debug for Savepoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Savepoint").field("of", &self.transaction).finish_non_exhaustive()
    }
}
