//! How a region is configured.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::coherence::{Coherence, Lag};
use crate::error::BoxError;
use crate::limits::{Check, Span};
use crate::near::NearLimit;
use crate::policy::{RegionPolicy, WriteMode, setter, setters};
use crate::settings::{of_regions, of_sources};
use crate::shared::Shared;
use crate::shared::erased::DynShared;
use crate::shared::memory::{Memory, MemoryConfig};
use crate::shared::null::Null;

/// The configuration of a region: its backend, its policy, near.
///
/// ```
/// use std::time::Duration;
/// use mastaba::{NearConfig, Region};
///
/// let region = Region::memory()
///     .ttl(Duration::from_secs(3600))
///     .absent_ttl(Duration::from_secs(60))
///     .near(NearConfig::entries(10_000));
/// assert_eq!(region.policy.sources.ttl, Duration::from_secs(3600));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Region {
    /// Its policy, and that of its sources, where they say nothing else for themselves.
    pub policy: RegionPolicy,
    pub(crate) backend: Choice,
    pub(crate) near: Option<NearConfig>,
    pub(crate) mangler: Option<Mangle>,
}

/// Rewrites the keys of a region, whole: to fit what an operator expects, or to hide what they say.
pub(crate) type Mangle = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// Which backend a region has.
#[derive(Clone)]
pub(crate) enum Choice {
    /// None was named: an embedded file, or what the features leave of it.
    Unnamed,
    Embedded(PathBuf),
    Named(String, BTreeMap<String, String>),
    Ready(Backend),
}

impl Default for Region {
    /// An embedded file at `{data_dir}/mastaba/<region>`.
    fn default() -> Self {
        Self::new(Choice::Unnamed)
    }
}

impl Region {
    fn new(backend: Choice) -> Self {
        Self { policy: RegionPolicy::default(), backend, near: None, mangler: None }
    }

    /// One file at `{data_dir}/mastaba/<region>`, whose folders are made. Survives a restart; belongs to one
    /// process.
    #[must_use]
    pub fn embedded(data_dir: impl Into<PathBuf>) -> Self {
        Self::new(Choice::Embedded(data_dir.into()))
    }

    /// In this process, bounded, gone with it.
    #[must_use]
    pub fn memory() -> Self {
        Self::backend(Memory::new(MemoryConfig::default()))
    }

    /// Keeps nothing: every request loads for itself, still batched and with one load per key at a time.
    #[must_use]
    pub fn null() -> Self {
        Self::backend(Null)
    }

    /// Any backend.
    #[must_use]
    pub fn backend(backend: impl Shared) -> Self {
        Self::new(Choice::Ready(Backend::new(backend)))
    }

    /// A backend by its name, with its arguments, as in a configuration.
    #[must_use]
    pub fn named(name: impl Into<String>, arguments: BTreeMap<String, String>) -> Self {
        Self::new(Choice::Named(name.into(), arguments))
    }

    /// See [`CacheBuilder::in_memory`](super::CacheBuilder::in_memory).
    pub(super) fn keep_in_memory(&mut self) {
        self.backend = Choice::Ready(Backend::new(Memory::default()));
        self.policy.sources = std::mem::take(&mut self.policy.sources).calm();
    }

    /// Puts an in-process cache in front of it.
    #[must_use]
    pub fn near(mut self, near: NearConfig) -> Self {
        self.near = Some(near);
        self
    }

    /// Sets the whole policy, with that of its sources.
    #[must_use]
    pub fn policy(mut self, policy: RegionPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Rewrites every key. Two keys that it makes one share one entry: it must not.
    #[must_use]
    pub fn mangler(mut self, mangler: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.mangler = Some(Arc::new(mangler));
        self
    }
}

impl Region {
    of_sources! { setters [policy sources] Policy; }
    of_regions! { setters [policy] RegionPolicy; }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = match &self.backend {
            Choice::Unnamed => "embedded",
            Choice::Embedded(_) => "embedded",
            Choice::Named(name, _) => name,
            Choice::Ready(backend) => backend.0.abilities().name,
        };
        f.debug_struct("Region")
            .field("backend", &backend)
            .field("policy", &self.policy)
            .field("near", &self.near)
            .finish_non_exhaustive()
    }
}

/// How large near may grow, per source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearConfig {
    pub(crate) limit: NearLimit,
    pub(crate) ttl: Option<Duration>,
    pub(crate) coherence: Coherence,
}

impl NearConfig {
    /// How many entries it has room for where a configuration does not say it.
    pub(crate) const ENTRIES: u64 = 10_000;

    /// At most so many entries. None at all is refused when the cache is built: leave near out instead.
    #[must_use]
    pub fn entries(most: u64) -> Self {
        Self { limit: NearLimit::Entries(most), ttl: None, coherence: Coherence::default() }
    }

    /// At most so many bytes of encoded values, with what they take beside. Zero is refused when the cache is built.
    #[must_use]
    pub fn bytes(most: u64) -> Self {
        Self { limit: NearLimit::Bytes(most), ttl: None, coherence: Coherence::default() }
    }

    setter! {
        /// No entry longer than this, however long the shared tier keeps it; `None`: as long as that.
        [] ttl: Option<Duration>
    }
    setter! {
        /// How current it is where other processes write to the shared tier. Default: bounded by one second.
        [] coherence: Coherence
    }

    /// What is wrong with it, if anything: one sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let room = match self.limit {
            NearLimit::Entries(0) => Some("entries"),
            NearLimit::Bytes(0) => Some("bytes"),
            _ => None,
        };
        problems.extend(room.map(|what| format!("near has room for 0 {what}; to have none, leave near out")));
        problems.extend(self.ttl.and_then(|ttl| Span::OF_NEAR.problem("near.ttl", &ttl)));
        problems.extend(Lag.problem("near.coherence", &self.coherence));
        problems
    }
}

/// A backend whose type has been forgotten.
#[derive(Clone)]
pub struct Backend(pub(crate) Arc<dyn DynShared>);

impl Backend {
    /// Takes any backend.
    pub fn new(backend: impl Shared) -> Self {
        Self(Arc::new(backend))
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Backend").field(&self.0.abilities().name).finish()
    }
}

/// What a backend is opened with: the region, the data directory, and `cache.<region>.arguments.*`.
///
/// An opener takes every argument that it knows; what is left is reported as unknown. `Debug` shows the names of the
/// arguments alone: there may be passwords among them.
#[derive(Clone)]
pub struct Arguments {
    /// The region.
    pub region: String,
    /// Where files go.
    pub data_dir: Option<PathBuf>,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) known: Vec<&'static str>,
}

impl Arguments {
    pub(crate) fn new(region: &str, data_dir: Option<PathBuf>, values: BTreeMap<String, String>) -> Self {
        Self { region: region.to_owned(), data_dir, values, known: Vec::new() }
    }

    /// Takes an argument out.
    pub fn take(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.values.remove(name)
    }

    /// Takes an argument that is a number of bytes: `64MiB`.
    ///
    /// # Errors
    /// If it is none.
    pub fn take_bytes(&mut self, name: &'static str) -> Result<Option<u64>, BoxError> {
        self.take_parsed(name, crate::config::bytes)
    }

    /// Takes an argument that is a whole number.
    ///
    /// # Errors
    /// If it is none.
    pub fn take_number(&mut self, name: &'static str) -> Result<Option<u64>, BoxError> {
        self.take_parsed(name, |text| {
            text.trim().replace('_', "").parse().map_err(|_| "a whole number is needed".to_owned())
        })
    }

    fn take_parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, BoxError> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let parsed = parse(&text);
        parsed.map(Some).map_err(|need| format!("arguments.{name} = {text:?}: {need}").into())
    }

    /// What nobody took, if anything: an error that lists what can be given.
    ///
    /// # Errors
    /// If arguments are left.
    pub fn finish(&self) -> Result<(), BoxError> {
        if self.values.is_empty() {
            return Ok(());
        }
        let unknown: Vec<_> = self.values.keys().map(String::as_str).collect();
        let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
        Err(format!("unknown argument {}; there are: {known}", unknown.join(", ")).into())
    }
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arguments")
            .field("region", &self.region)
            .field("data_dir", &self.data_dir)
            .field("values", &self.values.keys())
            .finish_non_exhaustive()
    }
}

pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Backend, BoxError>> + Send>>;
pub(crate) type Opener = Arc<dyn Fn(Arguments) -> Opening + Send + Sync>;
