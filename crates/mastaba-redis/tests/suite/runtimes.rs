//! A cache in a `static`, over real servers, that one runtime after the other and several at once read and write through.

use crate::common;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use common::{Process, limited, until};
use mastaba::{Cache, Coherence, NearConfig, Region};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::{Cluster, RedisServer, Sentinels};
use mastaba_test::world::{Db, UserById};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(5);

/// As `#[tokio::test]` has it, and a worker of actix.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Servers, and another process that writes to them, on a runtime that lasts.
struct Stage {
    runtime: Runtime,
    url: String,
    db: Arc<Db>,
    other: Arc<Process>,
    coherence: Coherence,
    cache: &'static OnceLock<Process>,
}

impl Stage {
    /// The cache that all runtimes use, which the first one builds.
    async fn cache(&self) -> &'static Process {
        if self.cache.get().is_none() {
            let near = NearConfig::entries(1000).coherence(self.coherence);
            let patient = |region: Region| region.near(near).shared_budget(LONG).shared_soft_budget(LONG);
            let built = Process::with(&self.url, &self.db, patient).await;
            assert!(self.cache.set(built).is_ok());
        }
        self.cache.get().unwrap()
    }

    /// On the runtime of the caller everything works: writes, the shared tier, near, and what others change.
    async fn all_works(&self, key: u64) {
        let cache = self.cache().await;
        let version = cache.write(key).await.expect("a write that the shared tier confirms");
        assert_eq!(cache.sees(key).await, version);
        assert_eq!(cache.warm(key).await, version);
        assert_eq!(cache.warm_near(key).await, version);
        let other = self.other.clone();
        let written = self.runtime.spawn(async move { other.write(key).await }).await.unwrap();
        let (version, acknowledged) = (written.unwrap(), Instant::now());
        let bound = match self.coherence {
            Coherence::Bounded(bound) => bound,
            Coherence::Fenced => Duration::ZERO,
        };
        loop {
            let began = Instant::now();
            if cache.sees(key).await == version {
                break;
            }
            assert!(
                began - acknowledged < bound,
                "a read that began {:?} after a write",
                began - acknowledged
            );
        }
        assert_eq!(cache.warm_near(key).await, version);
        assert_eq!(cache.events(), [""; 0]);
    }
}

/// What a cache goes through whose users come and go with their runtimes.
fn serves_every_runtime<S: Send>(
    cache: &'static OnceLock<Process>,
    coherence: Coherence,
    start: impl Future<Output = Option<(String, S)>>,
) {
    let stage = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some((url, servers)) = stage.block_on(start) else { return };
    let db = Arc::new(Db::default());
    let other = stage.block_on(Process::with(&url, &db, |region| region.shared_budget(LONG)));
    let stage = Stage { runtime: stage, url, db, other: Arc::new(other), coherence, cache };

    // one after the other, as tests use a cache
    for round in 1..=3 {
        runtime().block_on(limited(stage.all_works(round)));
    }
    // one that is left standing, as where a program sets up before it starts its server
    let standing = runtime();
    standing.block_on(limited(stage.all_works(4)));
    let next = runtime();
    next.block_on(limited(stage.all_works(5)));
    // and which goes on later
    standing.block_on(limited(stage.all_works(4)));
    next.block_on(limited(stage.all_works(5)));
    // two at once, as workers have them, one of which ends earlier
    std::thread::scope(|scope| {
        for (key, rounds) in [(6, 1), (7, 3)] {
            let stage = &stage;
            scope.spawn(move || {
                let runtime = runtime();
                for _ in 0..rounds {
                    runtime.block_on(limited(stage.all_works(key)));
                }
            });
        }
    });
    // it is closed where it was not built, and may be closed once more
    runtime().block_on(limited(cache.get().unwrap().cache.close())).unwrap();
    runtime().block_on(limited(cache.get().unwrap().cache.close())).unwrap();
    drop((standing, next, servers));
}

macro_rules! serves_every_runtime {
    ($($name:ident: $coherence:expr, $start:expr;)*) => { $(
        #[test]
        fn $name() {
            static CACHE: OnceLock<Process> = OnceLock::new();
            serves_every_runtime(&CACHE, $coherence, $start);
        }
    )* };
}

const BOUND: Duration = Duration::from_millis(200);

async fn one() -> Option<(String, RedisServer)> {
    let server = RedisServer::start().await?;
    Some((server.url(), server))
}

async fn sentinels() -> Option<(String, Sentinels)> {
    let sentinels = Sentinels::start().await?;
    Some((sentinels.url(), sentinels))
}

async fn cluster() -> Option<(String, Cluster)> {
    let cluster = Cluster::start().await?;
    Some((cluster.url(), cluster))
}

serves_every_runtime! {
    one_server_with_a_fenced_near_serves_every_runtime: Coherence::Fenced, one();
    one_server_with_a_bounded_near_serves_every_runtime: Coherence::Bounded(BOUND), one();
    sentinels_with_a_fenced_near_serve_every_runtime: Coherence::Fenced, sentinels();
    sentinels_with_a_bounded_near_serve_every_runtime: Coherence::Bounded(BOUND), sentinels();
    a_cluster_with_a_fenced_near_serves_every_runtime: Coherence::Fenced, cluster();
    a_cluster_with_a_bounded_near_serves_every_runtime: Coherence::Bounded(BOUND), cluster();
}

#[test]
fn a_runtime_that_ends_takes_its_connections_along() {
    let stage = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = stage.block_on(RedisServer::start()) else { return };
    let process = stage.block_on(Process::near(&server.url(), &Arc::default(), Coherence::Fenced));
    let tracking = async || {
        let clients = server.command(&["CLIENT", "LIST"]).await;
        clients.lines().filter(|client| client.contains(" flags=t")).count()
    };
    for key in 1..=10 {
        let each = runtime();
        each.block_on(limited(process.write(key))).unwrap();
        each.block_on(limited(process.warm_near(key)));
    }
    stage.block_on(until("connections closed", async || tracking().await == 1));
    drop(process);
    stage.block_on(until("all connections closed", async || tracking().await == 0));
}

/// Near keeps nothing of what a runtime heard that has ended (`R13`).
#[test]
fn near_is_empty_after_the_runtime_that_listened_for_it_has_ended() {
    let stage = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = stage.block_on(RedisServer::start()) else { return };
    let db = Arc::default();
    let other = stage.block_on(Process::start(&server.url(), &db));
    let first = runtime();
    let process = first.block_on(Process::near(&server.url(), &db, Coherence::Bounded(60 * LONG)));
    first.block_on(limited(process.warm_near(1)));
    drop(first);
    let version = stage.block_on(other.write(1)).unwrap();
    // the bound is far away, and nobody has listened for a while
    assert_eq!(runtime().block_on(limited(process.sees(1))), version);
}

/// A ping waits for the own changes that were sent before it, and not for those of a runtime that stands still.
#[test]
fn a_write_that_stands_still_on_another_runtime_does_not_keep_near_waiting() {
    let stage = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = stage.block_on(RedisServer::start()) else { return };
    let proxy = stage.block_on(Proxy::to(server.addr()));
    let standing = runtime();
    let process =
        Arc::new(standing.block_on(Process::near(&proxy.url(), &Arc::default(), Coherence::Fenced)));
    standing.block_on(limited(process.warm_near(1)));
    stage.block_on(proxy.half_open());
    let writes = process.clone();
    standing.block_on(async {
        tokio::spawn(async move { writes.invalidate(1).await });
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    });
    stage.block_on(proxy.pass());
    runtime().block_on(limited(process.warm_near(2)));
}

/// Leads new connections to another server than the old ones, as after a failover that not everybody has noticed.
async fn crossroads(target: Arc<Mutex<SocketAddr>>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let target = *target.lock().unwrap();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    addr
}

/// All runtimes of a process reckon with one store: the one that was found last (`R11`).
#[test]
fn a_runtime_that_is_still_connected_to_an_old_master_does_not_serve_what_stands_there() {
    let stage = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(old) = stage.block_on(RedisServer::start()) else { return };
    let Some(new) = stage.block_on(RedisServer::start()) else { return };
    let target = Arc::new(Mutex::new(old.addr()));
    let addr = stage.block_on(crossroads(target.clone()));
    let process = stage.block_on(Process::start(&format!("redis://{addr}"), &Arc::default()));
    assert_eq!(stage.block_on(limited(process.warm(1))), 0);
    *target.lock().unwrap() = new.addr();
    let next = runtime();
    for version in 1..=3 {
        assert_eq!(next.block_on(limited(process.write(1))).unwrap(), version);
        assert_eq!(stage.block_on(process.sees(1)), version, "read after the write was acknowledged");
        assert_eq!(stage.block_on(limited(process.warm(1))), version);
    }
}

/// The last owner of a cache may be anywhere.
#[test]
fn the_last_clone_may_be_dropped_where_there_is_no_runtime() {
    let stage = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = stage.block_on(RedisServer::start()) else { return };
    let one = runtime();
    let process = one.block_on(Process::near(&server.url(), &Arc::default(), Coherence::Fenced));
    runtime().block_on(limited(process.warm_near(1)));
    std::thread::spawn(move || drop(process)).join().unwrap();
    drop(one);
}

#[test]
fn a_runtime_without_io_is_named_and_what_to_call() {
    let stage = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = stage.block_on(RedisServer::start()) else { return };
    let bare = Builder::new_current_thread().enable_time().build().unwrap();
    let told = |said: String| {
        assert!(said.contains("without IO") && said.contains("enable_all"), "{said}");
    };

    let config = || RedisConfig::from_url(&server.url()).unwrap();
    told(bare.block_on(Redis::connect(config())).unwrap_err().to_string());
    let url = server.url();
    let settings = [("cache.objects.backend", "redis"), ("cache.objects.arguments.url", url.as_str())];
    let building = Cache::from_settings(settings).backend("redis", mastaba_redis::open).build();
    let error = bare.block_on(building).unwrap_err();
    told(error.to_string());

    let process = stage.block_on(Process::start(&server.url(), &Arc::default()));
    let error = bare.block_on(process.request().get::<UserById>(1)).unwrap_err();
    assert!(error.is_usage(), "{error}");
    told(error.to_string());
    let error = bare.block_on(process.request().invalidate::<UserById>([1])).unwrap_err();
    assert!(error.is_usage(), "{error}");
    told(error.to_string());
    // what is right elsewhere is left alone
    stage.block_on(limited(process.warm(1)));
    let events = process.events();
    assert!(matches!(&events[..], [only] if only.contains("before it was published")), "{events:?}");
}

/// Blocking code within a task reads through a runtime of its own, while the one around it stands still; or through the one
/// around it.
#[test]
fn runtimes_within_runtimes_read_through_one_cache() {
    let stage = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let Some(server) = stage.block_on(RedisServer::start()) else { return };
    let around = runtime();
    let process = around.block_on(async {
        let process = Process::near(&server.url(), &Arc::default(), Coherence::Fenced).await;
        std::thread::scope(|scope| {
            let within = scope.spawn(|| runtime().block_on(limited(process.warm_near(1))));
            assert_eq!(within.join().unwrap(), 0);
        });
        assert_eq!(limited(process.write(1)).await.unwrap(), 1);
        Arc::new(process)
    });
    let inner = process.clone();
    let blocking = async move { tokio::task::block_in_place(|| Handle::current().block_on(inner.sees(1))) };
    assert_eq!(stage.block_on(async { tokio::spawn(limited(blocking)).await }).unwrap(), 1);
    let (local, inner) = (tokio::task::LocalSet::new(), process.clone());
    let written = local.block_on(&runtime(), async move {
        limited(tokio::task::spawn_local(async move { inner.write(1).await })).await.unwrap()
    });
    assert_eq!(written.unwrap(), 2);
    assert_eq!(around.block_on(process.sees(1)), 2);
    assert_eq!(process.events(), [""; 0]);
}

/// The runtime that began to look for the server has ended before it was there.
#[test]
fn an_optional_server_that_comes_up_later_is_found_by_whichever_runtime_reads() {
    let stage = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = stage.block_on(RedisServer::start()) else { return };
    let url = format!("{}?at_start=optional", server.url());
    stage.block_on(server.pause());
    let first = runtime();
    let process = first.block_on(async {
        let mut config = RedisConfig::from_url(&url).unwrap();
        config.connect_timeout = Duration::from_millis(100);
        let region = Region::backend(Redis::connect(config).await.unwrap());
        Cache::builder().region("objects", region).source(UserById(Arc::default())).build().await.unwrap()
    });
    drop(first);
    stage.block_on(server.resume());
    runtime().block_on(limited(until("a write that is confirmed", async || {
        process.request().invalidate::<UserById>([1]).await.is_ok()
    })));
}
