//! `get` and `explain`: what stands under a key, and why the next read is a hit or a miss.

use mastaba_test::servers::RedisServer;
use serde_json::Value;

use crate::binary::{json, run};
use crate::page::{check, steady_entry};
use crate::program::{BookById, Program};
use crate::shape::shape;

const KEY: &str = "mastaba:objects:book:7";

async fn verdict(url: &str) -> String {
    let found = json(url, &["explain", KEY], 0).await;
    found["prospect"]["verdict"].as_str().expect("a word").to_owned()
}

#[tokio::test]
async fn a_value_is_shown_with_its_header_in_words_and_its_payload_as_json() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let program = Program::start(&url).await;
    let empty = run(&["get", KEY, "--url", &url]).await;
    assert_eq!((empty.code, empty.err.as_str()), (1, ""), "{}", empty.out);
    assert!(empty.out.contains("nothing is stored there"), "{}", empty.out);

    program.sees(7).await;
    assert_eq!(program.cache.key_of::<BookById>(&7).unwrap(), KEY);
    let ran = run(&["get", KEY, "--url", &url]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    for part in [
        "a value",
        r#"{"title":"Book 7","version":0}"#,
        "59m",
        "\"books\" with the stamp",
        "a hit, fresh for",
    ] {
        assert!(ran.out.contains(part), "{part:?} is not in {}", ran.out);
    }
    check("get", &steady_entry(&ran.out));
    // by its parts the same
    let parts = ["get", "--region", "objects", "--source", "book", "7", "--url", &url];
    let by_parts = run(&parts).await;
    assert!(by_parts.out.contains(r#"{"title":"Book 7","version":0}"#), "{}{}", by_parts.out, by_parts.err);
    program.sees(1000).await;
    let absent = json(&url, &["get", "mastaba:objects:book:1000"], 0).await;
    assert_eq!((&absent["kind"], &absent["payload"]), (&Value::from("absence"), &Value::Null));
}

#[tokio::test]
async fn a_payload_without_names_is_shown_in_hexadecimal_and_says_why() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let db = std::sync::Arc::default();
    let _program = crate::program::unleased(&url, &db).await;
    let found = json(&url, &["get", "mastaba:objects:user:900"], 0).await;
    let payload = &found["payload"];
    assert_eq!(payload["json"], Value::Null);
    assert!(payload["why"].as_str().unwrap().contains("postcard"), "{payload}");
    // "user 90" stands in it
    assert!(payload["hex"].as_str().unwrap().replace(' ', "").contains("75736572203930"), "{payload}");
}

#[tokio::test]
async fn why_the_next_read_is_a_miss_is_said_whatever_the_reason() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let program = Program::start(&url).await;
    assert_eq!(verdict(&url).await, "nothing");
    program.sees(7).await;
    assert_eq!(verdict(&url).await, "fresh");
    program.cache.region("objects").invalidate_tag("books").await.unwrap();
    assert_eq!(verdict(&url).await, "tag-voided");
    check("explain", &steady_entry(&run(&["explain", KEY, "--url", &url]).await.out));
    program.sees(7).await;
    program.cache.region("objects").clear().await.unwrap();
    assert_eq!(verdict(&url).await, "cleared");
    program.sees(7).await;
    assert_eq!(server.command(&["UNLINK", "mastaba:objects:@generation"]).await, "1");
    assert_eq!(verdict(&url).await, "no-generation");
    let ran = run(&["explain", KEY, "--url", &url]).await;
    assert!(ran.out.contains("none: nothing of the region is valid"), "{}", ran.out);
    program.sees(7).await;
    server.command(&["SETRANGE", KEY, "60", "!"]).await;
    let ran = run(&["explain", KEY, "--url", &url]).await;
    assert!(ran.out.contains("a miss: the checksum of the entry does not match"), "{}", ran.out);
    assert_eq!(server.command(&["SET", KEY, "something that somebody else has put there"]).await, "OK");
    assert_eq!(verdict(&url).await, "foreign");
    // a lease, as it stands while somebody loads
    let incarnation =
        json(&url, &["explain", KEY], 0).await["prospect"]["store_incarnation"].as_str().unwrap().to_owned();
    let incarnation = u64::from_str_radix(&incarnation, 16).unwrap();
    let lease = |incarnation| mastaba::entry::lease(mastaba::entry::Fence(5), incarnation);
    assert_eq!(server.command(&[&b"SET"[..], KEY.as_bytes(), &lease(incarnation)[..]]).await, "OK");
    assert_eq!(verdict(&url).await, "leased");
    assert_eq!(server.command(&[&b"SET"[..], KEY.as_bytes(), &lease(incarnation ^ 1)[..]]).await, "OK");
    assert_eq!(verdict(&url).await, "other-store");
}

#[tokio::test]
async fn a_key_is_taken_with_its_prefix_and_without() {
    let Some(server) = RedisServer::start().await else { return };
    let url = format!("{}?prefix=shop:", server.url());
    let program = Program::start(&url).await;
    program.sees(7).await;
    let full = program.cache.key_of::<BookById>(&7).unwrap();
    assert_eq!(full, "shop:mastaba:objects:book:7");
    for key in [full.as_str(), KEY] {
        let found = json(&url, &["get", key], 0).await;
        assert_eq!(found["key"], full.as_str());
        assert_eq!(found["namespace"], "mastaba");
    }
    for wrong in ["7", "mastaba:objects:@generation", "objects:book:7"] {
        let ran = run(&["get", wrong, "--url", &url]).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""));
        assert!(
            ran.err.contains("namespace:region:source:key") || ran.err.contains("not the key of an entry"),
            "{}",
            ran.err
        );
    }
}

#[tokio::test]
async fn the_json_of_an_entry_has_one_shape() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let program = Program::start(&url).await;
    program.sees(7).await;
    let expected = [
        "/bytes number",
        "/foreign null",
        "/header/age_ms number",
        "/header/compressed_from_bytes null",
        "/header/created_ms number",
        "/header/fence string",
        "/header/format string",
        "/header/hard_ms number",
        "/header/incarnation string",
        "/header/load_cost_us number",
        "/header/of_this_store bool",
        "/header/schema string",
        "/header/soft_ms number",
        "/header/stamps string",
        "/key string",
        "/kind string",
        "/namespace string",
        "/payload/bytes number",
        "/payload/hex null",
        "/payload/json/title string",
        "/payload/json/version number",
        "/payload/why null",
        "/prospect/generation string",
        "/prospect/hit bool",
        "/prospect/sentence string",
        "/prospect/store_incarnation string",
        "/prospect/verdict string",
        "/prospect/write_stamp string",
        "/region string",
        "/source string",
        "/source_key string",
        "/tags/0/holds bool",
        "/tags/0/stamp string",
        "/tags/0/tag string",
    ];
    for task in ["get", "explain"] {
        assert_eq!(shape(&json(&url, &[task, KEY], 0).await), expected, "{task}");
    }
}
