//! The store runs out of memory, under each policy of eviction (R14).

use crate::common;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use common::{Process, Stage, faults, limited, until};
use mastaba::{Region, Tier};
use mastaba_test::servers::RedisServer;
use mastaba_test::world::UserById;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

const ROOM: usize = 3 << 20;

fn shape(policy: &str) -> mastaba_test::servers::RedisBuilder {
    RedisServer::builder().set("maxmemory-policy", policy)
}

/// Bounds the memory by what is used now and a little more.
async fn bound(stage: &Stage) {
    let used: usize = stage.server.info("memory").await["used_memory"].parse().unwrap();
    stage.server.config_set("maxmemory", &(used + ROOM).to_string()).await;
}

/// More is used than may be, and nothing can be evicted.
async fn fill_up(stage: &Stage) {
    stage.server.config_set("maxmemory", "100kb").await;
    assert!(stage.server.command(&["SET", "junk", "x"]).await.starts_with("OOM"));
}

/// Stores things of others that live longer than a lease, until `enough`.
async fn press(stage: &Stage, enough: impl AsyncFn() -> bool) {
    let junk = "x".repeat(50_000);
    for number in 0..10_000 {
        let reply = stage.server.command(&["SET", &format!("junk:{number}"), &junk, "EX", "3600"]).await;
        if reply.starts_with("OOM") || (number % 10 == 0 && enough().await) {
            return;
        }
    }
    panic!("500 MB were not enough");
}

async fn evicted(stage: &Stage) -> u64 {
    stage.server.info("stats").await["evicted_keys"].parse().unwrap()
}

#[tokio::test]
async fn a_full_server_serves_what_it_has_and_voids_and_stores_nothing() {
    limited(async {
        let leases = |region: Region| region.fill_without_lease(false);
        let Some(stage) = Stage::over(shape("noeviction"), leases).await else { return };
        for process in stage.both() {
            process.warm(1).await;
            process.warm(2).await;
        }
        fill_up(&stage).await;
        for process in stage.both() {
            let (seen, statements) = stage.statements(process.finds(1)).await;
            assert_eq!((seen, statements), ((0, Tier::Shared), 0), "reads go on");
        }
        // a miss cannot be leased: it is loaded and not stored, and nobody is told but the operator
        let (seen, statements) = stage.statements(stage.far.finds(3)).await;
        assert_eq!((seen, statements), ((0, Tier::Source), 1));
        stage.far.cache.idle().await;
        assert!(!stage.stands(3).await);
        let events = stage.far.events();
        assert_eq!(faults(&events).get("lease"), Some(&1), "{events:?}");
        assert!(events.iter().any(|event| event.contains("OOM")), "{events:?}");
        // what was voided is void, also where nothing stands
        for key in [1, 3] {
            stage.other.write(key).await.unwrap();
            stage.both_see(key).await;
        }
        assert!(!stage.stands(1).await);
        stage.server.config_set("maxmemory", "0").await;
        for key in [1, 2, 3] {
            stage.recovers(key).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_region_of_a_full_server_can_be_cleared() {
    limited(async {
        let Some(stage) = Stage::over(shape("noeviction"), |region| region).await else { return };
        for process in stage.both() {
            process.warm(1).await;
        }
        fill_up(&stage).await;
        let before = stage.far.finds(1).await;
        assert_eq!(before.1, Tier::Shared);
        stage.db.update(1);
        stage.other.cache.region("objects").clear().await.unwrap();
        for process in stage.both() {
            assert_eq!(process.finds(1).await, (1, Tier::Source), "what was stored is void");
        }
        stage.server.config_set("maxmemory", "0").await;
        stage.db.update(1);
        stage.other.cache.region("objects").invalidate_tag("any").await.unwrap();
        stage.other.write(1).await.unwrap();
        stage.both_see(1).await;
    })
    .await;
}

#[tokio::test]
async fn under_a_prefix_too_a_region_of_a_full_server_can_be_cleared() {
    limited(async {
        let Some(server) = shape("noeviction").start().await else { return };
        let db = Arc::default();
        let process = Process::start(&format!("{}?prefix=shop:", server.url()), &db).await;
        process.warm(1).await;
        server.config_set("maxmemory", "100kb").await;
        assert!(server.command(&["SET", "junk", "x"]).await.starts_with("OOM"));
        assert_eq!(process.finds(1).await, (0, Tier::Shared));
        db.update(1);
        process.cache.region("objects").clear().await.unwrap();
        assert_eq!(process.finds(1).await, (1, Tier::Source), "what was stored is void");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_fills_up_during_a_load_refuses_its_fill_and_the_caller_has_its_value() {
    limited(async {
        let Some(stage) = Stage::over(shape("noeviction"), |region| region).await else { return };
        stage.other.warm(2).await;
        let request = stage.far.request();
        let gate = stage.db.close_gate();
        let (loaded, ()) = tokio::join!(request.get::<UserById>(1), async {
            gate.arrived(1).await;
            fill_up(&stage).await;
            gate.open_for_good();
        });
        assert_eq!(loaded.unwrap().unwrap().version, 0);
        stage.far.cache.idle().await;
        let events = stage.far.events();
        assert_eq!(faults(&events).get("fill"), Some(&1), "{events:?}");
        stage.other.write(1).await.unwrap();
        stage.both_see(1).await;
        stage.server.config_set("maxmemory", "0").await;
        stage.recovers(1).await;
    })
    .await;
}

/// Under every policy: a load in the middle of which memory runs out, and the row is written. Its fill is refused,
/// whether its lease was evicted or not.
async fn under_pressure(policy: &str) {
    let Some(stage) = Stage::over(shape(policy), |region| region).await else { return };
    for key in 1..=3 {
        stage.other.warm(key).await;
    }
    bound(&stage).await;
    let request = stage.far.request();
    let gate = stage.db.close_gate();
    let (late, ()) = tokio::join!(request.get::<UserById>(4), async {
        gate.arrived(1).await;
        gate.only_those_here();
        press(&stage, async || evicted(&stage).await >= 100).await;
        for key in 1..=4 {
            let version = stage.other.write(key).await.unwrap();
            // a read of the far process would wait for the load that the gate holds back
            assert_eq!(stage.other.sees(key).await, version);
        }
        gate.open();
    });
    assert_eq!(late.unwrap().unwrap().version, 0, "it began before the write");
    stage.far.cache.idle().await;
    for key in 1..=4 {
        stage.both_see(key).await;
    }
    stage.server.command(&["FLUSHALL"]).await;
    stage.server.config_set("maxmemory", "0").await;
    for key in 1..=4 {
        stage.recovers(key).await;
    }
}

macro_rules! policies {
    ($($name:ident: $policy:literal),* $(,)?) => {
        $(#[tokio::test] async fn $name() { limited(under_pressure($policy)).await; })*
    };
}

policies! {
    evicting_by_allkeys_lru_serves_nothing_old: "allkeys-lru",
    evicting_by_allkeys_lfu_serves_nothing_old: "allkeys-lfu",
    evicting_by_allkeys_random_serves_nothing_old: "allkeys-random",
    evicting_by_volatile_lru_serves_nothing_old: "volatile-lru",
    evicting_by_volatile_lfu_serves_nothing_old: "volatile-lfu",
    evicting_by_volatile_random_serves_nothing_old: "volatile-random",
    evicting_by_volatile_ttl_serves_nothing_old: "volatile-ttl",
    evicting_nothing_serves_nothing_old: "noeviction",
}

#[tokio::test]
async fn a_fill_whose_lease_was_evicted_is_refused() {
    limited(async {
        let Some(stage) = Stage::over(shape("volatile-ttl"), |region| region).await else { return };
        bound(&stage).await;
        let request = stage.far.request();
        let gate = stage.db.close_gate();
        let (loaded, ()) = tokio::join!(request.get::<UserById>(1), async {
            gate.arrived(1).await;
            // it expires first, so it goes first
            press(&stage, async || !stage.stands(1).await).await;
            gate.open_for_good();
        });
        assert_eq!(loaded.unwrap().unwrap().version, 0);
        stage.far.cache.idle().await;
        assert!(!stage.stands(1).await, "without a lease there is no right to fill");
        stage.server.command(&["FLUSHALL"]).await;
        stage.recovers(1).await;
    })
    .await;
}

/// Writes down what is said at the level of warnings.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Sentence(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Sentence<'a>(&'a mut String);

impl Visit for Sentence<'_> {
    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        let _ = writeln!(self.0, "{value:?}");
    }
}

#[tokio::test]
async fn a_policy_that_evicts_leases_first_is_warned_of_at_start_and_the_others_are_not() {
    limited(async {
        for (policy, warned) in [("volatile-ttl", true), ("allkeys-lru", false), ("noeviction", true)] {
            let Some(server) = shape(policy).set("maxmemory", "100mb").start().await else { return };
            let heard = Heard::default();
            // of this thread, which is the only one
            let guard = tracing::subscriber::set_default(heard.clone());
            let process = Process::start(&server.url(), &Arc::default()).await;
            drop(guard);
            let said = heard.0.lock().unwrap().clone();
            assert_eq!(said.contains(policy), warned, "{policy}: {said:?}");
            until("a hit", async || process.warm(1).await == 0).await;
        }
    })
    .await;
}
