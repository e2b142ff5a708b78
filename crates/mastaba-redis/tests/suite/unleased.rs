//! Fills without a lease, and what goes wrong with a server meanwhile (`R15` to `R19`). The rows are those of the model.

use crate::common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Process, limited, record, until};
use mastaba::{Coherence, NearConfig, Region, RequestCache, Tier};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};
use mastaba_test::world::{Control, Db, Gate, UserById, Watched};
use tokio::task::JoinHandle;

const STAMPS: &str = "mastaba:objects@writes";

/// A process whose loads are cheap: its trips take twenty milliseconds longer.
async fn cheap(url: &str, db: &Arc<Db>, configure: impl FnOnce(Region) -> Region) -> (Process, Arc<Control>) {
    let redis = Redis::connect(RedisConfig::from_url(url).unwrap()).await.unwrap();
    let watched = Watched::<_, true>::new(redis, Arc::new(Mutex::default()));
    let control = watched.control();
    control.slow(Duration::from_millis(20));
    let region = Region::backend(watched).jitter(0.0).early_refresh(0.0).fill_without_lease(true);
    let region = region.source_budget(Duration::from_secs(60)); // some loads wait for a failover
    let region = configure(region.shared_budget(Duration::from_secs(5)));
    let process = Process::with(url, db, |_| region).await;
    for _ in 0..2 {
        process.sees(900).await; // the first load takes a lease
        process.cache.idle().await;
    }
    (process, control)
}

fn unleased(request: &RequestCache) -> u64 {
    request.report().outcomes.iter().map(|outcomes| outcomes.unleased).sum()
}

/// A get whose load has read its row, without a lease where there can be none, and goes on at the gate.
struct Slow {
    request: RequestCache,
    get: JoinHandle<u32>,
    gate: Gate,
}

impl Slow {
    async fn begin(process: &Process, db: &Arc<Db>, key: u64) -> Self {
        let gate = db.close_gate();
        let request = process.request();
        let asks = request.clone();
        let get = tokio::spawn(async move { asks.get::<UserById>(key).await.unwrap().unwrap().version });
        gate.arrived(1).await;
        gate.only_those_here();
        Self { request, get, gate }
    }

    async fn ends(self, process: &Process) -> u32 {
        self.gate.open_for_good();
        let version = self.get.await.unwrap();
        process.cache.idle().await;
        assert_eq!(unleased(&self.request), 1, "{}", self.request.report());
        version
    }
}

async fn stands(server: &RedisServer, key: u64) -> bool {
    server.command(&["EXISTS", &record(key)]).await == "1"
}

/// The stamps cannot be renewed, for memory is full: their record goes, which voids the same, and the invalidation is
/// acknowledged.
#[tokio::test]
async fn a_renewal_that_finds_no_memory_removes_the_stamps_and_the_value_all_the_same() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let db = Arc::new(Db::default());
        let (reader, _) = cheap(&server.url(), &db, |region| region).await;
        let writer = Process::start(&server.url(), &db).await;
        writer.warm(2).await;
        let slow = Slow::begin(&reader, &db, 1).await;
        server.config_set("maxmemory", "1").await;
        assert_eq!(writer.write(1).await.unwrap(), 1, "acknowledged");
        writer.invalidate(2).await.unwrap();
        assert!(!stands(&server, 2).await, "removed");
        assert_eq!(server.command(&["EXISTS", STAMPS]).await, "0");
        server.config_set("maxmemory", "0").await;
        assert_eq!(slow.ends(&reader).await, 0, "it began before");
        assert!(!stands(&server, 1).await, "the old row was stored");
        for process in [&reader, &writer] {
            assert_eq!(process.sees(1).await, 1);
        }
        reader.sees(3).await;
        reader.cache.idle().await;
        assert_eq!(server.command(&["STRLEN", STAMPS]).await, "128", "made anew");
    })
    .await;
}

/// What the server was asked by scripts that renew, one line of words each.
async fn renewals(server: &RedisServer) -> Vec<Vec<String>> {
    let log = server.command(&["SLOWLOG", "GET", "1000"]).await;
    let lines: Vec<_> = log.lines().map(str::to_owned).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line == "EVALSHA" || line == "EVAL" {
            // name, script, number of keys, keys, words
            let words: Vec<_> = lines[at..].iter().take(8).cloned().collect();
            if words.get(2).is_some_and(|keys| keys == "2") && words.get(4).is_some_and(|key| key == STAMPS) {
                found.push(words);
            }
        }
    }
    found.reverse(); // the latest is told first
    found
}

/// The answer to a renewal is lost: what is sent again has another number (row V6d), and a fill from before is refused.
#[tokio::test]
async fn what_is_sent_again_renews_with_another_number() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let db = Arc::new(Db::default());
        let proxy = Proxy::to(server.addr()).await;
        let (reader, _) = cheap(&server.url(), &db, |region| region).await;
        let writer = Process::start(&proxy.url(), &db).await;
        writer.invalidate(5).await.unwrap(); // the server knows the script
        let slow = Slow::begin(&reader, &db, 1).await;
        server.config_set("slowlog-log-slower-than", "0").await;
        proxy.reset_after(STAMPS);
        assert_eq!(writer.write(1).await.unwrap(), 1, "acknowledged");
        let sent = renewals(&server).await;
        assert_eq!(sent.len(), 2, "carried out, and once more: {sent:?}");
        assert_eq!((&sent[0][3], &sent[1][3]), (&record(1), &record(1)));
        assert_ne!(sent[0][6], sent[1][6], "one number twice");
        assert_eq!(slow.ends(&reader).await, 0, "it began before");
        assert!(!stands(&server, 1).await, "the old row was stored");
        assert_eq!(reader.sees(1).await, 1);
    })
    .await;
}

/// On the wire each key is a pair, in its order: one script that renews its stamp and removes it (R16, R18). After NOSCRIPT
/// they come in no order, and so once more, all with new numbers (rows M4, M5).
#[tokio::test]
async fn each_key_is_renewed_and_removed_in_one_step_and_all_again_after_noscript() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let db = Arc::new(Db::default());
        let (_reader, _) = cheap(&server.url(), &db, |region| region).await;
        let writer = Process::start(&server.url(), &db).await;
        writer.invalidate(5).await.unwrap();
        server.config_set("slowlog-log-slower-than", "0").await;
        for forgotten in [false, true] {
            server.command(&["SLOWLOG", "RESET"]).await;
            if forgotten {
                server.command(&["SCRIPT", "FLUSH"]).await;
            }
            let published = writer.request().invalidate::<UserById>([1, 2, 3]).await.unwrap();
            assert!(published.is_confirmed());
            let sent = renewals(&server).await;
            let keys: Vec<_> = sent.iter().map(|words| words[3].clone()).collect();
            let once = [record(1), record(2), record(3)];
            if forgotten {
                // those that were refused are not in the log
                assert_eq!(keys, [&once[..], &once].concat(), "by its text, and once more");
            } else {
                assert_eq!(keys, once);
            }
            let numbers: BTreeSet<_> = sent.iter().map(|words| words[6].clone()).collect();
            assert_eq!(numbers.len(), sent.len(), "each has a number of its own");
        }
    })
    .await;
}

/// What may become of the record of stamps between a read and its fill (R15; rows V5, V5m).
#[tokio::test]
async fn a_fill_whose_stamps_are_gone_short_zero_or_of_another_type_is_refused() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let db = Arc::new(Db::default());
        let zero = "\0".repeat(128);
        let other = Process::start(&server.url(), &db).await;
        let what: [&[&[&str]]; 6] = [
            &[&["DEL", STAMPS]],
            &[&["SET", STAMPS, "short"]],
            &[&["APPEND", STAMPS, "x"]],
            &[&["SET", STAMPS, &zero]],
            &[&["DEL", STAMPS], &["LPUSH", STAMPS, "x"]],
            &[&["FLUSHALL"]],
        ];
        for (key, commands) in (1..).zip(what) {
            // a new one: of a process that wastes its fills the loads take leases
            let (reader, _) = cheap(&server.url(), &db, |region| region).await;
            reader.sees(100 + key).await; // the stamps are there again
            reader.cache.idle().await;
            let slow = Slow::begin(&reader, &db, key).await;
            for command in commands {
                server.command(command).await;
            }
            assert_eq!(slow.ends(&reader).await, 0);
            assert!(!stands(&server, key).await, "stored after {commands:?}");
            // an invalidation meets it as well
            assert_eq!(other.write(key).await.unwrap(), 1);
            assert_eq!(reader.sees(key).await, 1);
            reader.cache.idle().await;
        }
    })
    .await;
}

/// What stands in the way of a fill refuses that key alone (R15).
#[tokio::test]
async fn a_fill_that_meets_a_value_a_lease_a_hold_or_another_type_is_refused_alone() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let db = Arc::new(Db::default());
        let (reader, control) = cheap(&server.url(), &db, |region| region).await;
        let writer =
            Process::with(&server.url(), &db, |region| region.write_mode(mastaba::WriteMode::Strict)).await;
        let fill = control.before("fill");
        let request = reader.request();
        assert_eq!(request.get_many::<UserById>(1..=5).await.unwrap().found().count(), 5);
        assert_eq!(unleased(&request), 5);
        fill.arrived(1).await;
        fill.only_those_here();
        // none of these renews a stamp but the hold, which has one of its own or refuses others as well
        server.command(&["LPUSH", &record(1), "x"]).await;
        let gate = db.close_gate();
        let leased = {
            let request = writer.request();
            tokio::spawn(async move { request.get::<UserById>(2).await.unwrap().unwrap().version })
        };
        gate.arrived(1).await;
        gate.only_those_here();
        let other = Process::start(&server.url(), &db).await;
        other.warm(3).await;
        let write = writer.request().write();
        write.invalidate::<UserById>([4]).await.unwrap();
        write.hold().await.unwrap();
        let five = server.command(&["EXISTS", &record(5)]).await;
        assert_eq!(five, "0");
        fill.open_for_good();
        reader.cache.idle().await;
        assert_eq!(server.command(&["TYPE", &record(1)]).await, "list");
        assert_eq!(server.command(&["GETRANGE", &record(2), "2", "2"]).await, "`", "a lease");
        assert_eq!(server.command(&["GETRANGE", &record(4), "2", "2"]).await, "p", "a hold");
        assert_eq!(server.command(&["GETRANGE", &record(3), "2", "2"]).await, "@", "a value");
        let shared = mastaba::shared::stamps::place(record(4).as_bytes())
            == mastaba::shared::stamps::place(record(5).as_bytes());
        assert_eq!(stands(&server, 5).await, !shared, "nothing was in its way");
        gate.open_for_good();
        leased.await.unwrap();
    })
    .await;
}

/// A failover between read and fill brings the old stamp back: what was read of the old master is not stored in the new one
/// (R19; row V8n).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_brings_the_old_stamp_back_stores_nothing_of_before() {
    limited(async {
        let Some(sentinels) = Sentinels::start().await else { return };
        let db = Arc::new(Db::default());
        let (reader, _) = cheap(&sentinels.url(), &db, |region| region).await;
        let writer = Process::start(&sentinels.url(), &db).await;
        until("a replica that has the stamps", async || {
            let mut connection =
                mastaba_test::servers::resp::Connection::open(sentinels.replica().addr()).await.unwrap();
            let _ = connection.call(&["READONLY"]).await;
            connection.call(&["EXISTS", STAMPS]).await.unwrap().to_string() == "1"
        })
        .await;
        sentinels.stop_replication().await;
        let slow = Slow::begin(&reader, &db, 1).await;
        assert_eq!(writer.write(1).await.unwrap(), 1, "acknowledged, and lost with the master");
        sentinels.master().kill().await;
        sentinels.wait_for_failover().await;
        until("a process that knows of it", async || {
            // stored by the reader itself: for a while after a failover it stores nothing
            reader.sees(5).await;
            writer.sees(3).await == 0 && sentinels.replica().command(&["EXISTS", &record(5)]).await == "1"
        })
        .await;
        assert_eq!(slow.ends(&reader).await, 0, "it began before");
        for process in [&reader, &writer, &reader] {
            assert_eq!(process.sees(1).await, 1);
            process.cache.idle().await;
        }
    })
    .await;
}

/// A demoted master of the node of the stamps, which still answers, could poison keys of another node (row X2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_never_fills_without_a_lease() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let db = Arc::new(Db::default());
        let (reader, _) = cheap(&cluster.url(), &db, |region| region).await;
        for key in 1..=10 {
            let request = reader.request();
            request.get::<UserById>(key).await.unwrap();
            reader.cache.idle().await;
            assert_eq!(unleased(&request), 0, "{}", request.report());
        }
        for master in 0..3 {
            let keys = cluster.node(master).command(&["KEYS", "*@writes*"]).await;
            assert!(!keys.contains("@writes"), "{keys}");
        }
    })
    .await;
}

/// A person removes a key, and a fill of ours comes in the same turn of the server: near hears of it all the same, for the
/// script that fills is somebody else to the server (R13).
#[tokio::test]
async fn a_fill_right_after_a_removal_by_somebody_else_does_not_hide_it_from_near() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let db = Arc::new(Db::default());
        let near = NearConfig::entries(1000).coherence(Coherence::Bounded(Duration::from_secs(3600)));
        let other = Process::start(&server.url(), &db).await;
        let mut came = 0;
        for key in 1..=12 {
            // a new one: of a process that wastes its fills the loads take leases
            let (far, control) = cheap(&server.url(), &db, |region| region.near(near)).await;
            far.sees(100 + key).await; // its first load
            far.cache.idle().await;
            let fill = control.before("fill");
            let request = far.request();
            request.get::<UserById>(key).await.unwrap();
            assert_eq!(unleased(&request), 1);
            fill.arrived(1).await;
            fill.only_those_here();
            other.warm(key).await;
            until("a hit of near", async || far.finds(key).await == (0, Tier::Near)).await;
            // before it stands still: a connection that is new then has its turn after all others
            let mut person = mastaba_test::servers::resp::Connection::open(server.addr()).await.unwrap();
            person.call(&["PING"]).await.unwrap();
            server.pause().await;
            let name = record(key);
            let removal =
                tokio::spawn(async move { person.call(&["UNLINK", &name]).await.unwrap().to_string() });
            tokio::time::sleep(Duration::from_millis(30)).await;
            fill.open_for_good();
            tokio::time::sleep(Duration::from_millis(30)).await;
            server.resume().await;
            assert_eq!(removal.await.unwrap(), "1");
            far.cache.idle().await;
            if !stands(&server, key).await {
                continue; // the fill was carried out first, and refused
            }
            came += 1;
            until("near being told", async || far.finds(key).await.1 == Tier::Shared).await;
            if came == 3 {
                return;
            }
        }
        panic!("a fill came right after a removal {came} times only");
    })
    .await;
}
