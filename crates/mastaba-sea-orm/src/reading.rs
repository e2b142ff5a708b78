//! Entities, and what they are related to, read through a request.

use std::future::Future;
use std::sync::Arc;

use mastaba::{Answers, Error, RequestCache};
use sea_orm::{ModelTrait, Related};

use crate::by_id::ById;
use crate::entity::{CachedEntity, KeyOf, key_of};
use crate::foreign_key::ForeignKey;
use crate::related_ids::RelatedIds;

/// Rows, shared.
type Shared<E> = Arc<<E as sea_orm::EntityTrait>::Model>;

/// Reads entities by their primary key: methods of [`RequestCache`], and so of everything that derefs to one, as the
/// extractors for axum and actix do.
pub trait Entities {
    /// The row of this key: [`get`](RequestCache::get) of [`ById<E>`], and costs what that costs. Gets that are awaited
    /// together are one trip and one statement.
    ///
    /// # Errors
    /// As [`get`](RequestCache::get).
    fn entity<E: CachedEntity>(
        &self,
        key: KeyOf<E>,
    ) -> impl Future<Output = Result<Option<Shared<E>>, Error>> + Send;

    /// The rows of these keys: [`get_many`](RequestCache::get_many) of [`ById<E>`].
    ///
    /// # Errors
    /// As [`get_many`](RequestCache::get_many).
    fn entities<E: CachedEntity>(
        &self,
        keys: impl IntoIterator<Item = KeyOf<E>>,
    ) -> impl Future<Output = Result<Answers<KeyOf<E>, Option<Shared<E>>>, Error>> + Send;
}

impl Entities for RequestCache {
    async fn entity<E: CachedEntity>(&self, key: KeyOf<E>) -> Result<Option<Shared<E>>, Error> {
        self.get::<ById<E>>(key).await
    }

    fn entities<E: CachedEntity>(
        &self,
        keys: impl IntoIterator<Item = KeyOf<E>>,
    ) -> impl Future<Output = Result<Answers<KeyOf<E>, Option<Shared<E>>>, Error>> + Send {
        // before the future, which may go to another thread with the keys, and not with what gives them
        let keys: Vec<_> = keys.into_iter().collect();
        async move { self.get_many::<ById<E>>(keys).await }
    }
}

/// Goes from a model to what it is related to, by the relations that the entity says: methods of every model.
///
/// Relations that are awaited together travel together: twenty posts and their authors are two statements.
///
/// ```
/// use futures_util::future::try_join_all;
/// use mastaba::{Cache, Region};
/// use mastaba_sea_orm::{ById, Entities, RelatedIds, Relations};
/// # use sea_orm::{ConnectionTrait, ConnectOptions, Database};
///
/// mod author {
///     # use sea_orm::entity::prelude::*;
///     # use serde::{Deserialize, Serialize};
///     #[sea_orm::model]
///     #[derive(Clone, Debug, Serialize, Deserialize, DeriveEntityModel)]
///     #[sea_orm(table_name = "author")]
///     pub struct Model {
///         #[sea_orm(primary_key)]
///         pub id: i64,
///         pub name: String,
///         #[sea_orm(has_many)]
///         pub posts: HasMany<super::post::Entity>,
///     }
///     # impl ActiveModelBehavior for ActiveModel {}
/// }
///
/// mod post {
///     # use sea_orm::entity::prelude::*;
///     # use serde::{Deserialize, Serialize};
///     #[sea_orm::model]
///     #[derive(Clone, Debug, Serialize, Deserialize, DeriveEntityModel)]
///     #[sea_orm(table_name = "post")]
///     pub struct Model {
///         #[sea_orm(primary_key)]
///         pub id: i64,
///         pub author_id: i64,
///         #[sea_orm(belongs_to, from = "author_id", to = "id")]
///         pub author: BelongsTo<super::author::Entity>,
///     }
///     # impl ActiveModelBehavior for ActiveModel {}
/// }
///
/// # #[cfg(not(feature = "sqlite"))] fn main() {}
/// # #[cfg(feature = "sqlite")]
/// # fn main() { tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let mut options = ConnectOptions::new("sqlite::memory:");
/// # let db = Database::connect(options.max_connections(1).to_owned()).await?;
/// # db.execute_unprepared("create table author (id integer primary key, name text not null)").await?;
/// # db.execute_unprepared("create table post (id integer primary key, author_id integer not null)").await?;
/// # db.execute_unprepared("insert into author values (1, 'Ada'), (2, 'Grace')").await?;
/// # db.execute_unprepared("insert into post values (1, 1), (2, 1), (3, 2)").await?;
/// let cache = Cache::builder()
///     .region("objects", Region::memory())
///     .source(ById::<author::Entity>::new(&db))
///     .source(ById::<post::Entity>::new(&db))
///     .source(RelatedIds::<author::Entity, post::Entity>::new(&db))
///     .build()
///     .await?;
///
/// let request = cache.request();
/// let posts = request.entities::<post::Entity>([1, 2, 3]).await?;
/// let authors = posts.found().map(|(_, post)| post.related::<author::Entity>(&request));
/// let authors = try_join_all(authors).await?;
/// assert_eq!(authors[2].as_ref().unwrap().name, "Grace");
/// assert_eq!(request.report().statements(), 2);
///
/// let ada = authors[0].clone().unwrap();
/// assert_eq!(ada.related_many::<post::Entity>(&request).await?.len(), 2);
/// # Ok::<_, mastaba::BoxError>(()) }).unwrap() }
/// ```
pub trait Relations: ModelTrait {
    /// The row that this one belongs to: the author of a post. `None` where the foreign key is null, or leads to no row.
    ///
    /// Costs what [`Entities::entity`] costs, and nothing where the foreign key is null.
    ///
    /// # Errors
    /// As [`get`](RequestCache::get); or if the relation is not one of belonging to a row by its primary key.
    fn related<R>(
        &self,
        request: &RequestCache,
    ) -> impl Future<Output = Result<Option<Shared<R>>, Error>> + Send
    where
        R: CachedEntity,
        Self::Entity: Related<R>;

    /// The rows that belong to this one: the comments of a post, in the order of their primary keys, and not more than
    /// [`RelatedIds::limit`] says.
    ///
    /// Costs what [`list_by`](RequestCache::list_by) costs: cold, two statements for any number of lists that are awaited
    /// together.
    ///
    /// # Errors
    /// As [`list_by`](RequestCache::list_by), of [`RelatedIds`] and [`ById`], both of which have to be registered.
    fn related_many<R>(
        &self,
        request: &RequestCache,
    ) -> impl Future<Output = Result<Vec<Shared<R>>, Error>> + Send
    where
        R: CachedEntity,
        Self::Entity: CachedEntity + Related<R>;
}

impl<M: ModelTrait> Relations for M {
    fn related<R>(
        &self,
        request: &RequestCache,
    ) -> impl Future<Output = Result<Option<Shared<R>>, Error>> + Send
    where
        R: CachedEntity,
        M::Entity: Related<R>,
    {
        let foreign = ForeignKey::<M::Entity>::of_child::<R>().as_ref().map_err(String::clone);
        let key = foreign.and_then(|foreign| foreign.parent::<R>(&|column| Some(self.get(column))));
        async move {
            match key.map_err(Error::usage)? {
                Some(key) => request.get::<ById<R>>(key).await,
                None => Ok(None),
            }
        }
    }

    fn related_many<R>(
        &self,
        request: &RequestCache,
    ) -> impl Future<Output = Result<Vec<Shared<R>>, Error>> + Send
    where
        R: CachedEntity,
        M::Entity: CachedEntity + Related<R>,
    {
        let key = key_of::<M::Entity>(&|column| Some(self.get(column))).expect("a model has all columns");
        async move { request.list_by::<RelatedIds<M::Entity, R>>(key).await }
    }
}
