//! What a write is going to void, as plain data: voided later, by another process, in force and never forgotten there.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{Cache, Coherence, NearConfig, Outgoing, Region, Settled, Tier, Write, WriteMode};
use mastaba_test::faulty::{Faults, Faulty, Mishap, Op};
use mastaba_test::telling::Telling;
use mastaba_test::world::{Db, PhotoById, UserById, World};
use tokio::sync::oneshot;

const LONG: Duration = Duration::from_secs(20);

fn near(region: Region) -> Region {
    region.near(NearConfig::entries(1000))
}

/// What is left of a write whose process dies right after its commit.
async fn left(world: &World, collect: impl AsyncFnOnce(&Write)) -> Vec<Outgoing> {
    let write = world.request().write();
    collect(&write).await;
    // as rows: nothing of the program is in them
    let rows: Vec<_> = write.outgoing().iter().map(Outgoing::to_bytes).collect();
    write.discard();
    rows.iter().map(|row| Outgoing::from_bytes(row).unwrap()).collect()
}

async fn left_of_user(world: &World, key: u64) -> Vec<Outgoing> {
    left(world, async |write| write.invalidate::<UserById>([key]).await.unwrap()).await
}

async fn tier(world: &World, key: u64) -> Option<Tier> {
    world.request().get_outcomes::<UserById>([key]).await[&key].tier()
}

#[tokio::test]
async fn what_a_write_left_behind_is_voided_in_every_tier_of_the_process() {
    for region in [false, true] {
        let world = World::with(near).await;
        assert_eq!(world.sees(1).await, 0);
        world.idle().await;
        let pieces = match region {
            false => left_of_user(&world, 1).await,
            true => left(&world, async |write| write.clear("objects").unwrap()).await,
        };
        world.db.update(1);
        assert_eq!((world.sees(1).await, tier(&world, 1).await), (0, Some(Tier::Near)), "nobody voided it");
        world.trips();
        let published = world.cache.void(&pieces).await.unwrap();
        assert!(published.is_confirmed() && published.error().is_none());
        let trip = if region { "shared invalidate [@generation]" } else { "shared invalidate [1]" };
        assert_eq!(world.trips(), [trip]);
        assert_eq!(world.sees(1).await, 1);
        world.idle().await;
        assert_eq!(tier(&world, 1).await, Some(Tier::Near), "and in use again");
    }
}

#[tokio::test]
async fn nobody_joins_a_load_from_before_what_was_left_behind_is_voided() {
    let world = World::with(near).await;
    let pieces = left_of_user(&world, 1).await;
    let gate = world.db.close_gate();
    let before = world.start::<UserById>(1);
    gate.arrived(1).await;
    world.db.update(1);
    world.cache.void(&pieces).await.unwrap();
    let after = world.start::<UserById>(1);
    world.settle().await;
    gate.open_for_good();
    assert_eq!((before.await.unwrap().version, after.await.unwrap().version), (0, 1), "R5");
    world.idle().await;
    assert_eq!(world.sees(1).await, 1, "and it was not stored (R1)");
}

#[tokio::test]
async fn a_tag_that_a_write_left_behind_is_voided_in_its_regions() {
    let world = World::build::<false>(
        Memory::default(),
        |region| region,
        |builder, _| builder.region("others", Region::memory()).region("nothing", Region::null()),
    )
    .await;
    let pieces = left(&world, async |write| write.invalidate_tag("team")).await;
    let regions: Vec<_> = pieces.iter().map(Outgoing::region).collect();
    assert_eq!(regions, ["mastaba:objects", "mastaba:others"], "a region that keeps nothing is left out");
    world.cache.void(&pieces).await.unwrap();
    assert_eq!(world.trips(), ["shared invalidate [@tags, #team]"]);
}

#[tokio::test]
async fn it_goes_out_in_the_order_of_collecting_each_key_once_and_neighbours_in_one_trip() {
    let world = World::new().await;
    let pieces = left(&world, async |write| {
        write.invalidate::<UserById>([3, 1, 3]).await.unwrap();
        write.invalidate::<PhotoById>([7]).await.unwrap();
        write.invalidate_tag("team");
        write.invalidate::<UserById>([2, 1]).await.unwrap();
    })
    .await;
    let twice: Vec<_> = pieces.iter().chain(&pieces).cloned().collect();
    world.trips();
    world.cache.void(&pieces).await.unwrap();
    let once =
        ["shared invalidate [3, 1, 7]", "shared invalidate [@tags, #team]", "shared invalidate [2, 1]"];
    assert_eq!(world.trips(), once);
    world.cache.void(&twice).await.unwrap();
    let mut trips = world.trips();
    assert_eq!(trips.remove(2), "shared invalidate [2, 1, 3, 7]");
    assert_eq!(trips.len(), 4, "{trips:?}");
}

#[tokio::test]
async fn late_twice_and_out_of_order_it_is_harmless() {
    let world = World::with(near).await;
    let first = left_of_user(&world, 1).await;
    let second = left(&world, async |write| write.invalidate::<UserById>([1, 2]).await.unwrap()).await;
    world.db.update(1);
    world.db.update(1);
    for pieces in [&second, &first, &second, &first] {
        world.cache.void(pieces).await.unwrap();
        assert_eq!((world.sees(1).await, world.sees(2).await), (2, 0));
        world.idle().await;
    }
}

#[tokio::test]
async fn many_keys_go_in_bounded_pieces() {
    let world = World::new().await;
    let pieces = left(&world, async |write| write.invalidate::<UserById>(0..100_000).await.unwrap()).await;
    assert!(pieces.len() > 50, "{}", pieces.len());
    assert!(pieces.iter().all(|piece| piece.to_bytes().len() < 32 * 1024));
    assert_eq!(pieces.iter().map(Outgoing::len).sum::<usize>(), 100_000);
    assert!(world.cache.void(&pieces).await.unwrap().is_confirmed());
}

#[tokio::test]
async fn what_is_of_a_region_that_is_not_here_or_keeps_nothing_is_an_error_and_voids_nothing() {
    let world = World::build::<false>(
        Memory::default(),
        |region| region,
        |builder, _| builder.region("others", Region::memory()),
    )
    .await;
    let pieces = left(&world, async |write| {
        write.invalidate::<UserById>([1]).await.unwrap();
        write.clear("others").unwrap();
    })
    .await;
    let with_null = World::build::<false>(
        Memory::default(),
        |region| region,
        |builder, _| builder.region("others", Region::null()),
    )
    .await;
    for (other, why) in
        [(World::new().await, "this cache has: mastaba:objects"), (with_null, "keeps nothing")]
    {
        let error = other.cache.void(&pieces).await.unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(why), "{error}");
        assert!(error.to_string().contains("\"mastaba:others\""), "{error}");
        assert!(
            other.cache.check(&pieces[0]).is_ok() && other.cache.check(&pieces[1]).unwrap_err().is_usage()
        );
        assert_eq!(other.trips(), [""; 0], "all or nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_shared_tier_does_not_confirm_is_in_force_here_and_sent_again() {
    let world = World::new().await;
    assert_eq!(world.sees(1).await, 0);
    world.idle().await;
    let pieces = left_of_user(&world, 1).await;
    world.db.update(1);
    let relay = world.second().await;
    relay.shared.down(&["invalidate"]);
    let published = relay.cache.void(&pieces).await.unwrap();
    assert!(!published.is_confirmed() && published.error().is_some());
    assert_eq!((relay.sees(1).await, world.sees(1).await), (1, 0), "the other process cannot know");
    relay.shared.down(&[]);
    published.confirmed(LONG).await.unwrap();
    assert!(published.error().is_some(), "its order is not known, so it is not to be forgotten");
    assert_eq!(world.sees(1).await, 1);
}

/// How far a write of user 1 had come when everything had been tried.
async fn settled<E: Send + 'static>(
    world: &World,
    commit: impl Future<Output = Result<u32, E>> + Send + 'static,
    rolled_back: bool,
) -> Settled {
    let write = world.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let (tell, told) = oneshot::channel();
    write.afterwards(|_| async { panic!("one that panics keeps nobody else from it") });
    write.afterwards(|settled| async move { tell.send(settled).unwrap() });
    let _ = write.commit_unless(commit, move |_| rolled_back).await;
    told.await.unwrap()
}

#[tokio::test]
async fn a_write_says_at_its_end_how_far_it_came() {
    for mode in [WriteMode::Simple, WriteMode::Strict, WriteMode::Serve, WriteMode::Degrade] {
        let world = World::with(|region| near(region).write_mode(mode)).await;
        let done = || ready(Ok::<_, String>(0));
        let failed = || ready(Err::<u32, _>("connection reset".to_owned()));
        assert_eq!(settled(&world, done(), false).await, Settled::Confirmed, "{mode:?}");
        assert_eq!(settled(&world, failed(), false).await, Settled::Unknown, "{mode:?}");
        assert_eq!(settled(&world, failed(), true).await, Settled::RolledBack, "{mode:?}");
        world.shared.down(&["invalidate", "end"]);
        assert_eq!(settled(&world, done(), false).await, Settled::Unconfirmed, "{mode:?}");
    }
}

/// Whoever forgets the write elsewhere may do so only after the end of its holds.
#[tokio::test]
async fn a_write_is_settled_after_the_end_of_its_holds() {
    let world = World::with(|region| region.write_mode(WriteMode::Degrade)).await;
    let write = world.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    assert!(write.degrades());
    let (tell, mut told) = oneshot::channel();
    write.afterwards(|settled| async move { tell.send(settled).unwrap() });
    let end = world.shared.before("end");
    let committing = tokio::spawn(write.commit(ready(Ok::<_, String>(()))));
    end.arrived(1).await;
    world.settle().await;
    assert!(told.try_recv().is_err());
    end.open_for_good();
    assert!(committing.await.unwrap().unwrap().published.is_confirmed());
    assert_eq!(told.await, Ok(Settled::Confirmed));
}

#[tokio::test]
async fn what_was_committed_by_the_program_itself_is_settled_without_its_waiting() {
    let world = World::new().await;
    let write = world.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    assert!(!write.degrades());
    let (go, gone) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    write.afterwards(|settled| async move {
        gone.await.unwrap();
        tell.send(settled).unwrap();
    });
    assert!(write.published().await.unwrap().is_confirmed());
    go.send(()).unwrap();
    assert_eq!(told.await, Ok(Settled::Confirmed));
}

/// Before a store that tells of changes, near goes by what was told of each record.
#[tokio::test(start_paused = true)]
async fn near_before_a_store_that_tells_forgets_those_records_alone() {
    let (db, faults) = (Arc::new(Db::default()), Faults::new());
    let store = Faulty::new(Telling::new(Memory::default()), faults.clone());
    let near = NearConfig::entries(100).coherence(Coherence::Fenced);
    let region = Region::backend(store).jitter(0.0).early_refresh(0.0).near(near);
    let cache =
        Cache::builder().region("objects", region).source(UserById(db.clone())).build().await.unwrap();
    let finds = async |key: u64| {
        let users = cache.request().get_outcomes::<UserById>([key]).await;
        cache.idle().await;
        (users[&key].value().unwrap().unwrap().version, users[&key].tier().unwrap())
    };
    for key in [9, 1, 2, 1, 2] {
        finds(key).await; // the first one makes the stamps of the region
    }
    assert_eq!((finds(1).await, finds(2).await), ((0, Tier::Near), (0, Tier::Near)));
    let write = cache.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let pieces = write.outgoing();
    write.discard();
    db.update(1);
    faults.always(Op::Invalidate, Mishap::Down);
    assert!(!cache.void(&pieces).await.unwrap().is_confirmed());
    assert_eq!((finds(1).await, finds(2).await), ((1, Tier::Source), (0, Tier::Near)));
}
