//! What a transaction is given to void, and what it reads.

use std::sync::Arc;

use mastaba::{Answers, Error, Keyed, LoadIn, Source};
use sea_orm::{DatabaseTransaction, ModelTrait};

use super::Transaction;
use crate::changes;
use crate::entity::{CachedEntity, Columns};

impl Transaction {
    /// Collects what the change of a row concerns: its own entry, and the lists that it leaves and enters. What it was is
    /// `None` for a row that is inserted, and what it is for one that is deleted.
    ///
    /// For rows that `returning` gave, or that were read by this transaction before they were changed:
    /// [`insert`](Transaction::insert), [`update`](Transaction::update) and [`delete`](Transaction::delete) do it
    /// themselves. Costs no trip.
    ///
    /// ```
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
    /// # use mastaba::BoxError;
    /// # use mastaba_sea_orm::Transaction;
    /// # use sea_orm::{EntityTrait, QueryFilter, ColumnTrait, sea_query::Expr};
    /// async fn publish_drafts(tx: &Transaction) -> Result<(), BoxError> {
    ///     let update = post::Entity::update_many().col_expr(post::Column::Title, Expr::val("published").into());
    ///     for post in update.filter(post::Column::Title.eq("draft")).exec_with_returning(tx).await? {
    ///         tx.changed_model::<post::Entity>(Some(&post), Some(&post))?; // no list goes by the title
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// If [`ById`](crate::ById) of the entity is not registered.
    pub fn changed_model<E: CachedEntity>(
        &self,
        old: Option<&E::Model>,
        new: Option<&E::Model>,
    ) -> Result<(), Error> {
        let lists = changes::lists::<E>(&self.request.cache())?;
        let of_old = |column| old.map(|model| model.get(column));
        let of_new = |column| new.map(|model| model.get(column));
        let (of_old, of_new): (&Columns<'_, E>, &Columns<'_, E>) = (&of_old, &of_new);
        changes::collect(self.collected.write(), &lists, old.and(Some(of_old)), new.and(Some(of_new)))
    }

    /// Collects keys that this transaction changes: they are voided in every tier once it is committed.
    ///
    /// Costs no trip. Collect inner objects before those derived from them. Before or after the statement makes no
    /// difference.
    ///
    /// # Errors
    /// As [`Write::invalidate`](mastaba::Write::invalidate).
    pub async fn invalidate<S: Source>(&self, keys: impl IntoIterator<Item = S::Key>) -> Result<(), Error> {
        self.collected.write().invalidate::<S>(keys).await
    }

    /// Collects the keys of a row that changes, which its type names ([`Keyed`]): for sources of one's own, beside what is
    /// collected for the entity.
    ///
    /// # Errors
    /// As [`Write::changed`](mastaba::Write::changed).
    pub fn changed<R: Keyed>(&self, old: &R, new: &R) -> Result<(), Error> {
        self.collected.write().changed(old, new)
    }

    /// Collects the keys of a row that is inserted: nothing may go on saying that they are absent.
    ///
    /// # Errors
    /// As [`Write::changed`](mastaba::Write::changed).
    pub fn inserted<R: Keyed>(&self, row: &R) -> Result<(), Error> {
        self.collected.write().inserted(row)
    }

    /// Collects the keys of a row that is deleted.
    ///
    /// # Errors
    /// As [`Write::changed`](mastaba::Write::changed).
    pub fn deleted<R: Keyed>(&self, row: &R) -> Result<(), Error> {
        self.collected.write().deleted(row)
    }

    /// Collects a key, and gives the request the value that is written for it: its reads have it at once, others load it
    /// after the commit, and after a rollback nobody has it.
    ///
    /// Costs no trip, and no statement after the commit.
    ///
    /// # Errors
    /// As [`Write::put`](mastaba::Write::put).
    pub async fn put<S: Source>(&self, key: S::Key, value: impl Into<Arc<S::Value>>) -> Result<(), Error> {
        self.collected.write().put::<S>(key, value).await
    }

    /// Holds what was collected up to now, in regions whose write mode asks for it, and renews the holds until the
    /// transaction ends: for one that stays open for long. [`commit`](Transaction::commit) holds by itself.
    ///
    /// One trip per region.
    ///
    /// # Errors
    /// As [`Write::hold`](mastaba::Write::hold).
    pub async fn hold(&self) -> Result<(), Error> {
        self.collected.write().hold().await
    }

    /// Collects a tag, of every region: for rows whose keys are not known.
    ///
    /// Costs no trip; one per region after the commit. Until then this request reads everything from the source.
    pub fn invalidate_tag(&self, tag: impl Into<String>) {
        self.collected.write().invalidate_tag(tag);
    }

    /// Collects a whole region.
    ///
    /// Costs no trip; one after the commit. Until then this request reads everything from the source.
    ///
    /// # Errors
    /// If there is no such region.
    pub fn clear(&self, region: &str) -> Result<(), Error> {
        self.collected.write().clear(region)
    }

    /// The value of a key as this transaction sees it, with what it has changed: see [`get_many`](Transaction::get_many).
    ///
    /// # Errors
    /// As [`RequestCache::get`](mastaba::RequestCache::get).
    pub async fn get<S>(&mut self, key: S::Key) -> Result<Option<Arc<S::Value>>, Error>
    where
        S: LoadIn<DatabaseTransaction>,
    {
        Ok(self.get_many::<S>([key]).await?.into_iter().next().and_then(|(_, value)| value))
    }

    /// The values of many keys as this transaction sees them, with what it has changed. Every distinct key is in the
    /// answer. Of entities: `tx.get_many::<ById<post::Entity>>([1, 2])`.
    ///
    /// One statement for all keys, through the connection of the transaction; the loader is [`LoadIn::load_in`]. It goes
    /// past all tiers, and no tier remembers what it finds, the request neither: it is not committed.
    ///
    /// # Errors
    /// The first error, if any key failed.
    pub async fn get_many<S>(
        &mut self,
        keys: impl IntoIterator<Item = S::Key>,
    ) -> Result<Answers<S::Key, Option<Arc<S::Value>>>, Error>
    where
        S: LoadIn<DatabaseTransaction>,
    {
        let doubts = self.seen.doubts();
        // until it has come to its end
        self.seen.doubt();
        let Some(level) = self.levels.last_mut() else {
            return Err(Error::usage("the transaction has ended"));
        };
        let found = self.request.get_many_in::<S, _>(level, keys).await?;
        self.seen.back_to(doubts);
        Ok(found)
    }
}
