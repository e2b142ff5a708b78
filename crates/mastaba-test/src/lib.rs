//! What tests need.
//!
//! For those of a program: its cache in memory ([`TestCache`]), and the assertion that a page is no N+1 ([`assert_flat`]). For
//! those of caches and backends: a small world with a trip ledger, fault injection, and the conformance suite.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod clock;
pub mod conformance;
pub mod faulty;
mod kit;
pub mod ledger;
#[cfg(all(feature = "servers", unix))]
pub mod outages;
pub mod passing;
#[cfg(all(feature = "servers", unix))]
pub mod proxy;
#[cfg(all(feature = "servers", unix))]
pub mod servers;
pub mod telling;
pub mod world;

pub use kit::{TestCache, assert_flat};

/// The code of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
