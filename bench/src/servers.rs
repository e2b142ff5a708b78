//! The servers of a run, started by it and gone with it, and the clients that stand beside Mastaba.

use std::collections::BTreeMap;
use std::time::Duration;

use mastaba_redis::{Redis as Backend, RedisConfig};
use mastaba_test::servers::{Postgres, RedisServer};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, IntoConnectionInfo};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::runtime::Runtime;

use crate::distance::Distance;
use crate::fixture::runtime;

/// A Redis. Dropping it ends it.
pub(crate) struct Redis {
    /// Not that of the clients: they come and go with the placements.
    runtime: Runtime,
    server: RedisServer,
    distance: Option<Distance>,
}

impl Redis {
    /// `None` where none is installed, which has been said.
    pub(crate) fn start() -> Option<Self> {
        let runtime = runtime();
        let server = runtime.block_on(RedisServer::start())?;
        Some(Self { runtime, server, distance: None })
    }

    /// Puts it a network away from those who connect from now on.
    pub(crate) fn move_away(&mut self, core: Option<usize>) {
        self.distance = Some(Distance::before(self.server.addr(), core));
    }

    pub(crate) fn url(&self) -> String {
        match &self.distance {
            Some(distance) => format!("redis://{}", distance.addr()),
            None => self.server.url(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid().expect("it runs")
    }

    /// What the server counts while this is done: the calls of each command, but not of those that only look.
    pub(crate) fn counted(&self, work: impl FnOnce()) -> BTreeMap<String, u64> {
        self.runtime.block_on(self.server.reset_stats());
        work();
        let mut calls = self.runtime.block_on(self.server.commandstats());
        calls.retain(|name, _| !name.starts_with("config") && name != "info");
        calls
    }

    pub(crate) fn empty(&self) {
        self.runtime.block_on(self.server.command(&["FLUSHALL"]));
    }
}

/// A client of `redis`, on which all commands of a program travel, and at once: over a network the crate needs to be
/// told so.
pub(crate) async fn connect(url: &str) -> MultiplexedConnection {
    let info = url.into_connection_info().expect("a URL");
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = redis::Client::open(info).expect("a URL");
    // it has a limit for each answer, as it has by itself, but no busy machine comes up to this one
    let limit = Some(Duration::from_secs(10));
    let config = AsyncConnectionConfig::new().set_response_timeout(limit).set_connection_timeout(limit);
    client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection")
}

/// The backend of Mastaba.
pub(crate) async fn backend(url: &str) -> Backend {
    Backend::connect(RedisConfig::from_url(url).expect("a URL")).await.expect("a connection")
}

/// A PostgreSQL with its tables. Dropping it ends it.
pub(crate) struct Database {
    _runtime: Runtime,
    server: Postgres,
    distance: Option<Distance>,
}

impl Database {
    /// `None` where none is installed, which has been said.
    pub(crate) fn start() -> Option<Self> {
        let runtime = runtime();
        let server = runtime.block_on(Postgres::start())?;
        Some(Self { _runtime: runtime, server, distance: None })
    }

    /// Puts it a network away from those who connect from now on.
    pub(crate) fn move_away(&mut self, core: Option<usize>) {
        self.distance = Some(Distance::before(self.server.addr(), core));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid().expect("it runs")
    }

    /// Its connections, which are not asked whether they still live before each use.
    pub(crate) async fn pool(&self, most: u32) -> PgPool {
        let options = PgPoolOptions::new().max_connections(most).min_connections(most);
        let options = options.test_before_acquire(false).max_lifetime(None).idle_timeout(None);
        let place: PgConnectOptions = self.server.url().parse().expect("a URL");
        let place = match &self.distance {
            Some(distance) => place.port(distance.addr().port()),
            None => place,
        };
        options.connect_with(place).await.expect("a database")
    }
}
