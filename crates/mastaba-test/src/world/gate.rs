//! Holds work back until a test lets it go on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

/// Holds back whatever comes to it, one permit each.
///
/// Dropping it leaves it as it is.
#[derive(Clone, Debug)]
pub struct Gate {
    semaphore: Arc<Semaphore>,
    arrived: watch::Sender<u64>,
    place: Arc<Place>,
}

/// Where a gate may stand.
pub(super) type Place = Mutex<Option<Gate>>;

impl Gate {
    /// Puts a closed gate there, in place of the one that stood there.
    pub(super) fn close(place: &Arc<Place>) -> Self {
        let gate = Self {
            semaphore: Arc::new(Semaphore::new(0)),
            arrived: watch::Sender::new(0),
            place: place.clone(),
        };
        *place.lock().unwrap() = Some(gate.clone());
        gate
    }

    /// A closed gate at a place of the test's own, which [waits](Gate::wait) at it.
    #[must_use]
    pub fn new() -> Self {
        Self::close(&Arc::default())
    }

    /// Comes to it, and waits for a permit.
    pub async fn wait(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        self.semaphore.acquire().await.unwrap().forget();
    }

    /// Passes through the gate that stands there, if one does.
    pub(super) async fn pass(place: &Place) {
        let gate = place.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.wait().await;
        }
    }

    /// Lets one through.
    pub fn open(&self) {
        self.semaphore.add_permits(1);
    }

    /// Lets all through, also those to come.
    pub fn open_for_good(&self) {
        *self.place.lock().unwrap() = None;
        self.semaphore.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Lets none to come be held back; those that wait here go on waiting.
    pub fn only_those_here(&self) {
        *self.place.lock().unwrap() = None;
    }

    /// Waits until so many have come to it.
    ///
    /// # Panics
    /// If they do not come within ten seconds.
    pub async fn arrived(&self, count: u64) {
        let mut arrived = self.arrived.subscribe();
        let all = arrived.wait_for(|arrived| *arrived >= count);
        let came = tokio::time::timeout(Duration::from_secs(10), all).await;
        assert!(came.is_ok(), "{count} were to come to the gate, and {} did", self.arrivals());
    }

    /// How many have come to it.
    pub fn arrivals(&self) -> u64 {
        *self.arrived.borrow()
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
