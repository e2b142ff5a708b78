//! The commit of a write: it goes to its end without its caller, and says what became of it.

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use mastaba::{CommitError, Lost, NearConfig, Region, Write, WriteMode};
use mastaba_test::world::{PhotoById, UserById, World};
use tokio::sync::oneshot;

fn near(region: Region) -> Region {
    region.near(NearConfig::entries(1000))
}

/// A world whose tiers know users 1 to 3.
async fn warm(configure: impl FnOnce(Region) -> Region) -> World {
    let world = World::with(configure).await;
    world.request().get_many::<UserById>([1, 2, 3]).await.unwrap();
    world.idle().await;
    world.trips();
    world
}

async fn write_of(world: &World, key: u64) -> Write {
    let write = world.request().write();
    write.invalidate::<UserById>([key]).await.unwrap();
    write
}

/// The commit of a new version of user 1.
async fn commit(world: World) -> Result<u32, String> {
    Ok(world.db.update(1))
}

#[tokio::test]
async fn a_commit_is_made_and_then_published() {
    let world = warm(near).await;
    let write = write_of(&world, 1).await;
    let committed = write.commit(commit(world.clone())).await.unwrap();
    assert_eq!((committed.value, committed.published.is_confirmed()), (1, true));
    assert!(committed.published.error().is_none());
    assert_eq!(world.trips(), ["shared invalidate [1]"]);
    assert_eq!(world.sees(1).await, 1);
    assert_eq!(world.events(), [""; 0]);
}

/// Every await point: the caller is polled so many times, and then goes.
#[tokio::test]
async fn a_caller_that_goes_anywhere_in_a_commit_costs_nobody_the_invalidation() {
    for mode in [WriteMode::Simple, WriteMode::Strict, WriteMode::Serve, WriteMode::Degrade] {
        for polls in 1..12 {
            let world = warm(|region| near(region).write_mode(mode)).await;
            let write = write_of(&world, 1).await;
            let in_the_database = {
                let world = world.clone();
                async move {
                    for _ in 0..3 {
                        tokio::task::yield_now().await;
                    }
                    commit(world).await
                }
            };
            let mut committing = Box::pin(write.commit(in_the_database));
            for _ in 0..polls {
                if (&mut committing).now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(committing);
            world.idle().await;
            assert_eq!(world.db.version(1), 1, "{mode:?}: it was begun, and goes to its end");
            assert_eq!(world.sees(1).await, 1, "{mode:?}, after {polls} polls");
            assert_eq!(world.events(), [""; 0]);
        }
    }
}

#[tokio::test]
async fn a_commit_that_is_never_polled_is_not_begun() {
    let world = warm(near).await;
    let write = write_of(&world, 1).await;
    drop(write.commit(commit(world.clone())));
    world.idle().await;
    assert_eq!((world.db.version(1), world.trips().len()), (0, 0));
    assert_eq!(world.events().len(), 1, "{:?}", world.events());
}

#[tokio::test]
async fn what_is_not_known_to_be_rolled_back_is_published() {
    let world = warm(near).await;
    for (nth, panics) in [false, true].into_iter().enumerate() {
        let write = write_of(&world, 1).await;
        let answer_is_lost = {
            let world = world.clone();
            async move {
                commit(world).await?;
                assert!(!panics, "the driver is broken");
                Err::<(), _>("connection reset".to_owned())
            }
        };
        let error = write.commit(answer_is_lost).await.unwrap_err();
        assert!(error.is_unknown() && !error.is_rolled_back());
        let CommitError::Unknown { cause, published } = &error else { panic!("{error}") };
        assert!(published.is_confirmed());
        match cause {
            Lost::Failed(cause) => assert_eq!(cause, "connection reset"),
            Lost::Panicked(said) => assert_eq!(said, "the driver is broken"),
            other => panic!("{other}"),
        }
        assert_eq!(world.trips(), ["shared invalidate [1]"]);
        assert_eq!(world.sees(1).await, nth as u32 + 1);
        world.idle().await;
        world.trips();
    }
}

#[tokio::test]
async fn a_known_rollback_voids_nothing_and_is_no_warning() {
    for mode in [WriteMode::Simple, WriteMode::Strict, WriteMode::Serve] {
        let world = warm(|region| near(region).write_mode(mode)).await;
        let write = write_of(&world, 1).await;
        let conflict = ready(Err::<(), _>("serialization failure"));
        let error = write.commit_unless(conflict, |error| error.starts_with("serial")).await.unwrap_err();
        assert!(matches!(error, CommitError::RolledBack("serialization failure")), "{error}");
        write_of(&world, 2).await.discard();
        world.idle().await;
        let held = ["shared hold [1]", "shared end [1]"];
        let trips = if mode == WriteMode::Simple { &[][..] } else { &held };
        assert_eq!(world.trips(), trips, "{mode:?}");
        assert_eq!(world.sees(1).await, 0);
        assert_eq!(world.loads(), [""; 0], "{mode:?}: what was held is back (R10)");
        assert_eq!(world.events(), [""; 0]);
    }
}

#[tokio::test]
async fn a_panic_of_whoever_judges_an_error_leaves_the_outcome_unknown() {
    let world = warm(near).await;
    let write = write_of(&world, 1).await;
    let failed = ready(Err::<(), _>("odd"));
    let error = write.commit_unless(failed, |_| panic!("cannot tell")).await.unwrap_err();
    assert!(error.is_unknown());
    assert_eq!(world.trips(), ["shared invalidate [1]"]);
}

/// What happens while COMMIT is under way: a gate between the holds and the end of the write.
struct Committing {
    world: World,
    /// Commits in the database.
    go: Option<oneshot::Sender<()>>,
    done: tokio::task::JoinHandle<Result<bool, String>>,
}

impl Committing {
    async fn begin(world: &World) -> Self {
        let write = write_of(world, 1).await;
        let (go, gone) = oneshot::channel::<()>();
        let (begun, began) = oneshot::channel::<()>();
        let commit = {
            let world = world.clone();
            async move {
                let _ = begun.send(());
                let _ = gone.await;
                commit(world).await
            }
        };
        let done = tokio::spawn(async move {
            let committed = write.commit(commit).await.map_err(|error| error.to_string())?;
            Ok(committed.published.is_confirmed())
        });
        began.await.unwrap();
        Self { world: world.clone(), go: Some(go), done }
    }

    /// The database has committed; nothing else has happened since.
    async fn commit(&mut self) {
        drop(self.go.take());
        while self.world.db.version(1) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn in_strict_nobody_reads_what_was_there_before_from_the_commit_on() {
    for near_too in [false, true] {
        for processes in [false, true] {
            let configure = |region: Region| {
                let region = region.write_mode(WriteMode::Strict);
                // near across processes needs a backend that notifies
                if near_too && !processes { near(region) } else { region }
            };
            let world = match processes {
                true => World::across_processes(configure).await,
                false => World::with(configure).await,
            };
            assert_eq!(world.sees(1).await, 0);
            world.idle().await;
            world.trips();
            let end = world.shared.before("end");
            let mut write = Committing::begin(&world).await;
            assert_eq!(world.trips(), ["shared hold [1]"], "all of it in one trip, before COMMIT (R7)");
            // loaded in the middle, under the hold: joined by nobody who comes after the commit
            let gate = world.db.close_gate();
            let during = world.start::<UserById>(1);
            gate.arrived(1).await;
            write.commit().await;
            let after = world.start::<UserById>(1);
            world.settle().await;
            gate.open_for_good();
            assert_eq!(during.await.unwrap().version, 0);
            assert_eq!(after.await.unwrap().version, 1, "near {near_too}, processes {processes} (I2)");
            // a hold may be lost with the store, so nothing is acknowledged before its end
            end.arrived(1).await;
            assert!(!write.done.is_finished(), "its end is waited for");
            assert_eq!(world.sees(1).await, 1);
            end.open_for_good();
            assert!(write.done.await.unwrap().unwrap());
            world.idle().await;
            assert!(
                !world.trips().iter().any(|trip| trip.contains("fill")),
                "nothing is stored under a hold"
            );
            assert_eq!(world.sees(1).await, 1);
            world.idle().await;
            assert!(world.trips().contains(&"shared fill [1]".to_owned()), "and again after it");
        }
    }
}

#[tokio::test]
async fn in_serve_readers_go_on_with_what_was_there_until_the_write_is_acknowledged() {
    let world = warm(|region| region.write_mode(WriteMode::Serve)).await;
    let end = world.shared.before("end");
    let mut write = Committing::begin(&world).await;
    assert_eq!(world.sees(1).await, 0);
    write.commit().await;
    assert_eq!(world.sees(1).await, 0, "not acknowledged");
    assert_eq!(world.loads(), [""; 0], "and nobody goes to the database");
    end.arrived(1).await;
    assert!(!write.done.is_finished(), "its end is waited for");
    end.open_for_good();
    assert!(write.done.await.unwrap().unwrap());
    assert_eq!(world.sees(1).await, 1);
}

#[tokio::test]
async fn what_cannot_be_held_is_refused_before_the_commit_is_begun_or_goes_on_without() {
    for mode in [WriteMode::Strict, WriteMode::Serve, WriteMode::Degrade] {
        let world = warm(|region| near(region).write_mode(mode)).await;
        world.shared.down(&["hold"]);
        let begun = Arc::new(AtomicBool::new(false));
        let commit = {
            let (world, begun) = (world.clone(), begun.clone());
            async move {
                begun.store(true, Ordering::SeqCst);
                commit(world).await
            }
        };
        let done = write_of(&world, 1).await.commit(commit).await;
        world.idle().await;
        if mode == WriteMode::Degrade {
            assert!(done.unwrap().published.is_confirmed());
            assert_eq!(world.trips(), ["shared hold [1]", "shared invalidate [1]"]);
            assert_eq!(world.sees(1).await, 1);
        } else {
            let error = done.unwrap_err();
            assert!(matches!(&error, CommitError::Refused(error) if error.is_shared()), "{error}");
            assert!(error.to_string().contains("region objects: 1 key could not be held"), "{error}");
            assert!(!begun.load(Ordering::SeqCst));
            assert_eq!((world.db.version(1), world.sees(1).await), (0, 0));
        }
    }
}

#[tokio::test]
async fn a_hold_whose_write_has_an_unknown_outcome_is_left_to_run_out() {
    for mode in [WriteMode::Strict, WriteMode::Serve] {
        let world = warm(|region| region.write_mode(mode)).await;
        let lost = {
            let world = world.clone();
            async move {
                commit(world).await?;
                Err::<(), _>("connection reset".to_owned())
            }
        };
        let error = write_of(&world, 1).await.commit(lost).await.unwrap_err();
        assert!(error.is_unknown());
        world.idle().await;
        assert_eq!(world.trips(), ["shared hold [1]", "shared invalidate [1]"], "and no end (R8)");
        let kind = mastaba::entry::peek_kind(&world.record("user:1").await.unwrap());
        assert_eq!(kind, Some(mastaba::entry::Kind::Hold));
        assert_eq!(world.sees(1).await, 1, "{mode:?}: what it kept is forgotten");
        world.idle().await;
        assert!(!world.trips().iter().any(|trip| trip.contains("fill")));
    }
}

#[tokio::test]
async fn a_commit_that_takes_longer_than_its_holds_renews_them() {
    let ttl = Duration::from_millis(300);
    let world = warm(|region| region.write_mode(WriteMode::Strict).hold_ttl(ttl)).await;
    let mut write = Committing::begin(&world).await;
    tokio::time::sleep(ttl * 3).await;
    let kind = mastaba::entry::peek_kind(&world.record("user:1").await.expect("it is held"));
    assert_eq!(kind, Some(mastaba::entry::Kind::Hold));
    let holds = world.trips().iter().filter(|trip| trip.contains("hold")).count();
    assert!((4..=12).contains(&holds), "{holds}");
    write.commit().await;
    assert!(write.done.await.unwrap().unwrap());
    assert_eq!(world.sees(1).await, 1);
}

#[tokio::test]
async fn where_holds_ran_out_during_the_commit_their_end_is_waited_for() {
    let ttl = Duration::from_millis(60);
    let world = warm(|region| region.write_mode(WriteMode::Strict).hold_ttl(ttl)).await;
    let mut write = Committing::begin(&world).await;
    world.shared.down(&["hold"]);
    tokio::time::sleep(ttl * 3).await;
    // the hold is gone, and somebody stores what is there before the commit
    assert_eq!(world.sees(1).await, 0);
    world.settle().await;
    let end = world.shared.before("end");
    write.commit().await;
    end.arrived(1).await;
    assert!(!write.done.is_finished(), "old values may stand there until it is ended");
    end.open_for_good();
    assert!(write.done.await.unwrap().unwrap());
    assert_eq!(world.sees(1).await, 1);
}

#[tokio::test]
async fn two_writers_of_one_key_end_their_own_holds_alone() {
    let world = warm(|region| region.write_mode(WriteMode::Strict)).await;
    let mut first = Committing::begin(&world).await;
    let second = write_of(&world, 1).await.commit(ready(Ok::<_, String>(()))).await.unwrap();
    assert!(second.published.is_confirmed());
    while !world.trips().iter().any(|trip| trip.contains("end")) {
        tokio::task::yield_now().await;
    }
    world.settle().await;
    assert_eq!(world.sees(1).await, 0, "the first has not committed");
    world.settle().await;
    assert!(!world.trips().iter().any(|trip| trip.contains("fill")), "it still holds the key (R9)");
    first.commit().await;
    assert_eq!(world.sees(1).await, 1);
    assert!(first.done.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_write_can_be_held_before_a_commit_that_the_program_makes_itself() {
    let world = warm(|region| near(region).write_mode(WriteMode::Strict)).await;
    let write = write_of(&world, 1).await;
    write.invalidate::<PhotoById>([7]).await.unwrap();
    write.hold().await.unwrap();
    assert_eq!(world.trips(), ["shared hold [7, 1]"]);
    world.db.update(1);
    assert_eq!(world.sees(1).await, 1, "committed, and held");
    world.trips();
    assert!(write.published().await.unwrap().is_confirmed());
    assert_eq!(world.trips(), ["shared end [1, 7]"]);
    world.shared.down(&["hold"]);
    let write = write_of(&world, 1).await;
    assert!(write.hold().await.unwrap_err().is_shared());
    write.discard();
}

#[tokio::test]
async fn several_regions_are_held_at_once_and_each_in_its_own_mode() {
    let world = World::build::<false>(
        mastaba::shared::memory::Memory::default(),
        |region| region.write_mode(WriteMode::Strict),
        |builder, _| builder.region("others", Region::memory()),
    )
    .await;
    world.sees(1).await;
    world.idle().await;
    world.trips();
    let write = write_of(&world, 1).await;
    write.clear("others").unwrap();
    write.invalidate_tag("team");
    let committed = write.commit(commit(world.clone())).await.unwrap();
    assert!(committed.published.is_confirmed());
    world.idle().await;
    let trips = ["shared hold [1]", "shared end [1]", "shared invalidate [@tags, #team]"];
    assert_eq!(world.trips(), trips);
    assert_eq!(world.sees(1).await, 1);
}

/// A hundred thousand keys are ten pieces for this backend.
#[tokio::test]
async fn very_many_keys_are_held_and_ended_a_few_pieces_at_a_time() {
    let world = World::with(|region| region.write_mode(WriteMode::Strict)).await;
    let write = world.request().write();
    write.invalidate::<UserById>(0..100_000).await.unwrap();
    let done = {
        let (holds, ends) = (world.shared.before("hold"), world.shared.before("end"));
        let done = tokio::spawn(write.commit(commit(world.clone())));
        for gate in [holds, ends] {
            gate.arrived(4).await;
            world.settle().await;
            assert_eq!(gate.arrivals(), 4, "and no more before one of them is answered");
            gate.open_for_good();
        }
        done
    };
    assert!(done.await.unwrap().unwrap().published.is_confirmed());
    let trips = world.trips();
    for operation in ["shared hold", "shared end"] {
        let pieces = trips.iter().filter(|trip| trip.starts_with(operation)).count();
        assert_eq!(pieces, 10, "{operation}");
    }
}

/// A piece that fails keeps no other one back: what is not ended would stay held until its time is over.
#[tokio::test]
async fn a_piece_that_fails_keeps_none_of_the_others_from_being_ended() {
    let pieces = |world: &World, operation: &str| {
        world.trips().iter().filter(|trip| trip.starts_with(operation)).count()
    };
    let world = World::with(|region| region.write_mode(WriteMode::Strict)).await;
    let write = world.request().write();
    write.invalidate::<UserById>(0..100_000).await.unwrap();
    world.shared.refuse(&["end"]);
    let committed = write.commit(commit(world.clone())).await.unwrap();
    assert!(!committed.published.is_confirmed());
    assert_eq!(pieces(&world, "shared end"), 10);
    committed.published.confirmed(Duration::from_secs(20)).await.unwrap();

    // and of a write that was refused, what it holds is given back
    world.shared.refuse(&["hold"]);
    let write = world.request().write();
    write.invalidate::<UserById>(0..100_000).await.unwrap();
    world.trips();
    let refused = write.commit(commit(world.clone())).await;
    assert!(matches!(refused, Err(CommitError::Refused(_))), "{refused:?}");
    world.idle().await;
    let trips = world.trips();
    for operation in ["shared hold", "shared end"] {
        let pieces = trips.iter().filter(|trip| trip.starts_with(operation)).count();
        assert_eq!(pieces, 10, "{operation}");
    }
}

/// Holds that take as long to be placed as they live would not stand all at one time (R7).
#[tokio::test]
async fn holds_that_cannot_all_stand_at_one_time_refuse_the_write() {
    let world =
        World::with(|region| region.write_mode(WriteMode::Strict).hold_ttl(Duration::from_millis(300))).await;
    let write = world.request().write();
    write.invalidate::<UserById>(0..100_000).await.unwrap();
    // ten pieces, four at a time
    world.shared.slow(Duration::from_millis(100));
    let refused = write.commit(commit(world.clone())).await;
    let Err(CommitError::Refused(why)) = refused else { panic!("{refused:?}") };
    assert!(why.to_string().contains("a hold lives for 300ms"), "{why}");
    assert_eq!(world.db.version(1), 0);
}

/// The write of another cache carries the commit of this one.
#[tokio::test]
async fn one_commit_of_two_caches_is_published_by_both_or_by_neither() {
    for mode in [WriteMode::Simple, WriteMode::Strict, WriteMode::Serve, WriteMode::Degrade] {
        let [outer, inner] =
            [warm(|region| region.write_mode(mode)).await, warm(|region| region.write_mode(mode)).await];
        let knows = async |version: u32| {
            for world in [&outer, &inner] {
                world.idle().await;
                assert_eq!((world.sees(1).await, world.loads().len()), (version, 0), "{mode:?}");
                world.trips();
            }
        };

        let both = {
            let (outer, inner) = (outer.clone(), inner.clone());
            async move { Ok::<_, String>((commit(outer).await?, commit(inner).await?)) }
        };
        let within = write_of(&inner, 1).await.commit(both);
        let committed =
            write_of(&outer, 1).await.commit_unless(within, CommitError::is_rolled_back).await.unwrap();
        assert!(committed.published.is_confirmed() && committed.value.published.is_confirmed());
        for world in [&outer, &inner] {
            assert_eq!(world.sees(1).await, 1, "{mode:?}");
            world.idle().await;
            world.trips();
        }
        knows(1).await;

        let conflict = || ready(Err::<(), _>("serialization failure"));
        let within = write_of(&inner, 1).await.commit_unless(conflict(), |_| true);
        let error =
            write_of(&outer, 1).await.commit_unless(within, CommitError::is_rolled_back).await.unwrap_err();
        assert!(matches!(error, CommitError::RolledBack(CommitError::RolledBack(_))), "{mode:?}: {error}");
        knows(1).await;

        if mode != WriteMode::Simple && mode != WriteMode::Degrade {
            inner.shared.down(&["hold"]);
            let within = write_of(&inner, 1).await.commit(commit(inner.clone()));
            let error = write_of(&outer, 1)
                .await
                .commit_unless(within, CommitError::is_rolled_back)
                .await
                .unwrap_err();
            assert!(matches!(error, CommitError::RolledBack(CommitError::Refused(_))), "{mode:?}: {error}");
            inner.shared.down(&[]);
            knows(1).await;
            assert_eq!(inner.db.version(1), 1, "it was not begun");
        }
        assert_eq!(outer.events(), [""; 0]);

        // an outer write that is not told so cannot know that it was rolled back
        let within = write_of(&inner, 1).await.commit_unless(conflict(), |_| true);
        let error = write_of(&outer, 1).await.commit(within).await.unwrap_err();
        assert!(error.is_unknown() && error.cause().is_some_and(CommitError::is_rolled_back), "{error}");

        // neither knows
        for world in [&outer, &inner] {
            world.idle().await;
            world.trips();
        }
        let lost = {
            let (outer, inner) = (outer.clone(), inner.clone());
            async move {
                commit(outer).await?;
                commit(inner).await?;
                Err::<(), _>("connection reset".to_owned())
            }
        };
        let within = write_of(&inner, 1).await.commit(lost);
        let error =
            write_of(&outer, 1).await.commit_unless(within, CommitError::is_rolled_back).await.unwrap_err();
        let CommitError::Unknown { cause: Lost::Failed(CommitError::Unknown { published, .. }), .. } = &error
        else {
            panic!("{error}")
        };
        assert!(published.is_confirmed());
        for world in [&outer, &inner] {
            assert_eq!(world.sees(1).await, 2, "{mode:?}");
        }
    }
}

#[test]
fn a_commit_outside_of_a_runtime_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    let write = runtime.block_on(write_of(&world, 1));
    let refused = write.commit(pending::<Result<(), String>>()).now_or_never().unwrap().unwrap_err();
    assert!(matches!(refused, CommitError::Refused(error) if error.is_usage()));
}
