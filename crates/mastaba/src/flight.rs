//! Who is loading what, in this process: single flight per key, inside batches.
//!
//! A flight is one load of some keys under way. A read that misses joins the flights that carry
//! its keys, and makes one new flight for the rest.
//!
//! `R5`: a read may take the result of a flight if it began before the flight was sent. A later read may take
//! it only if no invalidation came between, which is known in one of two ways: the fill was confirmed as
//! stored, or, where every invalidation passes through this process, the flight was still in the table when
//! the read boarded (an [invalidation](Flights::void) takes flights out of it). Otherwise it loads again.
//! At most two loads of a key are under way at a time, however many invalidations arrive.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::task::{Poll, Waker};

use crate::guarded::{Panicked, each, guard, let_go};
use crate::runtime::Home;
use crate::sync::{Arc, Mutex, lock};
use crate::waits::Load;

/// The flights of one source.
pub(crate) struct Flights<K, T> {
    table: Mutex<Table<K, T>>,
}

type Table<K, T> = HashMap<K, Carriers<T>, foldhash::fast::RandomState>;

/// The flights that carry one key.
struct Carriers<T> {
    /// May be joined.
    open: Option<Seat<T>>,
    /// Voided by an invalidation, and still under way.
    voided: Vec<Seat<T>>,
}

/// A key in a flight.
pub(crate) struct Seat<T> {
    flight: Arc<Flight<T>>,
    at: usize,
}

impl<T> Clone for Seat<T> {
    fn clone(&self) -> Self {
        Self { flight: self.flight.clone(), at: self.at }
    }
}

struct Flight<T> {
    /// The runtime that it is on. Should nobody drive that any longer, it never lands.
    home: Option<Arc<Home>>,
    /// Who waits for whom goes by the load, whoever carries it.
    load: Arc<Load>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// The tick at which the load was sent.
    sent: Option<u64>,
    landed: Option<Vec<T>>,
    /// Per key: whether the fill was stored; and a digest of the stamps that it carries.
    stored: Option<(Vec<bool>, u64)>,
    /// Nothing more will happen.
    over: bool,
    wakers: Vec<Waker>,
}

/// How a key gets its load.
pub(crate) enum Boarding<T> {
    /// In the caller's own new flight.
    Own,
    /// In a flight that is under way.
    Joined(Seat<T>),
    /// Two loads of the key are under way and neither may be joined: board again after this one.
    Queued(Seat<T>),
    /// In none: the key itself panicked.
    Failed(Panicked),
}

/// When a read that began after a flight was sent may take its result (`R5`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// All invalidations pass through this process, so the flight being in the table was enough.
    Boarded,
    /// When the fill was stored, under the stamps that this reader has read as well: another process that
    /// clears a region, or invalidates a tag, voids no lease.
    Confirmed(u64),
    /// Never: the caller asked for a load of its own.
    Never,
}

impl<K: Eq + Hash + Clone, T: Clone> Flights<K, T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(HashMap::default()) })
    }

    /// Finds a flight for every key, or starts one. The departure carries those that are `Own`, in their order, for this
    /// load, on the runtime
    /// `home`.
    pub(crate) fn board(
        self: &Arc<Self>,
        keys: &[&K],
        load: &Arc<Load>,
        home: Option<&Arc<Home>>,
    ) -> (Vec<Boarding<T>>, Option<Departure<K, T>>) {
        let mine: Option<Departure<K, T>> = None;
        let boarded = Vec::with_capacity(keys.len());
        let mut at_work = (boarded, mine, lock(&self.table));
        each(
            &mut at_work,
            keys.len(),
            |(boarded, mine, table), nth| boarded.push(self.board_one(keys[nth], (load, home), mine, table)),
            |(boarded, _, table), _, why| {
                boarded.push(Boarding::Failed(why));
                table.retain(|_, carriers| carriers.open.is_some() || !carriers.voided.is_empty());
            },
        );
        let (boarded, mine, table) = at_work;
        drop(table); // before a departure, which takes the lock itself
        (boarded, mine)
    }

    fn board_one(
        self: &Arc<Self>,
        key: &K,
        (load, home): (&Arc<Load>, Option<&Arc<Home>>),
        mine: &mut Option<Departure<K, T>>,
        table: &mut Table<K, T>,
    ) -> Boarding<T> {
        let carriers = table.entry(key.clone()).or_insert(Carriers { open: None, voided: Vec::new() });
        if let Some(seat) = &carriers.open {
            return Boarding::Joined(seat.clone());
        }
        if let [seat, _, ..] = &carriers.voided[..] {
            return Boarding::Queued(seat.clone());
        }
        // the last that may panic: what follows is done as a whole
        let key = key.clone();
        let departure = mine.get_or_insert_with(|| Departure {
            flights: self.clone(),
            flight: Arc::new(Flight {
                home: home.cloned(),
                load: load.clone(),
                state: Mutex::new(State::new()),
            }),
            keys: Vec::new(),
        });
        carriers.open = Some(Seat { flight: departure.flight.clone(), at: departure.keys.len() });
        departure.keys.push(key);
        Boarding::Own
    }

    /// After an invalidation: no later read joins the flights that carry these keys. If one of them panics while it is
    /// looked up, none joins any flight.
    pub(crate) fn void<'k>(&self, keys: impl IntoIterator<Item = &'k K>) -> Result<(), Panicked>
    where
        K: 'k,
    {
        let voided = guard(|| {
            let mut table = lock(&self.table);
            for key in keys {
                if let Some(carriers) = table.get_mut(key) {
                    carriers.voided.extend(carriers.open.take());
                }
            }
        });
        if voided.is_err() {
            self.void_all();
        }
        voided
    }

    /// After an invalidation by tag or of a whole region: no later read joins any flight.
    pub(crate) fn void_all(&self) {
        for carriers in lock(&self.table).values_mut() {
            carriers.voided.extend(carriers.open.take());
        }
    }
}

impl<K: Eq + Hash, T> Flights<K, T> {
    /// Ends a flight that will not end by itself, because its runtime stands still: whoever joined it loads for himself,
    /// and whoever comes later finds it no more. Should the runtime go on after all, what it fills is still decided by
    /// the fence (`R1`).
    #[allow(dead_code, reason = "the schedules in sim/ have one runtime")]
    pub(crate) fn ground(&self, seat: &Seat<T>) {
        let other = |each: &Seat<T>| !Arc::ptr_eq(&each.flight, &seat.flight);
        remove(&mut lock(&self.table), other);
        seat.flight.update(|state| state.over = true);
    }

    /// Whether nothing is under way.
    #[allow(dead_code, reason = "for the schedules in sim/")]
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.table).is_empty()
    }
}

impl<T> State<T> {
    fn new() -> Self {
        Self { sent: None, landed: None, stored: None, over: false, wakers: Vec::new() }
    }
}

impl<T> Flight<T> {
    fn update(&self, change: impl FnOnce(&mut State<T>)) {
        let wakers = {
            let mut state = lock(&self.state);
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }
}

/// The flight that the caller is responsible for.
///
/// Dropping it ends the flight: before it has landed, whoever joined loads for himself.
pub(crate) struct Departure<K: Eq + Hash, T> {
    flights: Arc<Flights<K, T>>,
    flight: Arc<Flight<T>>,
    keys: Vec<K>,
}

impl<K: Eq + Hash + Clone, T: Clone> Departure<K, T> {
    /// Says that everything the load will see is read from now on. `tick` orders it against the reads.
    pub(crate) fn sent(&self, tick: u64) {
        self.flight.update(|state| state.sent = Some(tick));
    }

    /// The results, in the order of the keys.
    pub(crate) fn land(&self, results: Vec<T>) {
        debug_assert_eq!(results.len(), self.keys.len());
        self.flight.update(|state| state.landed = Some(results));
    }

    /// Nobody joins any longer. To be called before a fill where another process may invalidate: that the fill was
    /// stored says nothing of an invalidation that came after it, and before a reader boarded (`R5`).
    pub(crate) fn close(&self) {
        self.leave();
    }

    /// Whether each was stored under the fence that was seen before the load, and the digest of the stamps
    /// that all of them carry.
    pub(crate) fn confirm(&self, stored: Vec<bool>, stamps: u64) {
        self.flight.update(|state| state.stored = Some((stored, stamps)));
    }
}

impl<K: Eq + Hash, T> Departure<K, T> {
    /// Takes the flight out of the table. It has to go: whoever met one that has ended would wait for it again and again.
    fn leave(&self) {
        let mut table = lock(&self.flights.table);
        let other = |seat: &Seat<T>| !Arc::ptr_eq(&seat.flight, &self.flight);
        let left = guard(|| {
            for key in &self.keys {
                if let Some(carriers) = table.get_mut(key)
                    && carriers.leave(other)
                {
                    table.remove(key);
                }
            }
        });
        if left.is_err() {
            // a key panicked while it was looked up
            remove(&mut table, other);
        }
    }
}

/// Keeps these seats alone. It walks through all of them, which asks nothing of the keys but to be dropped; even that may
/// panic, once for each.
fn remove<K, T>(table: &mut Table<K, T>, keeps: impl Fn(&Seat<T>) -> bool) {
    for _ in 0..=table.len() {
        if guard(|| table.retain(|_, carriers| !carriers.leave(&keeps))).is_ok() {
            break;
        }
    }
}

impl<T> Carriers<T> {
    /// Keeps these seats; whether none is left.
    fn leave(&mut self, keeps: impl Fn(&Seat<T>) -> bool) -> bool {
        self.open = self.open.take().filter(&keeps);
        self.voided.retain(keeps);
        self.open.is_none() && self.voided.is_empty()
    }
}

impl<K: Eq + Hash, T> Drop for Departure<K, T> {
    fn drop(&mut self) {
        self.leave();
        self.flight.update(|state| state.over = true);
        std::mem::take(&mut self.keys).into_iter().for_each(let_go);
    }
}

impl<T> Seat<T> {
    /// The runtime that the flight is on.
    #[allow(dead_code, reason = "the schedules in sim/ have one runtime")]
    pub(crate) fn home(&self) -> Option<&Arc<Home>> {
        self.flight.home.as_ref()
    }

    /// The load that carries the flight.
    #[allow(dead_code, reason = "in the schedules in sim/ no load reads")]
    pub(crate) fn load(&self) -> &Arc<Load> {
        &self.flight.load
    }
}

impl<T: Clone> Seat<T> {
    /// Waits for the flight, and gives its result if a read that began at `begun` may take it. `None`: load.
    pub(crate) async fn arrival(&self, begun: u64, late: Late) -> Option<T> {
        poll_fn(|cx| {
            let mut state = lock(&self.flight.state);
            let early = state.sent.is_some_and(|sent| begun < sent);
            if let Some(landed) = &state.landed {
                if early || late == Late::Boarded {
                    return Poll::Ready(Some(landed[self.at].clone()));
                }
                if let (Late::Confirmed(seen), Some((stored, stamps))) = (late, &state.stored)
                    && stored[self.at]
                    && seen == *stamps
                {
                    return Poll::Ready(Some(landed[self.at].clone()));
                }
            }
            // Not before the flight has left the table: who looks for a load again at once would find it there again.
            if state.over {
                return Poll::Ready(None);
            }
            if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
