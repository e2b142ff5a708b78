//! A table whose rows, indexes and lists are sources: what `#[derive(Cached)]` says of a struct, and the SQL of it.

mod catalog;
mod check;

use mastaba::{List, Source};
use sqlx::Type;

pub(crate) use self::catalog::Catalog;
use crate::children::ChildFields;
use crate::dialect::Dialect;
use crate::select::{Bind, Collect, Looks, Places, Pools, ReadFrom, Select, Statement, at_most_one, lists};

/// A table, as the derive describes it.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// `post`, or `blog.post`.
    pub name: &'static str,
    /// The columns of its key.
    pub key: &'static [&'static str],
    /// The columns that are selected; `None` where a field has columns that only its type knows, and all of them are.
    pub columns: Option<&'static [&'static str]>,
    /// A condition on every row.
    pub filter: Option<&'static str>,
}

/// What a table has to be like.
pub struct Expected<DB: Dialect> {
    /// The table.
    pub table: Table,
    /// The columns that are known, with their types.
    pub columns: Vec<Column<DB>>,
    /// The columns of its unique indexes.
    pub uniques: &'static [&'static [&'static str]],
}

/// A column and the type of its field.
pub struct Column<DB: Dialect> {
    name: &'static str,
    /// The type of the field.
    rust: &'static str,
    fits: fn(&DB::TypeInfo) -> bool,
}

impl<DB: Dialect> Column<DB> {
    /// A column that is decoded as a `T`.
    #[must_use]
    pub fn of<T: Type<DB>>(name: &'static str, rust: &'static str) -> Self {
        Self { name, rust, fits: T::compatible }
    }
}

/// A list of rows that have a column in common.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// Its columns.
    pub of: &'static [&'static str],
    /// The columns that it is ordered by, as in SQL: `created_at desc`.
    pub order: &'static [(&'static str, &'static str)],
    /// How many keys it has at most.
    pub limit: usize,
    /// A condition on its rows.
    pub filter: Option<&'static str>,
}

impl Table {
    /// The rows, by their key.
    pub fn rows<DB, S, P, Shape>(
        self,
        pools: &P,
        expected: Expected<DB>,
        embeds: ChildFields<DB, S>,
        row: fn(S::Value) -> (S::Key, S::Value),
    ) -> Select<S>
    where
        DB: Dialect,
        S: Source<Value: ReadFrom<DB> + Unpin>,
        S::Key: Bind<DB, Shape>,
        P: Pools<DB>,
        Shape: Send + Sync + 'static,
    {
        let (columns, table) = (names::<DB>(self.selected()), self.quoted::<DB>());
        let sql = format!("select {columns} from {table} where {}", self.condition::<DB>(self.key, None));
        let collect = Collect { row, all: at_most_one::<S>, embeds: embeds.0 };
        Select::of(pools, Statement::new(&sql), Looks::AtTable(expected), collect)
    }

    /// An index: from its columns to the key of one row.
    pub fn index<DB, S, P, R, Shape>(
        self,
        pools: &P,
        of: &'static [&'static str],
        row: fn(R) -> (S::Key, S::Value),
    ) -> Select<S>
    where
        DB: Dialect,
        S: Source,
        S::Key: Bind<DB, Shape>,
        P: Pools<DB>,
        R: ReadFrom<DB> + Send + Unpin + 'static,
        Shape: Send + Sync + 'static,
    {
        let columns: Vec<_> = of.iter().chain(self.key).copied().collect();
        let (columns, table) = (names::<DB>(&columns), self.quoted::<DB>());
        let sql = format!("select {columns} from {table} where {}", self.condition::<DB>(of, None));
        Select::of(pools, Statement::new(&sql), Looks::Nowhere, Collect::new(row, at_most_one::<S>))
    }

    /// Lists of keys.
    pub fn list<DB, S, P, R, Shape>(
        self,
        pools: &P,
        list: &Listed,
        row: fn(R) -> (S::Key, <S::Rows as Source>::Key),
    ) -> Select<S>
    where
        DB: Dialect,
        S: List,
        S::Key: Bind<DB, Shape>,
        P: Pools<DB>,
        R: ReadFrom<DB> + Send + Unpin + 'static,
        Shape: Send + Sync + 'static,
    {
        let statement = self.lists::<DB>(list, self.key);
        // its columns are those of the table; a condition may be anything
        let looks = list.filter.or(self.filter).map_or(Looks::Nowhere, |_| Looks::AtStatement);
        Select::of(pools, statement, looks, Collect::new(row, lists::<S, _>))
    }

    /// The statement of lists: first what they go by, and then these columns.
    pub(crate) fn lists<DB: Dialect>(&self, list: &Listed, columns: &[&str]) -> Statement {
        match DB::PLACES {
            Places::Arrays => Statement::of_arrays(&self.each_list::<DB>(list, columns), list.of.len()),
            Places::Values | Places::Marks => Statement::new(&self.numbered_lists::<DB>(list, columns)),
        }
    }

    /// The statement of lists of whole rows.
    pub(crate) fn lists_of_rows<DB: Dialect>(&self, list: &Listed) -> Statement {
        self.lists::<DB>(list, self.selected())
    }

    /// A select of its own for each list, which reads no further in an index than the list is long.
    fn each_list<DB: Dialect>(&self, list: &Listed, columns: &[&str]) -> String {
        let of: Vec<_> = (1..=list.of.len()).map(|nth| format!("k.mastaba_k{nth}")).collect();
        let wanted: Vec<_> = (1..=list.of.len()).map(|nth| format!("mastaba_k{nth}")).collect();
        let joined = list.of.iter().zip(&of).map(|(column, key)| format!("{} = {key}", name::<DB>(column)));
        let condition = joined.collect::<Vec<_>>().join(" and ");
        let taken: Vec<_> = columns.iter().map(|column| format!("t.{}", name::<DB>(column))).collect();
        format!(
            "select {}, {} from unnest({{keys}}) as k({}) cross join lateral (select s.*, row_number() over () as \
             mastaba_n from (select {} from {} where {condition}{} order by {} limit {}) s) t order by t.mastaba_n",
            of.join(", "),
            taken.join(", "),
            wanted.join(", "),
            names::<DB>(columns),
            self.quoted::<DB>(),
            self.filters(list.filter),
            self.order::<DB>(list),
            list.limit,
        )
    }

    /// One select for all lists, whose rows are numbered within each.
    fn numbered_lists<DB: Dialect>(&self, list: &Listed, columns: &[&str]) -> String {
        let of = list.of.iter().enumerate().map(|(nth, column)| (*column, format!("mastaba_k{}", nth + 1)));
        let taken = columns.iter().map(|column| (*column, name::<DB>(column)));
        let all: Vec<_> = of.chain(taken).collect();
        let inner = all.iter().map(|(column, called)| match *column {
            "*" => format!("{}.*", self.quoted::<DB>()),
            column => format!("{} as {called}", name::<DB>(column)),
        });
        let inner: Vec<_> = inner.collect();
        let outer: Vec<_> = all.into_iter().map(|(_, called)| called).collect();
        format!(
            "select {} from (select {}, row_number() over (partition by {} order by {}) as mastaba_n from {} where {}) t \
             where mastaba_n <= {} order by mastaba_n",
            outer.join(", "),
            inner.join(", "),
            names::<DB>(list.of),
            self.order::<DB>(list),
            self.quoted::<DB>(),
            self.condition::<DB>(list.of, list.filter),
            list.limit,
        )
    }

    /// The order of a list, in which no two rows are equal.
    fn order<DB: Dialect>(&self, list: &Listed) -> String {
        let by = list.order.iter().map(|(column, way)| format!("{}{way}", name::<DB>(column)));
        let named = |key: &&&str| !list.order.iter().any(|(column, _)| *column == **key);
        let last = self.key.iter().filter(named).map(|column| name::<DB>(column));
        by.chain(last).collect::<Vec<_>>().join(", ")
    }

    fn condition<DB: Dialect>(&self, of: &[&str], filter: Option<&str>) -> String {
        let columns = match of {
            [column] => name::<DB>(column),
            columns => format!("({})", names::<DB>(columns)),
        };
        format!("{columns} in {{keys}}{}", self.filters(filter))
    }

    fn filters(&self, filter: Option<&str>) -> String {
        self.filter.into_iter().chain(filter).map(|filter| format!(" and ({filter})")).collect()
    }

    /// The columns of a whole row.
    fn selected(&self) -> &'static [&'static str] {
        self.columns.unwrap_or(&["*"])
    }

    fn quoted<DB: Dialect>(&self) -> String {
        self.name.split('.').map(name::<DB>).collect::<Vec<_>>().join(".")
    }
}

fn name<DB: Dialect>(name: &str) -> String {
    if name == "*" {
        return name.to_owned();
    }
    let quote = DB::QUOTE;
    format!("{quote}{}{quote}", name.replace(quote, &format!("{quote}{quote}")))
}

fn names<DB: Dialect>(columns: &[&str]) -> String {
    columns.iter().map(|column| name::<DB>(column)).collect::<Vec<_>>().join(", ")
}
