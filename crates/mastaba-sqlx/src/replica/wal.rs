//! PostgreSQL: a place in the write-ahead log.

use std::time::Duration;

use mastaba::Positions;
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

/// Insert, and not `pg_current_wal_lsn()`: with `synchronous_commit = off` a commit is seen by everybody before it is
/// written.
const OF_WRITER: &str = "select pg_current_wal_insert_lsn()::text";

/// Null, and so not true, where nothing was ever replayed: that one is no standby.
const REACHED: &str =
    "select coalesce(pg_is_in_recovery() and pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)";

/// A standby that is behind is asked again after so long.
const STEP: Duration = Duration::from_millis(1);

/// Compares the write-ahead logs of a PostgreSQL and its standby (streaming replication), version 10 or later, for
/// [`Replicated::checked_by`](mastaba::Replicated::checked_by). Needs no privilege.
///
/// What it costs, and what is done about a standby that is behind or does not answer: [`Checked`](mastaba::Checked).
///
/// With `synchronous_commit = off` a commit reaches the standby up to three `wal_writer_delay` later, and until then what is
/// loaded comes from the writer.
///
/// ```no_run
/// # async fn example() -> Result<(), sqlx::Error> {
/// use mastaba::{Checked, LoadContext, Replicated, Rows, Source};
/// use mastaba_sqlx::Wal;
/// use sqlx::PgPool;
///
/// struct NameById(Checked<PgPool, Wal>);
///
/// impl Source for NameById {
///     type Key = i64;
///     type Value = String;
///     type Error = sqlx::Error;
///     const NAME: &'static str = "name.by_id";
///     const REGION: &'static str = "objects";
///
///     async fn load_many(&self, cx: &LoadContext<'_>, ids: &[i64]) -> sqlx::Result<Rows<Self>> {
///         let pool = self.0.pick(cx).await;
///         let select = sqlx::query_as("select id, name from account where id = any($1)");
///         Ok(select.bind(ids).fetch_all(pool).await?.into_iter().collect())
///     }
/// }
///
/// let (writer, reader) = (PgPool::connect("postgres://writer/shop").await?, PgPool::connect("postgres://reader/shop").await?);
/// let names = NameById(Replicated::consistent(writer, reader).checked_by(Wal));
/// # let _ = names; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Wal;

impl Positions<PgPool> for Wal {
    /// As PostgreSQL writes it: `0/3000060`.
    type Position = String;
    type Error = sqlx::Error;

    async fn of_writer(&self, writer: &PgPool) -> Result<String, sqlx::Error> {
        sqlx::query_scalar(OF_WRITER).fetch_one(writer).await
    }

    async fn reached(
        &self,
        reader: &PgPool,
        position: &String,
        within: Duration,
    ) -> Result<bool, sqlx::Error> {
        let until = Instant::now() + within;
        loop {
            let reached = sqlx::query_scalar(REACHED).bind(position).fetch_one(reader).await?;
            if reached || Instant::now() + STEP > until {
                return Ok(reached);
            }
            sleep(STEP).await;
        }
    }
}
