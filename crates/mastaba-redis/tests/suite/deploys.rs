//! Two versions of a program over one real server, whose types of one source differ: a deploy, and its way back.

use crate::versions;

use std::sync::Arc;
use std::time::Duration;

use mastaba::{Coherence, NearConfig, Region, Tier};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::clock::Clock;
use mastaba_test::servers::RedisServer;
use versions::{Named, Program, Raised, Shelf, V1, V2, Version};

/// For how long a record is left to those who wrote it, and a little.
const LEFT_ALONE: Duration = Duration::from_secs(66);

async fn program<S: Version>(server: &RedisServer, shelf: &Arc<Shelf>, near: bool) -> Program<S> {
    let redis = Redis::connect(RedisConfig::from_url(&server.url()).unwrap()).await.unwrap();
    // a busy machine is no outage
    let region = Region::backend(redis).shared_budget(Duration::from_secs(5));
    let config = NearConfig::entries(100).coherence(Coherence::Fenced);
    Program::start(if near { region.near(config) } else { region }, shelf).await
}

/// Reads until near answers, a few times at most: nothing but what was missed costs a load.
async fn warms_near<S: Version>(program: &Program<S>, shelf: &Shelf) {
    let loads = shelf.loads();
    for _ in 0..5 {
        if program.finds(1).await == (shelf.size(), Tier::Near) {
            assert!(shelf.loads() - loads <= 2);
            return;
        }
    }
    panic!("near never answered");
}

/// From one version to the other: at first the old one runs beside the new one, and then it has gone.
async fn a_deploy<Old: Version, New: Version>(
    server: &RedisServer,
    clock: &Clock,
    shelf: &Arc<Shelf>,
    days: u32,
) {
    let start = Duration::from_secs(86_400) * days;
    clock.ahead(start);
    let old = program::<Old>(server, shelf, false).await;
    old.refresh(1).await;
    old.warm(1).await;
    let new = program::<New>(server, shelf, false).await;
    let beside = program::<New>(server, shelf, true).await;

    // during: the old version has its record, and the new one loads, or has near
    let loads = shelf.loads();
    for _ in 0..3 {
        assert_eq!(old.finds(1).await, (shelf.size(), Tier::Shared));
        assert_eq!(new.finds(1).await, (shelf.size(), Tier::Source));
    }
    assert_eq!(shelf.loads(), loads + 3);
    warms_near(&beside, shelf).await;
    assert_eq!(old.finds(1).await, (shelf.size(), Tier::Shared));
    // whoever writes, all see it at once
    for writer in 0..3 {
        shelf.set(shelf.size() + 1);
        match writer {
            0 => old.invalidate(1).await,
            1 => new.invalidate(1).await,
            _ => beside.invalidate(1).await,
        }
        let size = shelf.size();
        let seen = (beside.finds(1).await.0, old.finds(1).await.0, new.finds(1).await.0);
        assert_eq!(seen, (size, size, size), "writer {writer}");
        warms_near(&beside, shelf).await;
    }
    old.refresh(1).await; // so that the record is of the old version, from now
    assert_eq!(new.finds(1).await, (shelf.size(), Tier::Source));

    // after: the old version has gone, and a minute later the record is of the new one
    drop(old);
    clock.ahead(start + LEFT_ALONE);
    assert_eq!(new.finds(1).await, (shelf.size(), Tier::Source));
    let loads = shelf.loads();
    for _ in 0..3 {
        assert_eq!(new.finds(1).await, (shelf.size(), Tier::Shared));
    }
    assert_eq!(shelf.loads(), loads);
    let events = new.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("entries in another shape"), "{events:?}");
}

#[tokio::test]
async fn a_deploy_and_its_way_back_and_types_that_are_written_with_names_from_then_on_and_no_longer() {
    let test = async {
        let Some(server) = RedisServer::start().await else { return };
        let (clock, shelf) = (Clock::take(), Shelf::new());
        a_deploy::<V1, V2>(&server, &clock, &shelf, 0).await;
        a_deploy::<V2, V1>(&server, &clock, &shelf, 1).await;
        a_deploy::<V1, Named>(&server, &clock, &shelf, 2).await;
        a_deploy::<Named, V2>(&server, &clock, &shelf, 3).await;
        a_deploy::<V1, Raised>(&server, &clock, &shelf, 4).await;
    };
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test took longer than a minute");
}
