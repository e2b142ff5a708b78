//! What the feature `metrics` records, and what it never says.
#![cfg(feature = "metrics")]

#[path = "../../mastaba-test/tests/versions/mod.rs"]
mod versions;

use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{Cache, LoadContext, NearConfig, Region, Rows, Source};
use mastaba_test::world::{UserById, Watched, World};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use versions::{Program, Shelf, V1, V2};

/// Runs on one thread with a paused clock and a recorder of its own.
fn recorded<F: Future<Output = ()>>(work: impl FnOnce(Recorded) -> F) {
    let recorder = DebuggingRecorder::new();
    let seen = Recorded(recorder.snapshotter());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let work = tokio::time::timeout(Duration::from_secs(3600), work(seen));
            work.await.expect("it hangs");
        });
    });
}

struct Recorded(Snapshotter);

impl Recorded {
    /// Everything since the last call, as `name{label=value,..} value`; without what is zero.
    fn take(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .0
            .snapshot()
            .into_vec()
            .into_iter()
            .filter_map(|(key, _, _, value)| {
                let value = match value {
                    DebugValue::Counter(0) => return None,
                    DebugValue::Counter(count) => count.to_string(),
                    DebugValue::Gauge(value) => value.to_string(),
                    DebugValue::Histogram(values) if values.is_empty() => return None,
                    DebugValue::Histogram(values) => {
                        format!("{:?}", values.iter().map(|it| it.0).collect::<Vec<_>>())
                    }
                };
                let labels: Vec<_> =
                    key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
                let name = key.key().name().trim_start_matches("mastaba_");
                Some(format!("{name}{{{}}} {value}", labels.join(",")))
            })
            .collect();
        lines.sort();
        lines
    }

    /// Those whose names begin so.
    fn take_of(&self, names: &[&str]) -> Vec<String> {
        self.take().into_iter().filter(|line| names.iter().any(|name| line.starts_with(name))).collect()
    }
}

#[test]
fn a_cold_and_a_warm_get_are_counted_by_tier() {
    recorded(|seen| async move {
        let world = World::new().await;
        *world.db.takes.lock().unwrap() = Duration::from_millis(250);
        world.request().get_many::<UserById>([1, 2, 2000]).await.unwrap();
        world.idle().await;
        assert_eq!(
            seen.take(),
            [
                "absences_total{region=objects,source=user} 1",
                "breaker_state{region=objects} 0",
                "fills_total{region=objects,outcome=stored} 3",
                "load_keys{region=objects,source=user} [3.0]",
                "load_seconds{region=objects,source=user,outcome=ok} [0.25]",
                "loaded_keys_total{region=objects,source=user} 3",
                "loads_total{region=objects,source=user,outcome=ok} 1",
                "misses_total{region=objects,source=user} 3",
                "statements_total{region=objects,source=user} 1",
                "trip_keys{region=objects,operation=fill} [3.0]",
                "trip_keys{region=objects,operation=lease} [3.0]",
                "trip_keys{region=objects,operation=read} [3.0]",
                "trip_seconds{region=objects,operation=fill,outcome=ok} [0.0]",
                "trip_seconds{region=objects,operation=lease,outcome=ok} [0.0]",
                "trip_seconds{region=objects,operation=read,outcome=ok} [0.0]",
            ]
        );
        let request = world.request();
        for _ in 0..3 {
            request.get_many::<UserById>([1, 2000]).await.unwrap();
        }
        let settled = seen.take_of(&["hits", "misses", "absences", "loads"]);
        assert_eq!(
            settled,
            [
                "absences_total{region=objects,source=user} 1",
                "hits_total{region=objects,source=user,tier=shared} 2"
            ]
        );
        drop(request);
        world.idle().await;
        assert_eq!(seen.take_of(&["hits"]), ["hits_total{region=objects,source=user,tier=request} 4"]);
    });
}

#[test]
fn near_hits_are_told_when_the_request_ends_and_voids_when_they_happen() {
    recorded(|seen| async move {
        let world = World::with(|region| region.near(NearConfig::entries(100))).await;
        world.sees(1).await;
        world.idle().await;
        seen.take();
        world.sees(1).await;
        assert_eq!(
            seen.take(),
            ["breaker_state{region=objects} 0", "hits_total{region=objects,source=user,tier=near} 1"]
        );
        world.request().invalidate::<UserById>([1, 2]).await.unwrap();
        assert_eq!(seen.take_of(&["near"]), ["near_voided_total{region=objects,source=user} 2"]);
    });
}

#[test]
fn a_fill_that_its_fence_refuses_is_counted_so() {
    recorded(|seen| async move {
        let world = World::new().await;
        let gate = world.db.close_gate();
        let reader = world.start::<UserById>(1);
        gate.arrived(1).await;
        world.request().invalidate::<UserById>([1]).await.unwrap();
        gate.open_for_good();
        reader.await.unwrap();
        world.idle().await;
        assert_eq!(seen.take_of(&["fills"]), ["fills_total{region=objects,outcome=refused} 1"]);
    });
}

#[test]
fn a_reader_of_another_readers_load_is_a_join_and_a_failed_load_says_how() {
    recorded(|seen| async move {
        let world = World::new().await;
        let gate = world.db.close_gate();
        let readers = [world.start::<UserById>(1), world.start::<UserById>(1)];
        gate.arrived(1).await;
        world.settle().await;
        gate.open_for_good();
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(seen.take_of(&["joins"]), ["joins_total{region=objects,source=user} 1"]);
        world.db.fail_next(mastaba_test::world::DbFault::Hang);
        assert!(world.request().get::<UserById>(2).await.is_err());
        assert_eq!(
            seen.take_of(&["failed", "loads", "load_seconds"]),
            [
                "failed_keys_total{region=objects,source=user} 1",
                "load_seconds{region=objects,source=user,outcome=timeout} [10.0]",
                "loads_total{region=objects,source=user,outcome=timeout} 1",
            ]
        );
    });
}

#[test]
fn a_breaker_goes_through_its_states() {
    recorded(|seen| async move {
        let slow = |region: Region| region.outage_loads_per_second(Some(10));
        let world = World::with(slow).await;
        let of = ["breaker", "faults", "passed_over", "held_back_loads"];
        world.shared.down(&["read"]);
        for key in 1..=5 {
            world.sees(key).await;
        }
        assert_eq!(
            seen.take_of(&of),
            [
                "breaker_state{region=objects} 2",
                "breaker_transitions_total{region=objects,outcome=opened} 1",
                "faults_total{region=objects,operation=read,outcome=down} 5",
                "held_back_loads_total{region=objects,source=user,outcome=waited} 4",
            ]
        );
        world.sees(6).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        world.sees(7).await;
        assert_eq!(
            seen.take_of(&of),
            [
                "breaker_state{region=objects} 2",
                "breaker_transitions_total{region=objects,outcome=still_open} 1",
                "breaker_transitions_total{region=objects,outcome=trying} 1",
                "faults_total{region=objects,operation=read,outcome=down} 1",
                "held_back_loads_total{region=objects,source=user,outcome=waited} 1",
                "passed_over_total{region=objects,operation=read} 1",
            ]
        );
        world.shared.down(&[]);
        tokio::time::advance(Duration::from_secs(2)).await;
        let gate = world.shared.before("read");
        let probe = world.start::<UserById>(8);
        gate.arrived(1).await;
        assert!(seen.take().contains(&"breaker_state{region=objects} 1".to_owned()), "while it tries");
        gate.open_for_good();
        probe.await.unwrap();
        assert_eq!(
            seen.take_of(&["breaker"]),
            ["breaker_state{region=objects} 0", "breaker_transitions_total{region=objects,outcome=closed} 1"]
        );
    });
}

#[test]
fn no_label_has_a_key_or_a_tag_in_it() {
    const KEY: u64 = 777;
    recorded(|seen| async move {
        let world = World::with(|region| region.near(NearConfig::entries(100))).await;
        world.sees(KEY).await;
        world.idle().await;
        world.sees(KEY).await;
        world.cache.region("objects").invalidate_tag("of-a-tag").await.unwrap();
        world.request().invalidate::<UserById>([KEY]).await.unwrap();
        world.db.fail_next(mastaba_test::world::DbFault::Error(format!("no {KEY}")));
        assert!(world.request().get::<UserById>(KEY).await.is_err());
        world.shared.down(&["read", "lease", "fill", "invalidate"]);
        for _ in 0..7 {
            world.sees(KEY).await;
        }
        assert!(!world.request().invalidate::<UserById>([KEY]).await.unwrap().is_confirmed());
        let lines = seen.take();
        assert!(lines.len() > 20, "{lines:#?}");
        for line in &lines {
            let labels = line.split_once('{').unwrap().1.split_once('}').unwrap().0;
            assert!(!labels.contains("777") && !labels.contains("of-a-tag"), "{line}");
            for label in labels.split(',') {
                let name = label.split('=').next().unwrap();
                assert!(["region", "source", "tier", "operation", "outcome"].contains(&name), "{line}");
            }
        }
    });
}

#[test]
fn everything_is_described_when_the_cache_is_built() {
    recorded(|seen| async move {
        World::new().await;
        let state = seen.0.snapshot().into_vec();
        assert_eq!(state.len(), 1, "nothing is counted yet");
        let (key, _, description, value) = &state[0];
        assert_eq!(key.key().name(), "mastaba_breaker_state");
        assert!(description.as_ref().unwrap().contains("closed"));
        assert_eq!(*value, DebugValue::Gauge(0.0.into()));
    });
}

/// Two statements for each call: rows, and what belongs to them.
struct Twice;

impl Source for Twice {
    type Key = u64;
    type Value = u64;
    type Error = std::io::Error;
    const NAME: &'static str = "twice";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, std::io::Error> {
        cx.count_statements(1);
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
}

#[test]
fn statements_that_a_loader_counts_are_recorded_beside_its_calls() {
    recorded(|seen| async move {
        let cache = Cache::builder().region("objects", Region::memory()).source(Twice).build().await.unwrap();
        cache.request().get_many::<Twice>([1, 2]).await.unwrap();
        cache.request().get::<Twice>(3).await.unwrap();
        assert_eq!(
            seen.take_of(&["loads", "statements"]),
            [
                "loads_total{region=objects,source=twice,outcome=ok} 2",
                "statements_total{region=objects,source=twice} 4",
            ]
        );
    });
}

#[test]
fn keys_that_stand_there_as_another_version_writes_them_are_counted() {
    recorded(|seen| async move {
        let (memory, shelf) = (Memory::default(), Shelf::new());
        let region = || Region::backend(Watched::<_, true>::new(memory.clone(), std::sync::Arc::default()));
        let one = Program::<V1>::start(region(), &shelf).await;
        one.warm(1).await;
        let two = Program::<V2>::start(region(), &shelf).await;
        seen.take();
        two.cache.request().get_many::<V2>(1..=3).await.unwrap();
        two.cache.idle().await;
        let counted = seen.take_of(&["other_shape_total", "misses_total"]);
        let of = "{region=objects,source=thing}";
        assert_eq!(counted, [format!("misses_total{of} 3"), format!("other_shape_total{of} 1")]);
    });
}
