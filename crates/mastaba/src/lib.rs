//! Three tiers under every read of a web request.
pub mod clock;
mod codec;
pub mod entry;
mod error;
mod key;
pub mod shared;

pub use error::{BoxError, Error, Fault, FaultKind};
