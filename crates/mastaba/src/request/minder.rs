//! The task behind the reader that looks out: see [`lookout`](super::lookout).

use std::sync::{Arc, Weak};

use tokio::runtime::Id;
use tokio::time::sleep;

use super::lookout::{Lookout, Minder};
use super::standby::LONGEST;
use super::state::RequestCore;

impl RequestCore {
    /// The minder of a reader that is about to sleep here, made if there is none. `None`: there can be none, and the
    /// reader must not sleep.
    pub(super) fn minder(self: &Arc<Self>) -> Option<usize> {
        let home = self.cache.home("a read that has to ask a tier").ok()?;
        match self.lookout.minder(home.id()) {
            Minder::Is(minder) => Some(minder),
            Minder::Elsewhere => None,
            Minder::Make(number) => {
                let (request, lookout) = (Arc::downgrade(self), self.lookout.clone());
                home.spawn_aside(Minding { number, request, lookout }.mind());
                Some(number)
            }
        }
    }
}

/// While it lives, nobody sleeps for ever. Dropped, by the end of its runtime, it wakes those who sleep.
struct Minding {
    number: usize,
    request: Weak<RequestCore>,
    lookout: Arc<Lookout<Id>>,
}

impl Minding {
    async fn mind(self) {
        let mut before = None;
        loop {
            sleep(LONGEST).await;
            let sleeping = self.lookout.sleeping();
            match sleeping {
                Some(gathering) if before == sleeping => self.wake(gathering),
                Some(_) => {}
                None if self.is_over() => return,
                None => {}
            }
            before = sleeping;
        }
    }

    /// What gathers has done so for long: who looks out may be kept by somebody who does not poll it.
    fn wake(&self, gathering: usize) {
        self.lookout.give_up(gathering);
        if let Some(request) = self.request.upgrade() {
            request.wake_sleepers();
        }
    }

    /// Whether nobody sleeps, or who does has another minder.
    fn is_over(&self) -> bool {
        self.lookout.ends(self.number);
        // somebody may have come to sleep just before
        self.lookout.sleeping().is_none() || !self.lookout.goes_on(self.number)
    }
}

impl Drop for Minding {
    fn drop(&mut self) {
        if !self.lookout.is_minded_by(self.number) {
            return; // it has ended
        }
        self.lookout.ends(self.number);
        if let Some(request) = self.request.upgrade() {
            request.wake_sleepers();
        }
    }
}
