//! What all connections of a backend have in common: who listens, and which incarnation the store has.

use std::collections::BTreeMap;
#[cfg(feature = "tls")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mastaba::shared::Listener;
use mastaba::shared::stamps::StampBook;
use tokio::sync::watch;

use crate::config::RedisConfig;
use crate::own::OwnChanges;

/// Shared by the backend and its connections.
pub(crate) struct Hub {
    pub(crate) config: RedisConfig,
    listeners: Mutex<Vec<(Vec<u8>, Arc<dyn Listener>)>>,
    pub(crate) own: OwnChanges,
    /// The records of write stamps, of keys without the prefix of the configuration.
    pub(crate) stamps: StampBook,
    /// Counts up with every prefix that is to be tracked; what a connection tracks has one of these numbers.
    wanted: AtomicU64,
    /// The store's incarnation; 0: not known, so nothing that is stored counts, and nothing is stored.
    incarnation: AtomicU64,
    nodes: Mutex<Nodes>,
    changed_at: Mutex<Option<Instant>>,
    /// Changes when something about the nodes has to be looked at. The links of all runtimes look: one of them may
    /// stand still.
    pub(crate) look: watch::Sender<()>,
    warned: AtomicBool,
    /// Whether every server that was met has `SET .. IFEQ`.
    compares: AtomicBool,
    met_any: AtomicBool,
    /// Whether a server has refused a script for several keys.
    one_key: AtomicBool,
    /// The rights of the user have been looked at.
    examined: AtomicBool,
    /// Read once: the connections of later runtimes do not need the files.
    #[cfg(feature = "tls")]
    pub(crate) certificates: OnceLock<redis::TlsCertificates>,
}

/// What is known of the servers behind a backend.
#[derive(Default)]
struct Nodes {
    /// Those whose records count, each with its own incarnation.
    members: BTreeMap<String, u64>,
    /// Masters that were met and are no members, by what they are: until they have been looked at, nothing is sure.
    owed: BTreeMap<u64, String>,
    /// The master that was met last. Of all nodes of a cluster it knows best who has the slots after a failover.
    newest: Option<String>,
}

/// What a server said of itself, before it was sent any other command (`R11`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: (u32, u32),
    /// It has `SET .. IFEQ`.
    pub(crate) compares: bool,
    pub(crate) incarnation: u64,
    pub(crate) master: bool,
    pub(crate) clustered: bool,
    pub(crate) policy: String,
    pub(crate) bounded: bool,
}

impl Greeting {
    /// Reads the answer to `INFO`. `None`: it is not one.
    pub(crate) fn read(info: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> =
            info.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let valkey = fields.get("valkey_version");
        let mut numbers = valkey.or(fields.get("redis_version"))?.split('.').map(|part| part.parse().ok());
        let version = (numbers.next()??, numbers.next().flatten().unwrap_or(0));
        let (run, replication) = (fields.get("run_id")?, fields.get("master_replid")?);
        Some(Self {
            version,
            compares: version >= if valkey.is_some() { (8, 1) } else { (8, 4) },
            incarnation: number([run.as_bytes(), replication.as_bytes()]),
            master: fields.get("role") == Some(&"master"),
            clustered: fields.get("cluster_enabled") == Some(&"1"),
            policy: fields.get("maxmemory_policy").copied().unwrap_or("").to_owned(),
            bounded: fields.get("maxmemory").is_some_and(|most| *most != "0"),
        })
    }

    /// What makes the server of no use, in a sentence.
    pub(crate) fn problem(&self, cluster: bool) -> Option<String> {
        let (major, minor) = self.version;
        if major < 7 {
            return Some(format!(
                "the server has version {major}.{minor}, and 7.0 or later is needed (SET .. NX GET); Valkey will do"
            ));
        }
        if self.clustered && !cluster {
            return Some("the server is a node of a cluster; use a redis-cluster:// URL".to_owned());
        }
        if !self.clustered && cluster {
            return Some("the server is no node of a cluster; use a redis:// URL".to_owned());
        }
        None
    }

    /// What is dangerous about its settings, in sentences (`R14`).
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.policy == "volatile-ttl" {
            warnings.push(
                "maxmemory-policy is volatile-ttl, which evicts what expires first: leases and holds, and with them \
                 the right to fill; use allkeys-lru or allkeys-lfu"
                    .to_owned(),
            );
        }
        if self.policy == "noeviction" && self.bounded {
            warnings.push(
                "maxmemory is set and maxmemory-policy is noeviction: once the memory is full nothing can be stored \
                 any more; use allkeys-lru or allkeys-lfu"
                    .to_owned(),
            );
        }
        warnings
    }
}

impl Hub {
    pub(crate) fn new(config: RedisConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            listeners: Mutex::default(),
            own: OwnChanges::default(),
            stamps: StampBook::default(),
            wanted: AtomicU64::new(0),
            incarnation: AtomicU64::new(0),
            nodes: Mutex::default(),
            changed_at: Mutex::default(),
            look: watch::Sender::new(()),
            warned: AtomicBool::new(false),
            compares: AtomicBool::new(false),
            met_any: AtomicBool::new(false),
            one_key: AtomicBool::new(false),
            examined: AtomicBool::new(false),
            #[cfg(feature = "tls")]
            certificates: OnceLock::new(),
        })
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// Whether fills are held back because the store has changed lately.
    pub(crate) fn is_quarantined(&self) -> bool {
        let since = *lock(&self.changed_at);
        matches!((since, self.config.quarantine), (Some(since), Some(time)) if since.elapsed() < time)
    }

    /// These nodes hold the records, and no others.
    ///
    /// Gives the incarnation that this makes of the store.
    pub(crate) fn set_members(&self, members: BTreeMap<String, u64>) -> u64 {
        let mut nodes = lock(&self.nodes);
        nodes.owed.clear();
        self.take_members(&mut nodes, members)
    }

    /// These nodes hold the records, and of those that were met these do not. Nothing is sure while there are others.
    pub(crate) fn set_members_but(&self, members: BTreeMap<String, u64>, settled: &[u64]) {
        let mut nodes = lock(&self.nodes);
        nodes.owed.retain(|id, _| !settled.contains(id) && !members.values().any(|member| member == id));
        self.take_members(&mut nodes, members);
    }

    fn take_members(&self, nodes: &mut Nodes, members: BTreeMap<String, u64>) -> u64 {
        // by what they are and not by where: processes may know them by different addresses
        let mut ids: Vec<_> = members.values().copied().collect();
        ids.sort_unstable();
        nodes.members = members;
        let sure = nodes.owed.is_empty();
        let incarnation = if sure { number(ids.iter().map(|id| id.to_le_bytes())) } else { 0 };
        self.set_incarnation(incarnation);
        incarnation
    }

    /// The nodes that hold the records.
    pub(crate) fn members(&self) -> BTreeMap<String, u64> {
        lock(&self.nodes).members.clone()
    }

    /// The masters that were met and have not been looked at, and the one that was met last.
    pub(crate) fn owed(&self) -> (BTreeMap<u64, String>, Option<String>) {
        let nodes = lock(&self.nodes);
        (nodes.owed.clone(), nodes.newest.clone())
    }

    /// A master was met: before any command but those of the greeting is sent to it.
    pub(crate) fn met(&self, place: &str, incarnation: u64) {
        let mut nodes = lock(&self.nodes);
        if !nodes.members.values().any(|known| *known == incarnation) {
            // a new one, or one that was started again: nothing is sure until all have been looked at
            nodes.owed.insert(incarnation, place.to_owned());
            nodes.newest = Some(place.to_owned());
            self.set_incarnation(0);
            self.look.send_replace(());
        }
    }

    fn set_incarnation(&self, incarnation: u64) {
        let before = self.incarnation.swap(incarnation, Ordering::AcqRel);
        if before != incarnation {
            let mut changed = lock(&self.changed_at);
            // the first one ever is no change
            if before != 0 || changed.is_some() {
                *changed = Some(Instant::now());
            }
            drop(changed);
            self.gap();
        }
    }

    /// The incarnation is being learned anew: what comes of it is a change, if it is another one.
    pub(crate) fn lost(&self) {
        self.gap();
    }

    pub(crate) fn listen(&self, prefix: Vec<u8>, listener: Arc<dyn Listener>) {
        let mut listeners = lock(&self.listeners);
        listeners.push((prefix, listener));
        self.wanted.fetch_add(1, Ordering::AcqRel);
    }

    /// The number of what is to be tracked; 0: nothing.
    pub(crate) fn wanted(&self) -> u64 {
        if self.config.tell { self.wanted.load(Ordering::Acquire) } else { 0 }
    }

    /// The prefixes to track, none of which begins with another one.
    pub(crate) fn prefixes(&self) -> Vec<Vec<u8>> {
        let mut prefixes: Vec<Vec<u8>> =
            lock(&self.listeners).iter().map(|(prefix, _)| self.full(prefix)).collect();
        prefixes.sort_unstable();
        let mut distinct: Vec<Vec<u8>> = Vec::new();
        for prefix in prefixes {
            if !distinct.iter().any(|shorter| prefix.starts_with(shorter)) {
                distinct.push(prefix);
            }
        }
        distinct
    }

    /// A key of the cache as the server knows it.
    pub(crate) fn full(&self, key: &[u8]) -> Vec<u8> {
        [self.config.prefix.as_bytes(), key].concat()
    }

    /// The server says that a key has changed.
    pub(crate) fn changed(&self, full: &[u8]) {
        if let Some(key) = full.strip_prefix(self.config.prefix.as_bytes()) {
            self.tell(key);
        }
    }

    /// A key has changed.
    pub(crate) fn tell(&self, key: &[u8]) {
        for (prefix, listener) in lock(&self.listeners).iter() {
            if key.starts_with(prefix) {
                listener.changed(key);
            }
        }
    }

    /// Changes may have gone by untold.
    pub(crate) fn gap(&self) {
        lock(&self.listeners).iter().for_each(|(_, listener)| listener.gap());
    }

    /// Whether a fill may be `SET .. IFEQ`.
    pub(crate) fn compares(&self) -> bool {
        self.compares.load(Ordering::Acquire)
    }

    /// A server does not know `SET .. IFEQ`, whatever it said of itself. From now on no server is asked for it.
    pub(crate) fn compares_no_longer(&self) {
        self.met_any.store(true, Ordering::Release);
        self.compares.store(false, Ordering::Release);
    }

    /// Whether a script may be for one key only.
    pub(crate) fn is_one_key(&self) -> bool {
        self.one_key.load(Ordering::Acquire)
    }

    /// What looks like one server has several behind it, and refuses scripts for keys of more than one of them. From now
    /// on each key has a script of its own.
    pub(crate) fn one_key_from_now_on(&self) {
        self.one_key.store(true, Ordering::Release);
    }

    /// Learns from a greeting what may be asked of the servers: only what all of them can do.
    pub(crate) fn learn(&self, greeting: &Greeting) {
        if !greeting.compares {
            self.compares_no_longer();
        } else if !self.met_any.swap(true, Ordering::AcqRel) {
            self.compares.store(true, Ordering::Release);
        }
    }

    /// Whether the rights of the user are still to be looked at. Says so once; a failure puts it back.
    pub(crate) fn examines(&self) -> bool {
        !self.examined.swap(true, Ordering::AcqRel)
    }

    /// The rights did not do: they are looked at again with the next connection.
    pub(crate) fn examine_again(&self) {
        self.examined.store(false, Ordering::Release);
    }

    /// Says once what is dangerous about a server.
    pub(crate) fn warn(&self, greeting: &Greeting) {
        let warnings = greeting.warnings();
        if !warnings.is_empty() && !self.warned.swap(true, Ordering::AcqRel) {
            for warning in warnings {
                tracing::warn!(target: "mastaba", "{}: {warning}", self.config.place());
            }
        }
    }
}

/// A number that every process comes to from the same parts; never zero.
fn number<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> u64 {
    let mut digest = sha1_smol::Sha1::new();
    for part in parts {
        digest.update(part.as_ref());
        digest.update(b"\n");
    }
    let bytes = digest.digest().bytes();
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)).max(1)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often the server is asked whether it is still there, and still the same.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Servers;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Memory\r\nmaxmemory:0\r\n\
                        maxmemory_policy:noeviction\r\n# Replication\r\nrole:master\r\nmaster_replid:def\r\n\
                        # Cluster\r\ncluster_enabled:0\r\n";

    fn hub() -> Arc<Hub> {
        Hub::new(RedisConfig::new(Servers::One("localhost".into(), 1)))
    }

    #[test]
    fn a_greeting_is_read_and_judged() {
        let greeting = Greeting::read(INFO).unwrap();
        assert_eq!((greeting.version, greeting.master, greeting.clustered), ((7, 0), true, false));
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
    fn a_fill_may_compare_only_where_every_server_that_was_met_can() {
        let version = |version: &str| Greeting::read(&INFO.replace("redis_version:7.0.15", version)).unwrap();
        for (text, compares) in [
            ("redis_version:8.2.1", false),
            ("redis_version:8.4.0", true),
            ("redis_version:7.2.4\r\nvalkey_version:8.0.2", false),
            ("redis_version:7.2.4\r\nvalkey_version:8.1.0", true),
            ("redis_version:7.2.4\r\nvalkey_version:9.0.0", true),
        ] {
            assert_eq!(version(text).compares, compares, "{text}");
        }
        let hub = hub();
        assert!(!hub.compares());
        hub.learn(&version("redis_version:8.4.0"));
        assert!(hub.compares());
        hub.learn(&version("redis_version:7.4.0"));
        assert!(!hub.compares());
        hub.learn(&version("redis_version:8.4.0"));
        assert!(!hub.compares(), "the old one may still be there");
    }

    #[test]
    fn a_restart_and_a_promotion_are_other_incarnations() {
        let first = Greeting::read(INFO).unwrap().incarnation;
        assert_eq!(first, Greeting::read(INFO).unwrap().incarnation);
        assert_ne!(first, Greeting::read(&INFO.replace("run_id:abc", "run_id:abd")).unwrap().incarnation);
        assert_ne!(first, Greeting::read(&INFO.replace("replid:def", "replid:deg")).unwrap().incarnation);
    }

    #[test]
    fn a_node_that_was_not_known_makes_everything_unsure() {
        let hub = hub();
        hub.set_members(BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
        let known = hub.incarnation();
        hub.met("b", 2);
        assert_eq!(hub.incarnation(), known);
        hub.met("c", 3);
        assert_eq!(hub.incarnation(), 0);
        hub.set_members(BTreeMap::from([("elsewhere".to_owned(), 2), ("b".to_owned(), 1)]));
        assert_eq!(hub.incarnation(), known, "the same nodes by other addresses");
    }

    #[test]
    fn while_a_master_that_was_met_is_not_accounted_for_nothing_is_sure() {
        let hub = hub();
        let old = BTreeMap::from([("a".to_owned(), 1)]);
        hub.set_members(old.clone());
        let known = hub.incarnation();
        hub.met("b", 2);
        // somebody who has not heard of it says that all is as it was
        hub.set_members_but(old.clone(), &[]);
        assert_eq!(hub.incarnation(), 0);
        assert_eq!(hub.owed(), (BTreeMap::from([(2, "b".to_owned())]), Some("b".to_owned())));
        hub.set_members_but(BTreeMap::from([("b".to_owned(), 2)]), &[]);
        assert!(hub.incarnation() != 0 && hub.incarnation() != known);
        hub.met("c", 3);
        hub.set_members_but(BTreeMap::from([("b".to_owned(), 2)]), &[3]);
        assert_ne!(hub.incarnation(), 0, "it has no records");
    }

    #[test]
    fn of_prefixes_the_shortest_are_tracked() {
        struct Nobody;
        impl Listener for Nobody {
            fn changed(&self, _: &[u8]) {}
            fn gap(&self) {}
        }
        let hub = hub();
        for prefix in ["m:b:", "m:a:", "m:a:x"] {
            hub.listen(prefix.into(), Arc::new(Nobody));
        }
        assert_eq!(hub.prefixes(), [b"m:a:".to_vec(), b"m:b:".to_vec()]);
    }
}
