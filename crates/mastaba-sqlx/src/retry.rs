//! Transactions that lose against others are tried again.

use std::time::Duration;

use mastaba::{CommitError, Committed, RequestCache};
use sqlx::{Pool, SqlSafeStr, SqlStr};

use crate::begin::begin;
use crate::commit;
use crate::dialect::Dialect;
use crate::transaction::Transaction;

/// The pause after the first try; it doubles with each, up to the longest.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// Tries a whole transaction again where it lost against another one: a serialization failure, a deadlock, a file that is
/// busy ([`Dialect::is_conflict`]). Each try begins anew, also with what it collects.
///
/// ```
/// # #[cfg(not(feature = "sqlite"))] fn main() {}
/// # #[cfg(feature = "sqlite")]
/// # fn main() { tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # use mastaba::{BoxError, Cache, Region};
/// use mastaba_sqlx::Retry;
///
/// # let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
/// # let pool = options.connect("sqlite::memory:").await?;
/// # sqlx::raw_sql("create table account (id integer, balance integer); insert into account values (1, 7)")
/// #     .execute(&pool).await?;
/// # let cache = Cache::builder().region("objects", Region::memory()).build().await?;
/// let request = cache.request();
/// let committed = Retry::tries(3).begin_with("begin immediate").run(&request, &pool, async |tx| {
///     let update = "update account set balance = balance - 1 where id = 1 returning balance";
///     let balance: i64 = sqlx::query_scalar(update).fetch_one(&mut **tx).await?;
///     tx.clear("objects")?;
///     Ok::<_, BoxError>(balance)
/// });
/// assert_eq!(committed.await?.value, 6);
/// # Ok::<_, BoxError>(()) }).unwrap() }
/// ```
#[derive(Clone, Debug)]
pub struct Retry {
    tries: u32,
    statement: Option<SqlStr>,
}

impl Retry {
    /// So many tries at most, and at least one.
    #[must_use]
    pub fn tries(tries: u32) -> Self {
        Self { tries: tries.max(1), statement: None }
    }

    /// Begins each transaction with this statement: `begin isolation level serializable`, for example.
    #[must_use]
    pub fn begin_with(mut self, statement: impl SqlSafeStr) -> Self {
        self.statement = Some(statement.into_sql_str());
        self
    }

    /// Begins a transaction, runs `work` in it, and commits. Where a statement or the commit has lost against another
    /// transaction, all of that again, after a short pause.
    ///
    /// A conflict is seen in the statements that run through the transaction, whatever `work` makes of their errors; not in
    /// those of a plain connection. A commit of unknown outcome is not tried again: it may have happened. Nothing of a try
    /// that failed is voided. Dropping the future rolls back what is open; a commit that was begun goes to its end.
    ///
    /// # Errors
    /// Those of the last try: of its beginning, of `work`, or of its commit.
    pub async fn run<DB: Dialect, T, E>(
        self,
        request: &RequestCache,
        pool: &Pool<DB>,
        mut work: impl AsyncFnMut(&mut Transaction<DB>) -> Result<T, E>,
    ) -> Result<Committed<T>, E>
    where
        E: From<sqlx::Error> + From<CommitError<sqlx::Error>>,
    {
        let mut tried = 1;
        loop {
            let (error, conflict) = match begin(request, pool, self.statement.clone()).await {
                Err(error) => {
                    let conflict = DB::is_conflict(&error);
                    (error.into(), conflict)
                }
                Ok(mut tx) => match work(&mut tx).await {
                    Err(error) => {
                        let conflict = tx.conflict();
                        // its locks are let go before the next try begins; that the connection is lost changes nothing
                        let _ = tx.rollback().await;
                        (error, conflict)
                    }
                    Ok(value) => match commit::run(tx.into_counted()).await {
                        Ok(committed) => return Ok(committed.map(|()| value)),
                        Err(error) => {
                            let lost = matches!(&error, CommitError::RolledBack(failed) if failed.conflict);
                            (error.map(|failed| failed.error).into(), lost)
                        }
                    },
                },
            };
            if !conflict || tried >= self.tries {
                return Err(error);
            }
            let pause = PAUSE.saturating_mul(1 << (tried - 1).min(10)).min(LONGEST);
            // two that have met do not come back at the same time
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            tried += 1;
        }
    }
}
