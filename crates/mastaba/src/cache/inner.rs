//! What all clones of a cache share, and every request of it.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::event::Events;
use crate::region::RegionCore;
use crate::registry::{AnySource, Registered};
use crate::request::Stash;
use crate::runtime::{Home, Runtimes};
use crate::source::Source;

pub(crate) struct CacheCore {
    pub(super) sources: HashMap<TypeId, Arc<dyn AnySource>>,
    pub(super) names: Vec<&'static str>,
    pub(super) regions: BTreeMap<String, Arc<RegionCore>>,
    pub(crate) events: Arc<Events>,
    /// Orders the reads and the loads of this process.
    ticks: AtomicU64,
    /// Where everything goes on, also after its caller was answered.
    pub(crate) runtimes: Runtimes,
    /// Cancelled by [`Cache::close`](super::Cache::close).
    pub(super) closing: CancellationToken,
    /// What crates beside this one keep here.
    pub(super) stash: Stash,
}

impl CacheCore {
    pub(crate) fn new(
        sources: HashMap<TypeId, Arc<dyn AnySource>>,
        names: Vec<&'static str>,
        regions: BTreeMap<String, Arc<RegionCore>>,
        events: Arc<Events>,
    ) -> Self {
        Self {
            sources,
            names,
            regions,
            events,
            ticks: AtomicU64::new(0),
            runtimes: Runtimes::default(),
            closing: CancellationToken::new(),
            stash: Stash::default(),
        }
    }

    /// A new tick, later than all before.
    pub(crate) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The runtime of the caller, who wants `what`: its work is done there.
    ///
    /// # Errors
    /// Of usage: there is none, or it lacks what the cache or a backend needs.
    pub(crate) fn home(&self, what: &str) -> Result<Arc<Home>, Error> {
        let unfit = |region: &Arc<RegionCore>| {
            let fault = region.runs_here().err()?;
            Some(Error::usage(format!("region {}: {fault}", region.name)))
        };
        self.runtimes.here(what, || self.regions.values().find_map(unfit))
    }

    /// Whether the runtime of the caller was shut down: nothing that is given to it is run any longer.
    pub(crate) fn has_ended_here(&self) -> bool {
        self.home("a read").is_ok_and(|home| home.has_ended())
    }

    /// The latest tick.
    pub(crate) fn now(&self) -> u64 {
        self.ticks.load(Ordering::Acquire)
    }

    pub(crate) fn source<S: Source>(&self) -> Result<Arc<Registered<S>>, Error> {
        let source: Option<Arc<dyn Any + Send + Sync>> =
            self.sources.get(&TypeId::of::<S>()).map(|source| source.clone() as _);
        source.and_then(|source| source.downcast().ok()).ok_or_else(|| {
            let names = if self.names.is_empty() { "none".to_owned() } else { self.names.join(", ") };
            Error::usage(format!(
                "source {} ({}) is not registered; call `.source(..)` with it on the builder of the cache. \
                 Registered: {names}",
                S::name(),
                std::any::type_name::<S>()
            ))
        })
    }

    pub(crate) fn regions(&self) -> impl Iterator<Item = &Arc<RegionCore>> {
        self.regions.values()
    }

    /// After an invalidation that may concern any key of a region.
    pub(crate) fn void_all(&self, region: &RegionCore) {
        let of_region = |source: &&Arc<dyn AnySource>| source.region().name == region.name;
        self.sources.values().filter(of_region).for_each(|source| source.void_all());
    }
}
