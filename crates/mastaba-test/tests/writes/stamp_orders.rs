//! The order of what a write does to a stamp and to its record, and what the store compares: a backend that does it in one of
//! the wrong orders, step by step, is caught by a schedule of the model (rows O3, O4, V2, V3, V4b, V6d, M1, M4). With the right
//! one the same schedules find nothing.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::memory::Memory;
use mastaba::shared::{Abilities, Fill, Filled, Lease, Over, Reach, Shared, stamps};
use mastaba::{Cache, Fault, LoadContext, Region, RequestCache, Rows, Source};
use mastaba_test::world::{Control, Gate, Watched};

const STAMPS: Bytes = Bytes::from_static(b"mastaba:objects@writes");

/// What is done to the keys of an invalidation, and how a fill compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Renews and removes, key by key.
    Right,
    /// Removes first (O3, V2).
    RemovedFirst,
    /// Renews all stamps, and then removes all keys (M1; M4 is the same with what is sent again).
    AllStampsFirst,
    /// Removes alone (O6, V4).
    NotRenewed,
    /// Renews twice with one number, the second time when another write has renewed it (V6d).
    SentTwice,
    /// Compares the stamp, and stores in a second step (O4, V3).
    ComparedBefore,
}

/// Memory whose stamps are renewed here, one step after the other.
#[derive(Clone)]
struct Torn {
    inner: Memory,
    order: Order,
    /// Between the two steps of an operation.
    between: Arc<Mutex<Option<Gate>>>,
    /// A renewal that is sent once more later.
    again: Arc<Mutex<Option<(Bytes, u64)>>>,
}

impl Torn {
    async fn pause(&self) {
        let gate = self.between.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.wait().await;
        }
    }

    async fn put(&self, key: &Bytes, record: Bytes) {
        self.inner.invalidate(std::slice::from_ref(key), &[]).await.unwrap();
        let lease = Lease { key: key.clone(), record, over: None, ttl: Duration::from_secs(600) };
        self.inner.lease(&[lease], &[]).await.unwrap();
    }

    async fn renew(&self, key: &Bytes, number: u64) {
        let record = self.inner.read(&[STAMPS]).await.unwrap().remove(0);
        if let Some(renewed) = record.and_then(|record| stamps::renewed(&record, key, number)) {
            self.put(&STAMPS, renewed).await;
        }
    }

    async fn remove(&self, key: &Bytes) {
        self.inner.invalidate(std::slice::from_ref(key), &[]).await.unwrap();
    }
}

impl Shared for Torn {
    const ABILITIES: Abilities = Abilities { reach: Reach::Processes, ..Memory::ABILITIES };

    mastaba_test::pass_on!(inner: read, hold, end, incarnation);

    /// The memory is not told: it would renew by itself.
    fn stamps(&self, _: &[u8], _: &Bytes) -> bool {
        true
    }

    async fn lease(
        &self,
        leases: &[Lease],
        asks: &[mastaba::shared::Stamp],
    ) -> Result<mastaba::shared::Leases, Fault> {
        if asks.iter().any(|ask| ask.key == STAMPS) {
            self.put(&STAMPS, stamps::record()).await;
        }
        let mut done = self
            .inner
            .lease(leases, &asks.iter().filter(|ask| ask.key != STAMPS).cloned().collect::<Vec<_>>())
            .await?;
        done.stamps.resize(asks.len(), 0); // that of the record is the last
        Ok(done)
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        let mut filled = Vec::new();
        for fill in fills {
            let seen = match &fill.over {
                Over::Unleased { stamp, .. } => *stamp,
                _ => 0,
            };
            let fill = if self.order == Order::ComparedBefore && seen != 0 {
                let record = self.inner.read(&[STAMPS]).await?.remove(0).unwrap_or_default();
                if stamps::of(&record, &fill.key) != Some(seen) {
                    filled.push(Filled::Refused);
                    continue;
                }
                self.pause().await;
                // what it compares now is what stands there now
                let record = self.inner.read(&[STAMPS]).await?.remove(0).unwrap_or_default();
                let stamp = stamps::of(&record, &fill.key).unwrap_or_default();
                Fill { over: Over::Unleased { stamps: STAMPS, stamp }, ..fill.clone() }
            } else {
                fill.clone()
            };
            filled.extend(self.inner.fill(&[fill]).await?);
        }
        Ok(filled)
    }

    async fn invalidate(&self, keys: &[Bytes], others: &[mastaba::shared::Stamp]) -> Result<(), Fault> {
        self.inner.invalidate(&[], others).await?;
        if self.order == Order::AllStampsFirst {
            for key in keys {
                self.renew(key, stamps::number()).await;
            }
            self.pause().await;
            for key in keys {
                self.remove(key).await;
            }
            return Ok(());
        }
        for key in keys {
            let number = stamps::number();
            match self.order {
                Order::RemovedFirst => {
                    self.remove(key).await;
                    self.pause().await;
                    self.renew(key, number).await;
                }
                Order::NotRenewed => self.remove(key).await,
                _ => {
                    self.renew(key, number).await;
                    if self.order == Order::SentTwice {
                        self.again.lock().unwrap().get_or_insert((key.clone(), number));
                    }
                    self.pause().await;
                    self.remove(key).await;
                }
            }
        }
        Ok(())
    }
}

/// A row with a version, and what is derived from it.
#[derive(Default)]
struct Table {
    version: Mutex<u32>,
    gate: Mutex<Option<Gate>>,
}

struct Inner(Arc<Table>);
struct Derived;

impl Source for Inner {
    type Key = u64;
    type Value = u32;
    type Error = Infallible;
    const NAME: &'static str = "inner";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
        let version = *self.0.version.lock().unwrap();
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.wait().await;
        }
        Ok(ids.iter().map(|id| (*id, version)).collect())
    }
}

impl Source for Derived {
    type Key = u64;
    type Value = u32;
    type Error = mastaba::Error;
    const NAME: &'static str = "derived";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, mastaba::Error> {
        let inner = cx.request().get_many::<Inner>(ids.iter().copied()).await?;
        Ok(inner.found().map(|(id, version)| (*id, **version)).collect())
    }
}

/// A reading and a writing process over a store with this order.
struct Stage {
    table: Arc<Table>,
    store: Torn,
    reader: Cache,
    reads: Arc<Control>,
    writer: Cache,
}

async fn process(store: &Torn, table: &Arc<Table>) -> (Cache, Arc<Control>) {
    let watched = Watched::<_, true>::new(store.clone(), Arc::default());
    let control = watched.control();
    let budget = Duration::from_secs(30);
    let region = Region::backend(watched)
        .jitter(0.0)
        .early_refresh(0.0)
        .shared_budget(budget)
        .fill_without_lease(true);
    let builder = Cache::builder().region("objects", region).source(Inner(table.clone())).source(Derived);
    (builder.build().await.unwrap(), control)
}

async fn loads(request: &RequestCache, key: u64) -> u32 {
    *request.get::<Inner>(key).await.unwrap().unwrap()
}

async fn derives(request: &RequestCache, key: u64) -> u32 {
    *request.get::<Derived>(key).await.unwrap().unwrap()
}

fn is_unleased(request: &RequestCache) -> bool {
    request.report().outcomes.iter().any(|outcomes| outcomes.unleased > 0)
}

impl Stage {
    async fn new(order: Order) -> Self {
        let (table, inner) = (Arc::new(Table::default()), Memory::default());
        let store = Torn { inner, order, between: Arc::default(), again: Arc::default() };
        let ((reader, reads), (writer, _)) = (process(&store, &table).await, process(&store, &table).await);
        reads.slow(Duration::from_millis(20)); // so that its loads are cheap
        for _ in 0..2 {
            loads(&reader.request(), 2).await;
            derives(&reader.request(), 2).await;
            reader.idle().await;
        }
        Self { table, store, reader, reads, writer }
    }

    /// From now on operations of the store stand still between their two steps.
    fn between(&self) -> Gate {
        let gate = Gate::new();
        *self.store.between.lock().unwrap() = Some(gate.clone());
        gate
    }

    fn go_on(&self, gate: &Gate) {
        *self.store.between.lock().unwrap() = None;
        gate.open_for_good();
    }

    fn commits(&self) {
        *self.table.version.lock().unwrap() += 1;
    }

    /// Whether every process sees what is committed.
    async fn is_sound(&self) -> bool {
        let committed = *self.table.version.lock().unwrap();
        self.reader.idle().await;
        let mut sound = true;
        for process in [&self.writer, &self.reader] {
            sound &= loads(&process.request(), 1).await == committed;
            sound &= derives(&process.request(), 1).await == committed;
            process.idle().await;
        }
        sound
    }

    /// A load without a lease that has read its row, and what lets it go on.
    async fn slow(&self) -> (RequestCache, tokio::task::JoinHandle<u32>, Gate) {
        let gate = Gate::new();
        *self.table.gate.lock().unwrap() = Some(gate.clone());
        let request = self.reader.request();
        let asks = request.clone();
        let get = tokio::spawn(async move { loads(&asks, 1).await });
        gate.arrived(1).await;
        *self.table.gate.lock().unwrap() = None;
        (request, get, gate)
    }

    async fn void(&self) {
        assert!(self.writer.request().invalidate::<Inner>([1]).await.unwrap().is_confirmed());
    }

    fn voids(&self, derived: bool) -> tokio::task::JoinHandle<bool> {
        let write = self.writer.request().write();
        tokio::spawn(async move {
            write.invalidate::<Inner>([1]).await.unwrap();
            if derived {
                write.invalidate::<Derived>([1]).await.unwrap();
            }
            write.published().await.unwrap().is_confirmed()
        })
    }
}

/// A fill comes between the two steps of an invalidation.
async fn a_fill_between_the_steps(order: Order) -> bool {
    let stage = Stage::new(order).await;
    let (request, slow, gate) = stage.slow().await;
    stage.commits();
    let between = stage.between();
    let voided = stage.voids(false);
    if order == Order::NotRenewed {
        voided.await.unwrap();
        gate.open_for_good();
        slow.await.unwrap();
    } else {
        between.arrived(1).await;
        gate.open_for_good();
        slow.await.unwrap();
        stage.reader.idle().await;
        stage.go_on(&between);
        assert!(voided.await.unwrap());
    }
    assert!(is_unleased(&request));
    stage.is_sound().await
}

/// An invalidation comes between the two steps of a fill.
async fn an_invalidation_between_compare_and_store(order: Order) -> bool {
    let stage = Stage::new(order).await;
    let (request, slow, gate) = stage.slow().await;
    let between = stage.between();
    gate.open_for_good();
    slow.await.unwrap();
    assert!(is_unleased(&request));
    if order == Order::ComparedBefore {
        between.arrived(1).await;
    } else {
        stage.reader.idle().await;
    }
    stage.commits();
    let fill = between.clone();
    *stage.store.between.lock().unwrap() = None;
    stage.void().await;
    fill.open_for_good();
    stage.is_sound().await
}

/// What is derived is loaded while the row that it is derived from is still there, after all stamps were renewed.
async fn a_derived_load_between_stamps_and_removals(order: Order) -> bool {
    let stage = Stage::new(order).await;
    assert_eq!(loads(&stage.reader.request(), 1).await, 0);
    stage.reader.idle().await;
    stage.commits();
    let between = stage.between();
    let voided = stage.voids(true);
    between.arrived(1).await;
    let fill = stage.reads.before("fill");
    let request = stage.reader.request();
    derives(&request, 1).await;
    assert!(is_unleased(&request), "{}", request.report());
    fill.arrived(1).await;
    stage.go_on(&between);
    assert!(voided.await.unwrap());
    fill.open_for_good();
    stage.is_sound().await
}

/// A renewal is sent once more by whoever carries it, after another write.
async fn a_renewal_that_comes_once_more(order: Order) -> bool {
    let stage = Stage::new(order).await;
    stage.commits();
    stage.void().await;
    let (request, slow, gate) = stage.slow().await;
    stage.commits();
    stage.void().await;
    let again = stage.store.again.lock().unwrap().take();
    if let Some((key, number)) = again {
        stage.store.renew(&key, number).await;
    }
    gate.open_for_good();
    slow.await.unwrap();
    assert!(is_unleased(&request));
    stage.is_sound().await
}

#[tokio::test]
async fn o3_v2_a_stamp_that_is_renewed_after_the_removal_is_caught() {
    assert!(a_fill_between_the_steps(Order::Right).await);
    assert!(
        !a_fill_between_the_steps(Order::RemovedFirst).await,
        "the schedule does not tell the orders apart"
    );
}

#[tokio::test]
async fn o6_v4_a_stamp_that_is_not_renewed_is_caught() {
    assert!(
        !a_fill_between_the_steps(Order::NotRenewed).await,
        "the schedule does not tell the orders apart"
    );
}

#[tokio::test]
async fn o4_v3_a_compare_that_is_not_one_step_with_the_store_is_caught() {
    assert!(an_invalidation_between_compare_and_store(Order::Right).await);
    let found = !an_invalidation_between_compare_and_store(Order::ComparedBefore).await;
    assert!(found, "the schedule does not tell the orders apart");
}

#[tokio::test]
async fn m1_m4_stamps_that_are_all_renewed_before_the_first_removal_are_caught() {
    assert!(a_derived_load_between_stamps_and_removals(Order::Right).await);
    let found = !a_derived_load_between_stamps_and_removals(Order::AllStampsFirst).await;
    assert!(found, "the schedule does not tell the orders apart");
}

#[tokio::test]
async fn v6d_a_number_that_is_sent_twice_is_caught() {
    assert!(a_renewal_that_comes_once_more(Order::Right).await);
    assert!(
        !a_renewal_that_comes_once_more(Order::SentTwice).await,
        "the schedule does not tell the orders apart"
    );
}

/// R19: the load is not sent before the read that carries the stamp was answered (rows O7, P10).
#[tokio::test]
async fn o7_p10_no_load_begins_before_its_read_is_answered() {
    let stage = Stage::new(Order::Right).await;
    let answers = stage.reads.after("read");
    let gate = Gate::new();
    *stage.table.gate.lock().unwrap() = Some(gate.clone());
    let request = stage.reader.request();
    let asks = request.clone();
    let get = tokio::spawn(async move { loads(&asks, 1).await });
    answers.arrived(1).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(gate.arrivals(), 0, "a load was sent before its read was answered");
    stage.commits();
    stage.void().await;
    answers.open_for_good();
    gate.open_for_good();
    assert_eq!(get.await.unwrap(), 1);
    assert!(is_unleased(&request));
    assert!(stage.is_sound().await);
}
