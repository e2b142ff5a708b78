//! Fields that a type reads and never writes: `#[serde(skip_serializing)] password_hash`.
//!
//! The request that loads such a value sees the field, and later ones see its default. To know of it takes the names
//! that a `Deserialize` asks for, and those that a value wrote. Two kinds of names are asked for and not written, and
//! are as they should be. One is a field that `skip_serializing_if` leaves out of this value: derived implementations
//! say so (`skip_field`). The other is an `alias`. To distinguish an alias from a field, the value is read once more with that
//! name at the end, and nothing under it: a field is then asked for its value, and an alias is a duplicate.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::Value;
use super::print::Comparison;
use super::quiet::try_out;

mod listen;
mod written;

use listen::{Heard, Listen};
pub(super) use written::Written;

/// The fields, `struct.field`, that `bytes` are read for and `value` did not write. `bytes` are `value` with names.
///
/// Only what is certain: a field may also be the alias of one that this value leaves out.
pub(super) fn fields<V: Value>(value: &V, bytes: &[u8], most: usize) -> Vec<String> {
    let written = Written::default();
    if Comparison::default().names(value, most, &written).is_err() {
        return Vec::new();
    }
    let written = written.0.into_inner();
    let ear = Heard::default();
    if read::<V>(bytes, &ear).is_none() {
        return Vec::new();
    }
    let mut unread = BTreeSet::new();
    for (of, fields) in ear.asked.into_inner() {
        let Some(names) = written.get(of) else { continue };
        let known = |field: &&str| names.written.contains(*field) || names.left_out.contains(*field);
        for field in fields.iter().filter(|field| !known(field)) {
            let Some(of_type) = asked_for::<V>(bytes, of, field) else { continue };
            let alias = |left_out: &&'static str| asked_for::<V>(bytes, of, left_out) == Some(of_type);
            if !names.left_out.iter().any(alias) {
                unread.insert(format!("{of}.{field}"));
            }
        }
    }
    unread.into_iter().collect()
}

/// Of which type a value is asked for under `field`, if it follows all others.
fn asked_for<V: Value>(bytes: &[u8], of: &'static str, field: &'static str) -> Option<&'static str> {
    let ear = Heard { add: Some((of, field)), ..Heard::default() };
    // it is not what `bytes` say, so it is made up
    let _ = try_out(|| read::<V>(bytes, &ear));
    ear.asked_for.get()
}

fn read<V: DeserializeOwned>(bytes: &[u8], ear: &Heard) -> Option<V> {
    let mut from = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
    V::deserialize(Listen { inner: &mut from, ear }).ok()
}
