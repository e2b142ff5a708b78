//! Clusters and sentinels.

use mastaba_test::servers::resp::{Connection, Reply};
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};

use super::{is_there, limited};

async fn ask(server: &RedisServer, command: &[&str]) -> String {
    let mut connection = Connection::open(server.addr()).await.expect("the server accepts");
    connection.call(command).await.expect("the server answers").to_string()
}

#[tokio::test]
async fn a_cluster_answers_for_its_slots_and_sends_on_for_others() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        assert_eq!(cluster.urls().len(), 4);
        let slot = cluster.slot_of(b"foo").await;
        assert_eq!(slot, 12_182);
        assert_eq!(cluster.owner(slot).await, Some(2));
        assert_eq!(ask(cluster.node(2), &["SET", "foo", "1"]).await, "OK");
        let moved = format!("MOVED 12182 127.0.0.1:{}", cluster.node(2).port());
        assert_eq!(ask(cluster.node(0), &["GET", "foo"]).await, moved);
        let pids: Vec<u32> = (0..4).map(|index| cluster.node(index).pid().unwrap()).collect();
        drop(cluster);
        assert!(!pids.into_iter().any(is_there));
    })
    .await;
}

#[tokio::test]
async fn a_slot_moves_step_by_step() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let (old, new) = (cluster.node(2), cluster.node(1));
        for key in ["{foo}a", "{foo}b", "{foo}c"] {
            assert_eq!(ask(old, &["SET", key, key]).await, "OK");
        }
        let migration = cluster.start_migration(12_182, 2, 1).await;
        let ask_there = format!("ASK 12182 127.0.0.1:{}", new.port());
        assert_eq!(ask(old, &["GET", "{foo}a"]).await, "{foo}a");
        assert_eq!(ask(old, &["GET", "{foo}unknown"]).await, ask_there);
        migration.move_key(b"{foo}a").await;
        assert_eq!(ask(old, &["GET", "{foo}a"]).await, ask_there);
        assert!(ask(old, &["MGET", "{foo}a", "{foo}b"]).await.starts_with("TRYAGAIN"));
        let mut asking = Connection::open(new.addr()).await.unwrap();
        assert_eq!(asking.call(&["ASKING"]).await.unwrap().to_string(), "OK");
        assert_eq!(asking.call(&["GET", "{foo}a"]).await.unwrap().to_string(), "{foo}a");
        migration.finish().await;
        assert_eq!(cluster.owner(12_182).await, Some(1));
        assert_eq!(ask(new, &["MGET", "{foo}a", "{foo}b", "{foo}c"]).await, "{foo}a\n{foo}b\n{foo}c");
        let moved = format!("MOVED 12182 127.0.0.1:{}", new.port());
        assert_eq!(ask(old, &["GET", "{foo}a"]).await, moved);
        cluster.migrate_slot(12_182, 1, 0).await;
        assert_eq!(ask(cluster.node(0), &["GET", "{foo}b"]).await, "{foo}b");
    })
    .await;
}

#[tokio::test]
async fn a_clusters_replica_takes_over_in_order() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        assert_eq!(cluster.owner(0).await, Some(0));
        cluster.failover().await;
        assert_eq!(cluster.owner(0).await, Some(3));
        assert_eq!(cluster.node(0).info("replication").await["role"], "slave");
    })
    .await;
}

#[tokio::test]
async fn a_clusters_replica_takes_over_from_the_dead_without_what_it_never_got() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let (first, replica) = (cluster.node(0), cluster.replica());
        assert_eq!(cluster.slot_of(b"{b}").await, 3300);
        assert_eq!(ask(first, &["SET", "{b}1", "kept"]).await, "OK");
        assert_eq!(first.command(&["WAIT", "1", "5000"]).await, "1");
        cluster.stop_replication().await;
        assert_eq!(ask(first, &["SET", "{b}2", "lost"]).await, "OK");
        assert_eq!(first.command(&["WAIT", "1", "100"]).await, "0");
        first.kill().await;
        cluster.failover().await;
        assert_eq!(cluster.owner(3300).await, Some(3));
        assert_eq!(ask(replica, &["MGET", "{b}1", "{b}2"]).await, "kept\n");
    })
    .await;
}

#[tokio::test]
async fn sentinels_replace_a_dead_master_by_the_replica() {
    limited(async {
        let Some(group) = Sentinels::start().await else { return };
        let (master, replica) = (group.master(), group.replica());
        let lookup = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", group.name()];
        for index in 0..3 {
            let address = format!("127.0.0.1\n{}", master.port());
            assert_eq!(ask(group.sentinel(index), &lookup).await, address);
        }
        assert_eq!(ask(master, &["SET", "a", "kept"]).await, "OK");
        assert_eq!(master.command(&["WAIT", "1", "5000"]).await, "1");
        group.stop_replication().await;
        assert_eq!(ask(master, &["SET", "b", "lost"]).await, "OK");
        master.kill().await;
        group.wait_for_failover().await;
        let address = format!("127.0.0.1\n{}", replica.port());
        assert_eq!(ask(group.sentinel(2), &lookup).await, address);
        assert_eq!(ask(replica, &["MGET", "a", "b"]).await, "kept\n");
        let pids = [replica.pid().unwrap(), group.sentinel(0).pid().unwrap()];
        drop(group);
        assert!(!pids.into_iter().any(is_there));
    })
    .await;
}

#[tokio::test]
async fn a_replica_behind_sentinels_catches_up_and_takes_over_in_order() {
    limited(async {
        let Some(group) = Sentinels::start().await else { return };
        group.stop_replication().await;
        assert_eq!(ask(group.master(), &["SET", "a", "1"]).await, "OK");
        let read = group.replica().call(&["GET", "a"]).await.unwrap();
        assert_eq!(read, Reply::Nil);
        group.resume_replication().await;
        assert_eq!(group.replica().command(&["GET", "a"]).await, "1");
        group.failover().await;
        assert_eq!(ask(group.replica(), &["SET", "a", "2"]).await, "OK");
    })
    .await;
}
