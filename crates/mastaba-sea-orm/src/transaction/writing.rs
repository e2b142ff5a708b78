//! Statements that collect what they change.

use std::fmt;

use mastaba::Error;
use sea_orm::sea_query::FromValueTuple;
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, DbErr, DeleteResult, EntityTrait, IntoActiveModel, ModelTrait,
    PrimaryKeyTrait, QuerySelect,
};

use super::Transaction;
use crate::changes::{self, ListOf};
use crate::entity::{CachedEntity, Columns};

/// The model of what an active model is of.
type ModelOf<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Model;

impl Transaction {
    /// Inserts a row, and collects what it concerns: its own entry, which may be known as absent, and the lists that it
    /// enters.
    ///
    /// Costs what [`ActiveModelTrait::insert`] costs: one statement, on MySQL two.
    ///
    /// # Errors
    /// Of the database, or if [`ById`](crate::ById) of the entity is not registered; then nothing is sent.
    pub async fn insert<A>(&self, row: A) -> Result<ModelOf<A>, ChangeError>
    where
        A: ActiveModelTrait<Entity: CachedEntity> + ActiveModelBehavior + Send,
        ModelOf<A>: IntoActiveModel<A>,
    {
        self.is_cached::<A>()?;
        let new = row.insert(self).await?;
        self.changed_model::<A::Entity>(None, Some(&new))?;
        Ok(new)
    }

    /// Updates a row, and collects what that concerns: its own entry, and the lists that it leaves and enters.
    ///
    /// Costs what [`ActiveModelTrait::update`] costs: one statement, on MySQL two. Where rows of the entity stand in lists
    /// ([`RelatedIds`](crate::RelatedIds)), one more before it, which reads what the row was and locks it.
    ///
    /// # Errors
    /// Of the database, [`DbErr::RecordNotUpdated`] among them; or if [`ById`](crate::ById) of the entity is not
    /// registered; then nothing is sent.
    pub async fn update<A>(&self, row: A) -> Result<ModelOf<A>, ChangeError>
    where
        A: ActiveModelTrait<Entity: CachedEntity> + ActiveModelBehavior + Send + Sync,
        ModelOf<A>: IntoActiveModel<A>,
    {
        let lists = self.is_cached::<A>()?;
        let old = self.before(&row, &lists).await?;
        let new = row.update(self).await?;
        // without lists, what it was makes no difference
        let old = old.as_ref().unwrap_or(&new);
        self.changed_model::<A::Entity>(Some(old), Some(&new))?;
        Ok(new)
    }

    /// Deletes a row, and collects what that concerns: its own entry, and the lists that it leaves. A model is deleted by
    /// `tx.delete(model.into_active_model())`.
    ///
    /// Costs what [`ActiveModelTrait::delete`] costs, one statement; where rows of the entity stand in lists, one more
    /// before it, which reads what the row was and locks it. What the database deletes with it (`on delete cascade`) is
    /// nobody's to see: collect it by yourself.
    ///
    /// # Errors
    /// As [`update`](Transaction::update). A row that is not there is no error: [`DeleteResult::rows_affected`].
    pub async fn delete<A>(&self, row: A) -> Result<DeleteResult, ChangeError>
    where
        A: ActiveModelTrait<Entity: CachedEntity> + ActiveModelBehavior + Send + Sync,
    {
        let lists = self.is_cached::<A>()?;
        let old = self.before(&row, &lists).await?;
        let write = self.collected.write();
        {
            let of_old = |column| match &old {
                Some(model) => Some(model.get(column)),
                None => row.get(column).into_value(),
            };
            let of_old: &Columns<'_, A::Entity> = &of_old;
            changes::collect(write, &lists, Some(of_old), None)?;
        }
        Ok(row.delete(self).await?)
    }

    /// Collects what a statement concerns that is going to write this row: call it *before* the statement. For statements
    /// that are run by SeaORM itself, `row.update(&tx)`, `Entity::insert(row).exec(&tx)` and so on.
    ///
    /// Where rows of the entity stand in lists ([`RelatedIds`](crate::RelatedIds)), one statement, which reads what the row
    /// was and locks it; otherwise no trip. What a trigger or
    /// [`before_save`](sea_orm::ActiveModelBehavior::before_save) makes of the row is not seen here:
    /// [`update`](Transaction::update) sees it.
    ///
    /// # Errors
    /// Of the database; if [`ById`](crate::ById) of the entity is not registered; or if the primary key is not set, as in a
    /// row whose number the database is going to give: then use [`insert`](Transaction::insert).
    pub async fn changed_active<A>(&self, row: &A) -> Result<(), ChangeError>
    where
        A: ActiveModelTrait<Entity: CachedEntity> + Sync,
    {
        let lists = self.is_cached::<A>()?;
        let old = self.before(row, &lists).await?;
        let of_old = |column| old.as_ref().map(|model| model.get(column));
        let of_new = |column| row.get(column).into_value().or_else(|| of_old(column));
        let (of_old, of_new): (&Columns<'_, A::Entity>, &Columns<'_, A::Entity>) = (&of_old, &of_new);
        changes::collect(self.collected.write(), &lists, old.as_ref().map(|_| of_old), Some(of_new))?;
        Ok(())
    }

    /// The lists that such rows may stand in.
    fn is_cached<A: ActiveModelTrait<Entity: CachedEntity>>(&self) -> Result<Vec<ListOf<A::Entity>>, Error> {
        changes::lists(&self.request.cache())
    }

    /// What a row is before it is written, where that makes a difference. It stays so until the transaction ends.
    async fn before<A>(&self, row: &A, lists: &[ListOf<A::Entity>]) -> Result<Option<ModelOf<A>>, DbErr>
    where
        A: ActiveModelTrait<Entity: CachedEntity> + Sync,
    {
        let Some(key) = row.get_primary_key_value().filter(|_| !lists.is_empty()) else { return Ok(None) };
        let key =
            <<A::Entity as EntityTrait>::PrimaryKey as PrimaryKeyTrait>::ValueType::from_value_tuple(key);
        // SQLite has no such lock, and one writer at a time
        <A::Entity as EntityTrait>::find_by_id(key).lock_exclusive().one(self).await
    }
}

/// Why a row is not written, or what it concerns is not collected: roll back.
#[non_exhaustive]
pub enum ChangeError {
    /// The database did not do it.
    Database(DbErr),
    /// What stands under the row could not be collected: a source is not registered, for example.
    Cache(Error),
}

impl ChangeError {
    /// The error of the database, if it is one: a constraint, for example.
    #[must_use]
    pub fn database(&self) -> Option<&DbErr> {
        match self {
            Self::Database(error) => Some(error),
            Self::Cache(_) => None,
        }
    }
}

impl From<DbErr> for ChangeError {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for ChangeError {
    fn from(error: Error) -> Self {
        Self::Cache(error)
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Cache(error) => error.fmt(f),
        }
    }
}

/// As it reads.
impl fmt::Debug for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        mastaba::chain(self, f)
    }
}

impl std::error::Error for ChangeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(error) => std::error::Error::source(error),
            Self::Cache(error) => std::error::Error::source(error),
        }
    }
}
