//! What all connections of a backend have in common: who listens, and which incarnation the store has.

use std::collections::BTreeMap;
#[cfg(feature = "tls")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mastaba::shared::Listener;
use mastaba::shared::stamps::StampBook;
use tokio::sync::watch;

use crate::config::{RedisConfig, Servers};
use crate::greeting::{Greeting, number};
use crate::loss::Loss;
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
    /// What the servers do not give, by [`Loss::bit`], and which of that has been warned of.
    lost: AtomicU8,
    said_lost: AtomicU8,
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

/// How a record is put in the place of exactly the one that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// By scripts.
    Scripts,
    /// By `SET .. IFEQ`, where scripts are forbidden.
    Compare,
    /// Not at all.
    Nothing,
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
            lost: AtomicU8::new(0),
            said_lost: AtomicU8::new(0),
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

    /// Whether the servers notify us, as far as is known.
    pub(crate) fn tells(&self) -> bool {
        self.config.tell && !self.has_lost(Loss::Notifications) && !self.has_lost(Loss::Resp3)
    }

    /// The number of what is to be tracked; 0: nothing.
    pub(crate) fn wanted(&self) -> u64 {
        if self.tells() { self.wanted.load(Ordering::Acquire) } else { 0 }
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

    /// Learns what may be asked of the servers: only what all of them can do.
    pub(crate) fn learn(&self, compares: bool) {
        if !compares {
            self.compares_no_longer();
        } else if !self.met_any.swap(true, Ordering::AcqRel) {
            self.compares.store(true, Ordering::Release);
        }
    }

    /// How a record may be put in the place of another one.
    pub(crate) fn means(&self) -> Means {
        match (self.has_lost(Loss::Scripts), self.compares()) {
            (false, _) => Means::Scripts,
            (true, true) => Means::Compare,
            (true, false) => Means::Nothing,
        }
    }

    pub(crate) fn has_lost(&self, loss: Loss) -> bool {
        self.lost.load(Ordering::Acquire) & loss.bit() != 0
    }

    /// What the servers do not give.
    pub(crate) fn losses(&self) -> Vec<Loss> {
        let mut lost = self.lost.load(Ordering::Acquire);
        if self.means() == Means::Nothing {
            lost = lost & !Loss::Scripts.bit() | Loss::Stores.bit();
        }
        Loss::of(lost)
    }

    /// A server does not give something: from now on it is not asked for.
    pub(crate) fn lose(&self, loss: Loss) {
        self.lost.fetch_or(loss.bit(), Ordering::AcqRel);
        if matches!(loss, Loss::Notifications | Loss::Resp3) {
            // what changes from now on is not heard of (R13)
            self.gap();
        }
    }

    /// A server gives it, which is enough where it is alone.
    pub(crate) fn regain(&self, loss: Loss) {
        if self.is_cluster() {
            return;
        }
        self.lost.fetch_and(!loss.bit(), Ordering::AcqRel);
    }

    /// Says what was lost, each loss once. `why`: what the server said.
    pub(crate) fn say_losses(&self, why: Option<&str>) {
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        for loss in self.losses() {
            if self.said_lost.fetch_or(loss.bit(), Ordering::AcqRel) & loss.bit() == 0 {
                tracing::warn!(target: "mastaba", "{}: {loss}{why}", self.config.place());
            }
        }
    }

    /// Whether it is still to be looked at what the user may do. Says so once, and of a server that is alone as long as
    /// something is lost; a failure puts it back.
    pub(crate) fn examines(&self) -> bool {
        let lost = self.has_lost(Loss::Notifications) || self.has_lost(Loss::Scripts);
        !self.examined.swap(true, Ordering::AcqRel) || lost && !self.is_cluster()
    }

    fn is_cluster(&self) -> bool {
        matches!(self.config.servers, Servers::Cluster(_))
    }

    /// The rights did not do: they are looked at again with the next connection.
    pub(crate) fn examine_again(&self) {
        self.examined.store(false, Ordering::Release);
    }

    /// Says once what is dangerous about a server, and what it does not say of itself.
    pub(crate) fn warn(&self, greeting: &Greeting) {
        for (loss, lost) in [
            (Loss::Identity, greeting.incarnation.is_none()),
            (Loss::EvictionPolicy, greeting.policy.is_none()),
        ] {
            if lost { self.lose(loss) } else { self.regain(loss) }
        }
        self.say_losses(None);
        let warnings = greeting.warnings();
        if !warnings.is_empty() && !self.warned.swap(true, Ordering::AcqRel) {
            for warning in warnings {
                tracing::warn!(target: "mastaba", "{}: {warning}", self.config.place());
            }
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often the server is asked whether it is still there, and still the same.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> Arc<Hub> {
        Hub::new(RedisConfig::new(Servers::One("localhost".into(), 1)))
    }

    #[test]
    fn a_fill_may_compare_only_where_every_server_that_was_met_can() {
        let hub = hub();
        assert!(!hub.compares());
        hub.learn(true);
        assert!(hub.compares());
        hub.learn(false);
        assert!(!hub.compares());
        hub.learn(true);
        assert!(!hub.compares(), "the old one may still be there");
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
