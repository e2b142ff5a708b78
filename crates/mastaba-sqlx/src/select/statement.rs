//! The text of a select, with a place for its keys.

use std::sync::{Arc, OnceLock};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::dialect::Dialect;

/// The place in the text.
const KEYS: &str = "{keys}";

/// How keys stand in a statement of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Places {
    /// `= any($1)`, `in (select * from unnest($1, $2))`: one array for each column of the key.
    Arrays,
    /// `in (select value from json_each(?))`, or `in (values (?, ?))`.
    Values,
    /// `in (?, ?, ?)`, padded to a power of two.
    Marks,
}

/// The text of a select, in pieces around its keys.
#[derive(Debug)]
pub struct Statement(SelectText);

#[derive(Debug)]
enum SelectText {
    Around {
        /// Up to, and without, the word `in`.
        before: Box<str>,
        after: Box<str>,
        /// The whole of it, where it is the same for any number of keys: made for the first load.
        same: OnceLock<SqlStr>,
    },
    /// It has its arrays in another place than behind an `in`.
    Whole(SqlStr),
}

impl Statement {
    /// # Panics
    /// If the place for the keys is not in it just once.
    pub(crate) fn new(sql: &str) -> Self {
        let mut pieces = sql.split(KEYS);
        let (Some(before), Some(after), None) = (pieces.next(), pieces.next(), pieces.next()) else {
            panic!("`in {{keys}}` has to stand in a select just once, in the place of its keys: {sql}");
        };
        let before = before.trim_end();
        let word = before.len().checked_sub(2).and_then(|at| before.split_at_checked(at));
        let Some((before, _)) = word.filter(|(before, word)| {
            word.eq_ignore_ascii_case("in")
                && !before.ends_with(|last: char| last.is_alphanumeric() || last == '_')
        }) else {
            panic!("`in` has to stand before `{{keys}}`: {sql}");
        };
        Self(SelectText::Around { before: before.into(), after: after.into(), same: OnceLock::new() })
    }

    /// A text that has its arrays where `{keys}` stands, and nowhere else.
    pub(crate) fn of_arrays(sql: &str, columns: usize) -> Self {
        let (before, after) = sql.split_once(KEYS).expect("a place for the keys");
        Self(SelectText::Whole(text(format!("{before}{}{after}", arrays(columns)))))
    }

    /// The text for one array for each column.
    pub(crate) fn with_arrays(&self, columns: usize) -> SqlStr {
        self.same(|| match columns {
            1 => "= any($1)".to_owned(),
            _ => format!("in (select * from unnest({}))", arrays(columns)),
        })
    }

    /// The text for one array of JSON, of keys of one column.
    #[cfg(feature = "sqlite")]
    pub(crate) fn with_json(&self) -> SqlStr {
        self.same(|| "in (select value from json_each(?))".to_owned())
    }

    /// The text for so many keys.
    pub(crate) fn with_marks(&self, keys: usize, columns: usize) -> SqlStr {
        let one = match columns {
            1 => "?".to_owned(),
            _ => format!("({})", vec!["?"; columns].join(", ")),
        };
        self.with(&format!("in ({})", vec![&*one; keys].join(", ")))
    }

    /// The text as it is sent for one key.
    pub(crate) fn example<DB: Dialect>(&self, columns: usize) -> SqlStr {
        match DB::PLACES {
            Places::Values if columns > 1 => self.with_values(1, columns),
            Places::Arrays => self.with_arrays(columns),
            Places::Values | Places::Marks => self.with_marks(1, columns),
        }
    }

    /// The text for so many keys of several columns, on SQLite, which takes no other list of rows.
    pub(crate) fn with_values(&self, keys: usize, columns: usize) -> SqlStr {
        let one = format!("({})", vec!["?"; columns].join(", "));
        self.with(&format!("in (values {})", vec![&*one; keys].join(", ")))
    }

    /// The text that is the same for any number of keys.
    fn same(&self, condition: impl FnOnce() -> String) -> SqlStr {
        match &self.0 {
            SelectText::Whole(whole) => whole.clone(),
            SelectText::Around { same, .. } => same.get_or_init(|| self.with(&condition())).clone(),
        }
    }

    fn with(&self, condition: &str) -> SqlStr {
        match &self.0 {
            SelectText::Around { before, after, .. } => text(format!("{before}{condition}{after}")),
            SelectText::Whole(_) => {
                unreachable!("a text that has its arrays in it has no place for a condition")
            }
        }
    }
}

/// The caller's text, and marks: no value stands in it.
fn text(sql: String) -> SqlStr {
    AssertSqlSafe(Arc::new(sql)).into_sql_str()
}

fn arrays(columns: usize) -> String {
    (1..=columns).map(|column| format!("${column}")).collect::<Vec<_>>().join(", ")
}
