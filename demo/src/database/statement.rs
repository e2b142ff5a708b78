//! What differs between SQLite and Postgres: a select by many keys, and the values of a statement.

/// One select by key, written once: by one key, and by many in the dialect of each database.
pub(crate) struct Statement {
    /// By one key.
    pub(crate) single: &'static str,
    /// By the keys of a JSON array: SQLite has no arrays, but it has `json_each`.
    pub(crate) sqlite: &'static str,
    /// By the keys of an array.
    pub(crate) postgres: &'static str,
}

/// A [`Statement`] from its parts: `select .. from ..`, the column of the keys, and what follows.
macro_rules! by_key {
    ($select:literal, $column:literal) => {
        by_key!($select, $column, "")
    };
    ($select:literal, $column:literal, $tail:literal) => {
        $crate::database::Statement {
            single: concat!($select, " where ", $column, " = $1 ", $tail),
            sqlite: concat!($select, " where ", $column, " in (select value from json_each($1)) ", $tail),
            postgres: concat!($select, " where ", $column, " = any($1) ", $tail),
        }
    };
}
pub(crate) use by_key;

/// A value in a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'v> {
    Number(i64),
    MaybeNumber(Option<i64>),
    Text(&'v str),
    MaybeText(Option<&'v str>),
    Flag(bool),
}

/// Gives a query its values: the types of the two databases have nothing in common but their methods.
macro_rules! bound {
    ($query:expr, $values:expr) => {{
        let mut query = $query;
        for value in $values {
            query = match *value {
                Value::Number(number) => query.bind(number),
                Value::MaybeNumber(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::MaybeText(text) => query.bind(text),
                Value::Flag(flag) => query.bind(flag),
            };
        }
        query
    }};
}
pub(crate) use bound;

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        Self::MaybeNumber(number)
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<Option<&'v str>> for Value<'v> {
    fn from(text: Option<&'v str>) -> Self {
        Self::MaybeText(text)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
