//! Settings of a cache: from a plain string map, from TOML, or from the environment.
//!
//! Every form is flattened to the same dotted keys, such as `cache.objects.ttl`, and these go through one parser.
//! So there is one list of keys, one set of checks, and one way to say what is wrong.

mod form;
mod names;
mod problems;
mod read;
#[cfg(feature = "toml")]
mod tables;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::coherence::{Coherence, Lag};
use crate::error::Error;
use crate::limits::{Count, CountOrUnlimited, Factor, Share, Size, SizeOrNever, Span, Switch, UpTo};
use crate::policy::{Mode, RegionPolicy, WriteMode};
use crate::settings::{of_near, of_regions, of_sources};
use form::Input;
use problems::closest;
pub(crate) use problems::{Doubts, Problems, Understood};
use value::Text;
pub(crate) use value::bytes;

/// What was set for a cache. Plain data: nothing is opened or connected by reading it, and what was not set is
/// `None`, so that defaults have one place of their own, where a cache is built.
///
/// Three forms say the same thing:
///
/// | string map | TOML | environment |
/// | --- | --- | --- |
/// | `data_dir` = `data` | `data_dir = "data"` | `MASTABA_DATA_DIR=data` |
/// | `cache.objects.ttl` = `1h` | `[cache.objects]` `ttl = "1h"` | `MASTABA_CACHE__OBJECTS__TTL=1h` |
/// | `cache.objects.near.ttl` = `5` | `near = { ttl = 5 }` | `MASTABA_CACHE__OBJECTS__NEAR__TTL=5` |
///
/// Durations are written as `250ms`, `1h` or `1h 30m`, as a bare number of seconds, or as `forever`
/// ([`FOREVER`](crate::FOREVER)); sizes as `64MiB`, `10MB` or
/// `1_000_000` bytes; shares as `0.1` or `10%`. The names of regions consist of letters, digits, `_` and `-`.
///
/// Settings are of a region. What one of its sources has of its own is said by
/// [`Source::policy`](crate::Source::policy).
///
/// ```
/// use std::{collections::HashMap, time::Duration};
/// use mastaba::Settings;
///
/// let application = HashMap::from([("port", "80"), ("cache.objects.ttl", "1h")]);
/// let settings = Settings::from_map(&application)?;
/// assert_eq!(settings.regions["objects"].policy.ttl, Some(Duration::from_secs(3600)));
///
/// let error = Settings::from_map([("cache.objects.tll", "1h")]).unwrap_err();
/// assert!(error.is_config() && error.to_string().contains("did you mean cache.objects.ttl?"));
/// # Ok::<(), mastaba::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `data_dir`: where embedded backends keep their files.
    pub data_dir: Option<PathBuf>,
    /// `namespace`: keeps apart several programs that share one backend.
    pub namespace: Option<String>,
    /// The regions by name.
    pub regions: BTreeMap<String, RegionSettings>,
}

/// What was set for one region, as `cache.<region>.*`.
#[derive(Clone, Default, PartialEq)]
pub struct RegionSettings {
    /// `backend`: the name of the backend. Whether there is such a backend is judged when the cache is built.
    pub backend: Option<String>,
    /// `arguments.*`: handed to the backend as they are, the keys too. They may hold passwords, so `Debug` shows only
    /// their names.
    pub arguments: BTreeMap<String, String>,
    /// How entries of the region are kept and loaded.
    pub policy: PolicySettings,
    /// `near.*`: the in-process cache in front of the region; none without any of these keys.
    pub near: Option<NearSettings>,
}

/// What reads one setting of a region.
type Set = fn(&mut RegionSettings, &str) -> Result<(), String>;

/// What was set of these rows, with the name of each in a configuration and what reads it into its place.
macro_rules! readable {
    (
        $(#[$about:meta])*
        pub struct $settings:ident, const $names:ident = $prefix:literal in $place:ident;
        $($(#[doc = $doc:literal])*
        $name:ident: $type:ident $(<$of:ty>)? $(= $default:expr)?, $written:literal, $check:expr;)*
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $settings {
            $(
                #[doc = concat!("`cache.<region>.", $prefix, stringify!($name), "`:\n")]
                $(#[doc = $doc])*
                pub $name: Option<$type $(<$of>)?>,
            )*
        }

        const $names: &[(&str, Set)] = &[$((concat!($prefix, stringify!($name)), |region, text| {
            $place(region).$name = Some($check.read(text)?);
            Ok(())
        })),*];
    };
}

of_sources! { of_regions readable
    /// The policy of a region and of its sources, as far as it was set. `Some(None)` is what a configuration writes as
    /// `never` or `unlimited`.
    pub struct PolicySettings, const POLICY = "" in policy;
}

of_near! { readable
    /// The in-process cache of a region, as far as it was set.
    pub struct NearSettings, const NEAR = "near." in near;
}

/// The settings that no source can have of its own.
macro_rules! names {
    ($($(#[doc = $doc:literal])*
    $name:ident: $type:ident $(<$of:ty>)? = $default:expr, $written:literal, $check:expr;)*) => {
        &[$(stringify!($name)),*]
    };
}
const OF_REGIONS: &[&str] = of_regions! { names };

/// Puts what was set over what the program says.
macro_rules! over {
    ($($(#[doc = $doc:literal])*
    $name:ident: $type:ident $(<$of:ty>)? = $default:expr, $written:literal, $check:expr;)*) => {
        impl PolicySettings {
            /// Puts what was set over what the program says.
            pub(crate) fn over(&self, mut policy: RegionPolicy) -> RegionPolicy {
                $(if let Some(value) = self.$name {
                    policy = policy.$name(value);
                })*
                policy
            }
        }
    };
}
of_sources! { of_regions over }

fn policy(region: &mut RegionSettings) -> &mut PolicySettings {
    &mut region.policy
}

fn near(region: &mut RegionSettings) -> &mut NearSettings {
    region.near.get_or_insert_default()
}

impl Settings {
    /// Reads the keys `cache.*`, `data_dir` and `namespace` of an application's own map of strings.
    ///
    /// Other keys are the application's and ignored, but for those that are a slip away from one of ours, such as
    /// `cach.objects.ttl` or `data_dri`. The map is only looked at.
    ///
    /// # Errors
    /// One configuration error that lists everything wrong with these keys.
    pub fn from_map<K: AsRef<str>, V: AsRef<str>>(
        map: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Error> {
        Self::from_map_under("", map)
    }

    /// The same for keys that all have a prefix, such as `mastaba.` for `mastaba.cache.objects.ttl`.
    ///
    /// # Errors
    /// As for [`Settings::from_map`].
    pub fn from_map_under<K: AsRef<str>, V: AsRef<str>>(
        prefix: &str,
        map: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Error> {
        read::settings(Input::from_map(prefix, map)).map_err(Problems::into_error)
    }

    /// Reads TOML. The whole text is the cache's: whatever is unknown in it is an error.
    ///
    /// An empty table `[cache.objects]` makes a region with nothing but defaults, and an empty `near = {}` a near
    /// cache with nothing but defaults.
    ///
    /// # Errors
    /// One configuration error that lists everything wrong with the text.
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        read::settings(Input::from_toml(text)).map_err(Problems::into_error)
    }

    /// Reads a size as settings write it, for backends with settings of their own: `64MiB`, `10MB`, `1_000_000`.
    ///
    /// # Errors
    /// What is needed instead.
    pub fn parse_bytes(text: &str) -> Result<u64, String> {
        bytes(text)
    }

    /// Reads a duration as settings write it, for backends with settings of their own: `250ms`, `1h 30m`, `90`; and
    /// `forever`, which is [`FOREVER`](crate::FOREVER). Nothing else is longer than 100 years.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// assert_eq!(mastaba::Settings::parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
    /// assert!(mastaba::Settings::parse_duration("soon").unwrap_err().contains("250ms"));
    /// ```
    ///
    /// # Errors
    /// What is needed instead.
    pub fn parse_duration(text: &str) -> Result<Duration, String> {
        value::duration(text)
    }

    /// Reads the variables of the process that start with `prefix`, such as `MASTABA_`. Whatever is unknown among
    /// these is an error.
    ///
    /// Two underscores stand for a dot, and names are taken in lower case: a region that is set in the environment
    /// has a name of lower-case letters, digits and single underscores.
    ///
    /// # Errors
    /// One configuration error that lists everything wrong with these variables.
    pub fn from_env(prefix: &str) -> Result<Self, Error> {
        read::settings(Input::from_env(prefix, std::env::vars_os())).map_err(Problems::into_error)
    }
}

impl fmt::Debug for RegionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionSettings")
            .field("backend", &self.backend)
            .field("arguments", &self.arguments.keys())
            .field("policy", &self.policy)
            .field("near", &self.near)
            .finish()
    }
}

/// The line for a backend that does not exist. Which exist is known only when the cache is built: programs bring
/// their own.
pub(crate) fn unknown_backend(region: &str, name: &str, known: &[&str]) -> String {
    if name.contains("://") || name.contains('@') {
        // without it: there may be a password in it
        return format!(
            "cache.{region}.backend is an address, and the name of a backend is needed; an address is an argument: \
             cache.{region}.arguments.url. There are: {}",
            known.join(", ")
        );
    }
    let choices = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    // in crates of their own, which this program has not added, or not registered
    let elsewhere = match name.to_ascii_lowercase().as_str() {
        "redis" | "valkey" => Some(format!(
            "this program does not have this backend; add the crate mastaba-redis, and call \
             `.backend({name:?}, mastaba_redis::open)` before `.build()`"
        )),
        "memcached" | "memcache" => Some(format!(
            "this program does not have this backend; add the crate mastaba-memcached, and call \
             `.backend({name:?}, mastaba_memcached::open)` before `.build()`"
        )),
        _ => None,
    };
    if let Some(hint) = elsewhere {
        return format!("cache.{region}.backend = {name:?}: {hint}. There are: {choices}");
    }
    let hint = match closest(name, known) {
        Some(near) => format!("; did you mean {near}?"),
        None => ".".to_owned(),
    };
    format!("cache.{region}.backend = {name:?}: no backend has this name{hint} There are: {choices}")
}
