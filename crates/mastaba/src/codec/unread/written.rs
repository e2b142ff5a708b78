//! The names that a value writes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The names of fields that structs wrote, by the name of the struct or the enum.
#[derive(Debug, Default)]
pub(in super::super) struct Written(pub(super) RefCell<BTreeMap<&'static str, Names>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) written: BTreeSet<&'static str>,
    pub(super) left_out: BTreeSet<&'static str>,
}

impl Written {
    /// A struct, which may turn out to have no fields.
    pub(in super::super) fn begin(&self, of: &'static str) {
        self.0.borrow_mut().entry(of).or_default();
    }

    /// A field was written, or left out.
    pub(in super::super) fn field(&self, of: &'static str, name: &'static str, written: bool) {
        let mut all = self.0.borrow_mut();
        let names = all.entry(of).or_default();
        if written { &mut names.written } else { &mut names.left_out }.insert(name);
    }
}
