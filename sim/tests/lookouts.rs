//! A sleeper and whoever would wake it do not miss each other.

use sim::lookouts::hand_over;
use sim::runs::{always, violation};

fn finds(model: fn(), sentence: &str) {
    let found = violation(model).expect("something is found");
    assert!(found.contains(sentence), "{found}");
}

#[test]
fn a_lookout_that_goes_leaves_nobody_asleep() {
    always(|| hand_over(false));
}

#[test]
fn it_is_found_when_a_sleeper_does_not_look_again() {
    finds(|| hand_over(true), "nobody to wake it");
}
