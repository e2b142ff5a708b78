use std::time::Duration;

use mastaba_test::servers::Mariadb;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::{is_there, limited, occupy};

/// It speaks first: the length of its greeting, and then version 10 of the protocol and the name of its own.
async fn is_ready(server: &Mariadb) -> bool {
    let Ok(mut stream) = TcpStream::connect(server.addr()).await else { return false };
    let mut read = Vec::new();
    let greeting = async {
        while !read.windows(7).any(|word| word == b"MariaDB") {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return false;
            }
        }
        read[4] == 10
    };
    tokio::time::timeout(Duration::from_secs(10), greeting).await.unwrap_or(false)
}

#[tokio::test]
async fn a_mariadb_welcomes_us_over_a_restart_and_leaves_no_process() {
    limited(async {
        let Some(server) = Mariadb::start().await else { return };
        assert_eq!(server.url(), format!("mysql://root@127.0.0.1:{}/test", server.addr().port()));
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
        drop(server);
        assert!(!is_there(second) && !log.exists());
    })
    .await;
}
