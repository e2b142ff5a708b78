//! What to change, in sentences: pure, from what was learned.

use std::net::IpAddr;
use std::time::Duration;

use mastaba::clock::SKEW;
use mastaba_redis::{Loss, RedisConfig, ServerFacts, Servers};

use super::report::{Advice, Diagnosis, Examined, Level};

/// What a batch may take by default (`shared_budget`): past it the shared tier counts as knowing nothing.
const BUDGET: Duration = Duration::from_millis(500);
/// A trip within one place takes a fraction of this.
const SLOW: Duration = Duration::from_millis(5);
/// A clock that is wrong by so much has not been set by anybody.
const NOTED: Duration = Duration::from_secs(1);

fn advice(level: Level, about: &'static str, sentence: impl Into<String>) -> Advice {
    Advice { level, about, sentence: sentence.into() }
}

/// What the library warns of at start (`R14`).
pub(super) fn of_settings(facts: &ServerFacts) -> impl Iterator<Item = Advice> {
    facts.warnings.iter().map(|warning| advice(Level::Problem, "eviction", warning.clone()))
}

/// What the library does without on this server.
pub(super) fn of_losses(losses: &[Loss]) -> impl Iterator<Item = Advice> {
    losses.iter().map(|loss| {
        let level = match loss {
            Loss::Stores => Level::Problem,
            Loss::Scripts | Loss::EvictionPolicy => Level::Note,
            _ => Level::Warning,
        };
        advice(level, loss.name(), loss.to_string())
    })
}

/// What the connection could have.
pub(super) fn of_connection(found: &Diagnosis, config: &RedisConfig) -> Vec<Advice> {
    let mut all = Vec::new();
    let connection = &found.connection;
    if !is_near(&config.servers) {
        if !connection.tls {
            let sentence = "what is stored travels unencrypted to another machine: use rediss://, unless the network is your own";
            all.push(advice(Level::Warning, "TLS", sentence));
        }
        if !connection.password {
            let sentence = "the server lets in whoever reaches it: give it a user with a password, and set `username` and `password`";
            all.push(advice(Level::Warning, "password", sentence));
        }
    }
    if let Some(p99) = connection.round_trip_p99_us.map(Duration::from_micros) {
        if p99 >= BUDGET {
            let sentence = "one trip in a hundred takes longer than shared_budget is unless set (500 ms): such reads go to the source";
            all.push(advice(Level::Problem, "round trip", sentence));
        } else if p99 >= SLOW {
            let sentence = "one trip in a hundred takes 5 ms or longer: put the server nearer to the program, or look what keeps it busy \
                            (SLOWLOG), and this machine";
            all.push(advice(Level::Warning, "round trip", sentence));
        }
    }
    if found.deployment == "sentinel" && found.servers.iter().any(|server| server.replicas == Some(0)) {
        let sentence =
            "the master has no replica, so there is nothing that the sentinels could put in its place";
        all.push(advice(Level::Warning, "replicas", sentence));
    }
    let policies: Vec<_> = found.servers.iter().map(|server| &server.eviction).collect();
    if policies.windows(2).any(|pair| pair[0] != pair[1]) {
        let sentence = "the nodes do not have the same maxmemory-policy: set one on all of them";
        all.push(advice(Level::Warning, "eviction", sentence));
    }
    all
}

/// What a server could have.
pub(super) fn of_server(server: &Examined) -> Vec<Advice> {
    let mut all = Vec::new();
    if server.memory_limit_bytes == Some(0) {
        let sentence = "maxmemory is not set: the store grows until the machine has no memory left; set it, with maxmemory-policy \
                        allkeys-lru or allkeys-lfu";
        all.push(advice(Level::Warning, "memory", sentence));
    }
    if server.evicted_keys.is_some_and(|keys| keys > 0) {
        let sentence = "keys have been evicted, so what is stored does not fit: give it more memory if the rate of hits is too low";
        all.push(advice(Level::Note, "memory", sentence));
    }
    let saves = server.snapshots.as_ref().is_some_and(|when| !when.is_empty());
    if saves || server.append_only == Some(true) {
        let sentence = "persistence is not needed: after a restart everything that was stored counts as a miss, and saving costs time and \
                        memory; switch it off (save \"\", appendonly no) if nothing else on this server needs it";
        all.push(advice(Level::Note, "persistence", sentence));
    }
    if let Some(ahead) = server.clock_ahead_ms.map(|ms| Duration::from_millis(ms.unsigned_abs())) {
        let level = if ahead > SKEW { Level::Problem } else { Level::Warning };
        if ahead >= NOTED {
            let sentence = "the clocks of the server and of this machine differ: one of them is wrong. Programs whose clocks differ by \
                            more than 5 seconds take each other's entries for misses; set the clocks by NTP";
            all.push(advice(level, "clock", sentence));
        }
    }
    all
}

/// Whether the servers are on this machine.
fn is_near(servers: &Servers) -> bool {
    let here =
        |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match servers {
        Servers::Socket(_) => true,
        Servers::One(host, _) => here(host),
        Servers::Sentinel { sentinels: hosts, .. } | Servers::Cluster(hosts) => {
            hosts.iter().all(|(host, _)| here(host))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Connected;

    fn levels(all: &[Advice]) -> Vec<(Level, &'static str)> {
        all.iter().map(|it| (it.level, it.about)).collect()
    }

    fn found(p99_us: u64) -> Diagnosis {
        Diagnosis {
            backend: "redis",
            place: String::new(),
            deployment: "single",
            connection: Connected {
                protocol: "RESP3".to_owned(),
                tls: false,
                password: false,
                nodelay: Some(true),
                pings: 1,
                round_trip_p50_us: Some(1),
                round_trip_p99_us: Some(p99_us),
            },
            uses: Vec::new(),
            servers: Vec::new(),
            advice: Vec::new(),
        }
    }

    #[test]
    fn a_clock_is_a_problem_where_entries_would_be_misses() {
        let of = |ms| {
            levels(&of_server(&Examined { clock_ahead_ms: Some(ms), ..Examined::default() })).first().copied()
        };
        assert_eq!([of(0), of(999), of(-999)], [None; 3]);
        assert_eq!([of(1000), of(-5000)], [Some((Level::Warning, "clock")); 2]);
        assert_eq!([of(5001), of(-3_600_000)], [Some((Level::Problem, "clock")); 2]);
    }

    #[test]
    fn a_store_without_a_limit_and_one_that_saves_are_advised_on() {
        let server = Examined {
            memory_limit_bytes: Some(0),
            snapshots: Some("3600 1".to_owned()),
            evicted_keys: Some(3),
            ..Examined::default()
        };
        let expected = [(Level::Warning, "memory"), (Level::Note, "memory"), (Level::Note, "persistence")];
        assert_eq!(levels(&of_server(&server)), expected);
        let quiet =
            Examined { memory_limit_bytes: Some(9), snapshots: Some(String::new()), ..Examined::default() };
        assert_eq!(of_server(&quiet), []);
        assert_eq!(of_server(&Examined::default()), [], "what is not known is nothing to change");
    }

    #[test]
    fn who_is_on_another_machine_is_advised_of_tls_and_a_password() {
        let config = |url| RedisConfig::from_url(url).unwrap();
        for near in [
            "redis://localhost",
            "redis://127.0.0.1",
            "redis://[::1]:7",
            "unix:///run/redis",
            "redis-cluster://127.0.0.1:1",
        ] {
            assert_eq!(of_connection(&found(1), &config(near)), [], "{near}");
        }
        for far in
            ["redis://redis.internal", "redis-cluster://127.0.0.1:1,10.0.0.1:1", "redis-sentinel://a/m"]
        {
            let expected = [(Level::Warning, "TLS"), (Level::Warning, "password")];
            assert_eq!(levels(&of_connection(&found(1), &config(far))), expected, "{far}");
        }
    }

    #[test]
    fn a_trip_over_the_budget_is_a_problem() {
        let of = |us| {
            levels(&of_connection(&found(us), &RedisConfig::from_url("redis://localhost").unwrap()))
                .first()
                .copied()
        };
        assert_eq!(of(4999), None);
        assert_eq!(of(5000), Some((Level::Warning, "round trip")));
        assert_eq!(of(500_000), Some((Level::Problem, "round trip")));
    }
}
