//! The task behind the readers that look out: see [`lookout`](crate::request::lookout).
//!
//! One for each runtime, and only while somebody sleeps there and for a little longer: a timer of its own for each request
//! would cost more than the polls that sleeping saves.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::Id;
use tokio::time::sleep;

use super::Home;
use crate::request::lookout::Lookout;
use crate::sync::lock;

/// How often it looks. What gathers for between one and two of these is given up by the lookout.
const EVERY: Duration = Duration::from_millis(2);
/// So often it finds nobody asleep before it ends.
const IDLE: u32 = 16;

/// What readers sleep in: a request.
pub(crate) trait WakeSleepers: Send + Sync {
    /// Has everybody who sleeps look again.
    fn wake_sleepers(&self);
}

/// What sleeps on one runtime.
#[derive(Default)]
pub(crate) struct Minder(Mutex<Minded>);

#[derive(Default)]
struct Minded {
    sleepers: Vec<Sleepers>,
    /// Its task is there.
    runs: bool,
}

/// Those who sleep in one gathering of one request.
struct Sleepers {
    /// Not kept alive by this.
    request: Weak<dyn WakeSleepers>,
    lookout: Arc<Lookout<Id>>,
    gathering: usize,
    /// They were found asleep before.
    seen: bool,
}

impl Home {
    /// Minds a gathering in which a reader of this runtime goes to sleep.
    pub(crate) fn mind(
        self: &Arc<Self>,
        request: &Arc<dyn WakeSleepers>,
        lookout: Arc<Lookout<Id>>,
        gathering: usize,
    ) {
        let sleepers = Sleepers { request: Arc::downgrade(request), lookout, gathering, seen: false };
        let mut minded = lock(&self.minder.0);
        minded.sleepers.push(sleepers);
        if !minded.runs {
            minded.runs = true;
            drop(minded);
            self.spawn_aside(look_after(Arc::downgrade(self)));
        }
    }
}

async fn look_after(home: Weak<Home>) {
    let mut idle = 0;
    loop {
        sleep(EVERY).await;
        let Some(home) = home.upgrade() else { return };
        let mut sleepers = std::mem::take(&mut lock(&home.minder.0).sleepers);
        sleepers.retain_mut(Sleepers::sleep_on);
        let mut minded = lock(&home.minder.0);
        minded.sleepers.append(&mut sleepers);
        idle = if minded.sleepers.is_empty() { idle + 1 } else { 0 };
        if idle > IDLE {
            minded.runs = false;
            return;
        }
    }
}

impl Sleepers {
    /// Whether they go on sleeping. Those who have slept for long are woken: who looks out for them may be kept by somebody
    /// who does not poll it.
    fn sleep_on(&mut self) -> bool {
        if self.lookout.sleeping() != Some(self.gathering) {
            return false; // on its way
        }
        if !std::mem::replace(&mut self.seen, true) {
            return true;
        }
        self.lookout.give_up(self.gathering);
        if let Some(request) = self.request.upgrade() {
            request.wake_sleepers();
        }
        false
    }
}
