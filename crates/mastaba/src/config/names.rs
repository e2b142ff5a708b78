//! The names of settings, and what somebody meant who wrote another one.

use super::problems::{closest, distance};
use super::{NEAR, POLICY, Set, value};

const BACKEND: &[(&str, Set)] =
    &[("backend", |region, text| set(&mut region.backend, value::text(text.trim())))];

/// Every setting of a region, but for the arguments, whose names are the backend's. What is valid, what is listed
/// to a user and what is read cannot differ, because it is this table.
pub(super) fn of_a_region() -> impl Iterator<Item = &'static (&'static str, Set)> {
    BACKEND.iter().chain(POLICY).chain(NEAR)
}

/// Their names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    of_a_region().map(|(name, _)| *name)
}

pub(super) const TOP: [&str; 2] = ["data_dir", "namespace"];

/// What a key of an application's map that is not ours was most likely meant to be: `cach.objects.ttl`. There the rest of
/// the key says that it is a setting; `data_dir` and `namespace` say it themselves, and have to be closer.
pub(super) fn near_miss(key: &str) -> Option<String> {
    if let Some(top) = TOP.iter().find(|top| (1..=2).contains(&distance(key, top))) {
        return Some((*top).to_owned());
    }
    let (first, rest) = key.split_once('.')?;
    let (region, setting) = rest.split_once('.')?;
    if first == "cache" || distance(&first.to_lowercase(), "cache") > 1 || !is_region_name(region) {
        return None;
    }
    let known: Vec<&str> = names().collect();
    let meant = match setting.strip_prefix("arguments.") {
        Some(_) => setting,
        None => closest(setting, &known)?,
    };
    Some(format!("cache.{region}.{meant}"))
}

pub(super) fn is_region_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

pub(super) fn set<T>(place: &mut Option<T>, read: Result<T, String>) -> Result<(), String> {
    *place = Some(read?);
    Ok(())
}
