//! Real servers start, answer, break on command, and leave nothing behind.

#[path = "servers/groups.rs"]
mod groups;
#[path = "servers/mariadb.rs"]
mod mariadb;
#[path = "servers/memcached.rs"]
mod memcached;
#[path = "servers/postgres.rs"]
mod postgres;
#[path = "servers/proxy.rs"]
mod proxy;
#[path = "servers/single.rs"]
mod single;
#[path = "servers/tls.rs"]
mod tls;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

/// No test hangs, whatever a server does.
async fn limited<T>(run: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), run).await.expect("a test ends within a minute")
}

/// Listens on a port for a while, as another test may.
fn occupy(port: u16) -> tokio::task::JoinHandle<()> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(listener);
    })
}

/// Whether there is such a process, or what is left of it.
fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
