//! What becomes of caches while their server, or the way to it, fails: a suite for the authors of backends (feature `servers`,
//! Unix).
//!
//! [`conformance`](crate::conformance) looks at a backend alone. Here two processes read and write through caches over one
//! server, one of them by way of a [proxy](crate::proxy). Each scenario asserts what was acknowledged (I1), what callers and
//! the database saw, and that all is over when the fault is. [`every_outage!`](crate::every_outage) makes a test of each:
//!
//! ```ignore
//! struct OverRedis;
//!
//! impl Setup for OverRedis {
//!     type Server = RedisServer;
//!     type Backend = Redis;
//!     ..
//! }
//!
//! mod faults {
//!     mastaba_test::every_outage!(network super::OverRedis);
//! }
//! mod store_faults {
//!     mastaba_test::every_outage!(store super::OverRedis);
//! }
//! ```
//!
//! The scenarios need a real clock. [`OutageStage`] and [`CacheProcess`] are there for tests of what one backend has alone, and
//! [`commits`] and [`clocks`] for deployments that may be more than one server.

pub mod clocks;
pub mod commits;
pub mod network;
mod process;
mod server;
mod stage;
pub mod store;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mastaba::shared::Shared;

pub use process::{BUDGET, CacheProcess, faults, record};
pub use server::Server;
pub use stage::OutageStage;

/// A backend, and the server that it is for.
pub trait Setup {
    /// The server.
    type Server: Server;
    /// The backend.
    type Backend: Shared;
    /// An invalidation is one trip: with its request on its way it will be done, whatever becomes of the answer.
    const INVALIDATES_AT_ONCE: bool;

    /// The URL of a server without anything special about it that listens there; it may be a proxy.
    fn url(addr: SocketAddr) -> String;

    /// A backend with connections of its own, and with the namespace `mastaba:` for all that it stores.
    fn connect(url: &str) -> impl Future<Output = Self::Backend>;

    /// How its commands to this server are told from each other.
    fn words(server: &Self::Server) -> impl Future<Output = Words>;
}

/// By which words a proxy knows the commands of a backend as they travel: see
/// [`Proxy::reset_after`](crate::proxy::Proxy::reset_after).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// In a read of user 1, and in nothing that a read sends besides.
    pub read: &'static str,
    /// In what places a lease, and in no read.
    pub lease: &'static str,
    /// In what stores a value under a lease, and in nothing that comes before it.
    pub fill: &'static str,
    /// In an invalidation, and in no read.
    pub invalidation: &'static str,
}

/// Makes a test of each scenario, under its name, over a [`Setup`](crate::outages::Setup). Those of the `network`
/// and those of the `store` are asked for one by one, so that each may have a module.
#[macro_export]
macro_rules! every_outage {
    (network $deployment:ty) => {
        $crate::every_outage! {
            @ network $deployment:
                a_server_that_refuses_connections_costs_statements_and_no_answers
                readers_of_one_key_share_their_loads_while_the_server_is_away
                a_server_slower_than_the_budget_is_not_waited_for
                a_connection_that_swallows_everything_is_given_up
                answers_that_are_lost_on_their_way_are_not_taken_for_done
                a_read_whose_connection_is_reset_is_answered_by_the_source
                a_lease_whose_answer_is_lost_gives_no_right_to_fill
                a_fill_whose_answer_is_lost_is_voided_like_any_other
                an_invalidation_whose_answer_is_lost_is_sent_again_on_the_next_connection
                an_invalidation_that_never_arrived_is_not_acknowledged_and_sent_until_it_arrives
                a_write_waits_no_longer_than_its_budget_for_a_silent_server
        }
    };
    (store $deployment:ty) => {
        $crate::every_outage! {
            @ store $deployment:
                a_fill_after_a_flush_is_refused
                a_fill_after_a_restart_with_nothing_is_refused
                a_fill_into_an_empty_store_is_refused_also_where_nobody_wrote
                a_hold_that_the_store_has_lost_is_made_good_by_the_end_of_its_write
        }
    };
    (@ $module:ident $deployment:ty: $($name:ident)*) => {
        $(#[tokio::test]
        async fn $name() {
            $crate::outages::limited($crate::outages::$module::$name::<$deployment>()).await;
        })*
    };
}

/// Looks again and again until it is so.
///
/// # Panics
///
/// When it is not so after 20 seconds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A test that would hang fails instead.
///
/// # Panics
///
/// When it took longer than a minute.
pub async fn limited<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test took longer than a minute")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_scenario_becomes_a_test() {
        let list = include_str!("outages.rs");
        for text in [include_str!("outages/network.rs"), include_str!("outages/store.rs")] {
            let names = text.lines().filter_map(|line| line.strip_prefix("pub async fn ")?.split('<').next());
            assert!(names.clone().count() > 3);
            for name in names {
                assert!(list.lines().any(|line| line.trim() == name), "{name} is nobody's test");
            }
        }
    }
}
