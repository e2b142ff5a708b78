//! Every public future can be spawned: checked whenever the crate is compiled, as in the core. Nothing of this runs.

use mastaba::RequestCache;
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, DatabaseConnection, EntityTrait, IntoActiveModel, Related,
};

use crate::begin::Begin;
use crate::by_id::ById;
use crate::entity::{CachedEntity, KeyOf};
use crate::reading::{Entities, Relations};
use crate::related_ids::RelatedIds;
use crate::transaction::Transaction;

const fn send<T: Send>(_: &T) {}
const fn send_and_sync<T: Send + Sync>() {}

const _: () = send_and_sync::<Transaction>();

fn of_sources<P: CachedEntity + Related<C>, C: CachedEntity>() {
    send_and_sync::<ById<P>>();
    send_and_sync::<RelatedIds<P, C>>();
}

fn of_a_request<E: CachedEntity>(request: &RequestCache, db: &DatabaseConnection, key: &KeyOf<E>) {
    send(&request.entity::<E>(key.clone()));
    send(&request.entities::<E>([key.clone()]));
    send(&request.begin(db));
}

fn of_a_model<P, C>(request: &RequestCache, parent: &P::Model, child: &C::Model)
where
    P: CachedEntity + Related<C>,
    C: CachedEntity + Related<P>,
{
    send(&parent.related_many::<C>(request));
    send(&child.related::<P>(request));
}

fn of_a_transaction<A>(begin: fn() -> Transaction, row: &A, key: &KeyOf<A::Entity>)
where
    A: ActiveModelTrait<Entity: CachedEntity> + ActiveModelBehavior + Send + Sync,
    <A::Entity as EntityTrait>::Model: IntoActiveModel<A>,
{
    let mut tx = begin();
    send(&tx.insert(row.clone()));
    send(&tx.update(row.clone()));
    send(&tx.delete(row.clone()));
    send(&tx.changed_active(row));
    send(&tx.invalidate::<ById<A::Entity>>([key.clone()]));
    send(&tx.hold());
    send(&tx.get::<ById<A::Entity>>(key.clone()));
    send(&tx.get_many::<ById<A::Entity>>([key.clone()]));
    send(&tx.savepoint());
    send(&tx.commit());
    send(&begin().rollback());
}
