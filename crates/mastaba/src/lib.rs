//! Three tiers under every read of a web request.
pub mod clock;
mod codec;
mod config;
pub mod entry;
mod error;
mod key;
pub mod shared;

pub use config::{NearSettings, PolicySettings, RegionSettings, Settings};
pub use error::{BoxError, Error, Fault, FaultKind};
pub use key::Key;
