//! What a request has written: invalidation, and publishing it after commit.
//!
//! Mode `Simple`: a [`Write`] collects what is going to change, and voids it in every tier once the
//! transaction has committed. Within the shared tier it voids in the order of collecting, so that inner
//! objects go before those derived from them (`R7`). Near and the flights of this process come after the
//! shared tier: what is read from it before has no way back into them (`R13`, `R5`).

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tracing::Instrument;

use crate::error::{Error, Fault};
use crate::event::Event;
use crate::region::RegionCore;
use crate::registry::Registered;
use crate::request::{Cell, Memo, Meter, RequestCache, Slot};
use crate::runtime::Home;
use crate::source::Source;
use crate::sync::lock;

/// One thing that a write is going to void.
struct Step {
    region: Arc<RegionCore>,
    what: What,
    /// How many keys, tags and regions it is.
    collected: usize,
    /// Flights, near and tier 1, after the shared tier.
    local: Vec<Local>,
}

/// What a step does in this process.
struct Local {
    /// In flights and near.
    void: Box<dyn FnOnce() + Send>,
    /// In the request itself; also where the write is rolled back, as it may have read what it wrote.
    forget: Box<dyn FnOnce() + Send>,
}

enum What {
    Keys(Vec<Bytes>),
    Tags(Vec<String>),
    Region,
}

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
/// update();                                // in a transaction, which commits
/// write.published().await?;                // voided, for every request that starts now
///
/// assert_eq!(*request.get::<Counter>(1).await?.unwrap(), 2);
/// assert_eq!(*cache.request().get::<Counter>(1).await?.unwrap(), 2);
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
///
/// From the moment a key is given to it, the request reads that key from the source, asking for the writer,
/// and neither joins other loads of it nor stores what it finds: it reads its own writes.
///
/// Dropped before [`published`](Write::published), it voids nothing, and says so in an
/// [`Event::WriteDropped`]: the transaction was rolled back, or its outcome is not known.
#[must_use = "a write that is dropped before it is published invalidates nothing"]
pub struct Write {
    request: RequestCache,
    steps: Mutex<Vec<Step>>,
    /// How many of the steps concern keys that are not known.
    wide: std::sync::atomic::AtomicUsize,
    published: bool,
}

impl RequestCache {
    /// Begins a write. See [`Write`].
    pub fn write(&self) -> Write {
        Write {
            request: self.clone(),
            steps: Mutex::new(Vec::new()),
            wide: std::sync::atomic::AtomicUsize::new(0),
            published: false,
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
    /// # Errors
    /// If the shared tier did not confirm it ([`Error::is_shared`]): old values may live there up to their
    /// time to live; try again. If the source is not registered.
    pub async fn invalidate<S: Source>(&self, keys: impl IntoIterator<Item = S::Key>) -> Result<(), Error> {
        let write = self.write();
        write.invalidate::<S>(keys).await?;
        write.published().await
    }

    /// Gives this request the value of a key that it has just written and committed, and voids the key in
    /// the other tiers.
    ///
    /// The other tiers do not get the value: another writer may have committed after it, and nothing here
    /// could tell. The next reader elsewhere loads what is current.
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
    pub async fn put<S: Source>(&self, key: S::Key, value: impl Into<Arc<S::Value>>) -> Result<(), Error> {
        self.put_many::<S>([(key, value.into())]).await
    }

    /// [`put`](RequestCache::put) for many keys, in one trip.
    ///
    /// # Errors
    /// As [`invalidate`](RequestCache::invalidate).
    pub async fn put_many<S: Source>(
        &self,
        values: impl IntoIterator<Item = (S::Key, Arc<S::Value>)>,
    ) -> Result<(), Error> {
        let values: Vec<_> = values.into_iter().collect();
        let done = self.invalidate::<S>(values.iter().map(|(key, _)| key.clone())).await;
        let mut state = lock(&self.inner.state);
        let at = self.inner.slot::<S>(&mut state)?;
        let begun = self.inner.cache.now();
        let slot = Slot::<S>::of(&mut state.slots[at].1);
        for (key, value) in values {
            let memo = Memo::Known { value: Some(value), stale: false, begun };
            slot.cells.insert(key, Cell { call: 0, memo });
        }
        done
    }
}

impl Write {
    /// Collects keys. From now on this request reads them from the source.
    ///
    /// Costs no trip in mode `Simple`. Collect inner objects before those derived from them.
    ///
    /// # Errors
    /// If the source is not registered, or a key cannot be written as text; nothing is collected then.
    pub async fn invalidate<S: Source>(&self, keys: impl IntoIterator<Item = S::Key>) -> Result<(), Error> {
        let keys: Vec<_> = keys.into_iter().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let source = self.request.inner.cache.source::<S>()?;
        let mut records = if source.region.stores() {
            source.keys.encode_all(keys.iter()).map_err(Error::usage)?
        } else {
            Vec::new()
        };
        // the order stays: inner objects before derived ones, also within one source (R7)
        let mut seen = HashSet::new();
        records.retain(|record| seen.insert(record.clone()));
        self.forget::<S>(&keys)?;
        let collected = if source.region.stores() { records.len() } else { keys.len() };
        let region = source.region.clone();
        let request = self.request.clone();
        let keys = Arc::new(keys);
        let of_tiers = keys.clone();
        let local = Local {
            void: Box::new(move || void_keys(&source, &of_tiers)),
            forget: Box::new(move || forget::<S>(&request, &keys)),
        };
        lock(&self.steps).push(Step { region, what: What::Keys(records), collected, local: vec![local] });
        Ok(())
    }

    /// Collects a tag, of every region.
    ///
    /// Until the write is published, this request reads everything from the source: it cannot tell which
    /// keys stand under the tag.
    pub fn invalidate_tag(&self, tag: impl Into<String>) {
        let tag = tag.into();
        let cache = self.request.inner.cache.clone();
        for (nth, region) in cache.regions().enumerate() {
            // one tag, in however many regions
            self.wide(region, What::Tags(vec![tag.clone()]), usize::from(nth == 0));
        }
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

    /// After the commit: voids everything that was collected, in its order.
    ///
    /// One trip per run of steps of one kind in one region. When it has returned, no read that starts later
    /// sees what was there before the commit. Goes on to its end when its future is dropped.
    ///
    /// # Errors
    /// If the shared tier did not confirm a step ([`Error::is_shared`]). Every step is tried in any case, and
    /// near and this request are void in any case; old values may live in the shared tier up to their time
    /// to live.
    pub async fn published(mut self) -> Result<(), Error> {
        let home = self.request.inner.cache.home(INVALIDATION)?;
        self.published = true;
        let mut steps = merge(std::mem::take(&mut *lock(&self.steps)));
        steps.iter_mut().for_each(|step| step.what.distinct());
        let request = self.request.clone();
        let wide = self.wide.load(Ordering::Relaxed);
        let meter = Meter::new(request.inner.clone(), true);
        // given back whatever becomes of the task
        let narrow = Narrow { request: request.clone(), wide };
        to_its_end(&home, async move {
            let mut done = Ok(());
            for Step { region, what, local, .. } in steps {
                let voided = match &what {
                    What::Keys(keys) => region.invalidate(&meter, keys).await,
                    What::Tags(tags) => region.invalidate_tags(&meter, tags).await,
                    What::Region => region.clear(&meter).await,
                };
                for local in local {
                    (local.void)();
                    (local.forget)();
                }
                done = done.and(voided.map_err(|fault| unconfirmed(&region.name, fault)));
            }
            drop(narrow);
            done
        })
        .await
    }

    fn wide(&self, region: &Arc<RegionCore>, what: What, collected: usize) {
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
        };
        lock(&self.steps).push(Step { region: region.clone(), what, collected, local: vec![local] });
    }

    /// Tier 1 forgets the keys, and reads them past the tiers from now on.
    fn forget<S: Source>(&self, keys: &[S::Key]) -> Result<(), Error> {
        self.request.inner.wrote.store(true, Ordering::Relaxed);
        let mut state = lock(&self.request.inner.state);
        let at = self.request.inner.slot::<S>(&mut state)?;
        let slot = Slot::<S>::of(&mut state.slots[at].1);
        for key in keys {
            slot.cells.remove(key);
            slot.written.insert(key.clone());
        }
        slot.forgotten = self.request.inner.cache.tick();
        state.turn_page();
        Ok(())
    }
}

/// Takes a write's unknown keys off the request's mind.
struct Narrow {
    request: RequestCache,
    wide: usize,
}

impl Drop for Narrow {
    fn drop(&mut self) {
        lock(&self.request.inner.state).wide_writes -= self.wide;
    }
}

/// What needs a runtime.
pub(crate) const INVALIDATION: &str = "an invalidation";

fn forget_all(request: &RequestCache) {
    let tick = request.inner.cache.tick();
    lock(&request.inner.state).forget_all(None, tick);
}

/// What the request read of these keys between the write and its commit may be from before it.
fn forget<S: Source>(request: &RequestCache, keys: &[S::Key]) {
    let mut state = lock(&request.inner.state);
    if let Ok(at) = request.inner.slot::<S>(&mut state) {
        let slot = Slot::<S>::of(&mut state.slots[at].1);
        keys.iter().for_each(|key| drop(slot.cells.remove(key)));
        slot.forgotten = request.inner.cache.tick();
        state.turn_page();
    }
}

fn void_keys<S: Source>(source: &Registered<S>, keys: &[S::Key]) {
    source.flights.void(keys);
    if let Some(near) = &source.near {
        near.invalidate(keys);
        crate::telemetry::near_voided(S::NAME, &source.region.name, keys.len());
    }
}

/// Neighbours of one kind in one region become one trip; the order of the others stays.
fn merge(steps: Vec<Step>) -> Vec<Step> {
    let mut merged: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        match merged.last_mut() {
            Some(last) if Arc::ptr_eq(&last.region, &step.region) && last.what.joins(&step.what) => {
                last.what.join(step.what);
                last.local.extend(step.local);
            }
            _ => merged.push(step),
        }
    }
    merged
}

impl What {
    fn joins(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Keys(_), Self::Keys(_)) | (Self::Tags(_), Self::Tags(_)))
    }

    /// Each key once, at its first place.
    fn distinct(&mut self) {
        if let Self::Keys(keys) = self {
            let mut seen = HashSet::with_capacity(keys.len());
            keys.retain(|key| seen.insert(key.clone()));
        }
    }

    fn join(&mut self, other: Self) {
        match (self, other) {
            (Self::Keys(keys), Self::Keys(more)) => {
                keys.extend(more);
            }
            (Self::Tags(tags), Self::Tags(more)) => {
                let more: Vec<_> = more.into_iter().filter(|tag| !tags.contains(tag)).collect();
                tags.extend(more);
            }
            _ => {}
        }
    }
}

pub(crate) fn unconfirmed(region: &str, fault: Fault) -> Error {
    Error::shared(
        format!(
            "region {region}: the invalidation was not confirmed, so old values may live there up to their \
             time to live: {fault}"
        ),
        fault,
    )
}

/// Runs an invalidation to its end, also when nobody waits for it any longer: half of one would leave near
/// with what the shared tier has dropped.
pub(crate) async fn to_its_end(
    home: &Home,
    work: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> Result<(), Error> {
    match home.spawn(work.in_current_span()).await {
        Ok(done) => done,
        Err(_) => Err(Error::usage("the runtime was shut down during an invalidation")),
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let steps = std::mem::take(&mut *lock(&self.steps));
        let collected: usize = steps.iter().map(|step| step.collected).sum();
        lock(&self.request.inner.state).wide_writes -= self.wide.load(Ordering::Relaxed);
        // what the request read inside the transaction may never have been committed
        steps.into_iter().flat_map(|step| step.local).for_each(|local| (local.forget)());
        if collected > 0 {
            self.request.inner.cache.events.tell(Event::WriteDropped { collected });
        }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("collected", &lock(&self.steps).len()).finish_non_exhaustive()
    }
}
