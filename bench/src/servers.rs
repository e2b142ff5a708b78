//! The servers of a run, started by it and gone with it, and the clients that stand beside Mastaba.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mastaba::Region;
use mastaba_memcached::{Memcached, MemcachedConfig};
use mastaba_redis::{Redis as Backend, RedisConfig};
use mastaba_test::servers::{Cluster as Nodes, MemcachedServer, Postgres, Program, RedisServer};
use memcache::exp::AsyncMetaClient;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, IntoConnectionInfo};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::runtime::Runtime;

use crate::by_hand::Hand;
use crate::distance::Distance;
use crate::fixture::runtime;
use crate::pin::cpu;

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
        Self::start_as(Program::RedisServer)
    }

    /// One that is started by this program, a Valkey say.
    pub(crate) fn start_as(program: Program) -> Option<Self> {
        let runtime = runtime();
        let server = runtime.block_on(RedisServer::builder().program(program).start())?;
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
        counted(&self.runtime, &[&self.server], work)
    }

    /// Every call of each command while this is done.
    pub(crate) fn counted_all(&self, work: impl FnOnce()) -> BTreeMap<String, u64> {
        self.runtime.block_on(self.server.reset_stats());
        work();
        self.runtime.block_on(self.server.commandstats())
    }

    /// Seconds of CPU that it has used.
    pub(crate) fn cpu(&self) -> f64 {
        cpu(self.pid())
    }

    /// Bytes that it has sent to all its clients.
    pub(crate) fn sent(&self) -> f64 {
        let stats = self.runtime.block_on(self.server.info("stats"));
        stats.get("total_net_output_bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0.0)
    }

    /// Until as many connections, and no more, are told of changes.
    pub(crate) fn wait_for_listeners(&self, count: usize) {
        let listens = |client: &str| {
            client
                .split(' ')
                .any(|field| field.strip_prefix("flags=").is_some_and(|flags| flags.contains('B')))
        };
        let began = Instant::now();
        loop {
            let clients = self.runtime.block_on(self.server.command(&["CLIENT", "LIST"]));
            let now = clients.lines().filter(|client| listens(client)).count();
            if now == count {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{now} connections listen, and not {count}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Freezes it: it takes what it is sent, and answers nothing. It is not woken again.
    pub(crate) fn freeze(&self) {
        self.runtime.block_on(self.server.pause());
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        self.runtime.block_on(self.server.kill());
    }

    pub(crate) fn empty(&self) {
        self.runtime.block_on(self.server.command(&["FLUSHALL"]));
    }
}

/// A Redis cluster of three masters. Dropping it ends it.
pub(crate) struct Cluster {
    runtime: Runtime,
    nodes: Nodes,
}

impl Cluster {
    /// `None` where none is installed, which has been said.
    pub(crate) fn start() -> Option<Self> {
        let runtime = runtime();
        let nodes = runtime.block_on(Nodes::start())?;
        Some(Self { runtime, nodes })
    }

    pub(crate) fn url(&self) -> String {
        self.nodes.url()
    }

    /// Of the masters, and of the replica of the first one.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.masters().chain([self.nodes.replica()]).map(|node| node.pid().expect("it runs")).collect()
    }

    /// Seconds of CPU that the masters have used.
    pub(crate) fn cpu(&self) -> f64 {
        self.masters().map(|node| cpu(node.pid().expect("it runs"))).sum()
    }

    /// As [`Redis::counted`], over all masters.
    pub(crate) fn counted(&self, work: impl FnOnce()) -> BTreeMap<String, u64> {
        counted(&self.runtime, &self.masters().collect::<Vec<_>>(), work)
    }

    fn masters(&self) -> impl Iterator<Item = &RedisServer> {
        (0..3).map(|index| self.nodes.node(index))
    }

    /// A client of `redis`, as [`connect`] makes one.
    pub(crate) async fn connect(&self) -> ClusterConnection {
        let limit = Duration::from_secs(10);
        let client = ClusterClientBuilder::new(self.nodes.urls())
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .response_timeout(limit)
            .connection_timeout(limit);
        client.build().expect("URLs").get_async_connection().await.expect("a connection")
    }
}

/// The calls of each command while this is done, but not of those that only look, or keep servers together.
fn counted(runtime: &Runtime, servers: &[&RedisServer], work: impl FnOnce()) -> BTreeMap<String, u64> {
    servers.iter().for_each(|server| runtime.block_on(server.reset_stats()));
    work();
    let mut all = BTreeMap::new();
    for server in servers {
        for (name, calls) in runtime.block_on(server.commandstats()) {
            *all.entry(name).or_default() += calls;
        }
    }
    let aside = ["config", "info", "ping", "cluster", "replconf", "auth"];
    all.retain(|name: &String, _| !aside.iter().any(|known| name.starts_with(known)));
    all
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

/// A Memcached. Dropping it ends it.
pub(crate) struct OneMemcached {
    _runtime: Runtime,
    server: MemcachedServer,
}

impl OneMemcached {
    /// `None` where none is installed, which has been said.
    pub(crate) fn start() -> Option<Self> {
        let runtime = runtime();
        let server = runtime.block_on(MemcachedServer::start())?;
        Some(Self { _runtime: runtime, server })
    }

    pub(crate) fn url(&self) -> String {
        format!("{MEMCACHED}{}", self.server.addr())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid().expect("it runs")
    }
}

/// A shared tier of some kind.
pub(crate) enum Store {
    Redis7(Redis),
    Valkey9(Redis),
    Memcached(OneMemcached),
}

impl Store {
    /// One of each kind that is installed; Redis comes first.
    pub(crate) fn all() -> Vec<Self> {
        // the reference
        let Some(redis) = Redis::start() else { return Vec::new() };
        let stores = [
            Some(Self::Redis7(redis)),
            Redis::start_as(Program::Valkey9).map(Self::Valkey9),
            OneMemcached::start().map(Self::Memcached),
        ];
        stores.into_iter().flatten().collect()
    }

    /// The line of what is done by hand.
    pub(crate) fn by_hand(&self) -> &'static str {
        match self {
            Self::Redis7(_) => "Redis 7 by hand",
            Self::Valkey9(_) => "Valkey 9 by hand",
            Self::Memcached(_) => "Memcached by hand",
        }
    }

    /// The line of what Mastaba does.
    pub(crate) fn mastaba(&self) -> &'static str {
        match self {
            Self::Redis7(_) => "Redis 7, mastaba",
            Self::Valkey9(_) => "Valkey 9, mastaba",
            Self::Memcached(_) => "Memcached, mastaba",
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Redis7(server) | Self::Valkey9(server) => server.url(),
            Self::Memcached(server) => server.url(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Redis7(server) | Self::Valkey9(server) => server.pid(),
            Self::Memcached(server) => server.pid(),
        }
    }
}

/// What begins the URL of a Memcached.
const MEMCACHED: &str = "memcached://";

/// What a program has by hand, for whatever stands at this URL.
pub(crate) async fn hand(url: &str) -> Hand {
    match url.strip_prefix(MEMCACHED) {
        Some(addr) => {
            // as patient as the client of Redis, and with a connection for each of the two reads that a page makes at a time
            let limit = Some(Duration::from_secs(10));
            let client = AsyncMetaClient::builder().io_timeout(limit).connect_timeout(limit).max_idle(64);
            Hand::Memcached(Arc::new(client.connect_async(addr).await.expect("a connection")))
        }
        None => Hand::Redis(connect(url).await),
    }
}

/// A region of Mastaba over whatever stands at this URL.
pub(crate) async fn region(url: &str) -> Region {
    if url.starts_with(MEMCACHED) {
        let config = MemcachedConfig::from_url(url).expect("a URL");
        return Region::backend(Memcached::connect(config).await.expect("a connection"));
    }
    Region::backend(backend(url).await)
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
