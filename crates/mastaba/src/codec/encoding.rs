//! What a user may know of how a source's values are written.

use std::fmt;

use crate::entry::Format;

/// How the values of a source are written to the shared tier. See [`Cache::encoding_of`](crate::Cache::encoding_of).
///
/// It displays as a sentence's end: `with names (it asks for anything), schema 4c1a..`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoding {
    /// The format that entries have as a rule. A single value that leaves out a field is written with names in any case.
    pub format: Format,
    /// The fingerprint of the type and of [`Source::VERSION`](crate::Source::VERSION). Its lower 40 bits stand in entries of
    /// this format, with 8 bits for the [fixed tags](crate::Source::TAGS): an entry with others counts as a miss.
    pub schema: u64,
    /// Why values are written with names; `None` where they are not.
    pub why_named: Option<String>,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why_named {
            None => f.write_str("without names")?,
            Some(why) => write!(f, "with names ({why})")?,
        }
        write!(f, ", schema {:016x}", self.schema)
    }
}
