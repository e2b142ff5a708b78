//! The shared tier: an embedded file, or Redis.

use std::path::Path;

use mastaba::{CacheBuilder, Region};

use crate::Result;

/// The region of all objects, and the builder with its backend.
pub(crate) fn tier(
    builder: CacheBuilder,
    redis: Option<&str>,
    folder: &Path,
) -> Result<(CacheBuilder, Region)> {
    match redis {
        None => Ok((builder, Region::embedded(folder))),
        Some(_) => Err("--redis: this build has no Redis in it yet".into()),
    }
}
