//! Users and passwords, and the least that a user may be allowed.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use mastaba::shared::{Lease, Over, Shared, Stamp};
use mastaba_redis::{Loss, Redis, RedisConfig};
use mastaba_test::conformance;
use mastaba_test::servers::{Cluster, RedisServer};

use super::support::{Log, TTL, Told, assert_error, assert_works, connect, lease, limit, value};

/// As README.md and the error list them.
const COMMANDS: [&str; 11] = [
    "info",
    "mget",
    "get",
    "getrange",
    "set",
    "unlink",
    "pttl",
    "eval",
    "evalsha",
    "ping",
    "client|tracking",
];

fn rules(commands: impl IntoIterator<Item = &'static str>) -> String {
    let commands: Vec<_> = commands.into_iter().map(|name| format!("+{name}")).collect();
    format!("on >secret ~shop:* -@all {}", commands.join(" "))
}

fn url(server: &RedisServer, query: &str) -> String {
    format!("redis://cache:secret@{}?prefix=shop:{query}", server.addr())
}

/// What the conformance suite leaves out.
async fn use_everything(redis: &Redis) {
    let told = Arc::new(Told::default());
    redis.listen(b"conformance:", told.clone());
    redis.catch_up().await.unwrap();
    let key = Bytes::from_static(b"conformance:everything");
    let fence = lease(redis, &key).await;
    let (fill, _) = value(redis, &key, fence, Over::Lease);
    redis.fill(&[fill]).await.unwrap();
    redis.invalidate(std::slice::from_ref(&key), &[]).await.unwrap();
    // what is no stamp makes room for one
    let ask = Lease { key: key.clone(), record: Bytes::from_static(b"no entry"), over: None, ttl: TTL };
    redis.lease(&[ask], &[]).await.unwrap();
    redis.lease(&[], &[Stamp { key: key.clone(), value: 1, ttl: None }]).await.unwrap();
    redis.invalidate(&[key], &[]).await.unwrap();
    assert_ne!(told.changes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_just_these_rights_can_do_everything_and_uses_all_of_them() {
    limit(async {
        let Some(server) = RedisServer::builder().user("cache", &rules(COMMANDS)).start().await else {
            return;
        };
        let redis = connect(&url(&server, "")).await.unwrap();
        server.reset_stats().await;
        use_everything(&redis).await;
        conformance::run(|| async { redis.clone() }).await;
        // a connection asks what the server is; those before were not counted
        connect(&url(&server, "&tell=false")).await.unwrap();
        let used: BTreeSet<_> = server.commandstats().await.into_keys().collect();
        let ours = ["auth", "config|resetstat", "hello", "client|setinfo", "client"];
        let used: BTreeSet<&str> = used.iter().map(String::as_str).filter(|it| !ours.contains(it)).collect();
        assert_eq!(used, BTreeSet::from(COMMANDS));
    })
    .await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_at_start() {
    limit(async {
        let Some(server) = RedisServer::builder().user("cache", &rules(COMMANDS)).start().await else {
            return;
        };
        for missing in COMMANDS {
            let less = rules(COMMANDS.into_iter().filter(|name| *name != missing));
            let mut set = vec!["ACL", "SETUSER", "cache", "reset"];
            set.extend(less.split(' '));
            assert_eq!(server.command(&set).await, "OK");
            let line = ["ACL SETUSER cache", "~shop:mastaba:*"].into_iter();
            let names: Vec<_> = COMMANDS.iter().map(|name| format!("+{name}")).collect();
            let line: Vec<_> = line.chain(names.iter().map(String::as_str)).collect();
            let log = Log::default();
            let logging = log.start();
            let connected = connect(&url(&server, "")).await;
            drop(logging);
            // what something goes without is a warning
            let compares = connected.as_ref().is_ok_and(|redis| redis.losses() == [Loss::Scripts]);
            let losses = match missing {
                "info" => vec![Loss::Identity, Loss::EvictionPolicy],
                "ping" | "client|tracking" => vec![Loss::Notifications],
                // by what the server has instead
                "eval" | "evalsha" => vec![if compares { Loss::Scripts } else { Loss::Stores }],
                _ => vec![],
            };
            if losses.is_empty() {
                let error = connected.unwrap_err();
                assert!(error.is_refused(), "{missing}: {error}");
                let lacks = format!("to {};", missing.to_uppercase());
                assert_error(&error, &server, &[&[lacks.as_str()], &line[..]].concat());
                continue;
            }
            assert_eq!(connected.unwrap().losses(), losses, "{missing}");
            let text = log.text();
            assert_eq!(text.matches("WARN").count(), losses.len(), "{missing}: {text}");
            for part in line.iter().filter(|_| missing != "info") {
                assert!(text.contains(part), "{missing}: no {part} in {text}");
            }
            assert!(!text.contains("secret"), "{text}");
        }
        // a database of its own takes one right more
        assert_eq!(server.command(&["ACL", "SETUSER", "cache", "+@all", "-select"]).await, "OK");
        let error = connect(&url(&server, "&database=1")).await.unwrap_err();
        assert_error(&error, &server, &["+select"]);
        assert_eq!(server.command(&["ACL", "SETUSER", "cache", "+select"]).await, "OK");
        assert_eq!(server.command(&["ACL", "SETUSER", "cache", "resetkeys", "~shop:mastaba:*"]).await, "OK");
        assert_works(&url(&server, "&database=1")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_two_rights_more_are_needed() {
    limit(async {
        let more = COMMANDS.into_iter().chain(["cluster|slots", "asking"]);
        let shape = RedisServer::builder().user("cache", &rules(more));
        let Some(cluster) = Cluster::start_with(shape).await else { return };
        let url = |query: &str| {
            format!("redis-cluster://cache:secret@{}?prefix=shop:{query}", cluster.node(0).addr())
        };
        let redis = connect(&url("")).await.unwrap();
        use_everything(&redis).await;
        conformance::run(|| async { redis.clone() }).await;
        for at in 0..4 {
            cluster.node(at).command(&["ACL", "SETUSER", "cache", "-cluster"]).await;
        }
        let error = connect(&url("")).await.unwrap_err();
        assert!(error.is_refused(), "{error}");
        assert_error(&error, cluster.node(0), &["+cluster|slots", "+asking", "+ping"]);
    })
    .await;
}

#[tokio::test]
async fn passwords_are_asked_for_and_never_told() {
    limit(async {
        let shape = RedisServer::builder().password("secret").user("cache", "on >secret2 ~* +@all");
        let Some(server) = shape.start().await else { return };
        assert_works(&server.url()).await;
        assert_works(&format!("redis://cache:secret2@{}", server.addr())).await;
        let error = connect(&format!("redis://{}", server.addr())).await.unwrap_err();
        assert!(error.is_refused());
        assert_error(&error, &server, &["asks for a password", "`password`"]);
        for user in [":secret3", "nobody:secret", "cache:secret"] {
            let error = connect(&format!("redis://{user}@{}", server.addr())).await.unwrap_err();
            assert!(error.is_refused());
            assert_error(&error, &server, &["refuses the username or the password"]);
        }
        let mut config = RedisConfig::from_url(&server.url()).unwrap();
        config.sentinel_password = Some("secret2".into());
        let shown = format!("{config:?} {:?}", Redis::connect(config.clone()).await.unwrap());
        assert!(shown.contains("***") && !shown.contains("secret"), "{shown}");
    })
    .await;
}
