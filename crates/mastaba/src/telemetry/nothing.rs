//! Without the feature `metrics`.

use std::time::Duration;

use crate::error::{Error, Fault};
use crate::report::Outcomes;

macro_rules! nothing {
    ($($name:ident($($type:ty),*);)*) => {
        $(#[inline(always)] pub(crate) fn $name($(_: $type),*) {})*
    };
}

nothing! {
    settled(&str, &Outcomes, bool);
    request_ended(&Outcomes, &str);
    load(&'static str, &str, (usize, usize), Duration, Option<&Error>);
    held_back(&'static str, &str, Duration, &'static str);
    trip(&str, &'static str, usize, Duration, Option<&Fault>);
    passed_over(&str, &'static str);
    filled(&str, &[bool]);
    breaker_opened(&str);
    breaker_probing(&str);
    breaker_still_open(&str);
    breaker_closed(&str);
    near_voided(&'static str, &str, usize);
}

#[inline(always)]
pub(crate) fn describe<'r>(_: impl Iterator<Item = &'r str>) {}

#[inline(always)]
pub(crate) fn lease_wait(_: &'static str, _: &str, _: Duration, _: &'static str) {}
