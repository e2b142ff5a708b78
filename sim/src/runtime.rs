//! What stands in place of the library's `runtime.rs`.

/// There is one runtime here, and it is driven.
pub(crate) struct Home;
