//! Walks over a value as it serializes, and writes nothing: does postcard give back exactly this value?
//!
//! postcard writes neither names nor lengths of structs. It reads back what it wrote only if the value serializes
//! as the type deserializes, so every value is held against the [shapes](Shapes) of its type: a field that
//! `skip_serializing_if` leaves out, a sequence of unknown length or an unlike variant is found here. The walk
//! goes no deeper than the shapes do, and those of a recursive type do not exist.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::shape::{Body, Id, Scalar, Shape, Shapes, TypeKind};

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
    value.serialize(Probe { shapes, node: Shapes::ROOT }).is_ok()
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    shapes: &'a Shapes,
    /// What must come now.
    node: Id,
}

impl<'a> Probe<'a> {
    fn shape(self) -> &'a Shape {
        &self.shapes.nodes[self.node]
    }

    fn at(self, node: Id) -> Self {
        Self { node, ..self }
    }

    fn scalar(self, scalar: Scalar) -> Result<(), Unfit> {
        if *self.shape() == Shape::Scalar(scalar) { Ok(()) } else { Err(Unfit) }
    }

    /// Items, each of which must have the next of `nodes`.
    fn items(self, nodes: &'a [Id]) -> ProbedItems<'a> {
        ProbedItems { probe: self, nodes, fields: &[], place: 0, repeat: None }
    }

    fn repeated(self, nodes: &'a [Id], len: Option<usize>) -> Result<ProbedItems<'a>, Unfit> {
        let items = len.and_then(|len| len.checked_mul(nodes.len())).ok_or(Unfit)?;
        Ok(ProbedItems { repeat: Some(items), ..self.items(nodes) })
    }

    fn kind(self) -> Result<&'a TypeKind, Unfit> {
        match self.shape() {
            Shape::Named(index) => Ok(&self.shapes.named[*index].kind),
            _ => Err(Unfit),
        }
    }

    fn body(self) -> Result<&'a Body, Unfit> {
        match self.kind()? {
            TypeKind::Struct(body) => Ok(body),
            TypeKind::Enum(_) => Err(Unfit),
        }
    }

    fn variant(self, number: u32, name: &str) -> Result<&'a Body, Unfit> {
        let TypeKind::Enum(variants) = self.kind()? else { return Err(Unfit) };
        match variants.get(number as usize) {
            Some(variant) if variant.name == name => variant.body.as_ref().ok_or(Unfit),
            _ => Err(Unfit),
        }
    }

    fn unit(self, body: &Body) -> Result<(), Unfit> {
        if matches!(body, Body::Unit) { Ok(()) } else { Err(Unfit) }
    }

    fn newtype<T: Serialize + ?Sized>(self, body: &Body, value: &T) -> Result<(), Unfit> {
        match body {
            Body::NewType(node) => value.serialize(self.at(*node)),
            _ => Err(Unfit),
        }
    }

    fn tuple(self, body: &'a Body) -> Result<ProbedItems<'a>, Unfit> {
        match body {
            Body::Tuple(nodes) => Ok(self.items(nodes)),
            _ => Err(Unfit),
        }
    }

    fn fields(self, body: &'a Body) -> Result<ProbedItems<'a>, Unfit> {
        match body {
            Body::Struct(fields, nodes) => Ok(ProbedItems { fields, ..self.items(nodes) }),
            _ => Err(Unfit),
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
    type SerializeSeq = ProbedItems<'a>;
    type SerializeTuple = ProbedItems<'a>;
    type SerializeTupleStruct = ProbedItems<'a>;
    type SerializeTupleVariant = ProbedItems<'a>;
    type SerializeMap = ProbedItems<'a>;
    type SerializeStruct = ProbedItems<'a>;
    type SerializeStructVariant = ProbedItems<'a>;

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
        if matches!(self.shape(), Shape::Option(_)) { Ok(()) } else { Err(Unfit) }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unfit> {
        match self.shape() {
            Shape::Option(inner) => value.serialize(self.at(*inner)),
            _ => Err(Unfit),
        }
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
        self.newtype(self.variant(number, name)?, value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<ProbedItems<'a>, Unfit> {
        match self.shape() {
            Shape::Seq(item) => self.repeated(std::slice::from_ref(item), len),
            _ => Err(Unfit),
        }
    }

    fn serialize_tuple(self, _: usize) -> Result<ProbedItems<'a>, Unfit> {
        match self.shape() {
            Shape::Tuple(nodes) => Ok(self.items(nodes)),
            _ => Err(Unfit),
        }
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<ProbedItems<'a>, Unfit> {
        self.tuple(self.body()?)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        number: u32,
        name: &'static str,
        _: usize,
    ) -> Result<ProbedItems<'a>, Unfit> {
        self.tuple(self.variant(number, name)?)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<ProbedItems<'a>, Unfit> {
        match self.shape() {
            Shape::Map(pair) => self.repeated(pair, len),
            _ => Err(Unfit),
        }
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<ProbedItems<'a>, Unfit> {
        self.fields(self.body()?)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        number: u32,
        name: &'static str,
        _: usize,
    ) -> Result<ProbedItems<'a>, Unfit> {
        self.fields(self.variant(number, name)?)
    }
}

/// The items of one level, as they come.
struct ProbedItems<'a> {
    probe: Probe<'a>,
    nodes: &'a [Id],
    fields: &'a [&'static str],
    place: usize,
    /// The nodes come over and over, this many in all.
    repeat: Option<usize>,
}

impl ProbedItems<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        let place = if self.repeat.is_some() { self.place % self.nodes.len() } else { self.place };
        let node = *self.nodes.get(place).ok_or(Unfit)?;
        self.place += 1;
        value.serialize(self.probe.at(node))
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unfit> {
        if self.fields.get(self.place) == Some(&name) { self.item(value) } else { Err(Unfit) }
    }

    fn done(&self) -> Result<(), Unfit> {
        if self.place == self.repeat.unwrap_or(self.nodes.len()) { Ok(()) } else { Err(Unfit) }
    }
}

macro_rules! items {
    ($($of:ident $item:ident,)*) => {$(
        impl ser::$of for ProbedItems<'_> {
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
        impl ser::$of for ProbedItems<'_> {
            type Ok = ();
            type Error = Unfit;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unfit> {
                self.field(name, value)
            }
            // postcard would write nothing, and read the next field here
            fn skip_field(&mut self, _: &'static str) -> Result<(), Unfit> {
                Err(Unfit)
            }
            fn end(self) -> Result<(), Unfit> {
                self.done()
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant, }

impl ser::SerializeMap for ProbedItems<'_> {
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
