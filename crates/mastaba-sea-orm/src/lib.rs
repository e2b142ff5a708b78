//! Entities of [SeaORM](https://docs.rs/sea-orm) as sources of Mastaba, without any code of their own.
//!
//! * [`ById<post::Entity>`](ById): the rows of an entity by their primary key, for every entity whose model derives
//!   `Serialize` and `Deserialize`. [`Entities`] reads them: `request.entity::<post::Entity>(7)`.
//! * [`Relations`]: `post.related::<user::Entity>(&request)` and `post.related_many::<comment::Entity>(&request)`, by the
//!   relations that the entity says, in batches. What a row has many of is a list of primary keys ([`RelatedIds`]).
//! * [`Begin`]: a transaction of SeaORM and a [write](mastaba::Write) in one. [`Transaction::update`] and its siblings
//!   collect the row and the lists that it leaves and enters, which are voided once it is committed, whatever becomes of
//!   the handler.
//!
//! A new page costs one statement per level, however many rows it shows, and a warm one none:
//!
//! ```
//! use futures_util::future::try_join_all;
//! use mastaba::{Budget, Cache, Region};
//! use mastaba_sea_orm::{Begin, ById, Entities, Relations};
//! use sea_orm::ActiveValue::{Set, Unchanged};
//! # use sea_orm::{ConnectionTrait, ConnectOptions, Database};
//!
//! mod author {
//!     use sea_orm::entity::prelude::*;
//!     use serde::{Deserialize, Serialize};
//!
//!     #[derive(Clone, Debug, Serialize, Deserialize, DeriveEntityModel)]
//!     #[sea_orm(table_name = "author")]
//!     pub struct Model {
//!         #[sea_orm(primary_key)]
//!         pub id: i64,
//!         pub name: String,
//!     }
//!
//!     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
//!     pub enum Relation {}
//!     impl ActiveModelBehavior for ActiveModel {}
//! }
//!
//! mod post {
//!     use sea_orm::entity::prelude::*;
//!     use serde::{Deserialize, Serialize};
//!
//!     #[derive(Clone, Debug, Serialize, Deserialize, DeriveEntityModel)]
//!     #[sea_orm(table_name = "post")]
//!     pub struct Model {
//!         #[sea_orm(primary_key)]
//!         pub id: i64,
//!         pub author_id: i64,
//!     }
//!
//!     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
//!     pub enum Relation {
//!         #[sea_orm(belongs_to = "super::author::Entity", from = "Column::AuthorId", to = "super::author::Column::Id")]
//!         Author,
//!     }
//!
//!     impl Related<super::author::Entity> for Entity {
//!         fn to() -> RelationDef {
//!             Relation::Author.def()
//!         }
//!     }
//!     impl ActiveModelBehavior for ActiveModel {}
//! }
//!
//! # #[cfg(not(feature = "sqlite"))] fn main() {}
//! # #[cfg(feature = "sqlite")]
//! # fn main() { tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let mut options = ConnectOptions::new("sqlite::memory:");
//! # let db = Database::connect(options.max_connections(1).to_owned()).await?;
//! # db.execute_unprepared("create table author (id integer primary key, name text not null)").await?;
//! # db.execute_unprepared("create table post (id integer primary key, author_id integer not null)").await?;
//! # db.execute_unprepared("insert into author values (1, 'Ada'), (2, 'Grace')").await?;
//! # db.execute_unprepared("insert into post values (1, 1), (2, 2), (3, 1)").await?;
//! let cache = Cache::builder()
//!     .region("objects", Region::memory())
//!     .source(ById::<author::Entity>::new(&db))
//!     .source(ById::<post::Entity>::new(&db))
//!     .build()
//!     .await?;
//!
//! let request = cache.request();
//! let posts = request.entities::<post::Entity>([1, 2, 3]).await?;
//! let authors = posts.found().map(|(_, post)| post.related::<author::Entity>(&request));
//! let authors = try_join_all(authors).await?;
//! assert_eq!(authors[2].as_ref().unwrap().name, "Ada");
//! request.report().assert_at_most(Budget { trips: 4, statements: 2 });
//!
//! let tx = request.begin(&db).await?;
//! tx.update(author::ActiveModel { id: Unchanged(1), name: Set("Ada Lovelace".to_owned()) }).await?;
//! tx.commit().await?;
//! assert_eq!(cache.request().entity::<author::Entity>(1).await?.unwrap().name, "Ada Lovelace");
//! # Ok::<_, mastaba::BoxError>(()) }).unwrap() }
//! ```
//!
//! There is a feature per database, none of them by default: `postgres`, `mysql` (MariaDB, too), `sqlite`. What belongs to
//! columns (`with-uuid`, `with-chrono` and so on) and TLS are features of SeaORM itself: name it in `Cargo.toml` with those
//! that you use, and `default-features = false` if you like.

mod begin;
mod by_id;
mod changes;
mod condition;
mod dialect;
mod entity;
mod foreign_key;
mod observed;
mod reading;
mod related_ids;
#[allow(dead_code, reason = "it is for the compiler alone")]
mod spawnable;
mod transaction;

pub use begin::Begin;
pub use by_id::ById;
pub use entity::{CachedEntity, KeyOf};
pub use reading::{Entities, Relations};
pub use related_ids::RelatedIds;
pub use transaction::{ChangeError, Savepoint, Transaction};

/// The code of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
