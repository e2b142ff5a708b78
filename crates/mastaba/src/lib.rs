//! Three tiers under every read of a web request.
//!
//! Mastaba is a layer between a web service and its data. A read asks the **request** first (a private map),
//! then **near** (an optional in-process cache), then the **shared** tier (a cache outside of the process, or
//! an embedded file), and then the **source** (the database, by one grouped select for everything that is
//! still missing). What is awaited together travels together, by itself.
//!
//! Begin with [`Source`], which says how to load many; give it to a [`Cache`]; and take one
//! [`RequestCache`] per request.
//!
//! ```
//! use mastaba::{Cache, LoadContext, Region, Rows, Source};
//! use std::collections::BTreeMap;
//!
//! struct TitleById(BTreeMap<u64, String>);
//!
//! impl Source for TitleById {
//!     type Key = u64;
//!     type Value = String;
//!     type Error = std::io::Error;
//!     const NAME: &'static str = "title.by_id";
//!     const REGION: &'static str = "objects";
//!
//!     async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Self::Error> {
//!         // select id, title from book where id = any($1)
//!         Ok(ids.iter().filter_map(|id| Some((*id, self.0.get(id)?.clone()))).collect())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let books = BTreeMap::from([(1, "Emma".to_owned()), (2, "Ulysses".to_owned())]);
//! let cache = Cache::builder()
//!     .region("objects", Region::memory())
//!     .source(TitleById(books))
//!     .build()
//!     .await?;
//!
//! let request = cache.request();
//! let (one, two, none) =
//!     tokio::try_join!(request.get::<TitleById>(1), request.get::<TitleById>(2), request.get::<TitleById>(3))?;
//! assert_eq!(one.unwrap().as_str(), "Emma");
//! assert_eq!(two.unwrap().as_str(), "Ulysses");
//! assert!(none.is_none());
//! assert_eq!(request.report().statements(), 1); // three gets, one call of the loader
//! # Ok::<_, mastaba::Error>(()) }).unwrap();
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod clock;
pub mod entry;
#[cfg(any(feature = "axum", feature = "actix"))]
pub mod extract;
pub mod inspect;
pub mod lease;
pub mod shared;
pub mod telemetry;

mod answer;
mod batch;
mod cache;
mod carried;
mod claim;
mod codec;
mod coherence;
mod config;
mod error;
mod event;
mod flight;
mod guarded;
mod key;
mod limits;
mod near;
mod policy;
mod read;
mod record;
mod region;
mod registry;
mod relation;
mod replicated;
mod report;
mod request;
mod runtime;
mod scope;
mod settings;
mod source;
#[allow(dead_code, reason = "it is for the compiler alone")]
mod spawnable;
mod sync;
mod waits;
mod worth;
mod write;

pub use answer::{Answers, Known, Outcome};
pub use cache::{Arguments, Backend, Cache, CacheBuilder, NearConfig, Region, RegionHandle, Sources};
pub use codec::Encoding;
pub use coherence::Coherence;
pub use config::{NearSettings, PolicySettings, RegionSettings, Settings};
#[doc(hidden)]
pub use error::chain;
pub use error::{BoxError, Error, Fault, FaultKind};
pub use event::Event;
pub use key::Key;
pub use limits::FOREVER;
pub use policy::{EntryPolicy, Policy, RegionPolicy, WriteMode};
pub use record::{Index, List, Record};
pub use relation::Lazy;
#[cfg(feature = "expand")]
pub use relation::{Expand, Expanded};
pub use replicated::{Checked, Positions, Prefer, Replicated};
pub use report::{Budget, Operation, Outcomes, Report, Tier, Trip};
pub use request::{BudgetGuard, DatabaseTrip, Force, RequestCache, Stash};
pub use scope::{OverBudget, Scope, ScopeEnd};
pub use source::{Fetched, LoadContext, LoadIn, Rows, Source};
pub use write::{CommitError, Committed, Keyed, Keys, Lost, Outgoing, Published, Savepoint, Settled, Write};

/// The code of the README, compiled and run.
#[cfg(all(doctest, feature = "embedded"))]
#[doc = include_str!("../README.md")]
mod readme {}
