//! Counts and latencies for an operator, with the feature `metrics`: through the facade of the crate of that name, to
//! whatever recorder the program has installed.
//!
//! The names below are stable. Labels are `region`, `source`, `tier`, `operation` and `outcome`; a key or a tag is
//! never in one. They are described once per [`Cache`](crate::Cache), when it is built: install the recorder before.
//!
//! | name | kind | labels | what |
//! | --- | --- | --- | --- |
//! | `mastaba_hits_total` | counter | region, source, tier | keys that `shared` answered, when their batch settles; keys that `request` and `near` answered, when the request ends |
//! | `mastaba_misses_total` | counter | region, source | keys that went on to the source, of those that the tiers before it were asked for |
//! | `mastaba_absences_total` | counter | region, source | keys of settled batches that have no row |
//! | `mastaba_stale_total` | counter | region, source | keys of settled batches that were answered with a stale value |
//! | `mastaba_failed_keys_total` | counter | region, source | keys that were answered with an error |
//! | `mastaba_joins_total` | counter | region, source | keys that a flight of another reader carried |
//! | `mastaba_other_shape_total` | counter | region, source | keys that stood in the shared tier in another shape of the type, as another version of the program writes it |
//! | `mastaba_loads_total` | counter | region, source, outcome | calls of a loader: `ok`, `failed`, `timeout`, `panic` |
//! | `mastaba_loaded_keys_total` | counter | region, source | keys that loaders were asked for |
//! | `mastaba_statements_total` | counter | region, source | statements of loaders: one per call, and those that they [count](crate::LoadContext::count_statements) beside it |
//! | `mastaba_load_keys` | histogram | region, source | keys per call of a loader |
//! | `mastaba_load_seconds` | histogram | region, source, outcome | how long a call of a loader took |
//! | `mastaba_held_back_loads_total` | counter | region, source, outcome | loads in an outage whose turn was not at once: `waited`, or `refused` because it would have come too late |
//! | `mastaba_held_back_seconds` | histogram | region, source, outcome | how long until that turn |
//! | `mastaba_trip_keys` | histogram | region, operation | keys per trip to the shared tier |
//! | `mastaba_trip_seconds` | histogram | region, operation, outcome | how long a trip took: `ok`, `failed` |
//! | `mastaba_faults_total` | counter | region, operation, outcome | trips that failed: `down`, `timeout`, `refused`, `damaged` |
//! | `mastaba_passed_over_total` | counter | region, operation | operations that were not tried, because the breaker was open |
//! | `mastaba_fills_total` | counter | region, outcome | records that were `stored`, or `refused` because of their fence; failed fills are faults |
//! | `mastaba_lease_waits_total` | counter | region, source, outcome | waits of a batch for the loads of other processes: `filled`, `taken_over` where such a load was voided, `out_of_patience` |
//! | `mastaba_lease_wait_seconds` | histogram | region, source, outcome | how long such a wait took |
//! | `mastaba_breaker_state` | gauge | region | 0 closed, 1 trying, 2 open |
//! | `mastaba_breaker_transitions_total` | counter | region, outcome | `opened`, `trying`, `still_open`, `closed` |
//! | `mastaba_near_voided_total` | counter | region, source | keys that invalidations of this process named to near, there or not |
//!
//! What the request itself or near answers without a batch costs nothing here: it is counted by the request anyway, and
//! told when its last clone is dropped.
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
        let (docs, _) = include_str!("telemetry.rs").split_once("#[cfg(").unwrap();
        let documented = named(docs, "| `mastaba_");
        assert!(recorded.len() >= 20, "{recorded:?}");
        assert_eq!(recorded, described);
        assert_eq!(documented, described);
    }
}
