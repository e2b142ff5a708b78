//! `mastaba doctor`, on servers of every sort.

use mastaba_test::servers::{Cluster, RedisServer, Sentinels};
use serde_json::Value;

use crate::binary::{self, Ran, run, run_with};
use crate::page::{check, steady};
use crate::shape::{advised, shape};

/// What the library needs, as its README says, and nothing else.
const RIGHTS: &str =
    "-@all +info +mget +get +getrange +set +unlink +pttl +eval +evalsha +ping +client|tracking";

async fn doctor(url: &str) -> Ran {
    run(&["doctor", "--pings", "20", "--url", url]).await
}

async fn json(url: &str, code: i32) -> Value {
    binary::json(url, &["doctor", "--pings", "20"], code).await
}

/// Whether its fills are scripts: the page shows a Redis that has nothing better.
async fn is_of_the_page(server: &RedisServer) -> bool {
    let info = server.command(&["INFO", "server"]).await;
    let is = !info.contains("valkey_version") && info.contains("redis_version:7.");
    if !is {
        eprintln!("skipped: the page shows Redis 7, and this is another server");
    }
    is
}

#[tokio::test]
async fn a_server_as_it_should_be_has_nothing_to_change() {
    let shape = RedisServer::builder().set("maxmemory", "64mb").set("maxmemory-policy", "allkeys-lru");
    let Some(server) = shape.start().await else { return };
    let ran = doctor(&server.url()).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(
        ran.out.contains("What to change\n  nothing ") || ran.out.contains("warning: round trip"),
        "{}",
        ran.out
    );
    if is_of_the_page(&server).await {
        check("plain", &steady(&ran.out, &[server.port()]));
    }
}

#[tokio::test]
async fn a_server_as_it_comes_has_no_limit_and_is_warned_of() {
    let Some(server) =
        RedisServer::builder().set("save", "3600 1 300 100").set("appendonly", "yes").start().await
    else {
        return;
    };
    let found = json(&server.url(), 0).await;
    assert_eq!(advised(&found), [("warning", "memory"), ("note", "persistence")]);
    assert_eq!(found["servers"][0]["memory_limit_bytes"], 0);
    assert_eq!(found["servers"][0]["append_only"], true);
    assert_eq!(found["servers"][0]["snapshots"], "3600 1 300 100");
}

#[tokio::test]
async fn leases_that_are_evicted_first_are_a_problem() {
    let shape = RedisServer::builder().set("maxmemory", "64mb").set("maxmemory-policy", "volatile-ttl");
    let Some(server) = shape.start().await else { return };
    let ran = doctor(&server.url()).await;
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.contains("PROBLEM: eviction") && ran.out.contains("leases and holds"), "{}", ran.out);
    if is_of_the_page(&server).await {
        check("volatile-ttl", &steady(&ran.out, &[server.port()]));
    }
    assert_eq!(advised(&json(&server.url(), 1).await), [("problem", "eviction")]);
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    assert_eq!(advised(&json(&server.url(), 1).await), [("problem", "eviction")]);
}

#[tokio::test]
async fn what_a_user_may_not_ask_is_said_and_is_no_error() {
    let shape = RedisServer::builder()
        .set("maxmemory", "64mb")
        .set("maxmemory-policy", "allkeys-lru")
        .user("cache", &format!("on >secret ~mastaba:* {RIGHTS}"));
    let Some(server) = shape.start().await else { return };
    let url = server.url().replace("redis://", "redis://cache:secret@");
    let ran = doctor(&url).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.contains("not known: the user has no right to TIME"), "{}", ran.out);
    assert!(ran.out.contains("not known: the user has no right to CONFIG"), "{}", ran.out);
    assert!(!ran.out.contains("secret"));
    if is_of_the_page(&server).await {
        check("rights", &steady(&ran.out, &[server.port()]));
    }
    let found = json(&url, 0).await;
    assert_eq!(found["servers"][0]["clock_ahead_ms"], Value::Null);
    assert_eq!(found["connection"]["password"], true);
}

#[tokio::test]
async fn a_right_to_other_keys_alone_is_a_problem_that_no_start_shows() {
    let shape = RedisServer::builder().user("cache", &format!("on >secret ~shop:* {RIGHTS}"));
    let Some(server) = shape.start().await else { return };
    let url = server.url().replace("redis://", "redis://cache:secret@");
    let found = json(&url, 1).await;
    assert_eq!(advised(&found)[..2], [("problem", "reading"), ("problem", "writing")]);
    let sentence = found["advice"][0]["sentence"].as_str().expect("a sentence");
    assert!(sentence.contains("\"mastaba:\"") && sentence.contains("permission"), "{sentence}");
    // that is the namespace, or the prefix, that was meant
    let ran = run(&["doctor", "--pings", "1", "--url", &url, "--namespace", "shop"]).await;
    assert_eq!(ran.code, 0, "{}", ran.out);
    let ran = doctor(&format!("{url}?prefix=shop:")).await;
    assert_eq!(ran.code, 0, "{}", ran.out);
    // nothing was written by any of it
    assert_eq!(server.command(&["DBSIZE"]).await, "0");
}

#[tokio::test]
async fn without_notifications_near_cannot_stand_and_that_is_no_problem() {
    let Some(server) = RedisServer::start().await else { return };
    let found = json(&format!("{}?tell=false", server.url()), 0).await;
    let told = found["uses"].as_array().unwrap().iter().find(|it| it["what"] == "notifications").unwrap();
    assert_eq!(told["used"], false);
    assert!(told["how"].as_str().unwrap().contains("`tell` is false"));
}

#[tokio::test]
async fn tls_is_spoken_as_the_library_speaks_it() {
    let shape =
        RedisServer::builder().tls_for_all().set("maxmemory", "64mb").set("maxmemory-policy", "allkeys-lru");
    let Some(server) = shape.start().await else { return };
    let ca = server.certificates().unwrap().ca();
    let ran = doctor(&format!("{}?tls_ca={}", server.url(), ca.display())).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    if is_of_the_page(&server).await {
        check("tls", &steady(&ran.out, &[server.port()]));
    }
}

#[tokio::test]
async fn every_master_of_a_cluster_is_examined() {
    let shape = RedisServer::builder().set("maxmemory", "64mb").set("maxmemory-policy", "allkeys-lru");
    let Some(cluster) = Cluster::start_with(shape).await else { return };
    let ran = doctor(&cluster.url()).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    let ports: Vec<u16> = (0..4).map(|index| cluster.node(index).port()).collect();
    for port in &ports[..3] {
        assert!(ran.out.contains(&format!(" at 127.0.0.1:{port}\n")), "{}", ran.out);
    }
    let found = json(&cluster.url(), 0).await;
    assert_eq!(found["servers"].as_array().unwrap().len(), 3);
    assert_eq!(found["deployment"], "cluster");
    if is_of_the_page(cluster.node(0)).await {
        // the nodes come in the order of their addresses, whose ports are any
        let text = steady(&ran.out, &ports);
        let mut parts: Vec<&str> = text.split("\n\n").collect();
        parts[1..4].sort_unstable();
        check("cluster", &parts.join("\n\n"));
    }
    cluster.node(0).command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]).await;
    assert_eq!(advised(&json(&cluster.url(), 0).await), [("warning", "eviction")]);
}

#[tokio::test]
async fn the_master_that_sentinels_name_is_examined() {
    let Some(sentinels) = Sentinels::start().await else { return };
    let found = json(&sentinels.url(), 0).await;
    assert_eq!(found["deployment"], "sentinel");
    assert_eq!(found["servers"][0]["place"], format!("port {}", sentinels.master().port()));
    assert_eq!(found["servers"][0]["replicas"], 1);
    let ran = doctor(&sentinels.url()).await;
    if is_of_the_page(sentinels.master()).await {
        let mut ports = vec![sentinels.master().port()];
        ports.extend((0..3).map(|index| sentinels.sentinel(index).port()));
        check("sentinel", &steady(&ran.out, &ports));
    }
}

/// Programs read it: what it is called and of what sort it is stays.
#[tokio::test]
async fn the_json_has_one_shape_whatever_the_server_is() {
    let Some(server) = RedisServer::start().await else { return };
    let found = shape(&json(&server.url(), 0).await);
    let expected = [
        "/advice/0/about string",
        "/advice/0/level string",
        "/advice/0/sentence string",
        "/backend string",
        "/connection/nodelay bool",
        "/connection/password bool",
        "/connection/pings number",
        "/connection/protocol string",
        "/connection/round_trip_p50_us number",
        "/connection/round_trip_p99_us number",
        "/connection/tls bool",
        "/deployment string",
        "/place string",
        "/servers/0/append_only bool",
        "/servers/0/clock_ahead_ms number",
        "/servers/0/evicted_keys number",
        "/servers/0/eviction string",
        "/servers/0/memory_limit_bytes number",
        "/servers/0/memory_used_bytes number",
        "/servers/0/place string",
        "/servers/0/replicas number",
        "/servers/0/role string",
        "/servers/0/snapshots string",
        "/servers/0/software string",
        "/servers/0/uptime_s number",
        "/servers/0/version string",
        "/uses/0/how string",
        "/uses/0/used bool",
        "/uses/0/what string",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_url_is_read_from_the_environment() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let ran = run_with(&["doctor", "--pings", "1"], &[("MASTABA_URL", &url)]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains(&format!("127.0.0.1:{}", server.port())), "{}", ran.out);
}
