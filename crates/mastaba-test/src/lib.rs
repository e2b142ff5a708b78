//! What tests of caches need: a small world with a trip ledger, fault injection, and the conformance suite for
//! authors of backends.

#![cfg_attr(docsrs, feature(doc_cfg))]

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

/// The code of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
