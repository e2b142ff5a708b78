//! The cache of a program: built once at start-up, it owns the regions and the sources.

mod assembly;
mod builder;
mod inner;
mod region;
mod sources;

use std::fmt;
use std::sync::Arc;

pub use self::builder::CacheBuilder;
pub(crate) use self::inner::CacheCore;
pub use self::region::{Arguments, Backend, NearConfig, Region};
pub use self::sources::Sources;
use crate::codec::Encoding;
use crate::config::Settings;
use crate::error::Error;
use crate::event::Event;
use crate::region::RegionCore;
use crate::request::{RequestCache, Stash};
use crate::source::Source;
use crate::write::{Outgoing, Published};

/// The cache of a program: its regions, its sources, and the way to a [`RequestCache`] per request.
///
/// Cheap to clone; clones share everything.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::{Cache, Region};
///
/// let cache = Cache::builder().region("objects", Region::memory()).build().await?;
/// assert_eq!(cache.regions().collect::<Vec<_>>(), ["objects"]);
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Cache {
    core: Arc<CacheCore>,
}

impl Cache {
    /// A builder with nothing in it.
    #[must_use]
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }

    /// A builder from a plain string map, which it leaves as it is: `cache.<region>.backend`,
    /// `cache.<region>.ttl`, `cache.<region>.arguments.*`, `data_dir`. See [`Settings`].
    ///
    /// What is wrong with the settings is in the error of [`CacheBuilder::build`], together with everything else.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::collections::HashMap;
    /// use mastaba::Cache;
    ///
    /// let settings = HashMap::from([("cache.objects.backend", "memory"), ("cache.objects.ttl", "1h")]);
    /// let cache = Cache::from_settings(&settings).build().await?;
    /// assert_eq!(cache.regions().collect::<Vec<_>>(), ["objects"]);
    ///
    /// let wrong = HashMap::from([("cache.objects.backend", "memroy")]);
    /// let error = Cache::from_settings(&wrong).build().await.unwrap_err();
    /// assert!(error.to_string().contains("memory"), "{error}");
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn from_settings<'a, K, V>(settings: impl IntoIterator<Item = (&'a K, &'a V)>) -> CacheBuilder
    where
        K: AsRef<str> + ?Sized + 'a,
        V: AsRef<str> + ?Sized + 'a,
    {
        Self::builder().settings(Settings::from_map(settings))
    }

    /// A builder from TOML. What is wrong with it is in the error of [`CacheBuilder::build`].
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba::Cache;
    ///
    /// let cache = Cache::from_toml("[cache.objects]\nbackend = \"memory\"\nttl = \"1h\"").build().await?;
    /// assert_eq!(cache.regions().collect::<Vec<_>>(), ["objects"]);
    ///
    /// let error = Cache::from_toml("[cache.objects]\ntll = 5").build().await.unwrap_err();
    /// assert!(error.to_string().contains("ttl"), "{error}");
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    #[cfg(feature = "toml")]
    #[must_use]
    pub fn from_toml(text: &str) -> CacheBuilder {
        Self::builder().settings(Settings::from_toml(text))
    }

    /// A builder from environment variables: `{prefix}DATA_DIR`, `{prefix}CACHE__OBJECTS__TTL`.
    #[must_use]
    pub fn from_env(prefix: &str) -> CacheBuilder {
        Self::builder().settings(Settings::from_env(prefix))
    }

    /// The cache of one request. Costs one allocation; makes no trip.
    #[must_use]
    pub fn request(&self) -> RequestCache {
        RequestCache::new(self.core.clone())
    }

    pub(crate) fn request_named(&self, name: String) -> RequestCache {
        RequestCache::named(self.core.clone(), name)
    }

    pub(crate) fn of(core: Arc<CacheCore>) -> Self {
        Self { core }
    }

    /// The names of the regions.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        self.core.regions.keys().map(String::as_str)
    }

    /// How the values of a source are written to the shared tier: with names or without, why, and under which schema
    /// number. Makes no trip.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba::{Cache, LoadContext, Region, Rows, Source};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// #[serde(untagged)]
    /// enum Setting { Number(i64), Text(String) }
    ///
    /// struct SettingByName;
    ///
    /// impl Source for SettingByName {
    ///     # type Key = String; type Value = Setting; type Error = std::convert::Infallible;
    ///     # const NAME: &'static str = "setting"; const REGION: &'static str = "objects";
    ///     // ..
    ///     # async fn load_many(&self, _: &LoadContext<'_>, _: &[String]) -> Result<Rows<Self>, Self::Error> {
    ///     #     Ok(Rows::new())
    ///     # }
    /// }
    ///
    /// let cache = Cache::builder().region("objects", Region::memory()).source(SettingByName).build().await?;
    /// let encoding = cache.encoding_of::<SettingByName>()?;
    /// assert_eq!(encoding.why_named.as_deref(), Some("it asks for anything"));
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// If the source is not registered ([`Error::is_usage`]).
    pub fn encoding_of<S: Source>(&self) -> Result<Encoding, Error> {
        Ok(self.core.source::<S>()?.codec.encoding())
    }

    /// The key under which the shared tier keeps an entry, as one would type it into `redis-cli`. Makes no trip.
    ///
    /// For logs, and for people who look at the store: what the key is made of, and what else stands there, is in
    /// the book: `docs/book/src/reference/keys.md` in the repository. What stands under it may be a value, an absence, a lease or a hold
    /// ([`entry`](crate::entry)).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let cache = World::new().await.cache;
    /// assert_eq!(cache.key_of::<UserById>(&7)?, "mastaba:objects:user:7");
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Of usage, if the source is not registered, or nothing of it is stored: it is [private](Source::PRIVATE), or its region
    /// keeps nothing. If the key cannot be written.
    pub fn key_of<S: Source>(&self, key: &S::Key) -> Result<String, Error> {
        let source = self.core.source::<S>()?;
        let name = S::name();
        if !source.is_stored() {
            let why = if S::PRIVATE { "it is private" } else { "its region keeps nothing" };
            return Err(Error::usage(format!(
                "source {name}: no key of it stands in the shared tier, for {why}"
            )));
        }
        let record = source.keys.encode_all(std::iter::once(key))?.remove(0);
        let full = source.region.full_key(&record);
        let full =
            full.map_err(|fault| Error::usage(format!("source {name}: its key is not known: {fault}")))?;
        Ok(String::from_utf8_lossy(&full).into_owned())
    }

    /// One region, to void what it holds.
    ///
    /// # Panics
    /// If there is no region of this name; the message lists those that there are.
    #[must_use]
    #[track_caller]
    pub fn region(&self, name: &str) -> RegionHandle {
        match self.core.regions.get(name) {
            Some(region) => RegionHandle { cache: self.core.clone(), region: region.clone() },
            None => panic!(
                "there is no region {name:?}; configured: {}",
                self.regions().collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// Voids what a write has left behind as plain data, in this process or another one: in the shared tier, and in near
    /// and the flights of this process.
    ///
    /// For a relay that reads an outbox in the database; `mastaba-sqlx` has one. The pieces have to be in the order in
    /// which [`Write::outgoing`](crate::Write::outgoing) gave them (`R7`); to void them again is harmless. As with a write,
    /// one trip per run of pieces of one kind in one region; what the shared tier does not confirm is kept in this process
    /// and sent again, and it goes on when its future is dropped. Only where [`Published::error`] is `None` may
    /// they be forgotten elsewhere.
    ///
    /// # Errors
    /// Of usage, before anything is voided, if a piece is of a region that is not here or keeps nothing here; or if there
    /// is no runtime.
    pub async fn void(&self, pieces: &[Outgoing]) -> Result<Published, Error> {
        crate::write::void(&self.core, pieces).await
    }

    /// Checks that a piece could be [voided](Cache::void) here. Costs no trip.
    ///
    /// # Errors
    /// Of usage, if it is of a region that is not here, or keeps nothing here.
    pub fn check(&self, piece: &Outgoing) -> Result<(), Error> {
        crate::write::region_of(&self.core, piece).map(drop)
    }

    /// Ends when [`close`](Cache::close) is called.
    #[doc(hidden)]
    pub fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        self.core.closing.clone().cancelled_owned()
    }

    /// Emits an event, for the crates beside this one.
    #[doc(hidden)]
    pub fn tell(&self, event: Event) {
        self.core.events.tell(event);
    }

    /// A place for what crates beside this one keep of it.
    #[doc(hidden)]
    pub fn stash(&self) -> &Stash {
        &self.core.stash
    }

    /// Waits until nothing goes on in the background: fills, refreshes, loads whose readers have gone.
    ///
    /// For tests, and before a process ends. What goes on on other runtimes is waited for as well, unless nobody drives
    /// them any longer: it would never end.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// world.request().get::<UserById>(1).await?;
    /// world.cache.idle().await;
    /// assert_eq!(world.trips().last().unwrap(), "shared fill [1]");
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub async fn idle(&self) {
        self.core.runtimes.idle().await;
    }

    /// Waits until nothing goes on in the background, and until the shared tier has confirmed every invalidation, within
    /// its budget; and then lets every backend write down what it has.
    ///
    /// It may be called on any runtime, and more than once.
    ///
    /// # Errors
    /// The first fault of a backend, or that invalidations are left which were not confirmed: other processes may see what
    /// was there before up to its time to live. Every backend is closed in any case.
    pub async fn close(&self) -> Result<(), Error> {
        self.core.closing.cancel();
        self.idle().await;
        let mut done = Ok(());
        for region in self.core.regions() {
            let sent = region.all_confirmed(region.policy.shared_budget).await;
            for (what, ended) in [("closing", region.close().await), ("sending", sent)] {
                if let Err(fault) = ended {
                    let sentence = format!("region {}: {what} failed: {fault}", region.name);
                    done = done.and(Err(Error::shared(sentence, fault)));
                }
            }
        }
        done
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("regions", &self.core.regions.keys())
            .field("sources", &self.core.names)
            .finish_non_exhaustive()
    }
}

/// One region of a [`Cache`]. See [`Cache::region`].
#[derive(Clone)]
pub struct RegionHandle {
    cache: Arc<CacheCore>,
    region: Arc<RegionCore>,
}

impl RegionHandle {
    /// Voids everything that the region holds, in every tier but the requests under way.
    ///
    /// One trip, however much there is: a new generation. Once it has returned and is confirmed, no read that starts sees
    /// anything stored before. It goes on when its future is dropped. What the shared tier does not confirm is kept and
    /// sent again: see [`Published`].
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// world.request().get::<UserById>(1).await?;
    /// world.db.update(1);
    /// world.cache.region("objects").clear().await?;
    /// assert_eq!(world.request().get::<UserById>(1).await?.unwrap().version, 1);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// If there is no runtime.
    pub async fn clear(&self) -> Result<Published, Error> {
        let write = RequestCache::new(self.cache.clone()).write();
        write.clear(&self.region.name)?;
        write.published().await
    }

    /// Voids everything that the region holds under a tag. One trip.
    ///
    /// # Errors
    /// As [`clear`](RegionHandle::clear).
    pub async fn invalidate_tag(&self, tag: impl Into<String>) -> Result<Published, Error> {
        let write = RequestCache::new(self.cache.clone()).write();
        write.tag_in(&self.region, tag.into());
        write.published().await
    }
}

impl fmt::Debug for RegionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionHandle").field("name", &self.region.name).finish_non_exhaustive()
    }
}

impl RequestCache {
    /// The cache that it is a request of.
    #[must_use]
    pub fn cache(&self) -> Cache {
        Cache::of(self.inner.cache.clone())
    }
}
