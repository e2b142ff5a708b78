//! Invalidations that the shared tier did not confirm: never forgotten, and in force meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{Cache, LoadContext, NearConfig, Region, Rows, Source, Tier};
use mastaba_test::faulty::{Faults, Faulty, Mishap, Op};
use mastaba_test::world::{UserById, World};
use tokio::runtime::Builder;

const LONG: Duration = Duration::from_secs(20);

/// How often an invalidation is tried before it is kept.
const ATTEMPTS: usize = 3;

fn near(region: Region) -> Region {
    region.near(NearConfig::entries(1000))
}

async fn tier(world: &World, key: u64) -> Option<Tier> {
    world.request().get_outcomes::<UserById>([key]).await[&key].tier()
}

#[tokio::test(start_paused = true)]
async fn time_does_not_go_backwards_when_the_shared_tier_comes_back_with_old_values() {
    for configure in [near as fn(Region) -> Region, |region| region] {
        let world = World::with(configure).await;
        assert_eq!(world.sees(1).await, 0);
        world.idle().await;
        world.db.update(1);
        world.shared.down(&["read", "lease", "fill", "invalidate"]);
        let published = world.request().invalidate::<UserById>([1]).await.unwrap();
        assert!(!published.is_confirmed());
        assert!(published.confirmed(Duration::from_millis(10)).await.unwrap_err().is_shared());
        assert_eq!(world.sees(1).await, 1);

        // reads are answered again, with what was there before, and invalidations are not yet
        world.shared.down(&["invalidate"]);
        tokio::time::sleep(Duration::from_secs(5)).await; // the breaker lets somebody try
        for _ in 0..3 {
            assert_eq!(world.sees(1).await, 1);
            world.idle().await;
        }
        let other = world.second().await;
        assert_eq!(other.sees(1).await, 0, "another process cannot know");

        world.shared.down(&[]);
        published.confirmed(LONG).await.unwrap();
        assert_eq!(other.sees(1).await, 1);
        assert_eq!(world.sees(1).await, 1);
        world.idle().await;
        assert_ne!(tier(&world, 1).await, Some(Tier::Source), "stored again");
        let events = world.events();
        let said = |what: &str| events.iter().filter(|event| event.contains(what)).count();
        let unconfirmed = "the shared tier has not confirmed that 1 key, tag or region was invalidated, which is sent \
                           again (user: 1, ..)";
        assert_eq!((said(unconfirmed), said("has confirmed, ")), (1, 1), "{events:?}");
    }
}

#[tokio::test]
async fn what_was_read_from_the_shared_tier_before_it_was_kept_does_not_come_into_near_after_it() {
    let short = Duration::from_millis(1);
    let world = World::with(|region| region.near(NearConfig::entries(1000).ttl(Some(short)))).await;
    assert_eq!(world.sees(1).await, 0);
    world.idle().await;
    std::thread::sleep(short * 5); // near has forgotten it, and the shared tier has not
    let read = world.shared.after("read");
    let reader = world.start::<UserById>(1);
    read.arrived(1).await;
    world.db.update(1);
    world.shared.down(&["invalidate"]);
    let published = world.request().invalidate::<UserById>([1]).await.unwrap();
    assert!(!published.is_confirmed());
    read.open_for_good();
    assert_eq!(reader.await.unwrap().version, 1, "its answer is from before");
    assert_eq!(tier(&world, 1).await, Some(Tier::Source));
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_the_confirmation_is_not_used_after_it() {
    let world = World::new().await;
    assert_eq!(world.sees(1).await, 0);
    world.idle().await;
    world.db.update(1);
    world.shared.down(&["invalidate"]);
    let published = world.request().invalidate::<UserById>([1]).await.unwrap();
    let read = world.shared.after("read");
    let reader = world.start::<UserById>(1); // would have its answer, which is old, by the time that it is confirmed
    world.settle().await;
    world.shared.down(&[]);
    published.confirmed(LONG).await.unwrap();
    read.open_for_good();
    assert_eq!(reader.await.unwrap().version, 1);
}

#[tokio::test(start_paused = true)]
async fn tags_and_regions_are_kept_as_keys_are() {
    for by_tag in [false, true] {
        // near may answer for what does not stand under the tag
        let world = World::with(|region| if by_tag { region } else { near(region) }).await;
        assert_eq!(world.sees(1).await, 0);
        world.idle().await;
        world.db.update(1);
        world.shared.down(&["invalidate"]);
        let region = world.cache.region("objects");
        let published = match by_tag {
            true => region.invalidate_tag("team").await.unwrap(),
            false => region.clear().await.unwrap(),
        };
        assert_eq!(world.sees(1).await, 1, "nothing of the region is used until it is confirmed");
        world.idle().await;
        assert_eq!(tier(&world, 1).await, Some(Tier::Source), "and nothing stored");
        world.shared.down(&[]);
        published.confirmed(LONG).await.unwrap();
        if !by_tag {
            assert_eq!(world.sees(1).await, 1);
        }
        world.idle().await;
        assert_ne!(tier(&world, 1).await, Some(Tier::Source));
    }
}

#[tokio::test(start_paused = true)]
async fn they_are_sent_in_the_order_of_the_writes_and_each_once_when_the_tier_is_back() {
    let world = World::new().await;
    world.shared.down(&["invalidate"]);
    let mut last = None;
    for key in [3, 1, 2] {
        last = Some(world.request().invalidate::<UserById>([key]).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.trips();
    world.shared.down(&[]);
    last.unwrap().confirmed(LONG).await.unwrap();
    let trips = ["shared invalidate [3]", "shared invalidate [1]", "shared invalidate [2]"];
    assert_eq!(world.trips(), trips, "inner objects before those derived from them (R7)");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_once_costs_nothing_but_another_try() {
    let world = World::new().await;
    let faults = Faults::new();
    let store = Faulty::new(world.memory.clone(), faults.clone());
    let cache = Cache::builder().region("objects", Region::backend(store)).source(UserById(world.db.clone()));
    let cache = cache.build().await.unwrap();
    for mishap in [Mishap::Down, Mishap::Lost] {
        faults.next(Op::Invalidate, mishap);
        let published = cache.request().invalidate::<UserById>([1]).await.unwrap();
        assert!(published.is_confirmed() && published.error().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn more_keys_than_are_kept_become_the_whole_region() {
    let world = World::new().await;
    assert_eq!(world.sees(1).await, 0);
    world.idle().await;
    world.db.update(1);
    world.shared.down(&["invalidate"]);
    let first = world.request().invalidate::<UserById>([1]).await.unwrap();
    let last = world.request().invalidate::<UserById>(1000..101_001).await.unwrap();
    world.trips();
    world.shared.down(&[]);
    last.confirmed(LONG).await.unwrap();
    assert!(first.is_confirmed());
    assert_eq!(world.trips(), ["shared invalidate [@generation]"]);
    assert_eq!(world.sees(1).await, 1);
}

#[test]
fn what_a_runtime_left_unsent_is_sent_by_the_next_one_that_reads() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let world = first.block_on(World::new());
    let published = first.block_on(async {
        assert_eq!(world.sees(1).await, 0);
        world.idle().await;
        world.db.update(1);
        world.shared.down(&["invalidate"]);
        world.request().invalidate::<UserById>([1]).await.unwrap()
    });
    drop(first);
    world.shared.down(&[]);
    runtime().block_on(async {
        assert_eq!(world.sees(1).await, 1);
        published.confirmed(LONG).await.unwrap();
        assert!(published.is_confirmed());
        assert_eq!(world.second().await.sees(1).await, 1);
    });
}

#[test]
fn a_write_that_was_cut_off_by_the_end_of_its_runtime_is_sent_by_the_next_one() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let world = first.block_on(World::new());
    first.block_on(async {
        assert_eq!(world.sees(1).await, 0);
        world.idle().await;
        let write = world.cache.scope("rename everybody").write();
        write.invalidate::<UserById>([1]).await.unwrap();
        let gate = world.shared.before("invalidate");
        let (db, committed) =
            (world.db.clone(), async |db: std::sync::Arc<mastaba_test::world::Db>| db.update(1));
        let commit = async move { Ok::<_, String>(committed(db).await) };
        tokio::spawn(write.commit(commit));
        gate.arrived(1).await;
        gate.only_those_here();
    });
    drop(first);
    runtime().block_on(async {
        assert_eq!(world.sees(1).await, 1);
        let other = world.second().await;
        let until = tokio::time::Instant::now() + LONG;
        while other.sees(1).await != 1 {
            assert!(tokio::time::Instant::now() < until, "it was committed, and never sent");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.idle().await;
        // both are said outside of the task of the write, and of every span
        for said in ["has not confirmed", "has confirmed"] {
            let named = |event: &String| {
                event.contains(said) && event.contains("(user: 1, ..), written by rename everybody")
            };
            assert!(world.events().iter().any(named), "{said}: {:?}", world.events());
        }
    });
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_what_is_unsent_and_says_what_is_left() {
    let world = World::new().await;
    world.shared.down(&["invalidate"]);
    world.request().invalidate::<UserById>([1, 2]).await.unwrap();
    let error = world.cache.close().await.unwrap_err();
    assert!(error.is_shared() && error.to_string().contains("2 invalidated keys"), "{error}");
    world.shared.down(&[]);
    tokio::time::sleep(LONG).await;
    world.cache.close().await.unwrap();
}

struct Inner(Arc<AtomicU32>);

impl Source for Inner {
    type Key = u8;
    type Value = u32;
    type Error = mastaba::Error;
    const NAME: &'static str = "inner";
    const REGION: &'static str = "inner";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u8]) -> Result<Rows<Self>, Self::Error> {
        Ok(keys.iter().map(|key| (*key, self.0.load(SeqCst))).collect())
    }
}

/// What it was in the cache, in the same region or in another one.
struct Derived<const SAME: bool>;

impl<const SAME: bool> Source for Derived<SAME> {
    type Key = u8;
    type Value = u32;
    type Error = mastaba::Error;
    const NAME: &'static str = if SAME { "derived.here" } else { "derived.there" };
    const REGION: &'static str = if SAME { "inner" } else { "derived" };

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u8]) -> Result<Rows<Self>, Self::Error> {
        let inner = cx.request().get_many::<Inner>(keys.iter().copied()).await?;
        Ok(inner.found().map(|(key, value)| (*key, **value)).collect())
    }
}

/// What is derived is made anew, by another process, from what was collected before it and is still there.
async fn derived_is_current_in_the_end<const SAME: bool>() {
    let current = Arc::new(AtomicU32::new(0));
    let (inner, derived, faults) = (Memory::default(), Memory::default(), Faults::new());
    let process = async |faults: &Faults| {
        Cache::builder()
            .region("inner", Region::backend(Faulty::new(inner.clone(), faults.clone())))
            .region("derived", Region::backend(derived.clone()))
            .source(Inner(current.clone()))
            .source(Derived::<SAME>)
            .build()
            .await
            .unwrap()
    };
    let (writer, other) = (process(&faults).await, process(&Faults::new()).await);
    let sees = async || *other.request().get::<Derived<SAME>>(1).await.unwrap().unwrap();
    assert_eq!(sees().await, 0);
    other.idle().await;

    current.store(1, SeqCst); // committed
    let write = writer.request().write();
    write.invalidate::<Inner>([1]).await.unwrap();
    write.invalidate::<Derived<SAME>>([1]).await.unwrap();
    for _ in 0..ATTEMPTS {
        faults.next(Op::Invalidate, Mishap::Down);
    }
    let published = write.published().await.unwrap();
    assert!(!published.is_confirmed());
    assert_eq!(sees().await, 0, "voided, and made anew from the old one");
    other.idle().await;
    published.confirmed(LONG).await.unwrap();
    assert_eq!(sees().await, 1, "in the same region: {SAME}");
}

#[tokio::test(start_paused = true)]
async fn what_is_derived_is_voided_again_once_what_it_is_derived_from_is_confirmed() {
    derived_is_current_in_the_end::<true>().await;
    derived_is_current_in_the_end::<false>().await;
}
