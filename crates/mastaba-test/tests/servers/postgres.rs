use std::time::Duration;

use mastaba_test::servers::Postgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{is_there, limited, occupy};

/// Says who we are, as the protocol of PostgreSQL begins, and reads whether the server is ready for a query.
async fn is_ready(server: &Postgres) -> bool {
    let Ok(mut stream) = TcpStream::connect(server.addr()).await else { return false };
    let mut hello = vec![0, 3, 0, 0];
    hello.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
    stream.write_u32(u32::try_from(hello.len() + 4).unwrap()).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut read = Vec::new();
    // it says `Z`, five bytes, idle, and waits
    let ready = async {
        while !read.ends_with(b"Z\0\0\0\x05I") {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(Duration::from_secs(10), ready).await.unwrap_or(false)
}

#[tokio::test]
async fn a_postgres_welcomes_us_over_a_restart_and_leaves_no_process() {
    limited(async {
        let Some(server) = Postgres::start().await else { return };
        assert_eq!(server.url(), format!("postgres://postgres@127.0.0.1:{}/postgres", server.addr().port()));
        assert!(is_ready(&server).await);
        let first = server.pid().unwrap();
        server.stop().await;
        assert!(!is_there(first) && server.pid().is_none());
        assert!(!is_ready(&server).await);
        let other = occupy(server.addr().port());
        server.restart().await;
        assert!(other.is_finished(), "there were two on one port");
        assert!(is_ready(&server).await);
        let (second, log) = (server.pid().unwrap(), server.log());
        let children =
            std::fs::read_to_string(format!("/proc/{second}/task/{second}/children")).unwrap_or_default();
        drop(server);
        assert!(!is_there(second) && !log.exists());
        for child in children.split_whitespace() {
            assert!(!is_there(child.parse().unwrap()), "its child {child} is still there");
        }
    })
    .await;
}

#[tokio::test]
async fn a_standby_is_one_that_can_be_read_and_outlives_a_restart() {
    limited(async {
        let Some(server) = Postgres::start().await else { return };
        let Some(standby) = server.standby().await else { return };
        assert_ne!(standby.addr(), server.addr());
        assert!(is_ready(&server).await && is_ready(&standby).await);
        standby.restart().await;
        assert!(is_ready(&standby).await);
        let log = std::fs::read_to_string(standby.log()).unwrap();
        assert!(log.contains("entering standby mode"), "{log}");
        let pid = standby.pid().unwrap();
        drop(standby);
        assert!(!is_there(pid) && is_ready(&server).await);
    })
    .await;
}
