//! A shared tier that writes down its trips.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mastaba::Fault;
use mastaba::shared::{
    Abilities, End, Ended, Fill, Filled, Hold, Lease, Leases, Listener, Reach, Shared, Stamp,
};

use super::gate::{Gate, Place};

/// A shared tier that writes down its trips, and fails when a test says so.
///
/// It can also pass for a server that other processes write to: its reach is then [`Reach::Processes`].
#[derive(Clone)]
pub struct Watched<B, const PROCESSES: bool = false> {
    inner: B,
    trips: Arc<Mutex<Vec<String>>>,
    control: Arc<Control>,
}

/// What a [`Watched`] does to the operations of its tier.
#[derive(Debug, Default)]
pub struct Control {
    down: Mutex<Vec<&'static str>>,
    refused: Mutex<Vec<&'static str>>,
    slow: Mutex<Duration>,
    before: Places,
    after: Places,
}

type Places = Mutex<HashMap<&'static str, Arc<Place>>>;

fn place(places: &Places, operation: &'static str) -> Arc<Place> {
    places.lock().unwrap().entry(operation).or_default().clone()
}

impl Control {
    /// These operations fail from now on: `read`, `lease`, `fill`, `invalidate`, `hold`, `end`.
    pub fn down(&self, operations: &[&'static str]) {
        *self.down.lock().unwrap() = operations.to_vec();
    }

    /// These operations are answered with a refusal from now on, as by a store that is full.
    pub fn refuse(&self, operations: &[&'static str]) {
        *self.refused.lock().unwrap() = operations.to_vec();
    }

    /// From now on this operation waits for a permit before it is done.
    pub fn before(&self, operation: &'static str) -> Gate {
        Gate::close(&place(&self.before, operation))
    }

    /// From now on this operation waits for a permit between being done and answering.
    pub fn after(&self, operation: &'static str) -> Gate {
        Gate::close(&place(&self.after, operation))
    }

    /// Every operation takes this long from now on.
    pub fn slow(&self, takes: Duration) {
        *self.slow.lock().unwrap() = takes;
    }
}

impl<B, const PROCESSES: bool> Watched<B, PROCESSES> {
    /// Watches a tier.
    pub fn new(inner: B, trips: Arc<Mutex<Vec<String>>>) -> Self {
        Self { inner, trips, control: Arc::default() }
    }

    /// To make it fail.
    pub fn control(&self) -> Arc<Control> {
        self.control.clone()
    }

    async fn pass<'k, T>(
        &self,
        operation: &'static str,
        keys: impl Iterator<Item = &'k Bytes>,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let keys: Vec<_> = keys.filter_map(|key| text(operation, key)).collect();
        self.trips.lock().unwrap().push(format!("shared {operation} [{}]", keys.join(", ")));
        let slow = *self.control.slow.lock().unwrap();
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        Gate::pass(&place(&self.control.before, operation)).await;
        if self.control.down.lock().unwrap().contains(&operation) {
            return Err(Fault::new(mastaba::FaultKind::Down, "unplugged by the test"));
        }
        if self.control.refused.lock().unwrap().contains(&operation) {
            return Err(Fault::new(mastaba::FaultKind::Refused, "refused by the test"));
        }
        let done = work.await;
        Gate::pass(&place(&self.control.after, operation)).await;
        done
    }
}

/// Of a key, what its source writes; of the stamp of a tag `#tag`. The stamps of regions are shown only where
/// they are renewed: they travel with everything.
fn text(operation: &str, key: &Bytes) -> Option<String> {
    let key = String::from_utf8_lossy(key).into_owned();
    let mut parts = key.splitn(4, ':').skip(2);
    let (source, key) = (parts.next()?.to_owned(), parts.next());
    match key {
        Some(key) => Some(key.to_owned()),
        None => (source.starts_with('#') || operation == "invalidate").then_some(source),
    }
}

impl<B: Shared, const PROCESSES: bool> Shared for Watched<B, PROCESSES> {
    const ABILITIES: Abilities =
        Abilities { reach: if PROCESSES { Reach::Processes } else { Reach::Process }, ..B::ABILITIES };

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        self.pass("read", keys.iter(), self.inner.read(keys)).await
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        self.pass(
            "lease",
            leases.iter().map(|it| &it.key).chain(stamps.iter().map(|it| &it.key)),
            self.inner.lease(leases, stamps),
        )
        .await
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        self.pass("fill", fills.iter().map(|it| &it.key), self.inner.fill(fills)).await
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        self.pass(
            "invalidate",
            stamps.iter().map(|it| &it.key).chain(keys),
            self.inner.invalidate(keys, stamps),
        )
        .await
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        self.pass("hold", holds.iter().map(|it| &it.key), self.inner.hold(holds)).await
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        self.pass("end", ends.iter().map(|it| &it.key), self.inner.end(ends)).await
    }

    fn stamps(&self, prefix: &[u8], record: &Bytes) -> bool {
        self.inner.stamps(prefix, record)
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }

    fn full_key(&self, key: &Bytes) -> Bytes {
        self.inner.full_key(key)
    }

    fn runs_here(&self) -> Result<(), Fault> {
        self.inner.runs_here()
    }

    fn now_ms(&self) -> u64 {
        self.inner.now_ms()
    }

    fn listen(&self, prefix: &[u8], listener: Arc<dyn Listener>) {
        self.inner.listen(prefix, listener);
    }

    async fn catch_up(&self) -> Result<(), Fault> {
        self.inner.catch_up().await
    }

    async fn close(&self) -> Result<(), Fault> {
        self.inner.close().await
    }
}
