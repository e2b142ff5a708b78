//! Reads through a connection of the caller's own: inside a transaction.

use std::collections::HashSet;
use std::sync::Arc;

use super::{RequestCache, collect};
use crate::answer::Answers;
use crate::claim::load_in;
use crate::error::{Error, OF_A_KEY};
use crate::guarded::guard;
use crate::source::LoadIn;

impl RequestCache {
    /// The value of a key as a connection of the caller's sees it: see [`get_many_in`](RequestCache::get_many_in).
    ///
    /// # Errors
    /// As [`get`](RequestCache::get).
    pub async fn get_in<S: LoadIn<C>, C: Send + ?Sized>(
        &self,
        connection: &mut C,
        key: S::Key,
    ) -> Result<Option<Arc<S::Value>>, Error> {
        let mut found = self.load_in::<S, C>(connection, vec![key]).await?;
        Ok(found.pop().and_then(|(_, value)| value))
    }

    /// The values of many keys as a connection of the caller's sees them: in an open transaction, with what it has changed.
    ///
    /// Past all tiers, this request's memory included, and remembered by none of them (`R4`): what is not committed must
    /// not be found by anybody else, and may be gone with a rollback. Costs one call of [`LoadIn::load_in`] each time, for
    /// all keys; more where they are more than [`Policy::max_batch`](crate::Policy::max_batch). Hooks run as on every load.
    /// Dropping the future drops the call.
    ///
    /// # Errors
    /// The first error, if any key failed.
    pub async fn get_many_in<S: LoadIn<C>, C: Send + ?Sized>(
        &self,
        connection: &mut C,
        keys: impl IntoIterator<Item = S::Key>,
    ) -> Result<Answers<S::Key, Option<Arc<S::Value>>>, Error> {
        let keys = collect::<S, _, _>(keys, |key| key)?;
        Ok(Answers::new(self.load_in::<S, C>(connection, keys).await?))
    }

    async fn load_in<S: LoadIn<C>, C: Send + ?Sized>(
        &self,
        connection: &mut C,
        mut keys: Vec<S::Key>,
    ) -> Result<Vec<(S::Key, Option<Arc<S::Value>>)>, Error> {
        let source = self.inner.cache.source::<S>()?;
        self.inner.cache.home("a load")?;
        let distinct = guard(|| {
            let mut seen = HashSet::with_capacity(keys.len());
            keys.retain(|key| seen.insert(key.clone()));
            keys
        });
        let keys = distinct.map_err(|why| Error::panicked(S::name(), OF_A_KEY, &why))?;
        load_in(self, &source, connection, keys).await
    }
}
