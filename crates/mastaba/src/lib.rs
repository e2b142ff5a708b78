//! Three tiers under every read of a web request.
pub mod clock;
pub mod entry;
mod error;
pub mod lease;
pub mod shared;

pub use error::{BoxError, Error, Fault, FaultKind};
