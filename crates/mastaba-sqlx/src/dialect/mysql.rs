//! MySQL and MariaDB: errors by their number.

use sqlx::MySql;
use sqlx::mysql::MySqlDatabaseError;

use super::Dialect;
use crate::select::Places;

/// A deadlock; with Galera also a conflict with another node, which COMMIT finds.
const DEADLOCK: u16 = 1213;
/// A lock was not got in time. The transaction goes on, unless `innodb_rollback_on_timeout` is set.
const LOCK_WAIT: u16 = 1205;
/// A row has changed since the snapshot of the transaction (MariaDB, `innodb_snapshot_isolation`).
const CHANGED: u16 = 1020;
/// The server has become read-only.
const READ_ONLY: [u16; 2] = [1290, 1836];
/// Group replication found a conflict.
const BY_PLUGIN: u16 = 3101;

impl Dialect for MySql {
    const PROBE: Option<&'static str> = None;
    const PLACES: Places = Places::Marks;
    const QUOTE: char = '`';

    fn is_rolled_back(error: &sqlx::Error) -> bool {
        let known = |number| [DEADLOCK, BY_PLUGIN].contains(&number) || READ_ONLY.contains(&number);
        number(error).is_some_and(known)
    }

    fn is_conflict(error: &sqlx::Error) -> bool {
        number(error).is_some_and(|number| [DEADLOCK, LOCK_WAIT, CHANGED, BY_PLUGIN].contains(&number))
    }

    fn ends_transaction(error: &sqlx::Error) -> bool {
        number(error).is_some_and(|number| [DEADLOCK, CHANGED].contains(&number))
    }
}

fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}
