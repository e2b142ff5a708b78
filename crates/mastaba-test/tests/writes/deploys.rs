//! Two versions of a program side by side, whose types of one source differ: during a deploy, after it, and back.

use crate::versions;

use std::sync::Arc;
use std::time::Duration;

use mastaba::shared::Shared;
use mastaba::shared::memory::Memory;
use mastaba::{Coherence, Force, NearConfig, Region, Tier};
use mastaba_test::telling::Telling;
use mastaba_test::world::Watched;
use tokio::time::advance;
use versions::{Named, Program, Raised, Retagged, Shelf, V1, V2, Version};

const SECOND: Duration = Duration::from_secs(1);
/// How long a record of another shape is left to those who wrote it, at most.
const LEFT_ALONE: Duration = Duration::from_secs(65);

/// A program without near over a store that others write to.
async fn plain<S: Version>(memory: &Memory, shelf: &Arc<Shelf>) -> Program<S> {
    let watched = Watched::<_, true>::new(memory.clone(), Arc::default());
    Program::start(Region::backend(watched), shelf).await
}

/// One with near over a store that tells of changes.
async fn near<S: Version>(store: Telling<Memory>, shelf: &Arc<Shelf>) -> Program<S> {
    let near = NearConfig::entries(100).coherence(Coherence::Fenced);
    Program::start(Region::backend(store).near(near), shelf).await
}

/// Reads a key every second; gives when the shared tier answered for the first time, and goes on to answer.
async fn served_after<S: Version>(program: &Program<S>, shelf: &Shelf, key: u64) -> Duration {
    for second in 0..300 {
        let (size, tier) = program.finds(key).await;
        assert_eq!(size, shelf.size());
        if tier == Tier::Shared {
            for _ in 0..100 {
                advance(SECOND).await;
                assert_eq!(program.finds(key).await, (size, Tier::Shared), "and stays so");
            }
            return SECOND * second;
        }
        advance(SECOND).await;
    }
    panic!("the shared tier never answered");
}

#[tokio::test(start_paused = true)]
async fn two_versions_take_a_key_over_from_each_other_once_a_minute_and_each_is_right_at_every_read() {
    let (memory, shelf) = (Memory::default(), Shelf::new());
    let (one, two) = (plain::<V1>(&memory, &shelf).await, plain::<V2>(&memory, &shelf).await);
    let (mut changes, mut last, mut served) = (0, None, [0, 0]);
    for second in 0..600 {
        if second % 100 == 50 {
            shelf.set(second);
            match second % 200 {
                50 => one.invalidate(1).await,
                _ => two.invalidate(1).await,
            }
        }
        let (a, b) = (one.finds(1).await, two.finds(1).await);
        assert_eq!((a.0, b.0), (shelf.size(), shelf.size()), "second {second}");
        served[0] += u32::from(a.1 == Tier::Shared);
        served[1] += u32::from(b.1 == Tier::Shared);
        let standing = one.record(&memory, 1).await;
        changes += u32::from(last.as_ref().is_some_and(|last| *last != standing));
        last = Some(standing);
        advance(SECOND).await;
    }
    // six writes, each of which is a fill, and at most one change of hands a minute
    assert!((6..=16).contains(&changes), "the record changed {changes} times in ten minutes");
    assert!(served.iter().all(|served| *served > 100), "the shared tier serves both in turn: {served:?}");
    for events in [one.events(), two.events()] {
        assert_eq!(events.len(), 1, "once, and not at every read: {events:?}");
        assert!(
            events[0].starts_with("source thing: the shared tier holds entries in another shape"),
            "{events:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn within_a_minute_after_the_old_version_has_gone_the_new_one_is_served_and_so_it_is_on_the_way_back() {
    let (memory, shelf) = (Memory::default(), Shelf::new());
    plain::<V1>(&memory, &shelf).await.warm(1).await;
    let two = plain::<V2>(&memory, &shelf).await;
    let after = served_after(&two, &shelf, 1).await;
    assert!((LEFT_ALONE..=LEFT_ALONE + 2 * SECOND).contains(&after), "{after:?}");
    two.refresh(1).await; // so that it was written just now
    let back = plain::<V1>(&memory, &shelf).await;
    let after = served_after(&back, &shelf, 1).await;
    assert!((LEFT_ALONE..=LEFT_ALONE + 2 * SECOND).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn an_old_record_is_replaced_by_one_load_though_many_read_it_and_no_lease_takes_it_from_the_others() {
    let (memory, shelf) = (Memory::default(), Shelf::new());
    let one = plain::<V1>(&memory, &shelf).await;
    one.warm(1).await;
    advance(LEFT_ALONE).await;
    let two = plain::<V2>(&memory, &shelf).await;
    let gate = shelf.hold_up();
    let loads = shelf.loads();
    let readers: Vec<_> = (0..20).map(|_| tokio::spawn(two.get(1))).collect();
    shelf.reached(loads + 1).await;
    // the old version goes on to be served meanwhile
    assert_eq!(one.finds(1).await, (0, Tier::Shared));
    gate.add_permits(100);
    for reader in readers {
        assert_eq!(reader.await.unwrap(), 0);
    }
    two.cache.idle().await;
    assert_eq!(shelf.loads(), loads + 1);
    assert_eq!(two.finds(1).await, (0, Tier::Shared));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_of_no_use_to_the_others_either_is_replaced_at_once() {
    for how in ["cleared", "expired", "tagged"] {
        let (memory, shelf) = (Memory::default(), Shelf::new());
        let one = plain::<V1>(&memory, &shelf).await;
        one.absent.store(how == "expired", std::sync::atomic::Ordering::SeqCst);
        one.cache.request().get_outcomes::<V1>([1]).await;
        one.cache.idle().await;
        match how {
            "cleared" => one.clear().await,
            "tagged" => one.void_tag().await,
            _ => advance(31 * SECOND).await,
        }
        let two = plain::<V2>(&memory, &shelf).await;
        assert_eq!(two.finds(1).await, (0, Tier::Source), "{how}");
        assert_eq!(two.finds(1).await, (0, Tier::Shared), "{how}");
        assert!(two.events().is_empty(), "{how}: {:?}", two.events());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refreshed_by_name_is_replaced_at_once_and_a_look_harms_nothing() {
    let (memory, shelf) = (Memory::default(), Shelf::new());
    let one = plain::<V1>(&memory, &shelf).await;
    one.warm(1).await;
    let two = plain::<V2>(&memory, &shelf).await;
    assert!(two.cache.request().peek::<V2>(1).await.unwrap().is_none());
    assert_eq!(one.finds(1).await, (0, Tier::Shared));
    two.refresh(1).await;
    assert_eq!(two.finds(1).await, (0, Tier::Shared));
}

#[tokio::test(start_paused = true)]
async fn in_a_store_that_one_process_has_to_itself_nothing_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::new();
    let one = Program::<V1>::start(Region::embedded(folder.path()), &shelf).await;
    one.warm(1).await;
    one.cache.close().await.unwrap();
    let two = Program::<V2>::start(Region::embedded(folder.path()), &shelf).await;
    assert_eq!(two.finds(1).await, (0, Tier::Source));
    assert_eq!(two.finds(1).await, (0, Tier::Shared), "whoever wrote it is gone");
    two.cache.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn near_serves_what_the_shared_tier_holds_in_another_shape_until_anybody_voids_it() {
    let (memory, shelf) = (Memory::default(), Shelf::new());
    let store = Telling::new(memory.clone());
    let one = near::<V1>(store.clone(), &shelf).await;
    let two = near::<V2>(store.process(), &shelf).await;
    one.warm(1).await;
    let mut expected = 0;
    for round in 0..12 {
        // each version warm: one of them in near alone
        let loads = shelf.loads();
        for _ in 0..2 {
            assert_eq!((one.finds(1).await.0, two.finds(1).await.0), (expected, expected), "round {round}");
        }
        let cost = shelf.loads() - loads;
        assert!(cost <= 2, "round {round}: {cost} loads, and then near");
        for _ in 0..5 {
            assert_eq!(
                (one.finds(1).await, two.finds(1).await),
                ((expected, Tier::Near), (expected, Tier::Near))
            );
            advance(SECOND).await;
        }
        assert_eq!(shelf.loads(), loads + cost, "round {round}");
        expected += 1;
        shelf.set(expected);
        match round % 6 {
            0 => one.invalidate(1).await,
            1 => two.invalidate(1).await,
            2 => one.clear().await,
            3 => two.clear().await,
            4 => one.void_tag().await,
            _ => untold(&memory, &store).await,
        }
    }
}

/// Somebody voids the key, and the news of it is lost with the connection.
async fn untold(memory: &Memory, store: &Telling<Memory>) {
    memory.invalidate(&["mastaba:objects:thing:1".into()], &[]).await.unwrap();
    store.gap();
}

#[tokio::test(start_paused = true)]
async fn near_does_not_take_in_what_was_voided_while_it_was_loaded() {
    for how in ["by the other", "by itself", "cleared by the other", "tagged by the other", "untold"] {
        let (memory, shelf) = (Memory::default(), Shelf::new());
        let store = Telling::new(memory.clone());
        let one = near::<V1>(store.clone(), &shelf).await;
        let two = near::<V2>(store.process(), &shelf).await;
        one.warm(1).await;
        let gate = shelf.hold_up();
        let loads = shelf.loads();
        let late = tokio::spawn(two.get(1));
        shelf.reached(loads + 1).await;
        shelf.set(7);
        match how {
            "by the other" => one.invalidate(1).await,
            "by itself" => two.invalidate(1).await,
            "cleared by the other" => one.clear().await,
            "tagged by the other" => one.void_tag().await,
            _ => untold(&memory, &store).await,
        }
        gate.add_permits(100);
        assert_eq!(late.await.unwrap(), 0, "it began before");
        two.cache.idle().await;
        assert_eq!(two.finds(1).await.0, 7, "voided {how}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_load_of_the_other_version_takes_its_own_into_near() {
    let (store, shelf) = (Telling::new(Memory::default()), Shelf::new());
    let one = near::<V1>(store.clone(), &shelf).await;
    let two = near::<V2>(store.process(), &shelf).await;
    let gate = shelf.hold_up();
    let first = tokio::spawn(one.get(1));
    shelf.reached(1).await;
    let second = tokio::spawn(two.get(1)); // has met the lease of the first
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shelf.loads(), 1);
    gate.add_permits(100);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (0, 0));
    two.cache.idle().await;
    assert_eq!(shelf.loads(), 2);
    assert_eq!(two.finds(1).await, (0, Tier::Near));
}

/// From one version to another one, and back.
async fn there_and_back<Old: Version, New: Version>() {
    let (memory, shelf) = (Memory::default(), Shelf::new());
    plain::<Old>(&memory, &shelf).await.warm(1).await;
    let new = plain::<New>(&memory, &shelf).await;
    assert_eq!(new.finds(1).await, (0, Tier::Source));
    let after = served_after(&new, &shelf, 1).await;
    assert!((LEFT_ALONE..=LEFT_ALONE + 2 * SECOND).contains(&after), "{after:?}");
    new.refresh(1).await;
    let back = plain::<Old>(&memory, &shelf).await;
    assert_eq!(back.finds(1).await, (0, Tier::Source));
    let after = served_after(&back, &shelf, 1).await;
    assert!((LEFT_ALONE..=LEFT_ALONE + 2 * SECOND).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_type_that_is_written_with_names_becomes_one_that_is_not_and_back() {
    there_and_back::<V1, Named>().await;
    there_and_back::<Named, V2>().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_raised_and_lowered_again_is_a_deploy_like_any_other() {
    there_and_back::<V1, Raised>().await;
}

/// R12: in an entry the fixed tags are one number, of which a version with others cannot say whether it is outdated.
#[tokio::test(start_paused = true)]
async fn a_source_that_gets_a_tag_and_loses_it_again_is_a_deploy_like_any_other() {
    there_and_back::<V1, Retagged>().await;
}

#[tokio::test(start_paused = true)]
async fn two_versions_with_other_fixed_tags_take_a_key_over_once_a_minute_and_each_is_right_at_every_read() {
    let (memory, shelf) = (Memory::default(), Shelf::new());
    let (one, two) = (plain::<V1>(&memory, &shelf).await, plain::<Retagged>(&memory, &shelf).await);
    let (mut changes, mut last) = (0, None);
    for second in 0..600 {
        if second % 100 == 50 {
            // of the tag that only one of them has the other one does not hear
            if second != 250 {
                shelf.set(second);
            }
            match second {
                50 => one.void_tag().await,
                150 => two.void_tag().await,
                250 => two.cache.region("objects").invalidate_tag("colours").await.map(drop).unwrap(),
                350 => one.clear().await,
                450 => two.clear().await,
                _ => two.invalidate(1).await,
            }
        }
        let (a, b) = (one.finds(1).await.0, two.finds(1).await.0);
        assert_eq!((a, b), (shelf.size(), shelf.size()), "second {second}");
        let standing = one.record(&memory, 1).await;
        changes += u32::from(last.as_ref().is_some_and(|last| *last != standing));
        last = Some(standing);
        advance(SECOND).await;
    }
    assert!((6..=16).contains(&changes), "the record changed {changes} times in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_report_counts_the_keys_that_stood_there_in_another_shape() {
    let (memory, shelf) = (Memory::default(), Shelf::new());
    let one = plain::<V1>(&memory, &shelf).await;
    for key in 1..=3 {
        one.warm(key).await;
    }
    let two = plain::<V2>(&memory, &shelf).await;
    let request = two.cache.request();
    request.get_many::<V2>(1..=5).await.unwrap();
    let report = request.report();
    assert_eq!(report.outcomes[0].other_shape, 3);
    assert!(
        report.to_string().contains("3 keys of thing stood in the shared tier in another shape"),
        "{report}"
    );
    // a read that goes past the shared tier does not meet them
    let request = two.cache.request();
    request.with(Force::PastShared).get::<V2>(1).await.unwrap();
    assert_eq!(request.report().outcomes[0].other_shape, 0);
}
