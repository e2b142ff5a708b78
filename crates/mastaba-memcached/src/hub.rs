//! What all connections of a backend have in common: which server a key has its place on, and which store they make up.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mastaba::{Fault, FaultKind};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use crate::config::MemcachedConfig;

/// How often each connection is asked whether it still leads to the store that it led to.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What of an item is not its record: the key, numbers of the server's own, and room for more of them.
const BESIDE_THE_RECORD: usize = 512;
/// What a server takes unless it is told otherwise.
const DEFAULT_ITEM: usize = 1 << 20;
static SECRETS: RapidSecrets = RapidSecrets::seed(0x6d65_6d63_6163_6865);

/// Shared by the backend and its connections.
pub(crate) struct ServerList {
    pub(crate) config: MemcachedConfig,
    servers: Vec<KnownServer>,
    /// The list of servers, as one number.
    list: u64,
    /// Which use of this list it is: it counts up when the servers come back from another list.
    generation: AtomicU64,
    /// Whoever uses it is here to look, and takes no server over.
    visits: bool,
    /// Until when nothing counts: processes with another list may not know yet that they are alone with it.
    quarantine: Mutex<Option<Instant>>,
}

/// One server, as long as the backend lives.
struct KnownServer {
    name: String,
    /// For the places of keys: its own.
    secrets: RapidSecrets,
    /// It was once used with our list, by this very process.
    joined: AtomicBool,
    /// Somebody uses it with another list now.
    elsewhere: AtomicBool,
    max_item: AtomicUsize,
}

impl ServerList {
    pub(crate) fn new(config: MemcachedConfig) -> Self {
        let mut names: Vec<_> = config.servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let servers = names.iter().map(|name| KnownServer {
            name: name.clone(),
            secrets: RapidSecrets::seed(rapidhash_v3_seeded(name.as_bytes(), &SECRETS)),
            joined: AtomicBool::new(false),
            elsewhere: AtomicBool::new(false),
            max_item: AtomicUsize::new(DEFAULT_ITEM),
        });
        let servers = servers.collect();
        names.sort_unstable();
        // one server has all keys, whatever it is called: by its address, by a name, through a tunnel
        let list =
            if names.len() == 1 { 1 } else { rapidhash_v3_seeded(names.join(",").as_bytes(), &SECRETS) };
        Self {
            config,
            servers,
            list,
            generation: AtomicU64::new(0),
            visits: false,
            quarantine: Mutex::default(),
        }
    }

    /// For somebody who takes no server over.
    pub(crate) fn visited(config: MemcachedConfig) -> Self {
        Self { visits: true, ..Self::new(config) }
    }

    pub(crate) fn visits(&self) -> bool {
        self.visits
    }

    pub(crate) fn servers(&self) -> usize {
        self.servers.len()
    }

    pub(crate) fn name(&self, server: usize) -> &str {
        &self.servers[server].name
    }

    pub(crate) fn list(&self) -> u64 {
        self.list
    }

    /// The server that a key has its place on: the one with the highest number for it. Where a server leaves the list, only
    /// its own keys move.
    ///
    /// The hash function is frozen: two versions of a program have to agree about every key.
    pub(crate) fn place(&self, key: &[u8]) -> usize {
        if self.servers.len() == 1 {
            return 0;
        }
        let number = |server: &KnownServer| rapidhash_v3_seeded(key, &server.secrets);
        let best = self.servers.iter().enumerate().max_by_key(|(_, server)| (number(server), &server.name));
        best.map_or(0, |(at, _)| at)
    }

    /// A key as the servers have it.
    pub(crate) fn full(&self, key: &[u8]) -> Vec<u8> {
        [self.config.prefix.as_bytes(), key].concat()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// A server knows of a later use of our list than we do.
    pub(crate) fn learn(&self, generation: u64) {
        self.generation.fetch_max(generation, Ordering::SeqCst);
    }

    /// A server is used with our list.
    pub(crate) fn joined(&self, server: usize) {
        self.servers[server].joined.store(true, Ordering::SeqCst);
        self.servers[server].elsewhere.store(false, Ordering::SeqCst);
    }

    /// A server is used with another list. Whether we are to take it over: those who come last know best, and we come to it
    /// for the first time. A visitor never does.
    pub(crate) fn found_elsewhere(&self, server: usize) -> bool {
        let stays = self.visits || self.servers[server].joined.load(Ordering::SeqCst);
        if stays && !self.servers[server].elsewhere.swap(true, Ordering::SeqCst) {
            tracing::error!(target: "mastaba", "{}", self.explain_elsewhere(server));
        }
        !stays
    }

    /// Whether the server was found in use with another list, after it had been used with ours.
    pub(crate) fn is_elsewhere(&self, server: usize) -> bool {
        self.servers[server].elsewhere.load(Ordering::SeqCst)
    }

    /// For how long those who use a server with another list may not know that it was taken over: each of them looks after so
    /// long, or gives its connection up.
    pub(crate) fn quiet(&self) -> Duration {
        2 * LOOK_EVERY + self.config.connect_timeout
    }

    /// A server was taken over just now, by us or by another process with our list.
    pub(crate) fn keep_quiet(&self) {
        let until = Instant::now() + self.quiet();
        *self.quarantine.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// We have taken a server over from those who use it with another list.
    pub(crate) fn took_over(&self, server: usize, generation: u64) {
        self.learn(generation);
        self.keep_quiet();
        tracing::warn!(
            target: "mastaba",
            "memcached at {}: it was used with another list of servers, and is used with this one from now on; what was stored \
             before counts as a miss. Processes that still run with the other list store nothing any longer, and their \
             invalidations fail",
            self.name(server)
        );
    }

    /// What an item may have at most, as a server says.
    pub(crate) fn takes(&self, server: usize, max_item: usize) {
        self.servers[server].max_item.store(max_item, Ordering::Relaxed);
    }

    /// The largest record that every server takes.
    pub(crate) fn max_record(&self) -> usize {
        let least = self.servers.iter().map(|server| server.max_item.load(Ordering::Relaxed)).min();
        least.unwrap_or(DEFAULT_ITEM).saturating_sub(BESIDE_THE_RECORD)
    }

    /// The incarnation of the store (`R11`): the list of servers, and which use of it this is. 0: nothing that is stored counts,
    /// and nothing is stored.
    pub(crate) fn incarnation(&self) -> u64 {
        if self.is_out().is_some() || self.is_new() {
            return 0;
        }
        let numbers = [self.list.to_le_bytes(), self.generation().to_le_bytes()].concat();
        // entries have 48 bits of it
        rapidhash_v3_seeded(&numbers, &SECRETS) | 1
    }

    /// The incarnation, where it is known.
    pub(crate) fn known_incarnation(&self) -> Result<u64, Fault> {
        self.is_in_use()?;
        match self.incarnation() {
            0 => Err(Fault::new(
                FaultKind::Refused,
                "memcached: the servers were used with another list just now, and nothing is stored for some seconds",
            )),
            known => Ok(known),
        }
    }

    /// An error where another list is in use: what we would do there, others would not see.
    pub(crate) fn is_in_use(&self) -> Result<(), Fault> {
        match self.is_out() {
            Some(server) => Err(Fault::new(FaultKind::Refused, self.explain_elsewhere(server))),
            None => Ok(()),
        }
    }

    fn is_out(&self) -> Option<usize> {
        self.servers.iter().position(|server| server.elsewhere.load(Ordering::Relaxed))
    }

    fn is_new(&self) -> bool {
        let mut quarantine = self.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
        if quarantine.is_some_and(|until| until <= Instant::now()) {
            *quarantine = None;
        }
        quarantine.is_some()
    }

    fn explain_elsewhere(&self, server: usize) -> String {
        format!(
            "memcached at {}: another process uses it with another list of servers than {}; keys have other places there, so \
             what one stores the other does not void. Give all processes the same list (programs that share nothing: another \
             prefix), and restart those with the wrong one; if this one is right, a process that starts with it takes over again",
            self.name(server),
            self.servers.iter().map(|server| &server.name[..]).collect::<Vec<_>>().join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(names: &[&str]) -> ServerList {
        ServerList::new(MemcachedConfig::new(names.iter().map(|name| ((*name).to_owned(), 11211))))
    }

    #[test]
    fn keys_are_spread_and_only_those_of_a_server_that_leaves_move() {
        let (three, two) = (hub(&["a", "b", "c"]), hub(&["c", "a"]));
        let mut counts = [0; 3];
        for n in 0..3000 {
            let key = format!("key {n}").into_bytes();
            let before = three.name(three.place(&key)).to_owned();
            counts[three.place(&key)] += 1;
            let after = two.name(two.place(&key));
            assert!(before == "b:11211" || before == after, "a key of {before} moved to {after}");
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        // other versions count on it
        let places: Vec<_> = (0..8).map(|n| three.place(&[n])).collect();
        assert_eq!(places, [1, 2, 1, 2, 1, 2, 2, 1]);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter_and_its_servers_do() {
        assert_eq!(hub(&["a", "b"]).incarnation(), hub(&["b", "a"]).incarnation());
        assert_ne!(hub(&["a", "b"]).incarnation(), hub(&["a", "c"]).incarnation());
        assert_ne!(hub(&["a", "b"]).incarnation(), hub(&["a"]).incarnation());
        assert_eq!(hub(&["a"]).incarnation(), hub(&["localhost"]).incarnation(), "by another name");
        let later = hub(&["a"]);
        later.learn(1);
        assert_ne!(later.incarnation(), hub(&["a"]).incarnation());
        later.learn(0);
        assert_eq!(later.generation(), 1, "it never goes back");
    }

    #[test]
    fn while_another_list_is_in_use_nothing_counts() {
        let hub = hub(&["a", "b"]);
        assert!(hub.found_elsewhere(0), "whoever comes first to a server takes it over");
        assert_ne!(hub.incarnation(), 0);
        hub.joined(0);
        assert!(!hub.found_elsewhere(0));
        assert_eq!(hub.incarnation(), 0);
        assert!(hub.is_in_use().unwrap_err().to_string().contains("a:11211,b:11211"));
        hub.joined(0);
        assert!(hub.is_in_use().is_ok() && hub.known_incarnation().is_ok());
        hub.took_over(1, 7);
        assert_eq!((hub.incarnation(), hub.generation()), (0, 7));
        assert!(hub.is_in_use().is_ok() && hub.known_incarnation().is_err());
        let visitor = ServerList::visited(hub.config);
        assert!(!visitor.found_elsewhere(0), "who looks takes nothing over");
        assert!(visitor.is_in_use().is_err());
    }
}
