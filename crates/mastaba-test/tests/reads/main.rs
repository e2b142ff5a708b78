//! What readers meet: one program, which is linked once.

mod batches;
mod budgets;
mod cache;
mod circles;
mod closures;
mod crossing;
mod expand;
mod flights;
mod foreign;
mod gathering;
mod hooks;
mod keys;
mod kit;
mod lifetimes;
mod loaders;
mod long_requests;
mod once;
mod private;
mod races;
mod reading;
mod records;
mod replicas;
mod runtimes;
mod single_failures;
mod slow_sources;
mod tasks;
mod unleased;
mod values;
mod values_zoo;
#[path = "../zoo/mod.rs"]
mod zoo;
