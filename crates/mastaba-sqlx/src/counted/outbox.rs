//! What a transaction leaves in the outbox.

use mastaba::Write;

use super::Counted;
use crate::commit::CommitFailure;
use crate::dialect::Dialect;
use crate::outbox::{NoOutbox, Outbox, OutboxRows};

impl<DB: Dialect> Counted<DB> {
    /// Writes down what it voids in the outbox of the cache, whatever the write modes of its regions are, so that it is
    /// voided also when this process dies right after COMMIT.
    ///
    /// Without this it does so where one of its regions has the mode [`Degrade`](mastaba::WriteMode::Degrade) and the cache
    /// has an outbox. Costs one statement right before COMMIT.
    ///
    /// # Errors
    /// If the cache has no outbox on this kind of database: see [`Outbox::relay`] and [`Outbox::attach`].
    pub fn with_outbox(&mut self) -> Result<(), NoOutbox> {
        self.outbox = Some(Outbox::attached(&self.request).ok_or_else(NoOutbox::not_attached::<DB>)?);
        Ok(())
    }

    /// The rows of its write, if it is to leave any.
    pub(crate) fn rows(&self, write: &Write) -> Option<OutboxRows<DB>> {
        let of_its_regions = || write.degrades().then(|| Outbox::attached(&self.request)).flatten();
        let rows = self.outbox.clone().or_else(of_its_regions)?.rows(write);
        (rows.statements() > 0).then_some(rows)
    }

    /// The last statement before COMMIT. An error of it is a known rollback.
    pub(crate) async fn write_down(&mut self, rows: &OutboxRows<DB>) -> Result<(), CommitFailure> {
        let trip = self.request.database_trip("outbox", rows.statements());
        let done = rows.insert(&mut self.transaction).await;
        trip.ended(done.is_ok());
        done.map_err(|error| self.rolled_back(error))
    }
}
