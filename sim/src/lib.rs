//! The library's own claims and flights, over many schedules.
//!
//! `batch.rs`, `flight.rs` and what they need are compiled here a second time, on top of shuttle's primitives: every lock is
//! then a point where another task may run, and a task that waits without anybody left to wake it is found.
//! Around them stand small models of what they are used by: a database of versions, a shared tier of
//! fences, readers and writers that take the library's steps in the library's order.
//!
//! [`flights`] checks rule `R5` and invariant `I1` of the protocol; [`batches`] checks that no reader waits
//! in vain, whoever is dropped when. Each takes a fault to build in, so that a test can see itself fail.

pub mod batches;
pub mod flights;
pub mod lookouts;
pub mod runs;

#[allow(dead_code, reason = "the library uses more of it")]
#[path = "../../crates/mastaba/src/batch.rs"]
mod batch;
#[allow(
    dead_code,
    clippy::cloned_instead_of_copied,
    reason = "the library uses more of it, and with types that are no numbers"
)]
#[path = "../../crates/mastaba/src/flight.rs"]
mod flight;
#[allow(dead_code, reason = "the library uses more of it")]
#[path = "../../crates/mastaba/src/guarded.rs"]
mod guarded;
#[allow(dead_code, reason = "the library uses more of it")]
#[path = "../../crates/mastaba/src/request/lookout.rs"]
mod lookout;
mod runtime;
#[allow(dead_code, reason = "the library uses more of it")]
#[path = "../../crates/mastaba/src/request/standby.rs"]
mod standby;
mod steps;
mod sync;
#[allow(dead_code, reason = "the library uses more of it")]
#[path = "../../crates/mastaba/src/waits.rs"]
mod waits;
