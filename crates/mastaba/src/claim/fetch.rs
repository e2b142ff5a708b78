//! The source: our own loads, and waiting for those of others.

use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, OptionFuture, Shared, join_all, select};
use tokio::time::{Instant, sleep, timeout_at};

use super::right::Seal;
use super::settle::Reader;
use super::{Claim, Loaded, Tags, Way};
use crate::answer::{Known, Outcome};
use crate::carried::{Carried, Encoded, Landed};
use crate::error::{BoxError, Error, OF_A_KEY};
use crate::event::Event;
use crate::flight::{Flights, Late, Seat};
use crate::guarded::{Guarded, each, guard, let_go};
use crate::limits::{Shown, later};
use crate::policy::EntryPolicy;
use crate::read::{Answering, Loading, Missing};
use crate::registry::Pace;
use crate::report::{Operation, Tier, counted};
use crate::request::{Lane, Nesting, RequestCache, inside};
use crate::source::{Fetched, LoadContext, Source};
use crate::telemetry;

#[cfg(test)]
mod tests;

/// How long others are waited for at least, once what was ours to load has come.
const SHORT: Duration = Duration::from_millis(50);

/// What a loader gave for one key.
pub(super) enum Fetch<S: Source> {
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
pub(super) type Brought<S> = (usize, Result<Known<<S as Source>::Value>, Error>, Option<Loaded<S>>);

impl<S: Source> Loading for Claim<S> {
    fn patience(&self) -> Duration {
        self.source.policy.source_soft_budget
    }

    fn load(&mut self) -> BoxFuture<'_, ()> {
        async move {
            self.late = Some(later(Instant::now(), self.patience()));
            while self.waits() {
                self.load_once().await;
                if !self.waits() {
                    break;
                }
                let (region, meter, ready) = (self.source.region.clone(), self.meter.clone(), self.ready);
                crate::read::lease(&region, &mut [&mut *self], ready, &meter).boxed().await;
            }
        }
        .boxed()
    }

    fn answering(self: Box<Self>) -> Box<dyn Answering> {
        self
    }
}

impl<S: Source> Claim<S> {
    /// Loads what is ours to load and waits for what others load, at the same time. Keys whose flight may
    /// not be joined after all are left unanswered, to board again.
    async fn load_once(&mut self) {
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
        for (at, arrival) in arrived {
            match arrival {
                Arrival::Landed(landed) => match self.take(at, landed) {
                    true => {
                        let failed = matches!(self.items[at].answer, Some(Outcome::Failed(_)));
                        self.outcomes.joined += u64::from(!failed);
                    }
                    // it cannot be shared, so queueing for the next flight would not help
                    false => self.go_alone(at),
                },
                Arrival::NotForUs => self.board_again(at),
                // a loader's own read has waited long enough: two loads that wait for each other would for ever
                Arrival::TooSlow => self.go_alone(at),
            }
        }
    }

    /// Answers what is ours to find: loads what nobody else is loading, waits for the fills of other processes, and
    /// loads what they do not bring.
    async fn bring(&mut self, own: Vec<usize>) {
        let (waiting, now): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|at| self.items[*at].elsewhere.is_some());
        // In boxes: a future is as large as all that it may ever wait for, twice where it is pinned, and is copied when it begins.
        let mut brought = match waiting.is_empty() {
            true => self.patiently(self.load_own(&now).boxed()).await,
            false => self.bring_beside(&now, waiting).boxed().await,
        };
        self.land(&brought);
        for (at, landed, loaded) in brought.drain(..) {
            let unsound = loaded.as_ref().is_none_or(|loaded| !loaded.policy.store)
                || self.items[at].storable.is_held();
            self.items[at].sound = !unsound && !self.lane.is_own::<S>();
            self.outcomes.unleased += u64::from(landed.is_ok() && self.items[at].storable.is_unleased());
            self.items[at].answer = Some(match landed {
                Ok(known) => Outcome::of(known, false, Tier::Source),
                Err(error) => self.failed(at, error),
            });
            self.items[at].loaded = loaded.map(Box::new);
        }
    }

    /// Loads what is ours while it waits for the fills of other processes, and then what they did not bring.
    async fn bring_beside(&mut self, now: &[usize], waiting: Vec<usize>) -> Vec<Brought<S>> {
        let began = Instant::now();
        let mut until = later(began, self.source.policy.lease_patience);
        let both = async {
            let mut loads = async {
                let brought = self.load_own(now).await;
                // others may wait for these just as we wait for theirs
                let early = self.fill_early(&brought).await;
                (brought, early)
            }
            .boxed();
            let mut waits = self.await_fills(waiting.clone(), until).boxed();
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
        let (brought, waited) = self.patiently(both.boxed()).await;
        let (mut brought, early) = brought;
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
        telemetry::lease_wait(S::name(), &self.source.region.name, began.elapsed(), outcome);
        brought.extend(self.patiently(self.load_own(&late).boxed()).await);
        brought.sort_unstable_by_key(|(at, ..)| *at);
        brought
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
        let (awaited, hurry) = (self.nested || self.sink.is_awaited(), self.hurry.clone());
        async move {
            if !awaited {
                hurry.cancelled().await;
            }
            sleep(patience).await;
        }
        .boxed()
        .shared()
    }

    /// The flight that the item waited for has ended, and its result is not for this reader: it looks for a load anew.
    fn board_again(&mut self, at: usize) {
        let item = &mut self.items[at];
        item.waited |= matches!(item.way, Way::Queued(_));
        item.way = Way::Open;
        if self.lane == Lane::Refresh {
            // What was met before is the lease of that flight, and its fill has taken its place: under the old fence a
            // refresh would store nothing (R1).
            item.storable.forget();
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
        self.items[at].storable.seal(Seal::Plain);
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
            || own.iter().any(|at| self.items[*at].storable.is_held());
        let most = self.source.policy.max_batch.max(1);
        // a key that panics while it is copied is not loaded, and fails alone
        let mut copied = (Vec::with_capacity(own.len()), Vec::new());
        each(
            &mut copied,
            own.len(),
            |(keys, _), nth| keys.push((own[nth], self.items[own[nth]].key.clone())),
            |(_, broken), nth, why| broken.push((own[nth], Error::panicked(S::name(), OF_A_KEY, &why))),
        );
        let (keys, broken) = copied;
        let (own, mut keys): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        let mut chunks = Vec::with_capacity(own.len().div_ceil(most));
        while !keys.is_empty() {
            let rest = keys.split_off(keys.len().min(most));
            chunks.push(self.fetch(std::mem::replace(&mut keys, rest), writer));
        }
        let mut brought: Vec<Brought<S>> = broken.into_iter().map(|(at, why)| (at, Err(why), None)).collect();
        brought.reserve(own.len());
        for (chunk, ats) in join_all(chunks).await.into_iter().zip(own.chunks(most)) {
            for (fetched, at) in chunk.fetched.into_iter().zip(ats) {
                let loaded = |carried: Carried<S>, mut policy: EntryPolicy| {
                    policy.store &= policy.ttl != Some(Duration::ZERO);
                    // an absence has none
                    let tags = if carried.is_absent() { Tags::Named(Vec::new()) } else { Tags::Unknown };
                    chunk.storable.then_some(Loaded { carried, policy, cost: chunk.cost, tags })
                };
                brought.push(match fetched {
                    Fetch::Failed(error) => (*at, Err(error), None),
                    Fetch::Absent(policy) => (*at, Ok(Known::Absent), loaded(Carried::Absent, policy)),
                    Fetch::Row(value, policy) => {
                        let value = Arc::new(value);
                        let loaded = self.carry(*at, &value).and_then(|carried| loaded(carried, policy));
                        (*at, Ok(Known::Value(value)), loaded)
                    }
                });
            }
        }
        brought.sort_by_key(|(at, ..)| *at); // those that failed stand first
        brought
    }

    /// How a loaded value is shared: as its encoding where a hook is going to change it for this request. `None`: it is not
    /// shared, because it cannot be encoded or its source is private.
    fn carry(&self, at: usize, value: &Arc<S::Value>) -> Option<Carried<S>> {
        if S::PRIVATE {
            return None;
        }
        if !self.source.hooked() {
            return Some(Carried::Live(value.clone()));
        }
        let mut payload = Vec::new();
        let (events, record) = (&self.request.cache.events, &self.items[at].record);
        let format = self.source.encode(events, record, value, &mut payload)?;
        Some(Carried::Encoded(Arc::new(Encoded { format, payload })))
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
            Some((_, Ok(_), Some(loaded))) => Landed::Found(loaded.carried.clone()),
            // the lease found it
            None => match &self.items[at].answer {
                Some(Outcome::Value { .. }) => {
                    self.items[at].found.clone().map_or(Landed::Lost, Landed::Found)
                }
                Some(Outcome::Absent { .. }) => Landed::Found(Carried::Absent),
                _ => Landed::Lost,
            },
        }
    }

    /// One call of the loader, within the hard budget.
    async fn fetch(&self, keys: Vec<S::Key>, writer: bool) -> Chunk<S> {
        let since = self.request.cache.tick();
        let load = self.sink.load(S::name());
        let nesting = Nesting::of_a_load(since, load, &self.source);
        let request = RequestCache::nested(self.request.clone(), Some(nesting.clone()));
        let budget = self.source.policy.source_budget;
        let deadline = later(Instant::now(), budget);
        if let Err(error) = self.turn(keys.len(), budget).await {
            let fetched = keys.iter().map(|_| Fetch::Failed(error.clone())).collect();
            return Chunk { fetched, cost: Duration::ZERO, storable: false };
        }
        let began = Instant::now();
        let under_way = self.source.pace.as_ref().map(Pace::begins);
        let cx = LoadContext::new(&request, writer, deadline, self.lane.fills());
        let (source, count) = (&self.source.source, keys.len());
        let loaded = guarded::<S, _, _, _>(Stage::Load, count, (budget, deadline), || {
            inside(load, source.load_many(&cx, &keys))
        });
        let done = match loaded.await {
            Ok(mut rows) => {
                let done = guarded::<S, _, _, _>(Stage::BeforeStore, count, (budget, deadline), || {
                    inside(load, source.before_store(&cx, &mut rows))
                });
                done.await.map(|()| rows)
            }
            Err(error) => Err(error),
        };
        let took = began.elapsed();
        if let Some(load) = under_way {
            load.ended(took);
        }
        let fetched = done.map(|rows| self.source.sort(&self.request.cache.events, &keys, rows));
        let statements = 1 + cx.facts.statements() as usize;
        self.meter.trip(Operation::Load, S::name(), count, statements, (began, took), fetched.is_err());
        telemetry::load(
            S::name(),
            &self.source.region.name,
            (count, statements),
            took,
            fetched.as_ref().err(),
        );
        let storable = !cx.facts.unstored() && !nesting.used_older.load(Ordering::Relaxed);
        let fetched = fetched.unwrap_or_else(|error| {
            let event = Event::LoadFailed { source: S::name(), keys: count, error: error.clone() };
            self.request.cache.events.tell(event);
            keys.iter().map(|_| Fetch::Failed(error.clone())).collect()
        });
        Chunk { fetched, cost: took, storable }
    }

    /// The hook on everything that enters the request.
    pub(super) async fn run_hook(&mut self) {
        let mut entering = Vec::new();
        for nth in 0..self.keys() {
            let reader = Reader::of(&mut self.asks, &mut self.items, nth);
            if reader.early {
                continue;
            }
            match reader.answer.take() {
                Some(answer @ (Outcome::Value { .. } | Outcome::Stale { .. })) => {
                    entering.push((nth, answer));
                }
                other => *reader.answer = other,
            }
        }
        let done = self.hook(&mut entering).await;
        for (nth, answer) in entering {
            *Reader::of(&mut self.asks, &mut self.items, nth).answer = Some(match &done {
                Ok(()) => answer,
                Err(error) => Outcome::Failed(error.clone()),
            });
        }
    }

    /// Runs the hook on these values, each of which nobody else has.
    pub(super) async fn hook(&self, entering: &mut Vec<(usize, Outcome<S::Value>)>) -> Result<(), Error> {
        let mut rows = Vec::with_capacity(entering.len());
        let mut shapes = Vec::with_capacity(entering.len());
        let mut broken = Vec::new();
        for (at, answer) in entering.drain(..) {
            let (value, tier, stale) = match answer {
                Outcome::Value { value, tier } => (value, tier, false),
                Outcome::Stale { value, tier } => (value, tier, true),
                Outcome::Absent { .. } | Outcome::Failed(_) => continue,
            };
            match guard(|| self.seen(at).key.clone()) {
                Ok(key) => {
                    shapes.push((at, tier, stale));
                    rows.push((key, value));
                }
                Err(why) => {
                    let_go(value);
                    broken.push((at, Outcome::Failed(Error::panicked(S::name(), OF_A_KEY, &why))));
                }
            }
        }
        if rows.is_empty() {
            entering.append(&mut broken);
            return Ok(());
        }
        let count = rows.len();
        let load = self.sink.load(S::name());
        let nesting = Nesting::new(self.begun, load);
        let request = RequestCache::nested(self.request.clone(), Some(nesting));
        let budget = self.source.policy.source_budget;
        let deadline = later(Instant::now(), budget);
        let writer = self.lane == Lane::Written || self.request.wrote.load(Ordering::Relaxed);
        let cx = LoadContext::new(&request, writer, deadline, false);
        let mut fetched = Fetched::new(rows);
        let done = guarded::<S, _, _, _>(Stage::AfterFetch, count, (budget, deadline), || {
            inside(load, self.source.source.after_fetch(&cx, &mut fetched))
        });
        let done = done.await;
        self.source.learn_hooked(fetched.hooked);
        if let Err(error) = &done {
            let error = error.clone();
            self.request.cache.events.tell(Event::LoadFailed { source: S::name(), keys: count, error });
        }
        let rows = fetched.rows.into_iter().zip(shapes);
        entering.extend(
            rows.map(|((_, value), (at, tier, stale))| (at, Outcome::of(Known::Value(value), stale, tier))),
        );
        entering.append(&mut broken);
        done
    }
}

/// Other runtimes, each with what ends when nobody drives it any longer.
type Foreign = Vec<(tokio::runtime::Id, Shared<BoxFuture<'static, ()>>)>;

/// What became of waiting for the flight of another reader.
enum Arrival<T> {
    Landed(T),
    /// It has ended, and what it brought, if anything, is not for this reader (`R5`).
    NotForUs,
    TooSlow,
}

/// Waits for flights of other readers.
///
/// A flight on a runtime that nobody drives any longer is ended here, for all who wait for it.
async fn arrivals<K: Eq + Hash, T: Clone>(
    seats: Vec<(usize, Seat<T>, Late)>,
    begun: u64,
    too_long: impl Future<Output = ()> + Clone,
    foreign: &Foreign,
    flights: &Flights<K, T>,
) -> Vec<(usize, Arrival<T>)> {
    join_all(seats.into_iter().map(|(at, seat, late)| {
        let too_long = too_long.clone();
        let standstill = seat.home().and_then(|home| foreign.iter().find(|(id, _)| *id == home.id()));
        let standstill = OptionFuture::from(standstill.map(|(_, standstill)| standstill.clone()));
        async move {
            let arrival = tokio::select! {
                biased;
                landed = seat.arrival(begun, late) => landed.map_or(Arrival::NotForUs, Arrival::Landed),
                () = too_long => Arrival::TooSlow,
                Some(()) = standstill => {
                    flights.ground(&seat);
                    Arrival::NotForUs
                }
            };
            (at, arrival)
        }
    }))
    .await
}

/// What of a source is run within its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Load,
    BeforeStore,
    AfterFetch,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Load => "loading",
            Self::BeforeStore => "before_store of",
            Self::AfterFetch => "after_fetch of",
        }
    }
}

/// Runs the user's code within its budget; whatever becomes of it is an error that says so.
pub(super) async fn guarded<'a, S: Source, T, E, F>(
    step: Stage,
    count: usize,
    (budget, deadline): (Duration, Instant),
    work: impl FnOnce() -> F,
) -> Result<T, Error>
where
    E: Into<BoxError>,
    F: Future<Output = Result<T, E>> + Send + 'a,
{
    let (name, what, keys) = (S::name(), step.name(), counted(count, "key"));
    match timeout_at(deadline, Guarded::new(work)).await {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(cause))) => Err(failed_by::<S, _>(&format!("{what} {keys}"), cause)),
        Ok(Err(why)) if step == Stage::Load => {
            Err(Error::panic(format!("source {name}: the loader panicked while loading {keys}: {why}")))
        }
        Ok(Err(why)) => Err(Error::panic(format!("source {name}: {what} {keys} panicked: {why}"))),
        Err(_) => Err(Error::timeout(format!(
            "source {name}: {what} {keys} took longer than the budget of {}",
            Shown(budget)
        ))),
    }
}

/// An error of the user's, as the cause of one of ours. To make and to show it is the user's code as well.
pub(super) fn failed_by<S: Source, E: Into<BoxError>>(what: &str, cause: E) -> Error {
    let shown = guard(|| {
        let cause = cause.into();
        let said = cause.to_string();
        (cause, said)
    });
    match shown {
        Ok((cause, said)) => Error::source(format!("source {}: {what} failed: {said}", S::name()), cause),
        Err(why) => Error::panicked(S::name(), &format!("{what} failed, and its error"), &why),
    }
}
