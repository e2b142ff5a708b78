//! What a request has written: invalidation, and publishing it after commit.
//!
//! A [`Write`] collects what is going to change, and voids it in every tier once the transaction has committed. Within
//! the shared tier it voids in the order of collecting, so that inner objects go before those derived from them (`R7`).
//! Near and the flights of this process come after the shared tier: what is read from it before has no way back into
//! them (`R13`, `R5`). In the modes that hold keys over the commit, the holds are placed before it and ended after it.

mod hold;
mod keyed;
mod outcome;
mod outgoing;
mod publish;
mod put;
mod savepoint;
mod step;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tracing::Instrument;

use self::hold::Renewal;
pub use self::keyed::{Keyed, Keys};
pub use self::outcome::{CommitError, Committed, Lost, Published};
use self::outgoing::Afterwards;
pub use self::outgoing::{Outgoing, Settled};
pub(crate) use self::outgoing::{region_of, void};
use self::publish::Plan;
pub use self::savepoint::Savepoint;
use self::step::{Local, Step};

use crate::entry::random;
use crate::error::{Error, Fault, OF_A_KEY};
use crate::event::Event;
use crate::guarded::{Panicked, Sheltered, guard};
use crate::region::{Extent, RegionCore, SAMPLE, What};
use crate::registry::Registered;
use crate::request::{RequestCache, Slot, collect};
use crate::source::Source;
use crate::sync::lock;

/// A write of this request, from before its transaction commits until it is published.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # use mastaba::{Cache, LoadContext, Region, Rows, Source};
/// # struct Counter;
/// # static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
/// # impl Source for Counter {
/// #     type Key = u8; type Value = u32; type Error = std::convert::Infallible;
/// #     const NAME: &'static str = "counter"; const REGION: &'static str = "objects";
/// #     async fn load_many(&self, _: &LoadContext<'_>, keys: &[u8]) -> Result<Rows<Self>, Self::Error> {
/// #         let count = COUNT.load(std::sync::atomic::Ordering::SeqCst);
/// #         Ok(keys.iter().map(|key| (*key, count)).collect())
/// #     }
/// # }
/// # let cache = Cache::builder().region("objects", Region::memory()).source(Counter).build().await?;
/// # let request = cache.request();
/// # let update = || { COUNT.store(2, std::sync::atomic::Ordering::SeqCst); };
/// assert_eq!(*request.get::<Counter>(1).await?.unwrap(), 1);
///
/// let write = request.write();
/// write.invalidate::<Counter>([1]).await?; // remembered
/// let commit = async move {                // `transaction.commit()`, for example
///     update();
///     Ok::<_, std::io::Error>(())
/// };
/// let committed = write.commit(commit).await.unwrap(); // committed, and voided for every request that starts now
/// assert!(committed.published.is_confirmed());
///
/// assert_eq!(*request.get::<Counter>(1).await?.unwrap(), 2);
/// assert_eq!(*cache.request().get::<Counter>(1).await?.unwrap(), 2);
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
///
/// From the moment a key is given to it, the request reads that key from the source, asking for the writer,
/// and neither joins other loads of it nor stores what it finds: it reads its own writes.
///
/// A write ends in one of three ways: [`commit`](Write::commit) carries the commit and everything after it to its end;
/// [`published`](Write::published) does so after a commit that the program has made itself; [`discard`](Write::discard)
/// says that it was rolled back. Dropped instead, it voids nothing and says so in an [`Event::WriteDropped`]: nobody
/// knows then whether it is committed.
#[must_use = "a write that is dropped before it is published invalidates nothing"]
pub struct Write {
    request: RequestCache,
    steps: Mutex<Vec<Step>>,
    /// How many of the steps concern keys that are not known.
    wide: std::sync::atomic::AtomicUsize,
    /// Who holds (`R9`).
    holder: u64,
    afterwards: Mutex<Vec<Afterwards>>,
    /// Of what is held while the write is open.
    renewal: Mutex<Option<Renewal>>,
    ended: bool,
}

impl RequestCache {
    /// Begins a write. See [`Write`].
    pub fn write(&self) -> Write {
        lock(&self.inner.state).open_writes += 1;
        Write {
            request: self.clone(),
            steps: Mutex::new(Vec::new()),
            wide: std::sync::atomic::AtomicUsize::new(0),
            holder: random(),
            afterwards: Mutex::default(),
            renewal: Mutex::new(None),
            ended: false,
        }
    }

    /// Voids keys in every tier, at once: what they stand for has changed, and that is committed.
    ///
    /// One trip per region. When it has returned, no read that starts later sees the old values; this
    /// request reads these keys from the source from now on. Goes on when its future is dropped.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// request.get::<UserById>(1).await?;
    /// world.db.update(1); // and commit
    /// request.invalidate::<UserById>([1]).await?;
    /// assert_eq!(world.request().get::<UserById>(1).await?.unwrap().version, 1);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// What the shared tier does not confirm is kept and sent again: see [`Published`].
    ///
    /// # Errors
    /// If the source is not registered, or there is no runtime.
    pub async fn invalidate<S: Source>(
        &self,
        keys: impl IntoIterator<Item = S::Key>,
    ) -> Result<Published, Error> {
        let write = self.write();
        write.invalidate::<S>(keys).await?;
        write.published().await
    }

    /// Gives this request the value of a key that it has just written and committed, and voids the key in
    /// the other tiers.
    ///
    /// The other tiers do not get the value: another writer may have committed after it, and nothing here
    /// could know. The next reader elsewhere loads what is current.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// let mut user = (*request.get::<UserById>(1).await?.unwrap()).clone();
    /// user.version = world.db.update(1);
    /// request.put::<UserById>(1, user).await?;
    /// assert_eq!(request.get::<UserById>(1).await?.unwrap().version, 1);
    /// assert_eq!(world.loads().len(), 1, "the request was given the new one");
    /// assert_eq!(world.request().get::<UserById>(1).await?.unwrap().version, 1);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`invalidate`](RequestCache::invalidate).
    pub async fn put<S: Source>(
        &self,
        key: S::Key,
        value: impl Into<Arc<S::Value>>,
    ) -> Result<Published, Error> {
        self.put_many::<S>([(key, value.into())]).await
    }

    /// [`put`](RequestCache::put) for many keys, in one trip.
    ///
    /// # Errors
    /// As [`invalidate`](RequestCache::invalidate).
    pub async fn put_many<S: Source>(
        &self,
        values: impl IntoIterator<Item = (S::Key, Arc<S::Value>)>,
    ) -> Result<Published, Error> {
        let values = collect::<S, _, _>(values, |pair| pair)?;
        let done = self.invalidate::<S>(values.iter().map(|(key, _)| key.clone())).await;
        if done.as_ref().is_err_and(Error::is_panic) {
            return done; // nothing was voided: the values are not known to be the newest
        }
        // what is not given is read from the source
        put::give::<S>(self, values).and(done)
    }
}

impl Write {
    /// Collects keys. From now on this request reads them from the source.
    ///
    /// Costs no trip. Collect inner objects before those derived from them.
    ///
    /// # Errors
    /// If the source is not registered, or a key cannot be written as text, or a key or the iterator panics
    /// ([`Error::is_panic`]); nothing is collected then.
    pub async fn invalidate<S: Source>(&self, keys: impl IntoIterator<Item = S::Key>) -> Result<(), Error> {
        self.collect::<S>(collect::<S, _, _>(keys, |key| key)?)
    }

    fn collect<S: Source>(&self, keys: Vec<S::Key>) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let source = self.request.inner.cache.source::<S>()?;
        let stored = source.is_stored();
        let mut records = if stored { source.keys.encode_all(keys.iter())? } else { Vec::new() };
        // the order stays: inner objects before derived ones, also within one source (R7)
        let mut seen = HashSet::new();
        records.retain(|record| seen.insert(record.clone()));
        self.forget::<S>(&keys)?;
        let collected = Extent {
            count: if stored { records.len() } else { keys.len() },
            sources: vec![S::name()],
            sample: source.sample(keys.iter().take(SAMPLE)),
        };
        let region = source.region.clone();
        let request = self.request.clone();
        let keys = Arc::new(Sheltered::new(keys));
        let of_tiers = keys.clone();
        let local = Local {
            void: Box::new(move || void_keys(&source, &of_tiers)),
            forget: Box::new(move || forget::<S>(&request, &keys)),
            put: None,
        };
        self.push(Step {
            region,
            what: What::Keys(records),
            collected,
            local: vec![local],
            held: false,
            tried: false,
        });
        Ok(())
    }

    /// Collects a tag, of every region.
    ///
    /// Until the write is published, this request reads everything from the source: it cannot know which
    /// keys stand under the tag.
    pub fn invalidate_tag(&self, tag: impl Into<String>) {
        let tag = tag.into();
        let cache = self.request.inner.cache.clone();
        for (nth, region) in cache.regions().enumerate() {
            // one tag, in however many regions
            self.wide(region, What::Tags(vec![tag.clone()]), usize::from(nth == 0));
        }
    }

    /// A tag of one region.
    pub(crate) fn tag_in(&self, region: &Arc<RegionCore>, tag: String) {
        self.wide(region, What::Tags(vec![tag]), 1);
    }

    /// Collects a whole region. Until the write is published, this request reads everything from the source.
    ///
    /// # Errors
    /// If there is no such region.
    pub fn clear(&self, region: &str) -> Result<(), Error> {
        let cache = self.request.inner.cache.clone();
        let Some(found) = cache.regions().find(|each| each.name == region) else {
            let known = cache.regions().map(|each| each.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::usage(format!("there is no region {region:?}; configured: {known}")));
        };
        self.wide(found, What::Region, 1);
        Ok(())
    }

    /// Commits, and voids everything that was collected: the whole of a write, in a task of its own that goes on to its
    /// end when this future is dropped.
    ///
    /// `commit` is the commit itself, `transaction.commit()` for example, and nothing that comes before it. What was
    /// collected is voided when it succeeds, *and* when its outcome is not known: it failed (a lost connection may have
    /// lost the answer alone), it panicked, or its runtime ended. An error that says for certain that nothing was
    /// committed is known as such only to whoever knows the database:
    /// [`commit_unless`](Write::commit_unless).
    ///
    /// One trip per run of steps of one kind in one region, after the commit. In the write modes that hold keys
    /// ([`WriteMode`](crate::WriteMode)) one trip per region before it, and the one after it ends the hold. Where the
    /// shared tier does not confirm, [`Committed::published`] says so, and it goes on being sent.
    ///
    /// # Errors
    /// [`CommitError::Unknown`], or [`CommitError::Refused`] where keys could not be held and the region's mode does not
    /// go on without. An invalidation that is not confirmed is no error.
    pub async fn commit<T, E>(
        self,
        commit: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<Committed<T>, CommitError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.commit_unless(commit, |_| false).await
    }

    /// [`commit`](Write::commit), where an error may say that the transaction was rolled back: then nothing is voided.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba::CommitError;
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let write = world.request().write();
    /// write.invalidate::<UserById>([1]).await?;
    /// // a constraint that is checked at the commit
    /// let commit = async { Err::<(), _>("violates foreign key constraint") };
    /// let error = write.commit_unless(commit, |error| error.starts_with("violates")).await.unwrap_err();
    /// assert!(matches!(error, CommitError::RolledBack(_)));
    /// assert!(world.trips().is_empty());
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`commit`](Write::commit), and [`CommitError::RolledBack`].
    pub async fn commit_unless<T, E>(
        mut self,
        commit: impl Future<Output = Result<T, E>> + Send + 'static,
        is_rolled_back: impl FnOnce(&E) -> bool + Send + 'static,
    ) -> Result<Committed<T>, CommitError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let home = self.request.inner.cache.home(INVALIDATION).map_err(CommitError::Refused)?;
        let plan = self.plan();
        let (answer, answered) = oneshot::channel();
        let work = plan.run(commit, is_rolled_back, answer);
        home.spawn(work.in_current_span());
        answered.await.unwrap_or_else(|_| {
            Err(CommitError::Unknown { cause: Lost::Ended, published: Published::default() })
        })
    }

    /// After a commit that the program has made itself: voids everything that was collected, in its order.
    ///
    /// Call it after a commit whose outcome is not known, too. [`commit`](Write::commit) does both, and goes on when its
    /// caller is dropped in between.
    ///
    /// One trip per run of steps of one kind in one region. When it has returned and everything is confirmed, no read
    /// that starts later sees what was there before the commit. Goes on to its end when its future is dropped after its
    /// first poll. What the shared tier does not confirm is kept and sent again: see [`Published`].
    ///
    /// # Errors
    /// If there is no runtime.
    pub async fn published(mut self) -> Result<Published, Error> {
        let home = self.request.inner.cache.home(INVALIDATION)?;
        let mut plan = self.plan();
        plan.begun = true;
        let here = home.clone();
        let work = async move {
            let published = plan.publish(true).await;
            if !lock(&plan.afterwards).is_empty() {
                let confirmed = published.error().is_none();
                let settled = if confirmed { Settled::Confirmed } else { Settled::Unconfirmed };
                // which the caller does not wait for
                drop(here.spawn(plan.settle(settled).in_current_span()));
            }
            published
        };
        let done = home.spawn(work.in_current_span()).await;
        done.map_err(|ended| match ended.is_panic() {
            true => {
                let why = Panicked::new(ended.into_panic());
                Error::panic(format!(
                    "an invalidation panicked; what was left of it is kept, and sent again: {why}"
                ))
            }
            false => {
                Error::usage("the runtime ended during an invalidation; it is kept, and sent by the next one")
            }
        })
    }

    /// The transaction was rolled back, and certainly: nothing is voided, holds are ended, and nothing is said.
    pub fn discard(mut self) {
        let home = self.request.inner.cache.home(INVALIDATION);
        let mut plan = self.plan();
        // at once: what the request reads next is not what was never committed
        plan.forget();
        // without a runtime the holds run out by themselves
        if let Ok(home) = home
            && (plan.steps.iter().any(|step| step.tried) || !lock(&plan.afterwards).is_empty())
        {
            home.spawn(plan.roll_back().in_current_span());
        }
    }

    /// Whether nothing was collected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        lock(&self.steps).is_empty()
    }

    /// Everything that was collected, to be carried to its end.
    fn plan(&mut self) -> Plan {
        self.ended = true;
        // the plan holds by itself
        *lock(&self.renewal) = None;
        let steps: VecDeque<_> = step::merge(std::mem::take(&mut *lock(&self.steps))).into();
        let wide = self.wide.load(Ordering::Relaxed);
        Plan {
            request: self.request.clone(),
            holder: self.holder,
            steps,
            narrow: Some(Narrow { request: self.request.clone(), wide }),
            begun: false,
            afterwards: std::mem::take(&mut self.afterwards),
        }
    }

    fn push(&self, step: Step) {
        lock(&self.steps).push(step);
    }

    fn wide(&self, region: &Arc<RegionCore>, what: What, count: usize) {
        self.request.inner.wrote.store(true, Ordering::Relaxed);
        self.wide.fetch_add(1, Ordering::Relaxed);
        {
            let mut state = lock(&self.request.inner.state);
            state.wide_writes += 1;
            state.forget_all(None, self.request.inner.cache.tick());
        }
        let (request, of) = (self.request.clone(), region.clone());
        let cache = request.inner.cache.clone();
        let local = Local {
            void: Box::new(move || cache.void_all(&of)),
            forget: Box::new(move || forget_all(&request)),
            put: None,
        };
        self.push(Step {
            region: region.clone(),
            what,
            collected: Extent { count, ..Extent::default() },
            local: vec![local],
            held: false,
            tried: false,
        });
    }

    /// Tier 1 forgets the keys, and reads them past the tiers from now on.
    fn forget<S: Source>(&self, keys: &[S::Key]) -> Result<(), Error> {
        self.request.inner.wrote.store(true, Ordering::Relaxed);
        let mut state = lock(&self.request.inner.state);
        let at = self.request.inner.slot::<S>(&mut state)?;
        let slot = Slot::<S>::of(&mut state.slots[at].1);
        // where a key panics, those before it are read from the source for nothing, and the write is an error
        let written = guard(|| slot.written.extend(keys.iter().cloned()));
        slot.forget(keys, self.request.inner.cache.tick());
        state.turn_page();
        written.map_err(|why| Error::panicked(S::name(), OF_A_KEY, &why))
    }
}

/// Takes a write, and the keys of it that are not known, off the request's mind.
struct Narrow {
    request: RequestCache,
    wide: usize,
}

impl Drop for Narrow {
    fn drop(&mut self) {
        let mut state = lock(&self.request.inner.state);
        state.wide_writes -= self.wide;
        state.open_writes -= 1;
    }
}

/// What needs a runtime.
const INVALIDATION: &str = "an invalidation";

fn forget_all(request: &RequestCache) {
    let tick = request.inner.cache.tick();
    lock(&request.inner.state).forget_all(None, tick);
}

/// What the request read of these keys between the write and its commit may be from before it.
fn forget<S: Source>(request: &RequestCache, keys: &[S::Key]) {
    request.inner.forget::<S>(keys);
}

/// A key that panics costs more than itself here: flights and near then forget all, so that nothing old stays.
fn void_keys<S: Source>(source: &Registered<S>, keys: &[S::Key]) {
    let _ = source.flights.void(keys);
    if let Some(near) = &source.near {
        let _ = near.invalidate(keys);
        crate::telemetry::near_voided(S::name(), &source.region.name, keys.len());
    }
}

fn unconfirmed(region: &str, fault: Fault) -> Error {
    Error::shared(
        format!(
            "region {region}: the invalidation is not confirmed yet, and goes on being sent; until then other processes \
             may see old values: {fault}"
        ),
        fault,
    )
}

impl Drop for Write {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // holds are left to run out: nobody knows what became of the transaction (R8)
        let mut plan = self.plan();
        let mut dropped = Extent::default();
        plan.steps.iter().for_each(|step| dropped.add(&step.collected));
        // what the request read inside the transaction may never have been committed
        plan.forget();
        if dropped.count > 0 {
            let Extent { count: collected, sources, sample } = dropped;
            let route = self.request.inner.route().map(str::to_owned);
            self.request.inner.cache.events.tell(Event::WriteDropped { collected, sources, sample, route });
        }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("collected", &lock(&self.steps).len()).finish_non_exhaustive()
    }
}
