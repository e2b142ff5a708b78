//! The figures of one step, as a line for people or as JSON.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use serde::{Deserialize, Serialize};

use crate::Result;

/// What one step of the tour cost. Everything in it was counted while it happened.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Step {
    /// Its name.
    pub(crate) step: String,
    /// What was asked, in words.
    pub(crate) asked: String,
    /// Keys that the request knew.
    pub(crate) request_hits: u64,
    /// Keys that near knew.
    pub(crate) near_hits: u64,
    /// Keys that the shared tier knew.
    pub(crate) shared_hits: u64,
    /// Keys that came from the database.
    pub(crate) loaded: u64,
    /// Of those that the request did not know, the keys that have no row.
    pub(crate) absent: u64,
    /// Trips to the shared tier that were waited for: reads, leases, invalidations.
    pub(crate) shared_trips: usize,
    /// Statements, counted where they are executed.
    pub(crate) statements: usize,
    /// Statements of a reader that asks for each object when it meets it.
    pub(crate) naive_statements: usize,
    /// How long it took.
    pub(crate) micros: u64,
    /// Of the trips to the shared tier, the reads.
    pub(crate) shared_reads: usize,
    /// How long the naive reader took.
    pub(crate) naive_micros: u64,
}

/// Where the figures go.
pub(crate) struct Sheet {
    out: AutoStream<io::Stdout>,
    json: bool,
    terminal: bool,
    steps: usize,
    statements: usize,
    naive_statements: usize,
    micros: u64,
    naive_micros: u64,
}

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const LOADED: Style = AnsiColor::Yellow.on_default().bold();

impl Sheet {
    /// A sheet on stdout. Colours are for terminals, and not with `NO_COLOR`.
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let out = if terminal { AutoStream::auto(io::stdout()) } else { AutoStream::never(io::stdout()) };
        Self { out, json, terminal, steps: 0, statements: 0, naive_statements: 0, micros: 0, naive_micros: 0 }
    }

    /// A sentence around the steps, for people.
    pub(crate) fn say(&mut self, text: &str) -> Result<()> {
        if !self.json {
            writeln!(self.out, "{text}")?;
        }
        Ok(())
    }

    /// The names of the columns.
    pub(crate) fn header(&mut self) -> Result<()> {
        let above = format!("{:50}  {:-^29}", "", " answered by ");
        self.say(&format!("{DIM}{above}{DIM:#}"))?;
        let names = format!(
            "{:>2}  {:46} {:>7} {:>6} {:>7} {:>7} {:>7} {:>6} {:>11} {:>7} {:>9}",
            "",
            "asked",
            "request",
            "near",
            "shared",
            "source",
            "absent",
            "trips",
            "statements",
            "naive",
            "time"
        );
        self.say(&format!("{BOLD}{names}{BOLD:#}"))
    }

    /// One step, and on a terminal what there is to see in it.
    pub(crate) fn step(&mut self, step: &Step, see: &str) -> Result<()> {
        self.steps += 1;
        self.statements += step.statements;
        self.naive_statements += step.naive_statements;
        self.micros += step.micros;
        self.naive_micros += step.naive_micros;
        if self.json {
            writeln!(self.out, "{}", serde_json::to_string(step)?)?;
            return Ok(());
        }
        writeln!(
            self.out,
            "{:>2}  {:46} {} {} {} {} {} {} {} {DIM}{:>7}{DIM:#} {:>9}",
            self.steps,
            step.asked,
            cell(step.request_hits, 7, GOOD),
            cell(step.near_hits, 6, GOOD),
            cell(step.shared_hits, 7, GOOD),
            cell(step.loaded, 7, LOADED),
            cell(step.absent, 7, BOLD),
            cell(step.shared_trips as u64, 6, BOLD),
            cell(step.statements as u64, 11, BOLD),
            number(step.naive_statements as u64),
            time(step.micros),
        )?;
        if self.terminal {
            writeln!(self.out, "{DIM}    {see}{DIM:#}")?;
        }
        Ok(())
    }

    /// All steps together.
    pub(crate) fn summary(&mut self) -> Result<()> {
        let text = format!(
            "{} steps through the cache: {BOLD}{} statements{BOLD:#}, {}.\nOne select per object, and no memory: \
             {BOLD}{} statements{BOLD:#}, {}.",
            self.steps,
            number(self.statements as u64),
            time(self.micros),
            number(self.naive_statements as u64),
            time(self.naive_micros),
        );
        self.say(&text)
    }
}

/// One line on stdout.
pub(crate) fn say(text: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// A number in its column; a zero stands back.
fn cell(value: u64, width: usize, style: Style) -> String {
    let style = if value == 0 { DIM } else { style };
    format!("{style}{:>width$}{style:#}", number(value))
}

/// With commas: 1,204.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn time(micros: u64) -> String {
    match Duration::from_micros(micros) {
        short if micros < 1000 => format!("{} µs", short.as_micros()),
        long if micros < 1_000_000 => format!("{:.1} ms", long.as_secs_f64() * 1e3),
        longer => format!("{:.2} s", longer.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas_and_times_their_unit() {
        assert_eq!([0, 999, 1204, 1_000_000].map(number), ["0", "999", "1,204", "1,000,000"]);
        assert_eq!([7, 8_140, 2_500_000].map(time), ["7 µs", "8.1 ms", "2.50 s"]);
    }
}
