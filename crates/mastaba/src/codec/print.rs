//! A fingerprint of a value: of everything that its `Serialize` says, and of the types that it says it of.
//!
//! Two values with one fingerprint are the same as far as serde can see. The bytes of a format are no such thing:
//! without names, `IpAddr::from([127, 0, 0, 1])` and a map of one pair may be the same bytes, and in a readable
//! format an address and its text are. So a fingerprint holds kinds, names of structs and variants, scalars, and
//! the name of every Rust type that serde hands over, and it is taken both for readable formats and for others.
//!
//! The order of a map means nothing, and neither does that of a set. A list is compared in order; a set that looks
//! like a list to serde is recognised by the name of its type, or by [not keeping its order](super::named) when it
//! is read twice.
//!
//! The walk stops, with an error, before it is deeper than it may be, so that no value ends the stack.

use std::any::type_name;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use foldhash::quality::RandomState;
use serde::Serialize;
use serde::ser::{self, Serializer};

use super::unread::Written;

/// How two values are compared: fingerprints of different comparisons have nothing to do with each other.
#[derive(Debug, Default)]
pub(super) struct Comparison(RandomState);

/// The fingerprint of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    /// In which lists keep their order.
    pub(super) ordered: u64,
    /// In which no order counts.
    pub(super) unordered: u64,
}

/// Why a value has no fingerprint.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPrint {
    /// It is nested deeper than it may be.
    TooDeep,
    /// A null stands inside a `Some`.
    NullInSome,
    /// Its `Serialize` said so.
    Refused(String),
}

impl fmt::Display for NoPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooDeep => "it is nested too deep",
            Self::NullInSome => "a Some(None) or Some(()) in it would be read back as None",
            Self::Refused(why) => why,
        })
    }
}

impl std::error::Error for NoPrint {}

impl ser::Error for NoPrint {
    fn custom<T: fmt::Display>(said: T) -> Self {
        Self::Refused(said.to_string())
    }
}

impl Comparison {
    /// The fingerprint of `value` as it serializes for a readable format or for another one.
    ///
    /// # Errors
    /// If `value` takes more than `most` steps down, or if it is `readable` and holds a null inside a `Some`, which a
    /// format with a single null does not give back.
    pub(super) fn print<T: Serialize + ?Sized>(
        &self,
        value: &T,
        readable: bool,
        most: usize,
    ) -> Result<Print, NoPrint> {
        value.serialize(Walk { hash: &self.0, readable, left: most, in_some: false, written: None })
    }

    /// Notes which fields `value` writes, in readable form.
    ///
    /// # Errors
    /// As [`print`](Self::print).
    pub(super) fn names<T: Serialize + ?Sized>(
        &self,
        value: &T,
        most: usize,
        written: &Written,
    ) -> Result<(), NoPrint> {
        let walk = Walk { hash: &self.0, readable: true, left: most, in_some: false, written: Some(written) };
        value.serialize(walk).map(|_| ())
    }
}

/// What an item is, in serde's data model.
#[derive(Clone, Copy, Hash)]
enum ItemKind {
    Bool,
    Signed(u8),
    Unsigned(u8),
    Float(u8),
    Char,
    Str,
    Bytes,
    Unit,
    None,
    Some,
    UnitStruct,
    NewtypeStruct,
    TupleStruct,
    Struct,
    UnitVariant,
    NewtypeVariant,
    TupleVariant,
    StructVariant,
    Seq,
    Tuple,
    Map,
    Skipped,
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    hash: &'a RandomState,
    readable: bool,
    /// How many steps down are left.
    left: usize,
    in_some: bool,
    /// Where the names of fields are noted.
    written: Option<&'a Written>,
}

impl<'a> Walk<'a> {
    fn scalar(self, kind: ItemKind, value: impl Hash) -> Result<Print, NoPrint> {
        let print = self.hash.hash_one((kind, value));
        Ok(Print { ordered: print, unordered: print })
    }

    fn null(self, kind: ItemKind) -> Result<Print, NoPrint> {
        // only readable formats are written with a single null
        if self.in_some && self.readable { Err(NoPrint::NullInSome) } else { self.scalar(kind, ()) }
    }

    fn down(self, steps: usize) -> Result<Self, NoPrint> {
        let left = self.left.checked_sub(steps).ok_or(NoPrint::TooDeep)?;
        Ok(Self { left, in_some: false, ..self })
    }

    /// The fingerprint of what a `Some`, a newtype or a variant wraps.
    fn wrapped<T: Serialize + ?Sized>(
        self,
        kind: ItemKind,
        head: impl Hash,
        in_some: bool,
        value: &T,
    ) -> Result<Print, NoPrint> {
        let inner = value.serialize(Self { in_some, ..self.down(1)? })?;
        let of = |inner: u64| self.hash.hash_one((kind, &head, type_name::<T>(), inner));
        Ok(Print { ordered: of(inner.ordered), unordered: of(inner.unordered) })
    }

    /// What holds items; `steps` as many as the format takes.
    fn items(
        self,
        kind: ItemKind,
        head: impl Hash,
        steps: usize,
        order: Order,
    ) -> Result<PrintedItems<'a>, NoPrint> {
        let head = self.hash.hash_one((kind, head));
        Ok(PrintedItems {
            walk: self.down(steps)?,
            of: "",
            order,
            print: Print { ordered: head, unordered: head },
        })
    }

    /// What holds the fields of the struct or the variant of an enum `of`.
    fn fields(
        self,
        kind: ItemKind,
        of: &'static str,
        head: impl Hash,
        steps: usize,
    ) -> Result<PrintedItems<'a>, NoPrint> {
        if let Some(written) = self.written {
            written.begin(of);
        }
        Ok(PrintedItems { of, ..self.items(kind, (of, head), steps, Order::Kept)? })
    }
}

/// Whether the order of items means something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Always: fields.
    Kept,
    /// As far as is known: a list.
    Perhaps,
    /// Never: a map or a set.
    Free,
}

/// Whether a type that gives items is a set or a heap, by its name.
fn is_unordered(container: &str) -> bool {
    let path = container.trim_start_matches(['&', '*']).trim_start_matches("mut ");
    let path = path.split('<').next().unwrap_or(path);
    ["Set", "Hash", "hash::", "hash_", "Heap", "Bag"].iter().any(|part| path.contains(part))
}

macro_rules! scalars {
    ($($method:ident $type:ty as $kind:expr,)*) => {$(
        fn $method(self, value: $type) -> Result<Print, NoPrint> {
            self.scalar($kind, value)
        }
    )*};
}

impl<'a> Serializer for Walk<'a> {
    type Ok = Print;
    type Error = NoPrint;
    type SerializeSeq = PrintedItems<'a>;
    type SerializeTuple = PrintedItems<'a>;
    type SerializeTupleStruct = PrintedItems<'a>;
    type SerializeTupleVariant = PrintedItems<'a>;
    type SerializeMap = Pairs<'a>;
    type SerializeStruct = PrintedItems<'a>;
    type SerializeStructVariant = PrintedItems<'a>;

    fn is_human_readable(&self) -> bool {
        self.readable
    }

    scalars! {
        serialize_bool bool as ItemKind::Bool,
        serialize_i8 i8 as ItemKind::Signed(8),
        serialize_i16 i16 as ItemKind::Signed(16),
        serialize_i32 i32 as ItemKind::Signed(32),
        serialize_i64 i64 as ItemKind::Signed(64),
        serialize_i128 i128 as ItemKind::Signed(128),
        serialize_u8 u8 as ItemKind::Unsigned(8),
        serialize_u16 u16 as ItemKind::Unsigned(16),
        serialize_u32 u32 as ItemKind::Unsigned(32),
        serialize_u64 u64 as ItemKind::Unsigned(64),
        serialize_u128 u128 as ItemKind::Unsigned(128),
        serialize_char char as ItemKind::Char,
        serialize_str &str as ItemKind::Str,
        serialize_bytes &[u8] as ItemKind::Bytes,
    }

    // bit by bit: a NaN is itself, and 0.0 is not -0.0
    fn serialize_f32(self, value: f32) -> Result<Print, NoPrint> {
        self.scalar(ItemKind::Float(32), value.to_bits())
    }

    fn serialize_f64(self, value: f64) -> Result<Print, NoPrint> {
        self.scalar(ItemKind::Float(64), value.to_bits())
    }

    fn serialize_unit(self) -> Result<Print, NoPrint> {
        self.null(ItemKind::Unit)
    }

    fn serialize_none(self) -> Result<Print, NoPrint> {
        self.null(ItemKind::None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Print, NoPrint> {
        self.wrapped(ItemKind::Some, (), true, value)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<Print, NoPrint> {
        self.scalar(ItemKind::UnitStruct, name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        number: u32,
        variant: &'static str,
    ) -> Result<Print, NoPrint> {
        self.scalar(ItemKind::UnitVariant, (name, number, variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Print, NoPrint> {
        // it is written as what it wraps
        self.wrapped(ItemKind::NewtypeStruct, name, self.in_some, value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        number: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Print, NoPrint> {
        self.wrapped(ItemKind::NewtypeVariant, (name, number, variant), false, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<PrintedItems<'a>, NoPrint> {
        self.items(ItemKind::Seq, (), 1, Order::Perhaps)
    }

    fn collect_seq<I>(self, items: I) -> Result<Print, NoPrint>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let order = if is_unordered(type_name::<I>()) { Order::Free } else { Order::Perhaps };
        let mut seq = self.items(ItemKind::Seq, (), 1, order)?;
        items.into_iter().try_for_each(|item| seq.item(&item))?;
        seq.done()
    }

    fn serialize_tuple(self, len: usize) -> Result<PrintedItems<'a>, NoPrint> {
        self.items(ItemKind::Tuple, len, 1, Order::Kept)
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<PrintedItems<'a>, NoPrint> {
        self.items(ItemKind::TupleStruct, (name, len), 1, Order::Kept)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        number: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<PrintedItems<'a>, NoPrint> {
        self.items(ItemKind::TupleVariant, (name, number, variant, len), 2, Order::Kept)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Pairs<'a>, NoPrint> {
        Ok(Pairs { items: self.items(ItemKind::Map, (), 1, Order::Free)?, key: None })
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<PrintedItems<'a>, NoPrint> {
        self.fields(ItemKind::Struct, name, (), 1)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        number: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<PrintedItems<'a>, NoPrint> {
        self.fields(ItemKind::StructVariant, name, (number, variant), 2)
    }
}

/// The items of one level, as they come.
struct PrintedItems<'a> {
    walk: Walk<'a>,
    /// The name of the struct or the enum.
    of: &'static str,
    order: Order,
    /// Of the items so far.
    print: Print,
}

impl PrintedItems<'_> {
    fn add(&mut self, head: impl Hash, item: Print) {
        let hash = self.walk.hash;
        let in_order = |before: u64, item: u64| hash.hash_one((before, item));
        let of = |item: u64| hash.hash_one((&head, item));
        let (ordered, unordered) = (of(item.ordered), of(item.unordered));
        let print = &mut self.print;
        print.ordered = match self.order {
            Order::Free => print.ordered.wrapping_add(ordered),
            Order::Kept | Order::Perhaps => in_order(print.ordered, ordered),
        };
        print.unordered = match self.order {
            Order::Kept => in_order(print.unordered, unordered),
            Order::Free | Order::Perhaps => print.unordered.wrapping_add(unordered),
        };
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoPrint> {
        self.add(type_name::<T>(), value.serialize(self.walk)?);
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), NoPrint> {
        self.add((name, type_name::<T>()), value.serialize(self.walk)?);
        self.note(name, true);
        Ok(())
    }

    fn skip(&mut self, name: &'static str) -> Result<(), NoPrint> {
        self.add(name, self.walk.scalar(ItemKind::Skipped, ())?);
        self.note(name, false);
        Ok(())
    }

    fn note(&self, name: &'static str, written: bool) {
        if let Some(all) = self.walk.written {
            all.field(self.of, name, written);
        }
    }

    /// Once more, so that sums do not flow into sums: `[[1], [2]]` is not `[[1, 2]]`.
    fn done(self) -> Result<Print, NoPrint> {
        let of = |items: u64| self.walk.hash.hash_one(items);
        Ok(Print { ordered: of(self.print.ordered), unordered: of(self.print.unordered) })
    }
}

macro_rules! items {
    ($($of:ident $item:ident,)*) => {$(
        impl ser::$of for PrintedItems<'_> {
            type Ok = Print;
            type Error = NoPrint;
            fn $item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoPrint> {
                self.item(value)
            }
            fn end(self) -> Result<Print, NoPrint> {
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
        impl ser::$of for PrintedItems<'_> {
            type Ok = Print;
            type Error = NoPrint;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), NoPrint> {
                self.field(name, value)
            }
            fn skip_field(&mut self, name: &'static str) -> Result<(), NoPrint> {
                self.skip(name)
            }
            fn end(self) -> Result<Print, NoPrint> {
                self.done()
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant, }

/// The pairs of a map, in any order.
struct Pairs<'a> {
    items: PrintedItems<'a>,
    /// Of the key whose value is to come.
    key: Option<Print>,
}

impl ser::SerializeMap for Pairs<'_> {
    type Ok = Print;
    type Error = NoPrint;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NoPrint> {
        let Print { ordered, unordered } = key.serialize(self.items.walk)?;
        let of = |key: u64| self.items.walk.hash.hash_one((type_name::<T>(), key));
        self.key = Some(Print { ordered: of(ordered), unordered: of(unordered) });
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoPrint> {
        let key =
            self.key.take().ok_or_else(|| NoPrint::Refused("a map has a value without a key".into()))?;
        let value = value.serialize(self.items.walk)?;
        let hash = self.items.walk.hash;
        let of = |key: u64, value: u64| hash.hash_one((key, type_name::<T>(), value));
        let pair =
            Print { ordered: of(key.ordered, value.ordered), unordered: of(key.unordered, value.unordered) };
        self.items.add((), pair);
        Ok(())
    }
    fn end(self) -> Result<Print, NoPrint> {
        self.items.done()
    }
}
