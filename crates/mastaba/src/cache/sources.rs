//! Sources that are registered together.

use std::fmt;

use super::assembly::Assembly;
use crate::source::Source;

// `Sync`, so that a builder may be borrowed while a backend is being opened, and `build` still be spawned
type Register = Box<dyn FnOnce(&mut Assembly, bool) + Send + Sync>;

/// Sources that belong together, for [`CacheBuilder::sources`](super::CacheBuilder::sources): what a derive makes of one table.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::{Cache, LoadContext, Region, Rows, Source, Sources};
///
/// struct Half;
/// struct Double;
/// # macro_rules! numbers { ($source:ident, $name:literal, $make:expr) => {
/// impl Source for $source {
///     type Key = u32;
///     type Value = u32;
///     type Error = std::convert::Infallible;
///     const NAME: &'static str = $name;
///     const REGION: &'static str = "numbers";
///     async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, Self::Error> {
///         Ok(keys.iter().map(|key| (*key, $make(*key))).collect())
///     }
/// }
/// # }}
/// # numbers!(Half, "half", |key| key / 2);
/// # numbers!(Double, "double", |key| key * 2);
///
/// let both = Sources::new().source(Half).source(Double);
/// let cache = Cache::builder().region("numbers", Region::memory()).sources(both).build().await?;
/// assert_eq!(*cache.request().get::<Double>(4).await?.unwrap(), 8);
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
#[derive(Default)]
pub struct Sources {
    /// With whether they look at what they load from.
    registers: Vec<(Register, bool)>,
}

impl Sources {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source.
    #[must_use]
    pub fn source<S: Source>(mut self, source: S) -> Self {
        self.registers.push((Box::new(move |assembly, checked| assembly.register(source, checked)), true));
        self
    }

    /// Adds all of these.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.registers.extend(more.registers);
        self
    }

    /// Leaves out [`Source::check`] of all that are in it: the cache is built without looking at what these load from, so
    /// that it can be built while the database is out, or has yet to be migrated.
    #[must_use]
    pub fn unchecked(mut self) -> Self {
        self.registers.iter_mut().for_each(|(_, checked)| *checked = false);
        self
    }

    pub(super) fn register(self, assembly: &mut Assembly) {
        for (register, checked) in self.registers {
            register(assembly, checked);
        }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("count", &self.registers.len()).finish_non_exhaustive()
    }
}
