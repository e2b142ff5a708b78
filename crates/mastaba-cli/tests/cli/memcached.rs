//! Every command over Memcached.

use mastaba_test::servers::{MemcachedBuilder, MemcachedServer};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::binary::{Ran, json, run};
use crate::page::{check, steady_memcached};
use crate::program::{LONG_TAG, Program};
use crate::shape::{advised, shape};

const KEY: &str = "mastaba:objects:book:7";

fn url_of(servers: &[&MemcachedServer]) -> String {
    let names: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
    format!("memcached://{}", names.join(","))
}

async fn doctor(url: &str) -> Ran {
    run(&["doctor", "--pings", "20", "--url", url]).await
}

async fn diagnosis(url: &str, code: i32) -> Value {
    json(url, &["doctor", "--pings", "20"], code).await
}

async fn verdict(url: &str) -> String {
    let found = json(url, &["explain", KEY], 0).await;
    found["prospect"]["verdict"].as_str().expect("a word").to_owned()
}

#[tokio::test]
async fn a_server_as_it_comes_has_nothing_to_change_and_nothing_is_changed() {
    let Some(server) = MemcachedServer::start().await else { return };
    let url = url_of(&[&server]);
    assert_eq!(advised(&diagnosis(&url, 0).await), []);
    assert_eq!(server.stats("").await["total_items"], "0", "a doctor stores nothing");
    let program = Program::over_memcached(&url).await;
    program.sees(7).await;
    let ran = doctor(&url).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    check("memcached", &steady_memcached(&ran.out, &[server.port()]));
}

#[tokio::test]
async fn a_server_of_the_list_that_is_down_is_a_problem_and_the_others_are_examined() {
    let shape = MemcachedServer::builder;
    let (Some(first), Some(second)) = (shape().start().await, shape().start().await) else { return };
    let url = url_of(&[&first, &second]);
    let program = Program::over_memcached(&url).await;
    program.sees(7).await;
    assert_eq!(advised(&diagnosis(&url, 0).await), []);
    second.stop().await;
    let ran = doctor(&url).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{}", ran.out);
    check("memcached-list", &steady_memcached(&ran.out, &[first.port(), second.port()]));
    let found = diagnosis(&url, 1).await;
    assert_eq!(advised(&found), [("problem", "server")]);
    assert_eq!((&found["servers"][0]["down"], &found["servers"][1]["version"]), (&Value::Null, &Value::Null));
    assert!(found["servers"][1]["down"].as_str().unwrap().contains("cannot be reached"));
    first.stop().await;
    let ran = doctor(&url).await;
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
    assert!(ran.err.contains("cannot be reached"), "{}", ran.err);
}

/// An operator with a wrong list takes no server from those who have the right one.
#[tokio::test]
async fn another_list_of_servers_is_a_problem_and_stays() {
    let shape = MemcachedServer::builder;
    let (Some(first), Some(second)) = (shape().start().await, shape().start().await) else { return };
    let program = Program::over_memcached(&url_of(&[&first, &second])).await;
    program.sees(7).await;
    let wrong = url_of(&[&first]);
    let found = diagnosis(&wrong, 1).await;
    assert_eq!(advised(&found), [("problem", "list of servers")]);
    assert_eq!(found["servers"][0]["list"], "another");
    for words in [&["get", KEY][..], &["explain", KEY], &["invalidate", KEY], &["clear", "objects"]] {
        let refused = json(&wrong, words, 2).await;
        assert_eq!(refused["kind"], "refused", "{words:?}");
        assert!(refused["error"].as_str().unwrap().contains("another list of servers"), "{refused}");
    }
    // the program would have noticed by now
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    let right = url_of(&[&second, &first]);
    assert_eq!(diagnosis(&right, 0).await["servers"][0]["list"], "this");
    assert_eq!(verdict(&right).await, "fresh");
}

#[tokio::test]
async fn settings_that_cost_something_are_advised_on() {
    let of = async |shape: MemcachedBuilder, code| {
        let server = shape.start().await?;
        let found = diagnosis(&url_of(&[&server]), code).await;
        Some(advised(&found).into_iter().map(|(level, about)| format!("{level} {about}")).collect::<Vec<_>>())
    };
    let shape = MemcachedServer::builder;
    let Some(never) = of(shape().arguments(["-M"]), 1).await else { return };
    assert_eq!(never, ["problem eviction"]);
    let small = shape().item_size(512).arguments(["-o", "idle_timeout=1"]);
    assert_eq!(of(small, 0).await.unwrap(), ["warning item size", "warning idle timeout"]);
    let Some(server) = shape().arguments(["-C"]).start().await else { return };
    let ran = doctor(&url_of(&[&server])).await;
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
    assert!(ran.err.contains("no CAS numbers") && ran.err.contains("leave -C out"), "{}", ran.err);
}

#[tokio::test]
async fn an_old_version_is_refused_as_the_library_refuses_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("memcached://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut stream, mut line) = (BufReader::new(stream), String::new());
            let _ = stream.read_line(&mut line).await;
            let _ = stream.write_all(b"VERSION 1.5.22\r\n").await;
        }
    });
    let refused = json(&url, &["doctor"], 2).await;
    assert_eq!(refused["kind"], "refused");
    assert!(refused["error"].as_str().unwrap().contains("1.6.18 or later is needed"), "{refused}");
}

#[tokio::test]
async fn what_stands_under_a_key_is_shown_explained_and_voided() {
    let Some(server) = MemcachedServer::start().await else { return };
    let url = format!("{}?prefix=shop:", url_of(&[&server]));
    let program = Program::over_memcached(&url).await;
    assert_eq!(json(&url, &["get", KEY], 1).await["kind"], Value::Null);
    assert_eq!(verdict(&url).await, "nothing");
    program.sees(7).await;
    let found = json(&url, &["get", "shop:mastaba:objects:book:7"], 0).await;
    assert_eq!((&found["kind"], &found["key"]), (&json!("value"), &json!("shop:mastaba:objects:book:7")));
    assert_eq!(found["payload"]["json"], json!({"title": "Book 7", "version": 0}));
    assert_eq!(verdict(&url).await, "fresh");
    let ran = run(&["get", KEY, "--url", &url]).await;
    assert!(ran.out.contains("a hit, fresh for"), "{}", ran.out);

    for (words, before, after) in [
        (&["invalidate", KEY][..], "fresh", "nothing"),
        (&["clear", "objects", "--tag", "books"], "fresh", "tag-voided"),
        (&["clear", "objects"], "fresh", "cleared"),
    ] {
        program.sees(7).await;
        assert_eq!(verdict(&url).await, before, "{words:?}");
        program.change();
        let version = program.sees(7).await;
        json(&url, words, 0).await;
        assert_eq!(verdict(&url).await, after, "{words:?}");
        assert_eq!(program.sees(7).await, version + 1, "{words:?}");
    }
    // the library has it under a hash
    let long = format!("mastaba:objects:book:{}", "7".repeat(180));
    for words in [["get", &long], ["explain", &long], ["invalidate", &long]] {
        let refused = json(&url, &words, 2).await;
        assert_eq!(refused["kind"], "config", "{words:?}");
        assert!(refused["error"].as_str().unwrap().contains("longer than the 200"), "{refused}");
    }
    json(&url, &["invalidate", &long[..200]], 0).await;
    // the load that holds it is not stored
    let lease = mastaba::entry::lease(mastaba::entry::Fence(5), 9);
    let length = lease.len();
    let set = [format!("ms shop:{KEY} {length}\r\n").as_bytes(), &lease[..], b"\r\n"].concat();
    server.call(&set).await.unwrap();
    let done = json(&url, &["invalidate", KEY], 0).await;
    assert_eq!(done[0]["keys"][0]["before"], "lease");
    assert_eq!(json(&url, &["invalidate", KEY], 0).await[0]["keys"][0]["before"], Value::Null);
}

/// The name is told as unknown each time: asking for it does not make it known.
#[tokio::test]
async fn a_region_that_nobody_has_is_not_said_to_be_void() {
    let Some(server) = MemcachedServer::start().await else { return };
    let url = url_of(&[&server]);
    let program = Program::over_memcached(&url).await;
    program.sees(7).await;
    for _ in 0..2 {
        let done = json(&url, &["clear", "object"], 1).await;
        assert_eq!(done[0]["region_known"], false);
        let ran = run(&["clear", "object", "--url", &url]).await;
        assert_eq!((ran.code, ran.err.as_str()), (1, ""));
        assert!(ran.out.contains("NOT FOUND") && ran.out.contains("lru_crawler metadump all"), "{}", ran.out);
    }
    let items = server.command("mg mastaba:object:@generation s\r\n").await;
    assert_eq!(items, "EN\r\n", "a name that nobody has leaves nothing behind");
    assert_eq!(json(&url, &["clear", "objects"], 0).await[0]["region_known"], true);
}

/// What nobody may use is not said to be void: a wrong prefix looks so, and a server that has lost everything.
#[tokio::test]
async fn what_is_voided_where_nobody_has_a_list_is_not_confirmed() {
    let Some(server) = MemcachedServer::start().await else { return };
    let url = url_of(&[&server]);
    let program = Program::over_memcached(&url).await;
    program.sees(7).await;
    let wrong = format!("{url}?prefix=shop:");
    for words in [&["invalidate", KEY][..], &["clear", "objects"], &["clear", "objects", "--tag", "films"]] {
        let refused = json(&wrong, words, 2).await;
        assert_eq!(refused["kind"], "unconfirmed", "{words:?}");
        assert!(refused["error"].as_str().unwrap().contains("no list of servers is known"), "{refused}");
    }
    for key in ["shop:mastaba:objects:@generation", "shop:mastaba:objects:#films"] {
        assert_eq!(server.command(&format!("mg {key} s\r\n")).await, "EN\r\n", "{key}");
    }
    assert_eq!(verdict(&url).await, "fresh");
    json(&url, &["clear", "objects", "--tag", "films"], 0).await;
    json(&url, &["invalidate", KEY], 0).await;
}

#[tokio::test]
async fn the_json_has_one_shape() {
    let Some(server) = MemcachedServer::start().await else { return };
    let url = url_of(&[&server]);
    Program::over_memcached(&url).await.sees(7).await;
    let found = shape(&diagnosis(&url, 0).await);
    let servers: Vec<_> = found.iter().filter(|at| at.starts_with("/servers/")).collect();
    let expected = [
        "/servers/0/clock_ahead_ms number",
        "/servers/0/connections number",
        "/servers/0/connections_limit number",
        "/servers/0/connections_refused number",
        "/servers/0/down null",
        "/servers/0/evicted_keys number",
        "/servers/0/eviction string",
        "/servers/0/idle_timeout_s number",
        "/servers/0/item_size_max_bytes number",
        "/servers/0/items number",
        "/servers/0/list string",
        "/servers/0/memory_file string",
        "/servers/0/memory_limit_bytes number",
        "/servers/0/memory_used_bytes number",
        "/servers/0/moves_memory bool",
        "/servers/0/place string",
        "/servers/0/software string",
        "/servers/0/uptime_s number",
        "/servers/0/version string",
    ];
    assert_eq!(servers, expected);
}

/// The key of a stamp that would be too long for the store is a hash, for a person as for a program.
#[tokio::test]
async fn the_stamp_of_a_long_tag_is_found() {
    let Some(server) = MemcachedServer::start().await else { return };
    let url = url_of(&[&server]);
    Program::over_memcached(&url).await.sees(8).await;
    let verdict = async || {
        let found = json(&url, &["explain", "mastaba:objects:book:8"], 0).await;
        found["prospect"]["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict().await, "fresh");
    let tag: String = LONG_TAG.iter().collect();
    let done = json(&url, &["clear", "objects", "--tag", &tag], 0).await;
    assert_eq!((&done[0]["tags_unknown"], verdict().await), (&json!([]), "tag-voided".to_owned()));
}
