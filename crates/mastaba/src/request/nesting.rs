//! Loads that read through the request that they load for.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// A load that reads through the request itself.
pub(crate) struct Nesting {
    /// The tick at which the load was sent: what is older taints it (`R6`).
    pub(crate) since: u64,
    pub(crate) used_older: AtomicBool,
    /// The part that is being loaded.
    pub(crate) part: u64,
    pub(crate) source: &'static str,
}

impl Nesting {
    /// Notes the age of something that the load read.
    pub(super) fn saw(&self, begun: u64, stale: bool) {
        if begun < self.since || stale {
            self.used_older.store(true, Ordering::Relaxed);
        }
    }
}

/// Notes that a load waits for a part, unless the part waits for that load.
pub(super) fn nest(
    waits: &mut Vec<(u64, u64)>,
    nesting: &Nesting,
    part: u64,
    asked: &str,
) -> Result<(), Error> {
    let mut reached = vec![part];
    let mut next = 0;
    while let Some(&from) = reached.get(next) {
        if from == nesting.part {
            return Err(Error::usage(format!(
                "source {}: its loader or hook reads from source {asked} a key whose load waits for this very \
                 load; it would wait for ever",
                nesting.source
            )));
        }
        reached.extend(waits.iter().filter(|(waiter, _)| *waiter == from).map(|(_, on)| on));
        next += 1;
        if next > waits.len() + 1 {
            break;
        }
    }
    if !waits.contains(&(nesting.part, part)) {
        waits.push((nesting.part, part));
    }
    Ok(())
}
