//! The rows.

mod cluster;
mod distant;
mod fleet;
mod growth;
mod heap;
mod hot;
mod multi_get;
mod near;
mod page;
mod shared;
pub(crate) mod stampede;
mod stores;
mod two_pass;
mod writes;

use crate::rounds::{Effort, Table};

/// A row's name, and how it is measured.
type Row = (&'static str, fn(Effort) -> Vec<Table>);

pub(crate) const ALL: &[Row] = &[
    ("P1", hot::measured),
    ("P2", near::measured),
    ("P3", multi_get::measured),
    ("P3E", shared::measured),
    ("P5", two_pass::measured),
    ("P6", page::measured),
    ("P7", stampede::measured),
    ("P8", growth::measured),
    ("P9", heap::measured),
    ("P10", distant::measured),
    ("P11", writes::measured),
    ("P12", page::redis_cpu),
    ("P13", cluster::measured),
    ("P14", fleet::measured),
    ("P15", stores::measured),
];
