//! What stands under the keys is not what was put there: damaged, of another type, or too large to be put there; and a
//! server that answers with something else.

use crate::common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Process, Stage, faults, limited, record};
use mastaba::entry::{self, Fence, Header, Kind};
use mastaba::shared::{Lease, Leased, Shared, Stamp};
use mastaba::{Cache, LoadContext, Region, Rows, Source, Tier};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::servers::RedisServer;
use mastaba_test::servers::resp::Reply;
use mastaba_test::world::{Db, DbError};

async fn stored(stage: &Stage, key: &str) -> Vec<u8> {
    match stage.server.call(&["GET", key]).await.unwrap() {
        Reply::Bytes(bytes) => bytes,
        other => panic!("{key}: {other:?}"),
    }
}

async fn plant(stage: &Stage, key: &str, bytes: &[u8]) {
    let set = [b"SET".as_slice(), key.as_bytes(), bytes];
    assert_eq!(stage.server.command(&set).await, "OK");
}

/// The keys of stamps: records of eight bytes.
async fn stamps(stage: &Stage) -> Vec<String> {
    let keys = stage.server.command(&["KEYS", "mastaba:objects:*"]).await;
    let mut stamps = Vec::new();
    for key in keys.lines() {
        if stage.server.command(&["STRLEN", key]).await == "8" {
            stamps.push(key.to_owned());
        }
    }
    assert!(!stamps.is_empty(), "{keys}");
    stamps
}

#[tokio::test]
async fn flipped_bits_are_a_miss_that_is_told_and_replaced() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        stage.far.warm(1).await;
        let whole = stored(&stage, &record(1)).await;
        // so that what is damaged would be wrong if it were served
        stage.db.update(1);
        plant(&stage, &record(1), &whole).await;
        assert_eq!(stage.far.finds(1).await, (0, Tier::Shared), "whole it is served");
        let mut said = Vec::new();
        for bit in (0..whole.len() * 8).step_by(37) {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            plant(&stage, &record(1), &damaged).await;
            let (seen, statements) = stage.statements(stage.far.finds(1)).await;
            assert_eq!((seen, statements), ((1, Tier::Source), 1), "bit {bit}");
            stage.far.cache.idle().await;
            said.extend(stage.far.events());
            let (seen, statements) = stage.statements(stage.other.finds(1)).await;
            assert_eq!((seen, statements), ((1, Tier::Shared), 0), "bit {bit} was not replaced");
        }
        // once a minute for each thing that may be wrong, and not for each record
        let misses = said.iter().filter(|event| event.contains("counts as a miss")).count();
        assert!((1..=6).contains(&misses), "{said:?}");
        for length in [0, 1, 7, 8, 20, 21, 47, 48, whole.len() - 1] {
            plant(&stage, &record(1), &whole[..length]).await;
            assert_eq!(stage.far.finds(1).await, (1, Tier::Source), "cut to {length}");
            stage.far.cache.idle().await;
            assert_eq!(stage.other.finds(1).await, (1, Tier::Shared), "cut to {length}");
        }
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_damaged_record_is_voided_like_any_other() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        stage.far.warm(1).await;
        let whole = stored(&stage, &record(1)).await;
        for damage in [&whole[..10], b"Mtp".as_slice(), b"Mt\x01\x04", b"hello", b""] {
            plant(&stage, &record(1), damage).await;
            stage.other.write(1).await.unwrap();
            stage.both_see(1).await;
            plant(&stage, &record(1), damage).await;
            stage.both_see(1).await;
            stage.recovers(1).await;
        }
    })
    .await;
}

/// A record as versions before the second layout write it: 88 bytes before the payload.
fn of_the_first_layout(kind: u8, fence: u64, incarnation: u64) -> Vec<u8> {
    let mut record = vec![0; 88];
    record[..4].copy_from_slice(&[b'M', b't', 1, kind]);
    record[8..16].copy_from_slice(&fence.to_le_bytes());
    record[24..32].copy_from_slice(&incarnation.to_le_bytes());
    record.extend_from_slice(b"payload");
    record
}

#[tokio::test]
async fn records_of_the_first_layout_are_misses_that_give_way_and_are_voided() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        stage.far.warm(2).await;
        for kind in 1..=4 {
            let version = stage.db.version(1);
            plant(&stage, &record(1), &of_the_first_layout(kind, 7, 9)).await;
            assert_eq!(stage.far.finds(1).await, (version, Tier::Source), "kind {kind}");
            stage.far.cache.idle().await;
            assert_eq!(stage.other.finds(1).await, (version, Tier::Shared), "kind {kind} was not replaced");
            plant(&stage, &record(1), &of_the_first_layout(kind, 7, 9)).await;
            stage.other.write(1).await.unwrap();
            assert_eq!(
                stage.server.command(&["EXISTS", &record(1)]).await,
                "0",
                "kind {kind} was not voided"
            );
            stage.both_see(1).await;
        }
        stage.recovers(1).await;
    })
    .await;
}

/// The scripts of versions before the second layout, over records of this one. Whatever fence such a version may ask for:
/// what it does not know it neither fills over nor takes for leased.
#[tokio::test]
async fn a_process_of_the_first_layout_fills_over_nothing_of_this_one() {
    const FILL: &str = "local r = redis.call('GETRANGE', KEYS[1], 0, 87)
if #r < 88 or string.sub(r, 1, 3) ~= 'Mt\\1' then return 0 end
local kind = string.byte(r, 4)
if kind < 1 or kind > 3 then return 0 end
if string.sub(r, 9, 16) ~= ARGV[1] or string.sub(r, 25, 32) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1";
    const LEASE_OVER: &str = "local r = redis.call('GET', KEYS[1])
if r then
  local kind = #r >= 88 and string.sub(r, 1, 3) == 'Mt\\1' and string.byte(r, 4) or 0
  if kind < 1 or kind > 3 or string.sub(r, 9, 16) ~= ARGV[1] then return r end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false";
    let Some(server) = RedisServer::start().await else { return };
    for kind in [Kind::Value, Kind::Absent, Kind::Lease, Kind::Hold] {
        let payload: &[u8] = if kind == Kind::Lease { b"" } else { &[7; 200] };
        let record = entry::write(&Header::new(kind, Fence(7), 9), &[], &[], payload);
        server.call(&[b"SET".as_slice(), b"m:1", &record]).await.unwrap();
        for fence in [&7u64.to_le_bytes()[..], record.get(8..16).unwrap()] {
            let incarnation = record.get(24..32).unwrap_or(b"");
            let fill =
                [b"EVAL".as_slice(), FILL.as_bytes(), b"1", b"m:1", fence, incarnation, b"old", b"9000"];
            assert!(matches!(server.call(&fill).await.unwrap(), Reply::Number(0)), "{kind:?}");
            let over = [b"EVAL".as_slice(), LEASE_OVER.as_bytes(), b"1", b"m:1", fence, b"old", b"9000"];
            assert!(
                matches!(server.call(&over).await.unwrap(), Reply::Bytes(found) if found == record),
                "{kind:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_list_under_the_key_of_an_entry_is_a_miss_and_gives_way() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        stage.far.warm(2).await;
        let key = record(1);
        stage.server.command(&["LPUSH", &key, "foreign"]).await;
        let (seen, statements) = stage.statements(stage.far.finds(1)).await;
        assert_eq!((seen, statements), ((0, Tier::Source), 1));
        stage.far.cache.idle().await;
        // Only a lease takes its place. If that load was cheap and took none, its fill was refused, and the next one does.
        assert_eq!(stage.far.sees(1).await, 0);
        stage.far.cache.idle().await;
        assert_eq!(stage.other.finds(1).await, (0, Tier::Shared));
        // and one that comes while it is loaded
        stage.other.write(1).await.unwrap();
        let gate = stage.db.close_gate();
        let request = stage.far.request();
        let (loaded, ()) = tokio::join!(request.get::<mastaba_test::world::UserById>(1), async {
            gate.arrived(1).await;
            stage.server.command(&["DEL", &key]).await;
            stage.server.command(&["LPUSH", &key, "foreign"]).await;
            gate.open_for_good();
        });
        assert_eq!(loaded.unwrap().unwrap().version, 1);
        stage.far.cache.idle().await;
        assert_eq!(
            stage.server.command(&["TYPE", &key]).await,
            "list",
            "a fill replaces nothing but its lease"
        );
        stage.other.write(1).await.unwrap();
        stage.both_see(1).await;
        stage.recovers(1).await;
        for process in stage.both() {
            assert_eq!(faults(&process.events()).len(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn anything_else_under_the_keys_of_stamps_voids_what_was_stored_and_gives_way() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        for foreign in
            [["RPUSH", "foreign"], ["APPEND", "seven"], ["SADD", "foreign"], ["APPEND", "nine bytes"]]
        {
            stage.far.warm(1).await;
            stage.other.warm(1).await;
            for stamp in stamps(&stage).await {
                stage.server.command(&["DEL", &stamp]).await;
                stage.server.command(&[foreign[0], &stamp, foreign[1]]).await;
            }
            let (seen, statements) = stage.statements(stage.far.finds(1)).await;
            assert_eq!((seen, statements), ((0, Tier::Source), 1), "without a stamp nothing is valid");
            stage.far.cache.idle().await;
            for process in stage.both() {
                process.warm(1).await;
            }
        }
        // the generation can be renewed over them as well
        for stamp in stamps(&stage).await {
            stage.server.command(&["DEL", &stamp]).await;
            stage.server.command(&["RPUSH", &stamp, "foreign"]).await;
        }
        stage.db.update(1);
        stage.other.cache.region("objects").clear().await.unwrap();
        stage.both_see(1).await;
        stage.recovers(1).await;
    })
    .await;
}

#[tokio::test]
async fn under_a_prefix_too_what_is_of_another_type_gives_way() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let url = format!("{}?prefix=shop:", server.url());
        let redis = Redis::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
        for key in ["shop:m:1", "shop:m:#list"] {
            server.command(&["RPUSH", key, "foreign"]).await;
        }
        server.command(&["SET", "shop:m:#text", "no number"]).await;
        let record = entry::lease(Fence::random(), redis.incarnation()).into();
        let lease = Lease { key: "m:1".into(), record, over: None, ttl: Duration::from_secs(10) };
        assert_eq!(redis.lease(&[lease], &[]).await.unwrap().leased, [Leased::Granted]);
        for key in ["m:#list", "m:#text"] {
            let stamp = Stamp { key: key.into(), value: 7, ttl: None };
            assert_eq!(redis.lease(&[], &[stamp]).await.unwrap().stamps, [7], "{key}");
        }
        let mut keys: Vec<_> = server.command(&["KEYS", "*"]).await.lines().map(str::to_owned).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["shop:m:#list", "shop:m:#text", "shop:m:1"], "and nothing else was touched");
    })
    .await;
}

/// A server on which a command is another one.
async fn with(rename: &[&str], work: impl AsyncFn(RedisServer, Process, Arc<Db>)) {
    let shape = rename.iter().fold(RedisServer::builder(), |shape, line| shape.set("rename-command", line));
    let Some(server) = shape.start().await else { return };
    let db = Arc::new(Db::default());
    let process = Process::start(&server.url(), &db).await;
    work(server, process, db).await;
}

#[tokio::test]
async fn a_server_that_answers_reads_with_something_else_knows_nothing() {
    limited(with(&["MGET HIDDEN", "EXISTS MGET"], async |_server, process, db| {
        for round in 1..=3 {
            assert_eq!(process.finds(1).await, (round - 1, Tier::Source));
            process.cache.idle().await;
            assert_eq!(faults(&process.events()), [("read", 1)].into());
            assert_eq!(process.write(1).await.unwrap(), round);
        }
        assert_eq!(db.started(), 3);
    }))
    .await;
}

#[tokio::test]
async fn a_server_that_answers_leases_with_something_else_is_given_nothing_to_store() {
    limited(with(&["SET HIDDEN", "STRLEN SET"], async |server, process, db| {
        for round in 1..=3 {
            assert_eq!(process.finds(1).await, (round - 1, Tier::Source));
            process.cache.idle().await;
            assert_eq!(faults(&process.events()), [("lease", 1)].into());
            assert_eq!(process.write(1).await.unwrap(), round);
        }
        assert_eq!(db.started(), 3);
        assert_eq!(server.command(&["DBSIZE"]).await, "0");
    }))
    .await;
}

#[tokio::test]
async fn a_server_that_answers_invalidations_with_something_else_has_acknowledged_nothing() {
    limited(with(&["EVALSHA HIDDEN", "ECHO EVALSHA"], async |_server, process, _db| {
        let error = process.write(1).await.unwrap_err();
        assert!(error.is_shared(), "{error}");
        assert_eq!(process.sees(1).await, 1);
        process.cache.idle().await;
        assert!(faults(&process.events()).contains_key("invalidate"));
    }))
    .await;
}

/// Loads texts of so many bytes as their key says.
struct TextBySize(Arc<Mutex<u32>>);

impl Source for TextBySize {
    type Key = usize;
    type Value = String;
    type Error = DbError;
    const NAME: &'static str = "text";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, sizes: &[usize]) -> Result<Rows<Self>, DbError> {
        *self.0.lock().unwrap() += 1;
        Ok(sizes.iter().map(|size| (*size, "x".repeat(*size))).collect())
    }
}

#[tokio::test]
async fn a_value_larger_than_the_backend_takes_is_not_stored_and_told() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let redis = Redis::connect(RedisConfig::from_url(&server.url()).unwrap()).await.unwrap();
        let (statements, events) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(Vec::new())));
        let listener = events.clone();
        let budget = std::time::Duration::from_secs(10);
        let cache = Cache::builder()
            .region("objects", Region::backend(redis).compress_above(None).shared_budget(budget))
            .source(TextBySize(statements.clone()))
            .on_event(move |event| listener.lock().unwrap().push(event.to_string()))
            .build()
            .await
            .unwrap();
        let (most, small) = (16 << 20, 1000);
        for round in 1..=2 {
            let texts = cache.request().get_many::<TextBySize>([most, small]).await.unwrap();
            let lengths: Vec<_> = texts.found().map(|(size, text)| (*size, text.len())).collect();
            assert_eq!(lengths, [(most, most), (small, small)]);
            cache.idle().await;
            assert_eq!(*statements.lock().unwrap(), round, "the large one each time");
        }
        let not_stored = "source text: a value was not stored: its entry has";
        let told = events.lock().unwrap().iter().filter(|event| event.starts_with(not_stored)).count();
        assert_eq!(told, 2, "{:?}", events.lock().unwrap());
        cache.request().get::<TextBySize>(small).await.unwrap();
        assert_eq!(*statements.lock().unwrap(), 2, "the small one of its batch was stored");
        assert!(
            server
                .command(&["STRLEN", &format!("mastaba:objects:text:{most}")])
                .await
                .parse::<u32>()
                .unwrap()
                < 1000
        );
        // what just fits is stored
        let fits = most - 1000;
        for _ in 0..2 {
            cache.request().get::<TextBySize>(fits).await.unwrap();
            cache.idle().await;
        }
        assert_eq!(*statements.lock().unwrap(), 3);
    })
    .await;
}
