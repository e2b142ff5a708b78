//! No reader waits in vain, whoever is dropped when.

use sim::batches::{Rule, Scene, play};
use sim::runs::{always, violation};

const CALM: Scene = Scene {
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
const KEPT: Scene = Scene { tasks: 3, kept: true, ..CALM };

/// Two readers, each in a task of its own, the first of which waits for long.
const HANGS: Scene = Scene { tasks: 2, hangs: true, ..CALM };

fn runs(scene: Scene) {
    play(scene);
}

#[test]
fn every_reader_gets_its_answers() {
    always(|| runs(CALM));
}

#[test]
fn what_is_awaited_together_travels_together() {
    always(|| assert!(play(Scene { tasks: 1, readers: 4, ..CALM }) <= 1, "one turn, one part"));
}

#[test]
fn a_reader_that_goes_takes_nothing_from_the_others() {
    always(|| runs(Scene { dropped: true, ..CALM }));
    always(|| runs(Scene { tasks: 4, readers: 1, dropped: true, ..CALM }));
}

#[test]
fn readers_claim_anew_what_a_carrier_gave_back() {
    always(|| runs(Scene { cut_off: true, ..CALM }));
    always(|| runs(Scene { cut_off: true, dropped: true, ..CALM }));
}

#[test]
fn a_part_that_is_answered_in_two_steps_leaves_nobody_waiting() {
    always(|| runs(Scene { slow: true, ..CALM }));
    always(|| runs(Scene { slow: true, cut_off: true, dropped: true, ..CALM }));
}

/// The tests above would see a rule broken.
fn finds(scene: Scene, broken: Rule, sentence: &str) {
    let found = violation(move || runs(Scene { broken: Some(broken), ..scene }));
    let found = found.unwrap_or_else(|| panic!("nothing was found without {broken:?}"));
    assert!(found.contains(sentence), "without {broken:?}: {found}");
}

#[test]
fn it_is_found_when_a_carrier_goes_without_a_word() {
    finds(Scene { cut_off: true, ..CALM }, Rule::CarriersGiveBack, "deadlock");
}

#[test]
fn a_reader_that_is_kept_holds_nobody_up() {
    always(|| runs(KEPT));
    always(|| runs(Scene { cut_off: true, ..KEPT }));
}

#[test]
fn it_is_found_when_a_reader_that_looks_out_goes_without_a_word() {
    finds(Scene { dropped: true, ..CALM }, Rule::LookoutIsHandedOver, "deadlock");
}

#[test]
fn it_is_found_when_nobody_minds_a_lookout_that_is_kept() {
    finds(KEPT, Rule::LookoutIsMinded, "deadlock");
}

#[test]
fn it_is_found_when_a_reader_that_goes_takes_the_keys_of_others() {
    finds(Scene { dropped: true, ..CALM }, Rule::KeysAreSharedByCount, "given back while somebody waits");
}

#[test]
fn it_is_found_when_a_reader_cannot_be_woken() {
    finds(CALM, Rule::ReadersLeaveAWaker, "deadlock");
}

#[test]
fn it_is_found_when_a_reader_that_sends_does_not_look_again() {
    finds(CALM, Rule::SendersLookAgain, "deadlock");
}

#[test]
fn it_is_found_when_a_reader_takes_some_answers_for_all() {
    finds(Scene { slow: true, ..CALM }, Rule::ReadersLookForAllTheirKeys, "key");
}

#[test]
fn who_stands_by_for_a_batch_that_hangs_goes_without_it() {
    always(|| runs(HANGS));
}

#[test]
fn it_is_found_when_a_carrier_that_is_dropped_still_counts_as_asking() {
    finds(Scene { cut_off: true, ..CALM }, Rule::CarriersEndTheStandBy, "deadlock");
}

#[test]
fn it_is_found_when_who_stands_by_waits_for_a_batch_that_hangs() {
    finds(HANGS, Rule::StandByIsBounded, "deadlock");
}
