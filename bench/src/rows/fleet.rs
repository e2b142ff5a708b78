//! P14: a fleet: what many processes cost one Redis, and each other.
//!
//! A process is a cache with connections of its own. All of them live in this program, in a thread of theirs, so that the
//! CPU of Redis, of one that works and of those that are only told of it can be counted apart.

mod costs;
mod outage;
mod plan;
mod together;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mastaba::{Cache, Region};
use mastaba_redis::Redis as Backend;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::fixture::{cache_of, runtime};
use crate::pin::{Placement, placements, thread_cpu, thread_id};
use crate::rounds::{Effort, Table};
use crate::servers::{self, Redis};

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let Some(redis) = Redis::start() else { return Vec::new() };
    let placement = placements().pop().unwrap_or(Placement::Anywhere);
    let _held = placement.hold(&[redis.pid()]);
    let (costs, mut tables) = costs::measured(&redis, placement.name(), effort);
    tables.extend(plan::tables(&costs));
    tables.extend(together::tables(&redis, effort));
    tables.extend(outage::tables(effort));
    tables
}

/// Processes that share a thread. Dropping them ends them, and waits for it.
struct Processes {
    caches: Vec<Cache>,
    thread: String,
    handle: Handle,
    end: Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

impl Processes {
    /// As many, which hear of every change.
    fn start(redis: &Redis, count: usize, shape: impl Fn(Region) -> Region + Send + 'static) -> Self {
        let processes = Self::of(redis.url(), count, async move |backend| {
            cache_of(shape(Region::backend(backend)), []).await
        });
        redis.wait_for_listeners(count);
        processes
    }

    /// One that hears of nothing.
    fn deaf(redis: &Redis) -> Self {
        let url = format!("{}?tell=false", redis.url());
        Self::of(url, 1, async |backend| cache_of(Region::backend(backend), 0..costs::MANY).await)
    }

    /// As many, each built over a backend of its own.
    fn of(url: String, count: usize, build: impl AsyncFn(Backend) -> Cache + Send + 'static) -> Self {
        let (tell, told) = mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let running = thread::spawn(move || {
            let runtime = runtime();
            let caches = runtime.block_on(async {
                let mut caches = Vec::with_capacity(count);
                for _ in 0..count {
                    caches.push(build(servers::backend(&url).await).await);
                }
                caches
            });
            let id = thread_id().unwrap_or_default();
            tell.send((caches, id, runtime.handle().clone())).expect("somebody waits");
            let _ = runtime.block_on(ended);
        });
        let (caches, thread, handle) = told.recv().expect("processes that start");
        Self { caches, thread, handle, end: Some((end, running)) }
    }

    /// Seconds of CPU of all of them.
    fn cpu(&self) -> f64 {
        thread_cpu(&self.thread)
    }

    /// What one of them does, in its own thread.
    fn within<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.handle.spawn(async move { drop(tell.send(work.await)) });
        told.recv().expect("no panic")
    }

    /// Time in which they do what they do by themselves.
    fn rest(&self, time: Duration) {
        self.within(async move { tokio::time::sleep(time).await });
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.caches.clear();
        if let Some((end, running)) = self.end.take() {
            drop(end);
            let _ = running.join();
        }
    }
}
