//! The columns of a child that hold the primary key of its parent, as its relation says.

use sea_orm::sea_query::ArrayType;
use sea_orm::{EntityTrait, IdenStatic, Iterable, ModelTrait, Related, RelationDef, Value};

use crate::entity::{CachedEntity, Columns, KeyOf, key_from, once_of, primary_key, table};

/// The columns of a child of type `C` that hold the primary key of its parent of type `P`, in the order of that key.
pub(crate) struct ForeignKey<C: EntityTrait> {
    columns: Vec<C::Column>,
    /// What the columns of the parent's key are.
    types: Vec<ArrayType>,
}

/// Found out once per pair of entities: an error is what is wrong with the relation.
pub(crate) type Found<C> = Result<ForeignKey<C>, String>;

impl<C: EntityTrait> ForeignKey<C> {
    /// That of a child which says whom it belongs to.
    pub(crate) fn of_child<P: CachedEntity>() -> &'static Found<C>
    where
        C: Related<P>,
    {
        once_of::<(C, P), _>(|| Self::new::<P>(&<C as Related<P>>::to(), <C as Related<P>>::via().as_ref()))
    }

    /// That of a parent which says what it has.
    pub(crate) fn of_parent<P: CachedEntity + Related<C>>() -> &'static Found<C> {
        // by another name than what the child says
        once_of::<(P, C, ()), _>(|| {
            Self::new::<P>(&<P as Related<C>>::to().rev(), <P as Related<C>>::via().as_ref())
        })
    }

    /// Of a relation from the child to its parent.
    fn new<P: CachedEntity>(relation: &RelationDef, via: Option<&RelationDef>) -> Found<C> {
        let (child, parent) = (table::<C>(), table::<P>());
        let wrong = |why: &str| format!("the relation of {child} to {parent} {why}");
        if via.is_some() {
            return Err(wrong("goes through a third table: make a source of the rows of that one"));
        }
        if relation.on_condition.is_some() {
            return Err(wrong("has a condition of its own, which nothing here would look at"));
        }
        if relation.is_owner {
            return Err(wrong("is not one of belonging to it: ask the other way round"));
        }
        let key = primary_key::<P>();
        let leads = "does not lead to the primary key of the latter, by which alone its rows are cached";
        if relation.to_col.arity() != key.len() || relation.from_col.arity() != key.len() {
            return Err(wrong(leads));
        }
        let mut columns = Vec::new();
        for of_key in &key {
            let at = relation.to_col.iter().position(|column| column.to_string() == of_key.as_str());
            let from = at.and_then(|at| relation.from_col.iter().nth(at)).ok_or_else(|| wrong(leads))?;
            let column = C::Column::iter().find(|column| column.as_str() == from.to_string());
            columns.push(column.ok_or_else(|| wrong("names a column that the entity does not have"))?);
        }
        let types = key.into_iter().map(<P::Model as ModelTrait>::get_value_type).collect();
        Ok(Self { columns, types })
    }

    pub(crate) fn columns(&self) -> &[C::Column] {
        &self.columns
    }

    /// Whether its columns are of the very types of the parent's key.
    pub(crate) fn fits(&self) -> bool {
        let mut of_columns =
            self.columns.iter().map(|column| <C::Model as ModelTrait>::get_value_type(*column));
        self.types.iter().all(|of_key| of_columns.next().as_ref() == Some(of_key))
    }

    /// The key of the parent of a row; `None` where it has none, or where that is not known.
    ///
    /// # Errors
    /// If a value cannot be one of the key.
    pub(crate) fn parent<P: CachedEntity>(&self, row: &Columns<'_, C>) -> Result<Option<KeyOf<P>>, String> {
        let mut values = Vec::with_capacity(self.columns.len());
        for (column, wanted) in self.columns.iter().zip(&self.types) {
            let Some(value) = row(*column).filter(|value| *value != value.as_null()) else { return Ok(None) };
            values.push(as_type(&value, wanted).ok_or_else(|| {
                format!(
                    "{}.{} holds {value:?}, which is no {wanted:?} as the key of {}",
                    table::<C>(),
                    column.as_str(),
                    table::<P>()
                )
            })?);
        }
        Ok(Some(key_from::<P>(values)))
    }
}

/// A value as one of another type: a number that fits, or one of that type already.
fn as_type(value: &Value, wanted: &ArrayType) -> Option<Value> {
    if value.array_type() == *wanted {
        return Some(value.clone());
    }
    let number = match value {
        Value::TinyInt(number) => number.map(i128::from),
        Value::SmallInt(number) => number.map(i128::from),
        Value::Int(number) => number.map(i128::from),
        Value::BigInt(number) => number.map(i128::from),
        Value::TinyUnsigned(number) => number.map(i128::from),
        Value::SmallUnsigned(number) => number.map(i128::from),
        Value::Unsigned(number) => number.map(i128::from),
        Value::BigUnsigned(number) => number.map(i128::from),
        _ => None,
    }?;
    match wanted {
        ArrayType::TinyInt => i8::try_from(number).ok().map(Value::from),
        ArrayType::SmallInt => i16::try_from(number).ok().map(Value::from),
        ArrayType::Int => i32::try_from(number).ok().map(Value::from),
        ArrayType::BigInt => i64::try_from(number).ok().map(Value::from),
        ArrayType::TinyUnsigned => u8::try_from(number).ok().map(Value::from),
        ArrayType::SmallUnsigned => u16::try_from(number).ok().map(Value::from),
        ArrayType::Unsigned => u32::try_from(number).ok().map(Value::from),
        ArrayType::BigUnsigned => u64::try_from(number).ok().map(Value::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_fits_where_it_is_not_too_large() {
        assert_eq!(as_type(&Value::from(7_i32), &ArrayType::BigInt), Some(Value::from(7_i64)));
        assert_eq!(as_type(&Value::from(7_i64), &ArrayType::TinyUnsigned), Some(Value::from(7_u8)));
        assert_eq!(as_type(&Value::from(300_i64), &ArrayType::TinyUnsigned), None);
        assert_eq!(as_type(&Value::from(-1_i64), &ArrayType::BigUnsigned), None);
        assert_eq!(as_type(&Value::from("7"), &ArrayType::Int), None);
        assert_eq!(as_type(&Value::from("7"), &ArrayType::String), Some(Value::from("7")));
    }
}
