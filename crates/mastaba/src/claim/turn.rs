//! Loads that an outage of the shared tier adds wait for their turn.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Claim;
use crate::error::Error;
use crate::event::Event;
use crate::limits::Shown;
use crate::report::counted;
use crate::source::Source;
use crate::telemetry;

impl<S: Source> Claim<S> {
    /// Waits for the turn of a load, if nobody could look its keys up. With the shared tier sound, or not asked, every
    /// load begins at once.
    ///
    /// # Errors
    /// At once, if the turn would come later than `within`.
    pub(super) async fn turn(&self, keys: usize, within: Duration) -> Result<(), Error> {
        if !self.outage {
            return Ok(());
        }
        let region = &self.source.region;
        let turn = region.guard.turn(within);
        if turn.as_ref().map_or_else(|late| late.first, |turn| turn.first) {
            self.request.cache.events.tell(Event::LoadsHeldBack {
                region: region.name.clone(),
                source: S::name(),
                per_second: region.policy.outage_loads_per_second.unwrap_or(0),
            });
        }
        match turn {
            Ok(turn) => {
                let now = Instant::now();
                if turn.at > now {
                    telemetry::held_back(S::name(), &region.name, turn.at - now, "waited");
                    sleep_until(turn.at).await;
                }
                Ok(())
            }
            Err(late) => {
                telemetry::held_back(S::name(), &region.name, late.wait, "refused");
                let keys = counted(keys, "key");
                Err(Error::timeout(format!(
                    "source {}: loading {keys} did not begin: the shared tier is out, and the turn of this load would \
                     come in {}, later than the budget of {}",
                    S::name(),
                    Shown(late.wait),
                    Shown(within),
                )))
            }
        }
    }
}
