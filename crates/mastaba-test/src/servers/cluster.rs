//! A Redis cluster.

use futures_util::future::join_all;
use tempfile::TempDir;

use super::redis::{CONTROL, RedisBuilder, RedisServer, url_of_all};
use super::resp::Reply;
use super::tls::Certificates;
use super::wait;

/// The first and the last slot of each master.
const SLOTS: [[&str; 2]; 3] = [["0", "5460"], ["5461", "10922"], ["10923", "16383"]];

/// Three masters with a third of the slots each, and a replica of the first one. Dropping it kills them all.
#[derive(Debug)]
pub struct Cluster {
    /// The replica comes last.
    nodes: Vec<RedisServer>,
    /// Where the certificates are that all nodes share, with TLS.
    _shared: Option<TempDir>,
}

impl Cluster {
    /// Starts it and waits until every node finds it in order and clients can learn of the replica, which takes about
    /// three seconds: a Redis node waits two before it takes writes. `None` when no server is installed: see
    /// [`missing`](super::missing).
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start() -> Option<Self> {
        Self::start_with(RedisServer::builder()).await
    }

    /// The same with nodes of this shape. They take each other for dead after one second of silence. With TLS they share
    /// one authority, and talk to each other by TLS as well; then [`owner`](Cluster::owner) and all that looks for a
    /// port knows none, as the nodes name those of TLS only to who came by it.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start_with(shape: RedisBuilder) -> Option<Self> {
        let mut shape = shape.replicated().set("cluster-enabled", "yes").set("cluster-node-timeout", "1000");
        let shared = shape.tls.then(|| {
            tempfile::Builder::new().prefix("mastaba-redis-").tempdir().expect("a temporary folder")
        });
        if let Some(folder) = &shared {
            shape = shape.set("tls-cluster", "yes").set("tls-replication", "yes");
            shape = shape.certificates(Certificates::write(folder.path()));
        }
        let nodes = join_all((0..=SLOTS.len()).map(|_| shape.clone().start())).await;
        let cluster = Self { nodes: nodes.into_iter().collect::<Option<_>>()?, _shared: shared };
        cluster.join().await;
        Some(cluster)
    }

    async fn join(&self) {
        for (epoch, (node, [first, last])) in self.nodes.iter().zip(SLOTS).enumerate() {
            assert_eq!(node.command(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await, "OK");
            // else two claim to be the newest, and settle it while a test runs
            let epoch = (epoch + 1).to_string();
            assert_eq!(node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await, "OK");
        }
        for (index, node) in self.nodes.iter().enumerate() {
            for other in &self.nodes[index + 1..] {
                let (port, bus) = (other.port().to_string(), other.bus().to_string());
                assert_eq!(node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await, "OK");
            }
        }
        let master = self.id(0).await;
        // it is refused until it has heard of that master
        let replicate = ["CLUSTER", "REPLICATE", &master];
        wait::until("a replica in a cluster", async || self.replica().command(&replicate).await == "OK")
            .await;
        wait::until("a cluster in order", async || self.is_in_order().await).await;
    }

    async fn is_in_order(&self) -> bool {
        for node in &self.nodes {
            let state = node.command(&["CLUSTER", "INFO"]).await;
            let shards = node.call(&["CLUSTER", "SLOTS"]).await.unwrap_or(Reply::Nil);
            // the first range is that of the only master with a replica: from, to, master, replica
            let replicated = shards.list().iter().any(|range| range.list().len() == 4);
            if !state.contains("cluster_state:ok") || shards.list().len() != SLOTS.len() || !replicated {
                return false;
            }
        }
        self.replica().is_linked().await
    }

    /// Where clients of `mastaba-redis` connect: `redis-cluster://`, or `rediss-cluster://` with TLS, and all nodes. No
    /// password is in it.
    pub fn url(&self) -> String {
        url_of_all("cluster", &self.nodes)
    }

    /// Of all nodes, masters first.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// The masters 0, 1 and 2, and the replica 3, as they were at the start.
    pub fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index]
    }

    /// The replica of the first node, as it was at the start.
    pub fn replica(&self) -> &RedisServer {
        &self.nodes[SLOTS.len()]
    }

    /// The slot of a key.
    ///
    /// # Panics
    ///
    /// When no node answers.
    pub async fn slot_of(&self, key: &[u8]) -> u16 {
        let slot = self.alive().command(&[b"CLUSTER".as_slice(), b"KEYSLOT", key]).await;
        slot.parse().expect("a slot is a number")
    }

    /// Which node is master of a slot, as the first one that runs sees it. `None` when it knows of none.
    ///
    /// # Panics
    ///
    /// When no node answers.
    pub async fn owner(&self, slot: u16) -> Option<usize> {
        owner(self.alive(), slot)
            .await
            .and_then(|port| self.nodes.iter().position(|node| node.port() == port))
    }

    /// Moves a slot with all its keys.
    ///
    /// # Panics
    ///
    /// When a node refuses or does not answer.
    pub async fn migrate_slot(&self, slot: u16, from: usize, to: usize) {
        self.start_migration(slot, from, to).await.finish().await;
    }

    /// Begins to move a slot: from now on, `from` answers for the keys that it has and sends clients on to `to` for
    /// others (`ASK`). Dropping what it gives leaves it so.
    ///
    /// # Panics
    ///
    /// When a node refuses or does not answer.
    pub async fn start_migration(&self, slot: u16, from: usize, to: usize) -> Migration<'_> {
        let migration = Migration { cluster: self, slot: slot.to_string(), from, to };
        let (from_id, to_id) = (self.id(from).await, self.id(to).await);
        migration.set_slot(to, &["IMPORTING", &from_id]).await;
        migration.set_slot(from, &["MIGRATING", &to_id]).await;
        migration
    }

    /// Has the replica take over from the first node, and waits until all that run know. When the first node runs, it
    /// hands over in order, and becomes a replica; otherwise the others elect the replica, which takes about two
    /// seconds.
    ///
    /// # Panics
    ///
    /// When it does not happen.
    pub async fn failover(&self) {
        let runs = self.node(0).pid().is_some();
        let port = self.replica().port();
        wait::until("a failover", async || {
            // an attempt may come to nothing, and then nobody tries again
            if runs && !self.replica().is_master().await {
                self.replica().command(&["CLUSTER", "FAILOVER"]).await;
                tokio::time::sleep(wait::PAUSE * 20).await;
            }
            for node in self.nodes.iter().filter(|node| node.pid().is_some()) {
                let state = node.command(&["CLUSTER", "INFO"]).await;
                if owner(node, 0).await != Some(port) || !state.contains("cluster_state:ok") {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Cuts the replica off from the first node while both stay in the cluster: writes do not reach it.
    ///
    /// # Panics
    ///
    /// When the first node does not answer.
    pub async fn stop_replication(&self) {
        self.node(0).replicate(false).await;
    }

    /// Lets the replica catch up, and waits until it has.
    ///
    /// # Panics
    ///
    /// When a node does not answer.
    pub async fn resume_replication(&self) {
        self.node(0).replicate(true).await;
        wait::until("a replica that catches up", async || self.replica().is_linked().await).await;
    }

    async fn id(&self, index: usize) -> String {
        self.node(index).command(&["CLUSTER", "MYID"]).await
    }

    fn alive(&self) -> &RedisServer {
        self.nodes.iter().find(|node| node.pid().is_some()).expect("a node runs")
    }
}

/// The port of the master of a slot.
async fn owner(node: &RedisServer, slot: u16) -> Option<u16> {
    let ranges = node.call(&["CLUSTER", "SLOTS"]).await.ok()?;
    ranges.list().iter().find_map(|range| match range.list() {
        [Reply::Number(first), Reply::Number(last), master, ..]
            if (*first..=*last).contains(&slot.into()) =>
        {
            master.list().get(1)?.to_string().parse().ok()
        }
        _ => None,
    })
}

/// A slot on its way from one node to another.
#[derive(Debug)]
#[must_use = "a slot stays between two nodes until this is finished"]
pub struct Migration<'a> {
    cluster: &'a Cluster,
    slot: String,
    from: usize,
    to: usize,
}

impl Migration<'_> {
    /// Moves the keys that are there now.
    ///
    /// # Panics
    ///
    /// When a node refuses or does not answer.
    pub async fn move_keys(&self) {
        loop {
            let few = ["CLUSTER", "GETKEYSINSLOT", &self.slot, "100"];
            let keys = self.cluster.node(self.from).call(&few).await.expect("a node answers");
            if keys.list().is_empty() {
                return;
            }
            for key in keys.list() {
                let Reply::Bytes(key) = key else { panic!("no key: {key}") };
                self.move_key(key).await;
            }
        }
    }

    /// Moves one key, if it is there.
    ///
    /// # Panics
    ///
    /// When a node refuses or does not answer.
    pub async fn move_key(&self, key: &[u8]) {
        let port = self.cluster.node(self.to).port().to_string();
        let [name, password] = CONTROL;
        let mut command: Vec<&[u8]> =
            vec![b"MIGRATE", b"127.0.0.1", port.as_bytes(), b"", b"0", b"5000", b"AUTH2"];
        command.extend([name.as_bytes(), password.as_bytes(), b"KEYS", key]);
        let moved = self.cluster.node(self.from).command(&command).await;
        // somebody may have removed it since it was listed
        assert!(["OK", "NOKEY"].contains(&&moved[..]), "{moved}");
    }

    /// Moves the keys that are left, and gives the slot to its new node, with the knowledge of all that run.
    ///
    /// # Panics
    ///
    /// When a node refuses or does not answer.
    pub async fn finish(self) {
        self.move_keys().await;
        let id = self.cluster.id(self.to).await;
        // first the one that gets it: it must not be without a master in between
        self.set_slot(self.to, &["NODE", &id]).await;
        self.set_slot(self.from, &["NODE", &id]).await;
        let slot: u16 = self.slot.parse().expect("a slot is a number");
        let port = self.cluster.node(self.to).port();
        wait::until("a slot that all know", async || {
            let nodes = self.cluster.nodes.iter().filter(|node| node.pid().is_some());
            join_all(nodes.map(|node| owner(node, slot))).await.iter().all(|owner| *owner == Some(port))
        })
        .await;
    }

    async fn set_slot(&self, node: usize, what: &[&str]) {
        let command = [&["CLUSTER", "SETSLOT", &self.slot], what].concat();
        assert_eq!(self.cluster.node(node).command(&command).await, "OK", "{command:?}");
    }
}
