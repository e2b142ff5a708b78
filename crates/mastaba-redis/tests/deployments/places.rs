//! Where servers are, and how they are spoken to.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mastaba::shared::Shared;
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};

use super::support::{
    Number, Told, assert_error, assert_sentence, assert_works, cache, connect, lease, limit,
};

fn show(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn tls_needs_the_right_authority() {
    limit(async {
        let Some(server) = RedisServer::builder().tls_for_all().start().await else { return };
        let Some(other) = RedisServer::builder().tls_for_all().start().await else { return };
        let url = server.url();
        let ca = show(&server.certificates().unwrap().ca());
        assert_works(&format!("{url}?tls_ca={ca}")).await;
        assert_works(&format!("redis://localhost:{}?tls=true&tls_ca={ca}", server.port())).await;
        let error = connect(&url).await.unwrap_err();
        assert!(error.is_unreachable());
        assert_error(&error, &server, &["not trusted", "tls_ca"]);
        let wrong = show(&other.certificates().unwrap().ca());
        let error = connect(&format!("{url}?tls_ca={wrong}")).await.unwrap_err();
        assert_error(&error, &server, &["not trusted", "tls_ca"]);
        let error = connect(&format!("{url}?tls_ca=/nowhere.pem")).await.unwrap_err();
        assert!(error.is_config());
        assert_sentence(&error, &["tls_ca = \"/nowhere.pem\"", "cannot be read"]);
        let key = show(&server.certificates().unwrap().server_key());
        let error = connect(&format!("{url}?tls_ca={key}")).await.unwrap_err();
        assert_error(&error, &server, &[]);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_wants_to_see_a_certificate_is_shown_one() {
    limit(async {
        let Some(server) = RedisServer::builder().tls().start().await else { return };
        let Some(other) = RedisServer::builder().tls().start().await else { return };
        let with = |of: &RedisServer| {
            let it = of.certificates().unwrap();
            format!("&tls_cert={}&tls_key={}", show(&it.client_certificate()), show(&it.client_key()))
        };
        let url = format!("{}?tls_ca={}", server.url(), show(&server.certificates().unwrap().ca()));
        assert_works(&format!("{url}{}", with(&server))).await;
        let error = connect(&url).await.unwrap_err();
        assert!(error.is_unreachable());
        assert_error(&error, &server, &["asks for a client certificate", "tls_cert and tls_key"]);
        let error = connect(&format!("{url}{}", with(&other))).await.unwrap_err();
        assert_error(&error, &server, &["does not trust our certificate", "tls_cert"]);
    })
    .await;
}

#[tokio::test]
async fn every_node_of_a_cluster_is_met_by_tls() {
    limit(async {
        let Some(cluster) = Cluster::start_with(RedisServer::builder().tls()).await else { return };
        let it = cluster.node(0).certificates().unwrap();
        let url = format!("{}?tls_ca={}", cluster.url(), show(&it.ca()));
        let shown =
            format!("{url}&tls_cert={}&tls_key={}", show(&it.client_certificate()), show(&it.client_key()));
        // their slots are spread over all nodes
        for _ in 0..8 {
            assert_works(&shown).await;
        }
        for node in 0..3 {
            assert_ne!(cluster.node(node).command(&["DBSIZE"]).await, "0", "node {node} was given nothing");
        }
        let error = connect(&url).await.unwrap_err();
        assert!(error.is_unreachable(), "{error}");
        assert_sentence(&error, &["tls_cert and tls_key"]);
        let Some(other) = RedisServer::builder().tls().start().await else { return };
        let wrong = show(&other.certificates().unwrap().ca());
        let error = connect(&shown.replace(&show(&it.ca()), &wrong)).await.unwrap_err();
        assert_sentence(&error, &["not trusted", "tls_ca"]);
    })
    .await;
}

#[tokio::test]
async fn tls_and_none_do_not_meet() {
    limit(async {
        let Some(tls) = RedisServer::builder().tls_for_all().start().await else { return };
        let Some(plain) = RedisServer::start().await else { return };
        let error = connect(&format!("redis://:secret@{}", tls.addr())).await.unwrap_err();
        assert!(error.is_unreachable());
        assert_error(&error, &tls, &["rediss://"]);
        let error = connect(&format!("rediss://:secret@{}", plain.addr())).await.unwrap_err();
        assert!(error.is_unreachable());
        assert_error(&error, &plain, &["speak TLS", "use redis://"]);
    })
    .await;
}

#[tokio::test]
async fn a_unix_socket_will_do() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        assert_works(&format!("redis+unix://{}?database=2", server.socket().display())).await;
        assert_eq!(server.command(&["DBSIZE"]).await, "0");
        let error = connect("unix:///nowhere/socket").await.unwrap_err();
        assert!(error.is_unreachable());
        assert_sentence(&error, &["/nowhere/socket", "is it running"]);
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_of() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        assert_works(&format!("{}/15", server.url())).await;
        assert_eq!(server.command(&["DBSIZE"]).await, "0", "nothing is in database 0");
        let error = connect(&format!("{}/16", server.url())).await.unwrap_err();
        assert!(error.is_refused());
        assert_error(&error, &server, &["no database 16"]);
    })
    .await;
}

#[tokio::test]
async fn caches_with_different_prefixes_do_not_meet() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        for prefix in ["a:", "b:"] {
            let (cache, loads) =
                cache(connect(&format!("{}?prefix={prefix}", server.url())).await.unwrap()).await;
            assert_eq!(*cache.request().get::<Number>(1).await.unwrap().unwrap(), 10);
            cache.close().await.unwrap();
            assert_eq!(loads.loads(), 1, "{prefix} found what is another one's");
        }
        let a = connect(&format!("{}?prefix=a:", server.url())).await.unwrap();
        let b = connect(&format!("{}?prefix=b:", server.url())).await.unwrap();
        let writer = connect(&format!("{}?prefix=a:", server.url())).await.unwrap();
        let [told_a, told_b] = [Arc::new(Told::default()), Arc::new(Told::default())];
        a.listen(b"m:", told_a.clone());
        b.listen(b"m:", told_b.clone());
        a.catch_up().await.unwrap();
        b.catch_up().await.unwrap();
        let key = Bytes::from_static(b"m:key");
        lease(&writer, &key).await;
        writer.invalidate(std::slice::from_ref(&key), &[]).await.unwrap();
        a.catch_up().await.unwrap();
        b.catch_up().await.unwrap();
        assert_ne!(told_a.changes(), 0);
        assert_eq!(told_b.changes(), 0, "what another prefix changes is none of its business");
    })
    .await;
}

#[tokio::test]
async fn sentinels_may_ask_for_another_password_than_the_servers() {
    limit(async {
        let Some(sentinels) = Sentinels::start_with_passwords("secret1", "secret2").await else { return };
        let hosts: Vec<_> = (0..3).map(|at| sentinels.sentinel(at).addr().to_string()).collect();
        let url = |password: &str, query: &str| {
            format!("redis-sentinel://:{password}@{}/{}?{query}", hosts.join(","), sentinels.name())
        };
        assert_works(&url("secret1", "sentinel_password=secret2")).await;
        let ports: Vec<_> = (0..3).map(|at| sentinels.sentinel(at).port().to_string()).collect();
        for query in ["", "sentinel_password=secret3"] {
            let error = connect(&url("secret1", query)).await.unwrap_err();
            assert_sentence(&error, &[&ports[0], &ports[2], "password"]);
        }
        let error = connect(&url("secret3", "sentinel_password=secret2")).await.unwrap_err();
        assert_sentence(&error, &[&ports[0], "password"]);
        let nobody =
            format!("redis-sentinel://:secret1@{}/nobody?sentinel_password=secret2", hosts.join(","));
        assert_sentence(&connect(&nobody).await.unwrap_err(), &[&ports[0], "\"nobody\""]);
    })
    .await;
}

#[tokio::test]
async fn a_cluster_is_no_single_server_and_a_replica_no_master() {
    limit(async {
        let Some(cluster) = Cluster::start().await else { return };
        let Some(single) = RedisServer::start().await else { return };
        let node = cluster.node(1);
        // one node is enough to find the others
        assert_works(&format!("redis-cluster://{}", node.addr())).await;
        let error = connect(&node.url()).await.unwrap_err();
        assert!(error.is_refused());
        assert_error(&error, node, &["node of a cluster", "redis-cluster://"]);
        let error = connect(&format!("redis-cluster://{}", single.addr())).await.unwrap_err();
        assert!(error.is_refused(), "{error}");
        assert_error(&error, &single, &["no node of a cluster", "redis://"]);
        single.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
        let error = connect(&single.url()).await.unwrap_err();
        assert!(error.is_refused());
        assert_error(&error, &single, &["is a replica", "master"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tracking_may_be_switched_on_by_several_at_once_and_given_up_half_way() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let redis = connect(&server.url()).await.unwrap();
        for n in 0..20 {
            // each makes the connection track one prefix more
            redis.listen(format!("m{n}:").as_bytes(), Arc::new(Told::default()));
            let mut given_up = Box::pin(redis.catch_up());
            let _ = futures_util::poll!(&mut given_up);
            drop(given_up);
            let (one, two, three) = tokio::join!(redis.catch_up(), redis.catch_up(), redis.catch_up());
            for caught_up in [one, two, three] {
                caught_up.unwrap();
            }
        }
    })
    .await;
}
