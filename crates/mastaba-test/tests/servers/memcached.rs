use std::time::Duration;

use mastaba_test::servers::MemcachedServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{is_there, limited, occupy};

#[tokio::test]
async fn a_memcached_answers_and_leaves_no_process_when_it_is_dropped() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        assert_eq!(
            server.command("version\r\n").await,
            format!("VERSION {}\r\n", server.stats("").await["version"])
        );
        let (pid, log) = (server.pid().unwrap(), server.log());
        assert!(is_there(pid) && log.exists());
        assert_eq!(
            server.stats("").await["pid"],
            pid.to_string(),
            "the server is the process that is killed"
        );
        drop(server);
        assert!(!is_there(pid), "the process is still there");
        assert!(!log.exists(), "the folder is still there");
    })
    .await;
}

#[tokio::test]
async fn several_commands_and_values_that_look_like_an_end_are_answered_whole() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        let answer = server.command("ms a 4\r\nMN\r\n\r\nmg a v\r\nbogus\r\nmg b v\r\n").await;
        assert_eq!(answer, "HD\r\nVA 4\r\nMN\r\n\r\nERROR\r\nEN\r\n");
        assert_eq!(server.call(b"mg a v\r\n").await.unwrap(), b"VA 4\r\nMN\r\n\r\n");
    })
    .await;
}

#[tokio::test]
async fn a_memcached_comes_back_empty_on_its_port_once_that_is_free() {
    limited(async {
        let Some(server) = MemcachedServer::builder().memory(8).start().await else { return };
        server.command("ms a 1\r\n1\r\n").await;
        let pid = server.pid().unwrap();
        server.stop().await;
        assert!(!is_there(pid) && server.pid().is_none());
        assert!(server.call(b"mn\r\n").await.is_err());
        let other = occupy(server.port());
        server.restart().await;
        assert!(other.is_finished(), "there were two on one port");
        assert_eq!(server.command("mg a v\r\n").await, "EN\r\n");
        assert_eq!(server.stats("").await["limit_maxbytes"], (8 << 20).to_string(), "its settings are kept");
        server.kill().await;
        assert!(server.call(b"mn\r\n").await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_paused_memcached_is_silent_and_answers_when_it_goes_on() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        let mut stream = TcpStream::connect(server.addr()).await.unwrap();
        server.pause().await;
        stream.write_all(b"mn\r\n").await.unwrap();
        let mut answer = [0; 4];
        let silence = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut answer)).await;
        assert!(silence.is_err(), "{answer:?}");
        server.resume().await;
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"MN\r\n");
    })
    .await;
}

#[tokio::test]
async fn a_verbose_memcached_writes_down_what_it_is_asked_and_counts_begin_anew_on_demand() {
    limited(async {
        let Some(server) = MemcachedServer::builder().verbose().start().await else { return };
        server.command("mg told v\r\n").await;
        assert!(std::fs::read_to_string(server.log()).unwrap().contains("mg told v"));
        assert_eq!(server.stats("").await["cmd_get"], "1");
        server.reset_stats().await;
        assert_eq!(server.stats("").await["cmd_get"], "0");
    })
    .await;
}

#[tokio::test]
async fn an_item_is_as_large_as_was_asked_for_and_no_larger() {
    limited(async {
        for (kibibytes, smaller, larger) in
            [(1, 800, 1100), (64, 63_000, 66_000), (2048, 2_000_000, 2_200_000)]
        {
            let Some(server) = MemcachedServer::builder().item_size(kibibytes).start().await else { return };
            for (size, expected) in
                [(smaller, "HD\r\n"), (larger, "SERVER_ERROR object too large for cache\r\n")]
            {
                let answer = server.command(&format!("ms a {size}\r\n{}\r\n", "x".repeat(size))).await;
                assert_eq!(answer, expected, "{size} bytes where {kibibytes} kibibytes are allowed");
            }
        }
    })
    .await;
}
