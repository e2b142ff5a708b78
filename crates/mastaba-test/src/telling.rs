//! A store in this process that several "processes" share, and that notifies each of what the others change.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mastaba::Fault;
use mastaba::shared::{
    Abilities, End, Ended, Fill, Filled, Hold, Lease, Leased, Leases, Listener, Reach, Shared, Stamp,
};

/// Passes for a server that several processes write to and that notifies each of them of what the others change: near works
/// before it, in all coherence modes, without a server.
///
/// The notification of a change comes before the call that made it returns. Whoever invalidates or places something gets
/// one itself, as
/// the contract of [`Shared::listen`] has it; of its own fills it does not. Clones are the same process;
/// [`process`](Self::process) makes another one.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::shared::{Listener, Shared, memory::Memory};
/// use mastaba_test::telling::Telling;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// #[derive(Default)]
/// struct Heard(AtomicUsize);
/// impl Listener for Heard {
///     fn changed(&self, _: &[u8]) { self.0.fetch_add(1, Ordering::SeqCst); }
///     fn gap(&self) {}
/// }
///
/// let (one, heard) = (Telling::new(Memory::default()), Arc::new(Heard::default()));
/// let two = one.process();
/// one.listen(b"books:", heard.clone());
/// two.invalidate(&["books:1".into(), "films:1".into()], &[]).await?;
/// assert_eq!(heard.0.load(Ordering::SeqCst), 1);
/// # Ok::<_, mastaba::Fault>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Telling<B> {
    store: B,
    ears: Arc<Mutex<Ears>>,
    process: usize,
}

#[derive(Default)]
struct Ears {
    processes: usize,
    listeners: Vec<(usize, Vec<u8>, Arc<dyn Listener>)>,
}

impl<B: Clone> Telling<B> {
    /// The first process over a store.
    pub fn new(store: B) -> Self {
        Self { store, ears: Arc::default(), process: 0 }
    }

    /// Another process over the same store.
    #[must_use]
    pub fn process(&self) -> Self {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        ears.processes += 1;
        Self { store: self.store.clone(), ears: self.ears.clone(), process: ears.processes }
    }
}

impl<B> Telling<B> {
    /// Notifies every process that it may have missed changes, as after a connection was lost.
    pub fn gap(&self) {
        let ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        ears.listeners.iter().for_each(|(.., listener)| listener.gap());
    }

    fn tell<'k>(&self, keys: impl Iterator<Item = &'k Bytes>, also_itself: bool) {
        let ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            for (process, prefix, listener) in &ears.listeners {
                if key.starts_with(prefix) && (also_itself || *process != self.process) {
                    listener.changed(key);
                }
            }
        }
    }
}

impl<B> fmt::Debug for Telling<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telling").field("process", &self.process).finish_non_exhaustive()
    }
}

impl<B: Shared> Shared for Telling<B> {
    const ABILITIES: Abilities = Abilities { reach: Reach::Processes, tells: true, ..B::ABILITIES };

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        self.store.read(keys).await
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        let leased = self.store.lease(leases, stamps).await?;
        let granted = leases.iter().zip(&leased.leased).filter(|(_, it)| **it == Leased::Granted);
        let set = stamps.iter().zip(&leased.stamps).filter(|(ask, number)| ask.value == **number);
        self.tell(granted.map(|(ask, _)| &ask.key).chain(set.map(|(ask, _)| &ask.key)), true);
        Ok(leased)
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        let filled = self.store.fill(fills).await?;
        let stored = fills.iter().zip(&filled).filter(|(_, it)| **it == Filled::Stored);
        self.tell(stored.map(|(fill, _)| &fill.key), false);
        Ok(filled)
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        let done = self.store.invalidate(keys, stamps).await;
        self.tell(stamps.iter().map(|stamp| &stamp.key).chain(keys), true);
        done
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        let done = self.store.hold(holds).await;
        self.tell(holds.iter().map(|hold| &hold.key), true);
        done
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        let done = self.store.end(ends).await;
        self.tell(ends.iter().map(|end| &end.key), true);
        done
    }

    fn stamps(&self, prefix: &[u8], record: &Bytes) -> bool {
        self.store.stamps(prefix, record)
    }

    fn incarnation(&self) -> u64 {
        self.store.incarnation()
    }

    fn now_ms(&self) -> u64 {
        self.store.now_ms()
    }

    fn listen(&self, prefix: &[u8], listener: Arc<dyn Listener>) {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        ears.listeners.push((self.process, prefix.to_vec(), listener));
    }

    async fn close(&self) -> Result<(), Fault> {
        self.store.close().await
    }
}
