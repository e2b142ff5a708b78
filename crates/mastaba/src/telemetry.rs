//! Counts and latencies for an operator, with the feature `metrics`: through the facade of the crate of that name, to
//! whatever recorder the program has installed.
//!
//! The names below are stable. Labels are `region`, `source`, `tier`, `operation` and `outcome`; a key or a tag is
//! never in one. They are described once per [`Cache`](crate::Cache), when it is built: install the recorder before.
//!
#![doc = include_str!("../docs/metrics.md")]
//!
//! What the request itself or near answers without a batch costs nothing here: it is counted by the request anyway, and
//! recorded when its last clone is dropped.
//!
//! Without the feature all of this is empty and compiled away.

#[cfg(feature = "metrics")]
mod record;
#[cfg(feature = "metrics")]
pub(crate) use self::record::*;

#[cfg(not(feature = "metrics"))]
mod nothing;
#[cfg(not(feature = "metrics"))]
pub(crate) use self::nothing::*;

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::collections::BTreeSet;

    /// Every name after this opening.
    fn named<'t>(text: &'t str, opening: &str) -> BTreeSet<&'t str> {
        let starts =
            text.match_indices(opening).map(|(at, _)| &text[at + opening.len() - "mastaba_".len()..]);
        starts.filter_map(|rest| rest.split(['"', '`']).next()).collect()
    }

    #[test]
    fn what_is_recorded_is_described_and_stands_in_the_table() {
        let code = include_str!("telemetry/record.rs");
        let (recording, describing) = code.split_once("pub(crate) fn describe").unwrap();
        let (recorded, described) = (named(recording, "\"mastaba_"), named(describing, "\"mastaba_"));
        // of this module's documentation, and of the book
        let documented = named(include_str!("../docs/metrics.md"), "| `mastaba_");
        assert!(recorded.len() >= 20, "{recorded:?}");
        assert_eq!(recorded, described);
        assert_eq!(documented, described);
    }
}
