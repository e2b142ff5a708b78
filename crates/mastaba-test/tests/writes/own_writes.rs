//! Writes: what is voided when, and what the request itself reads.

use mastaba::{LoadContext, NearConfig, Replicated};
use mastaba_test::world::{UserById, World};

#[tokio::test]
async fn nothing_is_voided_before_publishing_and_everything_after() {
    let world = World::new().await;
    world.request().get::<UserById>(1).await.unwrap();
    world.idle().await;
    world.trips();
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    world.db.update(1);
    assert_eq!(world.trips(), [""; 0]);
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 0);
    write.published().await.unwrap();
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn a_write_that_is_dropped_voids_nothing_and_says_so() {
    let world = World::new().await;
    world.request().get::<UserById>(1).await.unwrap();
    world.idle().await;
    world.trips();
    let request = world.request();
    {
        let write = request.write();
        write.invalidate::<UserById>([1]).await.unwrap();
        write.invalidate_tag("x");
    }
    assert_eq!(world.trips(), [""; 0]);
    assert_eq!(world.events().len(), 1);
    assert!(world.events()[0].contains("dropped before it was published"), "{:?}", world.events());
    world.request().get::<UserById>(1).await.unwrap();
    assert_eq!(world.trips(), ["shared read [1]"]);
}

#[tokio::test]
async fn a_request_reads_its_own_writes_from_the_writer_and_stores_none_of_them() {
    let world = World::new().await;
    let request = world.request();
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 0);
    world.idle().await;
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    world.db.update(1); // not committed yet, as far as others are concerned
    world.trips();
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 1);
    world.idle().await;
    assert_eq!(world.trips(), ["source load user from the writer [1]"]);
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 0, "not stored");
    world.db.update(1);
    write.published().await.unwrap();
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 2, "read anew after the commit");
}

#[tokio::test]
async fn a_key_that_was_written_does_not_join_a_load_from_before() {
    let world = World::new().await;
    let gate = world.db.close_gate();
    let other = tokio::spawn({
        let request = world.request();
        async move { request.get::<UserById>(1).await }
    });
    world.db.reached(1).await;
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    world.db.update(1);
    let own = tokio::spawn({
        let request = request.clone();
        async move { request.get::<UserById>(1).await }
    });
    world.db.reached(2).await;
    gate.open_for_good();
    assert_eq!(own.await.unwrap().unwrap().unwrap().version, 1);
    other.await.unwrap().unwrap();
    write.published().await.unwrap();
}

#[tokio::test]
async fn a_tag_in_a_write_makes_the_request_read_past_the_tiers_until_it_is_published() {
    let world = World::new().await;
    world.request().get::<UserById>(1).await.unwrap();
    world.idle().await;
    let request = world.request();
    let write = request.write();
    write.invalidate_tag("anything");
    world.db.update(1);
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 1);
    write.published().await.unwrap();
    world.trips();
    request.get::<UserById>(1).await.unwrap();
    assert_eq!(world.trips(), ["shared read [1]"], "as everybody else again");
}

#[tokio::test]
async fn an_invalidation_that_is_not_confirmed_voids_what_it_can() {
    let world = World::with(|region| region.near(NearConfig::entries(100))).await;
    let request = world.request();
    request.get::<UserById>(1).await.unwrap();
    world.idle().await;
    world.db.update(1);
    world.shared.down(&["invalidate", "read"]);
    let published = request.invalidate::<UserById>([1]).await.unwrap();
    let error = published.error().unwrap();
    assert!(error.is_shared(), "{error}");
    assert!(error.to_string().contains("objects"), "{error}");
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 1);
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1, "near is void");
}

#[tokio::test]
async fn an_invalidation_goes_to_its_end_without_its_caller() {
    let world = World::with(|region| region.near(NearConfig::entries(100))).await;
    world.request().get::<UserById>(1).await.unwrap();
    world.idle().await;
    world.db.update(1);
    world.shared.slow(std::time::Duration::from_millis(20));
    world.trips();
    let request = world.request();
    {
        let mut invalidation = Box::pin(request.invalidate::<UserById>([1]));
        // poll it until its trip is under way, and drop it there
        while world.trips().is_empty() {
            assert!(futures_util::poll!(&mut invalidation).is_pending());
            tokio::task::yield_now().await;
        }
    }
    world.idle().await;
    world.shared.slow(std::time::Duration::ZERO);
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn put_gives_the_value_to_the_request_and_to_nobody_else() {
    let world = World::new().await;
    let request = world.request();
    let mut user = (*request.get::<UserById>(1).await.unwrap().unwrap()).clone();
    world.idle().await;
    user.version = world.db.update(1);
    request.put::<UserById>(1, user).await.unwrap();
    world.trips();
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 1);
    assert_eq!(world.trips(), [""; 0]);
    assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().version, 1);
    assert_eq!(world.loads(), ["source load user [1]"], "the other one loaded it");
}

#[tokio::test]
async fn a_read_that_is_under_way_does_not_bring_back_what_the_request_has_written_since() {
    let world = World::new().await;
    let gate = world.db.close_gate();
    let request = world.request();
    let early = tokio::spawn({
        let request = request.clone();
        async move { request.get::<UserById>(1).await }
    });
    world.db.reached(1).await;
    let mut user = mastaba_test::world::User {
        id: 1,
        name: "mine".into(),
        version: world.db.update(1),
        photo: mastaba::Lazy::new(1),
    };
    user.name.push('!');
    request.put::<UserById>(1, user).await.unwrap();
    gate.open_for_good();
    assert_eq!(early.await.unwrap().unwrap().unwrap().version, 0);
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().name, "mine!");
}

/// Says which database it was given.
struct Where(Replicated<&'static str>);

impl mastaba::Source for Where {
    type Key = u32;
    type Value = String;
    type Error = std::io::Error;
    const NAME: &'static str = "where";
    const REGION: &'static str = "objects";

    async fn load_many(
        &self,
        cx: &LoadContext<'_>,
        keys: &[u32],
    ) -> Result<mastaba::Rows<Self>, std::io::Error> {
        let pool = self.0.pick(cx);
        Ok(keys.iter().map(|key| (*key, (*pool).to_owned())).collect())
    }
}

#[tokio::test]
async fn reads_go_to_the_reader_as_far_as_they_may() {
    for (pools, stored) in [
        (Replicated::lagging("writer", "reader"), "reader"),
        (Replicated::consistent("writer", "reader"), "writer"),
    ] {
        let world = World::build::<false>(
            mastaba::shared::memory::Memory::default(),
            |region| region,
            |builder, _| builder.source(Where(pools)),
        )
        .await;
        let request = world.request();
        assert_eq!(*request.get::<Where>(1).await.unwrap().unwrap(), stored);
        let past = request.with(mastaba::Force::PastShared).get::<Where>(1).await.unwrap().unwrap();
        assert_eq!(*past, "reader", "what is not stored may lag");
        request.invalidate::<UserById>([1]).await.unwrap();
        assert_eq!(
            *request.get::<Where>(2).await.unwrap().unwrap(),
            "writer",
            "after a write of the request"
        );
    }
}
