//! Durations from one end to the other, by every way in: one that cannot be used is refused when the cache is built, by
//! the name of its setting; with every other one, every read works.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::shared::memory::{Memory, MemoryConfig};
use mastaba::{
    Cache, Coherence, EntryPolicy, Error, LoadContext, NearConfig, Policy, Region, RegionPolicy,
    RequestCache, Rows, Source,
};
use mastaba_test::world::{Control, DbError, Watched};
use proptest::prelude::*;
use tokio::sync::Notify;
use tokio::time::{advance, sleep};

const YEAR: u64 = 366 * 24 * 3600;

/// Every setting of a policy that is a duration, and what sets it.
macro_rules! durations {
    ($settings:ident, $set:ident, $policy:ident: $($name:ident)*) => {
        const $settings: &[&str] = &[$(stringify!($name)),*];

        fn $set(policy: $policy, name: &str, to: Duration) -> $policy {
            match name {
                $(stringify!($name) => policy.$name(to),)*
                other => panic!("no setting {other}"),
            }
        }
    };
}

durations! { OF_SOURCES, set_of_source, Policy:
    ttl absent_ttl stale stale_if_error source_soft_budget source_budget lease_ttl lease_patience
}

durations! { OF_REGIONS, set_of_region, RegionPolicy: shared_soft_budget shared_budget breaker_pause hold_ttl }

/// Every way in.
const WAYS: &[Way] = &[Way::Builder, Way::Source, Way::Text];
/// A source has no way to a setting of its region.
const WAYS_OF_REGIONS: &[Way] = &[Way::Builder, Way::Text];

/// All of them, with their ways in.
fn settings() -> impl Iterator<Item = (&'static str, &'static [Way])> {
    let of_regions = OF_REGIONS.iter().map(|name| (*name, WAYS_OF_REGIONS));
    OF_SOURCES.iter().map(|name| (*name, WAYS)).chain(of_regions)
}

#[test]
fn every_duration_that_is_documented_is_tried() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/book/src/reference/settings.md");
    let page = std::fs::read_to_string(page).unwrap();
    let documented: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .filter(|(name, rest)| !name.starts_with("near.") && rest.contains(" | a duration"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(documented, settings().map(|(name, _)| name).collect::<Vec<_>>());
}

/// How a duration comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Builder,
    Source,
    Text,
    Near,
    NearText,
    Coherence,
    Entry,
}

/// As a configuration writes it.
fn text(duration: Duration) -> String {
    match duration {
        Duration::MAX => "forever".to_owned(),
        _ => format!("{}s {}ns", duration.as_secs(), duration.subsec_nanos()),
    }
}

/// What the sources of one case share.
#[derive(Default)]
struct Ground {
    fails: AtomicBool,
    waits: AtomicBool,
    go: Notify,
    policy: Option<(&'static str, Duration)>,
    entry: Option<Duration>,
}

/// Even keys exist.
struct Number(Arc<Ground>);

impl Source for Number {
    type Key = u64;
    type Value = u64;
    type Error = DbError;
    const NAME: &'static str = "number";
    const REGION: &'static str = "objects";
    const TAGS: &'static [&'static str] = &["numbers"];

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, DbError> {
        let _ = cx.deadline();
        if self.0.waits.load(Ordering::Relaxed) {
            self.0.go.notified().await;
        }
        if self.0.fails.load(Ordering::Relaxed) {
            return Err(DbError("down".into()));
        }
        let mut rows = Rows::new();
        for key in keys {
            match (key % 2 == 0, self.0.entry) {
                (true, None) => rows.insert(*key, *key),
                (true, Some(ttl)) => rows.insert_with(*key, *key, EntryPolicy::ttl(ttl)),
                (false, None) => {}
                (false, Some(ttl)) => rows.absent_with(*key, EntryPolicy::ttl(ttl)),
            }
        }
        Ok(rows)
    }

    fn policy(&self, region: &Policy) -> Policy {
        let policy = region.clone();
        match self.0.policy {
            Some((name, to)) => set_of_source(policy, name, to),
            None => policy,
        }
    }
}

/// One cache over a memory that other processes may write to, or over one of its own with near before it.
async fn cache(
    way: Way,
    name: &'static str,
    to: Duration,
    memory: &Memory,
    shared: bool,
    ground: &Arc<Ground>,
) -> Result<(Cache, Arc<Control>), Error> {
    let (region, control) = if shared {
        let watched = Watched::<_, true>::new(memory.clone(), Arc::default());
        let control = watched.control();
        (Region::backend(watched), control)
    } else {
        let watched = Watched::<_, false>::new(memory.clone(), Arc::default());
        let control = watched.control();
        (Region::backend(watched), control)
    };
    let base =
        RegionPolicy::default().stale(Duration::from_secs(60)).stale_if_error(Duration::from_secs(120));
    let policy = match way {
        Way::Builder if OF_REGIONS.contains(&name) => set_of_region(base, name, to),
        Way::Builder => {
            let sources = set_of_source(base.sources.clone(), name, to);
            base.sources(sources)
        }
        _ => base,
    };
    let mut region = region.policy(policy);
    let mut settings = HashMap::new();
    let mut near = NearConfig::entries(100);
    match way {
        Way::Text => drop(settings.insert(format!("cache.objects.{name}"), text(to))),
        Way::NearText if !shared => drop(settings.insert("cache.objects.near.ttl".to_owned(), text(to))),
        Way::Near => near = near.ttl(Some(to)),
        Way::Coherence => near = near.coherence(Coherence::Bounded(to)),
        _ => {}
    }
    if !shared {
        region = region.near(near);
    }
    let builder = Cache::from_settings(&settings).region("objects", region).source(Number(ground.clone()));
    Ok((builder.build().await?, control))
}

/// Reads in every way that a duration has a part in. Reads fail only where the source does, or has too little time.
async fn read_all(
    name: &str,
    to: Duration,
    memory: &Memory,
    ground: &Arc<Ground>,
    caches: [&(Cache, Arc<Control>); 2],
) {
    let hurried = name == "source_budget" && to < Duration::from_secs(5);
    let look = async |request: RequestCache, keys: &[u64]| {
        let found = request.get_outcomes::<Number>(keys.iter().copied()).await;
        for (key, outcome) in found {
            if let Some(error) = outcome.error() {
                assert!(hurried && error.is_timeout(), "{name} {to:?}, key {key}: {error:?}");
            } else {
                assert_eq!(outcome.value().unwrap().map(|value| **value), (key % 2 == 0).then_some(key));
            }
        }
    };
    let [(one, control), (two, _)] = caches;
    for pause in [0, 1, 200, 400, 3 * 24 * 3600] {
        advance(Duration::from_secs(pause)).await;
        for cache in [one, two] {
            look(cache.request(), &[2, 3]).await;
            cache.idle().await;
            look(cache.request(), &[2, 3]).await;
        }
    }
    assert_eq!(one.request().refresh::<Number>(2).await.unwrap().as_deref(), Some(&2), "{name} {to:?}");
    let write = one.request().write();
    write.invalidate_tag("numbers");
    write.published().await.unwrap();
    look(one.request(), &[2, 3]).await;

    // the source fails: an error of its own, or a value to fall back on
    ground.fails.store(true, Ordering::Relaxed);
    advance(Duration::from_secs(400)).await;
    for (_, outcome) in one.request().get_outcomes::<Number>([2, 3]).await {
        if let Some(error) = outcome.error() {
            assert!(error.is_source() && !error.is_panic(), "{name} {to:?}: {error:?}");
        }
    }
    ground.fails.store(false, Ordering::Relaxed);

    // two processes, one of which loads
    ground.waits.store(true, Ordering::Relaxed);
    let readers: Vec<_> = [one, two]
        .into_iter()
        .map(|cache| {
            let request = cache.request();
            tokio::spawn(async move { request.get::<Number>(12).await })
        })
        .collect();
    for _ in 0..20 {
        sleep(Duration::from_millis(1)).await;
    }
    ground.waits.store(false, Ordering::Relaxed);
    for reader in readers {
        let found = loop {
            ground.go.notify_waiters();
            if reader.is_finished() {
                break reader.await.unwrap();
            }
            sleep(Duration::from_millis(1)).await;
        };
        match found {
            Ok(found) => assert_eq!(found.as_deref(), Some(&12)),
            Err(error) => assert!(hurried && error.is_timeout(), "{name} {to:?}: {error:?}"),
        }
    }

    // the shared tier is slow, then out, then back
    control.slow(Duration::from_millis(5));
    look(one.request(), &[22, 23]).await;
    one.idle().await;
    control.slow(Duration::ZERO);
    control.down(&["read", "lease", "fill"]);
    for key in 0..20 {
        look(one.request(), &[100 + key]).await;
    }
    control.down(&[]);
    advance(Duration::from_secs(120)).await;
    look(one.request(), &[2, 3, 100]).await;
    one.idle().await;
    let _ = memory.size();
}

/// Whether it was refused.
async fn is_refused(way: Way, name: &'static str, to: Duration) -> bool {
    let mut ground = Ground::default();
    match way {
        Way::Source => ground.policy = Some((name, to)),
        Way::Entry => ground.entry = Some(to),
        _ => {}
    }
    let ground = Arc::new(ground);
    let memory = || Memory::new(MemoryConfig { max_bytes: 1 << 20, max_entries: 1000 });
    let (together, alone) = (memory(), memory());
    let built = [
        cache(way, name, to, &together, true, &ground).await,
        cache(way, name, to, &together, true, &ground).await,
        cache(way, name, to, &alone, false, &ground).await,
    ];
    if let [.., Err(error)] = &built {
        assert!(error.is_config(), "{way:?} {name} {to:?}: {error}");
        assert!(error.to_string().contains(name), "{way:?} {name} {to:?}: {error}");
        return true;
    }
    let [one, two, alone_] = built.map(|built| built.expect("what one of them takes, all do"));
    read_all(name, to, &together, &ground, [&one, &two]).await;
    read_all(name, to, &alone, &ground, [&alone_, &alone_]).await;
    false
}

fn zoo() -> Vec<Duration> {
    vec![
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_nanos(999_999),
        Duration::from_millis(1),
        Duration::from_millis(77),
        Duration::from_secs(24 * 3600),
        Duration::from_secs(100 * YEAR),
        Duration::from_secs(100 * YEAR) + Duration::from_nanos(1),
        Duration::from_secs(1_000 * YEAR),
        Duration::from_millis(i64::MAX as u64),
        Duration::from_millis(u64::MAX),
        Duration::from_secs(i64::MAX as u64),
        Duration::from_secs(u64::MAX),
        Duration::MAX - Duration::from_nanos(1),
        Duration::MAX,
    ]
}

#[tokio::test(start_paused = true)]
async fn every_duration_is_refused_at_start_by_name_or_works() {
    let refused = Mutex::new(HashMap::<_, Vec<_>>::new());
    for to in zoo() {
        for (name, ways) in settings() {
            for &way in ways {
                if is_refused(way, name, to).await {
                    refused.lock().unwrap().entry((name, to)).or_default().push(way);
                }
            }
        }
        for (way, name) in [
            (Way::Near, "near.ttl"),
            (Way::NearText, "near.ttl"),
            (Way::Coherence, "coherence"),
            (Way::Entry, "entry"),
        ] {
            let was_refused = is_refused(way, name, to).await;
            assert!(way != Way::Entry || !was_refused, "a loader's row is never refused");
        }
    }
    for ((name, to), ways) in refused.into_inner().unwrap() {
        let every = settings().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(ways, every, "{name} {to:?}: one check for every way in");
    }
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        (0..200 * YEAR).prop_map(Duration::from_secs),
        any::<u64>().prop_map(Duration::from_millis),
        any::<u64>().prop_map(Duration::from_nanos),
        (0..100_000u64).prop_map(Duration::from_millis),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_duration_is_refused_at_start_by_name_or_works(to in any_duration(), at in 0..settings().count()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (name, ways) = settings().nth(at).unwrap();
            let mut refused = Vec::new();
            for &way in ways {
                refused.push(is_refused(way, name, to).await);
            }
            assert!(refused.iter().all(|each| *each == refused[0]), "{name} {to:?}: {refused:?}");
            is_refused(Way::Near, "near.ttl", to).await;
            is_refused(Way::Entry, "entry", to).await;
        });
    }
}
