//! The keys, tags and regions that a transaction collects.

use std::sync::Arc;

use mastaba::{Error, Keyed, Source, Write};

use super::Counted;
use crate::dialect::Dialect;

/// What a transaction has collected, which is discarded with it.
pub(super) struct Collected(Option<Write>);

impl Collected {
    pub(super) fn new(write: Write) -> Self {
        Self(Some(write))
    }

    pub(super) fn write(&self) -> &Write {
        self.0.as_ref().expect("only the end of a transaction takes its write")
    }

    pub(super) fn take(&mut self) -> Write {
        self.0.take().expect("only the end of a transaction takes its write")
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        // COMMIT was not sent, so that it is certain: nothing of it is committed
        self.0.take().into_iter().for_each(Write::discard);
    }
}

impl<DB: Dialect> Counted<DB> {
    /// Collects keys that this transaction changes: they are voided in every tier once it is committed.
    ///
    /// Costs no trip. Collect inner objects before those derived from them. Before or after the statement makes no
    /// difference.
    ///
    /// # Errors
    /// As [`Write::invalidate`].
    pub async fn invalidate<S: Source>(&self, keys: impl IntoIterator<Item = S::Key>) -> Result<(), Error> {
        self.collected.write().invalidate::<S>(keys).await
    }

    /// Collects the keys of a row that changes, those of what it was and those of what it is, each once.
    ///
    /// Costs no trip. Read what it was inside the transaction (`select .. for update`, `returning`).
    ///
    /// # Errors
    /// As [`Write::changed`].
    pub fn changed<R: Keyed>(&self, old: &R, new: &R) -> Result<(), Error> {
        self.collected.write().changed(old, new)
    }

    /// Collects the keys of a row that is inserted: nothing may go on saying that they are absent.
    ///
    /// # Errors
    /// As [`Write::changed`].
    pub fn inserted<R: Keyed>(&self, row: &R) -> Result<(), Error> {
        self.collected.write().inserted(row)
    }

    /// Collects the keys of a row that is deleted.
    ///
    /// # Errors
    /// As [`Write::changed`].
    pub fn deleted<R: Keyed>(&self, row: &R) -> Result<(), Error> {
        self.collected.write().deleted(row)
    }

    /// Collects a key, and gives the request the value that is written for it: its reads have it at once, others load it
    /// after the commit, and after a rollback nobody has it.
    ///
    /// Costs no trip, and no statement after the commit.
    ///
    /// # Errors
    /// As [`Write::put`].
    pub async fn put<S: Source>(&self, key: S::Key, value: impl Into<Arc<S::Value>>) -> Result<(), Error> {
        self.collected.write().put::<S>(key, value).await
    }

    /// Holds what was collected up to now, in regions whose write mode asks for it, and renews the holds until the
    /// transaction ends: for one that stays open for long. [`commit`](crate::Transaction::commit) holds by itself.
    ///
    /// One trip per region.
    ///
    /// # Errors
    /// As [`Write::hold`].
    pub async fn hold(&self) -> Result<(), Error> {
        self.collected.write().hold().await
    }

    /// Collects a tag, of every region: for rows whose keys are not known.
    ///
    /// Costs no trip; one per region after the commit. Until then this request reads everything from the source.
    pub fn invalidate_tag(&self, tag: impl Into<String>) {
        self.collected.write().invalidate_tag(tag);
    }

    /// Collects a whole region.
    ///
    /// Costs no trip; one after the commit. Until then this request reads everything from the source.
    ///
    /// # Errors
    /// If there is no such region.
    pub fn clear(&self, region: &str) -> Result<(), Error> {
        self.collected.write().clear(region)
    }
}
