//! What a fleet costs one Redis, worked out from what one thing costs.

use crate::rounds::{Table, recorded};

use super::costs::Costs;

const PROCESSES: [(&str, f64); 3] =
    [("10 processes", 10.0), ("100 processes", 100.0), ("1,000 processes", 1000.0)];
/// Keys that change per second, over all processes.
const CHANGES: [(&str, f64); 4] = [
    ("10 changes/s", 10.0),
    ("100 changes/s", 100.0),
    ("1,000 changes/s", 1000.0),
    ("10,000 changes/s", 10_000.0),
];

/// Of one core.
fn percent(micros_per_second: f64) -> f64 {
    micros_per_second / 1e4
}

pub(super) fn tables(costs: &Costs) -> [Table; 6] {
    let core = ("% of a core", None);
    [
        recorded(
            "P14 plan messages",
            "CPU of Redis to tell every process of 100 changes a second",
            core,
            each(&PROCESSES, |processes| percent(100.0 * processes * costs.message)),
        ),
        recorded(
            "P14 plan traffic",
            "what leaves Redis for that",
            ("MiB/s", None),
            each(&PROCESSES, |processes| 100.0 * processes * costs.message_bytes / f64::from(1 << 20)),
        ),
        recorded(
            "P14 plan Bounded",
            "CPU of Redis for the pings of near that is bounded by a second, whatever is read",
            core,
            each(&PROCESSES, |processes| percent(2.0 * processes * costs.ping)),
        ),
        recorded(
            "P14 plan Fenced",
            "CPU of Redis for the pings of near that is fenced, with 100 requests a second in each process",
            core,
            each(&PROCESSES, |processes| percent(100.0 * processes * costs.ping)),
        ),
        recorded(
            "P14 plan taken in",
            "CPU of each process to take in all messages, however many processes there are",
            core,
            each(&CHANGES, |changes| percent(changes * costs.taken_in)),
        ),
        recorded(
            "P14 plan break-even",
            "reads of one key that near, bounded by a second, has to answer in each process before Redis works less for it",
            ("hits/s", None),
            each(&CHANGES, |changes| (changes * costs.message + 2.0 * costs.ping) / costs.read),
        ),
    ]
}

fn each(of: &[(&'static str, f64)], figure: impl Fn(f64) -> f64) -> Vec<(&'static str, Vec<f64>)> {
    of.iter().map(|(name, value)| (*name, vec![figure(*value)])).collect()
}
