//! What to change, in sentences: pure, from what was learned.

pub(super) mod memcached;
pub(super) mod redis;

use std::net::IpAddr;
use std::time::Duration;

use mastaba::clock::SKEW;

use super::report::{Advice, Diagnosis, Examined, Level, Own};

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
pub(super) fn of_warnings<'w>(warnings: impl Iterator<Item = &'w String>) -> Vec<Advice> {
    warnings.map(|warning| advice(Level::Problem, "eviction", warning.clone())).collect()
}

/// How long a trip may take.
pub(super) fn of_trips(found: &Diagnosis) -> Option<Advice> {
    let p99 = Duration::from_micros(found.connection.round_trip_p99_us?);
    if p99 >= BUDGET {
        let sentence = "one trip in a hundred takes longer than shared_budget is unless set (500 ms): such reads go to the source";
        return Some(advice(Level::Problem, "round trip", sentence));
    }
    let busy = if found.backend == "redis" { " (SLOWLOG)" } else { "" };
    let sentence = format!(
        "one trip in a hundred takes 5 ms or longer: put the server nearer to the program, or look what keeps it busy{busy}, and \
         this machine"
    );
    (p99 >= SLOW).then(|| advice(Level::Warning, "round trip", sentence))
}

/// What a server could have.
pub(super) fn of_server(server: &Examined) -> Vec<Advice> {
    let mut all = Vec::new();
    if let Own::Redis(own) = &server.own {
        all.extend(redis::of_limit(server.memory_limit_bytes));
        all.extend(of_evictions(server));
        all.extend(redis::of_persistence(own));
    } else {
        all.extend(of_evictions(server));
    }
    all.extend(of_clock(server));
    all
}

fn of_evictions(server: &Examined) -> Option<Advice> {
    let sentence = "keys have been evicted, so what is stored does not fit: give it more memory if the rate of hits is too low";
    server.evicted_keys.is_some_and(|keys| keys > 0).then(|| advice(Level::Note, "memory", sentence))
}

fn of_clock(server: &Examined) -> Option<Advice> {
    let ahead = Duration::from_millis(server.clock_ahead_ms?.unsigned_abs());
    if ahead < NOTED {
        return None;
    }
    let differ = "Programs whose clocks differ by more than 5 seconds take each other's entries for misses; set the clocks by NTP";
    Some(match &server.own {
        Own::Redis(_) => {
            let level = if ahead > SKEW { Level::Problem } else { Level::Warning };
            let wrong = "the clocks of the server and of this machine differ: one of them is wrong";
            advice(level, "clock", format!("{wrong}. {differ}"))
        }
        // nothing is compared with its clock, which goes on from what it was when it started
        Own::Memcached(_) => {
            let wrong = "the clocks of the server and of this machine differ: one of them is wrong, or was set since the server was \
                         started. The library does not use the clock of a Memcached";
            advice(Level::Warning, "clock", format!("{wrong}. {differ}"))
        }
    })
}

/// Whether servers are on this machine.
fn are_here<'h>(mut hosts: impl Iterator<Item = &'h str>) -> bool {
    hosts.all(|host| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::{Connected, OfMemcached, OfRedis};

    pub(super) fn levels(all: &[Advice]) -> Vec<(Level, &'static str)> {
        all.iter().map(|it| (it.level, it.about)).collect()
    }

    pub(super) fn found(p99_us: u64) -> Diagnosis {
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

    /// Nothing is compared with its clock.
    #[test]
    fn a_clock_of_a_memcached_is_no_problem() {
        let own = || Own::Memcached(OfMemcached::default());
        let of = |ms| of_server(&Examined { clock_ahead_ms: Some(ms), own: own(), ..Examined::default() });
        assert_eq!(of(999), []);
        assert_eq!(
            [levels(&of(1000)), levels(&of(-9000))],
            [[(Level::Warning, "clock")], [(Level::Warning, "clock")]]
        );
    }

    #[test]
    fn a_store_without_a_limit_and_one_that_saves_are_advised_on() {
        let server = Examined {
            memory_limit_bytes: Some(0),
            evicted_keys: Some(3),
            own: Own::Redis(OfRedis { snapshots: Some("3600 1".to_owned()), ..OfRedis::default() }),
            ..Examined::default()
        };
        let expected = [(Level::Warning, "memory"), (Level::Note, "memory"), (Level::Note, "persistence")];
        assert_eq!(levels(&of_server(&server)), expected);
        let never = OfRedis { snapshots: Some(String::new()), ..OfRedis::default() };
        let quiet = Examined { memory_limit_bytes: Some(9), own: Own::Redis(never), ..Examined::default() };
        assert_eq!(of_server(&quiet), []);
        assert_eq!(of_server(&Examined::default()), [], "what is not known is nothing to change");
    }

    #[test]
    fn a_trip_over_the_budget_is_a_problem() {
        let of = |us| of_trips(&found(us)).map(|it| (it.level, it.about));
        assert_eq!(of(4999), None);
        assert_eq!(of(5000), Some((Level::Warning, "round trip")));
        assert_eq!(of(500_000), Some((Level::Problem, "round trip")));
    }
}
