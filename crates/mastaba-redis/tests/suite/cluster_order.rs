//! What happens on several nodes happens in the order that a rule needs, though each node is asked at once.

use crate::common;

use std::time::Duration;

use bytes::Bytes;
use common::{limited, until};
use mastaba::FaultKind;
use mastaba::entry::{self, Fence, Header, Kind};
use mastaba::shared::{Fill, Filled, Lease, Leased, Over, Shared, Stamp};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::servers::Cluster;

const TTL: Duration = Duration::from_secs(60);
/// Long enough for what happens meanwhile, on a busy machine. Most tests end it themselves.
const PAUSE: Duration = Duration::from_secs(10);

async fn connect(cluster: &Cluster) -> Redis {
    let mut config = RedisConfig::from_url(&cluster.url()).unwrap();
    config.connect_timeout = PAUSE * 10;
    Redis::connect(config).await.unwrap()
}

/// A key that is kept by this node.
async fn key_on(cluster: &Cluster, node: usize, name: &str) -> Bytes {
    for nth in 0.. {
        let key = format!("{name}{nth}");
        let slot = cluster.slot_of(key.as_bytes()).await;
        if cluster.owner(slot).await == Some(node) {
            return key.into();
        }
    }
    unreachable!("every node keeps some key")
}

/// A node answers reads, and no writes for this long.
async fn takes_no_writes(cluster: &Cluster, node: usize, pause: Duration) {
    let millis = pause.as_millis().to_string();
    assert_eq!(cluster.node(node).command(&["CLIENT", "PAUSE", &millis, "WRITE"]).await, "OK");
}

/// Waits until a stamp is at a node that takes no writes.
async fn waits_for_the_end_of_the_pause(cluster: &Cluster, node: usize) {
    until("a stamp at the node", async || {
        cluster.node(node).command(&["CLIENT", "LIST"]).await.contains(" cmd=set ")
    })
    .await;
}

async fn takes_writes_again(cluster: &Cluster, node: usize) {
    assert_eq!(cluster.node(node).command(&["CLIENT", "UNPAUSE"]).await, "OK");
}

/// A miss, a lease, a load and a fill.
async fn store(redis: &Redis, key: &Bytes) {
    let fence = Fence::random();
    let incarnation = redis.incarnation();
    let record = entry::lease(fence, incarnation).into();
    let lease = Lease { key: key.clone(), record, over: None, ttl: TTL };
    let leases = redis.lease(&[lease], &[]).await.unwrap();
    assert_eq!(leases.leased, [Leased::Granted]);
    let record = entry::write(&Header::new(Kind::Value, Fence::random(), incarnation), &[], &[], b"v").into();
    let fill = Fill { key: key.clone(), expected: fence, over: Over::Lease, record, ttl: TTL };
    assert_eq!(redis.fill(&[fill]).await.unwrap(), [Filled::Stored]);
}

/// R7: an outer object is derived from an inner one that is still to be voided on another node, after the outer one was
/// voided on its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_what_is_derived_from_an_inner_object_between_two_nodes_is_void_when_the_write_is_acknowledged() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let (writer, reader) = (connect(&cluster).await, connect(&cluster).await);
        let (inner, outer) = (key_on(&cluster, 0, "inner").await, key_on(&cluster, 1, "outer").await);
        // every node knows the script from now on
        writer.invalidate(&[inner.clone(), outer.clone()], &[]).await.unwrap();
        store(&reader, &inner).await;
        store(&reader, &outer).await;
        takes_no_writes(&cluster, 0, PAUSE).await;
        let keys = [inner.clone(), outer.clone()];
        let write = tokio::spawn(async move { writer.invalidate(&keys, &[]).await });
        until("the outer object voided", async || {
            reader.read(std::slice::from_ref(&outer)).await.unwrap() == [None]
        })
        .await;
        assert!(
            reader.read(std::slice::from_ref(&inner)).await.unwrap()[0].is_some(),
            "it is still to be voided"
        );
        store(&reader, &outer).await;
        assert!(!write.is_finished(), "the write was acknowledged while one node took no writes");
        takes_writes_again(&cluster, 0).await;
        write.await.unwrap().unwrap();
        assert_eq!(reader.read(&[inner, outer]).await.unwrap(), [None, None]);
    })
    .await;
}

/// R12: the epoch of tags is read after the tags, so that a tag that was seen renewed comes with an epoch that was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r12_a_lease_reads_its_last_stamp_after_those_of_other_nodes() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let redis = connect(&cluster).await;
        let (tag, epoch) = (key_on(&cluster, 0, "tag").await, key_on(&cluster, 1, "epoch").await);
        let stamps = [&tag, &epoch].map(|key| Stamp { key: key.clone(), value: 1, ttl: None });
        assert_eq!(redis.lease(&[], &stamps).await.unwrap().stamps, [1, 1]);
        // a lease that meets a tag reads and sets its stamp in one command, which counts as a write
        takes_no_writes(&cluster, 0, PAUSE).await;
        let lease = tokio::spawn({
            let redis = redis.clone();
            async move { redis.lease(&[], &stamps).await }
        });
        waits_for_the_end_of_the_pause(&cluster, 0).await;
        // on the connection to the other node: the epoch would be read before this, were it not to wait for the tag
        redis.read(std::slice::from_ref(&epoch)).await.unwrap();
        assert!(!lease.is_finished(), "the tag was read while its node took no writes");
        let renewed = 2_u64.to_le_bytes();
        let set: [&[u8]; 3] = [b"SET", &epoch, &renewed];
        assert_eq!(cluster.node(1).command(&set).await, "OK");
        takes_writes_again(&cluster, 0).await;
        assert_eq!(lease.await.unwrap().unwrap().stamps, [1, 2]);
    })
    .await;
}

/// R12: an invalidation by tag renews the epoch before the tags.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r12_an_invalidation_by_tag_renews_the_first_stamp_before_those_of_other_nodes() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let redis = connect(&cluster).await;
        let (epoch, tag) = (key_on(&cluster, 0, "epoch").await, key_on(&cluster, 1, "tag").await);
        let stamps = |value| [&epoch, &tag].map(|key| Stamp { key: key.clone(), value, ttl: None });
        redis.invalidate(&[], &stamps(1)).await.unwrap();
        takes_no_writes(&cluster, 0, PAUSE).await;
        let write = tokio::spawn({
            let (redis, stamps) = (redis.clone(), stamps(2));
            async move { redis.invalidate(&[], &stamps).await }
        });
        waits_for_the_end_of_the_pause(&cluster, 0).await;
        assert!(!write.is_finished(), "the epoch was renewed while its node took no writes");
        let old = Bytes::copy_from_slice(&1_u64.to_le_bytes());
        // on the connection to the other node: the tag would be renewed before this
        assert_eq!(redis.read(std::slice::from_ref(&tag)).await.unwrap(), [Some(old)], "the tag went first");
        takes_writes_again(&cluster, 0).await;
        write.await.unwrap().unwrap();
        let new = Bytes::copy_from_slice(&2_u64.to_le_bytes());
        assert_eq!(redis.read(&[epoch.clone(), tag.clone()]).await.unwrap(), [Some(new.clone()), Some(new)]);
    })
    .await;
}

/// R12: in between another process may have voided, by setting a stamp of its own, what it would bring back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r12_a_stamp_whose_answer_is_lost_is_not_set_once_more() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let redis = connect(&cluster).await;
        let tag = key_on(&cluster, 0, "tag").await;
        let stamp = |value| [Stamp { key: tag.clone(), value, ttl: None }];
        redis.invalidate(&[], &stamp(1)).await.unwrap();
        takes_no_writes(&cluster, 0, PAUSE).await;
        let write = tokio::spawn({
            let (redis, stamp) = (redis.clone(), stamp(2));
            async move { redis.invalidate(&[], &stamp).await }
        });
        // what waits for the end of the pause goes with its connection
        waits_for_the_end_of_the_pause(&cluster, 0).await;
        cluster.node(0).command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        let fault = write.await.unwrap().unwrap_err();
        assert_eq!(fault.kind(), FaultKind::Down, "{fault}");
        takes_writes_again(&cluster, 0).await;
        until("an answer of the node", async || redis.read(std::slice::from_ref(&tag)).await.is_ok()).await;
        let old = Bytes::copy_from_slice(&1_u64.to_le_bytes());
        assert_eq!(redis.read(std::slice::from_ref(&tag)).await.unwrap(), [Some(old)]);
        redis.invalidate(&[], &stamp(3)).await.unwrap();
    })
    .await;
}
