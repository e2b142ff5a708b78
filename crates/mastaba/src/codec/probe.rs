//! Walks over a value as it serializes, and writes nothing: does a format give back exactly this value?
//!
//! postcard writes neither names nor lengths of structs. It reads back what it wrote only if the value serializes
//! as the type deserializes, so every value is held against the [shapes](Shapes) of its type: a field that
//! `skip_serializing_if` leaves out, a sequence of unknown length or an unlike variant is found here.
//!
//! MessagePack writes `None`, `()` and `Some(None)` alike; a value in which that matters is found here too.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::shape::{Body, Id, Kind, Scalar, Shape, Shapes};

/// The value does not fit.
#[derive(Debug)]
pub(super) struct Unfit;

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it serializes in a form that cannot be read back")
    }
}

impl std::error::Error for Unfit {}

impl ser::Error for Unfit {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Whether `value` serializes exactly as its type deserializes.
pub(super) fn fits<T: Serialize + ?Sized>(value: &T, shapes: &Shapes) -> bool {
    value.serialize(Probe { expect: Some((shapes, Shapes::ROOT)), in_some: false }).is_ok()
}

/// Whether no `Some` in `value` would be read back as `None` from a format with a single null.
pub(super) fn has_one_null<T: Serialize + ?Sized>(value: &T) -> bool {
    value.serialize(Probe { expect: None, in_some: false }).is_ok()
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    /// What must come now; `None`: anything, but a null inside a `Some`.
    expect: Option<(&'a Shapes, Id)>,
    in_some: bool,
}

impl<'a> Probe<'a> {
    fn shape(self) -> Option<(&'a Shapes, &'a Shape)> {
        self.expect.map(|(shapes, node)| (shapes, &shapes.nodes[node]))
    }

    fn scalar(self, scalar: Scalar) -> Result<(), Unfit> {
        match self.shape() {
            None if scalar == Scalar::Unit && self.in_some => Err(Unfit),
            None => Ok(()),
            Some((_, shape)) if *shape == Shape::Scalar(scalar) => Ok(()),
            Some(_) => Err(Unfit),
        }
    }

    /// Items, each of which must have the next of `nodes`.
    fn items(self, nodes: &'a [Id]) -> Items<'a> {
        let (shapes, nodes) = self.expect.map_or((None, &[][..]), |(shapes, _)| (Some(shapes), nodes));
        Items { shapes, nodes, fields: &[], place: 0, repeat: None }
    }

    fn anything(self) -> Items<'a> {
        self.items(&[])
    }

    fn repeated(self, nodes: &'a [Id], len: Option<usize>) -> Result<Items<'a>, Unfit> {
        let items = len.and_then(|len| len.checked_mul(nodes.len())).ok_or(Unfit)?;
        Ok(Items { repeat: Some(items), ..self.items(nodes) })
    }

    fn body(self) -> Result<Option<&'a Body>, Unfit> {
        match self.shape() {
            None => Ok(None),
            Some((shapes, Shape::Named(index))) => match &shapes.named[*index].kind {
                Kind::Struct(body) => Ok(Some(body)),
                Kind::Enum(_) => Err(Unfit),
            },
            Some(_) => Err(Unfit),
        }
    }

    fn variant(self, number: u32, name: &str) -> Result<Option<&'a Body>, Unfit> {
        match self.shape() {
            None => Ok(None),
            Some((shapes, Shape::Named(index))) => match &shapes.named[*index].kind {
                Kind::Enum(variants) => match variants.get(number as usize) {
                    Some(variant) if variant.name == name => variant.body.as_ref().map(Some).ok_or(Unfit),
                    _ => Err(Unfit),
                },
                Kind::Struct(_) => Err(Unfit),
            },
            Some(_) => Err(Unfit),
        }
    }

    fn unit(self, body: Option<&Body>) -> Result<(), Unfit> {
        match body {
            None | Some(Body::Unit) => Ok(()),
            Some(_) => Err(Unfit),
        }
    }

    fn newtype<T: Serialize + ?Sized>(self, body: Option<&Body>, value: &T) -> Result<(), Unfit> {
        let expect = match (self.expect, body) {
            (Some((shapes, _)), Some(Body::NewType(node))) => Some((shapes, *node)),
            (None, _) => None,
            _ => return Err(Unfit),
        };
        value.serialize(Probe { expect, ..self })
    }

    fn tuple(self, body: Option<&'a Body>) -> Result<Items<'a>, Unfit> {
        match body {
            None => Ok(self.anything()),
            Some(Body::Tuple(nodes)) => Ok(self.items(nodes)),
            Some(_) => Err(Unfit),
        }
    }

    fn fields(self, body: Option<&'a Body>) -> Result<Items<'a>, Unfit> {
        match body {
            None => Ok(self.anything()),
            Some(Body::Struct(fields, nodes)) => Ok(Items { fields, ..self.items(nodes) }),
            Some(_) => Err(Unfit),
        }
    }
}

macro_rules! scalars {
    ($($method:ident $type:ty as $scalar:ident,)*) => {$(
        fn $method(self, _: $type) -> Result<(), Unfit> {
            self.scalar(Scalar::$scalar)
        }
    )*};
}

impl<'a> Serializer for Probe<'a> {
    type Ok = ();
    type Error = Unfit;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Items<'a>;
    type SerializeStruct = Items<'a>;
    type SerializeStructVariant = Items<'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    scalars! {
        serialize_bool bool as Bool,
        serialize_i8 i8 as I8,
        serialize_i16 i16 as I16,
        serialize_i32 i32 as I32,
        serialize_i64 i64 as I64,
        serialize_i128 i128 as I128,
        serialize_u8 u8 as U8,
        serialize_u16 u16 as U16,
        serialize_u32 u32 as U32,
        serialize_u64 u64 as U64,
        serialize_u128 u128 as U128,
        serialize_f32 f32 as F32,
        serialize_f64 f64 as F64,
        serialize_char char as Char,
        serialize_str &str as Str,
        serialize_bytes &[u8] as Bytes,
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<(), Unfit> {
        self.scalar(Scalar::Str)
    }

    fn serialize_unit(self) -> Result<(), Unfit> {
        self.scalar(Scalar::Unit)
    }

    fn serialize_none(self) -> Result<(), Unfit> {
        match self.shape() {
            None if self.in_some => Err(Unfit),
            None | Some((_, Shape::Option(_))) => Ok(()),
            Some(_) => Err(Unfit),
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unfit> {
        let expect = match self.shape() {
            None => None,
            Some((shapes, Shape::Option(inner))) => Some((shapes, *inner)),
            Some(_) => return Err(Unfit),
        };
        value.serialize(Probe { expect, in_some: true })
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unfit> {
        self.unit(self.body()?)
    }

    fn serialize_unit_variant(self, _: &'static str, number: u32, name: &'static str) -> Result<(), Unfit> {
        self.unit(self.variant(number, name)?)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unfit> {
        self.newtype(self.body()?, value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        number: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unfit> {
        Probe { in_some: false, ..self }.newtype(self.variant(number, name)?, value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Items<'a>, Unfit> {
        match self.shape() {
            None => Ok(self.anything()),
            Some((_, Shape::Seq(item))) => self.repeated(std::slice::from_ref(item), len),
            Some(_) => Err(Unfit),
        }
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'a>, Unfit> {
        match self.shape() {
            None => Ok(self.anything()),
            Some((_, Shape::Tuple(nodes))) => Ok(self.items(nodes)),
            Some(_) => Err(Unfit),
        }
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, Unfit> {
        self.tuple(self.body()?)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        number: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Items<'a>, Unfit> {
        self.tuple(self.variant(number, name)?)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Items<'a>, Unfit> {
        match self.shape() {
            None => Ok(self.anything()),
            Some((_, Shape::Map(pair))) => self.repeated(pair, len),
            Some(_) => Err(Unfit),
        }
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, Unfit> {
        self.fields(self.body()?)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        number: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Items<'a>, Unfit> {
        self.fields(self.variant(number, name)?)
    }
}

/// The items of one level, as they come.
struct Items<'a> {
    /// `None`: anything may come.
    shapes: Option<&'a Shapes>,
    nodes: &'a [Id],
    fields: &'a [&'static str],
    place: usize,
    /// The nodes come over and over, this many in all.
    repeat: Option<usize>,
}

impl Items<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        let Some(shapes) = self.shapes else {
            return value.serialize(Probe { expect: None, in_some: false });
        };
        let place = if self.repeat.is_some() { self.place % self.nodes.len() } else { self.place };
        let node = *self.nodes.get(place).ok_or(Unfit)?;
        self.place += 1;
        value.serialize(Probe { expect: Some((shapes, node)), in_some: false })
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unfit> {
        if self.shapes.is_some() && self.fields.get(self.place) != Some(&name) {
            return Err(Unfit);
        }
        self.item(value)
    }

    /// postcard would write nothing, and read the next field here.
    fn skip(&self) -> Result<(), Unfit> {
        if self.shapes.is_some() { Err(Unfit) } else { Ok(()) }
    }

    fn done(&self) -> Result<(), Unfit> {
        let all = self.place == self.repeat.unwrap_or(self.nodes.len());
        if self.shapes.is_none() || all { Ok(()) } else { Err(Unfit) }
    }
}

macro_rules! items {
    ($($of:ident $item:ident,)*) => {$(
        impl ser::$of for Items<'_> {
            type Ok = ();
            type Error = Unfit;
            fn $item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
                self.item(value)
            }
            fn end(self) -> Result<(), Unfit> {
                self.done()
            }
        }
    )*};
}

items! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

macro_rules! fields {
    ($($of:ident,)*) => {$(
        impl ser::$of for Items<'_> {
            type Ok = ();
            type Error = Unfit;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unfit> {
                self.field(name, value)
            }
            fn skip_field(&mut self, _: &'static str) -> Result<(), Unfit> {
                self.skip()
            }
            fn end(self) -> Result<(), Unfit> {
                self.done()
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant, }

impl ser::SerializeMap for Items<'_> {
    type Ok = ();
    type Error = Unfit;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unfit> {
        self.item(key)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        self.item(value)
    }
    fn end(self) -> Result<(), Unfit> {
        self.done()
    }
}
