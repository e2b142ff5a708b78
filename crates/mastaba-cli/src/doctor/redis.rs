//! Redis and Valkey: `mastaba_redis` connects and says what it learned, and here it is asked.

use std::sync::Arc;

use bytes::Bytes;
use mastaba::shared::{Listener, Shared};
use mastaba_redis::{Deployment, Redis, RedisConfig, ServerFacts};

use super::advice;
use super::report::{Advice, Connected, Diagnosis, Examined, Level, OfRedis, Own, Untold};
use super::trips::Trips;
use super::used;
use crate::args::DoctorArgs;
use crate::trouble::Trouble;

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
    let trips = Trips::take(asked.pings, || redis.ping()).await;
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
            round_trip_p50_us: trips.percentile(50),
            round_trip_p99_us: trips.percentile(99),
        },
        uses: used(described.capabilities),
        advice: Vec::new(),
        servers: Vec::new(),
    };
    let warnings = described.servers.iter().flat_map(|facts| &facts.warnings);
    diagnosis.advise(advice::of_warnings(warnings));
    diagnosis.servers = described.servers.into_iter().map(examined).collect();
    if let Some(fault) = tried.untold
        && let Some(told) = diagnosis.uses.iter_mut().find(|it| it.what == "notifications")
    {
        (told.used, told.how) = (false, fault);
    }
    diagnosis.advise(tried.advice);
    diagnosis.advise(advice::redis::of_losses(&described.losses));
    diagnosis.advise(advice::redis::of_deployment(&diagnosis, config));
    diagnosis.advise(advice::of_trips(&diagnosis));
    let each: Vec<_> = diagnosis.servers.iter().flat_map(advice::of_server).collect();
    diagnosis.advise(each);
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
    // as a region of a program does: behind an address with several servers a key and its write stamp are two keys for a script,
    // which only such a removal finds out (R16)
    redis.stamps(prefix.as_bytes(), &Bytes::from(format!("{namespace}:doctor@writes")));
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

fn examined(facts: ServerFacts) -> Examined {
    let port = || facts.port.map_or_else(String::new, |port| format!("port {port}"));
    Examined {
        place: if facts.place.is_empty() { port() } else { facts.place },
        software: facts.software,
        version: facts.version,
        uptime_s: facts.uptime.map(|time| time.as_secs()),
        memory_used_bytes: facts.memory_used,
        memory_limit_bytes: facts.memory_limit,
        eviction: facts.eviction,
        evicted_keys: facts.evicted,
        clock_ahead_ms: facts.clock_ahead_ms,
        own: Own::Redis(OfRedis {
            role: facts.role,
            replicas: facts.replicas,
            snapshots: facts.snapshots,
            append_only: facts.append_only,
        }),
        unknown: facts.unknown.into_iter().map(|(what, why)| Untold { what, why }).collect(),
    }
}
