//! A source that is slower than its soft budget: who has something to fall back on, or knows the answer already, is
//! answered, and the load goes on for the others and for the tiers.

use std::sync::Arc;
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{Error, Fetched, Force, LoadContext, Region, RequestCache, Rows, Source, Tier};
use mastaba_test::world::{Db, DbError, DbFault, User, UserById, World};
use tokio::time::{Instant, advance};

const SECOND: Duration = Duration::from_secs(1);
const SOFT: Duration = Duration::from_millis(100);

/// The policy of a region whose values may be served for an hour after their ten seconds, if their source fails.
fn covered(region: Region) -> Region {
    region.ttl(10 * SECOND).stale_if_error(3600 * SECOND).source_soft_budget(SOFT)
}

/// A world in which users 1 to 3 were stored, have grown too old to be fresh, and were changed since.
async fn aged() -> World {
    let world = World::with(covered).await;
    world.request().get_many::<UserById>(1..=3).await.unwrap();
    grow_old(&world).await;
    world
}

async fn grow_old(world: &World) {
    world.idle().await;
    advance(11 * SECOND).await;
    for id in 1..=3 {
        world.db.update(id);
    }
    world.trips();
}

/// Whether the answer was stale, its version, its tier, and how long it took.
async fn timed(request: &RequestCache, id: u64) -> (Result<(bool, u32, Tier), Error>, Duration) {
    let began = Instant::now();
    let outcome = request.get_outcomes::<UserById>([id]).await[&id].clone();
    let (stale, tier) = (outcome.is_stale(), outcome.tier());
    let answer = outcome.value().map(|user| (stale, user.unwrap().version, tier.unwrap()));
    (answer, began.elapsed())
}

fn about(took: Duration, expected: Duration) -> bool {
    (expected..expected + Duration::from_millis(20)).contains(&took)
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_covered_after_its_soft_budget() {
    let world = aged().await;
    world.db.fail_next(DbFault::Hang);
    let request = world.request();
    let (answer, took) = timed(&request, 1).await;
    assert_eq!(answer.unwrap(), (true, 0, Tier::Shared));
    assert!(about(took, SOFT), "{took:?}");
    let outcomes = request.report().outcomes[0];
    assert_eq!((outcomes.stale, outcomes.shared_hits, outcomes.loaded), (1, 1, 0));
    // what a request has read stays as it was
    let (answer, took) = timed(&request, 1).await;
    assert_eq!((answer.unwrap(), took), ((true, 0, Tier::Request), Duration::ZERO));
    world.idle().await;
    assert!(
        world.events().iter().any(|event| event.contains("longer than the budget")),
        "{:?}",
        world.events()
    );
    let outcomes = request.report().outcomes[0];
    assert_eq!((outcomes.stale, outcomes.loaded, outcomes.failed), (1, 0, 0), "answered once");
}

#[tokio::test(start_paused = true)]
async fn the_load_goes_on_for_whoever_has_nothing_to_fall_back_on_and_for_the_tiers() {
    let world = aged().await;
    *world.db.takes.lock().unwrap() = 3 * SECOND;
    let request = world.request();
    let ((old, soon), (cold, late)) = tokio::join!(timed(&request, 1), timed(&request, 500));
    assert_eq!(old.unwrap(), (true, 0, Tier::Shared));
    assert!(about(soon, SOFT), "{soon:?}");
    assert_eq!(cold.unwrap(), (false, 0, Tier::Source));
    assert!(about(late, 3 * SECOND), "{late:?}");
    world.idle().await;
    let trips = ["shared read [1, 500]", "source load user [1, 500]", "shared fill [1, 500]"];
    assert_eq!(world.trips(), trips, "one load for both, and both are stored");
    let (answer, took) = timed(&world.request(), 1).await;
    assert_eq!((answer.unwrap(), took), ((false, 1, Tier::Shared), Duration::ZERO));
    let (answer, _) = timed(&request, 1).await;
    assert_eq!(answer.unwrap(), (true, 0, Tier::Request), "the request goes on seeing what it has read");
}

#[tokio::test(start_paused = true)]
async fn a_load_within_its_soft_budget_is_waited_for() {
    let world = aged().await;
    *world.db.takes.lock().unwrap() = SOFT - Duration::from_millis(10);
    let (answer, _) = timed(&world.request(), 1).await;
    assert_eq!(answer.unwrap(), (false, 1, Tier::Source));
}

#[tokio::test(start_paused = true)]
async fn a_call_for_many_keys_waits_for_the_slowest_of_them() {
    let world = aged().await;
    *world.db.takes.lock().unwrap() = 2 * SECOND;
    let request = world.request();
    let began = Instant::now();
    let many = request.get_outcomes::<UserById>([1, 2, 500]);
    let all_old = async {
        let users = request.get_outcomes::<UserById>([1, 2]).await;
        assert!(users[&1].is_stale() && users[&2].is_stale());
        assert!(about(began.elapsed(), SOFT), "{:?}", began.elapsed());
    };
    let (many, ()) = tokio::join!(many, all_old);
    assert!(about(began.elapsed(), 2 * SECOND), "{:?}", began.elapsed());
    assert!(many[&1].is_stale() && many[&2].is_stale());
    assert_eq!(many[&500].tier(), Some(Tier::Source));
    let outcomes = request.report().outcomes[0];
    assert_eq!(
        (outcomes.stale, outcomes.loaded, outcomes.request_hits),
        (2, 1, 0),
        "answered once, and not asked again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hit_does_not_wait_for_a_slow_load_of_its_own_source() {
    let world = World::with(|region| region.source_soft_budget(SOFT)).await;
    world.sees(1).await;
    world.idle().await;
    *world.db.takes.lock().unwrap() = 3 * SECOND;
    let request = world.request();
    let ((hit, soon), (cold, late)) = tokio::join!(timed(&request, 1), timed(&request, 500));
    assert_eq!(hit.unwrap(), (false, 0, Tier::Shared));
    assert_eq!(cold.unwrap(), (false, 0, Tier::Source));
    assert!(about(soon, SOFT) && about(late, 3 * SECOND), "{soon:?} {late:?}");
    let outcomes = request.report().outcomes[0];
    assert_eq!((outcomes.shared_hits, outcomes.loaded), (1, 1), "each is counted once");
}

#[tokio::test(start_paused = true)]
async fn who_joins_the_load_of_another_request_falls_back_after_a_soft_budget_of_his_own() {
    let world = aged().await;
    *world.db.takes.lock().unwrap() = 3 * SECOND;
    let (first, second) = (world.request(), world.request());
    let joiner = async {
        tokio::time::sleep(SECOND).await;
        timed(&second, 1).await
    };
    let ((one, soon), (two, later)) = tokio::join!(timed(&first, 1), joiner);
    assert_eq!((one.unwrap(), two.unwrap()), ((true, 0, Tier::Shared), (true, 0, Tier::Shared)));
    assert!(about(soon, SOFT) && about(later, SOFT), "{soon:?} {later:?}");
    world.idle().await;
    assert_eq!(world.loads(), ["source load user [1]"]);
    assert_eq!(timed(&world.request(), 1).await.0.unwrap(), (false, 1, Tier::Shared));
}

#[tokio::test(start_paused = true)]
async fn who_joined_and_has_nothing_to_fall_back_on_gets_what_the_load_brings() {
    let world = aged().await;
    *world.db.takes.lock().unwrap() = 3 * SECOND;
    let (first, second) = (world.request(), world.request());
    let joiner = async {
        tokio::time::sleep(SECOND).await;
        // a refresh joins no load that was sent before it, and takes nothing that is old
        let (forced, cold) = tokio::join!(second.refresh::<UserById>(1), second.get::<UserById>(500));
        (forced.unwrap().unwrap().version, cold.unwrap().unwrap().version)
    };
    let (_, joined) = tokio::join!(first.get_outcomes::<UserById>([1, 500]), joiner);
    assert_eq!(joined, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_to_go_past_what_is_known_waits_for_the_source() {
    for force in [Force::PastRequest, Force::PastShared, Force::Refresh] {
        let world = aged().await;
        *world.db.takes.lock().unwrap() = 3 * SECOND;
        let (answer, took) = timed(&world.request().with(force), 1).await;
        assert_eq!(answer.unwrap(), (false, 1, Tier::Source), "{force:?}");
        assert!(about(took, 3 * SECOND), "{force:?}: {took:?}");
    }
    // and if the source does not come at all, what is there is better than nothing where the tiers were asked
    let world = aged().await;
    world.db.fail_next(DbFault::Hang);
    let (answer, took) = timed(&world.request().with(Force::PastRequest), 1).await;
    assert_eq!(answer.unwrap(), (true, 0, Tier::Shared));
    assert!(about(took, 10 * SECOND), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_after_others_were_answered_costs_nobody_a_value() {
    let world = aged().await;
    *world.db.takes.lock().unwrap() = 3 * SECOND;
    let request = world.request();
    let mut cold = Box::pin(request.get::<UserById>(500));
    let (old, _) = tokio::join!(timed(&request, 1), async { drop(futures_util::poll!(&mut cold)) });
    assert_eq!(old.0.unwrap(), (true, 0, Tier::Shared));
    drop(cold);
    assert_eq!(timed(&request, 500).await.0.unwrap().1, 0);
    assert_eq!(world.loads(), ["source load user [1, 500]"]);
}

/// The name of a user and how often he was changed, read through the cache.
struct CardOf;

impl Source for CardOf {
    type Key = u64;
    type Value = String;
    type Error = Error;
    const NAME: &'static str = "card";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Error> {
        let users = cx.request().get_many::<UserById>(ids.iter().copied()).await?;
        Ok(users.found().map(|(id, user)| (*id, format!("{} v{}", user.name, user.version))).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_read_what_was_served_early_is_not_stored() {
    let world = World::build::<false>(Memory::default(), covered, |builder, _| builder.source(CardOf)).await;
    world.request().get_many::<UserById>(1..=3).await.unwrap();
    grow_old(&world).await;
    *world.db.takes.lock().unwrap() = 3 * SECOND;
    let began = Instant::now();
    let card = world.request().get::<CardOf>(1).await.unwrap();
    assert_eq!(card.as_deref().map(String::as_str), Some("user 1 v0"));
    assert!(about(began.elapsed(), SOFT), "{:?}", began.elapsed());
    world.idle().await;
    // R6: it would hide the change for as long as it lives; the user itself is stored when it comes
    let card = world.request().get::<CardOf>(1).await.unwrap();
    assert_eq!(card.as_deref().map(String::as_str), Some("user 1 v1"));
}

/// A user as each request greets him.
struct Greeted(Arc<Db>);

impl Source for Greeted {
    type Key = u64;
    type Value = User;
    type Error = DbError;
    const NAME: &'static str = "greeted";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        let rows = ids.iter().filter_map(|id| Some((*id, self.0.user(*id)?))).collect();
        self.0.answer().await;
        Ok(rows)
    }

    async fn after_fetch(&self, cx: &LoadContext<'_>, rows: &mut Fetched<Self>) -> Result<(), DbError> {
        if rows.is_empty() {
            return Ok(());
        }
        let greeting = cx.request().stash().get::<&'static str>().ok_or(DbError("no greeting".into()))?;
        rows.iter_mut().for_each(|(_, user)| user.name = format!("{greeting} {}", user.name));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_served_early_goes_through_the_hook_of_its_source() {
    let world =
        World::build::<false>(Memory::default(), covered, |builder, db| builder.source(Greeted(db.clone())))
            .await;
    let greet = |greeting: &'static str| {
        let request = world.request();
        request.stash().insert(greeting);
        request
    };
    greet("hello").get::<Greeted>(1).await.unwrap();
    grow_old(&world).await;
    *world.db.takes.lock().unwrap() = 3 * SECOND;
    let request = greet("welcome");
    let began = Instant::now();
    let ((), ()) = tokio::join!(
        async {
            let user = request.get::<Greeted>(1).await.unwrap().unwrap();
            assert_eq!((user.name.as_str(), user.version), ("welcome user 1", 0));
            assert!(about(began.elapsed(), SOFT), "{:?}", began.elapsed());
        },
        async {
            let user = request.get::<Greeted>(500).await.unwrap().unwrap();
            assert_eq!((user.name.as_str(), user.version), ("welcome user 500", 0));
        }
    );
    world.idle().await;
    let user = greet("good morning").get::<Greeted>(1).await.unwrap().unwrap();
    assert_eq!((user.name.as_str(), user.version), ("good morning user 1", 1));

    // a hook that fails serves nobody early
    grow_old(&world).await;
    let error = world.request().get::<Greeted>(1).await.unwrap_err();
    assert!(error.to_string().contains("no greeting"), "{error}");
}
