//! `mastaba doctor`: what the servers are, what the library will use of them, and what to change.

mod advice;
mod redis;
mod report;

use crate::args::DoctorArgs;
use crate::store::Store;
use crate::trouble::Trouble;

pub(crate) use self::report::Diagnosis;

/// Looks at the servers behind a URL.
pub(crate) async fn examine(url: &str, asked: &DoctorArgs) -> Result<Diagnosis, Trouble> {
    match Store::open(url).await? {
        Store::Redis(redis, config) => redis::examine(&redis, &config, asked).await,
    }
}
