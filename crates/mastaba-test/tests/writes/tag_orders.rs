//! Tags of a value, in every interleaving: the proof behind `docs/decisions/0005-tags-of-a-value.md` (R12).
//!
//! A reader takes the epoch with its lease, loads, reads the stamp of the tag that the row turned out to have, and the
//! epoch again, and stores if the epoch is the same. A writer commits, renews the epoch, renews the stamp, and is
//! acknowledged. The caches of these tests do all of that themselves, over a shared tier that carries out one stamp at
//! a time and waits before each for its turn; all orders of all turns are walked through, and of those of two readers
//! and a writer, which are too many, a sample.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::memory::Memory;
use mastaba::shared::{Abilities, Fill, Filled, Lease, Leases, Reach, Shared, Stamp};
use mastaba::{Cache, Fault, LoadContext, Region, Rows, Source, Tier};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

/// What is done to the library's own order of things.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Orders {
    /// Nothing.
    Kept,
    /// A fill reads the epoch before the stamp.
    EpochReadFirst,
    /// An invalidation renews the stamp before the epoch.
    StampRenewedFirst,
    /// A fill never sees that the epoch has changed.
    EpochHidden,
}

/// Lets one step happen at a time.
struct Turn {
    waits: AtomicBool,
    turns: Semaphore,
    free: AtomicBool,
}

impl Turn {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            waits: AtomicBool::new(false),
            turns: Semaphore::new(0),
            free: AtomicBool::new(true),
        })
    }

    /// Waits for the turn.
    async fn step(&self) {
        if !self.free.load(Ordering::SeqCst) {
            self.waits.store(true, Ordering::SeqCst);
            self.turns.acquire().await.unwrap().forget();
        }
    }

    /// Lets the next step happen.
    fn give(&self) {
        self.waits.store(false, Ordering::SeqCst);
        self.turns.add_permits(1);
    }
}

/// The shared tier as one process sees it.
struct Stepwise {
    inner: Memory,
    turn: Arc<Turn>,
    orders: Orders,
}

fn is_epoch(stamp: &Stamp) -> bool {
    stamp.key.ends_with(b"@tags")
}

fn is_generation(stamp: &Stamp) -> bool {
    stamp.key.ends_with(b"@generation")
}

/// Their places, with that of the epoch moved to the front or to the end.
fn places(stamps: &[Stamp], epoch_first: bool) -> Vec<usize> {
    let mut places: Vec<_> = (0..stamps.len()).collect();
    places.sort_by_key(|at| is_epoch(&stamps[*at]) != epoch_first);
    places
}

impl Shared for Stepwise {
    const ABILITIES: Abilities = Abilities { reach: Reach::Processes, ..Memory::ABILITIES };

    mastaba_test::pass_on!(inner: read, hold, end, incarnation);

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        let mut done = self.inner.lease(leases, &[]).await?;
        done.stamps = vec![0; stamps.len()];
        let order = match self.orders {
            Orders::EpochReadFirst => places(stamps, true),
            _ => (0..stamps.len()).collect(),
        };
        for at in order {
            let stamp = &stamps[at];
            if !is_generation(stamp) {
                self.turn.step().await; // clears take no part
            }
            let now = self.inner.lease(&[], std::slice::from_ref(stamp)).await?.stamps[0];
            done.stamps[at] = if self.orders == Orders::EpochHidden && is_epoch(stamp) { 7 } else { now };
        }
        Ok(done)
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        self.turn.step().await;
        self.inner.fill(fills).await
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        assert!(keys.is_empty(), "the writers know tags alone");
        let order = match self.orders {
            Orders::StampRenewedFirst => places(stamps, false),
            _ => (0..stamps.len()).collect(),
        };
        for at in order {
            self.turn.step().await;
            self.inner.invalidate(&[], std::slice::from_ref(&stamps[at])).await?;
        }
        Ok(())
    }
}

type Table = Arc<Mutex<BTreeMap<u64, u32>>>;

/// The version of a row, under a tag that only the row knows.
struct Versions(Table, Arc<Turn>);

impl Source for Versions {
    type Key = u64;
    type Value = u32;
    type Error = std::convert::Infallible;
    const NAME: &'static str = "versions";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Self::Error> {
        self.1.step().await;
        let table = self.0.lock().unwrap();
        Ok(ids.iter().map(|id| (*id, table.get(id).copied().unwrap_or(0))).collect())
    }

    fn tags(&self, id: &u64, _: &u32) -> Vec<String> {
        vec![format!("of-{id}")]
    }
}

/// A process that reads or writes, one step at a time.
struct Process {
    cache: Cache,
    turn: Arc<Turn>,
    table: Table,
}

impl Process {
    async fn new(memory: &Memory, table: &Table, orders: Orders) -> Self {
        let turn = Turn::new();
        let shared = Stepwise { inner: memory.clone(), turn: turn.clone(), orders };
        // a reader who meets the lease of another process loads beside it
        let long = Duration::from_secs(60);
        let region = Region::backend(shared).lease_patience(Duration::ZERO).early_refresh(0.0);
        let region = region.shared_budget(long).source_budget(long);
        let source = Versions(table.clone(), turn.clone());
        let cache = Cache::builder().region("objects", region).source(source).build().await.unwrap();
        Self { cache, turn, table: table.clone() }
    }

    fn read(&self, id: u64) -> JoinHandle<()> {
        let cache = self.cache.clone();
        tokio::spawn(async move {
            cache.request().get::<Versions>(id).await.unwrap();
            cache.idle().await; // its fill
        })
    }

    fn write(&self, id: u64) -> JoinHandle<()> {
        let (cache, turn, table) = (self.cache.clone(), self.turn.clone(), self.table.clone());
        tokio::spawn(async move {
            turn.step().await;
            *table.lock().unwrap().entry(id).or_default() += 1; // commit
            cache.region("objects").invalidate_tag(&format!("of-{id}")).await.unwrap();
        })
    }

    /// What a new request sees, and whether it had to load it.
    async fn sees(&self, id: u64) -> (u32, bool) {
        let found = self.cache.request().get_outcomes::<Versions>([id]).await;
        self.cache.idle().await;
        let loaded = found[&id].tier() == Some(Tier::Source);
        (**found[&id].value().unwrap().unwrap(), loaded)
    }
}

/// One order after the other: which of those who can go on did, each time.
struct Walk {
    /// The choice, and out of how many.
    taken: Vec<(usize, usize)>,
    at: usize,
    /// So many at random, and not all.
    sample: Option<(fastrand::Rng, u64)>,
}

impl Walk {
    fn all() -> Self {
        Self { taken: Vec::new(), at: 0, sample: None }
    }

    fn sample(orders: u64) -> Self {
        Self { sample: Some((fastrand::Rng::with_seed(5), orders)), ..Self::all() }
    }

    fn choose(&mut self, of: usize) -> usize {
        if let Some((random, _)) = &mut self.sample {
            return random.usize(0..of);
        }
        if self.at == self.taken.len() {
            self.taken.push((0, of));
        }
        let (choice, before) = self.taken[self.at];
        assert_eq!(before, of, "the same choices lead to the same place");
        self.at += 1;
        choice
    }

    /// Begins the next order, if there is one.
    fn next(&mut self) -> bool {
        if let Some((_, left)) = &mut self.sample {
            *left -= 1;
            return *left > 0;
        }
        self.at = 0;
        while let Some((choice, of)) = self.taken.pop() {
            if choice + 1 < of {
                self.taken.push((choice + 1, of));
                return true;
            }
        }
        false
    }
}

/// What came of all orders.
#[derive(Debug, Default)]
struct Ends {
    orders: u64,
    /// In which, with all writes acknowledged, an older version was served.
    stale: u64,
    /// In which something that was stored was served.
    stored: u64,
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// Walks the orders of these readers and writers.
async fn walk(readers: usize, writers: usize, orders: Orders, mut walk: Walk) -> Ends {
    let (memory, table) = (Memory::default(), Table::default());
    let mut processes = Vec::new();
    for _ in 0..readers + writers {
        processes.push(Process::new(&memory, &table, orders).await);
    }
    // from now on every reader knows that its values have tags of their own
    for process in &processes {
        process.sees(0).await;
    }
    let mut ends = Ends::default();
    loop {
        // a key and a tag that nothing is known of
        let id = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        processes.iter().for_each(|process| process.turn.free.store(false, Ordering::SeqCst));
        let tasks: Vec<_> = (0..processes.len())
            .map(|nth| if nth < readers { processes[nth].read(id) } else { processes[nth].write(id) })
            .collect();
        let mut begun = vec![false; tasks.len()];
        let rests = |nth: usize| tasks[nth].is_finished() || processes[nth].turn.waits.load(Ordering::SeqCst);
        loop {
            while !(0..tasks.len()).all(rests) {
                yield_now().await;
            }
            let can: Vec<_> = (0..tasks.len())
                .filter(|nth| !tasks[*nth].is_finished())
                // readers are alike, and so are writers: the second one does not begin before the first one
                .filter(|nth| [0, readers].contains(nth) || begun[*nth] || begun[*nth - 1])
                .collect();
            let chosen = match can.len() {
                0 => break,
                1 => can[0],
                several => can[walk.choose(several)],
            };
            begun[chosen] = true;
            processes[chosen].turn.give();
        }
        for (task, process) in tasks.into_iter().zip(&processes) {
            task.await.unwrap();
            process.turn.waits.store(false, Ordering::SeqCst);
            process.turn.free.store(true, Ordering::SeqCst);
        }
        let (seen, loaded) = processes[0].sees(id).await;
        let committed = table.lock().unwrap()[&id];
        assert_eq!(committed as usize, writers);
        ends.orders += 1;
        ends.stale += u64::from(seen != committed);
        ends.stored += u64::from(!loaded);
        if !walk.next() {
            return ends;
        }
    }
}

/// No order may leave what is stale; some leave what is current, and some nothing.
async fn is_right(readers: usize, writers: usize, orders: Walk, at_least: u64) {
    let ends = walk(readers, writers, Orders::Kept, orders).await;
    assert!(ends.orders >= at_least, "{ends:?}");
    assert_eq!(ends.stale, 0, "{ends:?}");
    assert!(0 < ends.stored && ends.stored < ends.orders, "{ends:?}");
}

/// That such an order is found where there is one.
async fn is_wrong(orders: Orders) {
    let ends = walk(1, 1, orders, Walk::all()).await;
    assert!(ends.stale > 0, "{ends:?}");
}

#[tokio::test]
async fn no_order_of_a_writer_and_a_reader_leaves_a_stale_entry() {
    is_right(1, 1, Walk::all(), 40).await;
}

#[tokio::test]
async fn no_order_of_two_writers_and_a_reader_leaves_a_stale_entry() {
    is_right(1, 2, Walk::all(), 1000).await;
}

#[tokio::test]
async fn no_order_of_a_writer_and_two_readers_leaves_a_stale_entry() {
    is_right(2, 1, Walk::sample(2000), 2000).await;
}

#[tokio::test]
async fn without_the_epoch_a_stale_entry_stays() {
    is_wrong(Orders::EpochHidden).await;
}

#[tokio::test]
async fn with_the_stamp_renewed_before_the_epoch_a_stale_entry_stays() {
    is_wrong(Orders::StampRenewedFirst).await;
}

#[tokio::test]
async fn with_the_epoch_read_before_the_stamp_a_stale_entry_stays() {
    is_wrong(Orders::EpochReadFirst).await;
}
