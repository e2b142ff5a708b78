//! How deep a value may be nested, and where there is room for it.
//!
//! `Serialize` and `Deserialize` call themselves for every level, and a stack that ends takes the process with it.
//! So depth is counted before anything descends, and what is deep runs on a stack of its own.

use std::io;
use std::panic::resume_unwind;
use std::thread::{Builder, scope};

/// The most steps down in a value: each struct, variant, list, map, tuple, `Some` and newtype is one, and a variant
/// with several fields is two. A tree whose nodes hold lists of nodes may have 256 levels.
///
/// The book names it, in its chapter on values.
pub(super) const MOST: usize = 512;

/// The most steps that are taken on the stack of whoever asks, which may be that of a worker with 2 MiB.
pub(super) const SHALLOW: usize = 32;

/// 128 KiB per step: without optimisation, a level of an untagged enum takes some tens of them. Pages that nothing
/// touches cost nothing.
const STACK: usize = MOST * 128 * 1024;

/// Runs `work` on a large stack, and waits for it. That costs a thread, and values that need it are rare.
///
/// # Errors
/// If there is no room for a thread.
pub(super) fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    scope(|scope| {
        let thread =
            Builder::new().name("mastaba-deep".into()).stack_size(STACK).spawn_scoped(scope, work)?;
        thread.join().or_else(|panic| resume_unwind(panic))
    })
}
