//! What a doctor found: the shape of its JSON, and its table.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;
use serde_json::json;

use crate::output::{Printed, Table};

/// All that was found. The names of its fields are those of the JSON, which stay.
#[derive(Debug, Serialize)]
pub(crate) struct Diagnosis {
    /// The backend: `redis`, `memcached`.
    pub(crate) backend: &'static str,
    /// Where the servers are, without a password.
    pub(crate) place: String,
    /// `single`, `sentinel`, `cluster`; `list`: several servers of Memcached.
    pub(crate) deployment: &'static str,
    pub(crate) connection: Connected,
    pub(crate) uses: Vec<Used>,
    pub(crate) servers: Vec<Examined>,
    pub(crate) advice: Vec<Advice>,
}

/// The connection to the servers.
#[derive(Debug, Serialize)]
pub(crate) struct Connected {
    pub(crate) protocol: String,
    pub(crate) tls: bool,
    /// Whether a password is given.
    pub(crate) password: bool,
    /// Whether commands are sent at once; nothing for a unix socket.
    pub(crate) nodelay: Option<bool>,
    pub(crate) pings: u32,
    /// Of one ping to each server, in microseconds. Nothing if the user may not ping.
    pub(crate) round_trip_p50_us: Option<u64>,
    pub(crate) round_trip_p99_us: Option<u64>,
}

/// What the library uses or does without.
#[derive(Debug, Serialize)]
pub(crate) struct Used {
    pub(crate) what: &'static str,
    pub(crate) used: bool,
    pub(crate) how: String,
}

/// One server. What is not known is nothing, and stands in `unknown` with the reason.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Examined {
    pub(crate) place: String,
    pub(crate) software: String,
    pub(crate) version: Option<String>,
    pub(crate) uptime_s: Option<u64>,
    pub(crate) memory_used_bytes: Option<u64>,
    /// Zero: without a limit.
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) eviction: Option<String>,
    pub(crate) evicted_keys: Option<u64>,
    pub(crate) clock_ahead_ms: Option<i64>,
    #[serde(flatten)]
    pub(crate) own: Own,
    pub(crate) unknown: Vec<Untold>,
}

/// What servers of one sort alone have.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Own {
    Redis(OfRedis),
    Memcached(OfMemcached),
}

impl Default for Own {
    fn default() -> Self {
        Self::Redis(OfRedis::default())
    }
}

/// What Redis and Valkey have.
#[derive(Debug, Default, Serialize)]
pub(crate) struct OfRedis {
    pub(crate) role: Option<String>,
    pub(crate) replicas: Option<u64>,
    pub(crate) snapshots: Option<String>,
    pub(crate) append_only: Option<bool>,
}

/// What Memcached has.
#[derive(Debug, Default, Serialize)]
pub(crate) struct OfMemcached {
    /// Why it cannot be used; nothing: it can.
    pub(crate) down: Option<String>,
    pub(crate) items: Option<u64>,
    /// Whether memory may move between items of different sizes.
    pub(crate) moves_memory: Option<bool>,
    pub(crate) item_size_max_bytes: Option<u64>,
    pub(crate) connections: Option<u64>,
    pub(crate) connections_limit: Option<u64>,
    pub(crate) connections_refused: Option<u64>,
    /// Zero: never.
    pub(crate) idle_timeout_s: Option<u64>,
    /// What keeps its memory over a restart; an empty text: nothing.
    pub(crate) memory_file: Option<String>,
    /// With which list of servers it is used: `this`, `another`, `none`.
    pub(crate) list: Option<&'static str>,
}

/// Something that could not be learned, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Untold {
    pub(crate) what: &'static str,
    pub(crate) why: String,
}

/// What to change, and how much it matters.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Advice {
    pub(crate) level: Level,
    /// Of what it is: `eviction`, `memory`, `clock`, ..
    pub(crate) about: &'static str,
    pub(crate) sentence: String,
}

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Good to know.
    Note,
    /// It works, and would be better otherwise.
    Warning,
    /// The library cannot do what it promises.
    Problem,
}

impl Diagnosis {
    /// What to change, the worst first.
    pub(super) fn advise(&mut self, advice: impl IntoIterator<Item = Advice>) {
        self.advice.extend(advice);
        self.advice.sort_by_key(|it| std::cmp::Reverse(it.level));
        self.advice.dedup();
    }

    pub(crate) fn has_problem(&self) -> bool {
        self.advice.iter().any(|it| it.level == Level::Problem)
    }

    pub(crate) fn printed(&self) -> Printed {
        let mut table = Table::default();
        let several = match self.deployment {
            "sentinel" => "the master that sentinels name".to_owned(),
            "cluster" => format!("a cluster of {} masters", self.servers.len()),
            "list" => format!("a list of {} servers, by which each key has its place", self.servers.len()),
            _ => "one server".to_owned(),
        };
        table.heading(&format!("{}: {several}", self.place));
        self.connection.tell(&mut table);
        for server in &self.servers {
            table.heading(&server.title());
            server.tell(&mut table);
        }
        table.heading("What the library uses");
        for it in &self.uses {
            table.row(it.what, &format!("{}: {}", if it.used { "yes" } else { "no" }, it.how));
        }
        table.heading("What to change");
        if self.advice.is_empty() {
            table.row("nothing", "all is as it should be");
        }
        for it in &self.advice {
            let level = match it.level {
                Level::Note => "note",
                Level::Warning => "warning",
                Level::Problem => "PROBLEM",
            };
            table.row(&format!("{level}: {}", it.about), &it.sentence);
        }
        Printed::new(table, json!(self))
    }
}

impl Connected {
    fn tell(&self, table: &mut Table) {
        table.row("protocol", &self.protocol);
        table.row("TLS", if self.tls { "yes" } else { "no" });
        table.row("password", if self.password { "given" } else { "none" });
        table.row(
            "TCP_NODELAY",
            match self.nodelay {
                Some(true) => "set: a command is sent at once",
                Some(false) => "not set",
                None => "a unix socket, which has none",
            },
        );
        let ms = |micros: u64| format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10);
        match (self.round_trip_p50_us, self.round_trip_p99_us) {
            (Some(p50), Some(p99)) => {
                let text =
                    format!("p50 {}, p99 {}, of {} pings to each server", ms(p50), ms(p99), self.pings);
                table.row("round trip", &text);
            }
            _ => table.row(
                "round trip",
                "not known: the servers do not answer to a ping, or the user may not send one",
            ),
        }
    }
}

impl Examined {
    fn title(&self) -> String {
        let version = self.version.as_deref().unwrap_or("of an unknown version");
        let at = if self.place.is_empty() { String::new() } else { format!(" at {}", self.place) };
        format!("{} {version}{at}", self.software)
    }

    /// What was learned, or why it was not.
    fn row(&self, table: &mut Table, name: &str, about: &str, text: Option<String>) {
        let why =
            || self.unknown.iter().find(|it| it.what == about).map_or("it is not said", |it| it.why.as_str());
        table.row(name, &text.unwrap_or_else(|| format!("not known: {}", why())));
    }

    fn tell(&self, table: &mut Table) {
        match &self.own {
            Own::Redis(own) => {
                let replicas =
                    own.replicas.map_or_else(String::new, |number| format!(", replicas: {number}"));
                self.row(table, "role", "role", own.role.as_ref().map(|role| format!("{role}{replicas}")));
                self.tell_memory(table);
                self.tell_persistence(own, table);
                let exact = "as of this machine, to a tenth of a second";
                self.tell_clock(table, 100, exact);
            }
            Own::Memcached(OfMemcached { down: Some(why), .. }) => {
                table.row("cannot be used", why);
            }
            Own::Memcached(own) => {
                self.tell_memory(table);
                self.tell_limits(own, table);
                self.tell_clock(table, 1, "as of this machine, to two seconds: it tells whole ones");
            }
        }
    }

    fn tell_memory(&self, table: &mut Table) {
        let uptime =
            self.uptime_s.map(|seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string());
        self.row(table, "running for", "uptime", uptime);
        self.row(table, "memory used", "memory", self.memory_used_bytes.map(in_bytes));
        let limit = self.memory_limit_bytes.map(|limit| match limit {
            0 => "none (maxmemory 0)".to_owned(),
            limit => in_bytes(limit),
        });
        self.row(table, "memory limit", "limit", limit);
        let evicted =
            self.evicted_keys.map_or_else(String::new, |keys| format!("; keys evicted so far: {keys}"));
        self.row(
            table,
            "eviction",
            "eviction",
            self.eviction.as_ref().map(|policy| format!("{policy}{evicted}")),
        );
    }

    fn tell_persistence(&self, own: &OfRedis, table: &mut Table) {
        let snapshots = own.snapshots.as_ref().map(|when| match when.as_str() {
            "" => "never".to_owned(),
            when => format!("after (seconds, changes): {when}"),
        });
        self.row(table, "snapshots", "snapshots", snapshots);
        let log = own.append_only.map(|on| if on { "yes" } else { "no" }.to_owned());
        self.row(table, "append-only log", "append-only log", log);
    }

    fn tell_limits(&self, own: &OfMemcached, table: &mut Table) {
        let largest = own.item_size_max_bytes.map(|most| format!("{} with its key (-I)", in_bytes(most)));
        self.row(table, "largest item", "item size", largest);
        let limit = own.connections_limit.map_or_else(String::new, |most| format!(" of {most} (-c)"));
        let refused = own.connections_refused.filter(|number| *number > 0);
        let refused = refused.map_or_else(String::new, |number| format!("; turned away so far: {number}"));
        let open = own.connections.map(|number| format!("{number}{limit}{refused}"));
        self.row(table, "connections", "connections", open);
        let idle = own.idle_timeout_s.map(|seconds| match seconds {
            0 => "never closed".to_owned(),
            seconds => format!("closed after {seconds} s"),
        });
        self.row(table, "idle connections", "idle timeout", idle);
        let kept = own.memory_file.as_ref().map(|file| match file.as_str() {
            "" => "nothing is kept".to_owned(),
            file => format!("after an orderly end its memory is there again, from {file} (-e)"),
        });
        self.row(table, "after a restart", "memory file", kept);
        let list = own.list.map(|list| match list {
            "this" => "this one",
            "another" => "ANOTHER ONE than this",
            _ => "none: no program uses it yet, or it was restarted or flushed just now",
        });
        self.row(table, "list of servers", "list", list.map(str::to_owned));
    }

    /// `same` where the two cannot be told apart.
    fn tell_clock(&self, table: &mut Table, known_to_ms: u64, same: &str) {
        let clock = self.clock_ahead_ms.map(|ahead| match ahead.unsigned_abs() {
            ms if ms < known_to_ms => same.to_owned(),
            ms => {
                let by = humantime::format_duration(Duration::from_millis(ms));
                format!("{by} {} this machine's", if ahead < 0 { "behind" } else { "ahead of" })
            }
        });
        self.row(table, "clock", "clock", clock);
    }
}

fn in_bytes(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}
