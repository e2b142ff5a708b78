//! Puts sources and regions together, and finds out what does not fit.

use std::any::TypeId;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::join_all;

use super::region::{Backend, Region};
use crate::codec::Codec;
use crate::config::Problems;
use crate::event::Events;
use crate::guarded::guard;
use crate::key::KeySpace;
use crate::near::Near;
use crate::policy::WriteMode;
use crate::region::RegionCore;
use crate::registry::{AnySource, Registered};
use crate::shared::Reach;
use crate::source::Source;

/// A region that has its backend, and what its sources need to know.
pub(super) struct OpenedRegion {
    pub(super) core: Arc<RegionCore>,
    pub(super) config: Region,
}

/// What sources are registered with.
pub(super) struct Assembly {
    pub(super) namespace: String,
    pub(super) regions: BTreeMap<String, OpenedRegion>,
    pub(super) events: Arc<Events>,
    pub(super) sources: HashMap<TypeId, Arc<dyn AnySource>>,
    pub(super) names: Vec<(&'static str, &'static str)>,
    /// Those that look at what they load from.
    pub(super) checked: Vec<Arc<dyn AnySource>>,
    pub(super) problems: Problems,
    /// No region is missing only because its settings cannot be read.
    pub(super) regions_known: bool,
    /// Nothing happens at random: see [`CacheBuilder::in_memory`](super::CacheBuilder::in_memory).
    pub(super) in_memory: bool,
}

impl Assembly {
    pub(super) fn register<S: Source>(&mut self, source: S, checked: bool) {
        let this = std::any::type_name::<S>();
        let named = guard(|| (S::name(), source.region().to_owned()));
        let (name, region) = match named {
            Ok(named) => named,
            Err(why) => {
                return self.problems.push(format!("source {this}: its name or region panicked: {why}"));
            }
        };
        if name.is_empty() {
            return self
                .problems
                .push(format!("source {this} has no name; give it `const NAME`, or `fn name`"));
        }
        if let Some((_, other)) = self.names.iter().find(|(taken, _)| *taken == name) {
            self.problems.push(format!(
                "two sources have the name {name}: {other} and {this}; their entries would meet"
            ));
            return;
        }
        self.names.push((name, this));
        let Some(opened) = self.regions.get(&region).or_else(|| self.regions.get("")) else {
            if !self.regions_known {
                return;
            }
            let known = self.regions.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let belongs = match region.is_empty() {
                true => "names no region; give it `const REGION`, or `fn region`".to_owned(),
                false => {
                    format!(
                        "belongs to region {region}, which is not configured; call `.region({region:?}, ..)`"
                    )
                }
            };
            self.problems.push(format!("source {name} ({this}) {belongs}. Configured: {known}"));
            return;
        };
        let region = opened.core.clone();
        let policy = match guard(|| source.policy(&opened.config.policy.sources)) {
            Ok(policy) => policy,
            Err(why) => return self.problems.push(format!("source {name}: `policy` panicked: {why}")),
        };
        for problem in policy.problems() {
            self.problems.push(format!("source {name}: {problem}"));
        }
        let policy = if self.in_memory { policy.calm() } else { policy };
        let keys = KeySpace::new(
            &self.namespace,
            &region.name,
            name,
            region.abilities.max_key,
            opened.config.mangler.clone(),
        )
        .and_then(|keys| if region.stores() && !S::PRIVATE { keys.fits().map(|()| keys) } else { Ok(keys) });
        let keys = match keys {
            Ok(keys) => keys,
            Err(problem) => return self.problems.push(problem),
        };
        let near = opened.config.near.filter(|_| !S::PRIVATE).map(|near| Near::new(near.limit));
        let near_ttl = opened.config.near.and_then(|near| near.ttl);
        let codec = Codec::of::<S::Value>(S::VERSION);
        let registered = Registered::new(source, region, keys, codec, policy.bounded(), near, near_ttl);
        let registered: Arc<dyn AnySource> = Arc::new(registered);
        self.checked.extend(checked.then(|| registered.clone()));
        self.sources.insert(TypeId::of::<S>(), registered);
    }

    /// Lets every source look at what it loads from, all at once.
    pub(super) async fn look_at_origins(&mut self) {
        let checks = std::mem::take(&mut self.checked);
        let found = join_all(checks.iter().map(|source| source.check())).await;
        found.into_iter().flatten().for_each(|problem| self.problems.push(problem));
    }
}

/// A region around its backend.
pub(super) fn assemble(
    namespace: &str,
    name: &str,
    config: Region,
    backend: Backend,
    events: &Arc<Events>,
) -> Result<OpenedRegion, String> {
    let abilities = backend.0.abilities();
    if config.near.is_some() && abilities.reach != Reach::Process && !abilities.tells {
        return Err(format!(
            "region {name}: near needs a backend that tells of every invalidation, and {} does not; \
             leave near out",
            abilities.name
        ));
    }
    if config.policy.write_mode != WriteMode::Simple && abilities.stores && !abilities.holds {
        return Err(format!(
            "region {name}: its write_mode needs a backend that holds keys over a commit, and {} does not; set it to \
             simple",
            abilities.name
        ));
    }
    let space = KeySpace::new(namespace, name, "stamps", abilities.max_key, config.mangler.clone())?;
    let near = config.near.map(|near| near.coherence);
    let policy = config.policy.clone().bounded();
    let make = || RegionCore::new(name.to_owned(), policy, backend.0, space, near, events.clone());
    let core = guard(make)
        .map_err(|why| format!("region {name}: its mangler panicked for the keys of its stamps: {why}"))?
        .map_err(|fault| format!("region {name}: {fault}"))?;
    Ok(OpenedRegion { core, config })
}
