//! One server, by what it says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::greeting::Greeting;
use crate::wire::ServerSaid;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerFacts {
    /// Where a node of a cluster is; empty where there is one server alone.
    pub place: String,
    /// The port that it listens on.
    pub port: Option<u16>,
    /// `Redis`, `Valkey`, or what else it calls itself.
    pub software: String,
    /// Its version, as it says.
    pub version: Option<String>,
    /// `master` or `slave`.
    pub role: Option<String>,
    /// How many replicas are connected to it.
    pub replicas: Option<u64>,
    /// How long it has been running.
    pub uptime: Option<Duration>,
    /// What it uses, in bytes.
    pub memory_used: Option<u64>,
    /// What it may use, in bytes; zero: without a limit.
    pub memory_limit: Option<u64>,
    /// What it does when that is reached: `maxmemory-policy`.
    pub eviction: Option<String>,
    /// How many keys it has evicted since it was started.
    pub evicted: Option<u64>,
    /// When it writes snapshots, as in its configuration; an empty text: never.
    pub snapshots: Option<String>,
    /// Whether it writes a log of all commands (`appendonly`).
    pub append_only: Option<bool>,
    /// How far its clock is ahead of the one of this machine, in milliseconds; known to half of the trip that asked for it.
    pub clock_ahead_ms: Option<i64>,
    /// What is dangerous about its settings, in sentences (`R14`).
    pub warnings: Vec<String>,
    /// What could not be learned, and why.
    pub unknown: Vec<(&'static str, String)>,
}

impl ServerFacts {
    /// Reads an answer to `INFO`. Of a server that refuses it nothing is known.
    pub(super) fn read(said: ServerSaid) -> Self {
        let (info, why) = match said.words {
            Ok(words) => (words.concat(), "INFO does not say it".to_owned()),
            Err(why) => (String::new(), why),
        };
        let fields: BTreeMap<&str, &str> =
            info.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let text = |name: &str| fields.get(name).map(|text| (*text).to_owned());
        let number = |name: &str| fields.get(name).and_then(|text| text.parse().ok());
        let others = ["valkey", "dragonfly", "keydb"];
        let own = others.into_iter().find(|name| fields.contains_key(format!("{name}_version").as_str()));
        let software = match own {
            Some(name) => name[..1].to_uppercase() + &name[1..],
            None => "Redis".to_owned(),
        };
        let mut facts = Self {
            version: text(&format!("{}_version", own.unwrap_or("redis"))),
            place: said.place,
            port: fields.get("tcp_port").and_then(|text| text.parse().ok()).filter(|port| *port != 0),
            software,
            role: text("role"),
            replicas: number("connected_slaves"),
            uptime: number("uptime_in_seconds").map(Duration::from_secs),
            memory_used: number("used_memory"),
            memory_limit: number("maxmemory"),
            eviction: text("maxmemory_policy"),
            evicted: number("evicted_keys"),
            snapshots: None,
            append_only: text("aof_enabled").map(|flag| flag == "1"),
            clock_ahead_ms: None,
            warnings: Greeting::read(&info).map(|greeting| greeting.warnings()).unwrap_or_default(),
            unknown: Vec::new(),
        };
        let untold = [
            ("version", facts.version.is_none()),
            ("role", facts.role.is_none()),
            ("uptime", facts.uptime.is_none()),
            ("memory", facts.memory_used.is_none()),
            ("limit", facts.memory_limit.is_none()),
            ("eviction", facts.eviction.is_none()),
            ("append-only log", facts.append_only.is_none()),
        ];
        let untold = untold.into_iter().filter(|(_, is)| *is);
        facts.unknown.extend(untold.map(|(name, _)| (name, why.clone())));
        facts
    }

    /// Reads the answer to another command.
    pub(super) fn learn(&mut self, command: &str, said: ServerSaid) {
        let what = if command == "TIME" { "clock" } else { "snapshots" };
        let words = match said.words {
            Ok(words) => words,
            Err(why) => return self.unknown.push((what, why)),
        };
        let known = match command {
            "TIME" => {
                self.clock_ahead_ms = ahead(&words, said.took, said.at_ms);
                self.clock_ahead_ms.is_some()
            }
            _ => {
                self.snapshots = words.get(1).cloned();
                self.snapshots.is_some()
            }
        };
        if !known {
            self.unknown.push((what, format!("{command} was answered with something else")));
        }
    }
}

/// How far a clock was ahead that said this, in the middle of a trip that ended then.
fn ahead(words: &[String], took: Duration, at_ms: u64) -> Option<i64> {
    let [seconds, micros] = words else { return None };
    let theirs = seconds.parse::<i64>().ok()?.checked_mul(1000)? + micros.parse::<i64>().ok()? / 1000;
    let ours = i64::try_from(at_ms).ok()? - i64::try_from(took.as_millis() / 2).ok()?;
    Some(theirs - ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> ServerSaid {
        ServerSaid { place: String::new(), took: Duration::ZERO, at_ms: 0, words: Ok(vec![text.to_owned()]) }
    }

    #[test]
    fn a_server_is_known_by_the_name_that_it_gives_itself() {
        for (info, software, version) in [
            ("redis_version:7.0.15\r\ntcp_port:7\r\n", "Redis", Some("7.0.15")),
            ("redis_version:7.2.4\r\nvalkey_version:9.1.2\r\n", "Valkey", Some("9.1.2")),
            ("redis_version:7.4.0\r\ndragonfly_version:df-v1.2\r\n", "Dragonfly", Some("df-v1.2")),
            ("nothing of it", "Redis", None),
        ] {
            let facts = ServerFacts::read(said(info));
            assert_eq!((facts.software.as_str(), facts.version.as_deref()), (software, version));
            assert_eq!(facts.unknown.iter().any(|(what, _)| *what == "version"), version.is_none());
        }
    }

    #[test]
    fn what_is_refused_is_unknown_and_says_why() {
        let mut facts = ServerFacts::read(said("redis_version:7.0.15\r\nused_memory:5\r\n"));
        let refused = ServerSaid { words: Err("the user has no right to TIME".to_owned()), ..said("") };
        facts.learn("TIME", refused);
        facts.learn("CONFIG", said("save"));
        assert_eq!((facts.clock_ahead_ms, facts.memory_used), (None, Some(5)));
        let unknown: BTreeMap<_, _> = facts.unknown.iter().map(|(what, why)| (*what, why.as_str())).collect();
        assert_eq!(unknown["clock"], "the user has no right to TIME");
        assert_eq!(unknown["snapshots"], "CONFIG was answered with something else");
        assert_eq!(unknown["limit"], "INFO does not say it");
        let hidden = ServerFacts::read(ServerSaid {
            words: Err("the user has no right to INFO".to_owned()),
            ..said("")
        });
        assert!(
            hidden.unknown.len() >= 6 && hidden.unknown.iter().all(|(_, why)| why.ends_with("right to INFO"))
        );
    }

    #[test]
    fn a_clock_is_compared_in_the_middle_of_the_trip() {
        let ahead = |took| {
            let words = ["1000".to_owned(), "500000".to_owned()];
            super::ahead(&words, Duration::from_millis(took), 999_000).unwrap()
        };
        assert_eq!([ahead(0), ahead(1), ahead(2000)], [1500, 1500, 2500]);
        assert_eq!(super::ahead(&["soon".to_owned(), "0".to_owned()], Duration::ZERO, 0), None);
    }
}
