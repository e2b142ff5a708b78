//! Commits as two processes see them: one writes, the other reads.

use mastaba::{Tier, WriteMode};
use mastaba_test::outages::commits;
use mastaba_test::servers::MemcachedServer;

use crate::common::{OverMemcached, limited, three, url, url_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_keep_their_word_on_one_server() {
    limited(async {
        for (mode, meanwhile) in [(WriteMode::Serve, Tier::Shared), (WriteMode::Degrade, Tier::Source)] {
            let Some(server) = MemcachedServer::start().await else { return };
            commits::loose::<OverMemcached>(&url(&server), mode, meanwhile).await;
        }
        let Some(server) = MemcachedServer::start().await else { return };
        commits::strict::<OverMemcached>(&url(&server), None).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_keep_their_word_on_three_servers() {
    limited(async {
        let Some(servers) = three().await else { return };
        commits::strict::<OverMemcached>(&url_of(&servers), None).await;
        let Some(servers) = three().await else { return };
        commits::loose::<OverMemcached>(&url_of(&servers), WriteMode::Serve, Tier::Shared).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_dies_after_commit_leaves_a_hold_that_runs_out_and_nothing_old() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        let reader = commits::a_writer_that_dies_after_commit::<OverMemcached>(&url(&server)).await;
        assert_eq!(reader.warm(1).await, 1, "stored again once the hold has run out (I3)");
    })
    .await;
}
