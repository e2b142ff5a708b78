//! PostgreSQL: errors by their SQLSTATE.

use sqlx::Postgres;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::Dialect;
use crate::select::Places;

/// Classes of errors that a statement, a trigger or a constraint raises: where COMMIT gives one of them, it was about to
/// run what is deferred, and had committed nothing. What is missing here (a connection, 08; a shutdown, 57P0x; resources,
/// 53; the system, 58; internal errors, XX) may come after the commit, too.
const OF_STATEMENTS: [&str; 15] =
    ["09", "21", "22", "23", "25", "27", "2B", "2F", "38", "39", "3B", "40", "42", "44", "P0"];

impl Dialect for Postgres {
    // in a transaction that has failed every statement but ROLLBACK fails
    const PROBE: Option<&'static str> = Some("select 1");
    const PLACES: Places = Places::Arrays;
    const QUOTE: char = '"';

    fn is_rolled_back(error: &sqlx::Error) -> bool {
        let Some(error) = of_postgres(error) else { return false };
        let code = error.code();
        let class = code.get(..2).unwrap_or_default();
        match code {
            // "statement completion unknown", in which the database says that it does not know
            "40003" => false,
            // a lock that a deferred trigger did not get, and its time-out
            "55P03" | "57014" => error.severity() == PgSeverity::Error,
            // the session had been idle for too long: it was ended before COMMIT reached it
            "25P03" => true,
            _ => error.severity() == PgSeverity::Error && OF_STATEMENTS.contains(&class),
        }
    }

    fn is_conflict(error: &sqlx::Error) -> bool {
        // serialization failure, deadlock
        of_postgres(error).is_some_and(|error| matches!(error.code(), "40001" | "40P01"))
    }

    fn ends_transaction(_: &sqlx::Error) -> bool {
        false // it goes on to refuse statements by itself
    }
}

fn of_postgres(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}
