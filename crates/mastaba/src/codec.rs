//! How values become bytes: postcard where a type allows it, MessagePack with field names elsewhere.
//!
//! postcard is small and fast but its bytes mean something only to the very type that wrote them. So it is used
//! only where that type is known: it is traced when its source is registered, a fingerprint of what was found
//! stands in every entry, and each value is held against it before it is written. What cannot be traced is written
//! [with names](named), and read back before it is stored: a value that would come back as another one is refused.

use std::sync::atomic::{AtomicU8, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::Format;
use crate::error::BoxError;

mod deep;
mod encoding;
mod named;
mod pack;
mod print;
mod probe;
mod quiet;
mod shape;
mod trace;
mod unread;

pub use encoding::Encoding;
pub(crate) use named::Refused;
pub(crate) use pack::{pack, unpack};
pub(crate) use quiet::{Untried, try_out};
use shape::Shapes;

/// What a codec can write and read: every [`Source::Value`](crate::Source::Value).
pub(crate) trait Value: Serialize + DeserializeOwned + Send + Sync {}

impl<V: Serialize + DeserializeOwned + Send + Sync> Value for V {}

/// Raised when the bytes of a format change: every entry written before is then a miss.
const POSTCARD: &str = "postcard 1";
const NAMED: &str = "messagepack 2";

/// In how many values with names fields are looked for that are read and never written. The first may be an empty list.
const LOOKS: u8 = 32;

/// rapidhash V3 with its default seed: the same in every process and on every platform.
pub(crate) fn fingerprint(text: &str) -> u64 {
    rapidhash::v3::rapidhash_v3(text.as_bytes())
}

/// The codec of one value type.
#[derive(Debug)]
pub(crate) struct Codec {
    /// The fingerprint that stands in entries without names.
    plain: u64,
    /// The fingerprint that stands in entries with names.
    named: u64,
    shapes: Shapes,
    /// Why values are written with names, and `shapes` are not all there is.
    why_named: Option<String>,
    /// How many values fields that are never written may still be looked for in.
    looks: AtomicU8,
}

impl Codec {
    /// Traces `V` and chooses. Never fails, never panics and says nothing; costs some microseconds, once.
    ///
    /// postcard it is when `V` can be traced in full, is not recursive, and values of it serialize as they
    /// deserialize: no `flatten`, `untagged`, `tag` or `skip_serializing`. Where a panic is the end of the program,
    /// nothing is traced.
    pub(crate) fn of<V: Value>(version: u32) -> Self {
        let mut shapes = Shapes::default();
        // Implementations by hand may panic on samples, and on what they made of them.
        let tried = quiet::try_out(|| {
            let values = trace::trace::<V>(&mut shapes).map_err(|stop| stop.to_string())?;
            let same = values.iter().all(|value| comes_back(value, &shapes));
            if same { Ok(()) } else { Err("it does not serialize as it deserializes".to_owned()) }
        });
        let why_named = tried.unwrap_or_else(|untried| Err(untried.to_string())).err();
        // of what cannot be traced in full, up to where it could be
        let mut text = shapes.text();
        if version > 0 {
            text.push_str(&format!(" version {version}"));
        }
        let of = |format: &str| fingerprint(&format!("{format} {text}"));
        Self { plain: of(POSTCARD), named: of(NAMED), shapes, why_named, looks: AtomicU8::new(LOOKS) }
    }

    /// The fingerprint of the type, as it stands in entries of a format.
    pub(crate) fn schema(&self, format: Format) -> u64 {
        match format {
            Format::Postcard => self.plain,
            Format::MessagePack => self.named,
        }
    }

    /// How values are written as a rule.
    pub(crate) fn encoding(&self) -> Encoding {
        let format = if self.why_named.is_none() { Format::Postcard } else { Format::MessagePack };
        Encoding { format, schema: self.schema(format), why_named: self.why_named.clone() }
    }

    /// Appends `value` to `out`, which stays as it was on an error.
    ///
    /// Also under postcard a single value may be written with names: one that leaves out a field.
    pub(crate) fn encode<V: Value>(&self, value: &V, out: &mut Vec<u8>) -> Result<Format, Refused> {
        if self.why_named.is_none() && probe::fits(value, &self.shapes) && to_postcard(value, out).is_ok() {
            return Ok(Format::Postcard);
        }
        named::write(value, out).map(|()| Format::MessagePack)
    }

    /// Reads what [`encode`](Self::encode) wrote. Any bytes may be given; all of them must be used.
    pub(crate) fn decode<V: Value>(&self, format: Format, bytes: &[u8]) -> Result<V, BoxError> {
        match format {
            Format::Postcard if self.why_named.is_some() => {
                Err("the type is never written without names".into())
            }
            Format::Postcard => from_postcard(bytes),
            Format::MessagePack => named::read(bytes),
        }
    }

    /// The fields, `struct.field`, that `V` reads and never writes, as far as `value` shows them.
    ///
    /// `bytes` are what it was encoded as. Only the first values are looked at, and only where they have names.
    pub(crate) fn unread<V: Value>(&self, value: &V, format: Format, bytes: &[u8]) -> Option<Vec<String>> {
        if format == Format::Postcard || self.why_named.is_none() || self.looks.load(Ordering::Relaxed) == 0 {
            return None; // what is traced reads what it writes
        }
        let fewer = |looks: u8| looks.checked_sub(1);
        self.looks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).ok()?;
        let fields = unread::fields(value, bytes, deep::SHALLOW);
        if fields.is_empty() {
            return None;
        }
        self.looks.store(0, Ordering::Relaxed);
        Some(fields)
    }
}

fn to_postcard<V: Serialize>(value: &V, out: &mut Vec<u8>) -> Result<(), postcard::Error> {
    let start = out.len();
    let written = postcard::serialize_with_flavor(value, Append(out));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// postcard's own writers own their buffer, or append byte by byte.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

fn from_postcard<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, BoxError> {
    let mut from = postcard::Deserializer::from_bytes(bytes);
    let value = V::deserialize(&mut from)?;
    match from.finalize()? {
        [] => Ok(value),
        rest => Err(format!("{} bytes are left over", rest.len()).into()),
    }
}

/// Whether a traced value survives postcard.
fn comes_back<V: Serialize + DeserializeOwned>(value: &V, shapes: &Shapes) -> bool {
    let (mut bytes, mut again) = (Vec::new(), Vec::new());
    probe::fits(value, shapes)
        && to_postcard(value, &mut bytes).is_ok()
        && from_postcard::<V>(&bytes).is_ok_and(|value| to_postcard(&value, &mut again).is_ok())
        && bytes == again
}

#[cfg(test)]
mod tests;
