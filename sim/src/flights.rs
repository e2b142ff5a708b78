//! Readers, writers and refreshes of a few keys, around the library's own flights.
//!
//! Every reader takes the steps of `read.rs` and `claim.rs` in their order: begin, recall, board, sent, lease,
//! load, land, take what others landed, fill, confirm. Every trip to a tier is an await point, at which it may
//! be dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::future::{join, join_all};
use shuttle::future::{block_on, spawn};
use shuttle::rand::{Rng, thread_rng};

use crate::flight::{Boarding, Departure, Flights, Late, Seat};
use crate::steps::{cut_after, trip};
use crate::sync::{Mutex, lock};
use crate::waits;

/// What is modelled.
#[derive(Clone, Copy, Debug)]
pub struct FlightScene {
    /// A shared tier stands in between. Without one, every invalidation passes through the one process, and a
    /// flight may be joined by whoever finds it in the table.
    pub shared: bool,
    /// Processes that read and write, each with its own flights. More than one need a shared tier.
    pub processes: usize,
    /// Readers that take part in loads.
    pub readers: usize,
    /// Readers that insist on a load of their own, and store what they find.
    pub refreshes: usize,
    /// Writes of one key each; the first is of the key that is mostly read.
    pub writers: usize,
    /// Some readers are dropped at some await point, and some loads bring nothing that can be shared.
    pub faults: bool,
    /// A rule that is broken on purpose.
    pub broken: Option<FlightRule>,
}

/// What a [`FlightScene`] can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlightRule {
    /// `R5`: a late reader takes the result only if its fill is confirmed.
    LateJoinersWaitForTheFill,
    /// `R5`: an invalidation takes flights out of the table before it is acknowledged.
    InvalidationsVoidFlights,
    /// `R5`: nobody boards a flight whose fill was sent, where another process may invalidate.
    FlightsCloseBeforeTheFill,
    /// `R5`: a flight is sent before it loads.
    SentComesBeforeTheLoad,
    /// `R1`: a fill is a compare-and-set on the fence that the miss saw.
    FillsCompareFences,
    /// `R4`: the load comes after the lease.
    LeasesComeBeforeTheLoad,
}

const KEYS: usize = 2;
const MOST_READS: usize = 3;
type Version = u64;
type Fence = u64;

/// What a flight brings: `None` cannot be shared, and whoever joined loads alone.
type Brought = Option<Version>;

struct World {
    scene: FlightScene,
    /// The current version of every key.
    database: Vec<shuttle::sync::atomic::AtomicU64>,
    shared: Mutex<Vec<Record>>,
    fences: AtomicU64,
    processes: Vec<Process>,
    /// The newest acknowledged version of every key. Not a part of what is modelled, so no scheduling point.
    acknowledged: Vec<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Nothing,
    Lease(Fence),
    Value(Version, Fence),
}

struct Process {
    flights: crate::sync::Arc<Flights<usize, Brought>>,
    ticks: shuttle::sync::atomic::AtomicU64,
    /// Loads under way that others may join, per key.
    loading: Vec<AtomicUsize>,
}

impl Process {
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// Runs a scene once, under the schedule that shuttle has chosen.
///
/// # Panics
/// If a read that began after an acknowledged write returns an older version (`I1`), if more than two loads
/// of a key are under way in one process, if a value that is not the current one stays behind (`I3`), or a
/// flight in the table.
pub fn play(scene: FlightScene) {
    let world = Arc::new(World::new(scene));
    let mut rng = thread_rng();
    let mut tasks = Vec::new();
    for nth in 0..scene.readers + scene.refreshes {
        let reader = Reader {
            world: world.clone(),
            process: rng.gen_range(0..scene.processes),
            late: world.late(nth >= scene.readers),
        };
        let reads = rng.gen_range(1..=MOST_READS);
        tasks.push(spawn(async move {
            for _ in 0..reads {
                let faulty = scene.faults && thread_rng().gen_range(0..3) == 0;
                let dropped = faulty.then(|| thread_rng().gen_range(0..8));
                cut_after(dropped, reader.read(some_keys())).await;
            }
        }));
    }
    for nth in 0..scene.writers {
        let (world, process) = (world.clone(), rng.gen_range(0..scene.processes));
        let key = if nth == 0 { 0 } else { rng.gen_range(0..KEYS) };
        tasks.push(spawn(async move { world.write(process, key).await }));
    }
    block_on(async {
        for task in tasks {
            task.await.expect("no task is aborted");
        }
    });
    world.is_quiet();
}

/// What a read asks for: mostly the key that is always written.
fn some_keys() -> Vec<usize> {
    match thread_rng().gen_range(0..6) {
        0 => vec![1],
        1 => vec![1, 0],
        2 => vec![0, 1],
        _ => vec![0],
    }
}

impl World {
    fn new(scene: FlightScene) -> Self {
        let process = |_| Process {
            flights: Flights::new(),
            ticks: shuttle::sync::atomic::AtomicU64::new(0),
            loading: (0..KEYS).map(|_| AtomicUsize::new(0)).collect(),
        };
        Self {
            scene,
            database: (0..KEYS).map(|_| shuttle::sync::atomic::AtomicU64::new(0)).collect(),
            shared: Mutex::new(vec![Record::Nothing; KEYS]),
            fences: AtomicU64::new(0),
            processes: (0..scene.processes).map(process).collect(),
            acknowledged: (0..KEYS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn late(&self, refresh: bool) -> Late {
        if refresh {
            Late::Never
        } else if !self.scene.shared || self.breaks(FlightRule::LateJoinersWaitForTheFill) {
            Late::Boarded
        } else {
            Late::Confirmed(0)
        }
    }

    fn breaks(&self, rule: FlightRule) -> bool {
        self.scene.broken == Some(rule)
    }

    /// A fence that was never seen before, as random ones are (`R2`).
    fn fence(&self) -> Fence {
        self.fences.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Commits, invalidates the shared tier, then the flights of its own process, then returns.
    async fn write(&self, process: usize, key: usize) {
        let version = self.database[key].fetch_add(1, Ordering::AcqRel) + 1;
        trip().await;
        if self.scene.shared {
            lock(&self.shared)[key] = Record::Nothing;
            trip().await;
        }
        if !self.breaks(FlightRule::InvalidationsVoidFlights) {
            self.processes[process].flights.void([&key]).expect("numbers do not panic");
        }
        self.acknowledged[key].fetch_max(version, Ordering::Relaxed);
    }

    /// What has to hold when nothing moves any longer.
    fn is_quiet(&self) {
        for process in &self.processes {
            assert!(process.flights.is_empty(), "a flight was left in the table");
        }
        for (key, record) in lock(&self.shared).iter().enumerate() {
            if let Record::Value(version, _) = record {
                let current = self.database[key].load(Ordering::Acquire);
                assert_eq!(*version, current, "I3: the shared tier kept an old version of key {key}");
            }
        }
    }
}

/// How an unanswered key gets its value, as in `claim.rs`.
#[derive(Clone)]
enum Way {
    Own,
    Alone,
    Joined(Seat<Brought>),
    Queued(Seat<Brought>),
}

struct Reader {
    world: Arc<World>,
    process: usize,
    late: Late,
}

/// What a reader knows of one key.
struct Item {
    key: usize,
    way: Option<Way>,
    fence: Option<Fence>,
    answer: Option<Version>,
    /// What was loaded, to be stored.
    loaded: Option<Version>,
}

impl Reader {
    fn process(&self) -> &Process {
        &self.world.processes[self.process]
    }

    /// The read, and then, with nobody waiting, the fill.
    async fn read(&self, keys: Vec<usize>) {
        let world = &*self.world;
        let floor: HashMap<usize, Version> =
            keys.iter().map(|key| (*key, world.acknowledged[*key].load(Ordering::Relaxed))).collect();
        let begun = self.process().tick();
        let item = |key| Item { key, way: None, fence: None, answer: None, loaded: None };
        let mut items: Vec<Item> = keys.into_iter().map(item).collect();
        let mut departures = Vec::new();
        self.recall(&mut items).await;
        while items.iter().any(|item| item.answer.is_none()) {
            let departure = self.board(&mut items);
            if world.scene.shared && items.iter().any(Item::to_load) {
                self.lease(&mut items).await;
            }
            self.load(begun, &mut items, departure.as_ref()).await;
            departures.extend(departure);
        }
        for Item { key, answer, .. } in &items {
            let (version, floor) = (answer.expect("answered"), floor[key]);
            assert!(
                version >= floor,
                "I1: read version {version} of key {key} after {floor} was acknowledged"
            );
        }
        self.fill(&items, departures).await;
    }

    async fn recall(&self, items: &mut [Item]) {
        if !self.world.scene.shared {
            return;
        }
        trip().await;
        let shared = lock(&self.world.shared);
        for item in items {
            match shared[item.key] {
                Record::Nothing => {}
                Record::Lease(fence) => item.fence = Some(fence),
                // a refresh replaces what it finds under its own fence
                Record::Value(_, fence) if self.late == Late::Never => item.fence = Some(fence),
                Record::Value(version, _) => item.answer = Some(version),
            }
        }
    }

    /// Boards flights; one of its own is said to be sent before anything is asked for it.
    fn board(&self, items: &mut [Item]) -> Option<Leg> {
        let board: Vec<usize> = (0..items.len())
            .filter(|at| items[*at].answer.is_none() && !matches!(items[*at].way, Some(Way::Alone)))
            .collect();
        let keys: Vec<&usize> = board.iter().map(|at| &items[*at].key).collect();
        let (boarded, departure) = self.process().flights.board(&keys, &waits::Load::new("modelled"), None);
        let mut own = Vec::new();
        for (at, boarding) in board.into_iter().zip(boarded) {
            items[at].way = Some(match boarding {
                Boarding::Own => {
                    own.push(at);
                    Way::Own
                }
                Boarding::Joined(seat) => Way::Joined(seat),
                Boarding::Queued(seat) => Way::Queued(seat),
                Boarding::Failed(why) => unreachable!("numbers do not panic: {why}"),
            });
        }
        let departure = departure?;
        if !self.world.breaks(FlightRule::SentComesBeforeTheLoad) {
            departure.sent(self.process().tick());
        }
        let load = Load::of(self.world.clone(), self.process, own.iter().map(|at| items[*at].key).collect());
        Some(Leg { departure, own, load })
    }

    /// Who is first leases; who finds a lease loads under the same fence (`R3`); a value is an answer.
    async fn lease(&self, items: &mut [Item]) {
        if self.world.breaks(FlightRule::LeasesComeBeforeTheLoad) {
            return;
        }
        trip().await;
        let mut shared = lock(&self.world.shared);
        for item in items.iter_mut().filter(|item| item.to_load() && item.fence.is_none()) {
            match shared[item.key] {
                Record::Nothing => {
                    let fence = self.world.fence();
                    shared[item.key] = Record::Lease(fence);
                    item.fence = Some(fence);
                }
                Record::Lease(fence) => item.fence = Some(fence),
                Record::Value(version, _) => item.answer = Some(version),
            }
        }
    }

    /// Loads what is ours and waits for what others load, at the same time.
    async fn load(&self, begun: u64, items: &mut [Item], leg: Option<&Leg>) {
        let mut seats = Vec::new();
        for (at, item) in items.iter().enumerate().filter(|(_, item)| item.answer.is_none()) {
            match &item.way {
                Some(Way::Joined(seat)) => seats.push((at, seat.clone(), self.late)),
                Some(Way::Queued(seat)) => seats.push((at, seat.clone(), Late::Never)),
                _ => {}
            }
        }
        let arrivals =
            join_all(seats.into_iter().map(async |(at, seat, late)| (at, seat.arrival(begun, late).await)));
        let own: Vec<(usize, usize)> = items
            .iter()
            .enumerate()
            .filter(|(_, item)| item.to_load() && item.answer.is_none())
            .map(|(at, item)| (at, item.key))
            .collect();
        let answers: HashMap<usize, Version> =
            items.iter().enumerate().filter_map(|(at, item)| Some((at, item.answer?))).collect();
        let loads = self.load_own(&own, leg, &answers);
        let (loaded, arrived) = join(loads, arrivals).await;
        for (at, brought) in arrived {
            match brought {
                Some(Some(version)) => items[at].answer = Some(version),
                Some(None) => items[at].way = Some(Way::Alone),
                None => items[at].way = None,
            }
        }
        for (at, version, sharable) in loaded {
            items[at].answer = Some(version);
            items[at].loaded = sharable.then_some(version);
        }
        if self.world.breaks(FlightRule::LeasesComeBeforeTheLoad) {
            self.lease_late(items);
        }
    }

    /// What no reader may do: fences that say nothing about the time of the load.
    fn lease_late(&self, items: &mut [Item]) {
        let mut shared = lock(&self.world.shared);
        for item in items.iter_mut().filter(|item| item.loaded.is_some() && item.fence.is_none()) {
            if shared[item.key] == Record::Nothing {
                let fence = self.world.fence();
                shared[item.key] = Record::Lease(fence);
                item.fence = Some(fence);
            }
        }
    }

    /// One call of the loader, and the flight lands.
    async fn load_own(
        &self,
        own: &[(usize, usize)],
        leg: Option<&Leg>,
        answers: &HashMap<usize, Version>,
    ) -> Vec<(usize, Version, bool)> {
        let mut loaded = Vec::new();
        if !own.is_empty() {
            trip().await;
            let sharable = !(self.world.scene.faults && thread_rng().gen_range(0..6) == 0);
            for (at, key) in own {
                loaded.push((*at, self.world.database[*key].load(Ordering::Acquire), sharable));
            }
            trip().await;
        }
        if let Some(leg) = leg {
            if self.world.breaks(FlightRule::SentComesBeforeTheLoad) {
                leg.departure.sent(self.process().tick());
            }
            let brought = |at: &usize| {
                let of = loaded.iter().find(|(of, ..)| of == at);
                match of {
                    Some((_, version, sharable)) => sharable.then_some(*version),
                    None => answers.get(at).copied(),
                }
            };
            leg.load.is_over();
            leg.departure.land(leg.own.iter().map(brought).collect());
        }
        loaded
    }

    /// Stores under the fences that were seen before the load (`R1`), and tells who joined.
    async fn fill(&self, items: &[Item], mut departures: Vec<Leg>) {
        if self.world.scene.shared && !self.world.breaks(FlightRule::FlightsCloseBeforeTheFill) {
            departures.iter_mut().for_each(|leg| leg.departure.close());
        }
        let mut stored = vec![!self.world.scene.shared; items.len()];
        if self.world.scene.shared && items.iter().any(|item| item.loaded.is_some()) {
            trip().await;
            self.store(items, &mut stored);
            trip().await;
        }
        for Leg { departure, own, .. } in departures {
            departure.confirm(own.iter().map(|at| stored[*at]).collect(), 0);
        }
    }

    fn store(&self, items: &[Item], stored: &mut [bool]) {
        let mut shared = lock(&self.world.shared);
        for (item, stored) in items.iter().zip(stored) {
            let (Some(version), Some(fence), false) =
                (item.loaded, item.fence, matches!(item.way, Some(Way::Alone)))
            else {
                continue;
            };
            let record = &mut shared[item.key];
            let same = matches!(record, Record::Lease(of) | Record::Value(_, of) if *of == fence);
            if same || self.world.breaks(FlightRule::FillsCompareFences) {
                *record = Record::Value(version, self.world.fence());
                *stored = true;
            }
        }
    }
}

impl Item {
    fn to_load(&self) -> bool {
        self.answer.is_none() && matches!(self.way, Some(Way::Own | Way::Alone))
    }
}

/// A flight of our own, and the items that it carries.
struct Leg {
    // before the departure, so that a load that was dropped is not counted beside its successor
    load: Load,
    departure: Departure<usize, Brought>,
    own: Vec<usize>,
}

/// Counts the loads of a key that are under way in a process, which are never more than two (`R5`).
struct Load {
    world: Arc<World>,
    process: usize,
    keys: Vec<usize>,
    over: std::sync::atomic::AtomicBool,
}

impl Load {
    fn of(world: Arc<World>, process: usize, keys: Vec<usize>) -> Self {
        for key in &keys {
            let others = world.processes[process].loading[*key].fetch_add(1, Ordering::Relaxed);
            assert!(others < 2, "R5: a third load of key {key}");
        }
        Self { world, process, keys, over: false.into() }
    }

    fn is_over(&self) {
        if !self.over.swap(true, Ordering::Relaxed) {
            for key in &self.keys {
                self.world.processes[self.process].loading[*key].fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over();
    }
}
