//! The binary, run as a person runs it, against real servers.

mod binary;
mod diagnoses;
mod entries;
#[path = "../../../mastaba-redis/tests/deployments/imposter.rs"]
#[allow(dead_code, reason = "a test of the backend has more poses")]
mod imposter;
mod memcached;
mod others;
mod page;
mod program;
mod secrets;
mod services;
mod shape;
mod troubles;
mod voids;
