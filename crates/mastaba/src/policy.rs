//! How long entries live, how long anyone waits, how large batches get.

use std::time::Duration;

use crate::limits::{Limits, Shown, bounded};

/// The policy of a region, of a source ([`Source::policy`](crate::Source::policy)), or in part of one entry
/// ([`EntryPolicy`]).
///
/// ```
/// use std::time::Duration;
/// use mastaba::Policy;
///
/// let policy = Policy::default().ttl(Duration::from_secs(3600)).stale(Duration::from_secs(60));
/// assert_eq!(policy.ttl, Duration::from_secs(3600));
/// ```
///
/// A duration is at most 100 years, or [`FOREVER`](crate::FOREVER); `lease_ttl` and `breaker_pause` are a millisecond to
/// a day. What cannot be used is refused when the cache is built, by the name of the setting.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// How long a value is fresh. Default: 5 minutes.
    pub ttl: Duration,
    /// How long an absence is fresh; it is never served stale. Zero: it is not kept outside of the request. Default:
    /// 30 seconds.
    pub absent_ttl: Duration,
    /// How long after `ttl` a value is still served, while it is refreshed in the background. Default: 0.
    pub stale: Duration,
    /// How long after `ttl` a value is still served when the source fails, or has not answered within
    /// [`source_soft_budget`](Policy::source_soft_budget). Default: 0.
    pub stale_if_error: Duration,
    /// By how much each time to live is shortened at random, so that what was loaded together does not
    /// expire together: a fraction of it, 0 to 1. Default: 0.1.
    pub jitter: f64,
    /// How eagerly a fresh value is refreshed before it expires, in proportion to what its load cost
    /// (XFetch: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", 2015).
    /// 0: never. Default: 1.
    pub early_refresh: f64,
    /// The most keys of one call of the loader; the parts of a larger batch are loaded at the same time.
    /// Default: 1000.
    pub max_batch: usize,
    /// Past this an operation of the shared tier is called slow, in an event. Default: 50 ms.
    pub shared_soft_budget: Duration,
    /// Past this the shared tier counts as knowing nothing. Default: 500 ms.
    pub shared_budget: Duration,
    /// How long what was asked together waits for the slowest load of its batch, and how long a key that
    /// [`stale_if_error`](Policy::stale_if_error) covers waits for its own. Default: 100 ms.
    pub source_soft_budget: Duration,
    /// Past this a load has failed. Default: 10 s.
    pub source_budget: Duration,
    /// How long the right to fill stands. Longer than most loads. Default: 15 s.
    pub lease_ttl: Duration,
    /// How long a miss that another process is loading waits for that process's fill, before it loads under the
    /// same fence itself (`R3`). Zero: not at all. Default: 500 ms.
    pub lease_patience: Duration,
    /// Payloads larger than this many bytes are compressed. Default: 4096. `None`: never.
    pub compress_above: Option<u64>,
    /// After so many failures of the shared tier in a row, or half of four times as many operations, it is passed
    /// over: nobody waits for it until it answers again. At most 64; 0: never. Default: 5. Of the region: what a
    /// source says here is not asked, and so it is for the two below.
    pub breaker_failures: u32,
    /// How long the shared tier is passed over before one operation tries again. Doubles while that fails, up to 30
    /// seconds, and is shortened at random by up to a quarter. Default: 1 s.
    pub breaker_pause: Duration,
    /// How many loads per second may begin because the shared tier is out, in the region and in this process; a tenth
    /// of them at once. A load over it waits for its turn, within its `source_budget`. Default: 500. `None`: any
    /// number. Loads while the shared tier answers are not counted.
    pub outage_loads_per_second: Option<u32>,
    /// What a write does before its commit. Of the region. Default: [`WriteMode::Simple`].
    pub write_mode: WriteMode,
    /// How long the holds of a write stand when nobody ends them: a writer that dies sends the readers of its keys to the
    /// source for so long. Renewed while the commit takes longer. Of the region. Default: 15 s.
    pub hold_ttl: Duration,
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

impl Default for Policy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            absent_ttl: Duration::from_secs(30),
            stale: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            jitter: 0.1,
            early_refresh: 1.0,
            max_batch: 1000,
            shared_soft_budget: Duration::from_millis(50),
            shared_budget: Duration::from_millis(500),
            source_soft_budget: Duration::from_millis(100),
            source_budget: Duration::from_secs(10),
            lease_ttl: Duration::from_secs(15),
            lease_patience: Duration::from_millis(500),
            compress_above: Some(4096),
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(1),
            outage_loads_per_second: Some(500),
            write_mode: WriteMode::Simple,
            hold_ttl: Duration::from_secs(15),
        }
    }
}

/// Setters by the names of their fields. What may be left out is taken with and without `Some`.
macro_rules! setters {
    ($self:ident => $place:expr; $($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {
        $($(#[$doc])* #[must_use] pub fn $name(mut $self, $name: $type) -> Self {
            $place.$name = $name.into();
            $self
        })*
    };
}
pub(crate) use setters;

/// Every setter of a policy, for [`Policy`] and for [`Region`](crate::Region): a list of their own would part ways.
macro_rules! policy_setters {
    ($self:ident => $place:expr) => {
        crate::policy::setters! { $self => $place;
            /// Sets [`Policy::ttl`].
            ttl: Duration,
            /// Sets [`Policy::absent_ttl`].
            absent_ttl: Duration,
            /// Sets [`Policy::stale`].
            stale: Duration,
            /// Sets [`Policy::stale_if_error`].
            stale_if_error: Duration,
            /// Sets [`Policy::jitter`].
            jitter: f64,
            /// Sets [`Policy::early_refresh`].
            early_refresh: f64,
            /// Sets [`Policy::max_batch`].
            max_batch: usize,
            /// Sets [`Policy::shared_soft_budget`].
            shared_soft_budget: Duration,
            /// Sets [`Policy::shared_budget`].
            shared_budget: Duration,
            /// Sets [`Policy::source_soft_budget`].
            source_soft_budget: Duration,
            /// Sets [`Policy::source_budget`].
            source_budget: Duration,
            /// Sets [`Policy::lease_ttl`].
            lease_ttl: Duration,
            /// Sets [`Policy::lease_patience`].
            lease_patience: Duration,
            /// Sets [`Policy::compress_above`]: a number of bytes, or `None` for never.
            compress_above: impl Into<Option<u64>>,
            /// Sets [`Policy::breaker_failures`].
            breaker_failures: u32,
            /// Sets [`Policy::breaker_pause`].
            breaker_pause: Duration,
            /// Sets [`Policy::outage_loads_per_second`]: a number, or `None` for any.
            outage_loads_per_second: impl Into<Option<u32>>,
            /// Sets [`Policy::write_mode`](crate::Policy::write_mode).
            write_mode: crate::WriteMode,
            /// Sets [`Policy::hold_ttl`](crate::Policy::hold_ttl).
            hold_ttl: Duration,
        }
    };
}
pub(crate) use policy_setters;

impl Policy {
    policy_setters!(self => self);

    /// Its durations by their names, and what a zero would mean where there may be none.
    fn durations(&mut self) -> [(&'static str, &mut Duration, &'static str); 12] {
        [
            ("ttl", &mut self.ttl, "to keep nothing, use the backend \"null\""),
            ("absent_ttl", &mut self.absent_ttl, ""),
            ("stale", &mut self.stale, ""),
            ("stale_if_error", &mut self.stale_if_error, ""),
            ("shared_soft_budget", &mut self.shared_soft_budget, ""),
            ("shared_budget", &mut self.shared_budget, "nothing could ever be read"),
            ("source_soft_budget", &mut self.source_soft_budget, ""),
            ("source_budget", &mut self.source_budget, "nothing could ever be loaded"),
            ("lease_ttl", &mut self.lease_ttl, "nothing could ever be filled"),
            ("lease_patience", &mut self.lease_patience, ""),
            ("hold_ttl", &mut self.hold_ttl, "no key could ever be held"),
            ("breaker_pause", &mut self.breaker_pause, "for no breaker at all, set breaker_failures to 0"),
        ]
    }

    /// The same policy with an end to what is for ever, so that it can be counted with.
    pub(crate) fn bounded(mut self) -> Self {
        self.durations().into_iter().for_each(|(_, duration, _)| *duration = bounded(*duration));
        self
    }

    /// What is wrong with it, if anything: one sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, sentence: String| {
            if wrong {
                problems.push(sentence);
            }
        };
        check(
            !(0.0..=1.0).contains(&self.jitter),
            format!("jitter is {}, and must be a fraction from 0 to 1", self.jitter),
        );
        check(
            !(self.early_refresh >= 0.0 && self.early_refresh.is_finite()),
            format!("early_refresh is {}, and must be 0 (never) or more", self.early_refresh),
        );
        check(self.max_batch == 0, "max_batch is 0, and must be at least 1".into());
        check(
            self.breaker_failures > 64,
            format!("breaker_failures is {}, and must be 0 (never) to 64", self.breaker_failures),
        );
        check(
            self.outage_loads_per_second == Some(0),
            "outage_loads_per_second is 0, so nothing could be loaded while the shared tier is out".into(),
        );
        for (name, duration, hint) in self.clone().durations() {
            if let Err(needed) = Limits::of(name).check(*duration) {
                let hint = if duration.is_zero() { format!("; {hint}") } else { String::new() };
                problems.push(format!("{name} is {}, and {needed}{hint}", Shown(*duration)));
            }
        }
        problems
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
pub(crate) fn refresh_early(beta: f64, cost: Duration, left: Duration) -> bool {
    // -ln(random) passes 20 twice in a thousand million draws: most hits need no random number
    let reach = cost.as_secs_f64() * beta;
    reach * 20.0 > left.as_secs_f64() && reach * -(1.0 - fastrand::f64()).ln() >= left.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_shortens_and_never_lengthens() {
        let policy = Policy::default().ttl(Duration::from_secs(100)).jitter(0.2);
        let ages: Vec<_> = (0..200).map(|_| policy.ages(false, EntryPolicy::default()).soft).collect();
        assert!(ages.iter().all(|soft| (80.0..=100.0).contains(&soft.as_secs_f64())), "{ages:?}");
        assert!(ages.iter().any(|soft| soft != &ages[0]), "jitter draws anew each time");
    }

    #[test]
    fn a_dear_value_close_to_its_deadline_is_refreshed_early_and_a_cheap_one_is_not() {
        let draws = |cost, left| {
            (0..1000)
                .filter(|_| refresh_early(1.0, Duration::from_millis(cost), Duration::from_millis(left)))
                .count()
        };
        assert_eq!(draws(1, 60_000), 0, "a millisecond of load, a minute left");
        assert!(draws(1000, 1) > 900, "a second of load, a millisecond left");
        let middling = draws(100, 100);
        assert!((250..500).contains(&middling), "e^-1 of the draws, got {middling} of 1000");
    }

    #[test]
    fn every_bad_value_is_named() {
        let problems = Policy::default().jitter(2.0).max_batch(0).ttl(Duration::ZERO).problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
        let guard = Policy::default().breaker_failures(65).breaker_pause(Duration::ZERO);
        let problems = guard.outage_loads_per_second(Some(0)).problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
