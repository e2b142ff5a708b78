//! The rows.

mod growth;
mod heap;
mod hot;
mod near;
mod shared;

use crate::rounds::{Effort, Table};

/// A row's name, and how it is measured.
type Row = (&'static str, fn(Effort) -> Vec<Table>);

pub(crate) const ALL: &[Row] = &[
    ("P1", hot::measured),
    ("P2", near::measured),
    ("P3E", shared::measured),
    ("P8", growth::measured),
    ("P9", heap::measured),
];
