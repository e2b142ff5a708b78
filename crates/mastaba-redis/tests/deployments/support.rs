//! A source of numbers, and what tests ask of a backend.

use std::future::Future;
use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mastaba::entry::{self, Fence, Header, Kind};
use mastaba::shared::{Fill, Lease, Leased, Listener, Over, Shared};
use mastaba::{Cache, LoadContext, Region, Rows, Source};
use mastaba_redis::{ConnectError, Redis, RedisConfig};
use mastaba_test::servers::RedisServer;

pub(super) const TTL: Duration = Duration::from_secs(60);

/// A test that hangs fails.
pub(super) async fn limit(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(90), test).await.expect("the test did not end in time");
}

/// Waits until it is so.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let since = Instant::now();
    while !done().await {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ten times its key, and how many were loaded.
#[derive(Clone, Default)]
pub(super) struct Number(pub(super) Arc<AtomicUsize>);

impl Number {
    pub(super) fn loads(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Source for Number {
    type Key = u64;
    type Value = u64;
    type Error = std::io::Error;
    const NAME: &'static str = "number";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Self::Error> {
        self.0.fetch_add(keys.len(), Ordering::AcqRel);
        Ok(keys.iter().map(|key| (*key, key * 10)).collect())
    }
}

/// What was logged.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Takes what the thread logs, until the guard is dropped.
    pub(super) fn start(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) async fn connect(url: &str) -> Result<Redis, ConnectError> {
    Redis::connect(RedisConfig::from_url(url)?).await
}

pub(super) async fn cache(redis: Redis) -> (Cache, Number) {
    let number = Number::default();
    let cache = Cache::builder().region("objects", Region::backend(redis)).source(number.clone());
    (cache.build().await.unwrap(), number)
}

/// What one process stores, another one finds.
pub(super) async fn assert_works(url: &str) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let key = NEXT.fetch_add(1, Ordering::AcqRel);
    let connected = |error: ConnectError| panic!("{url}: {error}");
    let (one, loads) = cache(connect(url).await.unwrap_or_else(connected)).await;
    assert_eq!(*one.request().get::<Number>(key).await.unwrap().unwrap(), key * 10);
    assert_eq!(loads.loads(), 1);
    // fills are stored by then
    one.close().await.unwrap();
    let (other, loads) = cache(connect(url).await.unwrap_or_else(connected)).await;
    assert_eq!(*other.request().get::<Number>(key).await.unwrap().unwrap(), key * 10);
    assert_eq!(loads.loads(), 0, "{url}: the other one did not find it");
}

/// The error is one sentence with these parts, which names the server and gives nothing away.
pub(super) fn assert_error(error: &ConnectError, server: &RedisServer, parts: &[&str]) {
    let port = server.port().to_string();
    assert_sentence(error, &[&[port.as_str()], parts].concat());
}

pub(super) fn assert_sentence(error: &ConnectError, parts: &[&str]) {
    let sentence = error.to_string();
    for part in parts {
        assert!(sentence.contains(part), "no {part:?} in: {sentence}");
    }
    assert!(!sentence.contains('\n'), "{sentence}");
    let everything = format!("{error:?} {sentence}");
    assert!(!everything.contains("secret"), "{everything}");
}

/// Counts what it is told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) changes: AtomicUsize,
    pub(super) gaps: AtomicUsize,
}

impl Listener for Told {
    fn changed(&self, _: &[u8]) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::AcqRel);
    }
}

impl Told {
    pub(super) fn changes(&self) -> usize {
        self.changes.load(Ordering::Acquire)
    }
}

/// Takes a lease, which has to be granted; its fence.
pub(super) async fn lease(redis: &Redis, key: &Bytes) -> Fence {
    let fence = Fence::random();
    let record = entry::lease(fence, redis.incarnation()).into();
    let ask = Lease { key: key.clone(), record, over: None, ttl: TTL };
    assert_eq!(redis.lease(&[ask], &[]).await.unwrap().leased, [Leased::Granted]);
    fence
}

/// A value to store under a fence; its own fence.
pub(super) fn value(redis: &Redis, key: &Bytes, expected: Fence, over: Over) -> (Fill, Fence) {
    let fence = Fence::random();
    let record =
        entry::write(&Header::new(Kind::Value, fence, redis.incarnation()), &[], &[], b"value").into();
    (Fill { key: key.clone(), expected, over, record, ttl: TTL }, fence)
}
