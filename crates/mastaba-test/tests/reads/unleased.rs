//! Which loads go without a lease (`R20`), and what the report says of it. Other processes may write to the store, but where
//! it says so.

use std::convert::Infallible;
use std::time::Duration;

use mastaba::{LoadContext, Operation, Policy, Region, RequestCache, Rows, Source};
use mastaba_test::world::{UserById, World};

fn unleased(region: Region) -> Region {
    region.fill_without_lease(true)
}

/// Trips take twenty milliseconds there, so what a loader in memory does is cheap, however busy the machine is.
async fn world() -> World {
    let world = World::across_processes(unleased).await;
    world.shared.slow(Duration::from_millis(20));
    world
}

/// The first load, which takes a lease.
async fn warm(world: &World) {
    world.sees(900).await;
    world.idle().await;
    world.trips();
}

/// How many trips for leases a request has waited for, and how many keys it has loaded without one.
fn ways(request: &RequestCache) -> (usize, u64) {
    let report = request.report();
    let leases = report.trips.iter().filter(|trip| trip.waited && trip.operation == Operation::Lease).count();
    (leases, report.outcomes.iter().map(|outcomes| outcomes.unleased).sum())
}

async fn get(world: &World, key: u64) -> (usize, u64) {
    let request = world.request();
    request.get::<UserById>(key).await.unwrap();
    world.idle().await;
    ways(&request)
}

#[tokio::test]
async fn the_first_load_of_a_source_takes_a_lease_and_a_cheap_one_after_it_does_not() {
    let world = world().await;
    assert_eq!(get(&world, 1).await, (1, 0));
    assert_eq!(
        world.trips(),
        ["shared read [1]", "shared lease [1]", "source load user [1]", "shared fill [1]"]
    );
    let request = world.request();
    request.get_many::<UserById>([2, 3]).await.unwrap();
    world.idle().await;
    assert_eq!(world.trips(), ["shared read [2, 3]", "source load user [2, 3]", "shared fill [2, 3]"]);
    assert_eq!(ways(&request), (0, 2));
    assert!(request.report().to_string().contains("2 keys of user went to the source without a lease"));
    assert_eq!(request.report().shared_trips(), 1);
    for key in [1, 2, 3] {
        world.sees(key).await;
    }
    assert!(world.loads().is_empty(), "all were stored");
}

#[tokio::test]
async fn where_it_is_switched_off_every_load_takes_a_lease() {
    let world = World::across_processes(|region| region.fill_without_lease(false)).await;
    world.shared.slow(Duration::from_millis(20));
    warm(&world).await;
    assert_eq!(get(&world, 1).await, (1, 0));
}

/// Row P7: what costs much is loaded once over all processes, as before.
#[tokio::test]
async fn a_slow_source_takes_leases_and_loads_a_key_once_over_two_processes() {
    let world = world().await;
    let second = world.second_with(unleased).await;
    second.shared.slow(Duration::from_millis(20));
    *world.db.takes.lock().unwrap() = Duration::from_millis(300);
    for process in [&world, &second] {
        for key in 800..803 {
            process.sees(key).await;
        }
        process.idle().await;
    }
    world.trips();
    for key in 1..=5 {
        let (one, other) = (world.request(), second.request());
        let (a, b) = tokio::join!(one.get::<UserById>(key), other.get::<UserById>(key));
        assert!(a.unwrap().is_some() && b.unwrap().is_some());
        assert_eq!((ways(&one).1, ways(&other).1), (0, 0));
        world.idle().await;
    }
    assert_eq!(world.loads_of("user"), (1..=5).map(|key| (key, 1)).collect());
}

#[tokio::test]
async fn while_a_slow_load_is_under_way_the_next_one_takes_a_lease() {
    let world = world().await;
    warm(&world).await;
    let gate = world.db.close_gate();
    let slow = world.start::<UserById>(1);
    gate.arrived(1).await;
    gate.only_those_here();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let request = world.request();
    request.get::<UserById>(2).await.unwrap();
    assert_eq!(ways(&request), (1, 0));
    gate.open_for_good();
    slow.await.unwrap();
}

#[tokio::test]
async fn a_source_whose_fills_are_wasted_takes_leases_for_a_while() {
    let world = world().await;
    warm(&world).await;
    for key in 101..104 {
        voided_before_its_fill(&world, key).await;
    }
    assert_eq!(get(&world, 2).await, (1, 0), "three of three were wasted");
    for key in 10..40 {
        get(&world, key).await;
    }
    assert_eq!(get(&world, 3).await, (0, 1), "it is tried again");
}

/// A load without a lease, whose key is voided before it is stored.
async fn voided_before_its_fill(world: &World, key: u64) {
    let fill = world.shared.before("fill");
    let request = world.request();
    request.get::<UserById>(key).await.unwrap();
    assert_eq!(ways(&request), (0, 1), "{key}");
    fill.arrived(1).await;
    world.request().invalidate::<UserById>([key]).await.unwrap();
    fill.open_for_good();
    world.idle().await;
}

#[tokio::test]
async fn a_key_whose_fill_was_wasted_takes_a_lease_the_next_time() {
    let world = world().await;
    warm(&world).await;
    voided_before_its_fill(&world, 1).await;
    assert_eq!(get(&world, 2).await, (0, 1), "others go on without");
    assert_eq!(get(&world, 1).await, (1, 0));
    world.request().invalidate::<UserById>([1]).await.unwrap();
    assert_eq!(get(&world, 1).await, (0, 1), "it was stored since");
}

/// Hits have no use for the write stamps: once sixteen reads in a row had nothing else, reads carry none.
#[tokio::test]
async fn after_reads_that_all_hit_the_first_miss_takes_a_lease_and_those_after_it_do_not() {
    let world = world().await;
    warm(&world).await;
    assert_eq!(get(&world, 1).await, (0, 1));
    for (hits, ways) in [(15, (0, 1)), (16, (1, 0)), (0, (0, 1))] {
        for _ in 0..hits {
            world.sees(1).await;
        }
        assert_eq!(get(&world, 100 + hits).await, ways, "after {hits}");
    }
}

/// Tags of its own; how they are stamped is known after the load.
struct Tagged;

impl Source for Tagged {
    type Key = u64;
    type Value = u64;
    type Error = Infallible;
    const NAME: &'static str = "tagged";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }

    fn tags(&self, id: &u64, _: &u64) -> Vec<String> {
        if *id < 100 { Vec::new() } else { vec![format!("id:{id}")] }
    }
}

/// Takes leases, whatever its region says.
struct Careful;

impl Source for Careful {
    type Key = u64;
    type Value = u64;
    type Error = Infallible;
    const NAME: &'static str = "careful";
    const REGION: &'static str = "objects";

    fn policy(&self, region: &Policy) -> Policy {
        region.clone().fill_without_lease(false)
    }

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
}

#[tokio::test]
async fn a_source_whose_values_have_tags_takes_leases_and_so_does_one_that_says_so() {
    let more = |builder: mastaba::CacheBuilder, _: &_| builder.source(Tagged).source(Careful);
    let world = World::build::<true>(Default::default(), unleased, more).await;
    world.shared.slow(Duration::from_millis(20));
    let tagged = async |key| {
        let request = world.request();
        request.get::<Tagged>(key).await.unwrap();
        world.idle().await;
        ways(&request)
    };
    tagged(1).await;
    assert_eq!(tagged(2).await, (0, 1), "no tags have been met");
    assert_eq!(tagged(100).await, (0, 1));
    assert!(world.record("tagged:100").await.is_none(), "its tags were not known before the load");
    assert_eq!(tagged(100).await, (1, 0));
    assert!(world.record("tagged:100").await.is_some());
    assert_eq!(tagged(3).await, (1, 0), "from the first tags on");
    for key in 1..4 {
        let request = world.request();
        request.get::<Careful>(key).await.unwrap();
        assert_eq!(ways(&request), (1, 0));
    }
}

#[tokio::test]
async fn what_is_outdated_is_replaced_without_a_lease_and_what_is_foreign_is_not() {
    let world = world().await;
    warm(&world).await;
    get(&world, 1).await;
    let write = world.request().write();
    write.clear("objects").unwrap();
    write.published().await.unwrap();
    assert!(world.record("user:1").await.is_some());
    assert_eq!(get(&world, 1).await, (0, 1), "over exactly what the read saw");
    world.trips();
    world.sees(1).await;
    assert!(world.loads().is_empty(), "it was stored");
    world.plant("user:2", "what somebody else has put there").await;
    assert_eq!(get(&world, 2).await, (1, 0));
    world.trips();
    world.sees(2).await;
    assert!(world.loads().is_empty(), "the lease took its place");
}

#[tokio::test]
async fn a_key_that_another_process_loads_is_waited_for() {
    let world = world().await;
    warm(&world).await;
    let second = world.second().await; // which takes leases
    let gate = world.db.close_gate();
    let other = second.start::<UserById>(1);
    gate.arrived(1).await;
    gate.only_those_here();
    let request = world.request();
    let asks = request.clone();
    let waits = tokio::spawn(async move { asks.get::<UserById>(1).await.unwrap().unwrap().version });
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open_for_good();
    other.await.unwrap();
    assert_eq!(waits.await.unwrap(), 0);
    assert_eq!(ways(&request), (0, 0), "neither a lease nor a load");
}

/// Nobody else loads there, so nothing is given up, however slow a load is.
#[tokio::test]
async fn a_store_of_this_process_alone_needs_no_lease_for_slow_loads_either() {
    let world = World::with(unleased).await;
    *world.db.takes.lock().unwrap() = Duration::from_millis(20);
    assert_eq!(get(&world, 1).await, (1, 0));
    world.trips();
    assert_eq!(get(&world, 2).await, (0, 1));
    assert_eq!(world.trips(), ["shared read [2]", "source load user [2]", "shared fill [2]"]);
    world.sees(2).await;
    assert_eq!(world.trips(), ["shared read [2]"]);
}
