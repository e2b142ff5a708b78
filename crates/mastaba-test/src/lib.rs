//! What tests of caches need: a small world with a trip ledger, fault injection, and the conformance suite for
//! authors of backends.

pub mod clock;
pub mod conformance;
pub mod faulty;
pub mod ledger;
pub mod passing;
#[cfg(all(feature = "servers", unix))]
pub mod proxy;
#[cfg(all(feature = "servers", unix))]
pub mod servers;
pub mod telling;
pub mod world;
