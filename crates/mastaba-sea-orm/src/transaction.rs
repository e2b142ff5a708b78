//! A transaction, from its beginning to its end.

mod collecting;
mod connection;
mod savepoint;
mod writing;

use std::fmt;

use mastaba::{CommitError, Committed, RequestCache, Write};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

pub use self::savepoint::Savepoint;
pub use self::writing::ChangeError;
use crate::dialect::{meaning, probe};
use crate::observed::Sightings;

/// A transaction of the database that collects which rows it changes, and voids what stands under them once it is
/// committed.
///
/// It is a [`ConnectionTrait`], so that everything of SeaORM runs on it: `post::Entity::find().all(&tx)`. Each statement
/// counts in the [report](RequestCache::report) of the request, so that a budget holds for writes, too; BEGIN and COMMIT
/// are trips there without a statement.
///
/// ```
/// # #[cfg(not(feature = "sqlite"))] fn main() {}
/// # #[cfg(feature = "sqlite")]
/// # fn main() { tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # use mastaba::{Cache, Region};
/// # mod post {
/// #     use sea_orm::entity::prelude::*;
/// #     use serde::{Deserialize, Serialize};
/// #     #[derive(Clone, Debug, Serialize, Deserialize, DeriveEntityModel)]
/// #     #[sea_orm(table_name = "post")]
/// #     pub struct Model { #[sea_orm(primary_key)] pub id: i64, pub title: String }
/// #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// #     pub enum Relation {}
/// #     impl ActiveModelBehavior for ActiveModel {}
/// # }
/// use mastaba_sea_orm::{Begin, ById, Entities};
/// use sea_orm::ActiveValue::{Set, Unchanged};
/// # use sea_orm::{ConnectionTrait, ConnectOptions, Database};
/// # let mut options = ConnectOptions::new("sqlite::memory:");
/// # let db = Database::connect(options.max_connections(1).to_owned()).await?;
/// # db.execute_unprepared("create table post (id integer primary key, title text not null)").await?;
/// # db.execute_unprepared("insert into post values (1, 'One')").await?;
/// # let posts = ById::<post::Entity>::new(&db);
/// # let cache = Cache::builder().region("objects", Region::memory()).source(posts).build().await?;
/// let request = cache.request();
/// assert_eq!(request.entity::<post::Entity>(1).await?.unwrap().title, "One");
///
/// let tx = request.begin(&db).await?;
/// tx.update(post::ActiveModel { id: Unchanged(1), title: Set("Uno".to_owned()) }).await?;
/// tx.commit().await?;
///
/// assert_eq!(cache.request().entity::<post::Entity>(1).await?.unwrap().title, "Uno");
/// # Ok::<_, mastaba::BoxError>(()) }).unwrap() }
/// ```
///
/// * **Collecting** costs no trip. From then on the request reads these keys from the source and stores nothing of them.
///   Other requests go on with what was there before the commit: it is what the database says, too.
/// * **[`commit`](Transaction::commit)** goes to its end when its caller is dropped.
/// * **Dropping** it rolls it back: nothing is voided and nothing is said, so that any `?` may leave a handler. A handler
///   that is dropped does the same, up to the first poll of `commit`.
/// * **Faults** of the shared tier are none of the transaction's, except in write modes that
///   [commit nothing without](mastaba::WriteMode::Strict) it.
pub struct Transaction {
    /// The transaction, and the savepoints that are open in it.
    levels: Vec<DatabaseTransaction>,
    // after it: it is rolled back before what was collected is let go
    collected: OwnWrite,
    request: RequestCache,
    seen: Sightings,
}

impl Transaction {
    pub(crate) fn new(begun: DatabaseTransaction, request: RequestCache) -> Self {
        let collected = OwnWrite(Some(request.write()));
        Self { levels: vec![begun], collected, request, seen: Sightings::default() }
    }

    /// Commits, and voids everything that was collected, in a task of its own that goes on to its end when this future is
    /// dropped after its first poll.
    ///
    /// One trip to the database, and then as [`Write::commit`]. What was collected is voided when COMMIT succeeds, and
    /// when nobody knows whether it did: the connection was lost, for example. Errors of which the database is known to
    /// roll back (a constraint that is checked at the commit, a serialization failure, a busy file of SQLite) void nothing.
    ///
    /// PostgreSQL answers the COMMIT of a transaction in which a statement has failed by rolling it back, without an
    /// error. Here that is the error [`CommitError::RolledBack`]. To see it costs one trip more, where a statement has
    /// failed or was cut off, or the [plain](Transaction::plain) transaction was lent; otherwise nothing.
    ///
    /// # Errors
    /// [`CommitError::RolledBack`], [`CommitError::Unknown`], or [`CommitError::Refused`] where keys could not be held. An
    /// invalidation that is not confirmed is no error: [`Committed::published`] says so.
    pub async fn commit(mut self) -> Result<Committed<()>, CommitError<DbErr>> {
        let write = self.collected.take();
        let committed = write.commit_unless(self.last(), |failed| failed.rolled_back).await;
        committed.map_err(|error| error.map(|failed| failed.error))
    }

    /// Rolls back, and waits for that. Nothing is voided, and nothing is said.
    ///
    /// # Errors
    /// If the database did not answer. The transaction is rolled back all the same, as it was never committed.
    pub async fn rollback(mut self) -> Result<(), DbErr> {
        let trip = self.request.database_trip("rollback", 0);
        let done = self.outermost().rollback().await;
        trip.ended(done.is_ok());
        done
    }

    /// Whether a statement has failed in a way that may be gone when the whole transaction is tried again: a serialization
    /// failure, a deadlock, a file that is busy.
    #[must_use]
    pub fn conflict(&self) -> bool {
        self.seen.conflict()
    }

    /// The transaction of SeaORM, for what asks for that very type. What is done by it is not counted, and may be what
    /// fails the transaction.
    #[must_use]
    pub fn plain(&self) -> &DatabaseTransaction {
        self.seen.doubt();
        self.level()
    }

    /// The innermost part that is open.
    fn level(&self) -> &DatabaseTransaction {
        self.levels.last().expect("only the end of a transaction takes it")
    }

    /// The transaction itself. A savepoint that was forgotten with its memory goes with it.
    fn outermost(&mut self) -> DatabaseTransaction {
        while self.levels.len() > 1 {
            drop(self.levels.pop());
        }
        self.levels.pop().expect("only the end of a transaction takes it")
    }

    /// The last statements: all holds are placed by now.
    async fn last(mut self) -> Result<(), NotCommitted> {
        let rolled_back = |error| NotCommitted { error, rolled_back: true };
        self.seen.over().map_err(rolled_back)?;
        let backend = self.level().get_database_backend();
        if let Some(probe) = probe(backend).filter(|_| self.seen.unsure()) {
            let trip = self.request.database_trip("probe", 0);
            let done = self.level().execute_unprepared(probe).await;
            trip.ended(done.is_ok());
            // COMMIT is not sent
            done.map_err(rolled_back)?;
        }
        let trip = self.request.database_trip("commit", 0);
        // where it fails, SeaORM rolls back what may still be open
        let done = self.outermost().commit().await;
        trip.ended(done.is_ok());
        done.map_err(|error| NotCommitted { rolled_back: meaning(backend, &error).rolled_back, error })
    }
}

/// Why a transaction is not committed, or not known to be.
struct NotCommitted {
    error: DbErr,
    /// It is certain that nothing was committed.
    rolled_back: bool,
}

/// What a transaction has collected, which is discarded with it.
struct OwnWrite(Option<Write>);

impl OwnWrite {
    fn write(&self) -> &Write {
        self.0.as_ref().expect("only the end of a transaction takes its write")
    }

    fn take(&mut self) -> Write {
        self.0.take().expect("only the end of a transaction takes its write")
    }
}

impl Drop for OwnWrite {
    fn drop(&mut self) {
        // COMMIT was not sent, so that it is certain: nothing of it is committed
        self.0.take().into_iter().for_each(Write::discard);
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("seen", &self.seen).finish_non_exhaustive()
    }
}
