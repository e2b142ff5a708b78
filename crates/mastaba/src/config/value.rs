//! Texts to values. An error says what is needed; the key and the text are added by the caller.

use std::fmt::Display;
use std::time::Duration;

use crate::coherence::{Coherence, Lag};
use crate::limits::{
    Check, Count, CountOrUnlimited, FOREVER, Factor, Share, Size, SizeOrNever, Span, Switch, UpTo,
};
use crate::policy::{Mode, WriteMode};

/// What reads the text of a setting, and checks it as every other way in does.
pub(super) trait Text<T>: Check<T> {
    /// # Errors
    /// What is needed instead.
    fn read(&self, text: &str) -> Result<T, String>;

    /// The value, if it fits.
    fn checked(&self, value: T) -> Result<T, String> {
        self.check(&value).map(|()| value)
    }
}

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
    Span::Any.read(text)
}

impl Text<Duration> for Span {
    fn read(&self, text: &str) -> Result<Duration, String> {
        self.checked(parsed(text)?)
    }
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

impl Text<Coherence> for Lag {
    fn read(&self, text: &str) -> Result<Coherence, String> {
        if text.trim() == "fenced" {
            return Ok(Coherence::Fenced);
        }
        let bound = parsed(text).map_err(|_| "`fenced` is needed, or a duration such as 1s".to_owned())?;
        self.checked(Coherence::Bounded(bound))
    }
}

impl Text<WriteMode> for Mode {
    fn read(&self, text: &str) -> Result<WriteMode, String> {
        let mode = WriteMode::ALL.into_iter().find(|mode| mode.name() == text.trim());
        mode.ok_or_else(|| format!("{} is needed", self.what()))
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

impl Text<u64> for Size {
    fn read(&self, text: &str) -> Result<u64, String> {
        self.checked(bytes(text)?)
    }
}

impl Text<Option<u64>> for SizeOrNever {
    fn read(&self, text: &str) -> Result<Option<u64>, String> {
        if text.trim().eq_ignore_ascii_case("never") {
            return Ok(None);
        }
        let size = bytes(text).map_err(|needed| needed + self.or())?;
        self.checked(Some(size))
    }
}

// What is no number at all is read as one that does not fit.

impl<N: TryFrom<u64> + PartialOrd + Default + Display> Text<N> for Count {
    fn read(&self, text: &str) -> Result<N, String> {
        let number = whole(text.trim()).and_then(|number| N::try_from(number).ok());
        self.checked(number.unwrap_or_default())
    }
}

impl Text<u32> for UpTo {
    fn read(&self, text: &str) -> Result<u32, String> {
        let number = whole(text.trim()).and_then(|number| u32::try_from(number).ok());
        self.checked(number.unwrap_or(u32::MAX))
    }
}

impl Text<bool> for Switch {
    fn read(&self, text: &str) -> Result<bool, String> {
        text.trim().parse().map_err(|_| format!("{} is needed", self.what()))
    }
}

/// `0`, `1.5`.
impl Text<f64> for Factor {
    fn read(&self, text: &str) -> Result<f64, String> {
        let factor = text.trim().parse().unwrap_or(f64::NAN);
        self.checked(factor).map_err(|needed| format!("{needed}, such as 1.0"))
    }
}

/// `0.1` or `10%`.
impl Text<f64> for Share {
    fn read(&self, text: &str) -> Result<f64, String> {
        let text = text.trim();
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
            None => text.parse(),
        };
        self.checked(share.unwrap_or(f64::NAN)).map_err(|needed| format!("{needed}, such as 0.1 or 10%"))
    }
}

impl Text<Option<u32>> for CountOrUnlimited {
    fn read(&self, text: &str) -> Result<Option<u32>, String> {
        if text.trim().eq_ignore_ascii_case("unlimited") {
            return Ok(None);
        }
        match whole(text.trim()).and_then(|number| u32::try_from(number).ok()) {
            Some(number) => self.checked(Some(number)),
            None => self.needs(false).map(|()| None), // which says nothing of what zero would mean
        }
    }
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
        assert_eq!(Span::AboveZero("").read("forever"), Ok(FOREVER));
        assert!(Span::Interval("").read("forever").unwrap_err().contains("at most a day"));
        assert!(Lag.read("forever").unwrap_err().contains("at most a day is needed, or `fenced`"));
        assert_eq!((SizeOrNever.read("never"), SizeOrNever.read("4KiB")), (Ok(None), Ok(Some(4096))));
        assert!(SizeOrNever.read("seldom").unwrap_err().contains("or never"));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "soon", "1 fortnight", "-1", "-1s", "1e3", ".", "_", "inf", "99999999999999999999"] {
            assert!(duration(text).unwrap_err().contains("250ms"), "{text}");
        }
        assert!(duration("101y").unwrap_err().contains("100 years"));
        assert!(Span::AboveZero("").read("0ms").unwrap_err().contains("above zero"));
        assert_eq!(Span::AboveZero("").read("1ms"), Ok(Duration::from_millis(1)));
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
        assert!(Size.read("0").is_err());
    }

    #[test]
    fn counts_are_whole_and_above_zero() {
        assert_eq!(Count.read("1_000"), Ok(1000_u64));
        for text in ["0", "", "-1", "1.5", "many", "99999999999999999999"] {
            let (one, other): (Result<u64, _>, Result<usize, _>) = (Count.read(text), Count.read(text));
            assert!(one.is_err() && other.is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_counts_or_unlimited() {
        let limit = CountOrUnlimited("nothing would be left");
        assert_eq!((limit.read("1_000"), limit.read(" Unlimited ")), (Ok(Some(1000)), Ok(None)));
        for text in ["0", "", "-1", "none", "5000000000"] {
            let told = limit.read(text).unwrap_err();
            assert!(told.contains("unlimited"), "{text}");
            assert_eq!(told.contains("nothing would be left"), text == "0", "{text}: {told}");
        }
        assert_eq!((UpTo(64).read("0"), UpTo(64).read("64")), (Ok(0), Ok(64)));
        for text in ["65", "", "-1", "many"] {
            assert!(UpTo(64).read(text).unwrap_err().contains("0 to 64"), "{text}");
        }
    }

    #[test]
    fn switches_are_on_or_off() {
        assert_eq!((Switch.read(" true "), Switch.read("false")), (Ok(true), Ok(false)));
        for text in ["", "1", "yes", "True"] {
            assert!(Switch.read(text).unwrap_err().contains("`true` or `false`"), "{text}");
        }
    }

    #[test]
    fn shares_are_fractions_or_percentages() {
        for (text, value) in
            [("0.1", 0.1), ("10%", 0.1), ("25 %", 0.25), ("0", 0.0), ("1", 1.0), ("100%", 1.0)]
        {
            assert_eq!(Share.read(text), Ok(value), "{text}");
        }
        for text in ["", "%", "1.01", "101%", "-0.1", "NaN", "inf", "some"] {
            assert!(Share.read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_are_kept_as_they_are_unless_empty() {
        assert_eq!(text(" a "), Ok(" a ".to_owned()));
        assert!(text("").is_err() && text("  ").is_err());
    }
}
