//! Servers that can be made to fail.

use std::net::SocketAddr;

use crate::servers::{MemcachedBuilder, MemcachedServer, RedisBuilder, RedisServer};

/// A server that can be made to fail.
pub trait Server: Sized {
    /// What it shall be like.
    type Shape: Default;

    /// Starts one. `None` when its program is not installed.
    fn start(shape: Self::Shape) -> impl Future<Output = Option<Self>>;

    /// Where clients connect.
    fn addr(&self) -> SocketAddr;

    /// Freezes it: connections stay open, and nothing is answered.
    fn pause(&self) -> impl Future<Output = ()>;

    /// Lets it go on after [`pause`](Self::pause).
    fn resume(&self) -> impl Future<Output = ()>;

    /// Has it forget everything while it runs.
    fn empty(&self) -> impl Future<Output = ()>;

    /// Ends it, and starts it in the same place with nothing.
    fn restart_empty(&self) -> impl Future<Output = ()>;

    /// Whether something stands under a key.
    fn has(&self, key: &str) -> impl Future<Output = bool>;
}

impl Server for RedisServer {
    type Shape = RedisBuilder;

    async fn start(shape: RedisBuilder) -> Option<Self> {
        shape.start().await
    }

    fn addr(&self) -> SocketAddr {
        self.addr()
    }

    async fn pause(&self) {
        self.pause().await;
    }

    async fn resume(&self) {
        self.resume().await;
    }

    async fn empty(&self) {
        assert_eq!(self.command(&["FLUSHALL"]).await, "OK");
    }

    async fn restart_empty(&self) {
        self.restart_empty().await;
    }

    async fn has(&self, key: &str) -> bool {
        self.command(&["EXISTS", key]).await == "1"
    }
}

impl Server for MemcachedServer {
    type Shape = MemcachedBuilder;

    async fn start(shape: MemcachedBuilder) -> Option<Self> {
        shape.start().await
    }

    fn addr(&self) -> SocketAddr {
        self.addr()
    }

    async fn pause(&self) {
        self.pause().await;
    }

    async fn resume(&self) {
        self.resume().await;
    }

    async fn empty(&self) {
        assert_eq!(self.command("flush_all\r\n").await, "OK\r\n");
    }

    async fn restart_empty(&self) {
        self.restart().await;
    }

    async fn has(&self, key: &str) -> bool {
        self.command(&format!("mg {key} s\r\n")).await.starts_with("HD")
    }
}
