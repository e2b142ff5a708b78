//! How even keys lie in a cluster of three, by the slots of their names: without a server.

use crate::rounds::{Effort, Table, recorded};

use super::{Shards, spread};

/// The keys of a source, of which some are asked for often: the n-th as often as 1/n.
const KEYS: u32 = 20_000;
const SLOTS: u16 = 16_384;

/// For many names of a source: which share of its keys lies on the fullest node, and which share of its reads goes to the
/// slot that is asked most, which no other node can take a part of.
pub(super) fn tables(effort: Effort) -> [Table; 2] {
    let names = if effort.quick { 3 } else { 200 };
    let (mut nodes, mut slots) = (Vec::new(), Vec::new());
    for (case, worst, shards) in [
        ("reference", "reference, worst name", Shards::None),
        ("16 shards", "16 shards, worst name", Shards::Of(16)),
        ("64 shards", "64 shards, worst name", Shards::Of(64)),
    ] {
        let (fullest, hottest): (Vec<_>, Vec<_>) =
            (0..names).map(|name| shares(&format!("source{name}"), shards)).unzip();
        let most = fullest.iter().copied().fold(0.0, f64::max);
        nodes.extend([(case, fullest), (worst, vec![most])]);
        slots.push((case, hottest));
    }
    [
        recorded(
            "P13 balance",
            format!(
                "share of the keys of a source on the fullest of three nodes, of {names} names of a source"
            ),
            ("%", None),
            nodes,
        ),
        recorded(
            "P13 hot slot",
            "share of the reads of a source that go to its hottest slot, where the n-th key is read as often as 1/n",
            ("%", None),
            slots,
        ),
    ]
}

/// In percent: of the keys on the fullest node, of the reads of the hottest slot.
fn shares(source: &str, shards: Shards) -> (f64, f64) {
    let mut nodes = [0.0; 3];
    let mut slots = vec![0.0; usize::from(SLOTS)];
    let mut reads = 0.0;
    for id in 1..=KEYS {
        let slot = match shards {
            Shards::None => slot(&format!("mastaba:objects:{source}:{id}")),
            Shards::Of(count) => slot(&format!("{source}:{}", spread(&id.to_string()) % count)),
        };
        nodes[usize::from(slot) * 3 / usize::from(SLOTS)] += 1.0;
        let often = 1.0 / f64::from(id);
        slots[usize::from(slot)] += often;
        reads += often;
    }
    let most = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    (most(&nodes) * 100.0 / f64::from(KEYS), most(&slots) * 100.0 / reads)
}

/// The slot of a key, or of its hash tag.
fn slot(tag: &str) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(tag.as_bytes()) % SLOTS
}
