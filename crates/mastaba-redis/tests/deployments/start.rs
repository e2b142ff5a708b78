//! What happens at start, when all is not well.

use mastaba_redis::{AtStart, Redis, RedisConfig};
use mastaba_test::servers::RedisServer;

use super::imposter::Imposter;
use super::support::{Log, Number, assert_error, assert_sentence, cache, connect, limit, until};

#[tokio::test]
async fn a_server_that_is_required_and_not_there_is_one_clear_error() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        server.stop().await;
        let error = connect(&format!("redis://user:secret@{}", server.addr())).await.unwrap_err();
        assert!(error.is_unreachable());
        assert_error(&error, &server, &["cannot be reached", "is it running"]);
        let error = connect(&format!("redis-cluster://:secret@{}", server.addr())).await.unwrap_err();
        assert!(error.is_unreachable());
        assert_error(&error, &server, &["cannot be reached", "is it running"]);
        let error = connect(&format!("redis-sentinel://:secret@{}/main", server.addr())).await.unwrap_err();
        assert_error(&error, &server, &["\"main\""]);
        let error = connect("redis://:secret@no-such-host.invalid").await.unwrap_err();
        assert_sentence(&error, &["no-such-host.invalid:6379"]);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_optional_is_used_once_it_is_there() {
    limit(async {
        let Some(server) = RedisServer::builder().password("secret").start().await else { return };
        server.stop().await;
        let log = Log::default();
        let logging = log.start();
        let redis = connect(&format!("{}?at_start=optional", server.url())).await.unwrap();
        let (cache, loads) = cache(redis).await;
        assert_eq!(*cache.request().get::<Number>(1).await.unwrap().unwrap(), 10);
        assert_eq!(*cache.request().get::<Number>(1).await.unwrap().unwrap(), 10);
        assert_eq!(loads.loads(), 2, "nothing keeps it");
        drop(logging);
        let text = log.text();
        assert_eq!(text.matches("WARN mastaba: redis at").count(), 1, "{text}");
        assert!(text.contains(&server.port().to_string()) && text.contains("go to the source"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        server.restart().await;
        let (cache, loads) = (&cache, &loads);
        until("a hit", async || {
            let before = loads.loads();
            assert_eq!(*cache.request().get::<Number>(2).await.unwrap().unwrap(), 20);
            loads.loads() == before
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_is_optional_does_not_stop_the_start() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        server.stop().await;
        let url = format!("redis-cluster://{}?at_start=optional", server.addr());
        let (cache, loads) = cache(connect(&url).await.unwrap()).await;
        assert_eq!(*cache.request().get::<Number>(1).await.unwrap().unwrap(), 10);
        assert_eq!(loads.loads(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_the_configuration_stops_the_start_even_so() {
    let mut config = RedisConfig::from_url("rediss://localhost").unwrap();
    config.at_start = AtStart::Optional;
    config.tls.get_or_insert_default().ca = Some("/nowhere.pem".into());
    let error = Redis::connect(config).await.unwrap_err();
    assert!(error.is_config());
    assert_sentence(&error, &["/nowhere.pem"]);
}

#[tokio::test]
async fn a_server_older_than_seven_is_refused() {
    limit(async {
        for (version, said) in [("6.2.14", "version 6.2"), ("5.0.3", "version 5.0")] {
            let old = Imposter::alone(&format!("redis_version:{version}")).await;
            let error = connect(&format!("redis://:secret@{}", old.addr())).await.unwrap_err();
            assert!(error.is_refused(), "{error}");
            assert_sentence(&error, &[&old.addr().to_string(), said, "7.0 or later", "Valkey"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_repeats_the_password_is_not_quoted() {
    limit(async {
        let odd = Imposter::echo().await;
        for scheme in ["redis", "redis-cluster"] {
            let error = connect(&format!("{scheme}://user:secret@{}", odd.addr())).await.unwrap_err();
            assert_sentence(&error, &[&odd.addr().to_string()]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_password_that_the_server_does_not_have_is_warned_of_once() {
    limit(async {
        let Some(open) = RedisServer::start().await else { return };
        let Some(closed) = RedisServer::builder().password("secret").start().await else { return };
        for (url, warned) in [
            (format!("redis://:secret@{}", open.addr()), true),
            (format!("redis://default:secret@{}", open.addr()), true),
            (format!("redis://{}", open.addr()), false),
            (format!("redis://:secret@{}", closed.addr()), false),
            (format!("redis://default:secret@{}", closed.addr()), false),
        ] {
            let log = Log::default();
            let logging = log.start();
            let redis = connect(&url).await.unwrap();
            let (cache, loads) = cache(redis).await;
            assert_eq!(*cache.request().get::<Number>(1).await.unwrap().unwrap(), 10);
            assert!(loads.loads() <= 1);
            drop(logging);
            let text = log.text();
            assert_eq!(
                text.matches("a password is given, and the server has none").count(),
                usize::from(warned),
                "{url}: {text}"
            );
            assert!(!text.contains("secret"), "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_dangerous_eviction_policy_is_warned_of() {
    limit(async {
        for (policy, most, warning) in [
            ("volatile-ttl", "0", Some("volatile-ttl")),
            ("noeviction", "100mb", Some("noeviction")),
            ("noeviction", "0", None),
            ("allkeys-lru", "100mb", None),
        ] {
            let shape = RedisServer::builder().set("maxmemory", most).set("maxmemory-policy", policy);
            let Some(server) = shape.start().await else { return };
            let log = Log::default();
            let logging = log.start();
            let redis = connect(&server.url()).await.unwrap();
            drop(logging);
            let text = log.text();
            match warning {
                Some(warning) => {
                    assert_eq!(text.matches("WARN").count(), 1, "{text}");
                    for part in [warning, "allkeys-lru", &server.port().to_string()] {
                        assert!(text.contains(part), "no {part} in {text}");
                    }
                }
                None => assert!(!text.contains("WARN"), "{text}"),
            }
            drop(redis);
        }
    })
    .await;
}
