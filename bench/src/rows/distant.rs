//! P10: P3, P5 and P6 with their servers a network away, where trips cost what they cost in production.

use crate::rounds::{Effort, Table};

use super::{multi_get, page, two_pass};

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let rows = [multi_get::distant, two_pass::distant, page::distant];
    rows.into_iter().flat_map(|row| row(effort)).collect()
}
