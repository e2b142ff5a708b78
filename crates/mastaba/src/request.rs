//! What a handler holds: the cache of one request, and tier 1 itself.
//!
//! A read first claims its keys here ([`RequestCache::claim`]): what the request or near knows is answered
//! at once and without an allocation; what is on its way is waited for; the rest joins the part that is
//! gathering ([`crate::batch`]) and travels down the tiers ([`crate::read`]).

mod budget;
mod database;
mod direct;
pub(crate) mod lookout;
mod nesting;
mod once;
mod renew;
mod slot;
mod standby;
mod stash;
mod state;
mod traffic;
mod waiting;

use std::any::TypeId;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use self::budget::BudgetGuard;
pub use self::database::DatabaseTrip;
pub(crate) use self::nesting::{Nesting, endless, inside};
use self::slot::JoiningParts;
pub(crate) use self::slot::{Bound, Cell, Glance, Lane, Memo, SinkOf, Slot};
pub use self::stash::Stash;
pub(crate) use self::state::{AnyPart, Asking, Parts, RequestCore, RequestState};
use self::waiting::Waiting;
use crate::answer::{Answers, Asked, Known, Outcome};
use crate::cache::CacheCore;
use crate::error::{Error, OF_A_KEY};
use crate::guarded::{each, guard};
use crate::report::{Report, Tier};
use crate::source::Source;
use crate::sync::lock;
use crate::waits::Load;

/// How far a read goes past what is known already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Force {
    /// Not at all: every tier is asked in turn.
    #[default]
    No,
    /// Past the request: near and the shared tier are asked again.
    PastRequest,
    /// Past the request, near and the shared tier: loads from the source, for this request alone.
    PastShared,
    /// Loads from the source and stores what it finds.
    Refresh,
}

/// The cache as one request sees it: tier 1, and the way to the others.
///
/// Cheap to clone; clones share everything. It may go into spawned tasks, and dies with its last clone. One that lives
/// long (a websocket, a subscription) sees what it has read once until it [forgets](RequestCache::forget) it or is
/// [renewed](RequestCache::renew).
///
/// * **Trips.** What the request knows costs nothing. What it does not costs one trip to the shared tier
///   for everything that is awaited together (and one more to take leases, for misses whose loads are not known to be cheap), and one call of
///   [`Source::load_many`] per source for what is still missing.
/// * **Tasks.** What one task awaits together travels together, always. Reads in tasks of their own travel together as far
///   as they meet: those that come while a batch of the request asks the shared tier leave once it has asked, a
///   millisecond later at most. A `JoinSet` of twenty gets is a few trips, where `join_all` makes one of them.
/// * **Faults.** Where the shared tier is out, reads go on to the source, and the fault is an
///   [`Event`](crate::Event) and a line in the [report](RequestCache::report).
/// * **Dropping.** Any future of it may be dropped at any time. Keys that were not sent yet and that nobody
///   else waits for are not asked for; what was sent runs to its end in a task of its own, for whoever
///   else waits, and for the tiers.
/// * **Errors.** Those of the source, and none of the shared tier's, except for writes.
///
/// In axum and actix-web a handler takes one as it is, and may move it into a task (`mastaba-axum`, `mastaba-actix`).
///
/// Reads need a tokio runtime with timers (`enable_all()`). Which one makes no difference: a cache, and a request, may be
/// used from several, and each read runs on that of its caller.
#[derive(Clone)]
pub struct RequestCache {
    pub(crate) inner: Arc<RequestCore>,
    force: Force,
    /// Set where a loader or a hook reads through the request that it loads for.
    pub(crate) nesting: Option<Arc<Nesting>>,
}

impl RequestCache {
    pub(crate) fn new(cache: Arc<CacheCore>) -> Self {
        Self::named(cache, String::new())
    }

    /// With the route of a web service, or the name of a job.
    pub(crate) fn named(cache: Arc<CacheCore>, name: String) -> Self {
        Self { inner: RequestCore::new(cache, name), force: Force::No, nesting: None }
    }

    pub(crate) fn nested(inner: Arc<RequestCore>, nesting: Option<Arc<Nesting>>) -> Self {
        Self { inner, force: Force::No, nesting }
    }

    /// The value of a key, or `None` if it has no row.
    ///
    /// Costs nothing if the request knows the key; otherwise travels with everything else that is awaited
    /// together: see [`RequestCache`].
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// assert_eq!(request.get::<UserById>(1).await?.unwrap().name, "user 1");
    /// assert!(request.get::<UserById>(2000).await?.is_none());
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// If the source failed, panicked or took too long ([`Error::is_source`], [`Error::is_timeout`]); the
    /// failure is not remembered. If the source is not registered ([`Error::is_usage`]).
    pub async fn get<S: Source>(&self, key: S::Key) -> Result<Option<Arc<S::Value>>, Error> {
        if let Some(known) = self.recall::<S>(&key)? {
            return Ok(known.into_value());
        }
        let mut asked = [Asked::<S>::new(key)];
        self.read(&mut asked, false).await;
        let [asked] = asked;
        into_value::<S>(asked.answer)
    }

    /// The values of many keys: every distinct key of `keys` is in the answer, in their order.
    ///
    /// Costs what [`get`](RequestCache::get) costs, once for all.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let users = world.request().get_many::<UserById>([3, 1, 2000, 3]).await?;
    /// assert_eq!(users.keys().copied().collect::<Vec<_>>(), [3, 1, 2000]);
    /// assert_eq!(users[&1].as_ref().unwrap().name, "user 1");
    /// assert_eq!(users[&2000], None);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The first error, if any key failed. [`get_outcomes`](RequestCache::get_outcomes) says which key failed.
    pub async fn get_many<S: Source>(
        &self,
        keys: impl IntoIterator<Item = S::Key>,
    ) -> Result<Answers<S::Key, Option<Arc<S::Value>>>, Error> {
        let asked = self.read_all(collect::<S, _, _>(keys, Asked::<S>::new)?).await;
        // collected in place: one allocation from the keys to the answers
        let rows = asked.into_iter().map(|asked| Ok((asked.key, into_value::<S>(asked.answer)?)));
        let rows = rows.collect::<Result<Vec<_>, Error>>()?;
        Ok(Answers::new(rows))
    }

    /// What became of each of many keys: value, absent, stale or failed, and the tier it came from.
    ///
    /// Costs what [`get_many`](RequestCache::get_many) costs.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    /// use mastaba::Tier;
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// request.get::<UserById>(1).await?;
    /// let users = request.get_outcomes::<UserById>([1, 2, 2000]).await;
    /// assert_eq!(users[&1].tier(), Some(Tier::Request));
    /// assert_eq!(users[&2].tier(), Some(Tier::Source));
    /// assert!(users[&2000].is_absent());
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub async fn get_outcomes<S: Source>(
        &self,
        keys: impl IntoIterator<Item = S::Key>,
    ) -> Answers<S::Key, Outcome<S::Value>> {
        let asked = self.read_all(keys.into_iter().map(Asked::<S>::new).collect()).await;
        let rows = asked.into_iter().map(|asked| {
            let Asked { key, answer, .. } = asked;
            (key, answer.unwrap_or_else(|| Outcome::Failed(cut_off_elsewhere(S::name()))))
        });
        Answers::new(rows.collect())
    }

    /// What is known of a key without loading it; `None` if nothing is.
    ///
    /// Costs nothing if the request or near knows the key, and at most one trip to the shared tier.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    /// use mastaba::Known;
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// assert_eq!(request.peek::<UserById>(1).await?, None);
    /// request.get::<UserById>(1).await?;
    /// assert!(matches!(request.peek::<UserById>(1).await?, Some(Known::Value(_))));
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// If the source is not registered, or its hook failed.
    pub async fn peek<S: Source>(&self, key: S::Key) -> Result<Option<Known<S::Value>>, Error> {
        let mut asked = [Asked::<S>::new(key)];
        self.read(&mut asked, true).await;
        let [asked] = asked;
        asked.answer.map(Outcome::into_known).transpose()
    }

    /// Brings many keys into the request, for reads to come.
    ///
    /// Costs what [`get_many`](RequestCache::get_many) costs.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// request.prefetch::<UserById>(1..=50).await?;
    /// assert_eq!(request.get::<UserById>(7).await?.unwrap().id, 7);
    /// assert_eq!(request.report().statements(), 1);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The first error, if any key failed.
    pub async fn prefetch<S: Source>(&self, keys: impl IntoIterator<Item = S::Key>) -> Result<(), Error> {
        for asked in self.read_all(collect::<S, _, _>(keys, Asked::<S>::new)?).await {
            into_value::<S>(asked.answer)?;
        }
        Ok(())
    }

    /// Loads a key from the source again, and stores what it finds in every tier.
    ///
    /// One read of the shared tier for the fence that the store must meet, one load, one fill that is not
    /// waited for. The same as `request.with(Force::Refresh).get(key)`; for many keys, `get_many`. A key
    /// that this request has written is loaded for this request alone.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// assert_eq!(request.get::<UserById>(1).await?.unwrap().version, 0);
    /// world.db.update(1); // by somebody who invalidates nothing
    /// assert_eq!(request.get::<UserById>(1).await?.unwrap().version, 0);
    /// assert_eq!(request.refresh::<UserById>(1).await?.unwrap().version, 1);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`get`](RequestCache::get).
    pub async fn refresh<S: Source>(&self, key: S::Key) -> Result<Option<Arc<S::Value>>, Error> {
        self.with(Force::Refresh).get::<S>(key).await
    }

    /// The same request, read with this force.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    /// use mastaba::Force;
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// request.get::<UserById>(1).await?;
    /// world.db.update(1);
    /// let user = request.with(Force::PastShared).get::<UserById>(1).await?;
    /// assert_eq!(user.unwrap().version, 1);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn with(&self, force: Force) -> Self {
        Self { inner: self.inner.clone(), force, nesting: self.nesting.clone() }
    }

    pub(crate) fn force(&self) -> Force {
        self.force
    }

    /// A place for whatever belongs to the request: the current user, a locale. By type.
    ///
    /// A loader whose rows depend on what is there belongs to a source that is [private](Source::PRIVATE): the rows of any
    /// other one are shared with requests that have something else in their stash. A hook on what enters a request
    /// ([`Source::after_fetch`]) may use it freely.
    pub fn stash(&self) -> &Stash {
        if let Some(nesting) = &self.nesting {
            nesting.depends_on(&self.inner.cache.events, || "the stash of the request".to_owned());
        }
        &self.inner.stash
    }

    /// What the request has cost up to now.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    /// use mastaba::Budget;
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// request.get_many::<UserById>(1..=20).await?;
    /// let report = request.report();
    /// assert_eq!((report.shared_trips(), report.statements()), (2, 1));
    /// println!("{report}");
    /// report.assert_at_most(Budget { trips: 2, statements: 1 });
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn report(&self) -> Report {
        self.inner.report()
    }

    /// Distinguishes keys, reads them all. They were collected before the lock is taken: the iterator is the caller's, and
    /// may use this request.
    async fn read_all<S: Source>(&self, mut asked: Vec<Asked<S>>) -> Vec<Asked<S>> {
        if self.force != Force::No && asked.len() > 1 {
            let mut seen = HashSet::with_capacity(asked.len());
            let distinguish = |asked: &mut Vec<Asked<S>>, nth: usize| {
                asked[nth].twin = !seen.insert(asked[nth].key.clone());
            };
            let count = asked.len();
            each(&mut asked, count, distinguish, |asked, nth, why| asked[nth].panicked(&why));
            asked.retain(|asked| !asked.twin);
        }
        self.read(&mut asked, false).await;
        asked.retain(|asked| !asked.twin);
        asked
    }

    /// THE read: answers every key. With `peek`, keys that nothing is known of stay unanswered.
    async fn read<S: Source>(&self, asked: &mut [Asked<S>], peek: bool) {
        // Keys come back without an answer only when the task that carried them was cut off: by the end of its runtime,
        // which may be that of another reader of this request, or by a panic that is nobody's.
        for _ in 0..TRIES {
            let mut waiting = match self.claim(asked, peek) {
                Ok(None) => return,
                Ok(Some(waiting)) => waiting,
                Err(error) => {
                    let open = asked.iter_mut().filter(|asked| asked.answer.is_none());
                    return open.for_each(|asked| asked.answer = Some(Outcome::Failed(error.clone())));
                }
            };
            (&mut waiting).await;
            if waiting.deliver(asked) || peek {
                return;
            }
            if self.inner.cache.has_ended_here() {
                break;
            }
        }
        let error = self.inner.why_cut_off(S::name());
        let open = asked.iter_mut().filter(|asked| asked.answer.is_none() && !asked.twin);
        open.for_each(|asked| asked.answer = Some(Outcome::Failed(error.clone())));
    }

    /// What tier 1 or near knows of a key, at a glance. [`claim`](RequestCache::claim) would find the same, and
    /// finds the rest.
    fn recall<S: Source>(&self, key: &S::Key) -> Result<Option<Known<S::Value>>, Error> {
        if self.force != Force::No || self.nesting.is_some() {
            return Ok(None);
        }
        guard(|| self.glance::<S>(key)).map_err(|why| Error::panicked(S::name(), OF_A_KEY, &why))
    }

    #[inline]
    fn glance<S: Source>(&self, key: &S::Key) -> Option<Known<S::Value>> {
        let mut state = lock(&self.inner.state);
        let state = &mut *state;
        let (id, call) = (TypeId::of::<S>(), state.call());
        let slot = state.slots.iter_mut().find(|(each, _)| *each == id)?;
        let slot = Slot::<S>::of(&mut slot.1);
        if let Some(cell) = slot.cells.get(key) {
            let Memo::Known { known, .. } = &cell.memo else { return None };
            slot.outcomes.request_hits += 1;
            return Some(known.clone());
        }
        if slot.lane(Force::No, false, state.wide_writes > 0, key) != Lane::Normal {
            return None;
        }
        slot.recall_near(key, call, &state.fenced, &mut state.glance, &self.inner.cache)
    }

    /// The load that waits for what is read here: known from the request that a loader was given, or from the task.
    fn load_inside(&self) -> Option<Arc<Load>> {
        match &self.nesting {
            Some(nesting) => Some(nesting.load.clone()),
            None => nesting::current(),
        }
    }

    /// Tier 1 and near: answers what they know, takes part in what is on its way, and adds the rest to the
    /// part that gathers.
    fn claim<S: Source>(&self, asked: &mut [Asked<S>], peek: bool) -> Result<Option<Waiting<'_, S>>, Error> {
        if S::PRIVATE
            && let Some(nesting) = &self.nesting
        {
            nesting
                .depends_on(&self.inner.cache.events, || format!("source {}, which is private", S::name()));
        }
        // declared before the lock: dropped by a panic, it has to take the lock itself
        let mut waiting: Option<Waiting<'_, S>> = None;
        let mut state = lock(&self.inner.state);
        let state = &mut *state;
        let (call, wide) = (state.next_call(), state.wide_writes > 0);
        let at = self.inner.slot::<S>(state)?;
        // apart from each other, so that the slot is looked up once for all keys
        let RequestState { slots, gathering, fenced, glance, turn, next_part, .. } = &mut *state;
        let slot = Slot::<S>::of(&mut slots[at].1);
        let count = asked.len();
        slot.make_room(count);
        // the load whose loader or hook reads here, looked up by the first key that has to wait
        let inside: OnceCell<Option<Arc<Load>>> = OnceCell::new();
        let load_inside = || inside.get_or_init(|| self.load_inside()).clone();
        let mut joining = JoiningParts::new();
        let claim_one = |asked: &mut [Asked<S>], nth: usize| {
            let asked = &mut asked[nth];
            if asked.answer.is_some() || asked.twin {
                return;
            }
            let lane = slot.lane(self.force, peek, wide, &asked.key);
            if lane.remembers() {
                match slot.cells.get_mut(&asked.key) {
                    Some(cell) if cell.call == call => {
                        asked.twin = true;
                        return;
                    }
                    Some(cell) => {
                        cell.call = call;
                        match &cell.memo {
                            Memo::Known { known, stale, begun } => {
                                if let Some(nesting) = &self.nesting {
                                    nesting.saw(*begun, *stale || lane.is_own::<S>());
                                }
                                asked.answer = Some(Outcome::of(known.clone(), *stale, Tier::Request));
                                slot.outcomes.request_hits += 1;
                                return;
                            }
                            // a look without a load waits for nobody
                            Memo::Coming { .. } if peek => {}
                            Memo::Coming { part, at } => {
                                // one that is over was cut off before it answered anybody: the key is claimed anew
                                if let Some(part) = Slot::part(&slot.parts, *part) {
                                    let waiting = waiting.get_or_insert_with(|| Waiting::new(self));
                                    if let Some(load) = load_inside() {
                                        if let Err(why) = waiting.hold_up(&load, part) {
                                            let error = endless(&load, S::name(), why);
                                            asked.answer = Some(Outcome::Failed(error));
                                            return;
                                        }
                                        part.hurry();
                                    }
                                    if part.share(*at) {
                                        waiting.add(nth, part, *at, lane);
                                        return;
                                    }
                                }
                            }
                        }
                    }
                    None => {}
                }
            }
            // R6: what near holds may be from before the load that reads here
            if lane.asks_near()
                && self.nesting.is_none()
                && let Some(known) = slot.recall_near(&asked.key, call, fenced, glance, &self.inner.cache)
            {
                asked.answer = Some(Outcome::of(known, false, Tier::Near));
                return;
            }
            if peek && lane.is_own::<S>() {
                return; // what the tiers know of it is older than what this request wrote, or of nobody's
            }
            let load = load_inside();
            if let Some((load, Err(why))) = load.as_ref().map(|load| (load, load.has_room())) {
                asked.answer = Some(Outcome::Failed(endless(load, S::name(), why)));
                return;
            }
            let (part, at) =
                slot.want(&mut joining, lane, &asked.key, call, (*turn, next_part, count - nth), |part| {
                    gathering.push(Box::new(part));
                });
            if self.nesting.is_some() {
                let of = gathering.iter_mut().filter(|each| each.id() == part.id);
                of.for_each(|each| each.set_nested());
            }
            if let Some(nesting) = self.nesting.as_ref().filter(|_| lane.is_own::<S>()) {
                nesting.used_older.store(true, Ordering::Relaxed);
            }
            let waiting = waiting.get_or_insert_with(|| Waiting::new(self));
            if let Some(load) = load {
                // a part that gathers waits for nothing yet, so this closes no circle
                let _ = waiting.hold_up(&load, part);
            }
            waiting.add(nth, part, at, lane);
        };
        // no key takes the others with it, nor the state, which is whole between any two of them
        each(asked, count, claim_one, |asked, nth, why| asked[nth].panicked(&why));
        drop(joining);
        if let Some(waiting) = &mut waiting {
            waiting.arrived();
        }
        Ok(waiting)
    }
}

/// Collects what a caller iterates over, which may panic.
pub(crate) fn collect<S: Source, K, T>(
    keys: impl IntoIterator<Item = K>,
    make: impl FnMut(K) -> T,
) -> Result<Vec<T>, Error> {
    guard(|| keys.into_iter().map(make).collect())
        .map_err(|why| Error::panicked(S::name(), "the iterator of keys", &why))
}

fn into_value<S: Source>(answer: Option<Outcome<S::Value>>) -> Result<Option<Arc<S::Value>>, Error> {
    match answer {
        Some(outcome) => Ok(outcome.into_known()?.into_value()),
        None => Err(cut_off_elsewhere(S::name())),
    }
}

/// How often a read is begun anew that was cut off.
const TRIES: usize = 3;

/// The last word on a key that came back without an answer, when neither this runtime has ended nor anything panicked.
fn cut_off_elsewhere(source: &str) -> Error {
    Error::usage(format!(
        "source {source}: this read waited {TRIES} times for a read of the same request on another runtime, and each of \
         those runtimes was shut down before it was answered; read again"
    ))
}

/// What it has cost up to now.
impl From<&RequestCache> for Report {
    fn from(request: &RequestCache) -> Self {
        request.report()
    }
}

/// What it has cost up to now.
impl From<RequestCache> for Report {
    fn from(request: RequestCache) -> Self {
        request.report()
    }
}

impl fmt::Debug for RequestCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestCache").field("force", &self.force).finish_non_exhaustive()
    }
}
