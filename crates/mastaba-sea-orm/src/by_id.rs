//! The rows of an entity, by their primary key.

use std::fmt;
use std::marker::PhantomData;

use mastaba::{LoadContext, LoadIn, Rows, Source};
use sea_orm::sea_query::IntoValueTuple;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, ModelTrait, QueryFilter, QuerySelect,
};

use crate::condition::{is_any_of, most_keys};
use crate::entity::{CachedEntity, KeyOf, key_of, once_of, primary_key, table};

/// The region of what names none.
pub(crate) const REGION: &str = "objects";

/// The rows of an entity by their primary key, as a source without any code.
///
/// One select for all keys that are asked for together, which are found by an array on PostgreSQL, so that it is one
/// prepared statement whatever their number. Its name is that of the table, with `.by_id` behind it.
///
/// ```
/// # #[cfg(not(feature = "sqlite"))] fn main() {}
/// # #[cfg(feature = "sqlite")]
/// # fn main() { tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::{Cache, Region, Source};
/// use mastaba_sea_orm::{ById, Entities};
/// # use sea_orm::{ConnectionTrait, ConnectOptions, Database};
///
/// mod post {
///     use sea_orm::entity::prelude::*;
///     use serde::{Deserialize, Serialize};
///
///     #[derive(Clone, Debug, Serialize, Deserialize, DeriveEntityModel)]
///     #[sea_orm(table_name = "post")]
///     pub struct Model {
///         #[sea_orm(primary_key)]
///         pub id: i64,
///         pub title: String,
///     }
///
///     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
///     pub enum Relation {}
///     impl ActiveModelBehavior for ActiveModel {}
/// }
///
/// # let mut options = ConnectOptions::new("sqlite::memory:");
/// # let db = Database::connect(options.max_connections(1).to_owned()).await?;
/// # db.execute_unprepared("create table post (id integer primary key, title text not null)").await?;
/// # db.execute_unprepared("insert into post values (1, 'One'), (2, 'Two')").await?;
/// let posts = ById::<post::Entity>::new(&db);
/// let cache = Cache::builder().region("objects", Region::memory()).source(posts).build().await?;
/// let request = cache.request();
/// let posts = request.entities::<post::Entity>([1, 2, 3]).await?;
/// assert_eq!(posts.found().count(), 2);
/// assert_eq!(request.report().statements(), 1);
/// assert_eq!(ById::<post::Entity>::name(), "post.by_id");
/// # Ok::<_, mastaba::BoxError>(()) }).unwrap() }
/// ```
///
/// `impl Record for post::Model { type Source = ById<post::Entity>; }` is for those who like
/// [`request.find::<post::Model>(1)`](mastaba::RequestCache::find).
///
/// A row is stored as serde writes the model: what `#[serde(skip)]` leaves out is not there in what is found, and what
/// `serde(rename)` writes is read the same way.
pub struct ById<E> {
    db: DatabaseConnection,
    region: String,
    of: PhantomData<fn() -> E>,
}

impl<E: CachedEntity> ById<E> {
    /// The rows of this database. Costs nothing: connections are taken by its loads.
    pub fn new(db: &DatabaseConnection) -> Self {
        Self { db: db.clone(), region: REGION.to_owned(), of: PhantomData }
    }

    /// The region that its rows live in; `objects` unless it is said.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// The rows, and how many statements it took to find them.
    async fn load(db: &impl ConnectionTrait, keys: &[KeyOf<E>]) -> Result<(Rows<Self>, usize), DbErr> {
        let (columns, backend) = (primary_key::<E>(), db.get_database_backend());
        let parts = keys.chunks(most_keys(columns.len(), backend));
        let (mut rows, statements) = (Rows::new(), parts.len());
        for part in parts {
            let part = part.iter().map(values).collect();
            for model in E::find().filter(is_any_of(&columns, part, backend)).all(db).await? {
                let key = key_of::<E>(&|column| Some(model.get(column))).expect("a model has all columns");
                rows.insert(key, model);
            }
        }
        Ok((rows, statements))
    }
}

/// The values of a key, one per column.
pub(crate) fn values<K: IntoValueTuple + Clone>(key: &K) -> Vec<sea_orm::Value> {
    key.clone().into_value_tuple().into_iter().collect()
}

impl<E: CachedEntity> Source for ById<E> {
    type Key = KeyOf<E>;
    type Value = E::Model;
    type Error = DbErr;

    fn name() -> &'static str {
        once_of::<Self, String>(|| format!("{}.by_id", table::<E>()))
    }

    fn region(&self) -> &str {
        &self.region
    }

    async fn check(&self) -> Vec<String> {
        let found = <E as EntityTrait>::find().limit(0).all(&self.db).await;
        let problem = |error| format!("the table {} cannot be selected from: {error}", table::<E>());
        found.err().map(problem).into_iter().collect()
    }

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[KeyOf<E>]) -> Result<Rows<Self>, DbErr> {
        let (rows, statements) = Self::load(&self.db, keys).await?;
        cx.count_statements(u32::try_from(statements - 1).unwrap_or(u32::MAX));
        Ok(rows)
    }
}

impl<E: CachedEntity, C: ConnectionTrait + Send> LoadIn<C> for ById<E> {
    async fn load_in(&self, connection: &mut C, keys: &[KeyOf<E>]) -> Result<Rows<Self>, DbErr> {
        Self::load(connection, keys).await.map(|(rows, _)| rows)
    }
}

impl<E: CachedEntity> fmt::Debug for ById<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ById")
            .field("table", &table::<E>())
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}
