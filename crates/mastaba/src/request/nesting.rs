//! Loads that read through the cache: through the request that they load for, or through one of their own.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;
use crate::event::Events;
use crate::registry::{AnySource, Registered};
use crate::source::Source;
use crate::waits::{Endless, Load};

/// A load that reads through the request itself.
pub(crate) struct Nesting {
    /// The tick at which the load was sent: what is older taints it (`R6`).
    pub(crate) since: u64,
    pub(crate) used_older: AtomicBool,
    /// The load that reads.
    pub(crate) load: Arc<Load>,
    /// Its source, where what it makes is shared with other requests.
    shared: Option<Arc<dyn AnySource>>,
}

impl Nesting {
    /// A hook on what enters a request, or a load that is stored nowhere.
    pub(crate) fn new(since: u64, load: &Arc<Load>) -> Arc<Self> {
        Arc::new(Self { since, used_older: AtomicBool::new(false), load: load.clone(), shared: None })
    }

    /// A load whose rows others may get as well, unless its source is [private](Source::PRIVATE).
    pub(crate) fn of_a_load<S: Source>(
        since: u64,
        load: &Arc<Load>,
        source: &Arc<Registered<S>>,
    ) -> Arc<Self> {
        let shared = (!S::PRIVATE).then(|| source.clone() as Arc<dyn AnySource>);
        Arc::new(Self { since, used_older: AtomicBool::new(false), load: load.clone(), shared })
    }

    /// The load reads something that another request may have otherwise.
    pub(super) fn depends_on(&self, events: &Events, what: impl FnOnce() -> String) {
        if cfg!(debug_assertions)
            && let Some(source) = &self.shared
        {
            source.say_not_private(events, what());
        }
    }

    /// Notes the age of something that the load read.
    pub(super) fn saw(&self, begun: u64, stale: bool) {
        if begun < self.since || stale {
            self.used_older.store(true, Ordering::Relaxed);
        }
    }
}

tokio::task_local! {
    /// The load whose loader or hook runs in this task just now.
    static INSIDE: Arc<Load>;
}

/// Runs a loader or a hook, so that whatever it reads, through whichever request, is known to be read by this load.
///
/// What it spawns is not known by this; a clone of `LoadContext::request` knows it in any task.
pub(crate) fn inside<F: Future>(load: &Arc<Load>, work: F) -> impl Future<Output = F::Output> {
    INSIDE.scope(load.clone(), work)
}

/// The load whose loader or hook polls this.
pub(super) fn current() -> Option<Arc<Load>> {
    INSIDE.try_with(Arc::clone).ok()
}

/// The error of a loader or a hook that would never end.
pub(crate) fn endless(load: &Load, asked: &str, why: Endless) -> Error {
    let source = load.source;
    Error::usage(match why {
        Endless::Circle => format!(
            "source {source}: its loader or hook reads from source {asked} a key whose load waits for this very load; \
             it would wait for ever"
        ),
        Endless::TooDeep => format!(
            "source {source}: its loader or hook reads from source {asked}, and so many loads wait for each other by \
             now that this would never end"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_seen_while_its_waits_live() {
        let [a, b, c] = ["a", "b", "c"].map(Load::new);
        let ab = a.wait_for(&b).ok().unwrap();
        let bc = b.wait_for(&c).ok().unwrap();
        assert_eq!(c.wait_for(&a).err(), Some(Endless::Circle));
        assert_eq!(a.wait_for(&a).err(), Some(Endless::Circle));
        assert!(a.leads_to(&c) && !c.leads_to(&a), "what was refused is not kept");
        drop(bc);
        assert!(c.wait_for(&a).is_ok());
        drop(ab);
        assert!(
            [a, b, c].iter().all(|load| Arc::strong_count(load) == 1),
            "what has ended keeps nothing alive"
        );
    }

    #[test]
    fn two_waits_for_one_load_end_one_by_one() {
        let [a, b] = ["a", "b"].map(Load::new);
        let (one, two) = (a.wait_for(&b).ok().unwrap(), a.wait_for(&b).ok().unwrap());
        drop(one);
        assert!(b.wait_for(&a).is_err());
        drop(two);
        assert!(b.wait_for(&a).is_ok());
    }
}
