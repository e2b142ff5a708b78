//! The table at the end of `cargo xtask test`.

use std::fmt;
use std::time::Duration;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    Failed,
    /// Not run, and why.
    Skipped(String),
}

/// The steps that ran so far.
#[derive(Debug, Default)]
pub(crate) struct Summary(Vec<(&'static str, Duration, Outcome)>);

impl Summary {
    pub(crate) fn push(&mut self, step: &'static str, took: Duration, outcome: Outcome) {
        self.0.push((step, took, outcome));
    }

    /// Whether no step failed. A step that was skipped by name does not count as failed.
    pub(crate) fn is_ok(&self) -> bool {
        !self.0.iter().any(|(_, _, outcome)| *outcome == Outcome::Failed)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10}{:>9}  result", "step", "seconds")?;
        let (mut ok, mut failed, mut skipped) = (0, 0, 0);
        for (step, took, outcome) in &self.0 {
            write!(f, "{step:<10}{:>9.1}  ", took.as_secs_f64())?;
            match outcome {
                Outcome::Ok => {
                    ok += 1;
                    writeln!(f, "ok")?;
                }
                Outcome::Failed => {
                    failed += 1;
                    writeln!(f, "FAILED")?;
                }
                Outcome::Skipped(why) => {
                    skipped += 1;
                    writeln!(f, "skipped: {why}")?;
                }
            }
        }
        write!(f, "{ok} ok, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_the_whole_and_a_skip_does_not() {
        let mut summary = Summary::default();
        summary.push("fmt", Duration::from_millis(1250), Outcome::Ok);
        summary.push("deny", Duration::ZERO, Outcome::Skipped("cargo-deny is not installed".to_owned()));
        assert!(summary.is_ok());
        summary.push("doc", Duration::from_secs(61), Outcome::Failed);
        assert!(!summary.is_ok());
        let expected = "\
step        seconds  result
fmt             1.2  ok
deny            0.0  skipped: cargo-deny is not installed
doc            61.0  FAILED
1 ok, 1 failed, 1 skipped";
        assert_eq!(summary.to_string(), expected);
    }
}
