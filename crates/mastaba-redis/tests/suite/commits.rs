//! Commits over real deployments, as two processes see them: one writes, the other reads.

use mastaba::{Coherence, Tier, WriteMode};
use mastaba_test::outages::commits;
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};

use crate::common::OverRedis;

async fn strict(url: &str) {
    commits::strict::<OverRedis>(url, Some(Coherence::Fenced)).await;
}

async fn serve(url: &str) {
    commits::loose::<OverRedis>(url, WriteMode::Serve, Tier::Shared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_keep_their_word_on_one_server() {
    let Some(server) = RedisServer::start().await else { return };
    strict(&server.url()).await;
    server.command(&["FLUSHALL"]).await;
    serve(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_keep_their_word_on_a_cluster() {
    let Some(cluster) = Cluster::start().await else { return };
    strict(&cluster.url()).await;
    let Some(cluster) = Cluster::start().await else { return };
    serve(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_keep_their_word_behind_sentinels() {
    let Some(sentinels) = Sentinels::start().await else { return };
    strict(&sentinels.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_dies_after_commit_leaves_a_hold_that_runs_out_and_nothing_old() {
    let Some(server) = RedisServer::start().await else { return };
    let reader = commits::a_writer_that_dies_after_commit::<OverRedis>(&server.url()).await;
    reader.cache.idle().await;
    assert_eq!(reader.finds(1).await, (1, Tier::Shared), "stored again once the hold has run out (I3)");
}
