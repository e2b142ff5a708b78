//! A password is never repeated: not in an error, not in JSON, not in what was found, and neither as it was written nor as it is meant.

use mastaba_test::servers::RedisServer;

use crate::binary::{Ran, run, run_with};
use crate::imposter::Imposter;

/// `p:HUN@TER/?#1`, as it has to be written in a URL.
const WRITTEN: &str = "p%3AHUN%40TER%2F%3F%231";
const MEANT: &str = "p:HUN@TER/?#1";

fn repeats_nothing(ran: &Ran, of: &str) {
    let all = format!("{}{}", ran.out, ran.err);
    for piece in [MEANT, WRITTEN, "HUN", "TER/", "TER%2F", "TER\\/", "=abc"] {
        assert!(!all.contains(piece), "{of}: {piece} is in {all}");
    }
}

/// With and without `--json`.
async fn fails(words: &[&str], variables: &[(&str, &str)]) {
    for more in [&[][..], &["--json"]] {
        let words = [words, more].concat();
        let ran = run_with(&words, variables).await;
        assert_eq!(ran.code, 2, "{words:?}: {}", ran.out);
        repeats_nothing(&ran, &words.join(" "));
    }
}

#[tokio::test]
async fn a_url_where_none_belongs_is_not_repeated() {
    for url in [
        format!("redis://cache:{WRITTEN}@127.0.0.1:1"),
        format!("memcached://cache:{WRITTEN}@127.0.0.1:1"),
        format!("redis-sentinel://h/m?sentinel_password={WRITTEN}"),
        "redis-sentinel://h/m?sentinel_password=abc".to_owned(),
        "redis://h?password=abc".to_owned(),
        "HUNTER2@h:1".to_owned(),
    ] {
        let set = &[("MASTABA_URL", "redis://127.0.0.1:1?connect_timeout=300ms")];
        for words in [
            &["doctor", &url][..],
            &["doctor", "--pings", &url],
            &["doctor", &format!("--pings={url}")],
            &[&url],
            &["get", "mastaba:objects:book:7", &url],
            &["get", "7", "--source", &url],
            &[&format!("--json={url}"), "doctor"],
        ] {
            fails(words, set).await;
        }
    }
}

/// Once the server is there, what belongs to it is said wrongly.
#[tokio::test]
async fn a_url_for_a_name_or_a_key_is_neither_repeated_nor_stored() {
    let Some(server) = RedisServer::start().await else { return };
    let at = server.url();
    let set = &[("MASTABA_URL", at.as_str())];
    for url in
        [format!("redis://cache:{WRITTEN}@h"), format!("redis-sentinel://h?sentinel_password={WRITTEN}")]
    {
        for words in [
            &["get", &url][..],
            &["get", "mastaba:objects:book:7", "--fixed-tags", &url],
            &["explain", &url],
            &["invalidate", "mastaba:objects:book:7", &url],
            &["get", "7", "--region", &url, "--source", "book"],
            &["get", "7", "--region", "objects", "--source", &url],
            &["clear", &url],
            &["clear", "objects", "--namespace", &url],
            &["clear", "objects", "--tag", &url],
        ] {
            fails(words, set).await;
        }
    }
    assert_eq!(server.command(&["KEYS", "*"]).await, "", "nothing is stored");
}

#[tokio::test]
async fn a_url_that_is_wrong_is_not_repeated() {
    for url in [
        format!("redis:/cache:{WRITTEN}@h"),
        format!("redi://cache:{WRITTEN}@h"),
        format!("redis://cache:{WRITTEN}@h:port"),
        format!("redis://cache:{WRITTEN}@h/first"),
        format!("redis://cache:{WRITTEN}@h?tls={WRITTEN}"),
        format!("redis://h?colour={WRITTEN}"),
        format!("redis://cache:{MEANT}@h"),
        format!("redis-cluster://cache:{WRITTEN}@"),
        format!("redis-sentinel://cache:{WRITTEN}@h"),
        format!("redis://127.0.0.1:1?password={WRITTEN}&connect_timeout=300ms"),
        format!("memcached://cache:{WRITTEN}@h"),
        format!("memcached://h?password={WRITTEN}"),
        format!("memcached://h?colour={WRITTEN}"),
    ] {
        fails(&["doctor", "--url", &url], &[]).await;
        fails(&["doctor"], &[("MASTABA_URL", &url)]).await;
    }
}

/// Some servers repeat what they were sent, and they were sent the password.
#[tokio::test]
async fn what_a_server_repeats_is_not_repeated() {
    let service = Imposter::echo().await;
    let url = format!("redis://cache:{WRITTEN}@{}", service.addr());
    fails(&["doctor", "--url", &url], &[]).await;
    fails(&["get", "mastaba:objects:book:7", "--url", &url], &[]).await;
}

#[tokio::test]
async fn a_password_that_is_right_is_in_nothing_that_is_found() {
    let Some(server) = RedisServer::builder().password(MEANT).start().await else { return };
    let url = format!("redis://:{WRITTEN}@{}", server.addr());
    for words in [
        &["doctor", "--pings", "1"][..],
        &["get", "mastaba:objects:book:7"],
        &["explain", "mastaba:objects:book:7"],
        &["invalidate", "mastaba:objects:book:7"],
        &["clear", "objects"],
    ] {
        for more in [&[][..], &["--json"]] {
            let words = [words, &["--url", &url], more].concat();
            let ran = run(&words).await;
            assert_ne!(ran.code, 2, "{}{}", ran.out, ran.err);
            repeats_nothing(&ran, words[0]);
        }
    }
}
