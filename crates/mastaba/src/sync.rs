//! The primitives that claims and flights are built on.
//!
//! They stand here so that the schedule tests in `sim/` can put others in their place.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic of another holder: what is behind these locks is consistent between any two
/// statements, so a panic elsewhere must not spread.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
