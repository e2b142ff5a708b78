//! What each database says of the indexes of a table.

use std::future::Future;

use sqlx::Database;

/// Where a database writes down what its tables are like.
#[doc(hidden)]
pub trait Catalog: Database {
    /// The columns of each unique index, and of the primary key, that holds for all rows; `None` if it is not a table.
    fn unique_indexes(
        connection: &mut Self::Connection,
        table: &'static str,
    ) -> impl Future<Output = sqlx::Result<Option<Vec<Vec<String>>>>> + Send;

    /// Whether two names are of one column.
    fn is_same_name(one: &str, other: &str) -> bool {
        one.eq_ignore_ascii_case(other)
    }
}

/// Rows of an index and a column, by index.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
fn by_index(rows: Vec<(String, Option<String>)>) -> Vec<Vec<String>> {
    let mut indexes: Vec<(String, Vec<Option<String>>)> = Vec::new();
    for (index, column) in rows {
        match indexes.last_mut().filter(|(last, _)| *last == index) {
            Some((_, columns)) => columns.push(column),
            None => indexes.push((index, vec![column])),
        }
    }
    // an expression has no column, and what is unique in it is not in its other columns
    indexes.into_iter().filter_map(|(_, columns)| columns.into_iter().collect()).collect()
}

#[cfg(feature = "postgres")]
impl Catalog for sqlx::Postgres {
    async fn unique_indexes(
        connection: &mut sqlx::PgConnection,
        table: &'static str,
    ) -> sqlx::Result<Option<Vec<Vec<String>>>> {
        // 'r' and 'p': tables, and those in partitions
        let is_table = sqlx::query_scalar::<_, Option<bool>>(
            "select relkind in ('r', 'p') from pg_class where oid = to_regclass($1)",
        );
        let quoted: Vec<_> = table.split('.').map(|part| format!("\"{part}\"")).collect();
        let quoted = quoted.join(".");
        if is_table.bind(&quoted).fetch_optional(&mut *connection).await?.flatten() != Some(true) {
            return Ok(None);
        }
        let indexes = "select array_agg(a.attname::text order by k.n) from pg_index i \
                       cross join unnest(i.indkey::int2[]) with ordinality k(attnum, n) \
                       left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum and k.attnum > 0 \
                       where i.indrelid = to_regclass($1) and i.indisunique and i.indpred is null and i.indisvalid \
                       and k.n <= i.indnkeyatts group by i.indexrelid having bool_and(a.attname is not null)";
        sqlx::query_scalar(indexes).bind(&quoted).fetch_all(connection).await.map(Some)
    }

    fn is_same_name(one: &str, other: &str) -> bool {
        one == other
    }
}

#[cfg(feature = "mysql")]
impl Catalog for sqlx::MySql {
    async fn unique_indexes(
        connection: &mut sqlx::MySqlConnection,
        table: &'static str,
    ) -> sqlx::Result<Option<Vec<Vec<String>>>> {
        let (schema, table) = match table.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, table),
        };
        let is_table = "select 1 from information_schema.tables where table_schema = coalesce(?, database()) and \
                        table_name = ? and table_type = 'BASE TABLE'";
        let found: Option<i64> =
            sqlx::query_scalar(is_table).bind(schema).bind(table).fetch_optional(&mut *connection).await?;
        if found.is_none() {
            return Ok(None);
        }
        // a part of a column is unique: so is the whole
        let indexes = "select cast(index_name as char), cast(column_name as char) from information_schema.statistics \
                       where table_schema = coalesce(?, database()) and table_name = ? and non_unique = 0 \
                       order by index_name, seq_in_index";
        let rows = sqlx::query_as(indexes).bind(schema).bind(table).fetch_all(connection).await?;
        Ok(Some(by_index(rows)))
    }
}

#[cfg(feature = "sqlite")]
impl Catalog for sqlx::Sqlite {
    async fn unique_indexes(
        connection: &mut sqlx::SqliteConnection,
        table: &'static str,
    ) -> sqlx::Result<Option<Vec<Vec<String>>>> {
        let (schema, table) = match table.split_once('.') {
            Some((schema, table)) => (schema, table),
            None => ("main", table),
        };
        let is_table = "select 1 from pragma_table_list(?) where schema = ? and type = 'table'";
        let found: Option<i64> =
            sqlx::query_scalar(is_table).bind(table).bind(schema).fetch_optional(&mut *connection).await?;
        if found.is_none() {
            return Ok(None);
        }
        let key = "select name from pragma_table_info(?, ?) where pk > 0 order by pk";
        let key: Vec<String> =
            sqlx::query_scalar(key).bind(table).bind(schema).fetch_all(&mut *connection).await?;
        let indexes = "select l.name, i.name from pragma_index_list(?, ?) l, pragma_index_info(l.name, ?) i \
                       where l.\"unique\" = 1 and l.partial = 0 order by l.name, i.seqno";
        let indexes =
            sqlx::query_as(indexes).bind(table).bind(schema).bind(schema).fetch_all(connection).await?;
        let mut indexes = by_index(indexes);
        indexes.extend((!key.is_empty()).then_some(key));
        Ok(Some(indexes))
    }
}
