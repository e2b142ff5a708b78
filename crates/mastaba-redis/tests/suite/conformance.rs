//! The suite that every backend has to pass, against real servers.

use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::conformance;
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};

async fn connect(url: &str) -> Redis {
    Redis::connect(RedisConfig::from_url(url).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_server_conforms() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    conformance::run(|| async { redis.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_prefix_and_another_database_it_conforms() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&format!("{}/3?prefix=shop:", server.url().trim_end_matches('/'))).await;
    conformance::run(|| async { redis.clone() }).await;
    assert_eq!(
        server.command(&["DBSIZE"]).await,
        "0",
        "nothing is in the database that it was not told to use"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_conforms() {
    let Some(cluster) = Cluster::start().await else { return };
    let redis = connect(&cluster.url()).await;
    conformance::run(|| async { redis.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_of_sentinels_conforms() {
    let Some(sentinels) = Sentinels::start().await else { return };
    let redis = connect(&sentinels.url()).await;
    conformance::run(|| async { redis.clone() }).await;
}
