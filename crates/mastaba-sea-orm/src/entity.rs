//! What an entity has to be, and what is found out about it once.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use mastaba::Key;
use sea_orm::sea_query::{FromValueTuple, ValueTuple};
use sea_orm::{EntityName, EntityTrait, Iterable, PrimaryKeyToColumn, PrimaryKeyTrait, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An entity whose rows can be cached: its `Model` derives `Serialize` and `Deserialize`, and its primary key is a
/// [`Key`], as numbers, texts, UUIDs and tuples of those are.
///
/// Every entity that fits has it; there is nothing to implement.
pub trait CachedEntity:
    EntityTrait<Model: Serialize + DeserializeOwned + Sync + 'static, PrimaryKey: PrimaryKeyTrait<ValueType: Key>>
{
}

impl<E> CachedEntity for E
where
    E: EntityTrait,
    E::Model: Serialize + DeserializeOwned + Sync + 'static,
    <E::PrimaryKey as PrimaryKeyTrait>::ValueType: Key,
{
}

/// The primary key of an entity: a tuple where it has several columns.
pub type KeyOf<E> = <<E as EntityTrait>::PrimaryKey as PrimaryKeyTrait>::ValueType;

/// The columns of the primary key, in its order.
pub(crate) fn primary_key<E: EntityTrait>() -> Vec<E::Column> {
    E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column).collect()
}

/// What a row has in these columns; `None` where that is not known.
pub(crate) type Columns<'v, E> = dyn Fn(<E as EntityTrait>::Column) -> Option<Value> + 'v;

/// The primary key of a row.
pub(crate) fn key_of<E: CachedEntity>(row: &Columns<'_, E>) -> Option<KeyOf<E>> {
    primary_key::<E>().into_iter().map(row).collect::<Option<Vec<_>>>().map(key_from::<E>)
}

/// A key of values that are of its types.
pub(crate) fn key_from<E: CachedEntity>(mut values: Vec<Value>) -> KeyOf<E> {
    let tuple = match values.len() {
        // taken from behind, so that nothing is copied
        1 => ValueTuple::One(values.remove(0)),
        2 => {
            let second = values.remove(1);
            ValueTuple::Two(values.remove(0), second)
        }
        3 => {
            let (third, second) = (values.remove(2), values.remove(1));
            ValueTuple::Three(values.remove(0), second, third)
        }
        _ => ValueTuple::Many(values),
    };
    KeyOf::<E>::from_value_tuple(tuple)
}

/// The name of the table, with that of its schema if the entity says one.
pub(crate) fn table<E: EntityName>() -> String {
    let entity = E::default();
    match entity.schema_name() {
        Some(schema) => format!("{schema}.{}", entity.table_name()),
        None => entity.table_name().to_owned(),
    }
}

/// What is the same for a type as long as the program runs, made when it is asked for first.
///
/// A static cannot be generic, so there is one for all types. What it holds is never freed: a program has so many entities.
pub(crate) fn once_of<T: 'static, V: Send + Sync + 'static>(make: impl FnOnce() -> V) -> &'static V {
    static KNOWN: LazyLock<RwLock<HashMap<TypeId, &'static (dyn Any + Send + Sync)>>> =
        LazyLock::new(RwLock::default);
    // one type may have a value of each of several types
    let id = TypeId::of::<(T, V)>();
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
    let known = known.unwrap_or_else(|| {
        // without the lock: what makes it may ask for another one
        let made: &'static V = Box::leak(Box::new(make()));
        *KNOWN.write().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert(made)
    });
    known.downcast_ref().expect("it is kept under its type")
}
