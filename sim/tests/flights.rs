//! Rule `R5` and invariant `I1`, with and without a shared tier.

use sim::flights::{FlightRule, FlightScene, play};
use sim::runs::{always, violation};

/// One process without a shared tier: whoever finds a flight in the table may join it.
const PRIVATE: FlightScene = FlightScene {
    shared: false,
    processes: 1,
    readers: 3,
    refreshes: 0,
    writers: 2,
    faults: false,
    broken: None,
};

/// One process with a shared tier: late readers wait for the fill.
const SHARED: FlightScene = FlightScene { shared: true, ..PRIVATE };

/// Two processes: an invalidation voids the flights of its own process only.
const SEVERAL: FlightScene = FlightScene { processes: 2, ..SHARED };

#[test]
fn a_read_after_an_acknowledged_write_sees_it_without_a_shared_tier() {
    always(|| play(PRIVATE));
}

#[test]
fn a_read_after_an_acknowledged_write_sees_it_with_a_shared_tier() {
    always(|| play(SHARED));
}

#[test]
fn a_read_after_a_write_that_another_process_acknowledged_sees_it() {
    always(|| play(SEVERAL));
}

#[test]
fn nobody_waits_in_vain_for_a_reader_that_was_dropped() {
    always(|| play(FlightScene { faults: true, ..PRIVATE }));
    always(|| play(FlightScene { faults: true, ..SHARED }));
    always(|| play(FlightScene { faults: true, ..SEVERAL }));
}

#[test]
fn a_refresh_ends_beside_other_readers() {
    always(|| play(FlightScene { refreshes: 2, readers: 2, ..PRIVATE }));
    always(|| play(FlightScene { refreshes: 2, readers: 2, ..SHARED }));
    always(|| play(FlightScene { refreshes: 2, readers: 2, faults: true, ..SEVERAL }));
}

#[test]
fn more_writes_than_two_loads_can_follow() {
    always(|| play(FlightScene { readers: 5, writers: 4, ..PRIVATE }));
    always(|| play(FlightScene { readers: 5, writers: 4, ..SHARED }));
}

/// The tests above would see a rule broken.
fn finds(scene: FlightScene, broken: FlightRule, sentence: &str) {
    let scene = FlightScene { readers: 2, writers: 1, ..scene };
    let found = violation(move || play(FlightScene { broken: Some(broken), ..scene }));
    let found = found.unwrap_or_else(|| panic!("nothing was found without {broken:?}"));
    assert!(found.contains(sentence), "without {broken:?}: {found}");
}

#[test]
fn it_is_found_when_late_readers_take_what_they_find() {
    finds(SEVERAL, FlightRule::LateJoinersWaitForTheFill, "I1");
}

#[test]
fn it_is_found_when_invalidations_leave_flights_in_the_table() {
    finds(PRIVATE, FlightRule::InvalidationsVoidFlights, "I1");
}

#[test]
fn it_is_found_when_a_flight_is_boarded_whose_fill_was_sent() {
    finds(SEVERAL, FlightRule::FlightsCloseBeforeTheFill, "I1");
}

#[test]
fn it_is_found_when_a_flight_is_said_to_be_sent_after_its_load() {
    finds(SEVERAL, FlightRule::SentComesBeforeTheLoad, "I1");
}

#[test]
fn it_is_found_when_a_fill_does_not_compare() {
    finds(SHARED, FlightRule::FillsCompareFences, "I");
}

#[test]
fn it_is_found_when_the_lease_is_taken_after_the_load() {
    finds(SHARED, FlightRule::LeasesComeBeforeTheLoad, "I");
}
