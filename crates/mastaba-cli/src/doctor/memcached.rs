//! Memcached: `mastaba_memcached` connects and says what it learned. There are no rights to keys, so nothing is tried.

use mastaba::shared::Shared;
use mastaba_memcached::{ListRecord, Memcached, MemcachedConfig, MemcachedFacts};

use super::advice;
use super::report::{Connected, Diagnosis, Examined, OfMemcached, Own, Untold};
use super::trips::Trips;
use super::used;
use crate::args::DoctorArgs;
use crate::trouble::Trouble;

pub(super) async fn examine(
    memcached: &Memcached,
    config: &MemcachedConfig,
    asked: &DoctorArgs,
) -> Result<Diagnosis, Trouble> {
    let before = memcached.describe().await?;
    let trips = Trips::take(asked.pings, || memcached.ping()).await;
    // what it counts may have risen meanwhile
    let described = memcached.describe().await?;
    let mut diagnosis = Diagnosis {
        backend: Memcached::ABILITIES.name,
        place: described.place,
        deployment: if described.servers.len() == 1 { "single" } else { "list" },
        connection: Connected {
            protocol: "meta commands".to_owned(),
            tls: false,
            password: false,
            nodelay: Some(described.nodelay),
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
    diagnosis.advise(advice::memcached::of_refusal(described.refuses));
    diagnosis.advise(advice::memcached::of_reach(config));
    diagnosis.servers = described.servers.into_iter().map(examined).collect();
    diagnosis.advise(advice::of_trips(&diagnosis));
    let earlier: Vec<_> = before.servers.into_iter().map(examined).collect();
    let each = earlier.iter().zip(&diagnosis.servers).flat_map(|(before, now)| {
        let own = advice::memcached::of_server(before, now);
        own.into_iter().chain(advice::of_server(now))
    });
    let each: Vec<_> = each.collect();
    diagnosis.advise(each);
    diagnosis.advise(advice::memcached::of_list(&diagnosis.servers));
    Ok(diagnosis)
}

fn examined(facts: MemcachedFacts) -> Examined {
    let policy = |evicts| match evicts {
        true => "the least recently used of the same size",
        false => "none (-M)",
    };
    Examined {
        place: facts.place,
        software: "Memcached".to_owned(),
        version: facts.version,
        uptime_s: facts.uptime.map(|time| time.as_secs()),
        memory_used_bytes: facts.memory_used,
        memory_limit_bytes: facts.memory_limit,
        eviction: facts.evicts.map(policy).map(str::to_owned),
        evicted_keys: facts.evicted,
        clock_ahead_ms: facts.clock_ahead_ms,
        own: Own::Memcached(OfMemcached {
            down: facts.down,
            items: facts.items,
            moves_memory: facts.moves_memory,
            item_size_max_bytes: facts.max_item,
            connections: facts.connections,
            connections_limit: facts.max_connections,
            connections_refused: facts.refused_connections,
            idle_timeout_s: facts.idle_timeout.map(|time| time.as_secs()),
            memory_file: facts.memory_file,
            list: facts.list.map(|list| match list {
                ListRecord::Ours => "this",
                ListRecord::Another => "another",
                _ => "none",
            }),
        }),
        unknown: facts.unknown.into_iter().map(|(what, why)| Untold { what, why }).collect(),
    }
}
