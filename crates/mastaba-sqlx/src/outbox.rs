//! An outbox: what writes have to void, in a table of the database, for those that die before they have voided it.
//!
//! A row is written in the transaction of its write, so it is there if and only if the write is committed. The writer voids
//! by itself, as always, and deletes its rows once the shared tier has confirmed. What is still there after a short grace
//! was left behind: a *relay*, in any process, voids it, and deletes it.

mod held;
mod relay;
#[cfg_attr(
    not(any(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(unused_imports, dead_code, reason = "there is no database")
)]
pub(crate) mod statements;
mod sweep;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mastaba::{Cache, Outgoing, RequestCache, Settled, Write};
use sqlx::Pool;

pub use self::relay::Relay;
use self::statements::ROWS;
use self::sweep::Sweeper;
use crate::dialect::Dialect;

/// The name of the table, unless another one is given.
pub const TABLE: &str = "mastaba_outbox";

const GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_secs(1);

/// The statement that makes the table of an outbox, for a migration. A name may have its schema before a dot.
///
/// ```
/// # #[cfg(feature = "sqlite")] {
/// let ddl = mastaba_sqlx::outbox::ddl::<sqlx::Sqlite>(mastaba_sqlx::outbox::TABLE);
/// assert!(ddl.starts_with("create table if not exists \"mastaba_outbox\" ("));
/// # }
/// ```
#[must_use]
pub fn ddl<DB: Dialect>(table: &str) -> String {
    DB::ddl(table)
}

/// An outbox in a database: a table, and who writes and relays its rows. Clones share it.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::WriteMode;
/// use mastaba_sqlx::Outbox;
/// use mastaba_test::world::World;
/// # use sqlx::sqlite::SqlitePoolOptions;
///
/// # let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// let outbox = Outbox::new(&pool);
/// assert!(outbox.check().await.unwrap_err().to_string().contains("create table")); // says what to do
/// sqlx::query(sqlx::AssertSqlSafe(outbox.ddl())).execute(&pool).await?; // in a migration
///
/// let world = World::with(|region| region.write_mode(WriteMode::Degrade)).await;
/// let relay = outbox.relay(&world.cache).await?; // keep it: it ends when it is dropped
/// // from here on `tx.commit()` writes rows, where the write concerns a region of mode `Degrade`
/// relay.stop().await;
/// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
///
/// It costs one statement per write, before COMMIT, and one after it in the background, which many writes share. The rows
/// of a write whose invalidation was not confirmed at the first attempt stay, and are handed over to the relays at once.
pub struct Outbox<DB: Dialect> {
    core: Arc<Core<DB>>,
}

struct Core<DB: Dialect> {
    pool: Pool<DB>,
    table: String,
    grace: Duration,
    poll: Duration,
    sweeper: Sweeper,
}

impl<DB: Dialect> Outbox<DB> {
    /// An outbox in the table [`TABLE`] of the pool's database. Makes no trip.
    #[must_use]
    pub fn new(pool: &Pool<DB>) -> Self {
        Self::of(pool.clone(), TABLE.to_owned(), GRACE, POLL)
    }

    fn of(pool: Pool<DB>, table: String, grace: Duration, poll: Duration) -> Self {
        Self { core: Arc::new(Core { pool, table, grace, poll, sweeper: Sweeper::default() }) }
    }

    /// In another table; it may have its schema before a dot. One table serves one namespace: a relay leaves alone what is
    /// of regions that its cache does not have.
    #[must_use]
    pub fn table(self, table: impl Into<String>) -> Self {
        Self::of(self.core.pool.clone(), table.into(), self.core.grace, self.core.poll)
    }

    /// For how long a relay leaves a new row alone, because its writer is about to void it. Default: 5 seconds; longer than
    /// an invalidation takes, or relays do the work of every write a second time.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self::of(self.core.pool.clone(), self.core.table.clone(), grace, self.core.poll)
    }

    /// How often a relay looks for rows that are due, which is one small statement. Default: 1 second.
    #[must_use]
    pub fn poll(self, poll: Duration) -> Self {
        Self::of(self.core.pool.clone(), self.core.table.clone(), self.core.grace, poll)
    }

    /// The statement that makes the table. See [`ddl`].
    #[must_use]
    pub fn ddl(&self) -> String {
        ddl::<DB>(&self.core.table)
    }

    /// Whether the table is there. One trip.
    ///
    /// # Errors
    /// If it is not, or lacks a column, or the database does not answer; the sentence has the statement that makes it.
    pub async fn check(&self) -> Result<(), NoOutbox> {
        let looked = async {
            let mut connection = self.core.pool.acquire().await?;
            DB::look(&mut connection, &self.core.table).await
        };
        let (table, ddl) = (self.core.table.clone(), self.ddl());
        looked.await.map_err(|cause| NoOutbox(Lack::Table { table, ddl, cause }))
    }

    /// From now on every [`Transaction::commit`](crate::Transaction::commit) through this cache on this kind of database
    /// writes rows, where the write concerns a region of mode [`Degrade`](mastaba::WriteMode::Degrade), or the transaction
    /// [asks for it](crate::Counted::with_outbox). Makes no trip. [`relay`](Outbox::relay) does this, too.
    ///
    /// A cache has one outbox per kind of database, the last one.
    pub fn attach(&self, cache: &Cache) {
        cache.stash().insert(self.clone());
    }

    /// The one that was attached to the cache of a request.
    pub(crate) fn attached(request: &RequestCache) -> Option<Self> {
        request.cache().stash().get::<Self>().map(|outbox| (*outbox).clone())
    }

    /// Attaches it, and starts a task on this runtime that voids what writes have left behind: of any process, this one or
    /// others. One per process is enough; those of several processes share the work.
    ///
    /// The task looks every [`poll`](Outbox::poll); on PostgreSQL it also has a connection of its own that is notified when a
    /// writer hands rows over. It ends when its handle is dropped, and when the cache is closed. While the database does
    /// not answer it tries again with growing pauses and says so once ([`Event::OutboxAway`](mastaba::Event::OutboxAway)).
    /// A row that cannot be read, or is of a region that is not in the cache, stays
    /// ([`Event::OutboxUnread`](mastaba::Event::OutboxUnread)).
    ///
    /// # Errors
    /// As [`check`](Outbox::check).
    pub async fn relay(&self, cache: &Cache) -> Result<Relay, NoOutbox> {
        self.check().await?;
        self.attach(cache);
        Ok(relay::start(self.clone(), cache.clone()))
    }

    /// Writes down what a write has collected up to now, in its transaction, for a write that is committed without this
    /// crate's [`Transaction`](crate::Transaction): right before `write.commit(transaction.commit())`.
    ///
    /// One statement per megabyte of keys; none where nothing was collected that anything keeps. The write deletes the rows
    /// once everything is confirmed.
    ///
    /// # Errors
    /// Those of the insert: roll back.
    pub async fn write_down(&self, write: &Write, connection: &mut DB::Connection) -> sqlx::Result<()> {
        self.rows(write).insert(connection).await
    }

    /// The rows of a write, and what becomes of them afterwards.
    pub(crate) fn rows(&self, write: &Write) -> OutboxRows<DB> {
        let bodies: Vec<_> = write.outgoing().iter().map(Outgoing::to_bytes).collect();
        let number = fastrand::i64(..);
        if !bodies.is_empty() {
            let outbox = self.clone();
            write.afterwards(move |settled| async move {
                match settled {
                    Settled::Confirmed => outbox.delete(number).await,
                    Settled::Unconfirmed => outbox.hand_over(number).await,
                    // rolled back: there are none; unknown: if there are some, or will be, they are for a relay
                    _ => {}
                }
            });
        }
        OutboxRows { outbox: self.clone(), number, bodies }
    }

    /// What fails here stays for a relay.
    async fn delete(&self, write: i64) {
        let core = &self.core;
        let Some(sweeping) = core.sweeper.add(write) else { return };
        while let Some(writes) = sweeping.next() {
            let deleted = async {
                let mut connection = core.pool.acquire().await?;
                DB::sweep(&mut connection, &core.table, &writes).await
            };
            let _: Option<sqlx::Result<()>> = tokio::time::timeout(sweep::PATIENCE, deleted).await.ok();
        }
    }

    async fn hand_over(&self, write: i64) {
        let core = &self.core;
        let handed = async {
            let mut connection = core.pool.acquire().await?;
            DB::hand_over(&mut connection, &core.table, write).await
        };
        // what fails here is taken after its grace
        let _: Option<sqlx::Result<()>> = tokio::time::timeout(sweep::PATIENCE, handed).await.ok();
    }
}

/// What a write leaves in the table.
pub(crate) struct OutboxRows<DB: Dialect> {
    outbox: Outbox<DB>,
    number: i64,
    bodies: Vec<Vec<u8>>,
}

impl<DB: Dialect> OutboxRows<DB> {
    /// How many statements write them down.
    pub(crate) fn statements(&self) -> usize {
        self.bodies.len().div_ceil(ROWS)
    }

    pub(crate) async fn insert(&self, connection: &mut DB::Connection) -> sqlx::Result<()> {
        let core = &self.outbox.core;
        let grace_ms = i64::try_from(core.grace.as_millis()).unwrap_or(i64::MAX / 4);
        let pieces = i32::try_from(self.bodies.len()).unwrap_or(i32::MAX);
        let mut first = 0;
        for bodies in self.bodies.chunks(ROWS) {
            DB::insert(connection, &core.table, self.number, (first, pieces), bodies, grace_ms).await?;
            first += i32::try_from(bodies.len()).unwrap_or(0);
        }
        Ok(())
    }
}

impl<DB: Dialect> Clone for Outbox<DB> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

impl<DB: Dialect> fmt::Debug for Outbox<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("table", &self.core.table).finish_non_exhaustive()
    }
}

/// There is no outbox to write to. See [`Outbox::check`].
pub struct NoOutbox(Lack);

enum Lack {
    /// The table is not there, or not as it should be, or its database does not answer.
    Table { table: String, ddl: String, cause: sqlx::Error },
    /// The cache was given none.
    Attached { database: &'static str },
}

impl NoOutbox {
    pub(crate) fn not_attached<DB: Dialect>() -> Self {
        Self(Lack::Attached { database: DB::NAME })
    }
}

impl fmt::Display for NoOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Lack::Table { table, ddl, cause: cause @ sqlx::Error::Database(_) } => write!(
                f,
                "the outbox {table} cannot be used ({cause}); this makes its table, in a migration for example:\n{ddl}"
            ),
            Lack::Table { table, cause, .. } => {
                write!(f, "the database of the outbox {table} does not answer: {cause}")
            }
            Lack::Attached { database } => write!(
                f,
                "the cache has no outbox on {database}: call `Outbox::relay`, or `Outbox::attach`, when the program starts"
            ),
        }
    }
}

/// As it reads.
impl fmt::Debug for NoOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for NoOutbox {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Lack::Table { cause, .. } => Some(cause),
            Lack::Attached { .. } => None,
        }
    }
}
