//! Looks at a table when the cache is built.

use sqlx::{AssertSqlSafe, Column as _, Connection, SqlSafeStr, TypeInfo};

use super::Expected;
use crate::dialect::Dialect;

impl<DB: Dialect> Expected<DB> {
    /// Everything that is wrong with it, in a sentence each.
    ///
    /// Two statements that read no row.
    pub(crate) async fn check(&self, connection: &mut DB::Connection) -> Vec<String> {
        let Self { table: own, columns, uniques } = self;
        let table = own.name;
        let select = AssertSqlSafe(format!("select * from {}", own.quoted::<DB>())).into_sql_str();
        // PostgreSQL does not describe a statement anew whose table has changed since this connection prepared it
        if let Err(error) = connection.clear_cached_statements().await {
            return vec![format!("table {table} cannot be read: {error}")];
        }
        let there = match DB::describe(connection, select).await {
            Ok(described) => described.columns,
            Err(error) => return vec![format!("table {table} cannot be read: {error}")],
        };
        let mut problems = Vec::new();
        for column in columns {
            let Some(found) = there.iter().find(|found| DB::is_same_name(found.name(), column.name)) else {
                let known: Vec<_> = there.iter().map(sqlx::Column::name).collect();
                problems.push(format!(
                    "table {table} has no column {}; it has {}",
                    column.name,
                    known.join(", ")
                ));
                continue;
            };
            let type_info = found.type_info();
            // what is computed has none, on SQLite
            if !type_info.is_null() && !(column.fits)(type_info) {
                problems.push(format!(
                    "column {} of table {table} is {}, which a field of type {} cannot hold",
                    column.name,
                    type_info.name(),
                    column.rust
                ));
            }
        }
        match DB::unique_indexes(connection, table).await {
            Ok(None) => {} // a view has none, and may be unique all the same
            Ok(Some(indexes)) => {
                let missing = |of: &[&str]| {
                    let covers = |index: &Vec<String>| {
                        index.iter().all(|column| of.iter().any(|own| DB::is_same_name(column, own)))
                    };
                    !of.is_empty() && !indexes.iter().any(covers)
                };
                for of in std::iter::once(&own.key).chain(*uniques).filter(|of| missing(of)) {
                    let columns = of.join(", ");
                    problems.push(format!(
                        "table {table} has no primary key or unique index on ({columns}), so that two rows could \
                         have one key; create one, or make a list of it"
                    ));
                }
            }
            Err(error) => problems.push(format!("the indexes of table {table} cannot be read: {error}")),
        }
        problems
    }
}
