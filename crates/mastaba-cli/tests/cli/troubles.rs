//! What could not be looked at: one clear sentence, exit code 2, and never a password.

use mastaba_test::servers::RedisServer;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::binary::{Ran, run, run_with};

async fn fails(arguments: &[&str], sentence: &str) -> Ran {
    let ran = run(arguments).await;
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
    assert!(ran.err.contains(sentence), "{:?} is not in {}", sentence, ran.err);
    assert!(!ran.err.contains("HUNTER"), "{}", ran.err);
    ran
}

#[tokio::test]
async fn arguments_that_cannot_be_understood_are_said_without_a_password() {
    fails(&["doctor"], "Give --url redis://host:6379 or memcached://host:11211, or set MASTABA_URL").await;
    fails(&["doctor", "--url", "localhost"], "has no scheme").await;
    fails(&["doctor", "--url", "http://:HUNTER@localhost"], "none of ours").await;
    fails(&["doctor", "--url", "redis://:HUNTER@localhost/first"], "no number").await;
    // where no URL belongs
    fails(&["doctor", "redis://:HUNTER@localhost"], "unexpected argument").await;
    let ran = run_with(&["doctor", "--help"], &[("MASTABA_URL", "redis://:HUNTER@localhost")]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("MASTABA_URL") && !ran.out.contains("HUNTER"), "{}", ran.out);
}

#[tokio::test]
async fn nobody_there_is_one_sentence() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ran = fails(&["doctor", "--url", &format!("redis://:HUNTER@{free}")], "cannot be reached").await;
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    let ran = run(&["doctor", "--json", "--url", &format!("redis://:HUNTER@{free}")]).await;
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, ran.err.as_str(), &json["kind"]), (2, "", &Value::from("unreachable")));
    assert!(json["error"].as_str().unwrap().contains("cannot be reached"));
}

#[tokio::test]
async fn what_is_no_redis_is_one_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 512]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let ran =
        fails(&["doctor", "--url", &format!("redis://{at}")], "does not speak the protocol of Redis").await;
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[tokio::test]
async fn who_does_not_answer_is_waited_for_and_no_longer_than_the_library_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let begun = std::time::Instant::now();
    fails(&["doctor", "--url", &format!("redis://{at}?connect_timeout=300ms")], "cannot be reached").await;
    assert!(begun.elapsed().as_secs() < 10);
    drop(listener);
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let Some(server) = RedisServer::builder().password("right").start().await else { return };
    let at = server.addr();
    let ran =
        fails(&["doctor", "--url", &format!("redis://:HUNTER@{at}")], "refuses the username or the password")
            .await;
    assert!(!ran.err.contains("right\""), "{}", ran.err);
    fails(&["doctor", "--url", &format!("redis://{at}")], "asks for a password").await;
    let json = run(&["doctor", "--json", "--url", &format!("redis://{at}")]).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["kind"], "refused");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_with_what_to_give() {
    let shape = RedisServer::builder().user("cache", "on >secret ~mastaba:* -@all +info +mget +get +ping");
    let Some(server) = shape.start().await else { return };
    let url = server.url().replace("redis://", "redis://cache:secret@");
    let ran = fails(&["doctor", "--url", &url], "lacks the right to").await;
    assert!(ran.err.contains("ACL SETUSER cache") && !ran.err.contains("secret"), "{}", ran.err);
}
