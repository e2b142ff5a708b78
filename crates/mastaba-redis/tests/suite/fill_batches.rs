//! The fills of a call are one script on one server, or a `SET .. IFEQ` each where the server has that: what it costs, and
//! that each key still stands for itself.

use crate::rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mastaba::entry::{self, Fence, Header, Kind};
use mastaba::shared::{Fill, Filled, Lease, Leased, Listener, Over, Shared};
use mastaba_redis::Redis;
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};
use rows::{Table, connect, process};

const TTL: Duration = Duration::from_secs(60);
const STORED: Filled = Filled::Stored;
const REFUSED: Filled = Filled::Refused;

/// Takes leases on as many keys, and gives the fills under them, whose payloads have this size.
async fn leased(redis: &Redis, count: usize, payload: usize) -> Vec<Fill> {
    let incarnation = redis.incarnation();
    let asked = (0..count).map(|n| {
        let record = entry::lease(Fence::random(), incarnation).into();
        Lease { key: format!("m:{n}").into(), record, over: None, ttl: TTL }
    });
    let asked: Vec<_> = asked.collect();
    let leases = redis.lease(&asked, &[]).await.unwrap();
    assert!(leases.leased.iter().all(|it| *it == Leased::Granted));
    let fills = asked.iter().enumerate().map(|(n, ask)| {
        let header = Header::new(Kind::Value, Fence::random(), incarnation);
        let mut value = n.to_le_bytes().to_vec();
        value.resize(payload.max(8), 7);
        Fill {
            key: ask.key.clone(),
            expected: entry::peek(&ask.record).unwrap().fence,
            over: Over::Lease,
            record: entry::write(&header, &[], &[], &value).into(),
            ttl: TTL,
        }
    });
    fills.collect()
}

/// What the server counts while the fills are stored, of some commands: how often each was called.
async fn counted<const N: usize>(
    server: &RedisServer,
    redis: &Redis,
    fills: &[Fill],
    commands: [&str; N],
) -> (Vec<Filled>, [u64; N]) {
    server.reset_stats().await;
    let filled = redis.fill(fills).await.unwrap();
    let stats = server.commandstats().await;
    (filled, commands.map(|command| stats.get(command).copied().unwrap_or(0)))
}

/// How often `evalsha`, `eval` and `set` are called for the fills of so many leases: as many calls of a script, in which each
/// is stored, or nothing but what is stored.
async fn calls(server: &RedisServer, scripts: u64, fills: u64) -> [u64; 3] {
    [if server.traits().await.compares { 0 } else { scripts }, 0, fills]
}

async fn assert_stored(redis: &Redis, fills: &[Fill]) {
    let keys: Vec<Bytes> = fills.iter().map(|fill| fill.key.clone()).collect();
    let records: Vec<_> = fills.iter().map(|fill| Some(fill.record.clone())).collect();
    assert!(redis.read(&keys).await.unwrap() == records, "each key has its own record");
}

/// The server knows the scripts from now on: the one for several keys, and the one for a key.
async fn learn(redis: &Redis) {
    let fills = leased(redis, 3, 8).await;
    let (several, one) = fills.split_at(2);
    assert_eq!(redis.fill(several).await.unwrap(), [STORED; 2]);
    assert_eq!(redis.fill(one).await.unwrap(), [STORED]);
    let keys: Vec<Bytes> = fills.iter().map(|fill| fill.key.clone()).collect();
    redis.invalidate(&keys, &[]).await.unwrap();
}

#[tokio::test]
async fn a_hundred_fills_are_one_call_of_one_script_or_a_plain_set_each() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    learn(&redis).await;
    let fills = leased(&redis, 100, 150).await;
    let compares = server.traits().await.compares;
    let (filled, calls) = counted(&server, &redis, &fills, ["evalsha", "eval", "getrange", "set"]).await;
    assert_eq!(filled, [STORED; 100]);
    assert_eq!(calls, if compares { [0, 0, 0, 100] } else { [1, 0, 100, 100] });
    assert_stored(&redis, &fills).await;
    for n in [0, 99] {
        let ttl: u64 = server.command(&["PTTL", &format!("m:{n}")]).await.parse().unwrap();
        assert!((50_000..=60_000).contains(&ttl), "{ttl}");
    }
}

#[tokio::test]
async fn at_the_master_of_sentinels_they_are_one_too() {
    let Some(sentinels) = Sentinels::start().await else { return };
    let redis = connect(&sentinels.url()).await;
    learn(&redis).await;
    let fills = leased(&redis, 20, 150).await;
    let expected = calls(sentinels.master(), 1, 20).await;
    let (filled, calls) = counted(sentinels.master(), &redis, &fills, ["evalsha", "eval", "set"]).await;
    assert_eq!((filled, calls), (vec![STORED; 20], expected));
    assert_stored(&redis, &fills).await;
}

#[tokio::test]
async fn in_a_cluster_each_key_has_a_call_of_its_own() {
    let Some(cluster) = Cluster::start().await else { return };
    let redis = connect(&cluster.url()).await;
    let fills = leased(&redis, 30, 150).await;
    cluster.node(0).command(&["SCRIPT", "FLUSH"]).await;
    for node in 0..3 {
        cluster.node(node).reset_stats().await;
    }
    assert_eq!(redis.fill(&fills).await.unwrap(), [STORED; 30]);
    let (mut calls, mut again, mut stored) = (0, 0, 0);
    for node in 0..3 {
        let stats = cluster.node(node).commandstats().await;
        let count = |command: &str| stats.get(command).copied().unwrap_or(0);
        assert!(count("set") > 0, "node {node} was given nothing");
        (calls, again, stored) = (calls + count("evalsha"), again + count("eval"), stored + count("set"));
    }
    let [scripts, _, _] = self::calls(cluster.node(0), 30, 30).await;
    assert_eq!((calls, stored), (scripts, 30), "{again} of them had to be sent again with the script");
    assert_eq!(again == 0, scripts == 0, "the servers were made to forget it");
    assert_stored(&redis, &fills).await;
}

#[tokio::test]
async fn a_key_that_cannot_be_filled_is_refused_alone() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    learn(&redis).await;
    let fills = leased(&redis, 9, 150).await;
    // another type, nothing, another lease, a hold, something foreign, another incarnation
    server.command(&["DEL", "m:1"]).await;
    server.command(&["RPUSH", "m:1", "foreign"]).await;
    redis.invalidate(&["m:2".into()], &[]).await.unwrap();
    let other = entry::lease(Fence::random(), redis.incarnation());
    server.command(&[b"SET".as_slice(), b"m:3", &other]).await;
    let holder = mastaba::shared::Hold { key: "m:4".into(), holder: 7, ttl: TTL, keep: false };
    redis.hold(&[holder]).await.unwrap();
    server.command(&["SET", "m:6", "foreign"]).await;
    let older = entry::lease(fills[7].expected, redis.incarnation() ^ 1);
    server.command(&[b"SET".as_slice(), b"m:7", &older]).await;
    // the script stores what it may, and else the server is asked to store each
    let calls = if server.traits().await.compares { [0, 9] } else { [1, 3] };
    let (filled, counted) = counted(&server, &redis, &fills, ["evalsha", "set"]).await;
    let expected = [STORED, REFUSED, REFUSED, REFUSED, REFUSED, STORED, REFUSED, REFUSED, STORED];
    assert_eq!((filled, counted), (expected.to_vec(), calls));
    for at in [0, 5, 8] {
        assert_stored(&redis, &fills[at..=at]).await;
    }
    assert_eq!(server.command(&["LRANGE", "m:1", "0", "-1"]).await, "foreign");
    assert_eq!(server.command(&["EXISTS", "m:2"]).await, "0");
    assert_eq!(
        redis.read(&["m:3".into(), "m:7".into()]).await.unwrap(),
        [Some(Bytes::from(other)), Some(Bytes::from(older))]
    );
    assert_eq!(server.command(&["GET", "m:6"]).await, "foreign");
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_script_is_given_it_once_for_all_keys() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    let expected = if server.traits().await.compares { [0, 0, 50] } else { [1, 1, 50] };
    for round in 0..2 {
        let fills = leased(&redis, 50, 150).await;
        assert_eq!(server.command(&["SCRIPT", "FLUSH"]).await, "OK");
        let (filled, calls) = counted(&server, &redis, &fills, ["evalsha", "eval", "set"]).await;
        assert_eq!((filled, calls), (vec![STORED; 50], expected), "round {round}");
        assert_stored(&redis, &fills).await;
        let keys: Vec<Bytes> = fills.iter().map(|fill| fill.key.clone()).collect();
        redis.invalidate(&keys, &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_would_hold_up_others_for_long_is_cut_into_pieces() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    learn(&redis).await;
    // by count; by bytes; and what is too large for any piece is one
    for (count, payload, pieces) in [(300, 100, 3), (7, 50 << 10, 4), (3, 150 << 10, 3), (4096, 8, 32)] {
        let fills = leased(&redis, count, payload).await;
        let expected = calls(&server, pieces, count as u64).await;
        let (filled, calls) = counted(&server, &redis, &fills, ["evalsha", "eval", "set"]).await;
        assert!(filled.iter().all(|it| *it == STORED), "{count} of {payload} bytes");
        assert_eq!(calls, expected, "{count} of {payload} bytes");
        assert_stored(&redis, &fills).await;
        server.command(&["FLUSHALL"]).await;
    }
}

#[tokio::test]
async fn where_memory_runs_out_a_script_is_stored_in_full_or_not_at_all_and_what_is_stored_is_whole() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = connect(&server.url()).await;
    learn(&redis).await;
    // each key is then asked for alone, and the server may refuse some
    let alone = server.traits().await.compares;
    let (mut stored, mut refused) = (0, 0);
    for room in (0..=600 << 10).step_by(60 << 10) {
        server.config_set("maxmemory", "0").await;
        server.command(&["FLUSHALL"]).await;
        let fills = leased(&redis, 50, 2 << 10).await;
        let used: u64 = server.info("memory").await["used_memory"].parse().unwrap();
        server.config_set("maxmemory", &(used + room).to_string()).await;
        let answer = redis.fill(&fills).await;
        let keys: Vec<Bytes> = fills.iter().map(|fill| fill.key.clone()).collect();
        let found = redis.read(&keys).await.unwrap();
        let values = found.iter().zip(&fills).filter(|(found, fill)| found.as_ref() == Some(&fill.record));
        let values = values.count();
        let leases = found.iter().zip(&fills).filter(|(found, fill)| {
            let found = found.as_ref().and_then(|record| entry::peek(record).ok());
            found.is_some_and(|it| it.kind == Kind::Lease && it.fence == fill.expected)
        });
        assert_eq!(values + leases.count(), 50, "what is not stored is left as it was");
        let partly = alone && values < 50;
        match (answer, values) {
            (Ok(filled), 50) => stored += u32::from(filled == [STORED; 50]),
            (Err(fault), some) if some == 0 || partly => {
                refused += u32::from(fault.to_string().contains("OOM"));
            }
            (answer, values) => {
                panic!("{room} bytes of room: {values} are stored, and the answer is {answer:?}")
            }
        }
    }
    assert!(stored > 0 && refused > 0 && stored + refused == 11, "{stored} stored, {refused} refused");
}

/// Counts what it is told.
#[derive(Default)]
struct Told(AtomicUsize);

impl Listener for Told {
    fn changed(&self, _: &[u8]) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    fn gap(&self) {}
}

#[tokio::test]
async fn others_are_told_of_each_key_that_was_stored() {
    let Some(server) = RedisServer::start().await else { return };
    let (redis, other) = (connect(&server.url()).await, connect(&server.url()).await);
    let told = Arc::new(Told::default());
    other.listen(b"m:", told.clone());
    other.catch_up().await.unwrap();
    let fills = leased(&redis, 100, 150).await;
    redis.invalidate(&[fills[7].key.clone()], &[]).await.unwrap();
    other.catch_up().await.unwrap();
    let before = told.0.load(Ordering::Acquire);
    assert_eq!(redis.fill(&fills).await.unwrap().iter().filter(|it| **it == STORED).count(), 99);
    other.catch_up().await.unwrap();
    assert_eq!(told.0.load(Ordering::Acquire) - before, 99);
}

#[tokio::test]
async fn the_misses_of_a_request_are_stored_by_one_script_or_a_plain_set_each() {
    let Some(server) = RedisServer::start().await else { return };
    let table = Table::new();
    let cache = process(&server.url(), &table, |region| region.fill_without_lease(false)).await;
    cache.request().prefetch::<rows::Row>(0..2).await.unwrap();
    cache.idle().await;
    server.reset_stats().await;
    cache.request().prefetch::<rows::Row>(2..52).await.unwrap();
    cache.idle().await;
    let (stats, traits) = (server.commandstats().await, server.traits().await);
    let scripts = (!traits.compares).then_some(&1);
    assert_eq!((stats.get("evalsha"), stats.get("eval")), (scripts, None), "{traits:?}: {stats:?}");
    assert_eq!(stats.get("set"), Some(&102), "as many leases, as many fills, and two stamps: {stats:?}");
}
