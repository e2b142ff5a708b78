//! One program, which is linked once.

mod cluster_order;
mod commits;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod cost;
mod counterexamples;
mod deploys;
mod faults;
mod fill_batches;
mod fill_limits;
mod incarnation;
mod keys;
mod killed_writers;
mod memory_faults;
mod moving_slots;
mod near;
mod near_faults;
mod near_leases;
mod nodelay;
mod races;
mod record_faults;
#[path = "../rows/mod.rs"]
mod rows;
mod runtimes;
#[path = "../../../mastaba-test/tests/schedules/mod.rs"]
mod schedules;
mod stampede;
mod store_faults;
mod told;
mod topology_faults;
mod transactions;
mod unleased;
mod values_zoo;
#[path = "../../../mastaba-test/tests/versions/mod.rs"]
mod versions;
mod write_outages;
#[path = "../../../mastaba-test/tests/zoo/mod.rs"]
mod zoo;
