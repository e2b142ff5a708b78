//! Services that hide what a server would tell, or forbid commands: one thing at a time, and all of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use mastaba::shared::{End, Ended, Filled, Hold, Over, Shared, WriteOutcome};
use mastaba::{Cache, NearConfig, Region, Tier, WriteMode};
use mastaba_redis::{Loss, Redis};
use mastaba_test::conformance;
use mastaba_test::servers::{Cluster, RedisServer};

use super::imposter::{Imposter, Pose};
use super::support::{Log, Number, TTL, Told, assert_works, cache, connect, lease, limit, until, value};

const BOTH: &[&str] = &["run_id", "master_replid"];
const SCRIPTS: &[&str] = &["EVAL", "EVALSHA", "SCRIPT"];
/// What no service has ever forbidden at once.
const ALL: &[&str] = &["INFO", "CONFIG", "CLIENT", "HELLO", "PING", "EVAL", "EVALSHA", "SCRIPT"];

fn bare() -> Pose {
    Pose::default()
}

/// Each pose with its name, and what is lost behind it.
fn poses() -> Vec<(&'static str, Pose, Vec<Loss>)> {
    use Loss::{EvictionPolicy, Identity, Notifications, Resp3, Scripts, Stores};
    vec![
        ("nothing", bare(), vec![]),
        ("run_id", bare().hides(&["run_id"]), vec![]),
        ("master_replid", bare().hides(&["master_replid"]), vec![]),
        ("both ids", bare().hides(BOTH), vec![Identity]),
        ("the version", bare().hides(&["redis_version"]), vec![]),
        ("the role", bare().hides(&["role", "cluster_enabled"]), vec![]),
        ("the policy", bare().hides(&["maxmemory_policy"]), vec![EvictionPolicy]),
        ("INFO", bare().forbids(&["INFO"]), vec![Identity, EvictionPolicy]),
        ("CONFIG", bare().forbids(&["CONFIG"]), vec![]),
        ("CLIENT", bare().forbids(&["CLIENT"]), vec![Notifications]),
        ("BCAST", bare().forbids(&["CLIENT TRACKING ON BCAST"]), vec![Notifications]),
        ("PING", bare().forbids(&["PING"]), vec![Notifications]),
        ("HELLO", bare().forbids(&["HELLO"]), vec![Resp3]),
        ("EVALSHA", bare().compares().forbids(&["EVALSHA"]), vec![Scripts]),
        ("scripts", bare().compares().forbids(SCRIPTS), vec![Scripts]),
        ("scripts and IFEQ", bare().forbids(SCRIPTS), vec![Stores]),
        ("all but IFEQ", bare().compares().forbids(ALL), vec![Identity, EvictionPolicy, Resp3, Scripts]),
        ("all", bare().forbids(ALL), vec![Identity, EvictionPolicy, Resp3, Stores]),
    ]
}

/// The checks of the conformance suite that store a value first, or ask for a lease that is the only one: where nothing is stored
/// they fail, and no other does.
const NEEDS_STORES: &[&str] = &[
    "answers_come_in_the_order_of_the_keys",
    "a_key_may_be_asked_for_twice",
    "keys_and_payloads_may_be_any_bytes",
    "a_thousand_keys_travel_together",
    "large_values_come_back_whole",
    "a_value_expires",
    "a_lease_is_granted_once",
    "a_lease_finds_the_value_that_is_there",
    "a_lease_replaces_only_the_record_that_it_is_over",
    "a_fill_on_its_lease_is_stored",
    "an_absence_is_stored",
    "a_fill_under_another_fence_is_refused",
    "the_same_fill_again_is_refused",
    "a_value_is_refreshed_under_its_own_fence",
    "each_fill_of_a_batch_has_its_own_answer",
    "an_invalidation_removes_values",
    "a_fill_from_before_an_invalidation_never_meets_a_later_lease",
    "of_fifty_leases_one_is_granted",
    "of_fifty_fills_under_one_fence_one_is_stored",
    "random_operations_do_what_the_transitions_say",
];

/// Behind a pose, on a server of its own: whoever may use scripts renews a number that one made who may not.
async fn the_rest_conforms_behind(name: &str) {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let (_, pose, losses) = poses().into_iter().find(|(its, ..)| *its == name).unwrap();
        let service = Imposter::before(server.addr(), pose).await;
        let redis = connect(&format!("redis://{}", service.addr())).await.unwrap();
        assert_eq!(redis.losses(), losses);
        let failures = conformance::failures(|| async { redis.clone() }).await;
        let failed: Vec<_> = failures.iter().map(|failure| failure.check).collect();
        let expected = if losses.contains(&Loss::Stores) { NEEDS_STORES } else { &[] };
        let said = failures.iter().map(|failure| format!("{failure:.200}")).collect::<Vec<_>>();
        assert_eq!(failed, expected, "{said:#?}");
        assert_eq!(redis.losses(), losses, "after all of it");
    })
    .await;
}

macro_rules! each_pose {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                the_rest_conforms_behind($name).await;
            }
        )*

        #[test]
        fn each_pose_has_a_test_of_its_own() {
            let names: Vec<_> = poses().into_iter().map(|(name, ..)| name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

each_pose! {
    what_hides_nothing_conforms: "nothing",
    what_hides_run_id_conforms: "run_id",
    what_hides_master_replid_conforms: "master_replid",
    what_hides_both_ids_conforms: "both ids",
    what_hides_the_version_conforms: "the version",
    what_hides_the_role_conforms: "the role",
    what_hides_the_policy_conforms: "the policy",
    what_forbids_info_conforms: "INFO",
    what_forbids_config_conforms: "CONFIG",
    what_forbids_client_conforms: "CLIENT",
    what_forbids_bcast_conforms: "BCAST",
    what_forbids_ping_conforms: "PING",
    what_forbids_hello_conforms: "HELLO",
    what_forbids_evalsha_conforms: "EVALSHA",
    what_forbids_scripts_conforms: "scripts",
    what_has_nothing_to_compare_by_conforms_but_for_what_stores: "scripts and IFEQ",
    what_forbids_all_but_ifeq_conforms: "all but IFEQ",
    what_forbids_all_conforms_but_for_what_stores: "all",
}

#[tokio::test]
async fn what_is_lost_is_said_once_and_what_cannot_be_kept_is_refused_at_start() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        for (name, pose, losses) in poses() {
            let service = Imposter::before(server.addr(), pose).await;
            let url = format!("redis://{}", service.addr());
            let log = Log::default();
            let logging = log.start();
            let redis = connect(&url).await.unwrap();
            drop(logging);
            let text = log.text();
            assert_eq!(text.matches("WARN").count(), losses.len(), "{name}: {text}");
            for loss in &losses {
                assert_eq!(text.matches(&loss.to_string()).count(), 1, "{name}: {loss} in {text}");
            }
            let untold = losses.iter().any(|loss| matches!(loss, Loss::Notifications | Loss::Resp3));
            let unheld = losses.contains(&Loss::Stores);
            let build = async |region: Region| {
                let built =
                    Cache::builder().region("objects", region).source(Number::default()).build().await;
                built.map(drop).map_err(|error| error.to_string())
            };
            let near = build(Region::backend(redis.clone()).near(NearConfig::entries(10))).await;
            assert_eq!(near.is_err(), untold, "{name}: {near:?}");
            assert!(near.err().is_none_or(|said| said.contains("near needs a backend that tells")), "{name}");
            let strict = build(Region::backend(redis.clone()).write_mode(WriteMode::Strict)).await;
            assert_eq!(strict.is_err(), unheld, "{name}: {strict:?}");
            assert!(strict.err().is_none_or(|said| said.contains("write_mode")), "{name}");
            if unheld {
                assert_only_reads(redis).await;
            } else {
                assert_works(&url).await;
            }
        }
    })
    .await;
}

/// Every read goes to the source, and no operation is an error.
async fn assert_only_reads(redis: Redis) {
    let (cache, loads) = cache(redis).await;
    for round in 1..=3 {
        let request = cache.request();
        assert_eq!(*request.get::<Number>(1_000_000).await.unwrap().unwrap(), 10_000_000);
        request.invalidate::<Number>([1_000_000]).await.unwrap();
        cache.idle().await;
        assert_eq!(loads.loads(), round);
        assert_eq!(request.report().trips.iter().filter(|trip| trip.failed).count(), 0);
    }
}

/// What a process that may use scripts has stored, one that may not reads and voids.
#[tokio::test]
async fn who_cannot_store_voids_what_others_have_stored_and_leaves_their_holds_alone() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let service = Imposter::before(server.addr(), bare().forbids(SCRIPTS)).await;
        let able = connect(&server.url()).await.unwrap();
        let unable = connect(&format!("redis://{}", service.addr())).await.unwrap();
        let told = Arc::new(Told::default());
        able.listen(b"", told.clone());
        able.catch_up().await.unwrap();
        let [key, absent, held] = ["key", "absent", "held"].map(|key| Bytes::from_static(key.as_bytes()));
        let (fill, _) = value(&able, &key, lease(&able, &key).await, Over::Lease);
        assert_eq!(able.fill(std::slice::from_ref(&fill)).await.unwrap(), [Filled::Stored]);
        assert_eq!(unable.read(std::slice::from_ref(&key)).await.unwrap(), [Some(fill.record.clone())]);
        able.catch_up().await.unwrap();
        let before = told.changes();
        unable.invalidate(&[key.clone(), absent], &[]).await.unwrap();
        able.catch_up().await.unwrap();
        assert!(told.changes() >= before + 2, "also of the one that was absent");
        assert_eq!(able.read(&[key]).await.unwrap(), [None]);
        let hold = Hold { key: held.clone(), holder: 7, ttl: TTL, keep: false };
        able.hold(std::slice::from_ref(&hold)).await.unwrap();
        assert!(
            unable
                .hold(&[Hold { holder: 8, ..hold }])
                .await
                .unwrap_err()
                .to_string()
                .contains("no key can be held")
        );
        let error = unable.invalidate(std::slice::from_ref(&held), &[]).await.unwrap_err();
        assert!(error.to_string().contains("held by a process that may use scripts"), "{error}");
        let end = End { key: held.clone(), holder: 7, outcome: WriteOutcome::Committed };
        assert_eq!(able.end(&[end]).await.unwrap(), [Ended::Freed]);
        unable.invalidate(&[held], &[]).await.unwrap();
    })
    .await;
}

/// R16: a process without scripts voids what others would fill without a lease.
#[tokio::test]
async fn who_has_no_scripts_renews_write_stamps_all_the_same() {
    limit(async {
        let Some(server) = RedisServer::start().await else { return };
        let able = connect(&server.url()).await.unwrap();
        let (prefix, stamps) = (&b"region:"[..], Bytes::from_static(b"region@writes"));
        assert!(able.stamps(prefix, &stamps));
        for pose in [bare().forbids(SCRIPTS), bare().compares().forbids(SCRIPTS)] {
            let service = Imposter::before(server.addr(), pose).await;
            let unable = connect(&format!("redis://{}", service.addr())).await.unwrap();
            assert!(!unable.stamps(prefix, &stamps), "it compares none");
            let made = mastaba::shared::Stamp { key: stamps.clone(), value: 1, ttl: None };
            able.lease(&[], &[made]).await.unwrap();
            let key = Bytes::from_static(b"region:1");
            let read = able.read(std::slice::from_ref(&stamps)).await.unwrap();
            let stamp = mastaba::shared::stamps::of(read[0].as_ref().unwrap(), &key).unwrap();
            unable.invalidate(std::slice::from_ref(&key), &[]).await.unwrap();
            let over = Over::Unleased { stamps: stamps.clone(), stamp };
            let (fill, _) = value(&able, &key, mastaba::entry::Fence(0), over);
            assert_eq!(able.fill(&[fill]).await.unwrap(), [Filled::Refused]);
        }
    })
    .await;
}

/// The rights of a user may change at any time.
#[tokio::test]
async fn scripts_that_are_forbidden_later_are_done_without_until_they_are_back() {
    limit(async {
        let shape = RedisServer::builder().user("cache", "on >secret ~* +@all");
        let Some(server) = shape.start().await else { return };
        let service = Imposter::older(server.addr()).await;
        let redis = connect(&format!("redis://cache:secret@{}", service.addr())).await.unwrap();
        let (cache, loads) = cache(redis.clone()).await;
        let request = cache.request();
        assert_eq!(*request.get::<Number>(1).await.unwrap().unwrap(), 10);
        cache.idle().await;
        server.command(&["ACL", "SETUSER", "cache", "-eval", "-evalsha"]).await;
        // the first one finds it out; it is sent again, as every one that was not confirmed
        let _ = cache.request().invalidate::<Number>([1]).await;
        until("a confirmation", async || cache.request().invalidate::<Number>([1]).await.is_ok()).await;
        assert_eq!(redis.losses(), [Loss::Stores]);
        let tier = async || cache.request().get_outcomes::<Number>([1]).await[&1].tier();
        assert_eq!(tier().await, Some(Tier::Source));
        cache.idle().await;
        assert_eq!(tier().await, Some(Tier::Source));
        server.command(&["ACL", "SETUSER", "cache", "+eval", "+evalsha"]).await;
        server.command(&["CLIENT", "KILL", "USER", "cache"]).await;
        until("a hit", async || {
            cache.idle().await;
            tier().await == Some(Tier::Shared)
        })
        .await;
        assert_eq!(redis.losses(), []);
        assert!(loads.loads() >= 3);
    })
    .await;
}

/// R13: near answers nothing that it would not be notified of.
#[tokio::test]
async fn notifications_that_are_forbidden_later_silence_near_and_nothing_else() {
    limit(async {
        let shape = RedisServer::builder().user("cache", "on >secret ~* +@all");
        let Some(server) = shape.start().await else { return };
        let redis = connect(&format!("redis://cache:secret@{}", server.addr())).await.unwrap();
        let told = Arc::new(Told::default());
        redis.listen(b"elsewhere", told.clone());
        let region = Region::backend(redis.clone()).near(NearConfig::entries(10));
        let cache =
            Cache::builder().region("objects", region).source(Number::default()).build().await.unwrap();
        let tier = async || {
            cache.idle().await;
            cache.request().get_outcomes::<Number>([1]).await[&1].tier()
        };
        until("a hit in near", async || tier().await == Some(Tier::Near)).await;
        let gaps = told.gaps.load(Ordering::Acquire);
        server.command(&["ACL", "SETUSER", "cache", "-client|tracking"]).await;
        server.command(&["CLIENT", "KILL", "USER", "cache"]).await;
        until("its loss", async || redis.losses() == [Loss::Notifications]).await;
        assert_ne!(told.gaps.load(Ordering::Acquire), gaps);
        for _ in 0..5 {
            assert_eq!(tier().await, Some(Tier::Shared));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let error = redis.catch_up().await.unwrap_err();
        assert!(error.to_string().contains("does not notify us"), "{error}");
        server.command(&["ACL", "SETUSER", "cache", "+client|tracking"]).await;
        server.command(&["CLIENT", "KILL", "USER", "cache"]).await;
        until("a hit in near again", async || tier().await == Some(Tier::Near)).await;
    })
    .await;
}

/// A number in the store would lie on one node, and what it stands for on all.
#[tokio::test]
async fn a_cluster_that_does_not_say_what_it_is_or_speaks_resp2_is_refused() {
    limit(async {
        let Some(cluster) = Cluster::start().await else { return };
        for (pose, said) in [
            (bare().hides(BOTH), "tells neither run_id nor master_replid"),
            (bare().forbids(&["INFO"]), "tells neither run_id nor master_replid"),
            (bare().forbids(&["HELLO"]), "does not speak RESP3"),
        ] {
            let service = Imposter::before(cluster.node(0).addr(), pose).await;
            let error = connect(&format!("redis-cluster://{}", service.addr())).await.unwrap_err();
            assert!(error.is_refused(), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
    })
    .await;
}
