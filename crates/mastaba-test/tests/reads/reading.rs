//! One request, three tiers: what is asked of whom, and in how many trips.

use futures_util::future;
use mastaba::{Budget, Force, Known, Outcome, Tier};
use mastaba_test::world::{PhotoById, PostById, UserById, World};

#[tokio::test]
async fn a_cold_get_asks_each_tier_once_and_fills() {
    let world = World::new().await;
    let user = world.request().get::<UserById>(1).await.unwrap().unwrap();
    assert_eq!(user.name, "user 1");
    world.idle().await;
    assert_eq!(
        world.trips(),
        ["shared read [1]", "shared lease [1]", "source load user [1]", "shared fill [1]"]
    );
}

#[tokio::test]
async fn the_same_get_again_costs_nothing_and_another_request_one_read() {
    let world = World::new().await;
    let request = world.request();
    let first = request.get::<UserById>(1).await.unwrap().unwrap();
    let again = request.get::<UserById>(1).await.unwrap().unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &again));
    world.idle().await;
    world.trips();
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap(), first);
    assert_eq!(world.trips(), ["shared read [1]"]);
}

#[tokio::test]
async fn gets_that_are_awaited_together_travel_together() {
    let world = World::new().await;
    let request = world.request();
    let (a, b, c) =
        tokio::join!(request.get::<UserById>(1), request.get::<UserById>(2), request.get::<PhotoById>(3));
    assert!(a.unwrap().is_some() && b.unwrap().is_some() && c.unwrap().is_some());
    world.idle().await;
    let trips = world.trips();
    assert_eq!(trips[..2], ["shared read [1, 2, 3]", "shared lease [1, 2, 3]"]);
    assert_eq!(trips[2..4], ["source load user [1, 2]", "source load photo [3]"]);
    assert_eq!(trips[4..], ["shared fill [1, 2, 3]"]);
}

#[tokio::test]
async fn a_hundred_joined_gets_are_one_load() {
    let world = World::new().await;
    let request = world.request();
    let gets = (1..=100).map(|id| request.get::<UserById>(id));
    let users = future::try_join_all(gets).await.unwrap();
    assert_eq!(users.len(), 100);
    request.report().assert_at_most(Budget { trips: 2, statements: 1 });
    assert_eq!(world.loads().len(), 1);
}

#[tokio::test]
async fn a_batch_is_answered_by_hits_and_one_load_of_the_rest() {
    let world = World::new().await;
    world.request().get_many::<UserById>([1, 3, 5]).await.unwrap();
    world.idle().await;
    world.trips();
    let request = world.request();
    let users = request.get_many::<UserById>([5, 4, 3, 2, 1, 2000, 4]).await.unwrap();
    assert_eq!(users.keys().copied().collect::<Vec<_>>(), [5, 4, 3, 2, 1, 2000]);
    assert_eq!(users.absent().copied().collect::<Vec<_>>(), [2000]);
    assert_eq!(users[&4].as_ref().unwrap().id, 4);
    world.idle().await;
    assert_eq!(
        world.trips(),
        ["shared read [5, 4, 3, 2, 1, 2000]", "source load user [4, 2, 2000]", "shared fill [4, 2, 2000]"]
    );
}

#[tokio::test]
async fn absence_is_remembered_in_every_tier() {
    let world = World::new().await;
    let request = world.request();
    assert!(request.get::<UserById>(2000).await.unwrap().is_none());
    assert!(request.get::<UserById>(2000).await.unwrap().is_none());
    world.idle().await;
    assert_eq!(world.loads().len(), 1);
    let other = world.request();
    assert!(matches!(other.peek::<UserById>(2000).await.unwrap(), Some(Known::Absent)));
    assert!(other.get::<UserById>(2000).await.unwrap().is_none());
    assert_eq!(world.loads().len(), 1);
}

#[tokio::test]
async fn a_peek_never_loads() {
    let world = World::new().await;
    assert!(world.request().peek::<UserById>(1).await.unwrap().is_none());
    assert_eq!(world.loads(), [""; 0]);
    world.request().get::<UserById>(1).await.unwrap();
    world.idle().await;
    assert!(matches!(world.request().peek::<UserById>(1).await.unwrap(), Some(Known::Value(_))));
}

#[tokio::test]
async fn each_outcome_says_its_tier() {
    let world = World::new().await;
    world.request().get::<UserById>(1).await.unwrap();
    world.idle().await;
    let request = world.request();
    let first = request.get_outcomes::<UserById>([1, 2, 2000]).await;
    assert!(matches!(first[&1], Outcome::Value { tier: Tier::Shared, .. }), "{first:?}");
    assert!(matches!(first[&2], Outcome::Value { tier: Tier::Source, .. }), "{first:?}");
    assert!(matches!(first[&2000], Outcome::Absent { tier: Tier::Source }), "{first:?}");
    let again = request.get_outcomes::<UserById>([1, 2000]).await;
    assert!(matches!(again[&1], Outcome::Value { tier: Tier::Request, .. }), "{again:?}");
    assert!(matches!(again[&2000], Outcome::Absent { tier: Tier::Request }), "{again:?}");
}

#[tokio::test]
async fn force_goes_as_far_as_it_says() {
    let world = World::new().await;
    let request = world.request();
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 0);
    world.idle().await;
    world.db.update(1); // behind the cache's back
    world.trips();

    let past_request = request.with(Force::PastRequest).get::<UserById>(1).await.unwrap().unwrap();
    assert_eq!(past_request.version, 0);
    assert_eq!(world.trips(), ["shared read [1]"]);

    let past_shared = request.with(Force::PastShared).get::<UserById>(1).await.unwrap().unwrap();
    assert_eq!(past_shared.version, 1);
    world.idle().await;
    assert_eq!(world.trips(), ["source load user [1]"]);
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 0, "not stored");
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 1, "kept by the request");

    world.trips();
    assert_eq!(request.refresh::<UserById>(1).await.unwrap().unwrap().version, 1);
    world.idle().await;
    assert_eq!(world.trips(), ["shared read [1]", "source load user [1]", "shared fill [1]"]);
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn a_key_that_is_forced_twice_in_one_turn_is_loaded_once_for_both() {
    for force in [Force::PastRequest, Force::PastShared, Force::Refresh] {
        let world = World::new().await;
        let request = world.request().with(force);
        let (one, two) = tokio::join!(request.get::<UserById>(1), request.get::<UserById>(1));
        let (one, two) = (one.unwrap().unwrap(), two.unwrap().unwrap());
        assert!(std::sync::Arc::ptr_eq(&one, &two), "{force:?}");
        assert_eq!(world.loads(), ["source load user [1]"], "{force:?}");
    }
}

/// The request keeps the newest of what it read, and not what came last.
#[tokio::test]
async fn a_forced_read_that_comes_late_does_not_replace_what_a_newer_one_brought() {
    for force in [Force::PastShared, Force::Refresh] {
        let world = World::new().await;
        let request = world.request();
        let loads = world.db.close_gate();
        let older = tokio::spawn({
            let request = request.with(Force::PastShared);
            async move { request.get::<UserById>(1).await.unwrap().unwrap().version }
        });
        loads.arrived(1).await; // it has read its row
        world.db.update(1);
        loads.only_those_here();
        let newer = request.with(force).get::<UserById>(1).await.unwrap().unwrap().version;
        assert_eq!(newer, 1, "{force:?}");
        loads.open_for_good();
        assert_eq!(older.await.unwrap(), 0);
        assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 1, "{force:?}");
    }
}

#[tokio::test]
async fn relations_of_one_level_resolve_in_one_batch() {
    let world = World::new().await;
    let request = world.request();
    let posts = request.get_many::<PostById>(1..=20).await.unwrap();
    let pictures = posts.found().map(|(_, post)| async {
        let author = post.author.get(&request).await?.unwrap();
        author.photo.get(&request).await
    });
    let pictures = future::try_join_all(pictures).await.unwrap();
    assert_eq!(pictures.len(), 20);
    let report = request.report();
    assert_eq!(report.statements(), 3, "{report}");
    assert_eq!(report.shared_reads(), 3, "{report}");
}

#[tokio::test]
async fn more_than_thirty_relations_of_a_tree_still_make_one_batch_per_level() {
    let world = World::new().await;
    let request = world.request();
    let lists = (0..40u64).map(|page| {
        let request = &request;
        async move {
            let posts = (1..=40u64).map(|at| async move {
                let post = request.get::<PostById>(1 + (page * 40 + at) % 900).await?.unwrap();
                post.author.get(request).await
            });
            future::try_join_all(posts).await
        }
    });
    future::try_join_all(lists).await.unwrap();
    let report = request.report();
    assert_eq!(report.statements(), 2, "{report}");
}

/// Lists of every length, up to beyond thirty, in which the same posts, authors and photos come up again and
/// again: a level is polled in many pieces, and most of them add no key.
async fn photos_of_uneven_lists(world: &World) -> mastaba::Report {
    let request = world.request();
    let lists = (0..40u64).map(|page| {
        let request = &request;
        async move {
            let lists = request.get::<PostById>(500 + page).await?.unwrap();
            lists.author.get(request).await?;
            let posts = (0..page * 2).map(|at| async move {
                let post = request.get::<PostById>(1 + at * page % 90).await?.unwrap();
                let author = post.author.get(request).await?.unwrap();
                author.photo.get(request).await
            });
            future::try_join_all(posts).await
        }
    });
    future::try_join_all(lists).await.unwrap();
    request.report()
}

#[tokio::test]
async fn a_level_that_is_polled_in_many_pieces_is_one_batch_also_where_most_add_no_key() {
    let report = photos_of_uneven_lists(&World::new().await).await;
    assert_eq!(report.shared_reads(), 4, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_is_polled_while_others_are_being_woken_does_not_leave_without_them() {
    for _ in 0..50 {
        let report = photos_of_uneven_lists(&World::new().await).await;
        assert_eq!(report.shared_reads(), 4, "{report}");
    }
}

#[tokio::test]
async fn empty_and_duplicate_keys_are_fine() {
    let world = World::new().await;
    let request = world.request();
    assert!(request.get_many::<UserById>([]).await.unwrap().is_empty());
    let users = request.get_many::<UserById>([7, 7, 7]).await.unwrap();
    assert_eq!(users.len(), 1);
    let users = request.with(Force::PastShared).get_many::<UserById>([7, 7]).await.unwrap();
    assert_eq!(users.len(), 1);
    assert_eq!(world.loads(), ["source load user [7]", "source load user [7]"]);
}
