//! What is printed: as a table for people, or as JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::Value;

/// How wide a table is, whatever the terminal: it is pasted into tickets and pages.
const WIDTH: usize = 110;
/// How wide the names of a table are.
const NAMES: usize = 24;

/// Something that was found, in both forms.
pub(crate) struct Printed {
    table: String,
    json: Value,
}

impl Printed {
    pub(crate) fn new(table: Table, json: Value) -> Self {
        Self { table: table.0, json }
    }

    pub(crate) fn write(&self, json: bool) {
        let text = match json {
            true => format!("{:#}\n", self.json),
            false => self.table.clone(),
        };
        // whoever reads may have gone
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// Names and what they have, one per line, under headings.
#[derive(Default)]
pub(crate) struct Table(String);

impl Table {
    /// A line that begins a part.
    pub(crate) fn heading(&mut self, text: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        let _ = writeln!(self.0, "{text}");
    }

    pub(crate) fn row(&mut self, name: &str, text: &str) {
        let first = format!("  {name:<NAMES$}");
        let later = " ".repeat(NAMES + 2);
        let wide = textwrap::Options::new(WIDTH).initial_indent(&first).subsequent_indent(&later);
        for line in textwrap::wrap(text, wide) {
            let _ = writeln!(self.0, "{}", line.trim_end());
        }
    }
}
