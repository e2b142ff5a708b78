//! A broken cache, kept harmless: the breaker of a region, and the turns of the loads that an outage adds.
//!
//! A shared tier that is down must cost a read no time-out each, and must not send to the database at once what it
//! kept away from it. Budgets are per operation ([`RegionCore`](crate::region::RegionCore)); this is what one operation
//! leaves behind for the next.

mod breaker;
mod turns;

use std::time::Duration;

use tokio::time::Instant;

use self::breaker::Breaker;
pub(crate) use self::breaker::{Pass, Shift};
pub(crate) use self::turns::TooLate;
use self::turns::Turns;
use crate::error::{Fault, FaultKind};
use crate::policy::RegionPolicy;

/// What one region knows of the health of its shared tier.
pub(crate) struct Guard {
    breaker: Breaker,
    turns: Option<Turns>,
}

/// The turn of a load in an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// When it may begin.
    pub(crate) at: Instant,
    /// It is the first of this outage that has to wait.
    pub(crate) first: bool,
}

impl Guard {
    pub(crate) fn new(policy: &RegionPolicy) -> Self {
        Self {
            breaker: Breaker::new(policy.breaker_failures, policy.breaker_pause),
            turns: policy.outage_loads_per_second.map(Turns::new),
        }
    }

    /// Lets an operation travel. `None`: the tier is passed over.
    ///
    /// `always`: it travels in any case, as an invalidation does.
    pub(crate) fn admit(&self, always: bool) -> Option<Pass<'_>> {
        self.breaker.admit(always)
    }

    /// Whether the tier is known to be out.
    pub(crate) fn is_out(&self) -> bool {
        self.breaker.is_open()
    }

    /// The turn of a load whose keys nobody could look up, within so much time from now.
    pub(crate) fn turn(&self, within: Duration) -> Result<Turn, TooLate> {
        match &self.turns {
            Some(turns) => turns.take(Instant::now(), within),
            None => Ok(Turn { at: Instant::now(), first: false }),
        }
    }

    /// The outage is over: the next one is an event of its own.
    pub(crate) fn recovered(&self) {
        if let Some(turns) = &self.turns {
            turns.recovered();
        }
    }
}

/// The answer to an operation that did not travel.
pub(crate) fn passed_over() -> Fault {
    Fault::new(FaultKind::Down, "the shared tier was passed over: its breaker is open")
}
