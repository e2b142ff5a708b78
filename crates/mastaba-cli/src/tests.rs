//! What no server shows within a test's time.

use std::future::pending;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::args::Args;
use crate::run;

/// A Memcached that answers each line by what it is told for its first word, and from then on nothing any more.
async fn falls_silent(answers: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut stream, mut line) = (BufReader::new(stream), String::new());
                for (asked, answer) in answers {
                    line.clear();
                    stream.read_line(&mut line).await.unwrap();
                    assert!(line.starts_with(asked), "{line:?} is no {asked}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                pending::<()>().await;
            });
        }
    });
    // no timeout of the library comes first
    format!("memcached://{addr}?connect_timeout=2h")
}

/// In place of 30 seconds.
const PATIENCE: Duration = Duration::from_millis(300);
const KEY: &str = "mastaba:objects:book:7";
const COMMANDS: [&[&str]; 5] = [
    &["doctor", "--pings", "1"],
    &["get", KEY],
    &["explain", KEY],
    &["invalidate", KEY],
    &["clear", "objects"],
];

async fn ends_when_its_patience_does(words: &[&str], url: &str) {
    let words = [&["mastaba"], words, &["--url", url]].concat();
    let args = Args::try_parse_from(&words).unwrap();
    let begun = Instant::now();
    let ended = timeout(Duration::from_secs(60), run(&args, PATIENCE)).await.expect("it waits for ever");
    let Err(trouble) = ended else { panic!("{words:?} has an answer") };
    let json = serde_json::to_value(&trouble).unwrap();
    assert_eq!(json["error"], "the server accepts connections, and does not answer", "{words:?}");
    assert_eq!(json["kind"], "unreachable");
    assert!(begun.elapsed() >= PATIENCE, "{words:?} took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_not_waited_for_for_ever() {
    let url = falls_silent(&[]).await;
    for words in COMMANDS {
        ends_when_its_patience_does(words, &url).await;
    }
}

/// The look before a change has no budget of the library.
#[tokio::test]
async fn a_server_that_falls_silent_once_it_was_greeted_is_not_waited_for_for_ever() {
    let greeting = &[
        ("version", "VERSION 1.6.38\r\n"),
        ("stats settings", "END\r\n"),
        ("mg mastaba@servers", "EN\r\n"),
        ("mg mastaba@quiet", "EN\r\n"),
    ];
    let url = falls_silent(greeting).await;
    for words in COMMANDS {
        ends_when_its_patience_does(words, &url).await;
    }
}
