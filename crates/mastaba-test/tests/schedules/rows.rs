//! The rows.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mastaba::shared::Shared;
use mastaba::{Region, Tier, WriteMode};
use mastaba_test::world::UserById;

use super::Store;
use super::stage::{Committing, Derived, InTransaction, ROLLED_BACK, Stage};

/// The record of user 1.
const USER: &str = "mastaba:objects:user:1";

/// Waits until nothing stands there.
async fn is_gone(store: &impl Shared) {
    while store.read(&[USER.into()]).await.unwrap()[0].is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn simple(region: Region) -> Region {
    region
}

fn strict(region: Region) -> Region {
    region.write_mode(WriteMode::Strict)
}

fn serve(region: Region) -> Region {
    region.write_mode(WriteMode::Serve)
}

fn degrade(region: Region) -> Region {
    region.write_mode(WriteMode::Degrade)
}

/// A load reads the old row; a write is acknowledged, and what it wrote is stored by another reader; the load ends. SET
/// would replace the new row with the old one (R1).
pub(crate) async fn a1_a_fill_replaces_nothing_that_came_after_an_invalidation<S: Store>(store: &S) {
    for stage in Stage::all(store, simple).await {
        let gate = stage.db.close_gate();
        let slow = stage.reader.start_get::<UserById>(1);
        gate.arrived(1).await;
        gate.only_those_here();
        stage.writer.writes(&stage.db).await;
        assert_eq!(stage.second.sees(1).await, 1);
        stage.second.cache.idle().await;
        gate.open_for_good();
        assert_eq!(slow.await.unwrap().version, 0, "it began before");
        stage.reader.cache.idle().await; // its fill
        stage.all_see_what_is_committed().await;
    }
}

/// The same with two writes and nobody who reads in between: whoever compares the versions of what is stored has nothing
/// to compare with (R1).
pub(crate) async fn a4_a_fill_is_not_stored_where_nothing_stands<S: Store>(store: &S) {
    for stage in Stage::all(store, simple).await {
        let gate = stage.db.close_gate();
        let slow = stage.reader.start_get::<UserById>(1);
        gate.arrived(1).await;
        gate.only_those_here();
        stage.writer.writes(&stage.db).await;
        stage.second.writes(&stage.db).await;
        gate.open_for_good();
        assert_eq!(slow.await.unwrap().version, 0, "it began before");
        stage.reader.cache.idle().await;
        stage.all_see_what_is_committed().await;
    }
}

/// What a write leaves in the place of a record keeps late fills out for as long as it stands, and no longer: it may be
/// lost with the store, or run out. ADD would store the old row then (R1).
pub(crate) async fn a6_a_fill_is_refused_when_what_voided_its_lease_is_gone_too<S: Store>(store: &S) {
    let ttl = Duration::from_millis(200);
    for runs_out in [false, true].into_iter().filter(|runs_out| *runs_out || S::FORGETS) {
        let configure = |region| if runs_out { strict(region).hold_ttl(ttl) } else { simple(region) };
        for stage in Stage::all(store, configure).await {
            let gate = stage.db.close_gate();
            let slow = stage.reader.start_get::<UserById>(1);
            gate.arrived(1).await;
            gate.only_those_here();
            if runs_out {
                let write = Committing::begin(stage.writer.write().await, &stage.db).await;
                write.commits();
                write.answered(Err("connection reset")).await;
                is_gone(&store.connect(stage.place).await).await;
            } else {
                stage.writer.writes(&stage.db).await;
                store.forget(stage.place).await;
            }
            gate.open_for_good();
            assert_eq!(slow.await.unwrap().version, 0, "it began before");
            stage.reader.cache.idle().await;
            stage.all_see_what_is_committed().await;
        }
    }
}

/// A transaction is opened; a write is acknowledged; the transaction reads through the cache. Its lease is newer than the
/// write, and what it sees is older (R4).
pub(crate) async fn b5_what_an_older_transaction_reads_is_not_stored<S: Store>(store: &S) {
    for stage in Stage::all(store, simple).await {
        *stage.transaction.lock().unwrap() = Some(stage.db.version(1));
        stage.db.update(1);
        let published = stage.writer.request().invalidate::<InTransaction>([1]).await.unwrap();
        assert!(published.is_confirmed());
        let gate = stage.db.close_gate();
        let inside = stage.reader.start_get::<InTransaction>(1);
        gate.arrived(1).await;
        gate.only_those_here();
        *stage.transaction.lock().unwrap() = None;
        let outside = stage.reader.start_get::<InTransaction>(1);
        gate.open_for_good();
        assert_eq!(*inside.await.unwrap(), 0, "what the transaction sees");
        assert_eq!(*outside.await.unwrap(), 1, "it began after the write, and joined the other load");
        for process in [&stage.reader, &stage.writer, &stage.second, &stage.reader] {
            process.cache.idle().await;
            assert_eq!(*process.request().get::<InTransaction>(1).await.unwrap().unwrap(), 1);
        }
    }
}

/// A key is held; the answer to COMMIT is lost, or the write is dropped after its hold; somebody reads the old row; and
/// now COMMIT comes through (R8).
pub(crate) async fn c3r_a_hold_whose_commit_may_still_come_is_not_released<S: Store>(store: &S) {
    for (mode, dropped) in
        [(strict as fn(_) -> _, false), (strict, true), (degrade, false), (degrade, true), (serve, false)]
    {
        for stage in Stage::all(store, mode).await {
            stage.warm().await;
            let write = stage.writer.write().await;
            if dropped {
                write.hold().await.unwrap();
                drop(write);
            } else {
                Committing::begin(write, &stage.db).await.answered(Err("connection reset")).await;
            }
            assert_eq!(stage.reader.sees(1).await, 0, "not committed yet");
            stage.reader.cache.idle().await; // its fill, if there were one
            stage.db.update(1);
            for process in [&stage.reader, &stage.writer, &stage.second] {
                assert_eq!(process.sees(1).await, 1, "from COMMIT on (I2)");
            }
        }
    }
}

/// A hold is lost before COMMIT, with the store or because it could not be renewed, and somebody stores the old row in its place. From COMMIT to the end of the
/// write it is read; after that it is not (I1).
pub(crate) async fn c5_what_was_stored_in_the_place_of_a_lost_hold_is_void_when_the_write_is_acknowledged<
    S: Store,
>(
    store: &S,
) {
    let ttl = Duration::from_millis(if S::FORGETS { 15_000 } else { 200 });
    for mode in [strict as fn(_) -> Region, serve, degrade] {
        for stage in Stage::all(store, |region| mode(region).hold_ttl(ttl)).await {
            assert_eq!(stage.reader.sees(1).await, 0);
            stage.reader.cache.idle().await;
            let write = Committing::begin(stage.writer.write().await, &stage.db).await;
            if S::FORGETS {
                store.forget(stage.place).await;
            } else {
                stage.writer.shared.down(&["hold"]);
                is_gone(&store.connect(stage.place).await).await;
            }
            assert_eq!(stage.reader.sees(1).await, 0);
            stage.reader.cache.idle().await; // its fill
            let ends = stage.writer.shared.before("end");
            write.commits();
            let acknowledged = write.answered(Ok(()));
            let acknowledged = async {
                acknowledged.await;
                assert_eq!(stage.reader.sees(1).await, 1, "acknowledged (I1)");
            };
            let ends = async {
                ends.arrived(1).await;
                for _ in 0..100 {
                    tokio::task::yield_now().await; // an answer that does not wait for the end comes now
                }
                ends.open_for_good();
            };
            tokio::join!(acknowledged, ends);
            stage.all_see_what_is_committed().await;
        }
    }
}

/// A transaction stays open for longer than its holds live. They are renewed: nobody stores meanwhile what it is about to
/// void, and from its commit on nobody reads it.
pub(crate) async fn a_hold_is_renewed_for_as_long_as_its_transaction_is_open<S: Store>(store: &S) {
    let ttl = Duration::from_millis(600);
    let mut stages = Vec::new();
    for mode in [strict as fn(_) -> Region, degrade] {
        stages.extend(Stage::all(store, |region| mode(region).hold_ttl(ttl)).await);
    }
    // at the same time: most of it is waiting
    let open = stages.iter().map(|stage| async move {
        stage.warm().await;
        let write = stage.writer.write().await;
        write.hold().await.unwrap();
        let began = Instant::now();
        while began.elapsed() < ttl * 3 + S::LINGERS {
            let users = stage.reader.request().get_outcomes::<UserById>([1]).await;
            assert_eq!(users[&1].value().unwrap().unwrap().version, 0, "not committed yet");
            assert_eq!(users[&1].tier(), Some(Tier::Source), "held, after {:?}", began.elapsed());
            stage.reader.cache.idle().await; // its fill, if there were one
            tokio::time::sleep(ttl / 12).await;
        }
        stage.db.update(1);
        assert_eq!(stage.reader.sees(1).await, 1, "from COMMIT on (I2)");
        assert!(write.published().await.unwrap().is_confirmed());
        assert_eq!(stage.reader.sees(1).await, 1);
    });
    join_all(open).await;
}

/// Two writers hold one key, and the first one to end must leave the hold of the other: whether it is the later one, which
/// took the place of the first, or the first, whose end takes away what stands there (R9).
pub(crate) async fn c6_each_of_two_writers_ends_its_own_hold<S: Store>(store: &S) {
    for later_ends_first in [true, false] {
        for stage in Stage::all(store, strict).await {
            assert_eq!(stage.reader.sees(1).await, 0);
            stage.reader.cache.idle().await;
            let first = Committing::begin(stage.writer.write().await, &stage.db).await;
            let later = Committing::begin(stage.second.write().await, &stage.db).await;
            let (one, other) = if later_ends_first { (later, first) } else { (first, later) };
            one.commits();
            one.answered(Ok(())).await;
            let ended = if later_ends_first { &stage.second } else { &stage.writer };
            ended.cache.idle().await; // its end
            assert_eq!(stage.reader.sees(1).await, 1);
            stage.reader.cache.idle().await; // its fill, if there were one
            other.commits();
            assert_eq!(stage.reader.sees(1).await, 2, "from COMMIT on (I2)");
            other.answered(Ok(())).await;
            assert_eq!(stage.reader.sees(1).await, 2);
            stage.all_see_what_is_committed().await;
        }
    }
}

/// Two writers hold one key, under which its value is kept. One commits, or nobody knows whether it has; the other one
/// rolls back, last. What was kept is from before the commit (R10).
pub(crate) async fn c7u_a_rollback_brings_nothing_back_after_the_commit_of_another_writer<S: Store>(
    store: &S,
) {
    for mode in [strict as fn(_) -> _, serve] {
        for known in [true, false] {
            for stage in Stage::all(store, mode).await {
                stage.warm().await;
                let rolled_back = Committing::begin(stage.writer.write().await, &stage.db).await;
                let committed = Committing::begin(stage.second.write().await, &stage.db).await;
                committed.commits();
                committed.answered(if known { Ok(()) } else { Err("connection reset") }).await;
                stage.second.cache.idle().await;
                rolled_back.answered(Err(ROLLED_BACK)).await;
                stage.writer.cache.idle().await;
                for process in [&stage.reader, &stage.writer, &stage.second, &stage.reader] {
                    assert_eq!(process.sees(1).await, 1, "known: {known}");
                    process.cache.idle().await;
                }
            }
        }
    }
}

/// Nothing is held. What is derived from a row is loaded between the two invalidations of a write: it must find the inner
/// one gone (R7).
pub(crate) async fn n1_an_inner_object_is_voided_before_what_is_derived_from_it<S: Store>(store: &S) {
    for stage in Stage::all(store, simple).await {
        assert_eq!(stage.reader.sees(1).await, 0);
        stage.reader.cache.idle().await;
        let steps = stage.writer.shared.after("invalidate");
        stage.db.update(1);
        let write = tokio::spawn(stage.writer.write_in_steps(true).await.published());
        steps.arrived(1).await;
        stage.reader.derives(101).await;
        stage.reader.cache.idle().await; // its fill
        steps.open_for_good();
        assert!(write.await.unwrap().unwrap().is_confirmed());
        stage.all_see_what_is_committed().await;
    }
}

/// Both are held before COMMIT. Then the order of the ends is of no account: what is derived is free first, is loaded,
/// and finds the inner one held (R7).
pub(crate) async fn n4_holds_over_inner_and_derived_objects_may_end_in_any_order<S: Store>(store: &S) {
    for inner_first in [false, true] {
        for stage in Stage::all(store, strict).await {
            stage.warm().await;
            let ends = stage.writer.shared.before("end");
            let write = Committing::begin(stage.writer.write_in_steps(inner_first).await, &stage.db).await;
            write.commits();
            assert_eq!((stage.reader.sees(1).await, stage.reader.derives(101).await), (1, 1), "held (I2)");
            let acknowledged = write.answered(Ok(()));
            ends.arrived(1).await;
            ends.open();
            ends.arrived(2).await; // one of the two is free
            for process in [&stage.reader, &stage.second] {
                assert_eq!((process.derives(101).await, process.sees(1).await), (1, 1));
                process.cache.idle().await;
            }
            ends.open_for_good();
            acknowledged.await;
            stage.all_see_what_is_committed().await;
        }
    }
}

/// A request has read a row and remembers it; the row is written; the request reads what is derived from it, of which the
/// hold has just been ended. It gets what it has always seen, and that is stored for nobody else (R6).
pub(crate) async fn n6_what_a_request_remembers_is_not_stored_in_what_is_derived_from_it<S: Store>(
    store: &S,
) {
    for stage in Stage::all(store, strict).await {
        let request = stage.reader.request();
        assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 0);
        stage.reader.cache.idle().await;
        let ends = stage.writer.shared.before("end");
        let write = Committing::begin(stage.writer.write_in_steps(false).await, &stage.db).await;
        write.commits();
        let acknowledged = write.answered(Ok(()));
        ends.arrived(1).await;
        ends.open();
        ends.arrived(2).await; // what is derived is free, and the row is held
        assert_eq!(*request.get::<Derived>(101).await.unwrap().unwrap(), 0, "repeatable");
        stage.reader.cache.idle().await; // its fill, if there were one
        assert_eq!(stage.second.derives(101).await, 1);
        ends.open_for_good();
        acknowledged.await;
        stage.all_see_what_is_committed().await;
    }
}
