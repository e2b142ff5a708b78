//! What a program is told at start: one sentence that names the server, and what to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mastaba::{Cache, Tier};
use mastaba_memcached::{ConnectError, Memcached, MemcachedConfig};
use mastaba_test::servers::MemcachedServer;
use mastaba_test::world::{Db, UserById};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::common::{Process, limited, until, url};

async fn refused(url: &str) -> ConnectError {
    let mut config = MemcachedConfig::from_url(url).unwrap();
    config.connect_timeout = Duration::from_millis(500);
    Memcached::connect(config).await.unwrap_err()
}

/// What answers each line with the same words.
pub(crate) async fn stand_in(words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                if stream.write_all(words.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    addr
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_named_with_what_to_do() {
    limited(async {
        for (words, part) in [
            ("VERSION 1.6.9\r\n", "has the version 1.6.9, and 1.6.18 or later is needed"),
            ("VERSION 1.5.22-ubuntu\r\n", "and 1.6.18 or later is needed"),
            ("VERSION mcrouter 2\r\n", "or later is needed"),
            ("CLIENT_ERROR unauthenticated\r\n", "asks for a password"),
            ("-ERR unknown command\r\n", "does not answer like a Memcached"),
            ("VERSION 1.6.30\r\nERROR\r\n", "a proxy cannot be used"),
        ] {
            let addr = stand_in(words).await;
            let error = refused(&format!("memcached://{addr}")).await;
            assert!(error.is_refused(), "{error}");
            assert!(
                error.to_string().contains(&addr.to_string()) && error.to_string().contains(part),
                "{error}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn settings_of_a_real_server_that_do_not_do_are_named() {
    limited(async {
        let Some(server) = MemcachedServer::builder().arguments(["-C"]).start().await else { return };
        let error = refused(&url(&server)).await;
        assert!(error.is_refused() && error.to_string().contains("leave -C out"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn who_does_not_answer_is_named() {
    limited(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap();
        let error = refused(&format!("memcached://{silent}")).await;
        assert!(
            error.is_unreachable() && error.to_string().contains("does not answer within 500ms"),
            "{error}"
        );
        drop(listener);
        let error = refused(&format!("memcached://{silent}")).await;
        assert!(error.is_unreachable() && error.to_string().contains("is it running"), "{error}");
        assert!(error.to_string().contains(&silent.to_string()), "{error}");
    })
    .await;
}

#[tokio::test]
async fn an_optional_server_may_come_later() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        server.stop().await;
        let db = Arc::new(Db::default());
        let process = Process::start(&format!("{}?at_start=optional", url(&server)), &db).await;
        assert_eq!(process.finds(1).await, (0, Tier::Source));
        server.restart().await;
        assert_eq!(process.warm(1).await, 0);
        until("a write", async || process.write(1).await.is_ok()).await;
        assert_eq!(process.warm(1).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_configuration_opens_it_and_near_is_refused() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        let settings = |more: &str| {
            let url = url(&server);
            format!("[cache.objects]\nbackend = \"memcached\"\narguments = {{ url = \"{url}\", prefix = \"shop:\" }}\n{more}")
        };
        let open = async |more: &str| {
            let cache = Cache::from_toml(&settings(more)).backend("memcached", mastaba_memcached::open);
            cache.source(UserById(Arc::new(Db::default()))).build().await
        };
        let cache = open("").await.unwrap();
        assert_eq!(cache.key_of::<UserById>(&7).unwrap(), "shop:mastaba:objects:user:7");
        cache.request().get::<UserById>(7).await.unwrap();
        cache.idle().await;
        assert!(server.command("mg shop:mastaba:objects:user:7 s\r\n").await.starts_with("HD"));
        for servers in ["cache:secret@h", "memcached://cache:secret@h", "secret@h:port"] {
            let settings = format!(
                "[cache.objects]\nbackend = \"memcached\"\narguments = {{ servers = \"{servers}\" }}\n"
            );
            let cache = Cache::from_toml(&settings).backend("memcached", mastaba_memcached::open);
            let error = cache.source(UserById(Arc::new(Db::default()))).build().await.unwrap_err();
            assert!(error.to_string().contains("it takes hosts alone"), "{error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
        let error = open("near = { max_entries = 10 }").await.unwrap_err();
        assert!(error.is_config() && error.to_string().contains("memcached does not"), "{error}");
    })
    .await;
}

#[test]
fn a_runtime_that_lacks_something_is_told_what_to_call() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let config = MemcachedConfig::from_url("memcached://127.0.0.1:1").unwrap();
    let error = runtime.block_on(Memcached::connect(config)).unwrap_err();
    assert!(error.is_config() && error.to_string().contains("enable_all()"), "{error}");
}
