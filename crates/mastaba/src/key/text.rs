//! A serde format that is only written: readable, without spaces, and different for different values.
//!
//! | value | text |
//! | --- | --- |
//! | `-5`, `true`, `1.5` | `-5`, `true`, `1.5` |
//! | `"a b"`, `'c'` | `"a%20b"`, `'c'` |
//! | bytes | `x"00ff"` |
//! | `None`, `Some(1)` | `~`, `+1` |
//! | `()`, `(1, "a")`, a struct | `()`, `(1,"a")`, its fields like a tuple; a skipped field is `_` |
//! | a sequence, a map | `[1,2]`, `{"k"=1}` |
//! | `Name`, `Name(1)`, `Name { a: 1 }` | `Name`, `Name(1)`, `Name(1)` |
//!
//! A newtype struct is what it wraps. No text begins with `%`. A key is at most [`MOST_DEPTH`] steps deep.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

/// The most steps down in a key: to write one calls itself for each, on the stack of whoever reads.
const MOST_DEPTH: usize = 64;

/// Appends `value`.
pub(super) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), NotWritten> {
    value.serialize(KeyText { out, left: MOST_DEPTH })
}

/// Appends the name of a tag. Like a key it does not begin with `%`, so that a hashed tag is recognisable.
pub(super) fn tag(name: &str, out: &mut Vec<u8>) {
    if name.bytes().next().is_some_and(|first| first == b'!' || needs_escape(first)) {
        out.push(b'!');
    }
    escape(name, out, needs_escape);
}

/// Appends a byte as two hexadecimal digits.
pub(super) fn hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

fn needs_escape(byte: u8) -> bool {
    !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\\' | b'%')
}

fn escape(text: &str, out: &mut Vec<u8>, needs: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        if needs(byte) {
            out.push(b'%');
            hex(byte, out);
        } else {
            out.push(byte);
        }
    }
}

/// A variant's name. One that could be read as another kind of value is marked: a rename may be anything.
fn variant_name(name: &str, out: &mut Vec<u8>) {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !plain || matches!(name, "true" | "false" | "NaN" | "inf" | "_") {
        out.push(b'!');
    }
    escape(name, out, |byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')));
}

/// What a `Serialize` implementation said when it failed.
#[derive(Debug)]
pub(super) struct NotWritten(String);

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotWritten {}

impl ser::Error for NotWritten {
    fn custom<T: fmt::Display>(said: T) -> Self {
        Self(said.to_string())
    }
}

struct KeyText<'a> {
    out: &'a mut Vec<u8>,
    /// How many steps down are left.
    left: usize,
}

impl<'a> KeyText<'a> {
    fn put(self, text: impl AsRef<[u8]>) -> Result<(), NotWritten> {
        self.out.extend_from_slice(text.as_ref());
        Ok(())
    }

    fn digits(self, mut number: u64, negative: bool) -> Result<(), NotWritten> {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        if negative {
            self.out.push(b'-');
        }
        self.put(&digits[first..])
    }

    fn down(self) -> Result<Self, NotWritten> {
        let left = self.left.checked_sub(1);
        let left = left.ok_or_else(|| NotWritten(format!("it is nested deeper than {MOST_DEPTH} steps")))?;
        Ok(Self { left, ..self })
    }

    fn items(self, open: u8, close: u8) -> Result<TextItems<'a>, NotWritten> {
        let Self { out, left } = self.down()?;
        out.push(open);
        Ok(TextItems { out, left, close, first: true })
    }
}

macro_rules! integers {
    ($($signed:ident $signed_type:ty, $unsigned:ident $unsigned_type:ty;)*) => {$(
        fn $signed(self, v: $signed_type) -> Result<(), NotWritten> {
            self.digits(i64::from(v).unsigned_abs(), v < 0)
        }
        fn $unsigned(self, v: $unsigned_type) -> Result<(), NotWritten> {
            self.digits(u64::from(v), false)
        }
    )*};
}

impl<'a> Serializer for KeyText<'a> {
    type Ok = ();
    type Error = NotWritten;
    type SerializeSeq = TextItems<'a>;
    type SerializeTuple = TextItems<'a>;
    type SerializeTupleStruct = TextItems<'a>;
    type SerializeTupleVariant = TextItems<'a>;
    type SerializeMap = TextItems<'a>;
    type SerializeStruct = TextItems<'a>;
    type SerializeStructVariant = TextItems<'a>;

    fn is_human_readable(&self) -> bool {
        true
    }

    integers! {
        serialize_i8 i8, serialize_u8 u8;
        serialize_i16 i16, serialize_u16 u16;
        serialize_i32 i32, serialize_u32 u32;
        serialize_i64 i64, serialize_u64 u64;
    }

    fn serialize_i128(self, v: i128) -> Result<(), NotWritten> {
        self.put(v.to_string())
    }
    fn serialize_u128(self, v: u128) -> Result<(), NotWritten> {
        self.put(v.to_string())
    }
    fn serialize_bool(self, v: bool) -> Result<(), NotWritten> {
        self.put(if v { "true" } else { "false" })
    }
    fn serialize_f32(self, v: f32) -> Result<(), NotWritten> {
        self.put(format!("{v:?}"))
    }
    fn serialize_f64(self, v: f64) -> Result<(), NotWritten> {
        self.put(format!("{v:?}"))
    }

    fn serialize_char(self, v: char) -> Result<(), NotWritten> {
        self.out.push(b'\'');
        escape(v.encode_utf8(&mut [0; 4]), self.out, |byte| needs_escape(byte) || byte == b'\'');
        self.put("'")
    }

    fn serialize_str(self, v: &str) -> Result<(), NotWritten> {
        self.out.push(b'"');
        escape(v, self.out, needs_escape);
        self.put("\"")
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), NotWritten> {
        self.out.extend_from_slice(b"x\"");
        v.iter().for_each(|byte| hex(*byte, self.out));
        self.put("\"")
    }

    fn serialize_none(self) -> Result<(), NotWritten> {
        self.put("~")
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotWritten> {
        self.out.push(b'+');
        value.serialize(self.down()?)
    }

    fn serialize_unit(self) -> Result<(), NotWritten> {
        self.put("()")
    }
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), NotWritten> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), NotWritten> {
        variant_name(variant, self.out);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), NotWritten> {
        value.serialize(self.down()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), NotWritten> {
        variant_name(variant, self.out);
        self.out.push(b'(');
        let Self { out, left } = self.down()?;
        value.serialize(KeyText { out: &mut *out, left })?;
        out.push(b')');
        Ok(())
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<TextItems<'a>, NotWritten> {
        self.items(b'[', b']')
    }
    fn serialize_tuple(self, _len: usize) -> Result<TextItems<'a>, NotWritten> {
        self.items(b'(', b')')
    }
    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<TextItems<'a>, NotWritten> {
        self.items(b'(', b')')
    }
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<TextItems<'a>, NotWritten> {
        variant_name(variant, self.out);
        self.items(b'(', b')')
    }
    fn serialize_map(self, _len: Option<usize>) -> Result<TextItems<'a>, NotWritten> {
        self.items(b'{', b'}')
    }
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<TextItems<'a>, NotWritten> {
        self.items(b'(', b')')
    }
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<TextItems<'a>, NotWritten> {
        variant_name(variant, self.out);
        self.items(b'(', b')')
    }
}

/// Values between brackets, with commas.
struct TextItems<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
    close: u8,
    first: bool,
}

impl TextItems<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotWritten> {
        self.comma();
        self.value(value)
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotWritten> {
        value.serialize(KeyText { out: self.out, left: self.left })
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
    }

    /// A field that is left out keeps its place: the next one must not be taken for it.
    fn hole(&mut self) -> Result<(), NotWritten> {
        self.comma();
        self.out.push(b'_');
        Ok(())
    }

    fn close(self) -> Result<(), NotWritten> {
        self.out.push(self.close);
        Ok(())
    }
}

macro_rules! items {
    ($($of:ident $item:ident,)*) => {$(
        impl ser::$of for TextItems<'_> {
            type Ok = ();
            type Error = NotWritten;
            fn $item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotWritten> {
                self.item(value)
            }
            fn end(self) -> Result<(), NotWritten> {
                self.close()
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
        impl ser::$of for TextItems<'_> {
            type Ok = ();
            type Error = NotWritten;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _name: &'static str,
                value: &T,
            ) -> Result<(), NotWritten> {
                self.item(value)
            }
            fn skip_field(&mut self, _name: &'static str) -> Result<(), NotWritten> {
                self.hole()
            }
            fn end(self) -> Result<(), NotWritten> {
                self.close()
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant, }

impl ser::SerializeMap for TextItems<'_> {
    type Ok = ();
    type Error = NotWritten;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NotWritten> {
        self.item(key)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotWritten> {
        self.out.push(b'=');
        self.value(value)
    }
    fn end(self) -> Result<(), NotWritten> {
        self.close()
    }
}
