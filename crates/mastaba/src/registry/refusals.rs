//! Keys that could not be filled, as far as this process has met them lately.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rapidhash::v3::rapidhash_v3;

/// How many keys are remembered; one that meets another takes its place.
const PLACES: usize = 1024;

/// Keys of a source whose last fill was refused.
///
/// Those whose values cannot be stored: a lease on such a key is never followed by a fill, so a reader that meets one does not
/// wait (`R3`). And those where a fill without a lease came to nothing: their next load takes one (`R20`). To forget a key, or
/// to take another one for it, costs a wait, a trip or a load and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Refusals(OnceLock<Box<[AtomicU64]>>);

impl Refusals {
    /// Nothing was stored under this key of the shared tier.
    pub(crate) fn note(&self, record: &[u8]) {
        let places = self.0.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        let hash = hash(record);
        place(places, hash).store(hash, Ordering::Relaxed);
    }

    /// A value was.
    pub(crate) fn forget(&self, record: &[u8]) {
        if let Some(places) = self.0.get() {
            let hash = hash(record);
            let _ = place(places, hash).compare_exchange(hash, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether the last fill of this key here was refused.
    pub(crate) fn hold(&self, record: &[u8]) -> bool {
        let hash = || hash(record);
        self.0.get().is_some_and(|places| place(places, hash()).load(Ordering::Relaxed) == hash())
    }
}

fn hash(record: &[u8]) -> u64 {
    rapidhash_v3(record).max(1)
}

fn place(places: &[AtomicU64], hash: u64) -> &AtomicU64 {
    &places[usize::try_from(hash % PLACES as u64).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_until_its_value_was_stored() {
        let refusals = Refusals::default();
        refusals.forget(b"one");
        assert!(!refusals.hold(b"one"));
        refusals.note(b"one");
        assert!(refusals.hold(b"one") && !refusals.hold(b"two"));
        refusals.forget(b"two");
        assert!(refusals.hold(b"one"));
        refusals.forget(b"one");
        assert!(!refusals.hold(b"one"));
    }
}
