//! A transaction of [sqlx](https://docs.rs/sqlx) and a [write](mastaba::Write) of Mastaba in one.
//!
//! What a transaction changes has to leave the cache when it is committed, and not before. A [`Transaction`] is begun by
//! the request, is told which keys it changes, and voids them once it is committed, whatever becomes of the handler:
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
mod commit;
mod counted;
mod dialect;
pub mod outbox;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod replica;
mod retry;
mod transaction;

pub use begin::Begin;
pub use counted::{Counted, Savepoint};
pub use dialect::Dialect;
pub use outbox::{NoOutbox, Outbox, Relay};
#[cfg(feature = "mysql")]
pub use replica::Gtid;
#[cfg(feature = "postgres")]
pub use replica::Wal;
pub use retry::Retry;
pub use transaction::Transaction;

/// The code of the README, compiled and run.
#[cfg(all(doctest, feature = "postgres"))]
#[doc = include_str!("../README.md")]
mod readme {}
