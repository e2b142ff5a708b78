//! No reader waits in vain, whoever is dropped when.

use sim::batches::{BatchRule, BatchScene, play};
use sim::runs::{always, violation};

const CALM: BatchScene = BatchScene {
    tasks: 3,
    readers: 2,
    dropped: false,
    cut_off: false,
    slow: false,
    hangs: false,
    kept: false,
    broken: None,
};

/// Readers that are polled a few times and then kept.
const KEPT: BatchScene = BatchScene { tasks: 3, kept: true, ..CALM };

/// Two readers, each in a task of its own, the first of which waits for long.
const HANGS: BatchScene = BatchScene { tasks: 2, hangs: true, ..CALM };

fn runs(scene: BatchScene) {
    play(scene);
}

#[test]
fn every_reader_gets_its_answers() {
    always(|| runs(CALM));
}

#[test]
fn what_is_awaited_together_travels_together() {
    always(|| assert!(play(BatchScene { tasks: 1, readers: 4, ..CALM }) <= 1, "one turn, one part"));
}

#[test]
fn a_reader_that_goes_takes_nothing_from_the_others() {
    always(|| runs(BatchScene { dropped: true, ..CALM }));
    always(|| runs(BatchScene { tasks: 4, readers: 1, dropped: true, ..CALM }));
}

#[test]
fn readers_claim_anew_what_a_carrier_gave_back() {
    always(|| runs(BatchScene { cut_off: true, ..CALM }));
    always(|| runs(BatchScene { cut_off: true, dropped: true, ..CALM }));
}

#[test]
fn a_part_that_is_answered_in_two_steps_leaves_nobody_waiting() {
    always(|| runs(BatchScene { slow: true, ..CALM }));
    always(|| runs(BatchScene { slow: true, cut_off: true, dropped: true, ..CALM }));
}

/// The tests above would see a rule broken.
fn finds(scene: BatchScene, broken: BatchRule, sentence: &str) {
    let found = violation(move || runs(BatchScene { broken: Some(broken), ..scene }));
    let found = found.unwrap_or_else(|| panic!("nothing was found without {broken:?}"));
    assert!(found.contains(sentence), "without {broken:?}: {found}");
}

#[test]
fn it_is_found_when_a_carrier_goes_without_a_word() {
    finds(BatchScene { cut_off: true, ..CALM }, BatchRule::CarriersGiveBack, "deadlock");
}

#[test]
fn a_reader_that_is_kept_holds_nobody_up() {
    always(|| runs(KEPT));
    always(|| runs(BatchScene { cut_off: true, ..KEPT }));
}

#[test]
fn it_is_found_when_a_reader_that_looks_out_goes_without_a_word() {
    finds(BatchScene { dropped: true, ..CALM }, BatchRule::LookoutIsHandedOver, "deadlock");
}

#[test]
fn it_is_found_when_nobody_minds_a_lookout_that_is_kept() {
    finds(KEPT, BatchRule::LookoutIsMinded, "deadlock");
}

#[test]
fn it_is_found_when_a_reader_that_goes_takes_the_keys_of_others() {
    finds(
        BatchScene { dropped: true, ..CALM },
        BatchRule::KeysAreSharedByCount,
        "given back while somebody waits",
    );
}

#[test]
fn it_is_found_when_a_reader_cannot_be_woken() {
    finds(CALM, BatchRule::ReadersLeaveAWaker, "deadlock");
}

#[test]
fn it_is_found_when_a_reader_that_sends_does_not_look_again() {
    finds(CALM, BatchRule::SendersLookAgain, "deadlock");
}

#[test]
fn it_is_found_when_a_reader_takes_some_answers_for_all() {
    finds(BatchScene { slow: true, ..CALM }, BatchRule::ReadersLookForAllTheirKeys, "key");
}

#[test]
fn who_stands_by_for_a_batch_that_hangs_goes_without_it() {
    always(|| runs(HANGS));
}

#[test]
fn it_is_found_when_a_carrier_that_is_dropped_still_counts_as_asking() {
    finds(BatchScene { cut_off: true, ..CALM }, BatchRule::CarriersEndTheStandBy, "deadlock");
}

#[test]
fn it_is_found_when_who_stands_by_waits_for_a_batch_that_hangs() {
    finds(HANGS, BatchRule::StandByIsBounded, "deadlock");
}
