//! The arguments.

use clap::{Parser, Subcommand};
use mastaba::inspect::RegionName;

use crate::trouble::Trouble;

/// Looks into the shared tier of Mastaba, as the library would.
///
/// Exit code: 0, all is well, or there are warnings; 1, something is wrong and has to be changed; 2, it could not be looked at (the
/// arguments, the address, the password).
#[derive(Debug, Parser)]
#[command(name = "mastaba", version, max_term_width = 100)]
pub(crate) struct Args {
    /// The servers, as in the configuration of a region: redis://host:6379, redis-cluster://host,host,
    /// redis-sentinel://host,host/master, rediss://.. with TLS, redis+unix:///path; memcached://host:11211,host; arguments of a
    /// region after a `?`.
    #[arg(long, global = true, env = "MASTABA_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// Prints JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// What the servers are, what the library uses of them, and what to change.
    Doctor(DoctorArgs),
    /// What stands under a key. Exit code 1: nothing does.
    Get(EntryArgs),
    /// Why the next read of a key would be a hit or a miss.
    Explain(EntryArgs),
    /// Voids keys as a write of a program would, in the order given: inner objects before those derived from them.
    Invalidate(InvalidateArgs),
    /// Voids a whole region, or all of it that has a tag. Exit code 1: the store knows no region of this name.
    Clear(ClearArgs),
}

/// Which entry.
#[derive(Debug, clap::Args)]
pub(crate) struct EntryArgs {
    /// Its key, as `Cache::key_of` gives it: mastaba:objects:account.by_id:7. With --source, the key of the source alone: 7.
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// The fixed tags of its source (`Source::TAGS`), in their order, with commas between them.
    #[arg(long, value_delimiter = ',', value_name = "TAGS")]
    pub(crate) fixed_tags: Vec<String>,
}

/// Which keys.
#[derive(Debug, clap::Args)]
pub(crate) struct InvalidateArgs {
    /// Keys, as for `get`.
    #[arg(required = true)]
    pub(crate) keys: Vec<String>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

/// Where a key is, if it does not say so itself.
#[derive(Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// The source (`Source::NAME`), for a key without the parts before it.
    #[arg(long, requires = "region")]
    pub(crate) source: Option<String>,
    /// The region of that source.
    #[arg(long, requires = "source")]
    pub(crate) region: Option<String>,
    /// The namespace of the cache of that source.
    #[arg(long, default_value = "mastaba")]
    pub(crate) namespace: String,
}

/// Which region.
#[derive(Debug, clap::Args)]
pub(crate) struct ClearArgs {
    /// The name of the region.
    pub(crate) region: String,
    /// Only what has this tag; may be given several times.
    #[arg(long)]
    pub(crate) tag: Vec<String>,
    /// The namespace of the cache.
    #[arg(long, default_value = "mastaba")]
    pub(crate) namespace: String,
}

impl ClearArgs {
    /// Its name in the store.
    pub(crate) fn name(&self) -> Result<RegionName, Trouble> {
        let name = RegionName::new(&self.namespace, &self.region);
        name.map_err(|error| Trouble::new("config", &error.to_string()))
    }
}

impl SourceArgs {
    /// The whole key.
    pub(crate) fn whole(&self, key: &str) -> String {
        match (&self.region, &self.source) {
            (Some(region), Some(source)) => format!("{}:{region}:{source}:{key}", self.namespace),
            _ => key.to_owned(),
        }
    }
}

/// What a doctor is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// The namespace of the cache, whose keys the user has to have a right to.
    #[arg(long, default_value = "mastaba")]
    pub(crate) namespace: String,
    /// How many pings the round trip is measured by.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pings: u32,
}

impl Args {
    /// Where the servers are.
    pub(crate) fn url(&self) -> Result<&str, Trouble> {
        self.url.as_deref().filter(|url| !url.is_empty()).ok_or_else(|| {
            Trouble::new(
                "config",
                "which servers? Give --url redis://host:6379 or memcached://host:11211, or set MASTABA_URL",
            )
        })
    }
}
