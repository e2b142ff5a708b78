//! Small children that are kept in the record of their parent.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use mastaba::{Error, List, RequestCache, Rows, Source};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dialect::Dialect;
use crate::select::{Bind, ReadFrom, Statement, fetch};
use crate::table::{Listed, Table};

/// The rows of a list, kept in the record of the row that they belong to: the lines of an order, the options of a poll.
///
/// A field of this type is loaded with its row, by one statement more for any number of rows, and found with it: reading
/// them costs no trip. Where there are more of them than its cap, none is kept, and [`get`](Children::get) reads the
/// list. A change of one of them voids the record of its parent.
///
/// ```
/// # #[cfg(not(feature = "sqlite"))] fn main() {}
/// # #[cfg(feature = "sqlite")]
/// # fn main() { tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::{Cache, Region};
/// use mastaba_sqlx::{Cached, Children};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(sqlx::FromRow, Serialize, Deserialize, Cached)]
/// #[cached(table = "poll", key = "id")]
/// struct Poll {
///     id: i64,
///     question: String,
///     #[sqlx(skip)]
///     options: Children<PollOptionIdsByPollId>,
/// }
///
/// #[derive(sqlx::FromRow, Serialize, Deserialize, Cached)]
/// #[cached(table = "poll_option", key = "id", list(poll_id, order = "id", embed = "Poll", cap = 10))]
/// struct PollOption { id: i64, poll_id: i64, text: String }
///
/// # let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
/// # let pool = options.connect("sqlite::memory:").await?;
/// # sqlx::raw_sql("create table poll (id bigint primary key, question text); insert into poll values (1, 'Tea?'); \
/// #     create table poll_option (id bigint primary key, poll_id bigint, text text); \
/// #     insert into poll_option values (1, 1, 'Yes'), (2, 1, 'No')").execute(&pool).await?;
/// let sources = Poll::sources(&pool).and(PollOption::sources(&pool));
/// let cache = Cache::builder().region("objects", Region::memory()).sources(sources).build().await?;
/// let request = cache.request();
/// let poll = request.find::<Poll>(1).await?.unwrap();
/// let texts: Vec<_> = poll.options.get(&request).await?.iter().map(|option| option.text.clone()).collect();
/// assert_eq!(texts, ["Yes", "No"]);
/// assert_eq!(request.report().statements(), 2); // polls, and options
/// # Ok::<_, mastaba::BoxError>(()) }).unwrap() }
/// ```
pub struct Children<L: List> {
    kept: InRecord<L::Key, <L::Rows as Source>::Value>,
}

/// What is in a record.
#[derive(Serialize, Deserialize)]
enum InRecord<K, V> {
    /// It was not loaded by its source.
    Nothing,
    All(Vec<SharedRow<V>>),
    /// There are more than the cap: the list has them.
    Listed(K),
}

/// A row, as it is written and read.
struct SharedRow<V>(Arc<V>);

impl<V: Serialize> Serialize for SharedRow<V> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for SharedRow<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        V::deserialize(deserializer).map(|row| Self(Arc::new(row)))
    }
}

impl<L: List> Children<L> {
    /// The rows, in the order of their list.
    ///
    /// Costs nothing where they are kept, and [`RequestCache::list_by`] where there are too many. A row that was not
    /// loaded by its source, but by a statement of the caller's, has none.
    ///
    /// # Errors
    /// As [`RequestCache::list_by`].
    pub async fn get(&self, request: &RequestCache) -> Result<Vec<Arc<<L::Rows as Source>::Value>>, Error> {
        match &self.kept {
            InRecord::Nothing => Ok(Vec::new()),
            InRecord::All(rows) => Ok(rows.iter().map(|row| row.0.clone()).collect()),
            InRecord::Listed(key) => request.list_by::<L>(key.clone()).await,
        }
    }

    /// The rows that are kept; `None` where there are more than the cap.
    pub fn kept(&self) -> Option<impl ExactSizeIterator<Item = &<L::Rows as Source>::Value>> {
        let rows = match &self.kept {
            InRecord::Nothing => &[],
            InRecord::All(rows) => rows.as_slice(),
            InRecord::Listed(_) => return None,
        };
        Some(rows.iter().map(|row| &*row.0))
    }
}

impl<L: List> Default for Children<L> {
    fn default() -> Self {
        Self { kept: InRecord::Nothing }
    }
}

impl<L: List> Clone for Children<L> {
    fn clone(&self) -> Self {
        let kept = match &self.kept {
            InRecord::Nothing => InRecord::Nothing,
            InRecord::All(rows) => InRecord::All(rows.iter().map(|row| SharedRow(row.0.clone())).collect()),
            InRecord::Listed(key) => InRecord::Listed(key.clone()),
        };
        Self { kept }
    }
}

impl<L: List> fmt::Debug for Children<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kept {
            InRecord::Nothing => f.write_str("Children(not loaded)"),
            InRecord::All(rows) => write!(f, "Children({} rows)", rows.len()),
            InRecord::Listed(_) => f.write_str("Children(a list)"),
        }
    }
}

impl<L: List> Serialize for Children<L> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        self.kept.serialize(serializer)
    }
}

impl<'de, L: List> Deserialize<'de> for Children<L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        InRecord::deserialize(deserializer).map(|kept| Self { kept })
    }
}

/// A list whose rows may be kept in the record of a parent: the derive says so of one with `embed`.
pub trait ChildList: List {
    /// The source of the parents, whose keys are those of the list.
    type Parents: Source<Key = Self::Key>;

    /// Where its rows are.
    const TABLE: Table;
    /// Which of them, and in what order.
    const LIST: Listed;
    /// How many are kept at most.
    const CAP: usize;

    /// The list that a row stands in.
    fn list_of(row: &<Self::Rows as Source>::Value) -> Option<Self::Key>;
}

/// A field that is filled once the rows are loaded. It tells how many statements that took.
pub(crate) trait FillChildren<DB: Dialect, S: Source>: Send + Sync {
    fn fill<'a>(
        &'a self,
        connection: &'a mut DB::Connection,
        rows: &'a mut Rows<S>,
    ) -> BoxFuture<'a, sqlx::Result<usize>>;
}

/// The fields of a struct that are filled so.
pub struct ChildFields<DB: Dialect, S: Source>(pub(crate) Vec<Box<dyn FillChildren<DB, S>>>);

impl<DB: Dialect, S: Source> ChildFields<DB, S> {
    /// No field.
    #[must_use]
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// And this field.
    #[must_use]
    pub fn and<L, Shape>(mut self, field: fn(&mut S::Value) -> &mut Children<L>) -> Self
    where
        L: ChildList<Parents = S, Key = S::Key>,
        <L::Rows as Source>::Value: ReadFrom<DB>,
        S::Key: Bind<DB, Shape>,
        Shape: Send + Sync + 'static,
    {
        // one more, to see whether there are more than that
        let list = Listed { limit: L::CAP + 1, ..L::LIST };
        let statement = L::TABLE.lists_of_rows::<DB>(&list);
        self.0.push(Box::new(ChildField { statement, field, of: PhantomData::<fn() -> Shape> }));
        self
    }
}

impl<DB: Dialect, S: Source> Default for ChildFields<DB, S> {
    fn default() -> Self {
        Self::new()
    }
}

struct ChildField<S: Source, L: List, Shape> {
    statement: Statement,
    field: fn(&mut S::Value) -> &mut Children<L>,
    of: PhantomData<fn() -> Shape>,
}

impl<DB, S, L, Shape> FillChildren<DB, S> for ChildField<S, L, Shape>
where
    DB: Dialect,
    S: Source,
    L: ChildList<Parents = S, Key = S::Key>,
    <L::Rows as Source>::Value: ReadFrom<DB>,
    S::Key: Bind<DB, Shape>,
    Shape: Send + Sync + 'static,
{
    fn fill<'a>(
        &'a self,
        connection: &'a mut DB::Connection,
        rows: &'a mut Rows<S>,
    ) -> BoxFuture<'a, sqlx::Result<usize>> {
        Box::pin(async move {
            let keys: Vec<_> = rows.iter().map(|(key, _)| key.clone()).collect();
            let (children, statements) =
                fetch::<DB, <L::Rows as Source>::Value, _, _>(&self.statement, connection, &keys).await?;
            let mut lists: HashMap<S::Key, Vec<SharedRow<_>>> = HashMap::with_capacity(keys.len());
            for child in children {
                if let Some(key) = L::list_of(&child) {
                    lists.entry(key).or_default().push(SharedRow(Arc::new(child)));
                }
            }
            for (key, row) in rows.iter_mut() {
                let rows = lists.remove(key).unwrap_or_default();
                let kept =
                    if rows.len() > L::CAP { InRecord::Listed(key.clone()) } else { InRecord::All(rows) };
                (self.field)(row).kept = kept;
            }
            Ok(statements)
        })
    }
}
