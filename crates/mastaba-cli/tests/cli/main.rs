//! The binary, run as a person runs it, against real servers.

mod binary;
mod diagnoses;
mod entries;
mod others;
mod page;
mod program;
mod shape;
mod troubles;
mod voids;
