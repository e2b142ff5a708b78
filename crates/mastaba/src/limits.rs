//! What a duration of a setting may be: one check for every way in, the builder, settings, a source, near.

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
/// assert_eq!(region.policy.ttl, std::time::Duration::MAX);
/// ```
pub const FOREVER: Duration = Duration::MAX;

/// Longer than this, and not for ever, is a slip; and what is for ever ends after it. Sums of a few of these are within
/// the reach of every clock.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * YEAR);

const YEAR: u64 = 366 * DAY;
const DAY: u64 = 24 * 60 * 60;
const SHORTEST: Duration = Duration::from_millis(1);

/// What a duration may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limits {
    /// Zero to for ever.
    Any,
    /// Above zero, to for ever.
    AboveZero,
    /// A millisecond to a day: how often something is done, or how long something that is lost stands in the way.
    Interval,
}

impl Limits {
    /// Those of a setting, by its name.
    pub(crate) fn of(setting: &str) -> Self {
        match setting {
            "lease_ttl" | "hold_ttl" | "breaker_pause" | "coherence" => Self::Interval,
            "ttl" | "near.ttl" | "shared_budget" | "source_budget" => Self::AboveZero,
            _ => Self::Any,
        }
    }

    /// # Errors
    /// What is needed instead.
    pub(crate) fn check(self, duration: Duration) -> Result<(), String> {
        let needed = match self {
            Self::AboveZero | Self::Interval if duration.is_zero() => "a duration above zero is needed",
            Self::Interval if duration < SHORTEST => "a duration of at least 1ms is needed",
            Self::Interval if duration > Duration::from_secs(DAY) => "a duration of at most a day is needed",
            Self::Any | Self::AboveZero if duration > LONGEST && duration != FOREVER => {
                "a duration of at most 100 years is needed, or for ever"
            }
            _ => return Ok(()),
        };
        Err(needed.to_owned())
    }
}

/// What is for ever, as a time that can be counted with.
pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(LONGEST)
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

    #[test]
    fn every_setting_says_what_it_needs() {
        for (setting, duration, needed) in [
            ("ttl", Duration::ZERO, "above zero"),
            ("ttl", LONGEST + SHORTEST, "at most 100 years"),
            ("stale", FOREVER - SHORTEST, "at most 100 years"),
            ("lease_ttl", FOREVER, "at most a day"),
            ("breaker_pause", Duration::from_nanos(1), "at least 1ms"),
        ] {
            let told = Limits::of(setting).check(duration).unwrap_err();
            assert!(told.contains(needed), "{setting}: {told}");
        }
        for (setting, duration) in
            [("ttl", FOREVER), ("stale", Duration::ZERO), ("lease_ttl", Duration::from_secs(DAY))]
        {
            assert_eq!(Limits::of(setting).check(duration), Ok(()), "{setting}");
        }
    }
}
