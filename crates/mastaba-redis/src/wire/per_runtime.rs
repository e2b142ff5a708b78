//! One link per runtime, as [`connections`] has them, with errors as the client library has them.

use std::sync::Arc;

use mastaba::shared::connections;
pub(crate) use mastaba::shared::connections::{Keeping, lacks};
use redis::{ErrorKind, RedisError, RedisResult};
use tokio::runtime::Handle;

use crate::hub::Hub;

/// The links of a backend, by runtime.
pub(crate) type PerRuntime<L> = connections::PerRuntime<L, RedisError>;

/// `begin` makes a link that connects once it is kept.
pub(super) fn per_runtime<L: Send + Sync + 'static>(
    hub: &Arc<Hub>,
    begin: impl Fn() -> RedisResult<(Arc<L>, Keeping)> + Send + Sync + 'static,
) -> Arc<PerRuntime<L>> {
    let hub = Arc::downgrade(hub);
    // what a link that has ended was still to hear is lost (R13)
    let left = move || {
        if let Some(hub) = hub.upgrade() {
            hub.gap();
        }
    };
    PerRuntime::new(begin, left, unfit)
}

/// The runtime of the caller.
pub(super) fn current() -> RedisResult<Handle> {
    connections::current().map_err(unfit)
}

fn unfit(what: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, what).into()
}
