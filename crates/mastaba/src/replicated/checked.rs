//! A replica that is read as far as it has come.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Prefer, Replicated};
use crate::error::{BoxError, text_of};
use crate::event::Event;
use crate::limits::Shown;
use crate::source::LoadContext;
use crate::sync::lock;

/// How long a load waits at most until both databases have said how far they are.
const ANSWER: Duration = Duration::from_millis(500);

/// How long the reader is left alone once they have not.
const PAUSE: Duration = Duration::from_secs(1);

/// For how long a load waits for a reader that is behind, unless it is set.
const PATIENCE: Duration = Duration::from_millis(5);

/// How far a database has come, for [`Replicated::checked_by`].
///
/// Implemented in `mastaba-sqlx` for PostgreSQL and MariaDB. Whoever implements it for another database owes this: if
/// [`reached`](Positions::reached) says yes, then whatever is read from the reader from then on, on whichever connection,
/// shows every transaction that anybody could see on the writer when [`of_writer`](Positions::of_writer) was called.
pub trait Positions<P>: Send + Sync {
    /// A point in the history of the writer.
    type Position: Send + Sync;
    /// Why asking may fail.
    type Error: Into<BoxError> + Send;

    /// Where the writer is now. A position that says nothing (the log that it stands in is switched off) is an error.
    fn of_writer(&self, writer: &P) -> impl Future<Output = Result<Self::Position, Self::Error>> + Send;

    /// Whether the reader has come so far. It may wait for that, for so long at most.
    fn reached(
        &self,
        reader: &P,
        position: &Self::Position,
        within: Duration,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Two databases, the reader of which is read whenever it shows all that the writer had when the load began.
///
/// A load is sent after its lease was taken, and asks for the position of the writer after that. So the reader shows every
/// write that came before the lease, and a write that comes later voids the lease: what a write voided is never filled
/// again with what was there before it, however far the replica lags (rows E1 and E4 of the protocol). I1 holds, for reads
/// past the tiers too.
///
/// * **Trips.** [`pick`](Checked::pick) asks the writer once and then the reader once, which is two trips before that of
///   the load itself, and two statements in the report; none where the writer is to be read anyway. A replica is worth that
///   where loads are heavy, or the writer is busy.
/// * **Behind.** A reader that has not come so far is waited for (`patience`, 5 ms unless it is set), and then the writer is
///   read.
/// * **Faults.** If one of the two does not say how far it is, within half a second, the writer is read, and the reader is
///   not asked for a second. That is an [`Event::ReaderNotRead`], once until it goes well again, and no error.
/// * **One server.** The reader is one server. Behind an address that leads to several, the next connection may lead to one
///   that was not asked.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
/// use std::time::Duration;
/// use mastaba::{Cache, Checked, LoadContext, Positions, Region, Replicated, Rows, Source};
///
/// /// A database that counts its transactions.
/// #[derive(Default)]
/// struct Db(&'static str, AtomicU64);
/// struct Counted;
///
/// impl Positions<Db> for Counted {
///     type Position = u64;
///     type Error = std::convert::Infallible;
///     async fn of_writer(&self, writer: &Db) -> Result<u64, Self::Error> {
///         Ok(writer.1.load(SeqCst))
///     }
///     async fn reached(&self, reader: &Db, position: &u64, _: Duration) -> Result<bool, Self::Error> {
///         Ok(reader.1.load(SeqCst) >= *position)
///     }
/// }
///
/// struct Answer(std::sync::Arc<Checked<Db, Counted>>);
///
/// impl Source for Answer {
///     # type Key = u8; type Value = String; type Error = std::convert::Infallible;
///     # const NAME: &'static str = "answer"; const REGION: &'static str = "objects";
///     async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u8]) -> Result<Rows<Self>, Self::Error> {
///         let db = self.0.pick(cx).await;
///         Ok(keys.iter().map(|key| (*key, format!("{key} from the {}", db.0))).collect())
///     }
/// }
///
/// let dbs = Replicated::consistent(Db("writer", 1.into()), Db("reader", 0.into())).checked_by(Counted);
/// let dbs = std::sync::Arc::new(dbs);
/// let cache = Cache::builder().region("objects", Region::memory()).source(Answer(dbs.clone())).build().await?;
/// assert_eq!(*cache.request().get::<Answer>(1).await?.unwrap(), "1 from the writer"); // the reader is behind
/// dbs.reader().1.store(1, SeqCst);
/// assert_eq!(*cache.request().get::<Answer>(2).await?.unwrap(), "2 from the reader");
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
pub struct Checked<P, C> {
    databases: Replicated<P>,
    positions: C,
    patience: Duration,
    /// Until when the reader is left alone; it did not say how far it is.
    resting: Mutex<Option<Instant>>,
}

impl<P, C: Positions<P>> Checked<P, C> {
    pub(super) fn new(databases: Replicated<P>, positions: C) -> Self {
        Self { databases, positions, patience: PATIENCE, resting: Mutex::default() }
    }

    /// Which of the two is to be read where both may; [`Prefer::ReaderUntilWrite`] unless it is set. With
    /// [`Prefer::Reader`] a request reads its own writes all the same.
    pub fn prefer(mut self, prefer: Prefer) -> Self {
        self.databases = self.databases.prefer(prefer);
        self
    }

    /// For how long a load waits for a reader that is behind, before it reads from the writer: 5 ms unless it is set,
    /// and half a second at most.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience.min(ANSWER / 2);
        self
    }

    /// The database to use for this load.
    ///
    /// Two trips, or none; see [`Checked`] for them and for faults. Dropping its future leaves nothing behind.
    pub async fn pick(&self, cx: &LoadContext<'_>) -> &P {
        let databases = &self.databases;
        if !databases.may_read(cx) || self.is_resting() {
            return databases.writer();
        }
        cx.count_statements(2);
        let is_there = async {
            let position = self.positions.of_writer(databases.writer()).await?;
            self.positions.reached(databases.reader(), &position, self.patience).await
        };
        match timeout(ANSWER, is_there).await {
            Ok(Ok(is_there)) => {
                *lock(&self.resting) = None;
                if is_there { databases.reader() } else { databases.writer() }
            }
            Ok(Err::<_, C::Error>(error)) => self.rest(cx, text_of(&error.into())),
            Err(_) => self.rest(cx, format!("no answer within {}", Shown(ANSWER))),
        }
    }

    /// The writing database.
    pub fn writer(&self) -> &P {
        self.databases.writer()
    }

    /// The reading database.
    pub fn reader(&self) -> &P {
        self.databases.reader()
    }

    fn is_resting(&self) -> bool {
        lock(&self.resting).is_some_and(|until| Instant::now() < until)
    }

    /// Leaves the reader alone for a while, and says so when it was in use before.
    fn rest(&self, cx: &LoadContext<'_>, why: String) -> &P {
        let before = lock(&self.resting).replace(Instant::now() + PAUSE);
        if before.is_none() {
            cx.tell(|source| Event::ReaderNotRead { source, why });
        }
        self.databases.writer()
    }
}

impl<P: fmt::Debug, C> fmt::Debug for Checked<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Checked");
        debug.field("databases", &self.databases).field("patience", &self.patience).finish_non_exhaustive()
    }
}
