//! `mastaba doctor`: what the servers are, what the library will use of them, and what to change.

mod advice;
mod memcached;
mod redis;
mod report;
mod trips;

use mastaba::inspect::Capability;

use self::report::Used;
use crate::args::DoctorArgs;
use crate::store::Store;
use crate::trouble::Trouble;

pub(crate) use self::report::Diagnosis;

/// Looks at the servers behind a URL.
pub(crate) async fn examine(url: &str, asked: &DoctorArgs) -> Result<Diagnosis, Trouble> {
    match Store::open(url).await? {
        Store::Redis(redis, config) => redis::examine(&redis, &config, asked).await,
        Store::Memcached(memcached, config) => memcached::examine(&memcached, &config, asked).await,
    }
}

fn used(capabilities: Vec<Capability>) -> Vec<Used> {
    capabilities.into_iter().map(|it| Used { what: it.name, used: it.used, how: it.how }).collect()
}
