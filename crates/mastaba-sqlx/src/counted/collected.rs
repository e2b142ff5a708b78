//! What a transaction is told that it changes.

use mastaba::{Error, Source, Write};

use super::Counted;
use crate::dialect::Dialect;

/// What a transaction has collected, which is discarded with it.
pub(super) struct Collected(Option<Write>);

impl Collected {
    pub(super) fn new(write: Write) -> Self {
        Self(Some(write))
    }

    fn write(&self) -> &Write {
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
