//! Redis and Valkey: `mastaba_redis` connects and says what it learned, and here it is asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::{Listener, Shared};
use mastaba_redis::{Deployment, Redis, RedisConfig, ServerFacts};

use super::advice;
use super::report::{Advice, Connected, Diagnosis, Examined, Level, Untold, Used};
use crate::args::DoctorArgs;
use crate::trouble::Trouble;

/// The first trips show what a connection costs.
const WARM_UP: u32 = 5;

/// What came of doing what a program does.
struct Tried {
    advice: Vec<Advice>,
    /// Why the server does not notify.
    untold: Option<String>,
}

/// Nobody wants to know; the server is to say whether it would notify.
struct Deaf;

impl Listener for Deaf {
    fn changed(&self, _: &[u8]) {}

    fn gap(&self) {}
}

pub(super) async fn examine(
    redis: &Redis,
    config: &RedisConfig,
    asked: &DoctorArgs,
) -> Result<Diagnosis, Trouble> {
    let tried = attempt(redis, config, &asked.namespace).await;
    // after it: what the server refused there is a loss by now
    let described = redis.describe().await?;
    let trips = round_trips(redis, asked.pings).await;
    let mut diagnosis = Diagnosis {
        backend: Redis::ABILITIES.name,
        place: described.place,
        deployment: match described.deployment {
            Deployment::Sentinel => "sentinel",
            Deployment::Cluster => "cluster",
            _ => "single",
        },
        connection: Connected {
            protocol: format!("RESP{}", described.resp),
            tls: described.tls,
            password: described.password,
            nodelay: described.nodelay,
            pings: asked.pings,
            round_trip_p50_us: trips.as_ref().map(|trips| percentile(trips, 50)),
            round_trip_p99_us: trips.as_ref().map(|trips| percentile(trips, 99)),
        },
        uses: described
            .capabilities
            .into_iter()
            .map(|it| Used { what: it.name, used: it.used, how: it.how })
            .collect(),
        advice: described.servers.iter().flat_map(advice::of_settings).collect(),
        servers: described.servers.into_iter().map(examined).collect(),
    };
    if let Some(fault) = tried.untold
        && let Some(told) = diagnosis.uses.iter_mut().find(|it| it.what == "notifications")
    {
        (told.used, told.how) = (false, fault);
    }
    diagnosis.advice.extend(tried.advice);
    diagnosis.advice.extend(advice::of_losses(&described.losses));
    diagnosis.advice.extend(advice::of_connection(&diagnosis, config));
    diagnosis.advice.extend(diagnosis.servers.iter().flat_map(advice::of_server));
    diagnosis.advice.sort_by_key(|it| std::cmp::Reverse(it.level));
    diagnosis.advice.dedup();
    Ok(diagnosis)
}

/// Does what a program will do, without changing anything: it reads a key of the namespace, removes that key, which nobody
/// has, and has the server notify of changes. A right to keys shows nowhere else.
async fn attempt(redis: &Redis, config: &RedisConfig, namespace: &str) -> Tried {
    let prefix = format!("{namespace}:doctor:");
    let key = [Bytes::from(format!("{prefix}doctor.trial:0"))];
    let shown = format!("{}{namespace}:", config.prefix);
    let problem = |about, sentence| Advice { level: Level::Problem, about, sentence };
    let (mut advice, mut untold) = (Vec::new(), None);
    if let Err(fault) = redis.read(&key).await {
        let sentence = format!(
            "a key that begins with {shown:?} cannot be read, so every read goes to the source: {fault}"
        );
        advice.push(problem("reading", sentence));
    }
    if let Err(fault) = redis.invalidate(&key, &[]).await {
        let sentence = format!(
            "a key that begins with {shown:?} cannot be removed by a script, so no write is published and nothing stored: {fault}"
        );
        advice.push(problem("writing", sentence));
    }
    if redis.abilities().tells {
        redis.listen(prefix.as_bytes(), Arc::new(Deaf));
        if let Err(fault) = redis.catch_up().await {
            let sentence = format!(
                "the server does not notify of changes, so near answers nothing: leave near out, and set tell=false: {fault}"
            );
            untold = Some(fault.to_string());
            advice.push(problem("notifications", sentence));
        }
    }
    Tried { advice, untold }
}

/// `None`: the user may not ping.
async fn round_trips(redis: &Redis, pings: u32) -> Option<Vec<Duration>> {
    let mut all = Vec::new();
    for number in 0..pings + WARM_UP {
        let took = redis.ping().await.ok()?;
        if number >= WARM_UP {
            all.extend(took);
        }
    }
    all.sort_unstable();
    Some(all)
}

/// In microseconds.
fn percentile(sorted: &[Duration], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

fn examined(facts: ServerFacts) -> Examined {
    let port = || facts.port.map_or_else(String::new, |port| format!("port {port}"));
    Examined {
        place: if facts.place.is_empty() { port() } else { facts.place },
        software: facts.software,
        version: facts.version,
        role: facts.role,
        replicas: facts.replicas,
        uptime_s: facts.uptime.map(|time| time.as_secs()),
        memory_used_bytes: facts.memory_used,
        memory_limit_bytes: facts.memory_limit,
        eviction: facts.eviction,
        evicted_keys: facts.evicted,
        snapshots: facts.snapshots,
        append_only: facts.append_only,
        clock_ahead_ms: facts.clock_ahead_ms,
        unknown: facts.unknown.into_iter().map(|(what, why)| Untold { what, why }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_trips() {
        let trips: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!([50, 99, 100].map(|percent| percentile(&trips, percent)), [100, 198, 200]);
        assert_eq!(percentile(&trips[..1], 99), 1);
    }
}
