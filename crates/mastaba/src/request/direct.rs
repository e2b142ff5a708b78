//! Reads through a connection of the caller's own: inside a transaction.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use super::{RequestCache, collect};
use crate::answer::Answers;
use crate::claim::{OF_A_KEY, load_in};
use crate::error::Error;
use crate::guarded::guard;
use crate::source::{Rows, Source};

/// A source that can also load through a connection `C` of the caller's: the one of an open transaction, whose changes
/// nobody else sees yet.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::collections::BTreeMap;
/// use mastaba::{Cache, LoadContext, LoadIn, Region, Rows, Source};
///
/// type Table = BTreeMap<u32, String>; // stands for a connection, and for a database
/// struct NameById(Table);
///
/// impl Source for NameById {
///     type Key = u32;
///     type Value = String;
///     type Error = std::convert::Infallible;
///     const NAME: &'static str = "name.by_id";
///     const REGION: &'static str = "objects";
///     async fn load_many(&self, _: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
///         Ok(ids.iter().filter_map(|id| Some((*id, self.0.get(id)?.clone()))).collect())
///     }
/// }
///
/// impl LoadIn<Table> for NameById {
///     async fn load_in(&self, table: &mut Table, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
///         Ok(ids.iter().filter_map(|id| Some((*id, table.get(id)?.clone()))).collect())
///     }
/// }
///
/// let committed = Table::from([(1, "Ada".to_owned())]);
/// let mut open = Table::from([(1, "Grace".to_owned())]);
/// let cache = Cache::builder().region("objects", Region::memory()).source(NameById(committed)).build().await?;
/// let request = cache.request();
/// assert_eq!(request.get_in::<NameById, _>(&mut open, 1).await?.unwrap().as_str(), "Grace");
/// assert_eq!(request.get::<NameById>(1).await?.unwrap().as_str(), "Ada"); // nothing of it was stored
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
pub trait LoadIn<C: ?Sized>: Source {
    /// As [`Source::load_many`], through this connection. It is polled in the task of its caller, within
    /// [`Policy::source_budget`](crate::Policy::source_budget), and dropped with it.
    fn load_in(
        &self,
        connection: &mut C,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<Rows<Self>, Self::Error>> + Send;
}

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
        let keys = distinct.map_err(|why| Error::panicked(S::NAME, OF_A_KEY, &why))?;
        load_in(self, &source, connection, keys).await
    }
}
