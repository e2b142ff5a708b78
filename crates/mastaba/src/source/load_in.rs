//! Sources that can load inside a transaction.

use std::future::Future;

use super::{Rows, Source};

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
