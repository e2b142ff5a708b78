//! Fills by `SET .. IFEQ`, where the server has it.

use std::sync::Arc;

use bytes::Bytes;
use mastaba::shared::{Filled, Over, Shared};
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
        let redis = connect(&server.url()).await.unwrap();
        let key = Bytes::from_static(b"key");
        let (fill, _) = value(&redis, &key, lease(&redis, &key).await, Over::Lease);
        server.reset_stats().await;
        assert_eq!(redis.fill(&[fill]).await.unwrap(), [Filled::Stored]);
        let stats = server.commandstats().await;
        assert!(stats.contains_key("evalsha"), "{stats:?}");
        assert_eq!(stats.get("set"), Some(&1), "the one in the script: {stats:?}");
    })
    .await;
}
