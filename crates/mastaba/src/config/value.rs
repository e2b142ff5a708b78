//! Texts to values. An error says what is needed; the key and the text are added by the caller.

use std::time::Duration;

use crate::limits::{FOREVER, Limits};
use crate::{Coherence, WriteMode};

const UNITS: [(&str, u64); 9] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

pub(super) fn text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A duration, which may be zero; or `forever`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    within(Limits::Any, text)
}

/// The duration of a setting, by its name.
pub(super) fn duration_of(setting: &str, text: &str) -> Result<Duration, String> {
    within(Limits::of(setting), text)
}

fn within(limits: Limits, text: &str) -> Result<Duration, String> {
    let duration = parsed(text)?;
    limits.check(duration).map(|()| duration)
}

fn parsed(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("forever") {
        return Ok(FOREVER);
    }
    let is_bare = text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '_');
    let parsed = if is_bare {
        humantime::parse_duration(&format!("{}s", text.replace('_', "")))
    } else {
        humantime::parse_duration(text)
    };
    parsed.map_err(|_| "a duration is needed, such as 250ms, 1h or 90 (seconds)".to_owned())
}

/// `fenced`, or how far near may lag.
pub(super) fn coherence(text: &str) -> Result<Coherence, String> {
    if text.trim() == "fenced" {
        return Ok(Coherence::Fenced);
    }
    let bound = parsed(text).map_err(|_| "`fenced` is needed, or a duration such as 1s".to_owned())?;
    let limits = Limits::of("coherence");
    limits.check(bound).map_err(|needed| format!("{needed}, or `fenced`"))?;
    Ok(Coherence::Bounded(bound))
}

/// What a write does before its commit.
pub(super) fn write_mode(text: &str) -> Result<WriteMode, String> {
    match text.trim() {
        "simple" => Ok(WriteMode::Simple),
        "strict" => Ok(WriteMode::Strict),
        "serve" => Ok(WriteMode::Serve),
        "degrade" => Ok(WriteMode::Degrade),
        _ => Err("`simple`, `strict`, `serve` or `degrade` is needed".to_owned()),
    }
}

pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_lowercase();
    let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => Some(*factor),
        None => unit.is_empty().then_some(1),
    };
    // A bare K or M would be 1000 to some and 1024 to others.
    let (Some(factor), Some(number)) = (factor, whole(number)) else {
        return Err("a size is needed, such as 64MiB, 10MB or 1_000_000 (bytes)".to_owned());
    };
    number.checked_mul(factor).ok_or_else(|| "the size is too large".to_owned())
}

pub(crate) fn bytes_above_zero(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        0 => Err("a size above zero is needed".to_owned()),
        bytes => Ok(bytes),
    }
}

/// How many, at least one.
pub(super) fn count<N: TryFrom<u64> + Default + PartialOrd>(text: &str) -> Result<N, String> {
    let number = whole(text.trim()).and_then(|number| N::try_from(number).ok());
    number
        .filter(|number| *number > N::default())
        .ok_or_else(|| "a whole number above zero is needed".to_owned())
}

/// How many, none included.
pub(super) fn count_up_to(most: u32, text: &str) -> Result<u32, String> {
    let number = whole(text.trim()).and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("a whole number from 0 to {most} is needed"))
}

/// How many at most, at least one, or `unlimited`.
pub(super) fn limit(text: &str) -> Result<Option<u32>, String> {
    if text.trim().eq_ignore_ascii_case("unlimited") {
        return Ok(None);
    }
    let number = whole(text.trim()).and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| "a whole number above zero is needed, or unlimited".to_owned())
}

/// More bytes than these, or `never`.
pub(super) fn above(text: &str) -> Result<Option<u64>, String> {
    if text.trim().eq_ignore_ascii_case("never") {
        return Ok(None);
    }
    bytes(text).map(Some).map_err(|needed| format!("{needed}, or never"))
}

/// A number that is zero or more: `0`, `1.5`.
pub(super) fn factor(text: &str) -> Result<f64, String> {
    let factor = text.trim().parse::<f64>().ok().filter(|factor| *factor >= 0.0 && factor.is_finite());
    factor.ok_or_else(|| "a number that is zero or more is needed, such as 1.0".to_owned())
}

/// A share of a whole: `0.1` or `10%`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    // The range also turns away NaN, which parses.
    share
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share from 0 to 1 is needed, such as 0.1 or 10%".to_owned())
}

/// Digits, with underscores between them.
fn whole(text: &str) -> Option<u64> {
    let is_grouped = !text.starts_with('_') && !text.ends_with('_');
    let digits = text.replace('_', "");
    // `parse` alone would also take a plus sign.
    let is_plain = is_grouped && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_or_are_seconds() {
        for (text, millis) in [
            ("1h", 3_600_000),
            ("250ms", 250),
            (" 1h 30m ", 5_400_000),
            ("90", 90_000),
            ("1_000", 1_000_000),
            ("0.5", 500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn for_ever_is_a_word_where_it_makes_sense() {
        assert_eq!((duration("forever"), duration(" Forever ")), (Ok(FOREVER), Ok(FOREVER)));
        assert_eq!(duration_of("source_budget", "forever"), Ok(FOREVER));
        assert!(duration_of("lease_ttl", "forever").unwrap_err().contains("at most a day"));
        assert!(coherence("forever").unwrap_err().contains("at most a day is needed, or `fenced`"));
        assert_eq!((above("never"), above("4KiB")), (Ok(None), Ok(Some(4096))));
        assert!(above("seldom").unwrap_err().contains("or never"));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "soon", "1 fortnight", "-1", "-1s", "1e3", ".", "_", "inf", "99999999999999999999"] {
            assert!(duration(text).unwrap_err().contains("250ms"), "{text}");
        }
        assert!(duration("101y").unwrap_err().contains("100 years"));
        assert!(duration_of("ttl", "0ms").unwrap_err().contains("above zero"));
        assert_eq!(duration_of("ttl", "1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn sizes_know_both_sorts_of_units() {
        for (text, size) in [
            ("64MiB", 64 << 20),
            ("10MB", 10_000_000),
            ("1_000_000", 1_000_000),
            ("4 kb", 4_000),
            ("512B", 512),
            ("2GiB", 2 << 30),
            ("1TB", 1_000_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "64M", "1.5MiB", "-1", "+1", "_1", "1_", "much"] {
            assert!(bytes(text).unwrap_err().contains("64MiB"), "{text}");
        }
        assert_eq!(bytes("99999999999TiB"), Err("the size is too large".to_owned()));
        assert!(bytes_above_zero("0").is_err());
    }

    #[test]
    fn counts_are_whole_and_above_zero() {
        assert_eq!(count("1_000"), Ok(1000_u64));
        for text in ["0", "", "-1", "1.5", "many", "99999999999999999999"] {
            assert!(count::<u64>(text).is_err() && count::<usize>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_counts_or_unlimited() {
        assert_eq!((limit("1_000"), limit(" Unlimited ")), (Ok(Some(1000)), Ok(None)));
        for text in ["0", "", "-1", "none", "5000000000"] {
            assert!(limit(text).unwrap_err().contains("unlimited"), "{text}");
        }
        assert_eq!((count_up_to(64, "0"), count_up_to(64, "64")), (Ok(0), Ok(64)));
        for text in ["65", "", "-1", "many"] {
            assert!(count_up_to(64, text).unwrap_err().contains("0 to 64"), "{text}");
        }
    }

    #[test]
    fn shares_are_fractions_or_percentages() {
        for (text, value) in
            [("0.1", 0.1), ("10%", 0.1), ("25 %", 0.25), ("0", 0.0), ("1", 1.0), ("100%", 1.0)]
        {
            assert_eq!(share(text), Ok(value), "{text}");
        }
        for text in ["", "%", "1.01", "101%", "-0.1", "NaN", "inf", "some"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_are_kept_as_they_are_unless_empty() {
        assert_eq!(text(" a "), Ok(" a ".to_owned()));
        assert!(text("").is_err() && text("  ").is_err());
    }
}
