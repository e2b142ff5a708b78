//! Versions of a program, which differ in the type of one source.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::Shared;
use mastaba::{Cache, Event, LoadContext, Region, Rows, Source, Tier};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

/// The database: one number, which is the size of every thing.
#[derive(Default)]
pub struct Shelf {
    size: AtomicU32,
    begun: watch::Sender<u32>,
    gate: Mutex<Option<Arc<Semaphore>>>,
}

impl Shelf {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn size(&self) -> u32 {
        self.size.load(Ordering::SeqCst)
    }

    /// Commits another size.
    pub fn set(&self, size: u32) {
        self.size.store(size, Ordering::SeqCst);
    }

    /// How many loads there were, of all versions.
    pub fn loads(&self) -> u32 {
        *self.begun.borrow()
    }

    /// From now on loads read, and then wait for a permit.
    pub fn hold_up(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    /// Waits until so many loads have read.
    pub async fn reached(&self, loads: u32) {
        let mut begun = self.begun.subscribe();
        let all = begun.wait_for(|begun| *begun >= loads);
        tokio::time::timeout(Duration::from_secs(10), all).await.expect("a load was to begin").unwrap();
    }

    async fn load(&self) -> u32 {
        let size = self.size();
        self.begun.send_modify(|begun| *begun += 1);
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        size
    }
}

/// A source that every version has, under one name.
pub trait Version: Source<Key = u64, Error = Infallible> {
    fn new(shelf: Arc<Shelf>, absent: Arc<AtomicBool>) -> Self;
    fn size(value: &Self::Value) -> u32;
}

macro_rules! version {
    ($(#[$doc:meta])* $name:ident $version:literal $tags:expr, $thing:ident { $($field:tt)* }, $make:expr) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct $thing { $($field)* }

        $(#[$doc])*
        pub struct $name { shelf: Arc<Shelf>, absent: Arc<AtomicBool> }

        impl Source for $name {
            type Key = u64;
            type Value = $thing;
            type Error = Infallible;
            const NAME: &'static str = "thing";
            const VERSION: u32 = $version;
            const REGION: &'static str = "objects";
            const TAGS: &'static [&'static str] = &$tags;

            async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
                let size = self.shelf.load().await;
                let there = !self.absent.load(Ordering::SeqCst);
                let make: fn(u32) -> $thing = $make;
                Ok(ids.iter().filter(|_| there).map(|id| (*id, make(size))).collect())
            }
        }

        impl Version for $name {
            fn new(shelf: Arc<Shelf>, absent: Arc<AtomicBool>) -> Self {
                Self { shelf, absent }
            }

            fn size(value: &$thing) -> u32 {
                value.size
            }
        }
    };
}

version!(
    /// The first version.
    V1 0 ["things"], Thing1 { name: String, size: u32 },
    |size| Thing1 { name: "a".into(), size }
);
version!(
    /// The second one adds a field.
    V2 0 ["things"], Thing2 { size: u32, colour: String, name: String },
    |size| Thing2 { size, colour: "red".into(), name: "a".into() }
);
version!(
    /// One whose type cannot be traced, so that it is written with names.
    Named 0 ["things"], Thing3 { size: u32, #[serde(flatten)] more: BTreeMap<String, String> },
    |size| Thing3 { size, more: BTreeMap::from([("name".to_owned(), "a".to_owned())]) }
);

version!(
    /// The same as the first in all but the meaning, which only `Source::VERSION` says.
    Raised 1 ["things"], Thing4 { name: String, size: u32 },
    |size| Thing4 { name: "a".into(), size }
);
version!(
    /// The same as the first, under one tag more.
    Retagged 0 ["things", "colours"], Thing5 { name: String, size: u32 },
    |size| Thing5 { name: "a".into(), size }
);

/// A program of one version.
pub struct Program<S> {
    pub cache: Cache,
    /// Whether its loader finds nothing.
    pub absent: Arc<AtomicBool>,
    events: Arc<Mutex<Vec<Event>>>,
    version: PhantomData<S>,
}

impl<S: Version> Program<S> {
    pub async fn start(region: Region, shelf: &Arc<Shelf>) -> Self {
        let (absent, events) = (Arc::<AtomicBool>::default(), Arc::new(Mutex::new(Vec::new())));
        let listener = events.clone();
        let cache = Cache::builder()
            .region("objects", region.jitter(0.0).early_refresh(0.0))
            .source(S::new(shelf.clone(), absent.clone()))
            .on_event(move |event| listener.lock().unwrap().push(event.clone()))
            .build()
            .await
            .unwrap();
        Self { cache, absent, events, version: PhantomData }
    }

    /// The size of a thing as a new request sees it, and where that came from. What it stores is stored by then.
    pub async fn finds(&self, key: u64) -> (u32, Tier) {
        let found = self.cache.request().get_outcomes::<S>([key]).await;
        self.cache.idle().await;
        let value = found[&key].value().expect("no read fails").expect("the row exists");
        (S::size(value), found[&key].tier().unwrap())
    }

    /// The same as a task.
    pub fn get(&self, key: u64) -> impl Future<Output = u32> + Send + 'static {
        let request = self.cache.request();
        async move { S::size(&request.get::<S>(key).await.unwrap().unwrap()) }
    }

    /// Reads until the tiers have it.
    pub async fn warm(&self, key: u64) {
        for _ in 0..3 {
            self.finds(key).await;
        }
        assert_ne!(self.finds(key).await.1, Tier::Source, "it is stored");
    }

    pub async fn invalidate(&self, key: u64) {
        self.cache.request().invalidate::<S>([key]).await.unwrap();
    }

    /// Voids every entry of the region.
    pub async fn clear(&self) {
        self.cache.region("objects").clear().await.unwrap();
    }

    /// Voids every thing by the tag that all of them have.
    pub async fn void_tag(&self) {
        self.cache.region("objects").invalidate_tag("things").await.unwrap();
    }

    pub async fn refresh(&self, key: u64) {
        self.cache.request().refresh::<S>(key).await.unwrap();
        self.cache.idle().await;
    }

    /// What stands under a key in the store.
    pub async fn record(&self, store: &impl Shared, key: u64) -> Option<Bytes> {
        let key = Bytes::from(format!("mastaba:objects:thing:{key}"));
        store.read(&[key]).await.unwrap().remove(0)
    }

    /// The events up to now.
    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}
