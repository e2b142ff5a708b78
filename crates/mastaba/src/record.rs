//! Rows that are found by something else than their key: indexes and lists, which store keys alone.
//!
//! A row is cached once, under its key. What leads to it is checked against the row on reading, so that an entry which
//! is out of date costs a second look and never gives a wrong row.

use std::sync::Arc;

use crate::answer::Answers;
use crate::error::Error;
use crate::guarded::guard;
use crate::key::Key;
use crate::request::{Force, RequestCache, collect};
use crate::source::Source;

/// A type whose values are the rows of one source, by their key: what `#[derive(Cached)]` of `mastaba-sqlx` makes of a
/// struct.
pub trait Record: Send + Sync + Sized + 'static {
    /// The source of its rows, by their key.
    type Source: Source<Value = Self>;
}

/// A source that leads to one row each: from an address of e-mail to the key of its user.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::{Cache, Index, LoadContext, Region, Rows, Source};
///
/// struct NameById; // 1: Ada, 2: Grace
/// struct IdByName;
/// # const NAMES: [(u32, &str); 2] = [(1, "Ada"), (2, "Grace")];
/// # impl Source for NameById {
/// #     type Key = u32; type Value = String; type Error = std::convert::Infallible;
/// #     const NAME: &'static str = "name.by_id"; const REGION: &'static str = "objects";
/// #     async fn load_many(&self, _: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
/// #         Ok(NAMES.iter().filter(|row| ids.contains(&row.0)).map(|row| (row.0, row.1.to_owned())).collect())
/// #     }
/// # }
/// # impl Source for IdByName {
/// #     type Key = String; type Value = u32; type Error = std::convert::Infallible;
/// #     const NAME: &'static str = "name.by_name"; const REGION: &'static str = "objects";
/// #     async fn load_many(&self, _: &LoadContext<'_>, names: &[String]) -> Result<Rows<Self>, Self::Error> {
/// #         let asked = |row: &&(u32, &str)| names.iter().any(|name| name == row.1);
/// #         Ok(NAMES.iter().filter(asked).map(|row| (row.1.to_owned(), row.0)).collect())
/// #     }
/// # }
///
/// impl Index for IdByName {
///     type Rows = NameById;
///     fn leads(name: &String, row: &String) -> bool {
///         name == row
///     }
/// }
///
/// let cache = Cache::builder().region("objects", Region::memory()).source(NameById).source(IdByName).build().await?;
/// let request = cache.request();
/// let names = ["Ada", "Grace", "Nobody"].map(str::to_owned);
/// let rows = request.find_many_by::<IdByName>(names).await?;
/// assert_eq!(rows.found().count(), 2);
/// assert_eq!(request.report().statements(), 2); // one for the keys, one for the rows
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
pub trait Index: Source<Value = <Self::Rows as Source>::Key> {
    /// The source of the rows that it leads to.
    type Rows: Source;

    /// Whether this row still is the one that the key leads to.
    fn leads(key: &Self::Key, row: &<Self::Rows as Source>::Value) -> bool;
}

/// A source of lists: the keys of the posts of an author, in their order. A list without an end has no place in a cache:
/// whoever loads it bounds it.
pub trait List: Source<Value = Vec<<Self::Rows as Source>::Key>> {
    /// The source of the rows in its lists.
    type Rows: Source;

    /// Whether this row still belongs to the list of that key.
    fn holds(key: &Self::Key, row: &<Self::Rows as Source>::Value) -> bool;
}

/// The value of a source, shared.
type Found<S> = Arc<<S as Source>::Value>;

impl RequestCache {
    /// The row of this key: [`get`](RequestCache::get), named by the type of the row.
    ///
    /// # Errors
    /// As [`get`](RequestCache::get).
    pub async fn find<R: Record>(&self, key: <R::Source as Source>::Key) -> Result<Option<Arc<R>>, Error> {
        self.get::<R::Source>(key).await
    }

    /// The rows of these keys: [`get_many`](RequestCache::get_many), named by the type of the row.
    ///
    /// # Errors
    /// As [`get_many`](RequestCache::get_many).
    pub async fn find_many<R: Record>(
        &self,
        keys: impl IntoIterator<Item = <R::Source as Source>::Key>,
    ) -> Result<Answers<<R::Source as Source>::Key, Option<Arc<R>>>, Error> {
        self.get_many::<R::Source>(keys).await
    }

    /// The row that an index leads to: see [`find_many_by`](RequestCache::find_many_by).
    ///
    /// # Errors
    /// As [`get`](RequestCache::get).
    pub async fn find_by<I: Index>(&self, key: I::Key) -> Result<Option<Found<I::Rows>>, Error> {
        let rows = self.find_many_by::<I>([key]).await?;
        Ok(rows.into_iter().next().and_then(|(_, row)| row))
    }

    /// The rows that an index leads to; `None` for a key that leads nowhere.
    ///
    /// Two reads, one of the index and one of the rows, each of which costs what [`get_many`](RequestCache::get_many)
    /// costs, for any number of keys: cold, two statements. Finds that are awaited together travel together. An entry
    /// whose row is gone, or is no longer led to ([`Index::leads`]), is a miss: both are loaded once more and stored.
    /// Faults of the shared tier, and dropping, as of [`RequestCache`].
    ///
    /// # Errors
    /// As [`get_many`](RequestCache::get_many), or if [`Index::leads`] panics.
    pub async fn find_many_by<I: Index>(
        &self,
        keys: impl IntoIterator<Item = I::Key>,
    ) -> Result<Answers<I::Key, Option<Found<I::Rows>>>, Error> {
        let mut found = self.follow::<I>(collect::<I, _, _>(keys, |key| key)?).await?;
        let astray = self.astray(&found);
        if !astray.is_empty() {
            replace(&mut found, self.with(Force::Refresh).follow::<I>(astray).await?);
        }
        Ok(answers(found))
    }

    /// The rows of a list: see [`list_many_by`](RequestCache::list_many_by).
    ///
    /// # Errors
    /// As [`get`](RequestCache::get).
    pub async fn list_by<L: List>(&self, key: L::Key) -> Result<Vec<Found<L::Rows>>, Error> {
        let lists = self.list_many_by::<L>([key]).await?;
        Ok(lists.into_iter().next().map(|(_, rows)| rows).unwrap_or_default())
    }

    /// The rows of lists, each in its order; an empty one for a key that has none. The keys alone are
    /// [`get_many`](RequestCache::get_many) of the list.
    ///
    /// Two reads, one of the lists and one of all rows in them, each of which costs what
    /// [`get_many`](RequestCache::get_many) costs, for any number of keys: cold, two statements. Lists that are awaited
    /// together travel together. A list with a row that is gone, or no longer belongs to it ([`List::holds`]), is a miss:
    /// it and its rows are loaded once more and stored. Faults of the shared tier, and dropping, as of [`RequestCache`].
    ///
    /// # Errors
    /// As [`get_many`](RequestCache::get_many), or if [`List::holds`] panics.
    pub async fn list_many_by<L: List>(
        &self,
        keys: impl IntoIterator<Item = L::Key>,
    ) -> Result<Answers<L::Key, Vec<Found<L::Rows>>>, Error> {
        let mut lists = self.gather::<L>(collect::<L, _, _>(keys, |key| key)?).await?;
        let astray = self.astray(&lists);
        if !astray.is_empty() {
            replace(&mut lists, self.with(Force::Refresh).gather::<L>(astray).await?);
        }
        Ok(answers(lists))
    }

    /// The keys whose entry is out of date, to be asked anew: not where all that was asked is from the source.
    fn astray<K: Key, T>(&self, found: &[(K, Led<T>)]) -> Vec<K> {
        if self.force() == Force::PastShared {
            return Vec::new();
        }
        found.iter().filter(|(_, led)| led.astray).map(|(key, _)| key.clone()).collect()
    }

    /// Goes from keys of an index to rows.
    async fn follow<I: Index>(
        &self,
        keys: Vec<I::Key>,
    ) -> Result<Vec<(I::Key, Led<Option<Found<I::Rows>>>)>, Error> {
        let entries = self.get_many::<I>(keys).await?;
        let rows = self.get_many::<I::Rows>(entries.found().map(|(_, key)| (**key).clone())).await?;
        let lead = |(key, to): (I::Key, Option<Arc<_>>)| {
            let row = to.as_deref().and_then(|to| rows.get(to)?.clone()).filter(|row| I::leads(&key, row));
            (key, Led { astray: to.is_some() && row.is_none(), to: row })
        };
        checked::<I, _>("`Index::leads`", || entries.into_iter().map(lead).collect())
    }

    /// Goes from keys of lists to the rows in them.
    async fn gather<L: List>(
        &self,
        keys: Vec<L::Key>,
    ) -> Result<Vec<(L::Key, Led<Vec<Found<L::Rows>>>)>, Error> {
        let lists = self.get_many::<L>(keys).await?;
        let rows = self.get_many::<L::Rows>(lists.found().flat_map(|(_, keys)| keys.iter().cloned())).await?;
        let lead = |(key, list): (L::Key, Option<Arc<Vec<_>>>)| {
            let keys = list.as_deref().map_or(&[][..], Vec::as_slice);
            let row = |of: &_| rows.get(of)?.clone().filter(|row| L::holds(&key, row));
            let held: Vec<_> = keys.iter().filter_map(row).collect();
            let astray = held.len() < keys.len();
            (key, Led { astray, to: held })
        };
        checked::<L, _>("`List::holds`", || lists.into_iter().map(lead).collect())
    }
}

/// Runs what is the user's, and may panic.
fn checked<S: Source, T>(what: &str, work: impl FnOnce() -> T) -> Result<T, Error> {
    guard(work).map_err(|why| Error::panicked(S::name(), what, &why))
}

/// Where an entry led.
struct Led<T> {
    /// To a row that is gone, or is another by now.
    astray: bool,
    to: T,
}

/// Puts what was asked again in the place of what had led astray.
fn replace<K, T>(found: &mut [(K, Led<T>)], again: Vec<(K, Led<T>)>) {
    let mut again = again.into_iter();
    for (_, led) in found.iter_mut().filter(|(_, led)| led.astray) {
        let (_, anew) = again.next().expect("an answer to each key that was asked again");
        *led = anew;
    }
}

fn answers<K: Key, T>(found: Vec<(K, Led<T>)>) -> Answers<K, T> {
    Answers::new(found.into_iter().map(|(key, led)| (key, led.to)).collect())
}
