//! How long entries live, how long anyone waits, how large batches get.

use std::time::Duration;

use crate::limits::{
    Check, Count, CountOrUnlimited, Factor, Share, SizeOrNever, Span, Switch, UpTo, bounded,
};
use crate::settings::{of_regions, of_sources};

/// One setter by the name of its field, which stands at a place within `self`: `[policy sources]`. What may be left out is
/// taken with and without `Some`.
macro_rules! setter {
    ($(#[$doc:meta])* [$($place:ident)*] $name:ident: Option<$of:ty>) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: impl Into<Option<$of>>) -> Self {
            self.$($place.)*$name = $name.into();
            self
        }
    };
    ($(#[$doc:meta])* [$($place:ident)*] $name:ident: $type:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$($place.)*$name = $name;
            self
        }
    };
}
pub(crate) use setter;

/// The setters of a policy, or of what has one at a place within it.
macro_rules! setters {
    (
        $place:tt $policy:ident;
        $($(#[doc = $doc:literal])*
        $name:ident: $type:ident $(<$of:ty>)? = $default:expr, $written:literal, $check:expr;)*
    ) => {
        $($crate::policy::setter! {
            #[doc = concat!(
                "Sets [`", stringify!($policy), "::", stringify!($name), "`]",
                "(field@crate::", stringify!($policy), "::", stringify!($name), ").",
            )]
            $place $name: $type $(<$of>)?
        })*
    };
}
pub(crate) use setters;

/// A policy of these rows: its fields, its defaults, its checks. Its parts are policies themselves.
macro_rules! declare {
    (
        $(#[$about:meta])*
        pub struct $policy:ident { $($(#[$about_part:meta])* pub $part:ident: $type_of_part:ty,)* }
        $($(#[doc = $doc:literal])*
        $name:ident: $type:ident $(<$of:ty>)? = $default:expr, $written:literal, $check:expr;)*
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct $policy {
            $($(#[$about_part])* pub $part: $type_of_part,)*
            $(
                $(#[doc = $doc])*
                #[doc = concat!("\n\nDefault: `", $written, "`.")]
                pub $name: $type $(<$of>)?,
            )*
        }

        impl Default for $policy {
            fn default() -> Self {
                Self { $($part: Default::default(),)* $($name: $default,)* }
            }
        }

        impl $policy {
            /// The same policy with an end to what is for ever, so that it can be counted with.
            pub(crate) fn bounded(mut self) -> Self {
                $(self.$part = self.$part.bounded();)*
                $(self.$name = Check::bounded(&$check, self.$name);)*
                self
            }

            /// What is wrong with it, if anything: one sentence each.
            pub(crate) fn problems(&self) -> Vec<String> {
                let mut problems = Vec::new();
                $(problems.extend(self.$part.problems());)*
                $(problems.extend($check.problem(stringify!($name), &self.$name));)*
                problems
            }
        }
    };
}

of_sources! { declare
    /// What a source may have of its own ([`Source::policy`](crate::Source::policy)), and in part a single entry
    /// ([`EntryPolicy`]).
    ///
    /// A region says it for its sources ([`RegionPolicy::sources`]). What they share, they cannot change: it stands in
    /// [`RegionPolicy`] alone, and so do its setters.
    ///
    /// ```
    /// use std::time::Duration;
    /// use mastaba::Policy;
    ///
    /// let policy = Policy::default().ttl(Duration::from_secs(3600)).stale(Duration::from_secs(60));
    /// assert_eq!(policy.ttl, Duration::from_secs(3600));
    /// ```
    ///
    /// ```compile_fail,E0599
    /// mastaba::Policy::default().breaker_failures(3); // of the region
    /// ```
    ///
    /// A duration is at most 100 years, or [`FOREVER`](crate::FOREVER); `lease_ttl` is a millisecond to a day. What cannot
    /// be used is refused when the cache is built, by the name of the setting.
    pub struct Policy {}
}

of_regions! { declare
    /// The policy of a region: what its sources share, and what they have each where they say nothing else.
    ///
    /// ```
    /// use std::time::Duration;
    /// use mastaba::{Region, RegionPolicy, WriteMode};
    ///
    /// let policy = RegionPolicy::default().write_mode(WriteMode::Strict).ttl(Duration::from_secs(3600));
    /// assert_eq!(policy.sources.ttl, Duration::from_secs(3600));
    /// assert_eq!(Region::memory().policy(policy).policy.write_mode, WriteMode::Strict);
    /// ```
    ///
    /// A duration is at most 100 years, or [`FOREVER`](crate::FOREVER); `hold_ttl` and `breaker_pause` are a millisecond to
    /// a day. What cannot be used is refused when the cache is built, by the name of the setting.
    pub struct RegionPolicy {
        /// What its sources have where they say nothing else ([`Source::policy`](crate::Source::policy)).
        pub sources: Policy,
    }
}

impl Policy {
    of_sources! { setters [] Policy; }
}

impl RegionPolicy {
    setter! {
        /// Sets [`RegionPolicy::sources`](field@RegionPolicy::sources), and with it all that this can set for a source.
        [] sources: Policy
    }
    of_sources! { setters [sources] Policy; }
    of_regions! { setters [] RegionPolicy; }
}

/// What a write does before its commit, in one region. A table of what each mode guarantees stands in the guide to
/// writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WriteMode {
    /// Nothing: what it names is voided after the commit. A process that dies in between leaves old values until their
    /// time to live is over.
    #[default]
    Simple,
    /// Holds its keys from before the commit until they are void: from the commit on nobody reads what was there before,
    /// whatever becomes of the writer. Where they cannot be held the write is refused.
    Strict,
    /// As `Strict`, but while a key is held, readers go on being served what was there before.
    Serve,
    /// As `Strict`, but where they cannot be held the write goes on without: it commits also while the shared tier is out.
    /// What it voids is sent when the tier is back. That a process may die before is what an outbox in the database is
    /// for, which `mastaba-sqlx` has; without one, old values may then stand up to their time to live.
    Degrade,
}

/// Which modes there are, by name.
pub(crate) struct Mode;

impl WriteMode {
    pub(crate) const ALL: [Self; 4] = [Self::Simple, Self::Strict, Self::Serve, Self::Degrade];

    /// As a configuration writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Strict => "strict",
            Self::Serve => "serve",
            Self::Degrade => "degrade",
        }
    }
}

impl Check<WriteMode> for Mode {
    fn what(&self) -> String {
        let [first @ .., last] = WriteMode::ALL.map(|mode| format!("`{}`", mode.name()));
        format!("{} or {last}", first.join(", "))
    }

    fn check(&self, _: &WriteMode) -> Result<(), String> {
        Ok(())
    }

    fn show(&self, value: &WriteMode) -> String {
        value.name().to_owned()
    }
}

impl Policy {
    /// Nothing happens at random: what is loaded when is no matter of chance.
    pub(crate) fn calm(self) -> Self {
        self.early_refresh(0.0).jitter(0.0)
    }

    /// How long anything is kept that says nothing else for itself.
    pub(crate) fn longest(&self) -> Duration {
        self.ttl.max(self.absent_ttl).saturating_add(self.stale.max(self.stale_if_error))
    }

    /// How long an entry is fresh at most: as its loader said, or else as this says.
    fn fresh_for(&self, absent: bool, entry: EntryPolicy) -> Duration {
        bounded(entry.ttl.unwrap_or(if absent { self.absent_ttl } else { self.ttl }))
    }

    /// Whether an entry is kept outside of its request: one that is fresh for no time is not, and not as a stale one
    /// either.
    pub(crate) fn keeps(&self, absent: bool, entry: EntryPolicy) -> bool {
        entry.store && !self.fresh_for(absent, entry).is_zero()
    }

    /// The ages at which a new entry turns stale and at which it is gone.
    pub(crate) fn ages(&self, absent: bool, entry: EntryPolicy) -> Ages {
        let base = self.fresh_for(absent, entry);
        let soft = base.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * fastrand::f64());
        let soft = soft.max(Duration::from_millis(1));
        let more = if absent { Duration::ZERO } else { self.stale.max(self.stale_if_error) };
        Ages { soft, hard: soft.saturating_add(more) }
    }
}

/// The part of a policy that a loader may give to one entry.
///
/// ```
/// use std::time::Duration;
/// use mastaba::EntryPolicy;
///
/// let entry = EntryPolicy::ttl(Duration::from_secs(5));
/// assert_eq!(entry.ttl, Some(Duration::from_secs(5)));
/// assert!(!EntryPolicy::unstored().store);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryPolicy {
    /// How long it is fresh, instead of the policy's `ttl` or `absent_ttl`. Zero: it is for this request alone, and never
    /// served as stale. More than 100 years is for ever.
    pub ttl: Option<Duration>,
    /// Whether it may be stored outside of the request at all.
    pub store: bool,
}

impl Default for EntryPolicy {
    fn default() -> Self {
        Self { ttl: None, store: true }
    }
}

impl EntryPolicy {
    /// Fresh for this long; zero is [`unstored`](EntryPolicy::unstored).
    #[must_use]
    pub fn ttl(ttl: Duration) -> Self {
        Self { ttl: Some(ttl), store: true }
    }

    /// For this request alone.
    #[must_use]
    pub fn unstored() -> Self {
        Self { ttl: None, store: false }
    }
}

/// See [`Policy::ages`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    pub(crate) soft: Duration,
    pub(crate) hard: Duration,
}

/// Whether a fresh value should be refreshed before its time (XFetch).
///
/// A value is refreshed with a probability that grows towards its soft deadline, the sooner the dearer its
/// load was: when `cost * beta * -ln(random)` reaches past the time that is left.
pub(crate) fn refresh_early(beta: f64, cost_us: u32, left_ms: u64) -> bool {
    // no number of milliseconds that matters here is too large to be exact
    let (reach, left_us) = (f64::from(cost_us) * beta, left_ms as f64 * 1000.0);
    // -ln(random) passes 20 twice in a thousand million draws: most hits need no random number
    reach * 20.0 > left_us && reach * -(1.0 - fastrand::f64()).ln() >= left_us
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{FOREVER, LONGEST};

    #[test]
    fn jitter_shortens_and_never_lengthens() {
        let policy = Policy::default().ttl(Duration::from_secs(100)).jitter(0.2);
        let ages: Vec<_> = (0..200).map(|_| policy.ages(false, EntryPolicy::default()).soft).collect();
        assert!(ages.iter().all(|soft| (80.0..=100.0).contains(&soft.as_secs_f64())), "{ages:?}");
        assert!(ages.iter().any(|soft| soft != &ages[0]), "jitter draws anew each time");
    }

    #[test]
    fn a_dear_value_close_to_its_deadline_is_refreshed_early_and_a_cheap_one_is_not() {
        let draws = |cost: u32, left| (0..1000).filter(|_| refresh_early(1.0, cost * 1000, left)).count();
        assert_eq!(draws(1, 60_000), 0, "a millisecond of load, a minute left");
        assert!(draws(1000, 1) > 900, "a second of load, a millisecond left");
        let middling = draws(100, 100);
        assert!((250..500).contains(&middling), "e^-1 of the draws, got {middling} of 1000");
    }

    #[test]
    fn every_bad_value_is_named() {
        let problems = Policy::default().jitter(2.0).max_batch(0).ttl(Duration::ZERO).problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
        let guard = RegionPolicy::default().breaker_failures(65).breaker_pause(Duration::ZERO);
        let problems = guard.outage_loads_per_second(Some(0)).max_batch(0).problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn every_setting_says_what_it_needs_and_what_else_would_do() {
        let (policy, day) = (RegionPolicy::default, Duration::from_secs(24 * 3600));
        let nano = Duration::from_nanos(1);
        for (policy, told) in [
            (
                policy().ttl(Duration::ZERO),
                "ttl is 0s, and a duration above zero is needed; to keep nothing, use the backend \"null\"",
            ),
            (
                policy().ttl(LONGEST + nano),
                "ttl is 100 years, and a duration of at most 100 years is needed, or for ever",
            ),
            (policy().stale(FOREVER - nano), "and a duration of at most 100 years is needed, or for ever"),
            (
                policy().lease_ttl(FOREVER),
                "lease_ttl is for ever, and a duration of at least 1ms and at most a day is needed",
            ),
            (
                policy().breaker_pause(nano),
                "breaker_pause is 1ns, and a duration of at least 1ms and at most a day is needed",
            ),
            (
                policy().breaker_pause(Duration::ZERO),
                "at most a day is needed; for no breaker at all, set breaker_failures to 0",
            ),
            (
                policy().breaker_failures(65),
                "breaker_failures is 65, and a whole number from 0 to 64 is needed",
            ),
            (
                policy().outage_loads_per_second(0),
                "outage_loads_per_second is 0, and a whole number above zero is needed, or unlimited; nothing could be loaded",
            ),
            (policy().jitter(f64::NAN), "jitter is NaN, and a share from 0 to 1 is needed"),
            (
                policy().early_refresh(-1.0),
                "early_refresh is -1, and a number that is zero or more is needed",
            ),
            (policy().max_batch(0), "max_batch is 0, and a whole number above zero is needed"),
        ] {
            let problems = policy.problems();
            assert!(problems.len() == 1 && problems[0].contains(told), "{told}: {problems:?}");
        }
        let fine = policy().ttl(FOREVER).stale(Duration::ZERO).lease_ttl(day).compress_above(None);
        assert_eq!(fine.outage_loads_per_second(None).problems(), [""; 0]);
    }

    #[test]
    fn what_is_for_ever_has_an_end_in_a_region_and_in_its_sources() {
        let policy = RegionPolicy::default().ttl(FOREVER).shared_budget(FOREVER).bounded();
        assert_eq!((policy.sources.ttl, policy.shared_budget), (LONGEST, LONGEST));
        assert_eq!(policy.sources.jitter, Policy::default().jitter);
    }
}
