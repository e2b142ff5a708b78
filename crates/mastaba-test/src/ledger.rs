//! A backend that writes down every trip.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mastaba::Fault;
use mastaba::shared::{Abilities, End, Ended, Fill, Filled, Hold, Lease, Leases, Shared, Stamp};

/// The lines of a ledger: one per trip, with its number of keys. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Vec<String>>>);

impl Ledger {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    pub fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }

    /// All lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All lines; the ledger is empty then.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Passes everything on, and writes a line such as `shared read 3` before each trip.
///
/// Of a lease the stamps are counted apart, where there are some: `shared lease 2, stamps 1`.
///
/// ```
/// use mastaba::shared::{Shared, memory::Memory};
/// use mastaba_test::ledger::{Ledger, Recorded};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let ledger = Ledger::new();
/// let store = Recorded::new(Memory::default(), ledger.clone());
/// store.read(&["a".into(), "b".into()]).await.unwrap();
/// store.invalidate(&["a".into()], &[]).await.unwrap();
/// assert_eq!(ledger.take(), ["shared read 2", "shared invalidate 1"]);
/// # });
/// ```
#[derive(Clone)]
pub struct Recorded<B> {
    inner: B,
    ledger: Ledger,
}

impl<B> Recorded<B> {
    /// Writes the trips to `inner` into `ledger`.
    pub fn new(inner: B, ledger: Ledger) -> Self {
        Self { inner, ledger }
    }

    fn trip(&self, operation: &str, keys: usize, stamps: usize) {
        let stamps = if stamps == 0 { String::new() } else { format!(", stamps {stamps}") };
        self.ledger.write(format!("shared {operation} {keys}{stamps}"));
    }
}

impl<B> fmt::Debug for Recorded<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

impl<B: Shared> Shared for Recorded<B> {
    const ABILITIES: Abilities = B::ABILITIES;

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        self.trip("read", keys.len(), 0);
        self.inner.read(keys).await
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        self.trip("lease", leases.len(), stamps.len());
        self.inner.lease(leases, stamps).await
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        self.trip("fill", fills.len(), 0);
        self.inner.fill(fills).await
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        self.trip("invalidate", keys.len(), stamps.len());
        self.inner.invalidate(keys, stamps).await
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        self.trip("hold", holds.len(), 0);
        self.inner.hold(holds).await
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        self.trip("end", ends.len(), 0);
        self.inner.end(ends).await
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

    async fn close(&self) -> Result<(), Fault> {
        self.inner.close().await
    }
}
