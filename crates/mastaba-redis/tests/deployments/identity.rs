//! Which store it is, where the server does not say (R11): a number in the store, and a script beside it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use mastaba::shared::Shared;
use mastaba::{Cache, Tier};
use mastaba_redis::Redis;
use mastaba_test::servers::RedisServer;
use tokio::sync::watch;

use super::imposter::{Imposter, Pose};
use super::rows::{Row, Table, process, sees};
use super::support::{connect, limit, until};

const RECORD: &str = "mastaba:@incarnation";
const ROW: &str = "mastaba:objects:row:1";
/// The third byte of a record that is a value.
const VALUE: &str = "@";

fn hides() -> Pose {
    Pose::default().hides(&["run_id", "master_replid"])
}

fn hides_and_forbids_scripts() -> Pose {
    hides().compares().forbids(&["EVAL", "EVALSHA"])
}

async fn url(server: &RedisServer, pose: Pose) -> (Imposter, String) {
    let service = Imposter::before(server.addr(), pose).await;
    let url = format!("redis://{}", service.addr());
    (service, url)
}

async fn kind(server: &RedisServer) -> String {
    server.command(&["GETRANGE", ROW, "2", "2"]).await
}

async fn is_shared_again(cache: &Cache, expected: u32) {
    until("a hit of the shared tier", async || {
        cache.idle().await;
        let rows = cache.request().get_outcomes::<Row>([1]).await;
        assert_eq!(rows[&1].value().unwrap().unwrap().1, expected);
        rows[&1].tier() == Some(Tier::Shared)
    })
    .await;
}

/// A server whose dump has row 1; it was written since, by the process that is connected.
struct Dumped {
    server: RedisServer,
    _service: Imposter,
    url: String,
    table: Arc<Table>,
    cache: Cache,
    expected: u32,
}

impl Dumped {
    async fn start(pose: Pose) -> Option<Self> {
        let server = RedisServer::builder().persistent().start().await?;
        let table = Table::new();
        let (service, url) = url(&server, pose).await;
        let cache = process(&url, &table, |region| region).await;
        sees(&cache, 1).await;
        cache.idle().await;
        server.command(&["SAVE"]).await;
        server.config_set("save", "").await;
        let expected = writes(&cache, &table).await;
        Some(Self { server, _service: service, url, table, cache, expected })
    }

    /// It restarts from the dump.
    async fn comes_back(&self) {
        self.server.kill().await;
        self.server.restart().await;
        assert_eq!(kind(&self.server).await, VALUE, "the old value is back at the server");
    }
}

/// Writes row 1; gives its version.
async fn writes(cache: &Cache, table: &Table) -> u32 {
    let expected = table.commit(1);
    cache.request().invalidate::<Row>([1]).await.unwrap();
    expected
}

/// A service before a server with row 1 in it, and a copy of all that, which does not follow the server any longer.
struct Lagging {
    table: Arc<Table>,
    one: RedisServer,
    other: RedisServer,
    change: watch::Sender<SocketAddr>,
    service: Imposter,
}

impl Lagging {
    async fn start(pose: Pose) -> Option<Self> {
        let (one, other) = (RedisServer::start().await?, RedisServer::start().await?);
        let table = Table::new();
        let (_service, url) = url(&one, pose.clone()).await;
        let cache = process(&url, &table, |region| region).await;
        sees(&cache, 1).await;
        cache.close().await.unwrap();
        other.command(&["REPLICAOF", "127.0.0.1", &one.port().to_string()]).await;
        until("a copy", async || kind(&other).await == VALUE).await;
        other.command(&["REPLICAOF", "NO", "ONE"]).await;
        let (change, servers) = watch::channel(one.addr());
        let service = Imposter::hiding(servers, pose).await;
        Some(Self { table, one, other, change, service })
    }

    fn url(&self) -> String {
        format!("redis://{}?tell=false", self.service.addr())
    }

    /// A process that has read row 1, and written it; and the version.
    async fn writer(&self) -> (Cache, u32) {
        let cache = process(&self.url(), &self.table, |region| region).await;
        sees(&cache, 1).await;
        let expected = writes(&cache, &self.table).await;
        (cache, expected)
    }

    /// Whoever connects comes to the copy.
    fn fails_over(&self) {
        self.change.send(self.other.addr()).unwrap();
    }
}

/// A server that hides which store it is, and two processes.
async fn two() -> Option<(RedisServer, Imposter, String, [Redis; 2])> {
    let server = RedisServer::start().await?;
    let (service, url) = url(&server, hides()).await;
    let both = [connect(&url).await.unwrap(), connect(&url).await.unwrap()];
    Some((server, service, url, both))
}

#[tokio::test]
async fn what_an_old_dump_brings_back_is_not_served() {
    limit(async {
        for pose in [hides(), hides_and_forbids_scripts()] {
            let Some(stage) = Dumped::start(pose).await else { return };
            stage.comes_back().await;
            assert_eq!(sees(&stage.cache, 1).await, stage.expected);
            is_shared_again(&stage.cache, stage.expected).await;
        }
    })
    .await;
}

/// The witness: nobody who was connected has told.
#[tokio::test]
async fn a_process_that_comes_after_a_restart_from_an_old_dump_does_not_believe_it() {
    limit(async {
        let Some(stage) = Dumped::start(hides()).await else { return };
        stage.cache.close().await.unwrap();
        drop(stage.cache);
        stage.server.kill().await;
        stage.server.restart().await;
        let later = process(&stage.url, &stage.table, |region| region).await;
        assert_eq!(kind(&stage.server).await, VALUE);
        assert_eq!(sees(&later, 1).await, stage.expected);
        is_shared_again(&later, stage.expected).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_replica_that_lagged_brings_back_is_not_served_by_who_was_connected() {
    limit(async {
        for pose in [hides(), hides_and_forbids_scripts()] {
            let Some(stage) = Lagging::start(pose).await else { return };
            let (cache, expected) = stage.writer().await;
            // its connection ends, as it does at a failover without a proxy
            stage.fails_over();
            stage.one.stop().await;
            stage.service.cut();
            assert_eq!(kind(&stage.other).await, VALUE, "the old value stands there");
            assert_eq!(sees(&cache, 1).await, expected);
            is_shared_again(&cache, expected).await;
        }
    })
    .await;
}

/// The connection of the process stays, so only the witness tells, at the next look.
#[tokio::test]
async fn a_failover_that_a_proxy_hides_is_noticed_at_the_next_look() {
    limit(async {
        let Some(stage) = Lagging::start(hides()).await else { return };
        let (cache, expected) = stage.writer().await;
        stage.fails_over();
        assert_eq!(kind(&stage.other).await, VALUE, "the old value stands there");
        until("the new row", async || sees(&cache, 1).await == expected).await;
        is_shared_again(&cache, expected).await;
    })
    .await;
}

/// What stands in the docs as not noticed. Should it come to be, they have to say so.
#[tokio::test]
async fn without_scripts_a_failover_that_a_proxy_hides_is_not_noticed() {
    limit(async {
        let Some(stage) = Lagging::start(hides_and_forbids_scripts()).await else { return };
        let redis = connect(&stage.url()).await.unwrap();
        let known = redis.incarnation();
        stage.fails_over();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(redis.incarnation(), known);
    })
    .await;
}

#[tokio::test]
async fn all_processes_come_to_one_number_also_after_it_was_removed() {
    limit(async {
        let Some((server, _service, url, [one, other])) = two().await else { return };
        let first = one.incarnation();
        assert!(first != 0 && first == other.incarnation());
        for way in [&["DEL", RECORD][..], &["FLUSHALL"], &["SET", RECORD, "no number"], &["SCRIPT", "FLUSH"]]
        {
            let before = one.incarnation();
            server.command(way).await;
            until("another number", async || one.incarnation() != before).await;
            until("the same for both", async || one.incarnation() == other.incarnation()).await;
        }
        // memory is full: what stands there is read
        let before = one.incarnation();
        server.config_set("maxmemory", "1").await;
        let late = connect(&url).await.unwrap();
        assert_eq!((late.incarnation(), one.incarnation()), (before, before));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(one.incarnation(), before);
    })
    .await;
}

/// Two links of one process must not take turns at renewing it.
#[tokio::test]
async fn a_lost_connection_renews_the_number_once_whoever_else_is_connected() {
    limit(async {
        let Some((server, _service, _, [one, other])) = two().await else { return };
        // a link on another runtime
        let (same, (stop, stopped)) = (one.clone(), std::sync::mpsc::channel::<()>());
        let elsewhere = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                while stopped.try_recv() == Err(TryRecvError::Empty) {
                    let _ = same.read(&["key".into()]).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = one.incarnation();
        assert_eq!(other.incarnation(), before, "another link is no loss");
        // the newest connection of the server is that of the other runtime; all of the service's are ended
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        until("another number", async || one.incarnation() != before).await;
        // who reads finds out that the other link has found another number
        for _ in 0..500 {
            let _ = one.read(&["key".into()]).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let settled = one.incarnation();
        assert_eq!(other.incarnation(), settled);
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            assert_eq!((one.incarnation(), other.incarnation()), (settled, settled));
            let _ = one.read(&["key".into()]).await;
        }
        stop.send(()).unwrap();
        // not on this thread: the service answers there what the other one has asked for
        tokio::task::spawn_blocking(|| elsewhere.join().unwrap()).await.unwrap();
    })
    .await;
}
