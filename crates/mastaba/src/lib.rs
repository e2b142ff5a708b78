//! Three tiers under every read of a web request.
pub mod clock;
mod config;
pub mod entry;
mod error;
pub mod shared;

pub use error::{BoxError, Error, Fault, FaultKind};
