//! What the value of a setting may be: one check for every way in, the builder, a configuration, a source, near.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// For ever: the longest [`Duration`]. Settings write it as `forever`.
///
/// An entry with this time to live is kept until it is invalidated or evicted, and an operation with this budget is
/// waited for however long it takes.
///
/// ```
/// use mastaba::{FOREVER, Region};
///
/// let region = Region::memory().ttl(FOREVER);
/// assert_eq!(region.policy.sources.ttl, std::time::Duration::MAX);
/// ```
pub const FOREVER: Duration = Duration::MAX;

/// Longer than this, and not for ever, is a slip; and what is for ever ends after it. Sums of a few of these are within
/// the reach of every clock.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * YEAR);

const YEAR: u64 = 366 * DAY;
const DAY: u64 = 24 * 60 * 60;
const SHORTEST: Duration = Duration::from_millis(1);

/// What the value of a setting may be.
pub(crate) trait Check<T> {
    /// What is needed: `a share from 0 to 1`.
    fn what(&self) -> String;

    /// What does as well: `, or never`.
    fn or(&self) -> &'static str {
        ""
    }

    /// # Errors
    /// What is needed instead.
    fn check(&self, value: &T) -> Result<(), String>;

    /// The value as a configuration writes it.
    fn show(&self, value: &T) -> String;

    /// The value with an end to what is for ever, so that it can be counted with.
    fn bounded(&self, value: T) -> T {
        value
    }

    /// What is wrong with the setting of this name, in one sentence.
    fn problem(&self, name: &str, value: &T) -> Option<String> {
        let needed = self.check(value).err()?;
        Some(format!("{name} is {}, and {needed}", self.show(value)))
    }

    /// `Ok` where the value is one of these.
    fn needs(&self, fits: bool) -> Result<(), String> {
        if fits { Ok(()) } else { Err(format!("{} is needed{}", self.what(), self.or())) }
    }
}

/// A duration. The sentence says what zero would mean where it is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// Zero to for ever.
    Any,
    /// Above zero, to for ever.
    AboveZero(&'static str),
    /// A millisecond to a day: how often something is done, or how long something that is lost stands in the way.
    Interval(&'static str),
}

impl Span {
    /// The time to live of near.
    pub(crate) const OF_NEAR: Self = Self::AboveZero("to have none, leave near out");
}

impl Check<Duration> for Span {
    fn what(&self) -> String {
        match self {
            Self::Any => "a duration",
            Self::AboveZero(_) => "a duration above zero",
            Self::Interval(_) => "a duration of at least 1ms and at most a day",
        }
        .to_owned()
    }

    fn check(&self, value: &Duration) -> Result<(), String> {
        let (fits, zero) = match self {
            Self::Any => (true, ""),
            Self::AboveZero(zero) => (!value.is_zero(), *zero),
            Self::Interval(zero) => ((SHORTEST..=Duration::from_secs(DAY)).contains(value), *zero),
        };
        let zero = if value.is_zero() { zero } else { "" };
        self.needs(fits).map_err(|needed| with_hint(needed, zero))?;
        if *value > LONGEST && *value != FOREVER {
            return Err("a duration of at most 100 years is needed, or for ever".to_owned());
        }
        Ok(())
    }

    fn show(&self, value: &Duration) -> String {
        Shown(*value).to_string()
    }

    fn bounded(&self, value: Duration) -> Duration {
        bounded(value)
    }
}

fn with_hint(needed: String, hint: &str) -> String {
    if hint.is_empty() { needed } else { format!("{needed}; {hint}") }
}

/// A part of a whole.
pub(crate) struct Share;

impl Check<f64> for Share {
    fn what(&self) -> String {
        "a share from 0 to 1".to_owned()
    }

    fn check(&self, value: &f64) -> Result<(), String> {
        // the range also turns away what is no number
        self.needs((0.0..=1.0).contains(value))
    }

    fn show(&self, value: &f64) -> String {
        value.to_string()
    }
}

/// How many times as much.
pub(crate) struct Factor;

impl Check<f64> for Factor {
    fn what(&self) -> String {
        "a number that is zero or more".to_owned()
    }

    fn check(&self, value: &f64) -> Result<(), String> {
        self.needs(*value >= 0.0 && value.is_finite())
    }

    fn show(&self, value: &f64) -> String {
        value.to_string()
    }
}

/// How many, at least one.
pub(crate) struct Count;

impl<N: PartialOrd + Default + fmt::Display> Check<N> for Count {
    fn what(&self) -> String {
        "a whole number above zero".to_owned()
    }

    fn check(&self, value: &N) -> Result<(), String> {
        Check::<N>::needs(self, *value > N::default())
    }

    fn show(&self, value: &N) -> String {
        value.to_string()
    }
}

/// How many, none included, up to this.
pub(crate) struct UpTo(pub(crate) u32);

impl Check<u32> for UpTo {
    fn what(&self) -> String {
        format!("a whole number from 0 to {}", self.0)
    }

    fn check(&self, value: &u32) -> Result<(), String> {
        self.needs(*value <= self.0)
    }

    fn show(&self, value: &u32) -> String {
        value.to_string()
    }
}

/// How many at most, at least one; `None` is any number. The sentence says what zero would mean.
pub(crate) struct CountOrUnlimited(pub(crate) &'static str);

impl Check<Option<u32>> for CountOrUnlimited {
    fn what(&self) -> String {
        "a whole number above zero".to_owned()
    }

    fn or(&self) -> &'static str {
        ", or unlimited"
    }

    fn check(&self, value: &Option<u32>) -> Result<(), String> {
        self.needs(*value != Some(0)).map_err(|needed| with_hint(needed, self.0))
    }

    fn show(&self, value: &Option<u32>) -> String {
        value.map_or_else(|| "unlimited".to_owned(), |count| count.to_string())
    }
}

/// So many bytes, at least one.
pub(crate) struct Size;

impl Check<u64> for Size {
    fn what(&self) -> String {
        "a size above zero".to_owned()
    }

    fn check(&self, value: &u64) -> Result<(), String> {
        self.needs(*value > 0)
    }

    fn show(&self, value: &u64) -> String {
        value.to_string()
    }
}

/// More bytes than these; `None` is never.
pub(crate) struct SizeOrNever;

impl Check<Option<u64>> for SizeOrNever {
    fn what(&self) -> String {
        "a size".to_owned()
    }

    fn or(&self) -> &'static str {
        ", or never"
    }

    fn check(&self, _: &Option<u64>) -> Result<(), String> {
        Ok(())
    }

    fn show(&self, value: &Option<u64>) -> String {
        value.map_or_else(|| "never".to_owned(), |bytes| bytes.to_string())
    }
}

/// Whether something is done.
pub(crate) struct Switch;

impl Check<bool> for Switch {
    fn what(&self) -> String {
        "`true` or `false`".to_owned()
    }

    fn check(&self, _: &bool) -> Result<(), String> {
        Ok(())
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// What is for ever, as a time that can be counted with.
pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(LONGEST)
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A point in time that is so far ahead; or one that nobody lives to see, where the clock does not reach that far.
pub(crate) fn later(from: Instant, by: Duration) -> Instant {
    let by = bounded(by);
    from.checked_add(by).unwrap_or_else(|| from + by / 8)
}

/// A duration for people: three digits, and one unit.
///
/// ```text
/// 9.999997586s -> 10s     57.3124ms -> 57.3ms     5400s -> 1.5h
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown(pub(crate) Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(f64, &str); 7] = [
            (366.0 * 86400.0, " years"),
            (2.0 * 86400.0, " days"),
            (3600.0, "h"),
            (60.0, "min"),
            (1.0, "s"),
            (1e-3, "ms"),
            (1e-6, "µs"),
        ];
        if self.0 >= LONGEST && (self.0 == LONGEST || self.0 == FOREVER) {
            return f.pad("for ever");
        }
        if self.0.is_zero() {
            return f.pad("0s");
        }
        // rounded first, so that 999.9996 ms are a second and not 1000 ms
        let secs = rounded(self.0.as_secs_f64());
        let (size, unit) = UNITS.into_iter().find(|(size, _)| secs >= *size).unwrap_or((1e-9, "ns"));
        let size = if unit == " days" { 86400.0 } else { size };
        f.pad(&format!("{}{unit}", rounded(secs / size)))
    }
}

/// To three digits; whole numbers stay as they are.
fn rounded(number: f64) -> f64 {
    if number >= 100.0 {
        return number.round();
    }
    // by way of text, whose digits are those that are shown
    let digits = format!("{number:.2e}");
    digits.parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_with_three_digits_and_one_unit() {
        for (nanos, shown) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (57_000_000, "57ms"),
            (57_312_400, "57.3ms"),
            (999_999_600, "1s"),
            (1_234_567_890, "1.23s"),
            (9_999_997_586, "10s"),
            (59_000_000_000, "59s"),
            (90_000_000_000, "1.5min"),
            (5_400_000_000_000, "1.5h"),
            (24 * 3_600_000_000_000, "24h"),
            (72 * 3_600_000_000_000, "3 days"),
        ] {
            assert_eq!(Shown(Duration::from_nanos(nanos)).to_string(), shown, "{nanos} ns");
        }
        assert_eq!(Shown(FOREVER).to_string(), "for ever");
        assert_eq!(Shown(bounded(FOREVER)).to_string(), "for ever");
        assert_eq!(Shown(Duration::from_secs(1000 * YEAR)).to_string(), "1000 years");
        assert_eq!(format!("{:>8}", Shown(Duration::from_secs(1))), "      1s");
    }

    #[test]
    fn no_point_in_time_is_too_far_ahead() {
        let now = Instant::now();
        assert_eq!(later(now, Duration::from_secs(5)), now + Duration::from_secs(5));
        for far in [LONGEST, LONGEST * 10, Duration::from_secs(u64::MAX), FOREVER] {
            assert!(later(now, far) > now + Duration::from_secs(10 * YEAR), "{far:?}");
        }
    }
}
