//! One server, by what it says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wire::NEVER_EVICTS;

/// What a server says of itself. What it does not say is `None`, and stands in [`unknown`](MemcachedFacts::unknown).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemcachedFacts {
    /// Its name, as the list of servers has it.
    pub place: String,
    /// Why it cannot be used, or reached; then nothing else is known of it.
    pub down: Option<String>,
    /// Its version, as it says.
    pub version: Option<String>,
    /// How long it has been running.
    pub uptime: Option<Duration>,
    /// What its items take, in bytes.
    pub memory_used: Option<u64>,
    /// What they may take, in bytes (`-m`).
    pub memory_limit: Option<u64>,
    /// How many items it has.
    pub items: Option<u64>,
    /// Whether it makes room for new items once it is full (not `-M`).
    pub evicts: Option<bool>,
    /// How many items it has evicted since it was started.
    pub evicted: Option<u64>,
    /// Whether memory may move from items of one size to those of another.
    pub moves_memory: Option<bool>,
    /// The file that keeps its memory over an orderly restart (`-e`); an empty text: none.
    pub memory_file: Option<String>,
    /// The largest item that it takes, with its key, in bytes (`-I`).
    pub max_item: Option<u64>,
    /// How many connections it has.
    pub connections: Option<u64>,
    /// How many it may have (`-c`).
    pub max_connections: Option<u64>,
    /// How many it has turned away since it was started.
    pub refused_connections: Option<u64>,
    /// After which time it closes a connection on which nothing is asked; zero: never.
    pub idle_timeout: Option<Duration>,
    /// How far its clock is ahead of the one of this machine, in milliseconds. It says whole seconds, which it counts a little
    /// late: what may be the same time is 0.
    pub clock_ahead_ms: Option<i64>,
    /// With which list of servers it is used.
    pub list: Option<ListRecord>,
    /// What is dangerous about its settings, in sentences (`R14`).
    pub warnings: Vec<String>,
    /// What could not be learned, and why.
    pub unknown: Vec<(&'static str, String)>,
}

/// With which list of servers a server is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListRecord {
    /// With that of this backend.
    Ours,
    /// With another one: keys have other places there.
    Another,
    /// With none: no program has come to it since it was started or flushed, or the record was evicted.
    Missing,
}

/// How late the clock of a server may be by itself: it counts seconds, and not at their beginning.
const LATE_MS: i64 = 2000;

impl MemcachedFacts {
    pub(super) fn down(place: String, why: String) -> Self {
        Self { place, down: Some(why), ..Self::default() }
    }

    /// Reads the answers to `stats` and `stats settings`.
    pub(super) fn read(place: String, counts: &[String], settings: &[String]) -> Self {
        let (counts, settings) = (fields(counts), fields(settings));
        let count = |name: &str| counts.get(name)?.parse::<u64>().ok();
        let setting = |name: &str| settings.get(name)?.parse::<u64>().ok();
        let on = |name: &str| settings.get(name).map(|value| matches!(*value, "on" | "yes"));
        let file = |value: &&str| if matches!(*value, "(null)" | "(nil)") { "" } else { *value }.to_owned();
        let evicts = on("evictions");
        let mut facts = Self {
            place,
            version: counts.get("version").map(|version| (*version).to_owned()),
            uptime: count("uptime").map(Duration::from_secs),
            memory_used: count("bytes"),
            memory_limit: count("limit_maxbytes"),
            items: count("curr_items"),
            evicts,
            evicted: count("evictions"),
            moves_memory: on("slab_reassign").map(|may| may && setting("slab_automove") != Some(0)),
            memory_file: settings.get("memory_file").map(file),
            max_item: setting("item_size_max"),
            connections: count("curr_connections"),
            max_connections: setting("maxconns"),
            refused_connections: count("rejected_connections"),
            idle_timeout: setting("idle_timeout").map(Duration::from_secs),
            warnings: (evicts == Some(false)).then(|| NEVER_EVICTS.to_owned()).into_iter().collect(),
            ..Self::default()
        };
        for (what, command, is) in [
            ("version", "stats", facts.version.is_none()),
            ("uptime", "stats", facts.uptime.is_none()),
            ("memory", "stats", facts.memory_used.is_none()),
            ("limit", "stats", facts.memory_limit.is_none()),
            ("eviction", "stats settings", facts.evicts.is_none()),
            ("item size", "stats settings", facts.max_item.is_none()),
            ("connections", "stats", facts.connections.is_none()),
            ("idle timeout", "stats settings", facts.idle_timeout.is_none()),
            ("memory file", "stats settings", facts.memory_file.is_none()),
            ("clock", "stats", count("time").is_none()),
        ] {
            if is {
                facts.unknown.push((what, format!("`{command}` does not say it")));
            }
        }
        facts
    }

    /// Compares the clock that an answer to `stats` tells with that of this machine, at the end of a trip.
    pub(super) fn compare_clock(&mut self, counts: &[String], at_ms: u64, took: Duration) {
        let theirs = fields(counts).get("time").and_then(|time| time.parse::<i64>().ok());
        let Some(theirs) = theirs.and_then(|seconds| seconds.checked_mul(1000)) else { return };
        let Ok(ours) = i64::try_from(at_ms) else { return };
        let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        // somewhere in the trip it was somewhere in that second
        let ahead = theirs.saturating_sub(ours);
        let behind = ours.saturating_sub(took).saturating_sub(theirs.saturating_add(LATE_MS));
        self.clock_ahead_ms = Some(if ahead > 0 { ahead } else { -behind.max(0) });
    }
}

/// `STAT name value`, by name.
fn fields(lines: &[String]) -> BTreeMap<&str, &str> {
    lines.iter().filter_map(|line| line.strip_prefix("STAT ")?.split_once(' ')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(|line| format!("STAT {line}")).chain(["END".to_owned()]).collect()
    }

    #[test]
    fn what_it_does_not_say_is_unknown_and_says_why() {
        let facts = MemcachedFacts::read("h:1".to_owned(), &lines("version 1.6.38\nbytes many"), &lines(""));
        assert_eq!(facts.version.as_deref(), Some("1.6.38"));
        let unknown: Vec<_> = facts.unknown.iter().map(|(what, _)| *what).collect();
        assert!(!unknown.contains(&"version") && unknown.contains(&"memory") && unknown.contains(&"clock"));
        assert_eq!((facts.evicts, facts.warnings.len()), (None, 0));
    }

    #[test]
    fn settings_are_read_as_servers_write_them() {
        let settings = "evictions off\nslab_reassign yes\nslab_automove 0\nmemory_file (null)\nidle_timeout 7\nmaxconns 3";
        let facts = MemcachedFacts::read(String::new(), &lines(""), &lines(settings));
        assert_eq!((facts.evicts, facts.moves_memory), (Some(false), Some(false)));
        assert_eq!((facts.memory_file.as_deref(), facts.max_connections), (Some(""), Some(3)));
        assert_eq!(facts.idle_timeout, Some(Duration::from_secs(7)));
        assert!(facts.warnings[0].contains("leave -M out"), "{:?}", facts.warnings);
        let kept = "memory_file /mnt/pmem/file\nslab_reassign yes\nslab_automove 1\nevictions on";
        let kept = MemcachedFacts::read(String::new(), &lines(""), &lines(kept));
        assert_eq!(kept.memory_file.as_deref(), Some("/mnt/pmem/file"));
        assert_eq!((kept.evicts, kept.moves_memory, kept.warnings.len()), (Some(true), Some(true), 0));
    }

    #[test]
    fn a_clock_of_whole_seconds_is_wrong_only_where_it_cannot_be_right() {
        let ahead = |ours_ms, took| {
            let mut facts = MemcachedFacts::default();
            facts.compare_clock(&lines("time 100"), ours_ms, Duration::from_millis(took));
            facts.clock_ahead_ms
        };
        assert_eq!([100_000, 100_999, 102_000].map(|ours| ahead(ours, 0)), [Some(0); 3]);
        let wrong = [(99_000, 0), (103_000, 0), (103_000, 600)].map(|(ours, took)| ahead(ours, took));
        assert_eq!(wrong, [Some(1000), Some(-1000), Some(-400)]);
        let mut facts = MemcachedFacts::default();
        facts.compare_clock(&lines(""), 1, Duration::ZERO);
        assert_eq!(facts.clock_ahead_ms, None);
    }
}
