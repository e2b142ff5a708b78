//! The source: our own loads, and waiting for those of others.

use std::collections::HashMap;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, OptionFuture, Shared, join_all, select};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Carried, Claim, Landed, Loaded, Packed, Way};
use crate::answer::Outcome;
use crate::error::{BoxError, Error};
use crate::event::Event;
use crate::flight::{Flights, Late, Seat};
use crate::limits::{Shown, later};
use crate::policy::EntryPolicy;
use crate::report::{Operation, Tier, counted};
use crate::request::{Lane, Nesting, RequestCache, inside, outcome};
use crate::source::{Fetched, LoadContext, Row, Rows, Source};
use crate::telemetry;

/// How long others are waited for at least, once what was ours to load has come.
const SHORT: Duration = Duration::from_millis(50);

/// What a loader gave for one key.
enum Fetch<S: Source> {
    Row(S::Value, EntryPolicy),
    Absent(EntryPolicy),
    Failed(Error),
}

/// A chunk of one load.
struct Chunk<S: Source> {
    fetched: Vec<Fetch<S>>,
    cost: Duration,
    /// Nothing in it was older than the load (`R4`, `R6`).
    storable: bool,
}

/// What our own load brought for an item: its value or absence, and what of it may be stored.
pub(super) type Brought<S> = (usize, Result<Option<Arc<<S as Source>::Value>>, Error>, Option<Loaded<S>>);

impl<S: Source> Claim<S> {
    /// Loads what is ours to load and waits for what others load, at the same time. Keys whose flight may
    /// not be joined after all are left unanswered, to board again.
    pub(super) async fn load_once(&mut self) {
        let mut own = Vec::new();
        let mut seats = Vec::new();
        for (at, item) in self.items.iter().enumerate() {
            if item.answer.is_some() {
                continue;
            }
            match &item.way {
                Way::Own | Way::Alone => own.push(at),
                Way::Joined(seat) => seats.push((at, seat.clone(), self.late())),
                Way::Queued(seat) => seats.push((at, seat.clone(), Late::Never)),
                Way::Open => {}
            }
        }
        let source = self.source.clone();
        let foreign = self.other_runtimes(&seats);
        let arrivals = arrivals(seats, self.begun, self.patience_for_flights(), &foreign, &source.flights);
        let mut arrivals = pin!(arrivals);
        let mut arrived = None;
        match select(pin!(self.bring(own)), arrivals.as_mut()).await {
            Either::Left(_) => {}
            Either::Right((landed, bring)) => {
                arrived = Some(landed);
                bring.await;
            }
        }
        let arrived = match arrived {
            Some(arrived) => arrived,
            None => self.patiently(arrivals).await,
        };
        for (at, landed) in arrived {
            match landed {
                Some(Some(landed)) => match self.take(at, landed) {
                    true => {
                        let failed = matches!(self.items[at].answer, Some(Outcome::Failed(_)));
                        self.outcomes.joined += u64::from(!failed);
                    }
                    // it cannot be shared, so queueing for the next flight would not help
                    false => self.go_alone(at),
                },
                Some(None) => self.board_again(at),
                // a loader's own read has waited long enough: two loads that wait for each other would for ever
                None => self.go_alone(at),
            }
        }
    }

    /// Answers what is ours to find: loads what nobody else is loading, waits for the fills of other processes, and
    /// loads what they do not bring.
    async fn bring(&mut self, own: Vec<usize>) {
        let (waiting, now): (Vec<_>, Vec<_>) = own.into_iter().partition(|at| self.items[*at].elsewhere);
        let mut brought = if waiting.is_empty() {
            self.patiently(self.load_own(&now)).await
        } else {
            let began = Instant::now();
            let mut until = later(began, self.source.policy.lease_patience);
            let both = async {
                let loads = async {
                    let brought = self.load_own(&now).await;
                    // others may wait for these just as we wait for theirs
                    let early = self.fill_early(&brought).await;
                    (brought, early)
                };
                let waits = self.await_fills(waiting.clone(), until);
                tokio::pin!(loads, waits);
                tokio::select! {
                    biased;
                    waited = &mut waits => (loads.await, waited),
                    brought = &mut loads => {
                        if !now.is_empty() {
                            // Who joined what we loaded waits for the rest; and what has tags of its own, and others
                            // may wait for, is not stored before all of it has come.
                            until = until.min(later(Instant::now(), began.elapsed().saturating_mul(2).max(SHORT)));
                        }
                        match timeout_at(until, &mut waits).await {
                            Ok(waited) => (brought, waited),
                            Err(_) => (brought, self.await_fills(waiting.clone(), until).await),
                        }
                    }
                }
            };
            let (brought, waited) = self.patiently(both).await;
            let (brought, early) = brought;
            for (at, stored) in early {
                self.items[at].stored = Some(stored);
            }
            self.settle_leases(waited, until).await;
            let late: Vec<_> = waiting.into_iter().filter(|at| self.items[*at].answer.is_none()).collect();
            let outcome = match late.is_empty() {
                true => "filled",
                false if Instant::now() < until => "taken_over",
                false => "out_of_patience",
            };
            telemetry::lease_wait(S::NAME, &self.source.region.name, began.elapsed(), outcome);
            let mut brought = brought;
            brought.extend(self.patiently(self.load_own(&late)).await);
            brought.sort_unstable_by_key(|(at, ..)| *at);
            brought
        };
        self.land(&brought);
        for (at, landed, loaded) in brought.drain(..) {
            let unsound = loaded.as_ref().is_none_or(|loaded| !loaded.policy.store) || self.items[at].held;
            self.items[at].sound = !unsound && self.lane != Lane::Written;
            self.items[at].answer = Some(match landed {
                Ok(value) => outcome(value, false, Tier::Source),
                Err(error) => self.failed(at, error),
            });
            self.items[at].loaded = loaded.map(Box::new);
        }
    }

    /// Whether a lease of another process is worth waiting for.
    pub(super) fn waits_for_others(&self) -> bool {
        // a private store has the leases of this process alone, and those are flights
        !self.source.region.is_private()
            && matches!(self.lane, Lane::Normal | Lane::PastRequest)
            && !self.source.policy.lease_patience.is_zero()
    }

    /// Until when flights of other readers are waited for; never over, unless a load waits for this batch.
    fn patience_for_flights(&self) -> impl Future<Output = ()> + Clone + use<S> {
        let patience = self.source.policy.source_soft_budget;
        let (awaited, hurry) = (self.nested || self.part.is_awaited(), self.hurry.clone());
        async move {
            if !awaited {
                hurry.cancelled().await;
            }
            sleep(patience).await;
        }
        .boxed()
        .shared()
    }

    /// The flight that the item waited for has ended, and its result is not for this reader: it boards anew.
    fn board_again(&mut self, at: usize) {
        let item = &mut self.items[at];
        item.way = Way::Open;
        if self.lane == Lane::Refresh {
            // What was met before is the lease of that flight, and its fill has taken its place: under the old fence a
            // refresh would store nothing (R1).
            (item.fence, item.lease, item.over) = (None, None, None);
        }
    }

    /// The other runtimes that these flights are on, and for each what ends when nobody drives it any longer.
    fn other_runtimes(&self, seats: &[(usize, Seat<Landed<S>>, Late)]) -> Foreign {
        let mut foreign = Foreign::new();
        if seats.is_empty() {
            return foreign;
        }
        let here = self.request.cache.home("a load").ok().map(|home| home.id());
        for home in seats.iter().filter_map(|(_, seat, _)| seat.home()) {
            if Some(home.id()) != here && !foreign.iter().any(|(id, _)| *id == home.id()) {
                let (id, home, look_every) = (home.id(), home.clone(), self.source.policy.source_soft_budget);
                foreign.push((id, async move { home.stands_still(look_every).await }.boxed().shared()));
            }
        }
        foreign
    }

    fn go_alone(&mut self, at: usize) {
        self.items[at].way = Way::Alone;
        self.items[at].sealed = true;
    }

    /// When a read that came after a load was sent may take its result (`R5`).
    fn late(&self) -> Late {
        match (&self.read, self.lane) {
            // R6: a load may use nothing from before it was sent itself
            _ if self.nested => Late::Never,
            (_, Lane::Refresh) => Late::Never,
            _ if self.source.region.is_private() => Late::Boarded,
            (Some(read), _) => Late::Confirmed(read.digest()),
            (None, _) => Late::Never,
        }
    }

    /// Loads keys ourselves.
    async fn load_own(&self, own: &[usize]) -> Vec<Brought<S>> {
        let writer = self.lane == Lane::Written
            || self.request.wrote.load(Ordering::Relaxed)
            || own.iter().any(|at| self.items[*at].held);
        let most = self.source.policy.max_batch.max(1);
        let chunks = own.chunks(most).map(|chunk| {
            let keys: Vec<_> = chunk.iter().map(|at| self.items[*at].key.clone()).collect();
            self.fetch(keys, writer)
        });
        let mut brought = Vec::with_capacity(own.len());
        for (chunk, ats) in join_all(chunks).await.into_iter().zip(own.chunks(most)) {
            for (fetched, at) in chunk.fetched.into_iter().zip(ats) {
                let loaded = |carried, mut policy: EntryPolicy| {
                    policy.store &= policy.ttl != Some(Duration::ZERO);
                    chunk.storable.then(|| Loaded { carried, policy, cost: chunk.cost, tags: Vec::new() })
                };
                brought.push(match fetched {
                    Fetch::Failed(error) => (*at, Err(error), None),
                    Fetch::Absent(policy) => (*at, Ok(None), loaded(None, policy)),
                    Fetch::Row(value, policy) => {
                        let carried = self.carry(*at, &value);
                        let value = Arc::new(value);
                        let carried = match carried {
                            Some(carried) => carried,
                            None => Some(Carried::Live(value.clone())),
                        };
                        let loaded = carried.and_then(|carried| loaded(Some(carried), policy));
                        (*at, Ok(Some(value)), loaded)
                    }
                });
            }
        }
        brought
    }

    /// How a loaded value is shared: as its encoding where a hook is going to change it for this request.
    /// `Some(None)`: it cannot be encoded.
    fn carry(&self, at: usize, value: &S::Value) -> Option<Option<Carried<S>>> {
        if !self.source.hooked() {
            return None;
        }
        let mut payload = Vec::new();
        let (events, record) = (&self.request.cache.events, &self.items[at].record);
        let format = self.source.encode(events, record, value, &mut payload);
        Some(format.map(|format| Carried::Packed(Arc::new(Packed { format, payload }))))
    }

    /// Lands the flights that have not landed yet.
    pub(super) fn land(&mut self, brought: &[Brought<S>]) {
        for (departure, ats) in &self.departures[self.landed..] {
            departure.land(ats.iter().map(|at| self.landing(*at, brought)).collect());
        }
        self.landed = self.departures.len();
    }

    /// What our flight brings for an item.
    fn landing(&self, at: usize, brought: &[Brought<S>]) -> Landed<S> {
        // both in the order of the items
        match brought.binary_search_by_key(&at, |(each, ..)| *each).ok().map(|nth| &brought[nth]) {
            Some((_, Err(error), _)) => Landed::Failed(error.clone()),
            // a load that saw something older than itself is for this request alone (R4, R6), and so is a row
            // that its loader said so of
            Some((_, Ok(_), None)) => Landed::Lost,
            Some((_, Ok(_), Some(loaded))) if !loaded.policy.store => Landed::Lost,
            Some((_, Ok(None), _)) => Landed::Absent,
            Some((_, Ok(Some(_)), Some(loaded))) => match &loaded.carried {
                Some(carried) => Landed::Value(carried.clone()),
                None => Landed::Lost,
            },
            // the lease found it
            None => match &self.items[at].answer {
                Some(Outcome::Value { .. }) => {
                    self.items[at].found.clone().map_or(Landed::Lost, Landed::Value)
                }
                Some(Outcome::Absent { .. }) => Landed::Absent,
                _ => Landed::Lost,
            },
        }
    }

    /// One call of the loader, within the hard budget.
    async fn fetch(&self, keys: Vec<S::Key>, writer: bool) -> Chunk<S> {
        let since = self.request.cache.tick();
        let load = self.part.load(S::NAME);
        let nesting = Nesting::new(since, load);
        let request = RequestCache::nested(self.request.clone(), Some(nesting.clone()));
        let budget = self.source.policy.source_budget;
        let deadline = later(Instant::now(), budget);
        if let Err(error) = self.turn(keys.len(), budget).await {
            let fetched = keys.iter().map(|_| Fetch::Failed(error.clone())).collect();
            return Chunk { fetched, cost: Duration::ZERO, storable: false };
        }
        let began = Instant::now();
        let budget = deadline.saturating_duration_since(began);
        let cx = LoadContext::new(&request, writer, deadline, self.lane.fills());
        let source = &self.source.source;
        let work = inside(load, async {
            let mut rows = source.load_many(&cx, &keys).await?;
            source.before_store(&cx, &mut rows).await?;
            Ok::<_, S::Error>(rows)
        });
        let done = guarded::<S, _, _>("loading", keys.len(), budget, work).await;
        let took = began.elapsed();
        let count = keys.len();
        let fetched = done.map(|rows| self.sort(&keys, rows));
        let statements = 1 + cx.facts.statements() as usize;
        self.meter.trip(Operation::Load, S::NAME, count, statements, (began, took), fetched.is_err());
        telemetry::load(S::NAME, &self.source.region.name, (count, statements), took, fetched.as_ref().err());
        let storable = !cx.facts.unstored() && !nesting.used_older.load(Ordering::Relaxed);
        let fetched = fetched.unwrap_or_else(|error| {
            let event = Event::LoadFailed { source: S::NAME, keys: count, error: error.clone() };
            self.request.cache.events.tell(event);
            keys.iter().map(|_| Fetch::Failed(error.clone())).collect()
        });
        Chunk { fetched, cost: took, storable }
    }

    /// Brings rows into the order of their keys; what does not fit is said, and harms only its own key.
    fn sort(&self, keys: &[S::Key], rows: Rows<S>) -> Vec<Fetch<S>> {
        let events = &self.request.cache.events;
        let mut places: HashMap<&S::Key, usize, foldhash::fast::RandomState> = HashMap::default();
        if keys.len() > 1 {
            places.reserve(keys.len());
            places.extend(keys.iter().enumerate().map(|(at, key)| (key, at)));
        }
        let place = |key: &S::Key| match keys {
            [only] => (only == key).then_some(0),
            _ => places.get(key).copied(),
        };
        let mut fetched: Vec<_> = keys.iter().map(|_| Fetch::Absent(EntryPolicy::default())).collect();
        let foreign = |key: &S::Key| {
            events.tell(Event::ForeignRow { source: S::NAME, key: self.source.keys.show(key) });
        };
        // first what failed: neither a row nor an absence of such a key counts
        let mut failed: Option<(usize, Error)> = None;
        for (key, cause) in rows.failed {
            match place(&key) {
                None => foreign(&key),
                Some(at) if matches!(fetched[at], Fetch::Failed(_)) => {}
                Some(at) => {
                    let text = self.source.keys.show(&key);
                    let error = Error::source(
                        format!("source {}: loading key {text} failed: {cause}", S::NAME),
                        cause,
                    );
                    failed.get_or_insert_with(|| (0, error.clone())).0 += 1;
                    fetched[at] = Fetch::Failed(error);
                }
            }
        }
        if let Some((failed, error)) = failed {
            events.tell(Event::KeysFailed { source: S::NAME, failed, keys: keys.len(), error });
        }
        for (key, policy) in rows.absent {
            match place(&key) {
                None => foreign(&key),
                Some(at) if matches!(fetched[at], Fetch::Failed(_)) => {}
                Some(at) => fetched[at] = Fetch::Absent(policy),
            }
        }
        for Row { key, value, policy } in rows.rows {
            match place(&key) {
                None => foreign(&key),
                Some(at) if matches!(fetched[at], Fetch::Absent(_)) => {
                    fetched[at] = Fetch::Row(value, policy);
                }
                // failed by the loader, or by two rows before this one: said already
                Some(at) if matches!(fetched[at], Fetch::Failed(_)) => {}
                Some(at) => {
                    let text = self.source.keys.show(&key);
                    fetched[at] = Fetch::Failed(Error::rows(format!(
                        "source {}: the loader gave back two rows for {text}, and there may be one",
                        S::NAME
                    )));
                    events.tell(Event::DuplicateRow { source: S::NAME, key: text });
                }
            }
        }
        fetched
    }

    /// The hook on everything that enters the request.
    pub(super) async fn run_hook(&mut self) {
        let mut entering = Vec::new();
        for (at, item) in self.items.iter_mut().enumerate() {
            if *item.early.get_mut() {
                continue;
            }
            match item.answer.take() {
                Some(answer @ (Outcome::Value { .. } | Outcome::Stale { .. })) => entering.push((at, answer)),
                other => item.answer = other,
            }
        }
        let done = self.hook(&mut entering).await;
        for (at, answer) in entering {
            self.items[at].answer = Some(match &done {
                Ok(()) => answer,
                Err(error) => Outcome::Failed(error.clone()),
            });
        }
    }

    /// Runs the hook on these values, each of which nobody else has.
    pub(super) async fn hook(&self, entering: &mut Vec<(usize, Outcome<S::Value>)>) -> Result<(), Error> {
        let mut rows = Vec::with_capacity(entering.len());
        let mut shapes = Vec::with_capacity(entering.len());
        for (at, answer) in entering.drain(..) {
            match answer {
                Outcome::Value { value, tier } => {
                    shapes.push((at, tier, false));
                    rows.push((self.items[at].key.clone(), value));
                }
                Outcome::Stale { value, tier } => {
                    shapes.push((at, tier, true));
                    rows.push((self.items[at].key.clone(), value));
                }
                Outcome::Absent { .. } | Outcome::Failed(_) => {}
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let count = rows.len();
        let load = self.part.load(S::NAME);
        let nesting = Nesting::new(self.begun, load);
        let request = RequestCache::nested(self.request.clone(), Some(nesting));
        let budget = self.source.policy.source_budget;
        let deadline = later(Instant::now(), budget);
        let writer = self.lane == Lane::Written || self.request.wrote.load(Ordering::Relaxed);
        let cx = LoadContext::new(&request, writer, deadline, false);
        let mut fetched = Fetched::new(rows);
        let work = inside(load, self.source.source.after_fetch(&cx, &mut fetched));
        let done = guarded::<S, _, _>("after_fetch of", count, budget, work).await;
        self.source.learn_hooked(fetched.hooked);
        if let Err(error) = &done {
            let error = error.clone();
            self.request.cache.events.tell(Event::LoadFailed { source: S::NAME, keys: count, error });
        }
        let rows = fetched.rows.into_iter().zip(shapes);
        entering.extend(rows.map(|((_, value), (at, tier, stale))| (at, outcome(Some(value), stale, tier))));
        done
    }
}

/// Other runtimes, each with what ends when nobody drives it any longer.
type Foreign = Vec<(tokio::runtime::Id, Shared<BoxFuture<'static, ()>>)>;

/// Waits for flights of other readers. Inner `None`: not to be taken; outer `None`: too slow.
///
/// A flight on a runtime that nobody drives any longer is ended here, for all who wait for it.
async fn arrivals<K: Eq + Hash, T: Clone>(
    seats: Vec<(usize, Seat<T>, Late)>,
    begun: u64,
    too_long: impl Future<Output = ()> + Clone,
    foreign: &Foreign,
    flights: &Flights<K, T>,
) -> Vec<(usize, Option<Option<T>>)> {
    join_all(seats.into_iter().map(|(at, seat, late)| {
        let too_long = too_long.clone();
        let standstill = seat.home().and_then(|home| foreign.iter().find(|(id, _)| *id == home.id()));
        let standstill = OptionFuture::from(standstill.map(|(_, standstill)| standstill.clone()));
        async move {
            let landed = tokio::select! {
                biased;
                landed = seat.arrival(begun, late) => Some(landed),
                () = too_long => None,
                Some(()) = standstill => {
                    flights.ground(&seat);
                    Some(None)
                }
            };
            (at, landed)
        }
    }))
    .await
}

/// Runs the user's code within its budget; whatever becomes of it is an error that says so.
async fn guarded<S: Source, T, E: Into<BoxError>>(
    what: &str,
    count: usize,
    budget: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Error> {
    let keys = counted(count, "key");
    let name = S::NAME;
    match timeout(budget, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(cause))) => {
            let cause = cause.into();
            Err(Error::source(format!("source {name}: {what} {keys} failed: {cause}"), cause))
        }
        Ok(Err(panic)) => {
            let said = panic_text(panic.as_ref());
            Err(Error::panic(if what == "loading" {
                format!("source {name}: the loader panicked while loading {keys}: {said}")
            } else {
                format!("source {name}: {what} {keys} panicked: {said}")
            }))
        }
        Err(_) => Err(Error::timeout(format!(
            "source {name}: {what} {keys} took longer than the budget of {}",
            Shown(budget)
        ))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
