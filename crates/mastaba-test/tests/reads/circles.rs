//! Loaders and hooks that read, in a roundabout way, what waits for themselves: they are told at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mastaba::shared::memory::Memory;
use mastaba::{Cache, Error, Fetched, Force, LoadContext, RequestCache, Rows, Source};
use mastaba_test::world::World;
use tokio::time::Instant;

/// How a loader gets at what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The request that it loads for.
    Own,
    /// A new request of the same cache.
    New,
    /// A new request, in a part of the loader's own task that is awaited beside another one.
    NewJoined,
    /// A new request, in a task of its own.
    NewSpawned,
    /// A clone of the request that it loads for, in a task of its own.
    OwnSpawned,
    /// A request that was there before, and that others read through.
    Lent,
    /// A new request, past everything that is known.
    NewPastShared,
}

/// What reads what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Loading,
    BeforeStoring,
    AfterFetching,
}

type Reads = BTreeMap<(&'static str, u32, At), (&'static str, u32, By)>;

#[derive(Default)]
struct Plan {
    cache: OnceLock<Cache>,
    lent: OnceLock<RequestCache>,
    reads: Mutex<Reads>,
}

impl Plan {
    /// Key `key` of a source reads another one.
    fn says(&self, who: (&'static str, u32, At), reads: (&'static str, u32, By)) {
        self.reads.lock().unwrap().insert(who, reads);
    }

    async fn follow(
        &self,
        cx: &LoadContext<'_>,
        name: &'static str,
        keys: &[u32],
        at: At,
    ) -> Result<(), Error> {
        for key in keys {
            let next = self.reads.lock().unwrap().get(&(name, *key, at)).copied();
            let Some((source, key, by)) = next else { continue };
            let new = || self.cache.get().unwrap().request();
            match by {
                By::Own => get(cx.request().clone(), source, key).await?,
                By::New => get(new(), source, key).await?,
                By::NewJoined => drop(tokio::try_join!(get(new(), source, 900), get(new(), source, key))?),
                By::NewSpawned => tokio::spawn(get(new(), source, key)).await.unwrap()?,
                By::OwnSpawned => tokio::spawn(get(cx.request().clone(), source, key)).await.unwrap()?,
                By::Lent => get(self.lent.get().unwrap().clone(), source, key).await?,
                By::NewPastShared => get(new().with(Force::PastShared), source, key).await?,
            }
        }
        Ok(())
    }
}

fn get(request: RequestCache, source: &'static str, key: u32) -> BoxFuture<'static, Result<(), Error>> {
    async move {
        match source {
            "left" => request.get::<Left>(key).await.map(drop),
            "right" => request.get::<Right>(key).await.map(drop),
            _ => request.get::<Hooked>(key).await.map(drop),
        }
    }
    .boxed()
}

macro_rules! source {
    ($this:ident, $name:literal $(, $hook:item)?) => {
        struct $this(Arc<Plan>);

        impl Source for $this {
            type Key = u32;
            type Value = u32;
            type Error = Error;
            const NAME: &'static str = $name;
            const REGION: &'static str = "objects";

            async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, Error> {
                // so long that others can be under way
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.0.follow(cx, $name, keys, At::Loading).await?;
                Ok(keys.iter().map(|key| (*key, *key)).collect())
            }

            async fn before_store(&self, cx: &LoadContext<'_>, rows: &mut Rows<Self>) -> Result<(), Error> {
                let keys: Vec<_> = rows.iter().map(|(key, _)| *key).collect();
                self.0.follow(cx, $name, &keys, At::BeforeStoring).await
            }

            $($hook)?
        }
    };
}

source!(Left, "left");
source!(Right, "right");
source!(
    Hooked,
    "hooked",
    async fn after_fetch(&self, cx: &LoadContext<'_>, rows: &mut Fetched<Self>) -> Result<(), Error> {
        let keys: Vec<_> = rows.iter().map(|(key, _)| *key).collect();
        self.0.follow(cx, "hooked", &keys, At::AfterFetching).await
    }
);

async fn world<const PROCESSES: bool>() -> (World, Arc<Plan>) {
    let plan = Arc::new(Plan::default());
    let world = World::build::<PROCESSES>(
        Memory::default(),
        |region| region,
        |builder, _| {
            builder.source(Left(plan.clone())).source(Right(plan.clone())).source(Hooked(plan.clone()))
        },
    )
    .await;
    plan.cache.set(world.cache.clone()).ok().unwrap();
    plan.lent.set(world.request()).ok().unwrap();
    (world, plan)
}

/// The error of a read, which must come at once.
async fn told(read: impl Future<Output = Result<(), Error>>) -> String {
    let began = Instant::now();
    let error = read.await.unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(20), "{error}, after {:?}", began.elapsed());
    assert!(error.to_string().contains("wait for ever"), "{error}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_reads_its_own_key_is_told_at_once_through_whichever_request() {
    for by in [By::Own, By::New, By::NewJoined, By::OwnSpawned] {
        for at in [At::Loading, At::BeforeStoring] {
            let (world, plan) = world::<false>().await;
            plan.says(("left", 1, at), ("left", 1, by));
            let said = told(get(world.request(), "left", 1)).await;
            let sentence = "source left: its loader or hook reads from source left a key";
            assert!(said.contains(sentence), "{by:?}, {at:?}: {said}");
            assert!(get(world.request(), "left", 2).await.is_ok(), "and other keys are well");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_loads_in_a_circle_are_told_at_once() {
    for by in [By::Own, By::New, By::NewJoined, By::OwnSpawned] {
        for across in [false, true] {
            let (world, plan) = if across { world::<true>().await } else { world::<false>().await };
            plan.says(("left", 1, At::Loading), ("right", 1, by));
            plan.says(("right", 1, At::Loading), ("left", 1, By::New));
            let said = told(get(world.request(), "left", 1)).await;
            assert!(said.contains("source left"), "{by:?}: {said}");
            plan.reads.lock().unwrap().clear();
            assert!(get(world.request(), "left", 1).await.is_ok(), "an error is not remembered");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_may_read_another_key_of_its_source_through_a_new_request() {
    let (world, plan) = world::<false>().await;
    for key in 1..20 {
        plan.says(("left", key, At::Loading), ("left", key + 1, By::New));
    }
    get(world.request(), "left", 1).await.unwrap();
    let report = world.request();
    assert_eq!(report.get::<Left>(20).await.unwrap().as_deref(), Some(&20));
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_reads_its_own_key_through_a_request_that_it_was_lent_is_told_at_once() {
    let (world, plan) = world::<false>().await;
    plan.says(("left", 1, At::Loading), ("left", 1, By::Lent));
    told(get(plan.lent.get().unwrap().clone(), "left", 1)).await;
    told(get(world.request(), "left", 1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_waits_for_the_fill_of_its_own_load_is_told_at_once() {
    // where other processes may invalidate, a late reader takes the result of a load when it is stored, which is after
    // the hook of that load
    let (world, plan) = world::<true>().await;
    plan.says(("hooked", 1, At::AfterFetching), ("hooked", 1, By::New));
    told(get(world.request(), "hooked", 1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_in_the_background_that_reads_its_own_key_does_not_hang() {
    let second = Duration::from_secs(1);
    let plan = Arc::new(Plan::default());
    let world = World::build::<false>(
        Memory::default(),
        |region| region.ttl(10 * second).stale(3600 * second),
        |builder, _| {
            builder.source(Left(plan.clone())).source(Right(plan.clone())).source(Hooked(plan.clone()))
        },
    )
    .await;
    plan.cache.set(world.cache.clone()).ok().unwrap();
    get(world.request(), "left", 1).await.unwrap();
    world.idle().await;
    tokio::time::advance(11 * second).await;
    // the value is served as stale, and what loads it anew reads what waits for itself
    plan.says(("left", 1, At::Loading), ("right", 1, By::New));
    plan.says(("right", 1, At::Loading), ("right", 1, By::New));
    let began = Instant::now();
    get(world.request(), "left", 1).await.unwrap();
    world.idle().await;
    assert!(began.elapsed() < second, "{:?}", began.elapsed());
    assert!(world.events().iter().any(|event| event.contains("wait for ever")), "{:?}", world.events());
}

#[tokio::test(start_paused = true)]
async fn two_requests_whose_loads_wait_for_each_other_come_through_after_a_soft_budget() {
    let (world, plan) = world::<false>().await;
    // left 1 and right 1 travel with left 2 and right 2, and each pair waits for a key of the other pair
    plan.says(("left", 1, At::Loading), ("right", 2, By::New));
    plan.says(("right", 1, At::Loading), ("left", 2, By::New));
    let (a, b) = (world.request(), world.request());
    let began = Instant::now();
    let (left, right) = tokio::join!(a.get_many::<Left>([1, 2]), b.get_many::<Right>([1, 2]));
    assert!(left.is_ok() && right.is_ok(), "{left:?} {right:?}");
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_loads_itself_anew_again_and_again_ends() {
    let (world, plan) = world::<false>().await;
    plan.says(("left", 1, At::Loading), ("left", 1, By::NewPastShared));
    let error = get(world.request(), "left", 1).await.unwrap_err();
    assert!(error.to_string().contains("never end"), "{error}");
    world.idle().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_loader_spawns_with_a_new_request_is_not_known_to_be_its_own() {
    let (world, plan) = world::<false>().await;
    plan.says(("left", 1, At::Loading), ("left", 1, By::NewSpawned));
    let began = Instant::now();
    let error = get(world.request(), "left", 1).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(11), "and ends with its budget");
}
