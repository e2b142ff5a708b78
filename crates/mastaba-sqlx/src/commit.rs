//! COMMIT, as part of a write.

use mastaba::{CommitError, Committed};

use crate::counted::Counted;
use crate::dialect::Dialect;
use crate::outbox::OutboxRows;

/// Why a transaction is not committed, or not known to be.
pub(crate) struct CommitFailure {
    pub(crate) error: sqlx::Error,
    /// It is certain that nothing was committed.
    pub(crate) rolled_back: bool,
    /// The same again may succeed.
    pub(crate) conflict: bool,
}

/// Carries a transaction to its end, in a task of its own.
pub(crate) async fn run<DB: Dialect>(
    mut counted: Counted<DB>,
) -> Result<Committed<()>, CommitError<CommitFailure>> {
    let write = counted.take_write();
    let rows = counted.rows(&write);
    write.commit_unless(last(counted, rows), |failed| failed.rolled_back).await
}

/// The last statements of a transaction: all holds are placed by now.
async fn last<DB: Dialect>(
    mut counted: Counted<DB>,
    rows: Option<OutboxRows<DB>>,
) -> Result<(), CommitFailure> {
    counted.is_sound().await?;
    // What has to be committed with the rest is written here: after this there is COMMIT alone.
    if let Some(rows) = rows {
        counted.write_down(&rows).await?;
    }
    counted.commit().await
}
