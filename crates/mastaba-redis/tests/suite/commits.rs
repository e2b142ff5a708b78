//! Commits over real deployments, as two processes see them: one writes, the other reads.

use std::collections::BTreeMap;
use std::time::Duration;

use mastaba::{Coherence, Region, Tier, WriteMode};
use mastaba_test::outages::commits;
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};

use crate::common::OverRedis;
use crate::rows::{Row, Table, process};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_keys_are_committed_in_bounded_pieces() {
    const KEYS: usize = 100_000;
    /// What a Redis is sent at a time.
    const PIECE: usize = 4096;
    let Some(server) = RedisServer::start().await else { return };
    for mode in [WriteMode::Simple, WriteMode::Strict] {
        let table = Table::new();
        // patient: one piece is slow on a busy machine, and all of them have to stand at one time
        let configure = |region: Region| {
            let region = region.write_mode(mode).hold_ttl(Duration::from_secs(180));
            region.shared_budget(Duration::from_secs(60))
        };
        let (writer, reader) = (
            process(&server.url(), &table, configure).await,
            process(&server.url(), &table, configure).await,
        );
        let some = || (0..KEYS as u64).step_by(KEYS / 100);
        reader.request().prefetch::<Row>(some()).await.unwrap();
        reader.idle().await;
        server.reset_stats().await;
        let request = writer.request();
        let write = request.write();
        write.invalidate::<Row>(0..KEYS as u64).await.unwrap();
        let of_the_commit = table.clone();
        let commit = async move {
            for id in some() {
                of_the_commit.commit(id);
            }
            Ok::<_, String>(())
        };
        let committed = write.commit(commit).await.unwrap();
        assert!(committed.published.is_confirmed(), "{mode:?}: {:?}", committed.published.error());
        writer.idle().await;

        let mut pieces: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for trip in request.report().trips {
            pieces.entry(trip.operation.to_string()).or_default().push(trip.keys);
        }
        let expected = if mode == WriteMode::Simple { vec!["invalidate"] } else { vec!["end", "hold"] };
        assert_eq!(pieces.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{mode:?}");
        for (operation, pieces) in pieces {
            assert_eq!(pieces.iter().sum::<usize>(), KEYS, "{mode:?}, {operation}");
            assert!(pieces.iter().all(|keys| *keys <= PIECE), "{mode:?}, {operation}: {pieces:?}");
        }
        let stats = server.commandstats().await;
        let calls = |command: &str| stats.get(command).copied().unwrap_or(0) as usize;
        // A script that the server does not know yet is sent again, so these are all that was under way before the first answer:
        // one piece where their order has a meaning (R7), and a few otherwise.
        let together = if mode == WriteMode::Simple { PIECE } else { 4 * PIECE };
        assert!(calls("eval") <= together, "{mode:?}: {stats:?}");
        // beside those, each key once for the hold and once for the end, or once for the invalidation
        let scripts = if mode == WriteMode::Simple { KEYS } else { 2 * KEYS };
        assert!(calls("evalsha") <= scripts + 2 * together, "{mode:?}: {stats:?}");
        let rows = reader.request().get_many::<Row>(some()).await.unwrap();
        let versions: Vec<_> = rows.found().map(|(_, row)| row.1).collect();
        assert_eq!(versions, vec![1; some().count()], "{mode:?}");
        server.command(&["FLUSHALL"]).await;
    }
}
