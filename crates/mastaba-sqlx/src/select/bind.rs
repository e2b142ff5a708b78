//! How keys are bound to the statement of each database.

use mastaba::Key;
use sqlx::error::BoxDynError;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
use sqlx::{Arguments, Encode, Type};
use sqlx::{Database, FromRow, SqlStr};

use super::statement::Statement;

/// A key of one column.
#[derive(Debug)]
pub struct One;
/// A key of two columns: a pair.
#[derive(Debug)]
pub struct Two;
/// A key of three columns.
#[derive(Debug)]
pub struct Three;
/// A key of four columns.
#[derive(Debug)]
pub struct Four;

/// A key that a statement of this database can be asked by: a type that sqlx encodes, or a tuple of up to four of them.
///
/// It is here to be named in bounds, and nobody else implements it. A type of one's own has it by `#[derive(sqlx::Type)]`
/// with `#[sqlx(transparent)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a select from this database",
    note = "a key is a type that sqlx encodes for the database (for PostgreSQL in arrays, too), or a tuple of up to four; \
            a type of your own gets there by `#[derive(sqlx::Type)] #[sqlx(transparent)]`"
)]
pub trait Bind<DB: Database, Shape>: Key {
    /// How many columns it has.
    #[doc(hidden)]
    const COLUMNS: usize;

    /// How many keys one statement takes at most.
    #[doc(hidden)]
    const MOST: usize;

    /// The statement for these keys, and its arguments.
    #[doc(hidden)]
    fn bind(statement: &Statement, keys: &[Self]) -> Result<(SqlStr, DB::Arguments), BoxDynError>;
}

/// What a row of this database is read as: whatever has [`FromRow`](sqlx::FromRow).
///
/// It is here to be named in bounds, and nobody else implements it. (Two bounds with a lifetime that come to the same, of a
/// key and of a relation with such a key, are more than the compiler can tell apart.)
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not read from a row of this database",
    note = "add `#[derive(sqlx::FromRow)]` to it; of each of its fields sqlx has to know the type"
)]
pub trait ReadFrom<DB: Database>: Sized {
    #[doc(hidden)]
    fn read(row: &DB::Row) -> sqlx::Result<Self>;
}

impl<DB: Database, R: for<'r> FromRow<'r, DB::Row>> ReadFrom<DB> for R {
    fn read(row: &DB::Row) -> sqlx::Result<Self> {
        R::from_row(row)
    }
}

/// How many keys of so many columns a list of marks has at most: SQLite takes 32,766 marks, MySQL and MariaDB 65,535. A power
/// of two, so that what is padded stays below.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
const fn most(columns: usize) -> usize {
    1 << (16_384 / columns).ilog2()
}

/// `value` for all of them, repeated up to a power of two with the last one.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
fn padded<T>(values: &[T]) -> impl Iterator<Item = &T> {
    let room = values.len().next_power_of_two();
    values.iter().chain(values.last().into_iter().cycle()).take(room)
}

#[cfg(feature = "postgres")]
mod postgres {
    use sqlx::Postgres;
    use sqlx::postgres::{PgArguments, PgHasArrayType};

    use super::*;

    impl<K> Bind<Postgres, One> for K
    where
        K: Key + for<'q> Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType,
    {
        const COLUMNS: usize = 1;
        const MOST: usize = usize::MAX; // an array is one argument

        fn bind(statement: &Statement, keys: &[Self]) -> Result<(SqlStr, PgArguments), BoxDynError> {
            let mut arguments = PgArguments::default();
            Arguments::add(&mut arguments, keys)?;
            Ok((statement.with_arrays(1), arguments))
        }
    }

    macro_rules! tuples {
        ($($shape:ident $columns:literal: $($part:ident $at:tt)*;)*) => {$(
            impl<$($part),*> Bind<Postgres, $shape> for ($($part,)*)
            where
                $($part: Key + for<'q> Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType,)*
            {
                const COLUMNS: usize = $columns;
                const MOST: usize = usize::MAX;

                fn bind(statement: &Statement, keys: &[Self]) -> Result<(SqlStr, PgArguments), BoxDynError> {
                    let mut arguments = PgArguments::default();
                    $(Arguments::add(&mut arguments, keys.iter().map(|key| key.$at.clone()).collect::<Vec<$part>>())?;)*
                    Ok((statement.with_arrays($columns), arguments))
                }
            }
        )*};
    }

    tuples! {
        Two 2: A 0 B 1;
        Three 3: A 0 B 1 C 2;
        Four 4: A 0 B 1 C 2 D 3;
    }
}

/// For databases that are given a list of marks.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
macro_rules! marks {
    ($database:ty, $with:ident: $($shape:ident $columns:literal: $($part:ident $at:tt)*;)*) => {$(
        impl<$($part),*> Bind<$database, $shape> for ($($part,)*)
        where
            $($part: Key + for<'q> Encode<'q, $database> + Type<$database>,)*
        {
            const COLUMNS: usize = $columns;
            const MOST: usize = most($columns);

            fn bind(
                statement: &Statement,
                keys: &[Self],
            ) -> Result<(SqlStr, <$database as Database>::Arguments), BoxDynError> {
                let mut arguments = <$database as Database>::Arguments::default();
                for key in padded(keys) {
                    $(Arguments::add(&mut arguments, &key.$at)?;)*
                }
                Ok((statement.$with(keys.len().next_power_of_two(), $columns), arguments))
            }
        }
    )*};
}

#[cfg(feature = "mysql")]
mod mysql {
    use sqlx::MySql;
    use sqlx::mysql::MySqlArguments;

    use super::*;

    impl<K> Bind<MySql, One> for K
    where
        K: Key + for<'q> Encode<'q, MySql> + Type<MySql>,
    {
        const COLUMNS: usize = 1;
        const MOST: usize = most(1);

        fn bind(statement: &Statement, keys: &[Self]) -> Result<(SqlStr, MySqlArguments), BoxDynError> {
            let mut arguments = MySqlArguments::default();
            padded(keys).try_for_each(|key| Arguments::add(&mut arguments, key))?;
            Ok((statement.with_marks(keys.len().next_power_of_two(), 1), arguments))
        }
    }

    marks! {
        MySql, with_marks:
        Two 2: A 0 B 1;
        Three 3: A 0 B 1 C 2;
        Four 4: A 0 B 1 C 2 D 3;
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::any::Any;

    use sqlx::Sqlite;
    use sqlx::sqlite::SqliteArguments;

    use super::*;

    impl<K> Bind<Sqlite, One> for K
    where
        K: Key + for<'q> Encode<'q, Sqlite> + Type<Sqlite>,
    {
        const COLUMNS: usize = 1;
        const MOST: usize = most(1);

        fn bind(statement: &Statement, keys: &[Self]) -> Result<(SqlStr, SqliteArguments), BoxDynError> {
            let mut arguments = SqliteArguments::default();
            if let Some(json) = in_json(keys) {
                Arguments::add(&mut arguments, json?)?;
                return Ok((statement.with_json(), arguments));
            }
            padded(keys).try_for_each(|key| Arguments::add(&mut arguments, key))?;
            Ok((statement.with_marks(keys.len().next_power_of_two(), 1), arguments))
        }
    }

    /// Keys whose types stand in JSON as they do in SQLite. Any other type may be encoded by sqlx as something that its
    /// JSON does not show, bytes for example, and would then find nothing.
    fn in_json<K: Key>(keys: &[K]) -> Option<Result<String, BoxDynError>> {
        let known = |key: &K| {
            let key: &dyn Any = key;
            match key.downcast_ref::<String>() {
                // the JSON of SQLite ends there
                Some(text) => !text.contains('\0'),
                None => key.is::<i64>() || key.is::<i32>() || key.is::<i16>() || key.is::<u32>(),
            }
        };
        keys.iter().all(known).then(|| serde_json::to_string(keys).map_err(Into::into))
    }

    marks! {
        Sqlite, with_values:
        Two 2: A 0 B 1;
        Three 3: A 0 B 1 C 2;
        Four 4: A 0 B 1 C 2 D 3;
    }
}
