//! A transaction of [sqlx](https://docs.rs/sqlx) and a [write](mastaba::Write) of Mastaba in one.
//!
//! What a transaction changes has to leave the cache when it is committed, and not before. A [`Transaction`] is begun by
//! the request, collects the keys that it changes, and voids them once it is committed, whatever becomes of the handler:
//!
//! ```
//! # #[cfg(not(feature = "sqlite"))] fn main() {}
//! # #[cfg(feature = "sqlite")]
//! # fn main() { tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use mastaba::{Cache, LoadContext, Region, Rows, Source};
//! use mastaba_sqlx::Begin;
//! use sqlx::{QueryBuilder, Sqlite, SqlitePool};
//!
//! struct NameById(SqlitePool);
//!
//! impl Source for NameById {
//!     type Key = i64;
//!     type Value = String;
//!     type Error = sqlx::Error;
//!     const NAME: &'static str = "name.by_id";
//!     const REGION: &'static str = "objects";
//!
//!     async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> sqlx::Result<Rows<Self>> {
//!         let mut select = QueryBuilder::<Sqlite>::new("select id, name from account where id in (");
//!         let mut list = select.separated(", ");
//!         ids.iter().for_each(|id| drop(list.push_bind(*id)));
//!         let rows = select.push(")").build_query_as().fetch_all(&self.0).await?;
//!         Ok(rows.into_iter().collect())
//!     }
//! }
//!
//! # let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
//! # let pool = options.connect("sqlite::memory:").await?;
//! # sqlx::raw_sql("create table account (id integer primary key, name text); insert into account values (1, 'Ada')")
//! #     .execute(&pool).await?;
//! let cache =
//!     Cache::builder().region("objects", Region::memory()).source(NameById(pool.clone())).build().await?;
//! let request = cache.request();
//! assert_eq!(request.get::<NameById>(1).await?.unwrap().as_str(), "Ada");
//!
//! let mut tx = request.begin(&pool).await?;
//! sqlx::query("update account set name = $1 where id = $2").bind("Grace").bind(1).execute(&mut *tx).await?;
//! tx.invalidate::<NameById>([1]).await?;
//! tx.commit().await?;
//!
//! assert_eq!(cache.request().get::<NameById>(1).await?.unwrap().as_str(), "Grace");
//! # Ok::<_, mastaba::BoxError>(()) }).unwrap() }
//! ```
//!
//! A process may be killed right after COMMIT, and a region of mode [`Degrade`](mastaba::WriteMode::Degrade) commits while its
//! shared tier is out: the [`outbox`] keeps what is to be voided in the database, and any process voids it later.
//! A database with a replica is read there as far as the replica has come, by `Wal` (PostgreSQL) and `Gtid` (MariaDB).
//!
//! A row may have relations in it: [`Lazy`](mastaba::Lazy) is the type of a column, read and written as its key is.
//!
//! There is a feature per database, none of them by default: `postgres`, `mysql` (MariaDB, too), `sqlite`. How other
//! database crates do the same with [`Write::commit`](mastaba::Write::commit) stands in the book, in the chapter on writes.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod begin;
mod children;
mod commit;
mod counted;
mod dialect;
pub mod outbox;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod replica;
mod retry;
mod select;
mod table;
mod transaction;

pub use begin::Begin;
pub use children::Children;
pub use counted::{Counted, Savepoint};
pub use dialect::Dialect;
/// Makes sources of a struct and its table: its rows by their key, indexes, lists; and says what a change of a row voids.
///
/// ```
/// # #[cfg(not(feature = "sqlite"))] fn main() {}
/// # #[cfg(feature = "sqlite")]
/// # fn main() { tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::{Cache, Region};
/// use mastaba_sqlx::{Begin, Cached};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, sqlx::FromRow, Serialize, Deserialize, Cached)]
/// #[cached(table = "post", key = "id", index(slug, unique), list(author_id, order = "id desc", limit = 100))]
/// struct Post { id: i64, slug: String, author_id: i64, title: String }
///
/// # let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
/// # let pool = options.connect("sqlite::memory:").await?;
/// # sqlx::raw_sql("create table post (id bigint primary key, slug text unique, author_id bigint, title text); \
/// #     insert into post values (1, 'one', 7, 'One'), (2, 'two', 7, 'Two')").execute(&pool).await?;
/// let cache = Cache::builder().region("objects", Region::memory()).sources(Post::sources(&pool)).build().await?;
/// let request = cache.request();
/// assert_eq!(request.find::<Post>(1).await?.unwrap().title, "One");
/// assert_eq!(request.find_by::<PostBySlug>("two".into()).await?.unwrap().id, 2); // or Post::by_slug(&request, ..)
/// let of_author: Vec<_> = Post::by_author(&request, 7).await?.iter().map(|post| post.id).collect();
/// assert_eq!(of_author, [2, 1]);
///
/// let mut tx = request.begin(&pool).await?;
/// let old = tx.get::<PostById>(1).await?.unwrap();
/// let new = Post { author_id: 8, ..(*old).clone() };
/// sqlx::query("update post set author_id = $1 where id = $2").bind(8).bind(1).execute(&mut *tx).await?;
/// tx.changed(&*old, &new)?; // its row, the list that it leaves and the one that it enters
/// tx.commit().await?;
/// assert_eq!(Post::by_author(&cache.request(), 7).await?.len(), 1);
/// # Ok::<_, mastaba::BoxError>(()) }).unwrap() }
/// ```
///
/// It writes, for the struct above: the sources `PostById`, `PostBySlug` and `PostIdsByAuthorId`
/// (`post.by_id`, `post.by_slug` and `post.ids_by_author_id` in reports and keys), `Post::sources(&pool)`,
/// `Post::by_slug` and `Post::by_author`, and [`Record`](mastaba::Record), [`Index`](mastaba::Index),
/// [`List`](mastaba::List) and [`Keyed`](mastaba::Keyed). Columns are what `#[derive(FromRow)]` reads them from,
/// with its attributes. The database is that of the pool, and `sources` takes a [`Replicated`](mastaba::Replicated) as well.
///
/// | `#[cached(..)]` | |
/// | --- | --- |
/// | `table = "post"` | the table, or `schema.table`, or a view |
/// | `key = "id"`, `key(tenant_id, id)` | the field, or up to four, that no two rows have in common |
/// | `region = "objects"` | the region of its sources; `objects` unless it is given |
/// | `name = "post"` | what the names of its sources begin with; the name of the struct unless it is given |
/// | `version = 1` | [`Source::VERSION`](mastaba::Source::VERSION) |
/// | `filter = "deleted_at is null"` | a condition of SQL on every row |
/// | `hidden` | no event and no error shows its keys; also of one `index` and one `list` |
/// | `index(slug, unique)` | an index, of one to four fields, that the database keeps unique |
/// | `list(author_id, order = "id desc", limit = 100, filter = "..", name = "by_author")` | a list of keys, in an order of fields; of 1000 rows unless it is given. A second one by the same field names it in quotes, as clippy takes it for a mistake |
/// | `list(.., embed = "Post", cap = 20)` | its rows are kept in the record of their parent: see [`Children`] |
/// | `crate = "path"` | where this crate is, if it is not called `mastaba_sqlx` |
///
/// When the cache is built, the table is looked at: its columns, their types, and that the key and each `index` are unique
/// there. A change ([`Write::changed`](mastaba::Write::changed)) voids the row, and of indexes and lists what depends on a field that
/// has changed; lists with a filter, always.
pub use mastaba_derive::Cached;
pub use outbox::{NoOutbox, Outbox, Relay};
#[cfg(feature = "mysql")]
pub use replica::Gtid;
#[cfg(feature = "postgres")]
pub use replica::Wal;
pub use retry::Retry;
pub use select::{Bind, Four, One, Pools, ReadFrom, Select, Three, Two};
pub use transaction::Transaction;

/// What the derive writes down. It is no part of what this crate promises.
#[doc(hidden)]
pub mod __private {
    pub use {mastaba, sqlx};

    pub use crate::Dialect;
    pub use crate::children::{ChildFields, ChildList, Children};
    pub use crate::select::{Bind, Four, One, Pools, ReadFrom, Select, Three, Two};
    pub use crate::table::{Column, Expected, Listed, Table};
}

/// The code of the README, compiled and run.
#[cfg(all(doctest, feature = "postgres"))]
#[doc = include_str!("../README.md")]
mod readme {}
