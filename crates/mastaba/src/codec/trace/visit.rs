//! The deserializer that answers with samples and notes what it is asked for.

use std::any::type_name;

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::super::shape::{Body, Id, Scalar, Shape, Stop, TypeKind, Variant};
use super::{Tracer, unsteady};

/// Strings that common types can be read from.
const STRINGS: [&str; 14] = [
    "",
    "a",
    "0",
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00",
    "1970-01-01",
    "00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
    "127.0.0.1:80",
    "http://a.example/",
    "a@a.example",
    "UTC",
    "EUR",
];
/// Lengths of byte strings: of a UUID, an object id, an address, a hash.
const BYTES: [usize; 5] = [0, 16, 12, 4, 32];

/// What a struct or a variant asks for.
#[derive(Clone, Copy)]
enum FieldsOf {
    Unit,
    NewType,
    Tuple(usize),
    Struct(&'static [&'static str]),
}

impl FieldsOf {
    fn body(self, tracer: &mut Tracer<'_>) -> Body {
        match self {
            Self::Unit => Body::Unit,
            Self::NewType => Body::NewType(tracer.shapes.node()),
            Self::Tuple(len) => Body::Tuple(tracer.nodes(len)),
            Self::Struct(fields) => Body::Struct(fields, tracer.nodes(fields.len())),
        }
    }

    /// The nodes of `body`, which was made for an earlier question.
    fn again(self, body: &Body) -> Result<Vec<Id>, Stop> {
        let same = match (self, body) {
            (Self::Unit, Body::Unit) | (Self::NewType, Body::NewType(_)) => true,
            (Self::Tuple(len), Body::Tuple(nodes)) => len == nodes.len(),
            (Self::Struct(fields), Body::Struct(old, _)) => fields == *old,
            _ => false,
        };
        if same { Ok(body.nodes().to_vec()) } else { Err(unsteady()) }
    }
}

/// Stands for the value at one node.
pub(super) struct Trace<'a, 's> {
    pub(super) tracer: &'a mut Tracer<'s>,
    pub(super) at: Id,
}

impl<'s> Trace<'_, 's> {
    fn scalar(&mut self, scalar: Scalar, samples: usize) -> Result<usize, Stop> {
        if self.tracer.settle(self.at, |_| Shape::Scalar(scalar))? != Shape::Scalar(scalar) {
            return Err(unsteady());
        }
        Ok(self.tracer.take(self.at, samples))
    }

    fn structure<T>(
        self,
        rust: &'static str,
        name: &'static str,
        form: FieldsOf,
        visit: impl FnOnce(TracedItems<'_, 's>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let index = self.tracer.enter(self.at, rust, name, |tracer| TypeKind::Struct(form.body(tracer)))?;
        let nodes = match &self.tracer.shapes.named[index].kind {
            TypeKind::Struct(body) => form.again(body)?,
            TypeKind::Enum(_) => return Err(unsteady()),
        };
        let made = self.tracer.below(nodes, visit)?;
        self.tracer.open.pop();
        Ok(made)
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $scalar:ident [$zero:expr, $one:expr],)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
            let sample = self.scalar(Scalar::$scalar, 2)?;
            visitor.$visit([$zero, $one][sample])
        }
    )*};
}

macro_rules! refuse {
    ($($method:ident $what:literal,)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            unsupported($what)
        }
    )*};
}

impl<'de> Deserializer<'de> for Trace<'_, '_> {
    type Error = Stop;

    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        deserialize_bool visit_bool Bool [false, true],
        deserialize_i8 visit_i8 I8 [0, 1],
        deserialize_i16 visit_i16 I16 [0, 1],
        deserialize_i32 visit_i32 I32 [0, 1],
        deserialize_i64 visit_i64 I64 [0, 1],
        deserialize_i128 visit_i128 I128 [0, 1],
        deserialize_u8 visit_u8 U8 [0, 1],
        deserialize_u16 visit_u16 U16 [0, 1],
        deserialize_u32 visit_u32 U32 [0, 1],
        deserialize_u64 visit_u64 U64 [0, 1],
        deserialize_u128 visit_u128 U128 [0, 1],
        deserialize_f32 visit_f32 F32 [0.0, 1.0],
        deserialize_f64 visit_f64 F64 [0.0, 1.0],
        deserialize_char visit_char Char ['a', 'A'],
    }

    refuse! {
        deserialize_any "anything",
        deserialize_identifier "a name",
        deserialize_ignored_any "something to ignore",
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        let sample = self.scalar(Scalar::Str, STRINGS.len())?;
        visitor.visit_str(STRINGS[sample])
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        let sample = self.scalar(Scalar::Bytes, BYTES.len())?;
        visitor.visit_bytes(&[0; 32][..BYTES[sample]])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.scalar(Scalar::Unit, 1)?;
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.tracer.settle(self.at, |tracer| Shape::Option(tracer.shapes.node()))? {
            Shape::Option(inner) => self.tracer.below(vec![inner], |items| visitor.visit_some(items.only()?)),
            _ => Err(unsteady()),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.tracer.settle(self.at, |tracer| Shape::Seq(tracer.shapes.node()))? {
            Shape::Seq(item) => self.tracer.below(vec![item], |items| visitor.visit_seq(items)),
            _ => Err(unsteady()),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        // The length comes from a type's own code; no nodes for a million of them.
        if len > 4096 {
            return unsupported("a long tuple");
        }
        match self.tracer.settle(self.at, |tracer| Shape::Tuple(tracer.nodes(len)))? {
            Shape::Tuple(nodes) if nodes.len() == len => {
                self.tracer.below(nodes, |items| visitor.visit_seq(items))
            }
            _ => Err(unsteady()),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let new = |tracer: &mut Tracer<'_>| Shape::Map([tracer.shapes.node(), tracer.shapes.node()]);
        match self.tracer.settle(self.at, new)? {
            Shape::Map(pair) => self.tracer.below(pair.to_vec(), |items| visitor.visit_map(items)),
            _ => Err(unsteady()),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.structure(type_name::<V::Value>(), name, FieldsOf::Unit, |_| visitor.visit_unit())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.structure(type_name::<V::Value>(), name, FieldsOf::NewType, |items| {
            visitor.visit_newtype_struct(items.only()?)
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.structure(type_name::<V::Value>(), name, FieldsOf::Tuple(len), |items| visitor.visit_seq(items))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.structure(type_name::<V::Value>(), name, FieldsOf::Struct(fields), |items| {
            visitor.visit_seq(items)
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if variants.is_empty() {
            return unsupported("an enum without variants");
        }
        let index = self.tracer.enter(self.at, type_name::<V::Value>(), name, |_| {
            TypeKind::Enum(variants.iter().map(|name| Variant { name, body: None, made: false }).collect())
        })?;
        match &self.tracer.shapes.named[index].kind {
            TypeKind::Enum(old) if old.iter().map(|variant| &variant.name).eq(variants) => {}
            _ => return Err(unsteady()),
        }
        let variant = self.tracer.choose(index);
        let made = visitor.visit_enum(OneVariant { tracer: self.tracer, named: index, variant })?;
        self.tracer.open.pop();
        Ok(made)
    }
}

/// The nodes of one level, in order.
pub(super) struct TracedItems<'a, 's> {
    pub(super) tracer: &'a mut Tracer<'s>,
    pub(super) nodes: std::vec::IntoIter<Id>,
}

impl<'a, 's> TracedItems<'a, 's> {
    fn only(mut self) -> Result<Trace<'a, 's>, Stop> {
        let at = self.nodes.next().ok_or_else(unsteady)?;
        Ok(Trace { tracer: self.tracer, at })
    }

    fn next<'de, T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        match self.nodes.next() {
            Some(at) => seed.deserialize(Trace { tracer: self.tracer, at }).map(Some),
            None => Ok(None),
        }
    }
}

impl<'de> SeqAccess<'de> for TracedItems<'_, '_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len())
    }
}

impl<'de> MapAccess<'de> for TracedItems<'_, '_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        self.next(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        self.next(seed)?.ok_or_else(unsteady)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len().div_ceil(2))
    }
}

fn unsupported<T>(what: &str) -> Result<T, Stop> {
    Err(Stop::new(format!("it asks for {what}")))
}

struct OneVariant<'a, 's> {
    tracer: &'a mut Tracer<'s>,
    named: usize,
    variant: usize,
}

impl<'s> OneVariant<'_, 's> {
    fn body<T>(
        self,
        form: FieldsOf,
        visit: impl FnOnce(TracedItems<'_, 's>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let new = form.body(self.tracer);
        let TypeKind::Enum(variants) = &mut self.tracer.shapes.named[self.named].kind else {
            return Err(unsteady());
        };
        let variant = &mut variants[self.variant];
        let nodes = form.again(variant.body.get_or_insert(new))?;
        if !std::mem::replace(&mut variant.made, true) {
            self.tracer.made += 1;
            self.tracer.begun.push((self.named, self.variant));
        }
        self.tracer.below(nodes, visit)
    }
}

impl<'de> EnumAccess<'de> for OneVariant<'_, '_> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Stop> {
        // The list of names and the numbers are two matters to an implementation by hand; the values that are
        // made here are later checked for having both, as they serialize.
        let number: U32Deserializer<Stop> = (self.variant as u32).into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> VariantAccess<'de> for OneVariant<'_, '_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.body(FieldsOf::Unit, |_| Ok(()))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        self.body(FieldsOf::NewType, |items| seed.deserialize(items.only()?))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.body(FieldsOf::Tuple(len), |items| visitor.visit_seq(items))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.body(FieldsOf::Struct(fields), |items| visitor.visit_seq(items))
    }
}
