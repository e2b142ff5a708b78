//! What is seen of the statements of a transaction.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mastaba::DatabaseTrip;
use sea_orm::{DbBackend, DbErr};

use crate::dialect::meaning;

/// What the statements up to now say of the transaction. Statements are sent through a shared reference, so that several
/// may be under way.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    /// Statements that have begun and not ended. One that was cut off never ends: nobody knows what came of it.
    open: AtomicUsize,
    /// Statements that have failed, or may have.
    failed: AtomicUsize,
    conflict: AtomicBool,
    ended: OnceLock<String>,
}

/// How much was in doubt at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InDoubt {
    open: usize,
    failed: usize,
}

impl Sightings {
    /// Whether nobody knows here if the database would still commit.
    pub(crate) fn unsure(&self) -> bool {
        let InDoubt { open, failed } = self.doubts();
        open > 0 || failed > 0
    }

    pub(crate) fn doubts(&self) -> InDoubt {
        InDoubt { open: self.open.load(Ordering::Relaxed), failed: self.failed.load(Ordering::Relaxed) }
    }

    /// What has failed since then was rolled back with its savepoint.
    pub(crate) fn back_to(&self, doubts: InDoubt) {
        self.open.store(doubts.open, Ordering::Relaxed);
        self.failed.store(doubts.failed, Ordering::Relaxed);
    }

    /// Something may have failed that is not seen here.
    pub(crate) fn doubt(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a statement has lost against another transaction.
    pub(crate) fn conflict(&self) -> bool {
        self.conflict.load(Ordering::Relaxed)
    }

    /// Nothing more may be sent, for this reason.
    pub(crate) fn end(&self, why: String) {
        let _ = self.ended.set(why);
    }

    /// Why nothing more may be sent.
    pub(crate) fn over(&self) -> Result<(), DbErr> {
        match self.ended.get() {
            None => Ok(()),
            Some(why) => Err(DbErr::Custom(format!("the transaction has been rolled back already: {why}"))),
        }
    }

    /// Sends a statement, and looks at what comes of it.
    pub(crate) async fn watch<T>(
        &self,
        backend: DbBackend,
        trip: DatabaseTrip,
        work: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        self.open.fetch_add(1, Ordering::Relaxed);
        let done = work.await;
        self.open.fetch_sub(1, Ordering::Relaxed);
        trip.ended(done.is_ok());
        if let Err(error) = &done {
            let means = meaning(backend, error);
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.conflict.fetch_or(means.conflict, Ordering::Relaxed);
            if means.ends {
                self.end(error.to_string());
            }
        }
        done
    }
}
