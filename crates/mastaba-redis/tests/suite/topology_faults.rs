//! Servers take over from each other while others read and write: by Sentinel, in a cluster, slot by slot.

use crate::common;

use std::sync::Arc;
use std::time::Duration;

use common::load::{Load, Oracle, all_current};
use common::{Process, limited, record, until};
use mastaba::{Coherence, NearConfig, Region};
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};
use mastaba_test::world::Db;

/// Two processes, the second one with near, which read and write eight users.
struct Busy {
    db: Arc<Db>,
    oracle: Arc<Oracle>,
    processes: Vec<(Arc<Process>, Duration)>,
}

impl Busy {
    async fn new(url: &str) -> Self {
        let db = Arc::new(Db::default());
        // Long enough for a machine that does much else: what is looked at here is what becomes of reads and writes, and
        // one whose budget is over was slow and not lost.
        let plain = |region: Region| region.shared_budget(Duration::from_secs(5));
        let near = NearConfig::entries(1000).coherence(Coherence::Fenced);
        let near = Arc::new(Process::with(url, &db, |region| plain(region).near(near)).await);
        let plain = Arc::new(Process::with(url, &db, plain).await);
        let processes = vec![(plain, Duration::ZERO), (near, Duration::ZERO)];
        Self { db, oracle: Oracle::new(8), processes }
    }

    fn load(&self) -> Load {
        Load::start(&self.oracle, &self.processes, 7)
    }

    /// Every read was sound; now that it is quiet, all see what is committed, from the shared tier again.
    async fn is_sound(&self) {
        self.oracle.assert_sound();
        for (process, _) in &self.processes {
            all_current(process, &self.db, &self.oracle).await;
        }
        for key in 1..=8 {
            for (writer, _) in &self.processes {
                until("an acknowledged write", async || writer.write(key).await.is_ok()).await;
                for (process, _) in &self.processes {
                    assert_eq!(process.sees(key).await, self.db.version(key));
                }
            }
            for (process, _) in &self.processes {
                assert_eq!(process.warm(key).await, self.db.version(key));
            }
        }
        // processes learn one after the other what has become of the servers, and store for each other after that
        until("hits in every process", async || {
            let statements = self.db.started();
            for (process, _) in &self.processes {
                process.finds(1).await;
                process.cache.idle().await;
            }
            self.db.started() == statements
        })
        .await;
    }
}

async fn stands(server: &RedisServer, key: u64) -> bool {
    let mut connection = mastaba_test::servers::resp::Connection::open(server.addr()).await.unwrap();
    let _ = connection.call(&["READONLY"]).await;
    connection.call(&["EXISTS", &record(key)]).await.unwrap().to_string() == "1"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_brings_back_after_a_failover_by_sentinel_is_never_served() {
    limited(async {
        let Some(sentinels) = Sentinels::start().await else { return };
        let busy = Busy::new(&sentinels.url()).await;
        for key in 1..=8 {
            for (process, _) in &busy.processes {
                process.warm(key).await;
            }
            until("a replica that has it", async || stands(sentinels.replica(), key).await).await;
        }
        sentinels.stop_replication().await;
        // these invalidations are acknowledged, and lost with the master
        for key in 1..=8 {
            busy.oracle.write(&busy.processes[0].0, key).await;
        }
        busy.oracle.assert_sure();
        let load = busy.load();
        load.goes_on(100, 20).await;
        for key in 1..=8 {
            assert!(stands(sentinels.replica(), key).await, "the replica still has what was voided");
        }
        sentinels.master().kill().await;
        sentinels.wait_for_failover().await;
        load.goes_on(200, 20).await;
        load.stop().await;
        busy.is_sound().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_sentinel_in_order_costs_no_reader_anything_but_time() {
    limited(async {
        let Some(sentinels) = Sentinels::start().await else { return };
        let busy = Busy::new(&sentinels.url()).await;
        let load = busy.load();
        load.goes_on(100, 20).await;
        sentinels.failover().await;
        load.goes_on(200, 20).await;
        load.stop().await;
        busy.is_sound().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_while_others_read_and_write_and_nobody_notices() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let busy = Busy::new(&cluster.url()).await;
        let load = busy.load();
        load.goes_on(100, 20).await;
        for key in 1..=3 {
            let slot = cluster.slot_of(record(key).as_bytes()).await;
            let from = cluster.owner(slot).await.unwrap();
            let migration = cluster.start_migration(slot, from, (from + 1) % 3).await;
            load.goes_on(100, 20).await;
            migration.move_keys().await;
            load.goes_on(100, 20).await;
            migration.finish().await;
            load.goes_on(100, 20).await;
        }
        load.stop().await;
        busy.oracle.assert_sure();
        busy.is_sound().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_replica_of_a_dead_master_brings_back_is_never_served() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let busy = Busy::new(&cluster.url()).await;
        let mut of_first = Vec::new();
        for key in 1..=8 {
            for (process, _) in &busy.processes {
                process.warm(key).await;
            }
            if cluster.owner(cluster.slot_of(record(key).as_bytes()).await).await == Some(0) {
                until("a replica that has it", async || stands(cluster.replica(), key).await).await;
                of_first.push(key);
            }
        }
        assert!(!of_first.is_empty());
        cluster.stop_replication().await;
        for key in 1..=8 {
            busy.oracle.write(&busy.processes[0].0, key).await;
        }
        busy.oracle.assert_sure();
        let load = busy.load();
        load.goes_on(100, 20).await;
        for key in of_first {
            assert!(stands(cluster.replica(), key).await, "the replica still has what was voided");
        }
        cluster.node(0).kill().await;
        cluster.failover().await;
        load.goes_on(200, 20).await;
        load.stop().await;
        busy.is_sound().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_hands_over_to_its_replica_and_no_reader_fails() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let busy = Busy::new(&cluster.url()).await;
        let load = busy.load();
        load.goes_on(100, 20).await;
        cluster.failover().await;
        load.goes_on(200, 20).await;
        load.stop().await;
        busy.is_sound().await;
    })
    .await;
}
