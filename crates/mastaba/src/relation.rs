//! Relations between objects, stored as keys and resolved through the request.

#[cfg(feature = "async-graphql")]
mod async_graphql;
#[cfg(feature = "expand")]
mod expand;
mod from;
#[cfg(feature = "sqlx")]
mod sqlx;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(feature = "expand")]
pub use self::expand::{Expand, Expanded};
use crate::error::Error;
use crate::request::RequestCache;
use crate::source::Source;

/// A relation to an object of another source: its key, resolved on demand.
///
/// It is stored as its key alone, whatever has been resolved. What it leads to is remembered by the request
/// and not by the value, which several requests may share. Relations that are met together resolve in one
/// batch. For one that may be missing use `Option<Lazy<S>>`, for many `Vec<Lazy<S>>`.
///
/// It is compared, hashed, ordered, shown and copied as its key is. It is made [`From`] a key too where that is a number,
/// a `String`, another of the usual types, or a tuple; for a key of another type write [`Lazy::new`].
///
/// With the feature `sqlx` it is a type of a column, so that a row with relations derives `sqlx::FromRow`. With the feature
/// `async-graphql` it is a field that resolves by itself, so that such a row derives `async_graphql::SimpleObject`.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::{Cache, Lazy, LoadContext, Region, Rows, Source};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Post { title: String, author: Lazy<AuthorById> }
///
/// struct AuthorById;
/// impl Source for AuthorById {
///     type Key = u32;
///     type Value = String;
///     type Error = std::convert::Infallible;
///     const NAME: &'static str = "author.by_id";
///     const REGION: &'static str = "objects";
///     async fn load_many(&self, _: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
///         Ok(ids.iter().map(|id| (*id, format!("author {id}"))).collect())
///     }
/// }
///
/// let cache = Cache::builder().region("objects", Region::memory()).source(AuthorById).build().await?;
/// let request = cache.request();
/// let post = Post { title: "Steps".into(), author: Lazy::new(7) };
/// assert_eq!(*post.author.get(&request).await?.unwrap(), "author 7");
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
pub struct Lazy<S: Source> {
    key: S::Key,
}

impl<S: Source> Lazy<S> {
    /// A relation to the object of this key.
    pub fn new(key: S::Key) -> Self {
        Self { key }
    }

    /// The key.
    pub fn key(&self) -> &S::Key {
        &self.key
    }

    /// What it leads to; `None` if that does not exist.
    ///
    /// Costs what [`RequestCache::get`] costs: nothing the second time in a request.
    ///
    /// # Errors
    /// As [`RequestCache::get`].
    pub async fn get(&self, request: &RequestCache) -> Result<Option<Arc<S::Value>>, Error> {
        request.get::<S>(self.key.clone()).await
    }
}

impl<S: Source> Clone for Lazy<S> {
    fn clone(&self) -> Self {
        Self::new(self.key.clone())
    }
}

impl<S: Source<Key: Copy>> Copy for Lazy<S> {}

impl<S: Source> PartialEq for Lazy<S> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<S: Source> Eq for Lazy<S> {}

impl<S: Source> Hash for Lazy<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl<S: Source<Key: Ord>> PartialOrd for Lazy<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<S: Source<Key: Ord>> Ord for Lazy<S> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

/// The key, as it shows itself: `format!("/author/{}", post.author)`.
impl<S: Source<Key: fmt::Display>> fmt::Display for Lazy<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl<S: Source<Key: fmt::Debug>> fmt::Debug for Lazy<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lazy({} {:?})", S::name(), self.key)
    }
}

impl<S: Source> Serialize for Lazy<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        #[cfg(feature = "expand")]
        if let Some(place) = expand::collect(self) {
            return serializer.serialize_str(&place);
        }
        self.key.serialize(serializer)
    }
}

impl<'de, S: Source> Deserialize<'de> for Lazy<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        S::Key::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests;
