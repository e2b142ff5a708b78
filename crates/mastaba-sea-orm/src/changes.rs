//! Which keys the change of a row concerns.

use std::any::TypeId;
use std::sync::{PoisonError, RwLock};

use mastaba::{Cache, Error, Keyed, Keys, Write};
use sea_orm::{IdenStatic, Related};

use crate::by_id::ById;
use crate::entity::{CachedEntity, Columns, KeyOf, key_of, once_of, primary_key, table};
use crate::foreign_key::ForeignKey;
use crate::related_ids::RelatedIds;

/// The lists that rows of one entity may stand in.
type Lists<C> = RwLock<Vec<ListOf<C>>>;

/// A source of lists that rows of `C` stand in, whatever they belong to.
pub(crate) struct ListOf<C: CachedEntity> {
    list: TypeId,
    /// Whether a cache has it.
    is_in: fn(&Cache) -> bool,
    /// Names the lists that a row leaves and enters.
    name: fn(Option<&Columns<'_, C>>, Option<&Columns<'_, C>>, &mut Keys),
}

impl<C: CachedEntity> Clone for ListOf<C> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

/// From now on the lists of `P` are voided where rows of `C` change.
pub(crate) fn know<P: CachedEntity + Related<C>, C: CachedEntity>() {
    let list = ListOf::<C> {
        list: TypeId::of::<RelatedIds<P, C>>(),
        is_in: |cache| cache.encoding_of::<RelatedIds<P, C>>().is_ok(),
        name: |old, new, keys| {
            let parent = |row: Option<&Columns<'_, C>>| parent_of::<P, C>(row?);
            let (left, entered) = (parent(old), parent(new));
            // a list holds nothing of a row but its primary key, which no update changes
            if left != entered {
                left.into_iter().chain(entered).for_each(|key| keys.add::<RelatedIds<P, C>>(key));
            }
        },
    };
    let mut lists = once_of::<C, Lists<C>>(Lists::default).write().unwrap_or_else(PoisonError::into_inner);
    if lists.iter().all(|known| known.list != list.list) {
        lists.push(list);
    }
}

fn parent_of<P: CachedEntity + Related<C>, C: CachedEntity>(row: &Columns<'_, C>) -> Option<KeyOf<P>> {
    // what is wrong with the relation is said when the cache is built
    ForeignKey::<C>::of_parent::<P>().as_ref().ok()?.parent::<P>(row).ok()?
}

/// The lists of this cache that rows of an entity may stand in.
///
/// # Errors
/// If the rows themselves are not in this cache: whoever writes them has to say so.
pub(crate) fn lists<C: CachedEntity>(cache: &Cache) -> Result<Vec<ListOf<C>>, Error> {
    cache.encoding_of::<ById<C>>()?;
    let lists = once_of::<C, Lists<C>>(Lists::default).read().unwrap_or_else(PoisonError::into_inner);
    Ok(lists.iter().filter(|list| (list.is_in)(cache)).cloned().collect())
}

/// Collects the keys that a change of a row concerns: its own, and those of the lists that it leaves and enters.
///
/// # Errors
/// As [`Write::changed`], or if the primary key is not known.
pub(crate) fn collect<C: CachedEntity>(
    write: &Write,
    lists: &[ListOf<C>],
    old: Option<&Columns<'_, C>>,
    new: Option<&Columns<'_, C>>,
) -> Result<(), Error> {
    let mut ids = Vec::new();
    for row in old.into_iter().chain(new) {
        ids.push(key_of::<C>(row).ok_or_else(|| no_key::<C>())?);
    }
    // inner objects before those derived from them
    write.inserted(&Named(|keys: &mut Keys| {
        ids.iter().for_each(|id| keys.add::<ById<C>>(id.clone()));
        lists.iter().for_each(|list| (list.name)(old, new, keys));
    }))
}

fn no_key<C: CachedEntity>() -> Error {
    let columns: Vec<_> = primary_key::<C>().iter().map(IdenStatic::as_str).collect();
    Error::usage(format!(
        "the primary key ({}) of a row of {} is not set, so that nobody can tell what it stands under: insert it by \
         `Transaction::insert`, or give the model that the insert gave to `Transaction::changed_model`",
        columns.join(", "),
        table::<C>()
    ))
}

/// Keys that are named on the spot.
struct Named<F>(F);

impl<F: Fn(&mut Keys)> Keyed for Named<F> {
    fn keys(&self, keys: &mut Keys) {
        (self.0)(keys);
    }
}
