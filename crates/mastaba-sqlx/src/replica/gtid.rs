//! MariaDB: global transaction ids.

use std::time::Duration;

use mastaba::Positions;
use sqlx::MySqlPool;

const OF_WRITER: &str = "select cast(@@global.gtid_current_pos as char)";

/// 0 when it has come so far, -1 when it has not within the time.
const REACHED: &str = "select master_gtid_wait(?, ?)";

/// Compares the global transaction ids of a MariaDB and its replica, for
/// [`Replicated::checked_by`](mastaba::Replicated::checked_by). The writer has its binary log switched on. MySQL counts
/// otherwise: there the writer is read, and an event says so.
///
/// What it costs, and what is done about a replica that is behind or does not answer: [`Checked`](mastaba::Checked).
///
/// ```no_run
/// # async fn example() -> Result<(), sqlx::Error> {
/// use mastaba::Replicated;
/// use mastaba_sqlx::Gtid;
/// use sqlx::MySqlPool;
///
/// let (writer, reader) = (MySqlPool::connect("mysql://writer/shop").await?, MySqlPool::connect("mysql://reader/shop").await?);
/// let pools = Replicated::consistent(writer, reader).checked_by(Gtid);
/// # let _ = pools; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Gtid;

impl Positions<MySqlPool> for Gtid {
    /// As MariaDB writes it: `0-1-42`.
    type Position = String;
    type Error = sqlx::Error;

    async fn of_writer(&self, writer: &MySqlPool) -> Result<String, sqlx::Error> {
        let position: String = sqlx::query_scalar(OF_WRITER).fetch_one(writer).await?;
        if position.is_empty() {
            // to wait for nothing is to be there
            return Err(sqlx::Error::Configuration(
                "the writer has no binary log to tell its position by".into(),
            ));
        }
        Ok(position)
    }

    async fn reached(
        &self,
        reader: &MySqlPool,
        position: &String,
        within: Duration,
    ) -> Result<bool, sqlx::Error> {
        let waited = sqlx::query_scalar(REACHED).bind(position).bind(within.as_secs_f64());
        let waited: Option<i64> = waited.fetch_one(reader).await?;
        Ok(waited == Some(0))
    }
}
