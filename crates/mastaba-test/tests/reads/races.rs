//! Races that a review found, each as the interleaving that showed it. Every one runs under a watchdog, since some
//! used to stop the whole runtime.

use mastaba::{Cache, EntryPolicy, Fetched, Force, LoadContext, NearConfig, Region, Rows, Source};
use mastaba_test::world::{UserById, World};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}
/// fails the process if the body hangs, runtime included
fn watchdog(name: &'static str, secs: u64, f: impl FnOnce() + Send + 'static) {
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        f();
        let _ = tx.send(());
    });
    match rx.recv_timeout(Duration::from_secs(secs)) {
        Ok(()) => {}
        Err(e) => panic!("{name}: HANG or panic: {e:?}"),
    }
}

/// Lets everything go on that can: what then still waits waits for the test.
async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

/// Lets others go on until so many loads have begun.
async fn begun(loads: &AtomicU32, count: u32) {
    while loads.load(Ordering::SeqCst) < count {
        tokio::task::yield_now().await;
    }
}

struct B;
impl Source for B {
    type Key = u32;
    type Value = u32;
    type Error = std::convert::Infallible;
    const NAME: &'static str = "b";
    const REGION: &'static str = "objects";
    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
}
struct Hooked;
impl Source for Hooked {
    type Key = u32;
    type Value = u32;
    type Error = mastaba::Error;
    const NAME: &'static str = "hooked";
    const REGION: &'static str = "objects";
    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
    async fn after_fetch(&self, cx: &LoadContext<'_>, rows: &mut Fetched<Self>) -> Result<(), Self::Error> {
        let keys: Vec<u32> = rows.iter().map(|(k, _)| *k).collect();
        for k in keys {
            cx.request().get::<B>(k).await?;
        }
        Ok(())
    }
}
struct Nested;
impl Source for Nested {
    type Key = u32;
    type Value = u32;
    type Error = mastaba::Error;
    const NAME: &'static str = "nested";
    const REGION: &'static str = "objects";
    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
        let got = cx.request().get_many::<B>(ids.iter().copied()).await?;
        Ok(ids.iter().map(|id| (*id, *got[id].clone().unwrap())).collect())
    }
}

#[test]
fn a_hook_may_read_what_its_own_batch_brings() {
    watchdog("hook", 30, || {
        run(async {
            let cache = Cache::builder()
                .region("objects", Region::memory())
                .source(B)
                .source(Hooked)
                .build()
                .await
                .unwrap();
            let r = cache.request();
            let t = Instant::now();
            let (a, b) = tokio::join!(r.get::<Hooked>(1), r.get::<B>(1));
            assert_eq!((*a.unwrap().unwrap(), *b.unwrap().unwrap()), (1, 1));
            assert!(t.elapsed() < Duration::from_secs(5), "{:?}", t.elapsed());
        });
    });
}
#[test]
fn a_loader_may_read_what_its_own_batch_brings() {
    watchdog("loader", 30, || {
        run(async {
            let cache = Cache::builder()
                .region("objects", Region::memory().source_soft_budget(Duration::from_secs(9)))
                .source(B)
                .source(Nested)
                .build()
                .await
                .unwrap();
            cache.request().get::<B>(1).await.unwrap();
            cache.idle().await;
            let r = cache.request();
            let t = Instant::now();
            let (a, b) = tokio::join!(r.get::<Nested>(1), r.get::<B>(1));
            assert_eq!((*a.unwrap().unwrap(), *b.unwrap().unwrap()), (1, 1));
            assert!(t.elapsed() < Duration::from_secs(5), "{:?}", t.elapsed());
        });
    });
}
#[test]
fn a_refresh_beside_a_slow_fill_does_not_spin() {
    watchdog("refresh", 10, || {
        run(async {
            let world = World::new().await;
            let loads = world.db.close_gate();
            let fills = world.shared.before("fill");
            let reader = world.start::<UserById>(1);
            loads.arrived(1).await;
            world.db.update(1);
            let request = world.request();
            let refresh =
                tokio::spawn(async move { request.refresh::<UserById>(1).await.unwrap().unwrap().version });
            world.settle().await;
            assert_eq!(loads.arrivals(), 1, "it waits for the load of the reader to end");
            loads.open_for_good();
            fills.arrived(1).await;
            world.settle().await; // were it to try again and again, this would not come back
            assert_eq!(loads.arrivals(), 1, "the fill belongs to that load");
            fills.open_for_good();
            assert_eq!((reader.await.unwrap().version, refresh.await.unwrap()), (0, 1));
            assert_eq!(world.loads_of("user"), [(1, 2)].into());
        });
    });
}
#[test]
fn a_third_reader_beside_a_slow_fill_does_not_spin() {
    watchdog("queued", 10, || {
        run(async {
            let world = World::new().await;
            let loads = world.db.close_gate();
            let fills = world.shared.before("fill");
            let mut readers = vec![];
            for nth in 1..=2 {
                readers.push(world.start::<UserById>(1));
                loads.arrived(nth).await;
                world.db.update(1);
                world.request().invalidate::<UserById>([1]).await.unwrap();
            }
            readers.push(world.start::<UserById>(1));
            world.settle().await;
            assert_eq!(loads.arrivals(), 2, "the third one queues behind two loads");
            loads.open_for_good();
            fills.arrived(1).await;
            world.settle().await; // were it to try again and again, this would not come back
            fills.open_for_good();
            let mut versions = vec![];
            for reader in readers {
                versions.push(reader.await.unwrap().version);
            }
            assert_eq!(versions, [0, 1, 2], "each began after another write");
            assert_eq!(world.loads_of("user"), [(1, 3)].into());
        });
    });
}
#[test]
fn a_write_may_have_very_many_steps() {
    watchdog("merge", 120, || {
        run(async {
            let world = World::new().await;
            world.sees(7).await;
            world.idle().await;
            world.db.update(7);
            world.trips();
            let r = world.request();
            let w = r.write();
            for id in 0..20_000 {
                w.invalidate::<UserById>([id]).await.unwrap();
            }
            w.published().await.unwrap();
            let trips = world.trips();
            let voided: Vec<u64> = trips
                .iter()
                .flat_map(|trip| trip["shared invalidate [".len()..].trim_end_matches(']').split(", "))
                .map(|key| key.parse().unwrap())
                .collect();
            assert!(trips.len() < 100, "{} trips: neighbours travel together", trips.len());
            assert!(voided == (0..20_000).collect::<Vec<_>>(), "{} keys in some order", voided.len());
            assert_eq!(world.sees(7).await, 1);
        });
    });
}
#[test]
fn an_absence_that_may_be_old_is_for_one_request() {
    struct Old(Arc<AtomicU32>, Arc<tokio::sync::Semaphore>);
    impl Source for Old {
        type Key = u32;
        type Value = u32;
        type Error = std::convert::Infallible;
        const NAME: &'static str = "old";
        const REGION: &'static str = "objects";
        async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
            if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
                cx.do_not_store();
                let _ = self.1.acquire().await;
                return Ok(Rows::new()); // an old snapshot: no row yet
            }
            Ok(ids.iter().map(|id| (*id, *id)).collect())
        }
    }
    watchdog("absent", 10, || {
        run(async {
            let sem = Arc::new(tokio::sync::Semaphore::new(0));
            let loads = Arc::new(AtomicU32::new(0));
            let cache = Cache::builder()
                .region("objects", Region::memory())
                .source(Old(loads.clone(), sem.clone()))
                .build()
                .await
                .unwrap();
            let (a, b) = (cache.request(), cache.request());
            let ta = tokio::spawn(async move { a.get::<Old>(1).await.unwrap() });
            begun(&loads, 1).await;
            let tb = tokio::spawn(async move { b.get::<Old>(1).await.unwrap() });
            settle().await;
            assert_eq!(loads.load(Ordering::SeqCst), 1, "the second one has joined the first");
            sem.add_permits(5);
            assert_eq!(ta.await.unwrap(), None);
            assert_eq!(tb.await.unwrap().as_deref(), Some(&1), "the absence was for the other one");
        });
    });
}
#[test]
fn a_second_boarding_does_not_renew_the_stamps_of_the_first() {
    watchdog("carry", 10, || {
        run(async {
            let world = World::across_processes(|r| r).await;
            let gate = world.db.close_gate();
            let r0 = world.request();
            let t0 = tokio::spawn(async move { r0.get::<UserById>(2).await.unwrap() });
            world.db.reached(1).await;
            let other = world.beside().await;
            other.request().invalidate::<UserById>([2]).await.unwrap(); // another process
            let r1 = world.request();
            let t1 = tokio::spawn(async move { r1.get_many::<UserById>([1, 2]).await.unwrap() });
            world.db.reached(2).await; // 1 was read at version 0, 2 is joined
            world.db.update(1);
            world.cache.region("objects").clear().await.unwrap();
            gate.open_for_good();
            t0.await.unwrap();
            t1.await.unwrap();
            world.cache.idle().await;
            assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
        });
    });
}
#[test]
fn who_joins_late_sees_a_clear_by_another_process() {
    watchdog("confirmed", 10, || {
        run(async {
            let world = World::across_processes(|r| r).await;
            let other = world.beside().await;
            world.request().get::<UserById>(9).await.unwrap();
            world.cache.idle().await; // makes the generation
            let gate = world.db.close_gate();
            let a = world.request();
            let ta = tokio::spawn(async move { a.get::<UserById>(1).await.unwrap() });
            world.db.reached(2).await;
            world.db.update(1);
            other.cache.region("objects").clear().await.unwrap();
            let b = world.request();
            let tb = tokio::spawn(async move { b.get::<UserById>(1).await.unwrap() });
            world.settle().await;
            assert_eq!(world.db.started(), 2, "it has joined the load");
            gate.open_for_good();
            ta.await.unwrap();
            assert_eq!(tb.await.unwrap().unwrap().version, 1);
        });
    });
}
#[test]
fn a_forced_read_from_before_a_write_does_not_come_back_into_the_request() {
    watchdog("wide", 10, || {
        run(async {
            let world = World::new().await;
            let gate = world.db.close_gate();
            let r = world.request();
            let r2 = r.with(Force::PastRequest);
            let t = tokio::spawn(async move { r2.get::<UserById>(1).await.unwrap() });
            world.db.reached(1).await;
            let w = r.write();
            w.clear("objects").unwrap();
            world.db.update(1);
            w.published().await.unwrap();
            gate.open_for_good();
            t.await.unwrap();
            assert_eq!(r.get::<UserById>(1).await.unwrap().unwrap().version, 1);
        });
    });
}
#[test]
fn taint_travels_through_what_was_not_stored() {
    struct Y(Arc<AtomicU32>);
    struct X(Arc<AtomicU32>);
    impl Source for Y {
        type Key = u32;
        type Value = u32;
        type Error = std::convert::Infallible;
        const NAME: &'static str = "y";
        const REGION: &'static str = "objects";
        async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
            cx.do_not_store();
            let n = self.0.fetch_add(1, Ordering::SeqCst);
            Ok(ids.iter().map(|id| (*id, n)).collect())
        }
    }
    impl Source for X {
        type Key = u32;
        type Value = u32;
        type Error = mastaba::Error;
        const NAME: &'static str = "x";
        const REGION: &'static str = "objects";
        async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let got = cx.request().get_many::<Y>(ids.iter().copied()).await?;
            Ok(ids.iter().map(|id| (*id, *got[id].clone().unwrap())).collect())
        }
    }
    watchdog("taint", 10, || {
        run(async {
            let xs = Arc::new(AtomicU32::new(0));
            let cache = Cache::builder()
                .region("objects", Region::memory())
                .source(Y(Arc::default()))
                .source(X(xs.clone()))
                .build()
                .await
                .unwrap();
            cache.request().get::<X>(1).await.unwrap();
            cache.idle().await;
            cache.request().get::<X>(1).await.unwrap();
            assert_eq!(xs.load(Ordering::SeqCst), 2, "it was made of what was not to be stored");
        });
    });
}
#[test]
fn taint_travels_through_what_the_request_remembers() {
    struct Old;
    struct Before(Arc<tokio::sync::Semaphore>);
    struct After(Arc<tokio::sync::Semaphore>, Arc<AtomicU32>);
    impl Source for Old {
        type Key = u32;
        type Value = u32;
        type Error = std::convert::Infallible;
        const NAME: &'static str = "old";
        const REGION: &'static str = "objects";
        async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
            cx.do_not_store();
            Ok(ids.iter().map(|id| (*id, *id)).collect())
        }
    }
    impl Source for Before {
        type Key = u32;
        type Value = u32;
        type Error = mastaba::Error;
        const NAME: &'static str = "before";
        const REGION: &'static str = "objects";
        async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
            let old = cx.request().get::<Old>(1).await?;
            self.0.add_permits(1);
            Ok(ids.iter().map(|id| (*id, *old.clone().unwrap())).collect())
        }
    }
    impl Source for After {
        type Key = u32;
        type Value = u32;
        type Error = mastaba::Error;
        const NAME: &'static str = "after";
        const REGION: &'static str = "objects";
        async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
            if self.1.fetch_add(1, Ordering::SeqCst) == 0 {
                self.0.acquire().await.unwrap().forget(); // the other loader has read it
            }
            let old = cx.request().get::<Old>(1).await?;
            Ok(ids.iter().map(|id| (*id, *old.clone().unwrap())).collect())
        }
    }
    watchdog("remembered", 10, || {
        run(async {
            let (read, loads) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
            let cache = Cache::builder()
                .region("objects", Region::memory())
                .source(Old)
                .source(Before(read.clone()))
                .source(After(read, loads.clone()))
                .build()
                .await
                .unwrap();
            let request = cache.request();
            let (before, after) = tokio::join!(request.get::<Before>(1), request.get::<After>(1));
            assert_eq!((before.unwrap().as_deref(), after.unwrap().as_deref()), (Some(&1), Some(&1)));
            assert_eq!(
                request.report().statements(),
                3,
                "the second loader took what the first one had read"
            );
            cache.idle().await;
            cache.request().get::<After>(1).await.unwrap();
            assert_eq!(loads.load(Ordering::SeqCst), 2, "it was made of what was not to be stored");
        });
    });
}
#[test]
fn a_row_for_one_request_reaches_no_other() {
    struct U(Arc<AtomicU32>, Arc<tokio::sync::Semaphore>);
    impl Source for U {
        type Key = u32;
        type Value = u32;
        type Error = std::convert::Infallible;
        const NAME: &'static str = "u";
        const REGION: &'static str = "objects";
        async fn load_many(&self, _: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
            let n = self.0.fetch_add(1, Ordering::SeqCst);
            let _ = self.1.acquire().await;
            let mut rows = Rows::new();
            for id in ids {
                rows.insert_with(*id, n, EntryPolicy::unstored());
            }
            Ok(rows)
        }
    }
    watchdog("unstored", 10, || {
        run(async {
            let sem = Arc::new(tokio::sync::Semaphore::new(0));
            let loads = Arc::new(AtomicU32::new(0));
            let cache = Cache::builder()
                .region("objects", Region::memory())
                .source(U(loads.clone(), sem.clone()))
                .build()
                .await
                .unwrap();
            let (a, b) = (cache.request(), cache.request());
            let ta = tokio::spawn(async move { a.get::<U>(1).await.unwrap() });
            begun(&loads, 1).await;
            let tb = tokio::spawn(async move { b.get::<U>(1).await.unwrap() });
            settle().await;
            assert_eq!(loads.load(Ordering::SeqCst), 1, "the second one has joined the first");
            sem.add_permits(5);
            assert_eq!((ta.await.unwrap().as_deref(), tb.await.unwrap().as_deref()), (Some(&0), Some(&1)));
        });
    });
}
mod near_in_nested {
    use super::*;
    use mastaba::shared::memory::Memory;
    use mastaba_test::world::Watched;
    struct Inner(Arc<AtomicU32>);
    struct Derived;
    impl Source for Inner {
        type Key = u32;
        type Value = u32;
        type Error = std::convert::Infallible;
        const NAME: &'static str = "inner";
        const REGION: &'static str = "objects";
        async fn load_many(&self, _: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
            let n = self.0.load(Ordering::SeqCst);
            Ok(ids.iter().map(|id| (*id, n)).collect())
        }
    }
    impl Source for Derived {
        type Key = u32;
        type Value = u32;
        type Error = mastaba::Error;
        const NAME: &'static str = "derived";
        const REGION: &'static str = "objects";
        async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u32]) -> Result<Rows<Self>, Self::Error> {
            let got = cx.request().get_many::<Inner>(ids.iter().copied()).await?;
            Ok(ids.iter().map(|id| (*id, *got[id].clone().unwrap())).collect())
        }
    }
    #[test]
    fn a_load_does_not_build_on_what_near_held_before_it() {
        watchdog("near", 10, || {
            run(async {
                let db = Arc::new(AtomicU32::new(0));
                let watched = Watched::<_>::new(Memory::default(), Arc::default());
                let shared = watched.control();
                let region = Region::backend(watched).near(NearConfig::entries(100));
                let cache = Cache::builder()
                    .region("objects", region)
                    .source(Inner(db.clone()))
                    .source(Derived)
                    .build()
                    .await
                    .unwrap();
                cache.request().get::<Inner>(1).await.unwrap();
                cache.idle().await;
                let answers = shared.after("invalidate");
                let r = cache.request();
                let w = r.write();
                w.invalidate::<Inner>([1]).await.unwrap();
                w.invalidate::<Derived>([1]).await.unwrap();
                db.store(1, Ordering::SeqCst); // commit
                let t = tokio::spawn(w.published());
                answers.arrived(1).await; // both are voided, and the answer is on its way: near still has the old one
                let derived = cache.request().get::<Derived>(1).await.unwrap();
                assert_eq!(derived.as_deref(), Some(&1));
                settle().await; // its fill
                answers.open_for_good();
                t.await.unwrap().unwrap();
                cache.idle().await;
                assert_eq!(*cache.request().get::<Derived>(1).await.unwrap().unwrap(), 1);
            });
        });
    }
}
