//! What to change on Redis and Valkey.

use mastaba_redis::{Loss, RedisConfig, Servers};

use super::{advice, are_here};
use crate::doctor::report::{Advice, Diagnosis, Level, OfRedis, Own};

/// What the library does without on this server.
pub(crate) fn of_losses(losses: &[Loss]) -> impl Iterator<Item = Advice> {
    losses.iter().map(|loss| {
        let level = match loss {
            Loss::Stores => Level::Problem,
            Loss::Scripts | Loss::EvictionPolicy => Level::Note,
            _ => Level::Warning,
        };
        advice(level, loss.name(), loss.to_string())
    })
}

/// What the connection, and the servers together, could have.
pub(crate) fn of_deployment(found: &Diagnosis, config: &RedisConfig) -> Vec<Advice> {
    let mut all = Vec::new();
    if !is_near(&config.servers) {
        if !found.connection.tls {
            let sentence = "what is stored travels unencrypted to another machine: use rediss://, unless the network is your own";
            all.push(advice(Level::Warning, "TLS", sentence));
        }
        if !found.connection.password {
            let sentence = "the server lets in whoever reaches it: give it a user with a password, and set `username` and `password`";
            all.push(advice(Level::Warning, "password", sentence));
        }
    }
    let alone = |own: &Own| matches!(own, Own::Redis(OfRedis { replicas: Some(0), .. }));
    if found.deployment == "sentinel" && found.servers.iter().any(|server| alone(&server.own)) {
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

pub(super) fn of_limit(bytes: Option<u64>) -> Option<Advice> {
    let sentence = "maxmemory is not set: the store grows until the machine has no memory left; set it, with maxmemory-policy \
                    allkeys-lru or allkeys-lfu";
    (bytes == Some(0)).then(|| advice(Level::Warning, "memory", sentence))
}

pub(super) fn of_persistence(own: &OfRedis) -> Option<Advice> {
    let saves = own.snapshots.as_ref().is_some_and(|when| !when.is_empty());
    let sentence = "persistence is not needed: after a restart everything that was stored counts as a miss, and saving costs time and \
                    memory; switch it off (save \"\", appendonly no) if nothing else on this server needs it";
    (saves || own.append_only == Some(true)).then(|| advice(Level::Note, "persistence", sentence))
}

/// Whether the servers are on this machine.
fn is_near(servers: &Servers) -> bool {
    match servers {
        Servers::Socket(_) => true,
        Servers::One(host, _) => are_here([host.as_str()].into_iter()),
        Servers::Sentinel { sentinels: hosts, .. } | Servers::Cluster(hosts) => {
            are_here(hosts.iter().map(|(host, _)| host.as_str()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, levels};
    use super::*;

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
            assert_eq!(of_deployment(&found(1), &config(near)), [], "{near}");
        }
        for far in
            ["redis://redis.internal", "redis-cluster://127.0.0.1:1,10.0.0.1:1", "redis-sentinel://a/m"]
        {
            let expected = [(Level::Warning, "TLS"), (Level::Warning, "password")];
            assert_eq!(levels(&of_deployment(&found(1), &config(far))), expected, "{far}");
        }
    }
}
