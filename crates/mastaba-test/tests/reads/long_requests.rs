//! A request that lives long: what it forgets, and what it does not.

use mastaba::{Force, Known};
use mastaba_test::world::{PhotoById, UserById, World};

#[tokio::test]
async fn a_request_forgets_the_keys_that_it_is_told_to() {
    let world = World::new().await;
    let connection = world.request();
    connection.get_many::<UserById>([1, 2]).await.unwrap();
    world.idle().await;
    for id in [1, 2] {
        world.db.update(id);
    }
    world.request().invalidate::<UserById>([1, 2]).await.unwrap();
    world.trips();
    connection.forget::<UserById>([1, 77]);
    let users = connection.get_many::<UserById>([1, 2]).await.unwrap();
    assert_eq!([1, 2].map(|id| users[&id].as_ref().unwrap().version), [1, 0]);
    assert_eq!(world.loads(), ["source load user [1]"]);
    connection.forget::<PhotoById>([1]); // never asked for
}

#[tokio::test]
async fn what_is_on_its_way_is_not_remembered_once_it_is_forgotten() {
    for renewed in [false, true] {
        let world = World::new().await;
        let connection = world.request();
        let gate = world.db.close_gate();
        let readers = [Force::No, Force::PastRequest, Force::Refresh].map(|force| {
            let connection = connection.with(force);
            tokio::spawn(async move { connection.get::<UserById>(1).await.unwrap().unwrap().version })
        });
        world.db.reached(1).await;
        world.settle().await;
        world.db.update(1);
        world.request().invalidate::<UserById>([1]).await.unwrap();
        if renewed {
            connection.renew();
        } else {
            connection.forget::<UserById>([1]);
        }
        gate.open_for_good();
        for reader in readers {
            assert_eq!(reader.await.unwrap(), 0, "who asked before gets what there was then");
        }
        assert_eq!(connection.get::<UserById>(1).await.unwrap().unwrap().version, 1);
    }
}

#[tokio::test]
async fn what_a_request_wrote_is_read_from_the_writer_until_it_is_renewed() {
    let world = World::new().await;
    let connection = world.request();
    connection.get::<UserById>(1).await.unwrap();
    connection.invalidate::<UserById>([1]).await.unwrap();
    connection.forget::<UserById>([1]);
    world.trips();
    connection.get::<UserById>(1).await.unwrap();
    assert_eq!(world.trips(), ["source load user from the writer [1]"], "forgetting is no promise less");
    connection.renew();
    connection.get::<UserById>(1).await.unwrap();
    connection.get::<UserById>(2).await.unwrap();
    world.idle().await;
    let as_if_new = [
        "shared read [1]",
        "source load user [1]",
        "shared fill [1]",
        "shared read [2]",
        "source load user [2]",
        "shared fill [2]",
    ];
    let mut trips = world.trips();
    // the fill of one may come after the read of the next
    let at = trips.iter().position(|trip| trip == "shared fill [1]").unwrap();
    let fill = trips.remove(at);
    trips.insert(2, fill);
    assert_eq!(trips, as_if_new);
}

#[tokio::test]
async fn a_write_that_is_not_published_survives_a_renewal() {
    let world = World::new().await;
    let connection = world.request();
    connection.get::<UserById>(1).await.unwrap();
    world.idle().await;
    let write = connection.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    world.db.update(1); // and commit
    connection.renew();
    world.trips();
    assert_eq!(connection.get::<UserById>(1).await.unwrap().unwrap().version, 1, "it reads its own write");
    assert_eq!(world.trips(), ["source load user from the writer [1]"]);
    write.published().await.unwrap();
    connection.renew();
    world.trips();
    assert_eq!(connection.get::<UserById>(1).await.unwrap().unwrap().version, 1);
    assert!(world.loads().contains(&"source load user [1]".to_owned()), "{:?}", world.trips());

    // and one that is dropped is over as well, and so is one of keys that are not known
    for by_tag in [false, true] {
        let write = connection.write();
        match by_tag {
            true => write.invalidate_tag("people"),
            false => write.invalidate::<UserById>([1]).await.unwrap(),
        }
        connection.renew();
        world.idle().await;
        world.trips();
        connection.get::<UserById>(1).await.unwrap();
        assert_eq!(world.trips(), ["source load user from the writer [1]"]);
        drop(write);
        connection.renew();
        world.idle().await;
        world.trips();
        connection.get::<UserById>(1).await.unwrap();
        assert_eq!(world.trips(), ["shared read [1]"]);
    }
}

#[tokio::test]
async fn a_renewed_request_keeps_its_stash_and_its_report() {
    let world = World::new().await;
    let connection = world.request();
    connection.stash().insert("ada");
    connection.get::<UserById>(1).await.unwrap();
    let clone = connection.clone();
    clone.renew();
    assert_eq!(connection.peek::<PhotoById>(1).await.unwrap(), None);
    assert!(
        matches!(connection.peek::<UserById>(1).await.unwrap(), Some(Known::Value(_))),
        "the shared tier knows it"
    );
    assert_eq!(connection.stash().get::<&'static str>().as_deref(), Some(&"ada"));
    let report = connection.report();
    assert_eq!((report.statements(), report.shared_trips()), (1, 4), "{report}");
}
