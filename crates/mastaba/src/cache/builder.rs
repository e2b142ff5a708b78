//! Builds a cache, and checks everything while doing so.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;

use super::assembly::{Assembly, assemble};
use super::region::{Arguments, Backend, Choice, NearConfig, Opener, Region};
use super::sources::Sources;
use super::{Cache, CacheCore};
use crate::config::{self, Doubts, NearSettings, Problems, RegionSettings, Settings};
use crate::error::{BoxError, Error, text_of};
use crate::event::{Event, Events};
use crate::guarded::Guarded;
use crate::near::NearLimit;
use crate::request::RequestCache;
use crate::runtime;
#[cfg(feature = "embedded")]
use crate::shared::embedded::{Embedded, EmbeddedConfig};
use crate::shared::memory::{Memory, MemoryConfig};
use crate::shared::null::Null;
use crate::source::{LoadContext, Source};
use crate::telemetry;

/// Builds a [`Cache`]. Begin with [`Cache::builder`], [`Cache::from_settings`] or one of its siblings.
#[derive(Default)]
pub struct CacheBuilder {
    namespace: Option<String>,
    data_dir: Option<PathBuf>,
    regions: Vec<(String, Region)>,
    sources: Vec<Sources>,
    openers: BTreeMap<String, Opener>,
    listener: Option<Box<dyn Fn(&Event) + Send + Sync>>,
    settings: Vec<Result<Settings, Error>>,
    in_memory: bool,
}

impl CacheBuilder {
    /// The first part of every key: programs that share a backend have different ones. Default: `mastaba`.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Where regions that name no backend keep their files.
    #[must_use]
    pub fn data_dir(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(data_dir.into());
        self
    }

    /// Adds a region. Settings for a region of the same name go over it, whatever the order of the calls.
    #[must_use]
    pub fn region(mut self, name: impl Into<String>, region: Region) -> Self {
        self.regions.push((name.into(), region));
        self
    }

    /// Registers a source.
    #[must_use]
    pub fn source<S: Source>(self, source: S) -> Self {
        self.sources(Sources::new().source(source))
    }

    /// Registers several sources: those of one table, for example, which belong together.
    #[must_use]
    pub fn sources(mut self, sources: Sources) -> Self {
        self.sources.push(sources);
        self
    }

    /// Teaches the configuration a backend: `cache.<region>.backend = "<name>"`.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba::shared::memory::{Memory, MemoryConfig};
    /// use mastaba::{Backend, Cache};
    ///
    /// let cache = Cache::from_settings([("cache.objects.backend", "mine")])
    ///     .backend("mine", |arguments| async move {
    ///         arguments.finish()?;
    ///         Ok(Backend::new(Memory::new(MemoryConfig::default())))
    ///     })
    ///     .build()
    ///     .await?;
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn backend<F>(
        mut self,
        name: impl Into<String>,
        open: impl Fn(Arguments) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Backend, BoxError>> + Send + 'static,
    {
        self.openers.insert(name.into(), Arc::new(move |arguments| Box::pin(open(arguments))));
        self
    }

    /// Puts settings over what the program says.
    #[must_use]
    pub fn settings(mut self, settings: Result<Settings, Error>) -> Self {
        self.settings.push(settings);
        self
    }

    /// Is called with each [`Event`]: faults of the shared tier, loaders that break their contract. `tracing` gets them in
    /// any case.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Keeps every region in the memory of this process, whatever its backend is, refreshes nothing early and lets times to
    /// live be as they are: what is loaded when is then no matter of chance. For tests of a program, with the builder that
    /// the program itself uses; `mastaba_test::TestCache` does it. Where no region is configured, there is one for all
    /// sources.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba::Cache;
    ///
    /// // as in production: a server that is not there in a test
    /// let settings = [("cache.objects.backend", "redis"), ("cache.objects.arguments.url", "redis://cache:6379")];
    /// let cache = Cache::from_settings(settings).in_memory().build().await?;
    /// assert_eq!(cache.regions().collect::<Vec<_>>(), ["objects"]);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Checks everything, opens the backends, and gives the cache.
    ///
    /// # Errors
    /// One error that lists everything that is wrong ([`Error::is_config`]): unknown settings and bad values,
    /// a source whose region is not configured, two sources of one name, two regions in one file, a backend
    /// that cannot be opened. No file is made if anything is wrong before.
    ///
    /// On a tokio runtime without timers it is an error of usage ([`Error::is_usage`]), which says what to call.
    /// Without any runtime only backends can be opened that need none; reads need one.
    pub async fn build(mut self) -> Result<Cache, Error> {
        if tokio::runtime::Handle::try_current().is_ok() {
            runtime::check_timers()?;
        }
        let (mut problems, mut doubts) = (Problems::default(), Doubts::default());
        let regions = self.resolve(&mut problems, &mut doubts);
        let namespace = self.namespace.take().unwrap_or_else(|| "mastaba".to_owned());
        let events = Arc::new(Events::new(self.listener.take()));
        let openers = self.openers();
        let mut opened = BTreeMap::new();
        let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
        for (name, region) in &regions {
            let of_near = region.near.iter().flat_map(NearConfig::problems);
            for problem in region.policy.problems().into_iter().chain(of_near) {
                problems.push(format!("region {name}: {problem}"));
            }
            if let Choice::Named(backend, _) = &region.backend
                && !openers.contains_key(backend)
            {
                let known: Vec<_> = openers.keys().map(String::as_str).collect();
                problems.push(config::unknown_backend(name, backend, &known));
            }
            if let Err(why) = self.check_arguments(name, region, &doubts) {
                problems.push(format!("region {name}: {why}"));
            }
            if let Some(file) = self.file(name, region) {
                if let Some(other) = files.insert(file.clone(), name.clone()) {
                    problems.push(format!(
                        "regions {other} and {name} would share the file {}; give one of them another path",
                        file.display()
                    ));
                }
            } else if matches!(region.backend, Choice::Unnamed) && !doubts.has("data_dir") {
                problems.push(format!(
                    "region {name}: no backend is named, so it is an embedded file, and that needs a data_dir; \
                     set data_dir, or name a backend: {}",
                    openers.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
                ));
            }
        }
        if !problems.is_empty() {
            // sources are looked at all the same, so that one start reports everything
            self.check_sources(&namespace, regions, &events, &mut problems, &doubts).await;
            return Err(problems.into_error());
        }
        for (name, config) in &regions {
            match self.open(name, config, &openers).await {
                Ok(backend) => match assemble(&namespace, name, config.clone(), backend, &events) {
                    Ok(region) => {
                        opened.insert(name.clone(), region);
                    }
                    Err(problem) => problems.push(problem),
                },
                Err(why) => problems.push(format!("region {name}: {}", text_of(&why))),
            }
        }
        if !problems.is_empty() {
            // a region that did not open is configured all the same
            self.check_sources(&namespace, regions, &events, &mut problems, &doubts).await;
            return Err(problems.into_error());
        }
        let mut assembly = Assembly {
            namespace,
            regions: opened,
            events,
            sources: HashMap::new(),
            names: Vec::new(),
            checked: Vec::new(),
            problems,
            regions_known: true,
            in_memory: self.in_memory,
        };
        // where no region is configured at all, every source works with the request alone
        if assembly.regions.is_empty() {
            let (config, backend) = match self.in_memory {
                true => (Region::memory(), Backend::new(Memory::default())),
                false => (Region::null(), none()),
            };
            let region = assemble(&assembly.namespace, "request", config, backend, &assembly.events);
            assembly.regions.extend(region.ok().map(|region| (String::new(), region)));
        }
        for sources in std::mem::take(&mut self.sources) {
            sources.register(&mut assembly);
        }
        assembly.look_at_origins().await;
        if !assembly.problems.is_empty() {
            return Err(assembly.problems.into_error());
        }
        assembly.regions.remove("");
        let core = CacheCore::new(
            assembly.sources,
            assembly.names.iter().map(|(name, _)| *name).collect(),
            assembly.regions.into_iter().map(|(name, opened)| (name, opened.core)).collect(),
            assembly.events,
        );
        let core = Arc::new(core);
        telemetry::describe(core.regions().map(|region| region.name.as_str()));
        let request = RequestCache::new(core.clone());
        let cx = LoadContext::new(&request, false, Instant::now(), false);
        core.sources.values().for_each(|source| source.probe(&cx));
        Ok(Cache { core })
    }

    /// Regions of the program with the settings over them, by name.
    fn resolve(&mut self, problems: &mut Problems, doubts: &mut Doubts) -> BTreeMap<String, Region> {
        let mut regions = BTreeMap::new();
        for (name, region) in std::mem::take(&mut self.regions) {
            if regions.insert(name.clone(), region).is_some() {
                problems.push(format!("region {name} is configured twice"));
            }
        }
        for settings in std::mem::take(&mut self.settings) {
            let settings = match settings {
                Ok(settings) => settings,
                Err(error) => {
                    problems.adopt(&error);
                    // what is right in them is checked all the same, so that one start reports everything
                    match error.understood() {
                        Some(understood) => {
                            doubts.extend(&understood.doubts);
                            understood.settings.clone()
                        }
                        None => {
                            doubts.regions = true;
                            continue;
                        }
                    }
                }
            };
            self.data_dir = settings.data_dir.or(self.data_dir.take());
            self.namespace = settings.namespace.or(self.namespace.take());
            for (name, mut set) in settings.regions {
                let region = regions.entry(name.clone()).or_default();
                if doubts.has_backend_of(&name) {
                    // one was named; which one, nobody knows
                    region.backend = Choice::Ready(none());
                    set.arguments.clear();
                }
                apply(region, &name, set, problems);
            }
        }
        if self.in_memory {
            regions.values_mut().for_each(Region::keep_in_memory);
        }
        regions
    }

    fn openers(&self) -> BTreeMap<String, Opener> {
        let mut openers: BTreeMap<String, Opener> = BTreeMap::new();
        openers.insert(
            "memory".into(),
            Arc::new(|arguments| Box::pin(async move { Ok(Backend::new(Memory::new(memory(arguments)?))) })),
        );
        openers.insert(
            "null".into(),
            Arc::new(|arguments| {
                Box::pin(async move {
                    arguments.finish()?;
                    Ok(none())
                })
            }),
        );
        #[cfg(feature = "embedded")]
        openers.insert(
            "embedded".into(),
            Arc::new(|arguments| {
                Box::pin(async move { Ok(Backend::new(Embedded::open(embedded(arguments)?).await?)) })
            }),
        );
        openers.extend(self.openers.clone());
        openers
    }

    /// The file of a region, if it is going to have one.
    fn file(&self, name: &str, region: &Region) -> Option<PathBuf> {
        match &region.backend {
            Choice::Unnamed => self.data_dir.as_ref().map(|dir| file_in(dir, name)),
            Choice::Embedded(dir) => Some(file_in(dir, name)),
            Choice::Named(backend, arguments) if backend == "embedded" => match arguments.get("path") {
                Some(path) => Some(PathBuf::from(path)),
                None => self.data_dir.as_ref().map(|dir| file_in(dir, name)),
            },
            Choice::Named(..) | Choice::Ready(_) => None,
        }
    }

    /// Looks at the arguments of a backend of this crate, which can be judged without opening it.
    fn check_arguments(&self, name: &str, region: &Region, doubts: &Doubts) -> Result<(), BoxError> {
        let Choice::Named(backend, arguments) = &region.backend else { return Ok(()) };
        if self.openers.contains_key(backend) {
            return Ok(()); // one of the program's, by that name
        }
        let dir = self.data_dir.clone().or_else(|| doubts.has("data_dir").then(PathBuf::new));
        let arguments = Arguments::new(name, dir, arguments.clone());
        match backend.as_str() {
            "memory" => memory(arguments).map(drop),
            "null" => arguments.finish(),
            #[cfg(feature = "embedded")]
            "embedded" => embedded(arguments).map(drop),
            _ => Ok(()),
        }
    }

    async fn open(
        &self,
        name: &str,
        region: &Region,
        openers: &BTreeMap<String, Opener>,
    ) -> Result<Backend, BoxError> {
        let (backend, dir, arguments) = match &region.backend {
            Choice::Ready(backend) => return Ok(backend.clone()),
            Choice::Unnamed => ("embedded", self.data_dir.clone(), BTreeMap::new()),
            Choice::Embedded(dir) => ("embedded", Some(dir.clone()), BTreeMap::new()),
            Choice::Named(backend, arguments) => (backend.as_str(), self.data_dir.clone(), arguments.clone()),
        };
        let open = openers.get(backend).ok_or_else(|| {
            format!("this program was built without the backend {backend}: enable the feature `{backend}` of mastaba")
        })?;
        let opened = Guarded::new(|| open(Arguments::new(name, dir, arguments))).await;
        opened.unwrap_or_else(|why| Err(format!("opening the backend {backend} panicked: {why}").into()))
    }

    /// Registers the sources with regions that keep nothing, to see what is wrong with them.
    async fn check_sources(
        &mut self,
        namespace: &str,
        regions: BTreeMap<String, Region>,
        events: &Arc<Events>,
        problems: &mut Problems,
        doubts: &Doubts,
    ) {
        let mut assembly = Assembly {
            namespace: namespace.to_owned(),
            regions: BTreeMap::new(),
            events: events.clone(),
            sources: HashMap::new(),
            names: Vec::new(),
            checked: Vec::new(),
            problems: std::mem::take(problems),
            regions_known: !doubts.regions,
            in_memory: self.in_memory,
        };
        for (name, config) in regions {
            if let Ok(region) = assemble(namespace, &name, Region { near: None, ..config }, none(), events) {
                assembly.regions.insert(name, region);
            }
        }
        for sources in std::mem::take(&mut self.sources) {
            sources.register(&mut assembly);
        }
        assembly.look_at_origins().await;
        *problems = assembly.problems;
    }
}

fn none() -> Backend {
    Backend::new(Null)
}

fn file_in(dir: &std::path::Path, region: &str) -> PathBuf {
    dir.join("mastaba").join(region)
}

fn memory(mut arguments: Arguments) -> Result<MemoryConfig, BoxError> {
    let mut config = MemoryConfig::default();
    if let Some(bytes) = arguments.take_bytes("max_bytes")? {
        config.max_bytes = above_zero("max_bytes", bytes)?;
    }
    if let Some(entries) = arguments.take_number("max_entries")? {
        config.max_entries = above_zero("max_entries", entries)?;
    }
    arguments.finish()?;
    Ok(config)
}

#[cfg(feature = "embedded")]
fn embedded(mut arguments: Arguments) -> Result<EmbeddedConfig, BoxError> {
    let path = match (arguments.take("path"), &arguments.data_dir) {
        (Some(path), _) => PathBuf::from(path),
        (None, Some(dir)) => file_in(dir, &arguments.region),
        (None, None) => return Err("an embedded file needs a data_dir, or the argument `path`".into()),
    };
    let mut config = EmbeddedConfig::new(path);
    if let Some(bytes) = arguments.take_bytes("max_bytes")? {
        config.max_bytes = above_zero("max_bytes", bytes)?;
    }
    if let Some(bytes) = arguments.take_bytes("cache_bytes")? {
        config.cache_bytes = bytes;
    }
    arguments.finish()?;
    Ok(config)
}

/// A store without room would still keep one.
fn above_zero(name: &str, room: u64) -> Result<u64, BoxError> {
    match room {
        0 => Err(format!(
            "arguments.{name} is 0, and must be above zero; to keep nothing, use the backend \"null\""
        )
        .into()),
        room => Ok(room),
    }
}

/// Puts the settings of a region over its configuration.
fn apply(region: &mut Region, name: &str, set: RegionSettings, problems: &mut Problems) {
    match set.backend {
        Some(backend) => region.backend = Choice::Named(backend, set.arguments),
        None if set.arguments.is_empty() => {}
        None => match &mut region.backend {
            Choice::Named(_, arguments) => arguments.extend(set.arguments),
            Choice::Unnamed => region.backend = Choice::Named("embedded".into(), set.arguments),
            Choice::Embedded(_) | Choice::Ready(_) => problems.push(format!(
                "cache.{name}.arguments are given, and the program has chosen the backend itself; \
                 set cache.{name}.backend as well"
            )),
        },
    }
    region.policy = set.policy.over(std::mem::take(&mut region.policy));
    match set.near {
        None => {}
        Some(NearSettings { max_entries: Some(_), max_bytes: Some(_), .. }) => {
            problems.push(format!("cache.{name}.near has max_entries and max_bytes; give one of them"));
        }
        Some(NearSettings { max_entries, max_bytes, ttl, coherence }) => {
            let before = region.near.unwrap_or_else(|| NearConfig::entries(NearConfig::ENTRIES));
            let limit = match (max_entries, max_bytes) {
                (Some(entries), _) => NearLimit::Entries(entries),
                (None, Some(bytes)) => NearLimit::Bytes(bytes),
                (None, None) => before.limit,
            };
            region.near = Some(NearConfig {
                limit,
                ttl: ttl.or(before.ttl),
                coherence: coherence.unwrap_or(before.coherence),
            });
        }
    }
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("namespace", &self.namespace)
            .field("data_dir", &self.data_dir)
            .field("regions", &self.regions)
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}
