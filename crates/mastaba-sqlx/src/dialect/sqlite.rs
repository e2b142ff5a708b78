//! SQLite: errors by their result code.

use sqlx::Sqlite;
use sqlx::error::DatabaseError;

use super::Dialect;
use crate::select::Places;

const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const CONSTRAINT: u32 = 19;

impl Dialect for Sqlite {
    const PROBE: Option<&'static str> = None;
    const PLACES: Places = Places::Values;
    const QUOTE: char = '"';

    /// With these the transaction stays open, and is rolled back after them. What concerns the disk may have been
    /// committed.
    fn is_rolled_back(error: &sqlx::Error) -> bool {
        primary(error).is_some_and(|code| [BUSY, LOCKED, CONSTRAINT].contains(&code))
    }

    fn is_conflict(error: &sqlx::Error) -> bool {
        primary(error).is_some_and(|code| [BUSY, LOCKED].contains(&code))
    }

    fn ends_transaction(_: &sqlx::Error) -> bool {
        false // COMMIT says so then: there is no transaction
    }
}

/// The primary result code: the low byte of the extended one, which sqlx gives.
fn primary(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error().and_then(DatabaseError::code)?;
    Some(code.parse::<u32>().ok()? & 0xff)
}
