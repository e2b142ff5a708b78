use std::path::PathBuf;
use std::process::Output;

use mastaba_test::servers::resp::Connection;
use mastaba_test::servers::{Certificates, Program, RedisServer, missing};
use tokio::process::Command;

use super::limited;

/// `redis-cli` speaks TLS, and comes with the server.
async fn ping(server: &RedisServer, ca: PathBuf, own: Option<&Certificates>) -> Output {
    let mut command = Command::new(Program::RedisCli.find().expect("it was there before"));
    command.args(["-h", "localhost", "-p", &server.port().to_string(), "--tls", "--cacert"]).arg(ca);
    if let Some(own) = own {
        command.arg("--cert").arg(own.client_certificate()).arg("--key").arg(own.client_key());
    }
    command.arg("PING").kill_on_drop(true).output().await.expect("redis-cli can be run")
}

fn ponged(output: &Output) -> bool {
    output.stdout == b"PONG\n"
}

#[tokio::test]
async fn tls_lets_in_who_shows_a_certificate_and_nobody_else() {
    limited(async {
        if missing(&[Program::RedisCli]) {
            return;
        }
        let Some(server) = RedisServer::builder().tls().start().await else { return };
        let Some(other) = RedisServer::builder().tls().start().await else { return };
        assert_eq!(server.url(), format!("rediss://127.0.0.1:{}", server.port()));
        let (own, strange) = (server.certificates().unwrap(), other.certificates().unwrap());
        let output = ping(&server, own.ca(), Some(own)).await;
        assert!(ponged(&output), "{output:?}");
        assert!(!ponged(&ping(&server, own.ca(), None).await), "without a certificate");
        assert!(!ponged(&ping(&server, own.ca(), Some(strange)).await), "with that of a stranger");
        assert!(!ponged(&ping(&server, strange.ca(), Some(own)).await), "by a client that trusts others");
        let mut plain = Connection::open(server.addr()).await.unwrap();
        assert!(plain.call(&["PING"]).await.is_err());
        assert_eq!(server.command(&["PING"]).await, "PONG", "the test itself is let in");
    })
    .await;
}

#[tokio::test]
async fn tls_for_all_asks_nobody_for_a_certificate_but_is_never_plain() {
    limited(async {
        if missing(&[Program::RedisCli]) {
            return;
        }
        let Some(server) = RedisServer::builder().tls_for_all().start().await else { return };
        let output = ping(&server, server.certificates().unwrap().ca(), None).await;
        assert!(ponged(&output), "{output:?}");
        let mut plain = Connection::open(server.addr()).await.unwrap();
        assert!(plain.call(&["PING"]).await.is_err());
    })
    .await;
}
