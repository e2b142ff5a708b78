//! Memcached as the shared tier of [Mastaba](mastaba): one server, or several that share the keys.
//!
//! ```no_run
//! # async fn example() -> Result<(), mastaba::Error> {
//! use mastaba::Cache;
//!
//! let settings = r#"
//!     [cache.objects]
//!     backend = "memcached" # the one line that changes
//!     arguments = { url = "memcached://cache1,cache2:11212" }
//! "#;
//! # let settings = [("cache.objects.backend", "memcached"), ("cache.objects.arguments.url", "memcached://localhost")];
//! # let cache = Cache::from_settings(settings)
//! # /*
//! let cache = Cache::from_toml(settings)
//! # */
//!     .backend("memcached", mastaba_memcached::open)
//!     .build()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! # What it costs
//!
//! | | trips | commands |
//! | --- | --- | --- |
//! | a read of N keys, of all sources of a region | 1 (of several servers 1 to each, at the same time) | `mg` for each |
//! | its misses | 1 (with several servers 2) | `ms` in add mode and `mg` for each |
//! | a fill, which nobody waits for | 2 | `mg`, then `ms` with the CAS number of what stands there |
//! | an invalidation | 2 (with several servers up to 6) | `mg` without the value, then `md` with its CAS number |
//! | a hold, or its end | 2 | `mg`, then `ms` or `md` with its CAS number |
//!
//! # What it relies on
//!
//! * Memcached 1.6.18 or later, with CAS numbers (not `-C`). It is checked at start.
//! * **CAS numbers on one connection** (`R1`). Each operation on a key reads it, decides as [`mastaba::lease`] says, and has
//!   its change made only where nobody changed the key in between. Both steps go over one connection, so a server that was
//!   restarted, and counts from the beginning again, never gets the second one.
//! * **Expiry**, in whole seconds: leases and holds stand up to two seconds longer than asked for, never shorter.
//!
//! It does not notify of changes, so there is no near over it ([`Abilities::tells`](mastaba::shared::Abilities::tells)), and it
//! cannot compare a write stamp and store in one step, so every fill takes a lease (`R20`).
//!
//! The README of this crate lists all arguments, and what happens in each failure.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod describe;
mod hub;
mod operations;
mod wire;

pub use config::MemcachedConfig;
pub use describe::{ListRecord, MemcachedDescription, MemcachedFacts};
pub use mastaba::shared::connections::{AtStart, ConnectError};
pub use operations::Memcached;

use mastaba::{Arguments, Backend, BoxError};

/// Opens the backend of a region from its arguments: for
/// [`CacheBuilder::backend`](mastaba::CacheBuilder::backend), under whatever name the configuration shall use.
///
/// # Errors
/// What is wrong with the arguments, or why a server cannot be reached or used; see [`Memcached::connect`].
pub async fn open(arguments: Arguments) -> Result<Backend, BoxError> {
    let config = MemcachedConfig::from_arguments(arguments)?;
    Ok(Backend::new(Memcached::connect(config).await?))
}

/// The code of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
