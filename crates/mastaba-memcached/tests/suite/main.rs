//! One program, which is linked once.

mod commits;
mod common;
mod conformance;
mod counterexamples;
mod describe;
mod faults;
mod lists;
mod runtimes;
#[path = "../../../mastaba-test/tests/schedules/mod.rs"]
mod schedules;
mod stampede;
mod start;
mod store_faults;
