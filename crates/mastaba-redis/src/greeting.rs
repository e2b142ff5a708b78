//! What a server says of itself before it is sent any other command.

use std::collections::BTreeMap;

/// What a server said of itself, before it was sent any other command (`R11`). What it did not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: Option<(u32, u32)>,
    /// It has `SET .. IFEQ`.
    pub(crate) compares: Option<bool>,
    pub(crate) incarnation: Option<u64>,
    /// It says that it is no master.
    pub(crate) replica: bool,
    pub(crate) clustered: Option<bool>,
    pub(crate) policy: Option<String>,
    pub(crate) bounded: bool,
}

impl Greeting {
    /// Reads the answer to `INFO`. `None`: it is not one.
    pub(crate) fn read(info: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> =
            info.lines().filter_map(|line| line.trim().split_once(':')).collect();
        if fields.is_empty() {
            return None;
        }
        let valkey = fields.get("valkey_version");
        let version = valkey.or(fields.get("redis_version")).and_then(|text| {
            let mut numbers = text.split('.').map(|part| part.parse().ok());
            Some((numbers.next()??, numbers.next().flatten().unwrap_or(0)))
        });
        // an id of zeros is none; one of the two changes with every restart and every promotion, as both do
        let id = |name| fields.get(name).copied().filter(|id| id.bytes().any(|byte| byte != b'0'));
        let (run, replication) = (id("run_id"), id("master_replid"));
        let told = run.is_some() || replication.is_some();
        Some(Self {
            version,
            compares: version.map(|version| version >= if valkey.is_some() { (8, 1) } else { (8, 4) }),
            incarnation: told.then(|| number([run.unwrap_or(""), replication.unwrap_or("")])),
            replica: fields.get("role").is_some_and(|role| *role != "master"),
            clustered: fields.get("cluster_enabled").map(|flag| *flag == "1"),
            policy: fields.get("maxmemory_policy").map(|policy| (*policy).to_owned()),
            bounded: fields.get("maxmemory").is_some_and(|most| *most != "0"),
        })
    }

    /// What makes the server of no use, in a sentence.
    pub(crate) fn problem(&self, cluster: bool) -> Option<String> {
        if let Some((major, minor)) = self.version
            && major < 7
        {
            return Some(format!(
                "the server has version {major}.{minor}, and 7.0 or later is needed (SET .. NX GET); Valkey will do"
            ));
        }
        if self.clustered == Some(true) && !cluster {
            return Some("the server is a node of a cluster; use a redis-cluster:// URL".to_owned());
        }
        if self.clustered == Some(false) && cluster {
            return Some("the server is no node of a cluster; use a redis:// URL".to_owned());
        }
        if self.incarnation.is_none() && cluster {
            return Some(
                "INFO of a node tells neither run_id nor master_replid, and without them a failover in a cluster would bring \
                 old values back unnoticed; use a server without cluster mode, or a service that tells them"
                    .to_owned(),
            );
        }
        None
    }

    /// What is dangerous about its settings, in sentences (`R14`).
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let policy = self.policy.as_deref();
        if policy == Some("volatile-ttl") {
            warnings.push(
                "maxmemory-policy is volatile-ttl, which evicts what expires first: leases and holds, and with them \
                 the right to fill; use allkeys-lru or allkeys-lfu"
                    .to_owned(),
            );
        }
        if policy == Some("noeviction") && self.bounded {
            warnings.push(
                "maxmemory is set and maxmemory-policy is noeviction: once the memory is full nothing can be stored \
                 any more; use allkeys-lru or allkeys-lfu"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// A number that every process comes to from the same parts; never zero.
pub(crate) fn number<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> u64 {
    let mut digest = sha1_smol::Sha1::new();
    for part in parts {
        digest.update(part.as_ref());
        digest.update(b"\n");
    }
    let bytes = digest.digest().bytes();
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Memory\r\nmaxmemory:0\r\n\
                        maxmemory_policy:noeviction\r\n# Replication\r\nrole:master\r\nmaster_replid:def\r\n\
                        # Cluster\r\ncluster_enabled:0\r\n";

    #[test]
    fn a_greeting_is_read_and_judged() {
        let greeting = Greeting::read(INFO).unwrap();
        assert_eq!(
            (greeting.version, greeting.replica, greeting.clustered),
            (Some((7, 0)), false, Some(false))
        );
        assert_eq!(greeting.problem(false), None);
        assert!(greeting.problem(true).unwrap().contains("redis://"));
        assert_eq!(greeting.warnings(), [""; 0]);
        let full = Greeting::read(&INFO.replace("maxmemory:0", "maxmemory:100")).unwrap();
        assert!(full.warnings()[0].contains("allkeys-lru"));
        let ttl = Greeting::read(&INFO.replace("noeviction", "volatile-ttl")).unwrap();
        assert!(ttl.warnings()[0].contains("volatile-ttl"));
        let old = Greeting::read(&INFO.replace("7.0.15", "6.2.1")).unwrap();
        assert!(old.problem(false).unwrap().contains("6.2"));
        assert_eq!(Greeting::read("nothing"), None);
    }

    #[test]
    fn a_restart_and_a_promotion_are_other_incarnations() {
        let first = Greeting::read(INFO).unwrap().incarnation;
        assert_eq!(first, Greeting::read(INFO).unwrap().incarnation);
        assert_ne!(first, Greeting::read(&INFO.replace("run_id:abc", "run_id:abd")).unwrap().incarnation);
        assert_ne!(first, Greeting::read(&INFO.replace("replid:def", "replid:deg")).unwrap().incarnation);
    }

    #[test]
    fn a_server_has_set_ifeq_by_its_version() {
        let version = |version: &str| Greeting::read(&INFO.replace("redis_version:7.0.15", version)).unwrap();
        for (text, compares) in [
            ("redis_version:8.2.1", false),
            ("redis_version:8.4.0", true),
            ("redis_version:7.2.4\r\nvalkey_version:8.0.2", false),
            ("redis_version:7.2.4\r\nvalkey_version:8.1.0", true),
            ("redis_version:7.2.4\r\nvalkey_version:9.0.0", true),
        ] {
            assert_eq!(version(text).compares, Some(compares), "{text}");
        }
    }

    #[test]
    fn one_of_the_two_ids_is_enough_and_zeros_are_none() {
        let without = |line: &str| INFO.replace(line, "");
        let (run, replication) = (without("run_id:abc\r\n"), without("master_replid:def\r\n"));
        for info in [&run, &replication] {
            let told = Greeting::read(info).unwrap().incarnation;
            assert!(told.is_some() && told != Greeting::read(INFO).unwrap().incarnation, "{info}");
        }
        assert_eq!(Greeting::read(&run.replace("master_replid:def\r\n", "")).unwrap().incarnation, None);
        let zeros = run.replace("master_replid:def", "master_replid:0000");
        let alone = Greeting::read(&zeros).unwrap();
        assert_eq!((alone.incarnation, alone.problem(false)), (None, None));
        let node = Greeting::read(&zeros.replace("cluster_enabled:0", "cluster_enabled:1")).unwrap();
        assert!(node.problem(true).unwrap().contains("neither run_id nor master_replid"));
    }
}
