//! Sources whose rows depend on the request as well as on their keys.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mastaba::shared::memory::Memory;
use mastaba::{Event, Fetched, Force, LoadContext, NearConfig, RequestCache, Rows, Source, Tier};
use mastaba_test::world::{UserById, World};
use tokio::time::sleep;

#[derive(Debug)]
struct Tenant(&'static str);

/// Who is logged in, as a loader finds it.
fn tenant(cx: &LoadContext<'_>) -> &'static str {
    cx.request().stash().get::<Tenant>().map_or("nobody", |tenant| tenant.0)
}

/// What a tenant calls a number.
struct Price;

impl Source for Price {
    type Key = u64;
    type Value = String;
    type Error = Infallible;
    const NAME: &'static str = "price";
    const REGION: &'static str = "objects";
    const PRIVATE: bool = true;

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Infallible> {
        let tenant = tenant(cx);
        sleep(Duration::from_millis(5)).await; // long enough for another request to join
        Ok(keys.iter().filter(|key| **key < 1000).map(|key| (*key, format!("{key} for {tenant}"))).collect())
    }
}

/// The same by a source that does not say so.
struct Careless;

impl Source for Careless {
    type Key = u64;
    type Value = String;
    type Error = Infallible;
    const NAME: &'static str = "careless";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Infallible> {
        let tenant = tenant(cx);
        Ok(keys.iter().map(|key| (*key, format!("{key} for {tenant}"))).collect())
    }
}

/// What is made of private rows, without a look at the stash.
struct Invoice;

impl Source for Invoice {
    type Key = u64;
    type Value = String;
    type Error = mastaba::Error;
    const NAME: &'static str = "invoice";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, mastaba::Error> {
        let force = if keys == [9] { Force::Refresh } else { Force::No };
        let prices = cx.request().with(force).get_many::<Price>(keys.iter().copied()).await?;
        Ok(prices.found().map(|(key, price)| (*key, format!("to pay: {price}"))).collect())
    }
}

/// Private, with a hook that changes what enters a request.
struct Greeting;

impl Source for Greeting {
    type Key = u64;
    type Value = String;
    type Error = Infallible;
    const NAME: &'static str = "greeting";
    const REGION: &'static str = "objects";
    const PRIVATE: bool = true;

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Infallible> {
        Ok(keys.iter().map(|key| (*key, format!("{key}, {}", tenant(cx)))).collect())
    }

    async fn after_fetch(&self, _: &LoadContext<'_>, rows: &mut Fetched<Self>) -> Result<(), Infallible> {
        rows.iter_mut().for_each(|(_, greeting)| greeting.insert_str(0, "hello "));
        Ok(())
    }
}

/// Shared, with a hook that uses the stash for each request.
struct Localised;

impl Source for Localised {
    type Key = u64;
    type Value = String;
    type Error = Infallible;
    const NAME: &'static str = "localised";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Infallible> {
        Ok(keys.iter().map(|key| (*key, key.to_string())).collect())
    }

    async fn after_fetch(&self, cx: &LoadContext<'_>, rows: &mut Fetched<Self>) -> Result<(), Infallible> {
        rows.iter_mut().for_each(|(_, text)| text.push_str(tenant(cx)));
        Ok(())
    }
}

async fn world(near: bool) -> World {
    World::build::<false>(
        Memory::default(),
        |region| if near { region.near(NearConfig::entries(100)) } else { region },
        |builder, _| {
            builder.source(Price).source(Careless).source(Invoice).source(Greeting).source(Localised)
        },
    )
    .await
}

fn request_of(world: &World, tenant: &'static str) -> RequestCache {
    let request = world.request();
    request.stash().insert(Tenant(tenant));
    request
}

async fn value<S: Source<Key = u64>>(request: &RequestCache, key: u64) -> Arc<S::Value> {
    request.get::<S>(key).await.unwrap().unwrap()
}

fn not_private(world: &World) -> Vec<String> {
    world.events().into_iter().filter(|event| event.contains("PRIVATE")).collect()
}

#[tokio::test]
async fn each_tenant_gets_its_own_rows_at_once_and_after_one_another() {
    for near in [false, true] {
        let world = world(near).await;
        for round in 0..2 {
            let (red, blue) = (request_of(&world, "red"), request_of(&world, "blue"));
            let (of_red, of_blue) = tokio::join!(value::<Price>(&red, 1), value::<Price>(&blue, 1));
            assert_eq!((of_red.as_str(), of_blue.as_str()), ("1 for red", "1 for blue"), "round {round}");
            world.idle().await;
            let green = request_of(&world, "green");
            assert_eq!(*value::<Price>(&green, 1).await, "1 for green");
            for request in [red, blue, green] {
                let report = request.report();
                assert_eq!((report.shared_trips(), report.statements()), (0, 1), "{report}");
                assert_eq!((report.outcomes[0].loaded, report.outcomes[0].joined), (1, 0), "{report}");
            }
        }
        assert!(world.record("price:1").await.is_none());
        assert!(world.trips().is_empty(), "the shared tier is not asked, nor given anything");
        assert!(not_private(&world).is_empty(), "{:?}", world.events());
    }
}

#[tokio::test]
async fn within_a_request_private_rows_are_batched_and_loaded_once() {
    let world = world(true).await;
    let request = request_of(&world, "red");
    let prices = join_all((1..=20).map(|key| value::<Price>(&request, key))).await;
    assert_eq!(prices[19].as_str(), "20 for red");
    assert!(request.get::<Price>(2000).await.unwrap().is_none());
    let report = request.report();
    assert_eq!((report.shared_trips(), report.statements()), (0, 2), "{report}");
    // known by now, to clones too: values and absence
    let known = request.clone().get_outcomes::<Price>([1, 2000]).await;
    assert_eq!((known[&1].tier(), known[&2000].is_absent()), (Some(Tier::Request), true));
    assert_eq!(request.report().statements(), 2);
    // two readers of one missing key
    let (a, b) = tokio::join!(value::<Price>(&request, 30), value::<Price>(&request, 30));
    assert!(Arc::ptr_eq(&a, &b));
    assert_eq!(request.report().statements(), 3);
}

#[tokio::test]
async fn a_look_finds_what_the_request_has_and_a_forced_read_loads_anew() {
    let world = world(true).await;
    let (red, blue) = (request_of(&world, "red"), request_of(&world, "blue"));
    value::<Price>(&red, 1).await;
    assert!(red.peek::<Price>(1).await.unwrap().is_some());
    assert!(red.with(Force::Refresh).peek::<Price>(2).await.unwrap().is_none());
    assert!(blue.peek::<Price>(1).await.unwrap().is_none());
    assert_eq!((red.report().statements(), blue.report().statements()), (1, 0));
    for force in [Force::PastRequest, Force::PastShared, Force::Refresh] {
        assert_eq!(*value::<Price>(&red.with(force), 1).await, "1 for red");
    }
    world.idle().await;
    assert_eq!(*value::<Price>(&blue, 1).await, "1 for blue");
    assert_eq!((red.report().statements(), blue.report().statements()), (4, 1));
    assert!(world.trips().is_empty());
}

#[tokio::test]
async fn to_invalidate_private_rows_costs_no_trip_and_is_seen_by_the_request() {
    let world = world(true).await;
    let request = request_of(&world, "red");
    value::<Price>(&request, 1).await;
    request.stash().insert(Tenant("blue"));
    assert_eq!(*value::<Price>(&request, 1).await, "1 for red", "what was read stays");
    request.invalidate::<Price>([1]).await.unwrap();
    assert_eq!(*value::<Price>(&request, 1).await, "1 for blue");
    assert!(world.trips().is_empty());
}

#[tokio::test]
async fn what_another_source_makes_of_private_rows_is_neither_stored_nor_shared() {
    for (near, key) in [(false, 1), (true, 1), (true, 9)] {
        let world = world(near).await;
        let (red, blue) = (request_of(&world, "red"), request_of(&world, "blue"));
        let (of_red, of_blue) = tokio::join!(value::<Invoice>(&red, key), value::<Invoice>(&blue, key));
        assert_eq!(of_red.as_str(), format!("to pay: {key} for red"));
        assert_eq!(of_blue.as_str(), format!("to pay: {key} for blue"));
        world.idle().await;
        // what the request knows of the private row taints as well
        let green = request_of(&world, "green");
        value::<Price>(&green, key).await;
        assert_eq!(*value::<Invoice>(&green, key).await, format!("to pay: {key} for green"));
        world.idle().await;
        let white = request_of(&world, "white");
        assert_eq!(*value::<Invoice>(&white, key).await, format!("to pay: {key} for white"));
        assert!(!world.trips().iter().any(|trip| trip.contains("fill")), "{:?}", world.trips());
        let said = not_private(&world);
        assert_eq!(said.len(), usize::from(cfg!(debug_assertions)), "{said:?}");
        assert!(said.iter().all(|said| said.contains("source invoice: its loader reads source price")));
    }
}

#[tokio::test]
async fn a_hook_changes_private_rows_and_they_need_not_be_encoded_for_it() {
    let world = world(false).await;
    let request = request_of(&world, "red");
    assert_eq!(*value::<Greeting>(&request, 1).await, "hello 1, red");
    assert_eq!(*value::<Greeting>(&request, 1).await, "hello 1, red");
    assert_eq!(request.report().statements(), 1);
}

#[tokio::test]
async fn a_loader_that_reads_the_stash_and_is_not_private_is_warned_about_once() {
    let world = world(false).await;
    // the mistake itself: the second tenant gets the rows of the first one
    let (red, blue) = (request_of(&world, "red"), request_of(&world, "blue"));
    assert_eq!(*value::<Careless>(&red, 1).await, "1 for red");
    world.idle().await;
    assert_eq!(*value::<Careless>(&blue, 1).await, "1 for red");
    value::<Careless>(&blue, 2).await;
    let said = not_private(&world);
    assert_eq!(said.len(), usize::from(cfg!(debug_assertions)), "{said:?}");
    assert!(said.iter().all(|said| said.contains("source careless: its loader reads the stash")), "{said:?}");
}

#[tokio::test]
async fn a_hook_on_what_enters_a_request_may_use_the_stash_and_so_may_a_handler() {
    let world = world(true).await;
    for name in ["red", "blue"] {
        let request = request_of(&world, name);
        assert_eq!(*value::<Localised>(&request, 1).await, format!("1{name}"));
        value::<UserById>(&request, 1).await;
        assert_eq!(request.stash().get::<Tenant>().unwrap().0, name);
        world.idle().await;
    }
    assert!(not_private(&world).is_empty(), "{:?}", not_private(&world));
    let event = Event::NotPrivate { source: "a", reads: "b".to_owned() };
    assert!(event.to_string().starts_with("source a: its loader reads b"));
}
