//! The condition that finds the rows of many keys.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, DbBackend, Value};

/// The most values of one statement: SQLite takes 32,766, MySQL and MariaDB 65,535.
const MOST: usize = 16_384;

/// How many keys of so many columns one statement asks for.
pub(crate) fn most_keys(columns: usize, backend: DbBackend) -> usize {
    match backend {
        DbBackend::Postgres if cfg!(feature = "postgres") => usize::MAX, // an array is one value
        // a power of two, so that what is padded stays below
        _ => 1 << (MOST / columns.max(1)).max(1).ilog2(),
    }
}

/// That these columns hold one of these keys, each of which has as many values as there are columns.
///
/// The text of the statement is the same for any number of keys on PostgreSQL (an array per column), and one per power of
/// two elsewhere, where the last key is repeated: a connection keeps each text prepared, and has room for a hundred.
pub(crate) fn is_any_of<C: ColumnTrait>(columns: &[C], keys: Vec<Vec<Value>>, backend: DbBackend) -> Expr {
    #[cfg(feature = "postgres")]
    if backend == DbBackend::Postgres && !columns.iter().any(is_enum) {
        return in_arrays(columns, keys);
    }
    let mut keys = keys;
    if let Some(last) = keys.last().cloned() {
        keys.resize(keys.len().next_power_of_two(), last);
    }
    if let [column] = columns {
        let values = keys.into_iter().flatten().map(|value| column.save_as(Expr::val(value)));
        return Expr::col(column.as_column_ref()).is_in(values);
    }
    let left = Expr::tuple(columns.iter().map(|column| Expr::col(column.as_column_ref())));
    if backend == DbBackend::Sqlite {
        // it compares rows with those of a select alone
        let mut values = Query::select();
        values.expr(Expr::cust("*"));
        values.from_values(keys.into_iter().map(tuple), "keys");
        return left.in_subquery(values);
    }
    let saved = |(column, value): (&C, Value)| column.save_as(Expr::val(value));
    left.is_in(keys.into_iter().map(|key| Expr::tuple(columns.iter().zip(key).map(saved))))
}

/// As a select takes it from `values`.
fn tuple(key: Vec<Value>) -> sea_orm::sea_query::ValueTuple {
    sea_orm::sea_query::ValueTuple::Many(key)
}

/// Values of an enumeration travel as text, and an array of text is not compared with one.
#[cfg(feature = "postgres")]
fn is_enum<C: ColumnTrait>(column: &C) -> bool {
    use sea_orm::ColumnTypeTrait;

    column.def().get_enum_name().is_some()
}

#[cfg(feature = "postgres")]
fn in_arrays<C: ColumnTrait>(columns: &[C], keys: Vec<Vec<Value>>) -> Expr {
    use sea_orm::sea_query::Func;
    use sea_orm::sea_query::extension::postgres::PgFunc;

    let mut of_columns: Vec<Vec<Value>> = columns.iter().map(|_| Vec::with_capacity(keys.len())).collect();
    for key in keys {
        of_columns.iter_mut().zip(key).for_each(|(values, value)| values.push(value));
    }
    let mut arrays = columns.iter().zip(of_columns).map(|(column, values)| {
        let of = values.first().map_or(sea_orm::sea_query::ArrayType::Int, Value::array_type);
        column.save_array_as(Expr::val(Value::Array(of, Some(Box::new(values)))))
    });
    if let [column] = columns {
        let array = arrays.next().expect("an array for the column");
        return Expr::col(column.as_column_ref()).eq(PgFunc::any(array));
    }
    let mut rows = Query::select();
    rows.expr(Expr::cust("*"));
    rows.from_function(Func::cust("unnest").args(arrays), "keys");
    Expr::tuple(columns.iter().map(|column| Expr::col(column.as_column_ref()))).in_subquery(rows)
}
