//! Redis and Valkey as the shared tier of [Mastaba](mastaba): one server, Sentinel, or a cluster.
//!
//! ```no_run
//! # async fn example() -> Result<(), mastaba::Error> {
//! use mastaba::Cache;
//!
//! let settings = r#"
//!     [cache.objects]
//!     backend = "redis" # the one line that changes
//!     arguments = { url = "redis://localhost:6379" }
//!     near = { max_entries = 10_000, coherence = "1s" }
//! "#;
//! # let settings = [("cache.objects.backend", "redis"), ("cache.objects.arguments.url", "redis://localhost:6379")];
//! # let cache = Cache::from_settings(settings)
//! # /*
//! let cache = Cache::from_toml(settings)
//! # */
//!     .backend("redis", mastaba_redis::open)
//!     .build()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! # What it costs
//!
//! | | trips | commands |
//! | --- | --- | --- |
//! | a read of N keys, of all sources of a region | 1 (in a cluster 1 per node, at the same time) | one `MGET` |
//! | its misses | 1 | `SET .. NX GET PX` for each |
//! | a fill, which nobody waits for | 1 | one script call for up to 128 keys and 128 KiB, in a cluster for each key; over a lease `SET .. IFEQ` where the server has it |
//! | an invalidation | 1 (in a cluster 2) | one script call for each |
//!
//! # What it relies on
//!
//! * Redis 7.0 or later, or Valkey. It is checked at start. What such a server, or the service that runs it, hides or forbids is
//!   a [`Loss`]: it is done without, as far as that is safe, and warned of.
//! * **Expiry and the compare-and-set of a fence on one key** (`R1`). A script that fills several keys compares each by
//!   itself, and is sent to single servers only, so nothing is asked of the slots of a cluster. A single address that refuses
//!   such a script (`CROSSSLOT`), for there are several servers behind it, is given one for each key from then on.
//! * **`run_id` and `master_replid`** (`R11`): every connection asks for them before anything else. After a restart or a
//!   failover everything that was stored before counts as a miss, so what a failover brings back does no harm. In a cluster
//!   the failover of one master does this to the entries of all.
//! * **Client-side tracking** in broadcast mode (`R13`): the server notifies near of every change, by whomever: a fill, an
//!   invalidation, an eviction, `DEL` by an operator, `FLUSHALL`. The notifications come on the connection that reads,
//!   in order, so what was read over a connection is never older than the notifications that came before it. A connection
//!   that is lost is a gap, and empties near.
//!
//! The README of this crate lists all arguments, the rights that a user needs, and what happens in each failure.
//!
//! A `maxmemory-policy` under which leases are evicted first, or nothing can be stored, is warned of (`R14`).

#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod describe;
mod greeting;
mod hub;
mod loss;
mod operations;
mod own;
mod script;
mod wire;

pub use config::{RedisConfig, Servers, Tls};
pub use describe::{Deployment, Description, ServerFacts};
pub use loss::Loss;
pub use mastaba::inspect::Capability;
pub use mastaba::shared::connections::{AtStart, ConnectError};
pub use operations::Redis;

use mastaba::{Arguments, Backend, BoxError};

/// Opens the backend of a region from its arguments: for
/// [`CacheBuilder::backend`](mastaba::CacheBuilder::backend), under whatever name the configuration shall use.
///
/// # Errors
/// What is wrong with the arguments, or why no server can be reached or used; see [`Redis::connect`].
pub async fn open(arguments: Arguments) -> Result<Backend, BoxError> {
    let config = RedisConfig::from_arguments(arguments)?;
    Ok(Backend::new(Redis::connect(config).await?))
}

/// The code of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
