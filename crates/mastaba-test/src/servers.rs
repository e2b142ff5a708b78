//! Real servers for tests, each on free loopback ports in a temporary folder of its own (feature `servers`, Unix).
//!
//! Every `start` gives `None` when its program is not installed, or cannot do what is asked of it (TLS): the test then says
//! that it was skipped, and returns. In CI, where nobody reads such lines, it panics, unless the variable `MASTABA_SKIPPED`
//! names a file: each skipped test then has a line in it, and somebody counts. What starts, ends with its value: dropping it kills the process
//! and removes the folder, so that nothing outlives a test. Nothing here is meant to survive a mistake quietly either:
//! a server that does not start, does not answer or does not end panics with a sentence and the end of its log.
//!
//! ```
//! use mastaba_test::servers::RedisServer;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let Some(server) = RedisServer::start().await else { return };
//! assert_eq!(server.command(&["SET", "a", "1"]).await, "OK");
//! assert_eq!(server.command(&["GET", "a"]).await, "1");
//! # });
//! ```

mod cluster;
mod home;
mod mariadb;
mod memcached;
mod missing;
mod postgres;
pub(crate) mod process;
mod programs;
mod redis;
pub mod resp;
mod sentinel;
mod skip;
mod tls;
pub(crate) mod wait;

pub use cluster::{Cluster, Migration};
pub use mariadb::Mariadb;
pub use memcached::{MemcachedBuilder, MemcachedServer};
pub use missing::missing;
pub use postgres::Postgres;
pub use process::{Signal, signal};
pub use programs::{Program, RELEASE, Recipe, Supply, Wheel, fetched};
pub use redis::{RedisBuilder, RedisServer, RedisTraits};
pub use sentinel::Sentinels;
pub use tls::Certificates;
