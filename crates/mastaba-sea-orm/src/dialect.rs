//! What the errors of each database mean for a transaction: as `mastaba-sqlx` knows them.

use sea_orm::{DbBackend, DbErr};

/// What an error says of the transaction that it came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// Of COMMIT: it is certain that nothing was committed.
    pub(crate) rolled_back: bool,
    /// The whole transaction may succeed when it is tried again.
    pub(crate) conflict: bool,
    /// Of a statement: the database has ended the transaction, and would commit each further statement by itself.
    pub(crate) ends: bool,
}

/// What is not known of an error is not said: a write is published then, which costs loads and no stale value.
pub(crate) fn meaning(backend: DbBackend, error: &DbErr) -> Meaning {
    match backend {
        #[cfg(feature = "postgres")]
        DbBackend::Postgres => of::<sea_orm::sqlx::Postgres>(error),
        #[cfg(feature = "mysql")]
        DbBackend::MySql => of::<sea_orm::sqlx::MySql>(error),
        #[cfg(feature = "sqlite")]
        DbBackend::Sqlite => of::<sea_orm::sqlx::Sqlite>(error),
        _ => {
            let _ = error;
            Meaning::default()
        }
    }
}

/// A statement that fails where COMMIT would roll back and not say so.
pub(crate) fn probe(backend: DbBackend) -> Option<&'static str> {
    match backend {
        #[cfg(feature = "postgres")]
        DbBackend::Postgres => <sea_orm::sqlx::Postgres as mastaba_sqlx::Dialect>::PROBE,
        _ => None,
    }
}

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
fn of<DB: mastaba_sqlx::Dialect>(error: &DbErr) -> Meaning {
    use sea_orm::RuntimeErr;

    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else {
        return Meaning::default();
    };
    let RuntimeErr::SqlxError(error) = cause else { return Meaning::default() };
    Meaning {
        rolled_back: DB::is_rolled_back(error),
        conflict: DB::is_conflict(error),
        ends: DB::ends_transaction(error),
    }
}
