//! The shared tier: an embedded file, or Redis.

use std::path::Path;

use mastaba::{CacheBuilder, Region};

/// The region of all objects, and the builder with its backend.
pub(crate) fn tier(builder: CacheBuilder, redis: Option<&str>, folder: &Path) -> (CacheBuilder, Region) {
    match redis {
        None => (builder, Region::embedded(folder)),
        Some(url) => {
            let arguments = [("url".to_owned(), url.to_owned())].into();
            (builder.backend("redis", mastaba_redis::open), Region::named("redis", arguments))
        }
    }
}
