//! `TCP_NODELAY` is set on every connection, as the system says of the sockets of this very process.
#![cfg(target_os = "linux")]

use crate::rows;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use mastaba::{Coherence, NearConfig};
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};
use rows::{Row, Table, process, until};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Duplicates of the TCP connections of this process to these ports.
fn connections(ports: &BTreeSet<u16>) -> Vec<TcpStream> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let listed = fs::read_dir("/proc/self/fd").unwrap();
    let numbers = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // one that another test has closed meanwhile is gone
    let copied = numbers.filter_map(|number| pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok());
    // whatever is no TCP connection knows no address at the other end
    let streams = copied.map(|copy: OwnedFd| TcpStream::from(copy));
    streams.filter(|it| it.peer_addr().is_ok_and(|peer| ports.contains(&peer.port()))).collect()
}

/// Every one of these servers is connected to, and each connection sends at once.
fn assert_sends_at_once(servers: &[&RedisServer]) {
    let ports: BTreeSet<u16> = servers.iter().map(|server| server.port()).collect();
    let connections = connections(&ports);
    let met: BTreeSet<u16> = connections.iter().map(|it| it.peer_addr().unwrap().port()).collect();
    assert_eq!(met, ports, "a server is not connected to, so nothing is known of how it would be");
    for connection in connections {
        assert!(connection.nodelay().unwrap(), "{:?} waits before it sends", connection.peer_addr());
    }
}

/// A process with near, which hears of changes on the connections that it reads on.
async fn use_near(url: &str) -> mastaba::Cache {
    let near = NearConfig::entries(10_000).coherence(Coherence::Fenced);
    let cache = process(url, &Table::new(), |region| region.near(near)).await;
    until("a hit of near", async || {
        let request = cache.request();
        request.prefetch::<Row>(0..100).await.unwrap();
        cache.idle().await;
        request.report().outcomes[0].near_hits == 100
    })
    .await;
    cache
}

#[tokio::test]
async fn a_connection_to_one_server_sends_at_once() {
    let Some(server) = RedisServer::start().await else { return };
    let _cache = use_near(&server.url()).await;
    assert_sends_at_once(&[&server]);
}

#[tokio::test]
async fn one_by_tls_sends_at_once() {
    let Some(server) = RedisServer::builder().tls_for_all().start().await else { return };
    let ca = server.certificates().unwrap().ca();
    let _cache = use_near(&format!("{}?tls_ca={}", server.url(), ca.display())).await;
    assert_sends_at_once(&[&server]);
}

#[tokio::test]
async fn the_sentinels_and_their_master_are_sent_to_at_once() {
    let Some(sentinels) = Sentinels::start().await else { return };
    let _cache = use_near(&sentinels.url()).await;
    // the first sentinel knows the answer, and others are asked when it does not
    assert_sends_at_once(&[sentinels.sentinel(0), sentinels.master()]);
}

#[tokio::test]
async fn every_node_of_a_cluster_is_sent_to_at_once() {
    let Some(cluster) = Cluster::start().await else { return };
    let _cache = use_near(&cluster.url()).await;
    assert_sends_at_once(&[cluster.node(0), cluster.node(1), cluster.node(2)]);
}
