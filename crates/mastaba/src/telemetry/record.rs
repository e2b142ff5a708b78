//! With the feature `metrics`.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::error::{Error, Fault, FaultKind};
use crate::report::Outcomes;

/// Counts nothing of zero: a series that has never had anything is not there.
macro_rules! add {
    ($name:literal, $count:expr, $($label:literal => $value:expr),*) => {{
        let count: u64 = $count;
        if count > 0 {
            counter!($name, $($label => $value),*).increment(count);
        }
    }};
}

/// A batch of one source was answered; `asked`: also the tiers before the source were.
///
/// What near answered is left out: the request records that when it ends, with what near answered without a batch.
pub(crate) fn settled(region: &str, outcomes: &Outcomes, asked: bool) {
    let (source, region) = (outcomes.source, || region.to_owned());
    add!("mastaba_hits_total", outcomes.shared_hits, "region" => region(), "source" => source, "tier" => "shared");
    add!("mastaba_absences_total", outcomes.absent, "region" => region(), "source" => source);
    add!("mastaba_stale_total", outcomes.stale, "region" => region(), "source" => source);
    add!("mastaba_failed_keys_total", outcomes.failed, "region" => region(), "source" => source);
    add!("mastaba_joins_total", outcomes.joined, "region" => region(), "source" => source);
    add!("mastaba_other_shape_total", outcomes.other_shape, "region" => region(), "source" => source);
    if asked {
        let missed = outcomes.loaded + outcomes.failed;
        add!("mastaba_misses_total", missed, "region" => region(), "source" => source);
    }
}

/// The last clone of a request is gone: what it found of one source without a trip.
pub(crate) fn request_ended(outcomes: &Outcomes, region: &str) {
    let source = outcomes.source;
    for (tier, hits) in [("request", outcomes.request_hits), ("near", outcomes.near_hits)] {
        add!("mastaba_hits_total", hits, "region" => region.to_owned(), "source" => source, "tier" => tier);
    }
}

/// A loader was called, for so many keys.
pub(crate) fn load(
    source: &'static str,
    region: &str,
    (keys, statements): (usize, usize),
    took: Duration,
    error: Option<&Error>,
) {
    let outcome = match error {
        None => "ok",
        Some(error) if error.is_timeout() => "timeout",
        Some(error) if error.is_panic() => "panic",
        Some(_) => "failed",
    };
    let region = || region.to_owned();
    add!("mastaba_loads_total", 1, "region" => region(), "source" => source, "outcome" => outcome);
    add!("mastaba_loaded_keys_total", keys as u64, "region" => region(), "source" => source);
    add!("mastaba_statements_total", statements as u64, "region" => region(), "source" => source);
    histogram!("mastaba_load_keys", "region" => region(), "source" => source).record(keys as f64);
    histogram!("mastaba_load_seconds", "region" => region(), "source" => source, "outcome" => outcome)
        .record(took);
}

/// In an outage the turn of a load was not at once.
pub(crate) fn held_back(source: &'static str, region: &str, wait: Duration, outcome: &'static str) {
    let region = || region.to_owned();
    add!("mastaba_held_back_loads_total", 1, "region" => region(), "source" => source, "outcome" => outcome);
    histogram!("mastaba_held_back_seconds", "region" => region(), "source" => source, "outcome" => outcome)
        .record(wait);
}

/// A trip to the shared tier.
pub(crate) fn trip(
    region: &str,
    operation: &'static str,
    keys: usize,
    took: Duration,
    fault: Option<&Fault>,
) {
    let region = || region.to_owned();
    if let Some(fault) = fault {
        let kind = match fault.kind() {
            FaultKind::Down => "down",
            FaultKind::Timeout => "timeout",
            FaultKind::Refused => "refused",
            FaultKind::Damaged => "damaged",
        };
        add!("mastaba_faults_total", 1, "region" => region(), "operation" => operation, "outcome" => kind);
    }
    let outcome = if fault.is_some() { "failed" } else { "ok" };
    histogram!("mastaba_trip_keys", "region" => region(), "operation" => operation).record(keys as f64);
    histogram!("mastaba_trip_seconds", "region" => region(), "operation" => operation, "outcome" => outcome)
        .record(took);
}

/// An operation was not tried.
pub(crate) fn passed_over(region: &str, operation: &'static str) {
    add!("mastaba_passed_over_total", 1, "region" => region.to_owned(), "operation" => operation);
}

/// Which records of a fill were stored.
pub(crate) fn filled(region: &str, stored: &[bool]) {
    let kept = stored.iter().filter(|stored| **stored).count() as u64;
    let refused = stored.len() as u64 - kept;
    add!("mastaba_fills_total", kept, "region" => region.to_owned(), "outcome" => "stored");
    add!("mastaba_fills_total", refused, "region" => region.to_owned(), "outcome" => "refused");
}

/// A read waited for the load of another process.
pub(crate) fn lease_wait(source: &'static str, region: &str, took: Duration, outcome: &'static str) {
    let region = || region.to_owned();
    add!("mastaba_lease_waits_total", 1, "region" => region(), "source" => source, "outcome" => outcome);
    histogram!("mastaba_lease_wait_seconds", "region" => region(), "source" => source, "outcome" => outcome)
        .record(took);
}

pub(crate) fn breaker_opened(region: &str) {
    breaker(region, 2.0, "opened");
}

pub(crate) fn breaker_probing(region: &str) {
    breaker(region, 1.0, "trying");
}

pub(crate) fn breaker_still_open(region: &str) {
    breaker(region, 2.0, "still_open");
}

pub(crate) fn breaker_closed(region: &str) {
    breaker(region, 0.0, "closed");
}

fn breaker(region: &str, state: f64, outcome: &'static str) {
    gauge!("mastaba_breaker_state", "region" => region.to_owned()).set(state);
    add!("mastaba_breaker_transitions_total", 1, "region" => region.to_owned(), "outcome" => outcome);
}

/// An invalidation named so many keys to near.
pub(crate) fn near_voided(source: &'static str, region: &str, keys: usize) {
    add!("mastaba_near_voided_total", keys as u64, "region" => region.to_owned(), "source" => source);
}

/// Says what every name means, and that the breakers are closed.
pub(crate) fn describe<'r>(regions: impl Iterator<Item = &'r str>) {
    use metrics::Unit::{Count, Seconds};

    describe_counter!("mastaba_hits_total", Count, "Keys that a tier answered.");
    describe_counter!("mastaba_misses_total", Count, "Keys that went on to the source.");
    describe_counter!("mastaba_absences_total", Count, "Keys that have no row.");
    describe_counter!("mastaba_stale_total", Count, "Keys that were answered with a stale value.");
    describe_counter!("mastaba_failed_keys_total", Count, "Keys that were answered with an error.");
    describe_counter!(
        "mastaba_other_shape_total",
        Count,
        "Keys whose entry was of another version of the program."
    );
    describe_counter!("mastaba_joins_total", Count, "Keys that a flight of another reader carried.");
    describe_counter!("mastaba_loads_total", Count, "Calls of a loader.");
    describe_counter!("mastaba_loaded_keys_total", Count, "Keys that loaders were asked for.");
    describe_counter!(
        "mastaba_statements_total",
        Count,
        "Statements of loaders: one per call, and what they count."
    );
    describe_histogram!("mastaba_load_keys", Count, "Keys per call of a loader.");
    describe_histogram!("mastaba_load_seconds", Seconds, "How long a call of a loader took.");
    describe_counter!("mastaba_held_back_loads_total", Count, "Loads that an outage made wait, or refused.");
    describe_histogram!("mastaba_held_back_seconds", Seconds, "How long until the turn of such a load.");
    describe_histogram!("mastaba_trip_keys", Count, "Keys per trip to the shared tier.");
    describe_histogram!("mastaba_trip_seconds", Seconds, "How long a trip to the shared tier took.");
    describe_counter!("mastaba_faults_total", Count, "Trips to the shared tier that failed.");
    describe_counter!(
        "mastaba_passed_over_total",
        Count,
        "Operations that an open breaker kept from the shared tier."
    );
    describe_counter!(
        "mastaba_fills_total",
        Count,
        "Records that were stored, or refused because of their fence."
    );
    describe_counter!("mastaba_lease_waits_total", Count, "Waits for the load of another process.");
    describe_histogram!("mastaba_lease_wait_seconds", Seconds, "How long such a wait took.");
    describe_gauge!("mastaba_breaker_state", Count, "0: closed; 1: trying; 2: open.");
    describe_counter!("mastaba_breaker_transitions_total", Count, "What the breaker did.");
    describe_counter!("mastaba_near_voided_total", Count, "Keys that invalidations named to near.");
    for region in regions {
        gauge!("mastaba_breaker_state", "region" => region.to_owned()).set(0.0);
    }
}
