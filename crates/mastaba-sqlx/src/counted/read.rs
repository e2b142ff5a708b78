//! Reads inside of a transaction.

use std::sync::Arc;

use mastaba::{Answers, Error, LoadIn, Source};

use super::Counted;
use crate::dialect::Dialect;

impl<DB: Dialect> Counted<DB> {
    /// The value of a key as this transaction sees it, with what it has changed: see [`get_many`](Counted::get_many).
    ///
    /// # Errors
    /// As [`RequestCache::get`](mastaba::RequestCache::get).
    pub async fn get<S>(&mut self, key: S::Key) -> Result<Option<Arc<S::Value>>, Error>
    where
        S: LoadIn<DB::Connection>,
    {
        let unsure = std::mem::replace(&mut self.seen.unsure, true);
        let found = self.request.get_in::<S, _>(&mut *self.transaction, key).await?;
        self.seen.unsure = unsure;
        Ok(found)
    }

    /// The values of many keys as this transaction sees them, with what it has changed. Every distinct key is in the
    /// answer.
    ///
    /// One statement for all keys, through the connection of the transaction; the loader is [`LoadIn::load_in`]. It goes
    /// past all tiers, and no tier remembers what it finds, the request neither: it is not committed.
    ///
    /// # Errors
    /// The first error, if any key failed.
    pub async fn get_many<S>(
        &mut self,
        keys: impl IntoIterator<Item = S::Key>,
    ) -> Result<Answers<S::Key, Option<Arc<S::Value>>>, Error>
    where
        S: Source + LoadIn<DB::Connection>,
    {
        let unsure = std::mem::replace(&mut self.seen.unsure, true);
        let found = self.request.get_many_in::<S, _>(&mut *self.transaction, keys).await?;
        self.seen.unsure = unsure;
        Ok(found)
    }
}
