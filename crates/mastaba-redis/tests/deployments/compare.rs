//! Fills by `SET .. IFEQ`, where the server has it, and by a script for each where it takes none for several keys.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::stamps;
use mastaba::shared::{End, Filled, Hold, Over, Shared, Stamp, WriteOutcome};
use mastaba_test::conformance;
use mastaba_test::servers::RedisServer;

use super::imposter::Imposter;
use super::support::{Number, Told, cache, connect, lease, limit, value};

#[tokio::test]
async fn a_fill_over_a_lease_is_a_plain_set_and_one_over_a_value_a_script() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let valkey = Imposter::valkey(server.addr(), false).await;
        let redis = connect(&format!("redis://{}", valkey.addr())).await.unwrap();
        let keys: Vec<Bytes> = (0..10).map(|n| format!("key{n}").into()).collect();
        let (mut fills, mut fences) = (Vec::new(), Vec::new());
        for key in &keys {
            let (fill, fence) = value(&redis, key, lease(&redis, key).await, Over::Lease);
            fills.push(fill);
            fences.push(fence);
        }
        redis.invalidate(&keys[9..], &[]).await.unwrap();
        let filled = redis.fill(&fills).await.unwrap();
        assert_eq!(filled[..9], [Filled::Stored; 9]);
        assert_eq!(filled[9], Filled::Refused, "its lease was void");
        assert_eq!((valkey.compared(), valkey.scripted()), (10, 0));
        assert_eq!(redis.read(&keys[..1]).await.unwrap(), [Some(fills[0].record.clone())]);
        let ttl: u64 = server.command(&["PTTL", "key0"]).await.parse().unwrap();
        assert!((50_000..=60_000).contains(&ttl), "{ttl}");
        let (again, _) = value(&redis, &keys[0], fences[0], Over::Record);
        assert_eq!(redis.fill(&[again]).await.unwrap(), [Filled::Stored]);
        assert_eq!((valkey.compared(), valkey.scripted()), (10, 1));
    })
    .await;
}

#[tokio::test]
async fn reads_through_the_cache_fill_without_a_script() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let valkey = Imposter::valkey(server.addr(), false).await;
        let url = format!("redis://{}", valkey.addr());
        let (one, _) = cache(connect(&url).await.unwrap()).await;
        assert_eq!(one.request().get_many::<Number>(1..=20).await.unwrap().found().count(), 20);
        one.close().await.unwrap();
        assert_eq!((valkey.compared(), valkey.scripted()), (20, 0));
        // a refresh takes the place of a value
        one.request().refresh::<Number>(1).await.unwrap();
        one.close().await.unwrap();
        assert_eq!((valkey.compared(), valkey.scripted()), (20, 1));
        let (other, loads) = cache(connect(&url).await.unwrap()).await;
        assert_eq!(other.request().get_many::<Number>(1..=20).await.unwrap().found().count(), 20);
        assert_eq!(loads.loads(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_compares_conforms_and_tells() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let valkey = Imposter::valkey(server.addr(), false).await;
        let url = format!("redis://{}?prefix=shop:", valkey.addr());
        let redis = connect(&url).await.unwrap();
        let told = Arc::new(Told::default());
        redis.listen(b"", told.clone());
        redis.catch_up().await.unwrap();
        conformance::run(|| async { redis.clone() }).await;
        assert_ne!(valkey.compared(), 0);
        let before = told.changes();
        let other = connect(&url).await.unwrap();
        let key = Bytes::from_static(b"key");
        let (fill, _) = value(&other, &key, lease(&other, &key).await, Over::Lease);
        assert_eq!(other.fill(&[fill]).await.unwrap(), [Filled::Stored]);
        redis.catch_up().await.unwrap();
        assert_ne!(told.changes(), before, "pushes come through, so a fill is told of");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_only_says_that_it_compares_is_asked_once() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let boaster = Imposter::valkey(server.addr(), true).await;
        let redis = connect(&format!("redis://{}", boaster.addr())).await.unwrap();
        for n in 0..3 {
            let key = Bytes::from(format!("key{n}"));
            let (fill, _) = value(&redis, &key, lease(&redis, &key).await, Over::Lease);
            assert_eq!(redis.fill(&[fill]).await.unwrap(), [Filled::Stored]);
        }
        assert_eq!((boaster.compared(), boaster.scripted()), (1, 3));
    })
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_say_so_is_not_asked() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let older = Imposter::older(server.addr()).await;
        let redis = connect(&format!("redis://{}", older.addr())).await.unwrap();
        let key = Bytes::from_static(b"key");
        let (fill, _) = value(&redis, &key, lease(&redis, &key).await, Over::Lease);
        server.reset_stats().await;
        assert_eq!(redis.fill(&[fill]).await.unwrap(), [Filled::Stored]);
        let stats = server.commandstats().await;
        assert_eq!((older.compared(), older.scripted()), (0, 1));
        assert!(stats.contains_key("evalsha"), "{stats:?}");
        assert_eq!(stats.get("set"), Some(&1), "the one in the script: {stats:?}");
    })
    .await;
}

/// No stand-in: what a server says of its version is what the library goes by, and this is what it has.
#[tokio::test]
async fn a_server_is_asked_for_it_as_it_is_able_to() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let redis = connect(&server.url()).await.unwrap();
        let traits = server.traits().await;
        let (mut fills, mut again) = (Vec::new(), Vec::new());
        for n in 0..3 {
            let key = Bytes::from(format!("key{n}"));
            let (fill, fence) = value(&redis, &key, lease(&redis, &key).await, Over::Lease);
            again.push(value(&redis, &key, fence, Over::Record).0);
            fills.push(fill);
        }
        for (fills, compared) in [(&fills, traits.compares), (&again, false)] {
            server.reset_stats().await;
            assert_eq!(redis.fill(fills).await.unwrap(), [Filled::Stored; 3]);
            let stats = server.commandstats().await;
            let scripts = ["evalsha", "eval"].iter().filter_map(|name| stats.get(*name)).sum::<u64>();
            assert_eq!(stats.get("set"), Some(&3), "{traits:?}: {stats:?}");
            assert_eq!(scripts == 0, compared, "{traits:?}: {stats:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_has_several_servers_behind_it_is_asked_for_several_keys_once() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let split = Imposter::split(server.addr()).await;
        let redis = connect(&format!("redis://{}", split.addr())).await.unwrap();
        for round in 0..2 {
            let keys: Vec<Bytes> = (0..10).map(|n| format!("key{round}:{n}").into()).collect();
            let mut fills = Vec::new();
            for key in &keys {
                fills.push(value(&redis, key, lease(&redis, key).await, Over::Lease).0);
            }
            redis.invalidate(&keys[9..], &[]).await.unwrap();
            let filled = redis.fill(&fills).await.unwrap();
            assert_eq!((&filled[..9], filled[9]), (&[Filled::Stored; 9][..], Filled::Refused));
            assert_eq!(redis.read(&keys[..1]).await.unwrap(), [Some(fills[0].record.clone())]);
            assert_eq!(split.scripted(), [11, 21][round], "one for all of them, and then one for each");
        }
    })
    .await;
}

/// The write stamp of a key may stand on another server than the key. It is renewed all the same, by commands of its own (R16,
/// R17); and no fill goes by it, for nothing compares it and stores in one step (R15).
#[tokio::test]
async fn what_has_several_servers_behind_it_has_its_stamps_renewed_and_fills_nothing_by_them() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let (key, record) = (Bytes::from_static(b"m:objects:a"), Bytes::from_static(b"m:objects@writes"));
        for first in ["a removal", "a hold", "a fill"] {
            server.command(&["FLUSHALL"]).await;
            let split = Imposter::split(server.addr()).await;
            // knows nothing of the server yet: each of these is the first to be refused
            let redis = connect(&format!("redis://{}", split.addr())).await.unwrap();
            assert!(redis.stamps(b"m:objects:", &record));
            redis.lease(&[], &[Stamp { key: record.clone(), value: 1, ttl: None }]).await.unwrap();
            // who does not know of it sees them
            let looks = connect(&format!("redis://{}", server.addr())).await.unwrap();
            let (ours, of) = (&record, &key);
            let stamp =
                async || stamps::of(looks.read(std::slice::from_ref(ours)).await.unwrap()[0].as_ref()?, of);
            let before = stamp().await.expect("a lease makes them");
            let mut seen = vec![before];
            let remove = async |seen: &mut Vec<u64>| {
                let (fill, _) = value(&redis, of, lease(&redis, of).await, Over::Lease);
                assert_eq!(redis.fill(&[fill]).await.unwrap(), [Filled::Stored]);
                redis.invalidate(std::slice::from_ref(of), &[]).await.unwrap();
                assert_eq!(redis.read(std::slice::from_ref(of)).await.unwrap(), [None]);
                seen.push(stamp().await.unwrap());
            };
            let hold = async |seen: &mut Vec<u64>| {
                let ttl = Duration::from_secs(9);
                redis.hold(&[Hold { key: of.clone(), holder: 7, ttl, keep: false }]).await.unwrap();
                seen.push(stamp().await.unwrap());
                redis
                    .end(&[End { key: of.clone(), holder: 7, outcome: WriteOutcome::Committed }])
                    .await
                    .unwrap();
                seen.push(stamp().await.unwrap());
            };
            let fill = async || {
                let over = Over::Unleased { stamps: ours.clone(), stamp: stamp().await.unwrap() };
                let (fill, _) = value(&redis, of, mastaba::entry::Fence(0), over);
                assert_eq!(redis.fill(&[fill]).await.unwrap(), [Filled::Refused]);
                let shown = redis.read(std::slice::from_ref(ours)).await.unwrap();
                assert_eq!(shown, [None], "so that nobody tries");
                assert_eq!(redis.read(std::slice::from_ref(of)).await.unwrap(), [None]);
            };
            match first {
                "a removal" => remove(&mut seen).await,
                "a hold" => hold(&mut seen).await,
                _ => fill().await,
            }
            remove(&mut seen).await;
            hold(&mut seen).await;
            fill().await;
            let renewals = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), renewals, "{first}: each of them renews it");
        }
    })
    .await;
}

#[tokio::test]
async fn where_the_server_compares_what_goes_over_values_is_one_script() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let valkey = Imposter::valkey(server.addr(), false).await;
        let redis = connect(&format!("redis://{}", valkey.addr())).await.unwrap();
        let keys: Vec<Bytes> = (0..10).map(|n| format!("key{n}").into()).collect();
        let (mut fills, mut again) = (Vec::new(), Vec::new());
        for (n, key) in keys.iter().enumerate() {
            let (fill, fence) = value(&redis, key, lease(&redis, key).await, Over::Lease);
            let over = if n < 7 { Over::Record } else { Over::Lease };
            again.push(value(&redis, key, if n < 7 { fence } else { fill.expected }, over).0);
            if n < 7 {
                fills.push(fill);
            }
        }
        assert_eq!(redis.fill(&fills).await.unwrap(), [Filled::Stored; 7]);
        assert_eq!((valkey.compared(), valkey.scripted()), (7, 0));
        // seven over values and three over leases, which are sent first; each answer belongs to its key
        server.command(&["DEL", "key3", "key8"]).await;
        let mut expected = [Filled::Stored; 10];
        (expected[3], expected[8]) = (Filled::Refused, Filled::Refused);
        assert_eq!(redis.fill(&again).await.unwrap(), expected);
        assert_eq!((valkey.compared(), valkey.scripted()), (10, 1));
    })
    .await;
}
