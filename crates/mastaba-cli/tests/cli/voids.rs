//! `invalidate` and `clear`: as safe as a write of a program, whatever that does meanwhile.

use std::sync::Arc;

use mastaba_test::servers::RedisServer;
use mastaba_test::world::{Db, UserById};
use serde_json::Value;

use crate::binary::{json, run};
use crate::page::{check, steady_entry};
use crate::program::{Program, unleased};
use crate::shape::shape;

const KEY: &str = "mastaba:objects:book:7";

async fn does(url: &str, words: &[&str]) -> Value {
    json(url, words, 0).await
}

/// There is no region of this name.
async fn misses(url: &str, words: &[&str]) -> Value {
    json(url, words, 1).await
}

/// The record is really changed, so the server tells near of every process (`R13`).
#[tokio::test]
async fn near_of_a_running_process_is_told_of_what_a_person_voids() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let program = Program::start(&url).await;
    for words in [&["invalidate", KEY][..], &["clear", "objects", "--tag", "books"], &["clear", "objects"]] {
        program.warm(7).await;
        let before = program.sees(7).await;
        program.change();
        assert_eq!(program.sees(7).await, before, "nobody was told");
        does(&url, words).await;
        assert_eq!(program.sees(7).await, before + 1, "{words:?}");
    }
    // a region of another namespace, and another tag, are not this one
    program.warm(7).await;
    let before = program.sees(7).await;
    program.change();
    misses(&url, &["clear", "objects", "--namespace", "shop"]).await;
    does(&url, &["clear", "objects", "--tag", "films"]).await;
    does(&url, &["invalidate", "mastaba:objects:book:8"]).await;
    assert_eq!(program.sees(7).await, before);
}

/// `R16`: the load that is under way without a lease finds another write stamp, and its old row is not stored.
#[tokio::test]
async fn a_load_without_a_lease_that_began_before_is_not_stored_after() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let db = Arc::<Db>::default();
    let (cache, _control) = unleased(&url, &db).await;
    let gate = db.close_gate();
    let request = cache.request();
    let asks = request.clone();
    let get = tokio::spawn(async move { asks.get::<UserById>(1).await.unwrap().unwrap().version });
    gate.arrived(1).await;
    gate.only_those_here();
    db.update(1);
    let done = does(&url, &["invalidate", "mastaba:objects:user:1"]).await;
    assert_eq!(done[0]["keys"][0]["before"], Value::Null, "no lease stands there");
    gate.open_for_good();
    assert_eq!(get.await.unwrap(), 0, "it had read the old row");
    cache.idle().await;
    let unleased: u64 = request.report().outcomes.iter().map(|outcomes| outcomes.unleased).sum();
    assert_eq!(unleased, 1, "{}", request.report());
    assert_eq!(server.command(&["EXISTS", "mastaba:objects:user:1"]).await, "0", "the old row was stored");
    assert_eq!(cache.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn a_load_under_a_lease_that_began_before_is_not_stored_after() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let program = Program::start(&url).await;
    program.sees(1).await; // so that there is a generation
    let lease = mastaba::entry::lease(mastaba::entry::Fence(5), 9);
    assert_eq!(server.command(&[&b"SET"[..], KEY.as_bytes(), &lease[..]]).await, "OK");
    let done = does(&url, &["invalidate", KEY]).await;
    assert_eq!(done[0]["keys"][0]["before"], "lease");
    assert_eq!(server.command(&["EXISTS", KEY]).await, "0");
}

#[tokio::test]
async fn what_was_done_is_said() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let program = Program::start(&url).await;
    program.sees(7).await;
    let ran =
        run(&["invalidate", KEY, "mastaba:objects:book:8", "mastaba:pages:home:()", "--url", &url]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    for part in [
        "mastaba:objects\n",
        "book:7: voided: a value",
        "book:8: nothing stood there",
        "mastaba:pages\n",
        "confirmed",
    ] {
        assert!(ran.out.contains(part), "{part:?} is not in {}", ran.out);
    }
    check("invalidate", &steady_entry(&ran.out));
    let expected = [
        "/0/cleared bool",
        "/0/keys/0/before null",
        "/0/keys/0/key string",
        "/0/namespace string",
        "/0/region string",
        "/0/region_known null",
        "/0/took_us number",
    ];
    assert_eq!(shape(&does(&url, &["invalidate", KEY]).await), expected);
    let cleared = does(&url, &["clear", "objects", "--tag", "a", "--tag", "b"]).await;
    assert_eq!(
        (&cleared[0]["tags"], &cleared[0]["cleared"]),
        (&serde_json::json!(["a", "b"]), &Value::from(false))
    );
    assert_eq!(server.command(&["STRLEN", "mastaba:objects:@tags"]).await, "8");
    for key in ["mastaba:objects:#a", "mastaba:objects:#b"] {
        assert_eq!(
            server.command(&["STRLEN", key]).await,
            "0",
            "nobody has it, and it is not left behind: {key}"
        );
    }
    let books = async || server.command(&["GET", "mastaba:objects:#books"]).await;
    let before = books().await;
    does(&url, &["clear", "objects", "--tag", "books"]).await;
    let after = books().await;
    assert!(after != before && !after.is_empty(), "one that somebody has stays, renewed");
}

/// Not confirmed is never said to be done.
#[tokio::test]
async fn what_the_store_does_not_confirm_is_an_error() {
    let shape = RedisServer::builder().user("cache", "on >secret ~shop:* %R~mastaba:* -@all +info +mget +get +getrange +set +unlink +pttl +eval +evalsha +ping +client|tracking");
    let Some(server) = shape.start().await else { return };
    let url = server.url().replace("redis://", "redis://cache:secret@");
    let ran = run(&["clear", "objects", "--url", &url]).await;
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
    assert!(ran.err.contains("not confirmed") && ran.err.contains("permission"), "{}", ran.err);
    let ran = run(&["clear", "objects", "--namespace", "shop", "--url", &url]).await;
    assert_eq!(ran.code, 1, "it is void, and nobody has one of this name: {}", ran.err);
    let names = run(&["clear", "ob jects", "--url", &url]).await;
    assert_eq!((names.code, names.out.as_str()), (2, ""), "{}", names.err);
}

/// Nobody has a region of this name, as far as the store knows: it is misspelt, most of the time.
#[tokio::test]
async fn a_region_that_nobody_has_is_not_said_to_be_void() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let program = Program::start(&url).await;
    program.sees(7).await;
    let before = server.command(&["DBSIZE"]).await;
    // asking for it does not make it known
    for _ in 0..2 {
        let ran = run(&["clear", "object", "--url", &url]).await;
        assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{}", ran.out);
        for part in ["NOT FOUND", "is the name right", "--scan --pattern 'mastaba:*:@generation'"] {
            assert!(ran.out.to_lowercase().contains(&part.to_lowercase()), "{part:?} is not in {}", ran.out);
        }
        assert!(!ran.out.contains("are void"), "{}", ran.out);
        let done = misses(&url, &["clear", "object"]).await;
        assert_eq!(
            (&done[0]["region_known"], &done[0]["cleared"]),
            (&Value::from(false), &Value::from(true))
        );
    }
    assert_eq!(server.command(&["DBSIZE"]).await, before, "a name that nobody has leaves nothing behind");
    let done = does(&url, &["clear", "objects", "--tag", "books", "--tag", "boks"]).await;
    assert_eq!(
        (&done[0]["region_known"], &done[0]["tags_unknown"]),
        (&Value::from(true), &serde_json::json!(["boks"]))
    );
    let ran = run(&["clear", "objects", "--tag", "bokks", "--url", &url]).await;
    assert!(ran.out.contains("bokks: the store knows no such tag"), "{}", ran.out);
}

/// A region whose stamp is gone is void, and is not known: then a load that is under way is refused all the same.
#[tokio::test]
async fn a_region_that_is_not_known_is_cleared_all_the_same() {
    let Some(server) = RedisServer::start().await else { return };
    let url = server.url();
    let program = Program::start(&url).await;
    program.warm(7).await;
    server.command(&["UNLINK", "mastaba:objects:@generation"]).await;
    program.change();
    misses(&url, &["clear", "objects"]).await;
    assert_eq!(program.sees(7).await, 1);
}
