//! The trait a user implements: where the values come from.

use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::error::BoxError;
use crate::event::Event;
use crate::key::Key;
use crate::policy::{EntryPolicy, Policy};
use crate::request::RequestCache;

mod closure;
mod load_in;

pub use self::load_in::LoadIn;

/// A place that values are loaded from, by key, many at a time.
///
/// Implement it for one kind of object and one kind of key: `AccountById`, `PostsByAuthor`. Only the names,
/// the types and [`load_many`](Source::load_many) are required. [`source!`](crate::source!) makes one of a closure.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::collections::BTreeMap;
/// use mastaba::{Cache, LoadContext, Region, Rows, Source};
///
/// struct NameById(BTreeMap<u32, String>);
///
/// impl Source for NameById {
///     type Key = u32;
///     type Value = String;
///     type Error = std::convert::Infallible;
///     const NAME: &'static str = "name.by_id";
///     const REGION: &'static str = "objects";
///
///     async fn load_many(&self, _: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
///         Ok(ids.iter().filter_map(|id| Some((*id, self.0.get(id)?.clone()))).collect())
///     }
/// }
///
/// let names = NameById(BTreeMap::from([(1, "Ada".to_owned())]));
/// let cache = Cache::builder().region("objects", Region::memory()).source(names).build().await?;
/// let request = cache.request();
/// assert_eq!(request.get::<NameById>(1).await?.as_deref(), Some(&"Ada".to_owned()));
/// assert_eq!(request.get::<NameById>(2).await?, None);
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
pub trait Source: Send + Sync + Sized + 'static {
    /// What a value is asked for by: `i64`, `String`, `(TenantId, i64)`, ...
    type Key: Key;
    /// What is kept. It needs neither `Clone` nor `Debug`.
    ///
    /// How it is stored, which values come back as they are, and what happens to those that do not:
    /// the chapter on values of the book.
    type Value: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Why looking may fail.
    type Error: Into<BoxError> + Send;

    /// Its name: part of every key, of reports and of errors. Letters, digits, `_`, `.` and `-`.
    ///
    /// Give it, or [`name`](Source::name) where it is no constant; a source with neither is refused when the cache is
    /// built.
    const NAME: &'static str = "";

    /// The region that its entries live in. Give it, or [`region`](Source::region).
    const REGION: &'static str = "";

    /// Tags that all of its entries carry. They are checked on every hit, in the same trip as the values. With other tags its
    /// entries have another shape: while two versions of a program run side by side, they take a key over from each other
    /// about once a minute.
    const TAGS: &'static [&'static str] = &[];

    /// The version of what its values mean, part of the schema number in each of its entries: raise it, and every entry
    /// of another version counts as a miss.
    ///
    /// A change to the fields of a type does so by itself where the type can be traced. Where it cannot, or where the
    /// fields stay and their meaning changes, this is how to say so.
    const VERSION: u32 = 0;

    /// Whether events, errors and the log may show keys of it. `false` where a key is nobody's business, an address of
    /// e-mail for example: then they count keys and show none.
    const SHOW_KEYS: bool = true;

    /// Whether its rows depend on more than the key: on the user or the tenant of the request, whom the loader takes from
    /// the [stash](RequestCache::stash). Two requests that ask for one key may then get different rows, so nothing is
    /// shared between them.
    ///
    /// What such a source loads is for the request that loads it: neither near nor the shared tier is read or written, and
    /// no load is shared with another request, so that a key costs one load per request. Within a request all is as
    /// ever: gets that are awaited together are one call of the loader, a key is loaded once, and clones share it. A
    /// [forced](crate::Force) read loads anew, whatever the force. An invalidation costs no trip, and is seen by the request
    /// that makes it; others keep what they have read. What another source makes of its rows in
    /// [`load_many`](Source::load_many) or [`before_store`](Source::before_store) is stored nowhere and shared with
    /// nobody either. Put the tenant into the stash before the first read: what was read before stays.
    ///
    /// Where the tenant can be a part of the key, let it be one: such rows can be stored. In debug builds, a loader that
    /// uses the stash, or reads a private source, is warned about if its source does not say that it is private
    /// ([`Event::NotPrivate`](crate::Event::NotPrivate)).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba::{Cache, LoadContext, Region, Rows, Source};
    ///
    /// struct Tenant(&'static str);
    /// struct SettingOfTenant;
    ///
    /// impl Source for SettingOfTenant {
    ///     type Key = String;
    ///     type Value = String;
    ///     type Error = &'static str;
    ///     const NAME: &'static str = "setting.of_tenant";
    ///     const REGION: &'static str = "objects";
    ///     const PRIVATE: bool = true;
    ///
    ///     async fn load_many(&self, cx: &LoadContext<'_>, names: &[String]) -> Result<Rows<Self>, Self::Error> {
    ///         let tenant = cx.request().stash().get::<Tenant>().ok_or("nobody has logged in")?;
    ///         Ok(names.iter().map(|name| (name.clone(), format!("{name} of {}", tenant.0))).collect())
    ///     }
    /// }
    ///
    /// let cache = Cache::builder().region("objects", Region::memory()).source(SettingOfTenant).build().await?;
    /// for tenant in ["red", "blue"] {
    ///     let request = cache.request();
    ///     request.stash().insert(Tenant(tenant));
    ///     let logo = request.get::<SettingOfTenant>("logo".to_owned()).await?.unwrap();
    ///     assert_eq!(*logo, format!("logo of {tenant}"));
    ///     assert_eq!((request.report().shared_trips(), request.report().statements()), (0, 1));
    /// }
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    const PRIVATE: bool = false;

    /// The [name](Source::NAME) of a source whose type is generic, made from what its parameters say: of the table of an
    /// entity, for example. Called often, and the same each time: keep it in a static.
    #[must_use]
    fn name() -> &'static str {
        Self::NAME
    }

    /// The [region](Source::REGION), where it is chosen when the source is made. Asked once, when the cache is built.
    fn region(&self) -> &str {
        Self::REGION
    }

    /// Looks whether what it loads from is there and fits: its table, the columns, their types. Awaited once, when the
    /// cache is built, within [`Policy::source_budget`]; each sentence that it gives is a problem, in one error with
    /// those of all other sources, and the cache is not built ([`Sources::unchecked`](crate::Sources::unchecked) leaves
    /// this out).
    fn check(&self) -> impl Future<Output = Vec<String>> + Send {
        ready(Vec::new())
    }

    /// Loads every key that exists.
    ///
    /// `keys` are distinct, never empty, and at most [`Policy::max_batch`]. A key with no row is left out of
    /// the answer and becomes absent; only a failure to look is an error. A failure that concerns some of the
    /// keys alone is said by [`Rows::fail`], and the others get their values. Rows are given back under the very
    /// keys that were asked for: a row under another key is dropped with a warning, two rows under one key
    /// fail that key.
    ///
    /// It runs in a task of its own and goes on when the caller has gone, within [`Policy::source_budget`].
    /// An error reaches everybody who waits for these keys and is not remembered. So does a panic.
    ///
    /// It must read what is committed now: a load inside a transaction that was opened earlier may return
    /// old rows, and has to say so by [`LoadContext::do_not_store`] (`R4`).
    fn load_many(
        &self,
        cx: &LoadContext<'_>,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<Rows<Self>, Self::Error>> + Send;

    /// Once per load, before anything is stored or returned: enriches the rows.
    ///
    /// It may load through [`LoadContext::request`]. An error fails the load; [`Rows::fail`] fails one key of it.
    fn before_store(
        &self,
        cx: &LoadContext<'_>,
        rows: &mut Rows<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = (cx, rows);
        ready(Ok(()))
    }

    /// On everything that enters a request, hit or load, as one batch; what it changes is seen by this
    /// request alone.
    ///
    /// It may load through [`LoadContext::request`]. An error fails the keys of the batch. It is called
    /// once at start-up with no rows, to see whether it is there at all (not where panics abort): a source without it
    /// shares its values between requests instead of decoding them for each.
    fn after_fetch(
        &self,
        cx: &LoadContext<'_>,
        rows: &mut Fetched<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = cx;
        rows.hooked = false;
        ready(Ok(()))
    }

    /// Tags of one entry that depend on its value. They are checked on every hit; that costs one trip more
    /// for the whole batch, unless near answers.
    fn tags(&self, key: &Self::Key, value: &Self::Value) -> Vec<String> {
        let _ = (key, value);
        Vec::new()
    }

    /// Its own policy, made from what its region says for its sources
    /// ([`RegionPolicy::sources`](crate::RegionPolicy::sources)). Asked once, when the cache is built; what cannot be used
    /// is refused there.
    ///
    /// What the sources of a region share, such as the budgets for the shared tier or the write mode, is not in it: it is
    /// set on the [`Region`](crate::Region).
    fn policy(&self, region: &Policy) -> Policy {
        region.clone()
    }
}

/// The rows of one load: keys with their values, in any order.
///
/// Collect it from pairs, or [insert](Rows::insert) one by one.
pub struct Rows<S: Source> {
    pub(crate) rows: Vec<Row<S>>,
    /// Absences that have a policy of their own.
    pub(crate) absent: Vec<(S::Key, EntryPolicy)>,
    /// Keys that could not be looked up.
    pub(crate) failed: Vec<(S::Key, BoxError)>,
}

pub(crate) struct Row<S: Source> {
    pub(crate) key: S::Key,
    pub(crate) value: S::Value,
    pub(crate) policy: EntryPolicy,
}

impl<S: Source> Rows<S> {
    /// No rows: nothing that was asked for exists.
    #[must_use]
    pub fn new() -> Self {
        Self { rows: Vec::new(), absent: Vec::new(), failed: Vec::new() }
    }

    /// Adds a row.
    pub fn insert(&mut self, key: S::Key, value: S::Value) {
        self.insert_with(key, value, EntryPolicy::default());
    }

    /// Adds a row that has a policy of its own.
    pub fn insert_with(&mut self, key: S::Key, value: S::Value, policy: EntryPolicy) {
        self.rows.push(Row { key, value, policy });
    }

    /// Says that a key has no row, with a policy of its own. Keys that are simply left out are absent too.
    pub fn absent_with(&mut self, key: S::Key, policy: EntryPolicy) {
        self.absent.push((key, policy));
    }

    /// Says that one key could not be looked up: that key alone fails, and the others of the load are answered and
    /// stored.
    ///
    /// Everybody who waits for the key gets an error with this cause ([`Error::is_source`](crate::Error::is_source)),
    /// or the old value where [`Policy::stale_if_error`] allows it. The failure is not remembered by any tier, and an
    /// [`Event::KeysFailed`](crate::Event::KeysFailed) says how many keys of a load failed so. It counts before a row
    /// or an absence of the same key, whichever of them came first; said twice of one key, the first cause stays. For
    /// a key that was not asked for it does nothing, and is an
    /// [`Event::ForeignRow`](crate::Event::ForeignRow).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba::{Cache, LoadContext, Region, Rows, Source};
    ///
    /// struct HalfOf;
    ///
    /// impl Source for HalfOf {
    ///     type Key = u32;
    ///     type Value = u32;
    ///     type Error = std::convert::Infallible;
    ///     const NAME: &'static str = "half_of";
    ///     const REGION: &'static str = "numbers";
    ///
    ///     async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, Self::Error> {
    ///         let mut rows = Rows::new();
    ///         for key in keys {
    ///             match key % 2 {
    ///                 0 => rows.insert(*key, key / 2),
    ///                 _ => rows.fail(*key, "it is odd"),
    ///             }
    ///         }
    ///         Ok(rows)
    ///     }
    /// }
    ///
    /// let cache = Cache::builder().region("numbers", Region::memory()).source(HalfOf).build().await?;
    /// let halves = cache.request().get_outcomes::<HalfOf>([6, 7]).await;
    /// assert_eq!(halves[&6].value()?.map(|half| **half), Some(3));
    /// assert!(halves[&7].error().unwrap().is_source());
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub fn fail(&mut self, key: S::Key, error: impl Into<BoxError>) {
        self.failed.push((key, error.into()));
    }

    /// Keys and values. A key that [failed](Rows::fail) is here as long as it has a row.
    pub fn iter(&self) -> impl Iterator<Item = (&S::Key, &S::Value)> {
        self.rows.iter().map(|row| (&row.key, &row.value))
    }

    /// Keys and values, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&S::Key, &mut S::Value)> {
        self.rows.iter_mut().map(|row| (&row.key, &mut row.value))
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl<S: Source> Default for Rows<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Source> FromIterator<(S::Key, S::Value)> for Rows<S> {
    fn from_iter<I: IntoIterator<Item = (S::Key, S::Value)>>(pairs: I) -> Self {
        let mut rows = Self::new();
        rows.extend(pairs);
        rows
    }
}

impl<S: Source> Extend<(S::Key, S::Value)> for Rows<S> {
    fn extend<I: IntoIterator<Item = (S::Key, S::Value)>>(&mut self, pairs: I) {
        self.rows.extend(pairs.into_iter().map(|(key, value)| Row {
            key,
            value,
            policy: EntryPolicy::default(),
        }));
    }
}

/// The values that enter a request together, for [`Source::after_fetch`].
pub struct Fetched<S: Source> {
    pub(crate) rows: Vec<(S::Key, Arc<S::Value>)>,
    pub(crate) hooked: bool,
}

impl<S: Source> Fetched<S> {
    pub(crate) fn new(rows: Vec<(S::Key, Arc<S::Value>)>) -> Self {
        Self { rows, hooked: true }
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&S::Key, &S::Value)> {
        self.rows.iter().map(|(key, value)| (key, &**value))
    }

    /// Keys and values, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&S::Key, &mut S::Value)> {
        // nobody else has seen these values yet: a source with this hook shares none
        self.rows.iter_mut().filter_map(|(key, value)| Some((&*key, Arc::get_mut(value)?)))
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What a loader or a hook may know and use while it works.
pub struct LoadContext<'a> {
    request: &'a RequestCache,
    writer: bool,
    pub(crate) stores: bool,
    deadline: Instant,
    pub(crate) facts: LoadFacts,
}

/// What a loader said about its work.
#[derive(Default)]
pub(crate) struct LoadFacts {
    statements: AtomicU32,
    unstored: std::sync::atomic::AtomicBool,
}

impl LoadFacts {
    pub(crate) fn statements(&self) -> u32 {
        self.statements.load(Ordering::Relaxed)
    }

    pub(crate) fn unstored(&self) -> bool {
        self.unstored.load(Ordering::Relaxed)
    }
}

impl<'a> LoadContext<'a> {
    pub(crate) fn new(request: &'a RequestCache, writer: bool, deadline: Instant, stores: bool) -> Self {
        Self { request, writer, stores, deadline, facts: LoadFacts::default() }
    }

    /// The cache of the request that loads, to load other things through it.
    ///
    /// What is read through it stands in the report of the request. If it gives something older than this
    /// load (the request had it already, or it was served stale), the rows of this load reach the request
    /// but are not stored (`R6`).
    ///
    /// A read that waits for this very load would never end: it is an error of usage
    /// ([`Error::is_usage`](crate::Error::is_usage)) at once, also over several loads. So it is through any other
    /// request of the same cache, as long as it is read in the task of this load; in a task that the loader spawns,
    /// through a clone of this one.
    #[must_use]
    pub fn request(&self) -> &RequestCache {
        self.request
    }

    /// Whether the rows must come from the writing database: this request has written.
    #[must_use]
    pub fn needs_writer(&self) -> bool {
        self.writer
    }

    /// When the hard budget of this load ends.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Says that this load made so many statements more than the one that every call counts as: for the report, the
    /// budgets and the metrics. Calls add up, and count also where the load fails.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # use mastaba::{Cache, LoadContext, Region, Rows, Source};
    /// # struct Order;
    /// impl Source for Order {
    ///     # type Key = u64; type Value = u64; type Error = std::convert::Infallible;
    ///     # const NAME: &'static str = "order"; const REGION: &'static str = "objects";
    ///     async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Self::Error> {
    ///         // select .. from orders; select .. from order_line
    ///         cx.count_statements(1);
    ///         Ok(ids.iter().map(|id| (*id, *id)).collect())
    ///     }
    /// }
    ///
    /// let cache = Cache::builder().region("objects", Region::memory()).source(Order).build().await?;
    /// let request = cache.request();
    /// request.get::<Order>(1).await?;
    /// assert_eq!(request.report().statements(), 2);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub fn count_statements(&self, more: u32) {
        self.facts.statements.fetch_add(more, Ordering::Relaxed);
    }

    /// Says an event about the source that is loaded.
    pub(crate) fn tell(&self, event: impl FnOnce(&'static str) -> Event) {
        if let Some(nesting) = &self.request.nesting {
            self.request.inner.cache.events.tell(event(nesting.load.source));
        }
    }

    /// The rows of this load may be old (read in a transaction that was opened before, or from a replica
    /// that lags): they reach the request and are not stored (`R4`).
    pub fn do_not_store(&self) {
        self.facts.unstored.store(true, Ordering::Relaxed);
    }
}
