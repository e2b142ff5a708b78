//! Values with names: MessagePack, in the form that types have for readable formats.
//!
//! It is for types that cannot be traced. What serde buffers before it knows what it is (`untagged`, `tag`,
//! `flatten`) must say what it is, so an address is written as its text and not as four numbers, which could be
//! anything. MessagePack keeps what JSON does not: bytes, NaN, maps whose keys are no strings.
//!
//! Some values do not come back even so, and nothing of the type says which. So each one is read back before it is
//! stored, and its [fingerprint](super::print) compared.

use std::fmt;
use std::mem::discriminant;

use serde::de::DeserializeOwned;

use super::Value;
use super::deep::{self, MOST, SHALLOW};
use super::print::{Comparison, NoPrint, Print};
use crate::error::BoxError;

/// How often a list that came back in another order is read again, to see whether its order means anything. A set of
/// two that is a list to serde comes in one of two orders: it is taken for a list once in 2^16 times.
const READINGS: usize = 16;

/// Why a value is not written.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is nested deeper than [`MOST`] steps.
    TooDeep,
    /// What comes back would not be the same.
    Differs(String),
    /// Its `Serialize` refuses, or there is no room.
    Failed(BoxError),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => write!(f, "it is nested deeper than {MOST} steps"),
            Self::Differs(how) => write!(f, "it would come back as another value: {how}"),
            Self::Failed(why) => write!(f, "it cannot be written: {why}"),
        }
    }
}

impl From<NoPrint> for Refused {
    fn from(why: NoPrint) -> Self {
        match why {
            NoPrint::TooDeep => Self::TooDeep,
            NoPrint::NullInSome => Self::Differs(why.to_string()),
            NoPrint::Refused(why) => Self::Failed(why.into()),
        }
    }
}

/// Appends `value` to `out`, which stays as it was on an error. What was appended is read back as `value`.
pub(super) fn write<V: Value>(value: &V, out: &mut Vec<u8>) -> Result<(), Refused> {
    let start = out.len();
    let written = match try_write(value, out, SHALLOW) {
        Err(Refused::TooDeep) => deep::with_room(|| try_write(value, out, MOST))
            .unwrap_or_else(|error| Err(Refused::Failed(error.into()))),
        written => written,
    };
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Reads what [`write`] wrote. Any bytes may be given; all of them must be used.
pub(super) fn read<V: Value>(bytes: &[u8]) -> Result<V, BoxError> {
    match depth(bytes)? {
        shallow if shallow <= SHALLOW => read_here(bytes),
        _ => deep::with_room(|| read_here(bytes))?,
    }
}

fn try_write<V: Value>(value: &V, out: &mut Vec<u8>, most: usize) -> Result<(), Refused> {
    let comparison = Comparison::default();
    let prints = Prints::of(value, &comparison, most)?;
    let start = out.len();
    let mut to = rmp_serde::Serializer::new(&mut *out).with_struct_map().with_human_readable();
    value.serialize(&mut to).map_err(|why| Refused::Failed(why.into()))?;
    let bytes = &out[start..];
    let again = || -> Result<Prints<V>, Refused> {
        depth(bytes).map_err(|why| Refused::Differs(why.to_string()))?;
        let again: V =
            read_here(bytes).map_err(|why| Refused::Differs(format!("reading it back failed: {why}")))?;
        match Prints::of(&again, &comparison, most) {
            Err(Refused::TooDeep | Refused::Failed(_)) => {
                Err(Refused::Differs("another value is read".into()))
            }
            prints => prints,
        }
    };
    let first = again()?;
    if first == prints {
        return Ok(());
    }
    if first.same_but_for_order(&prints) {
        // a set: then it has another order each time, and none of them means anything
        for _ in 1..READINGS {
            let next = again()?;
            if next == prints || (next != first && next.same_but_for_order(&prints)) {
                return Ok(());
            }
        }
        return Err(Refused::Differs("the order of a list changes".into()));
    }
    Err(Refused::Differs("another value is read".into()))
}

/// What is compared of two values of one type.
struct Prints<V> {
    readable: Print,
    other: Print,
    /// Distinguishes the variants of an `untagged` enum even where they look alike.
    variant: std::mem::Discriminant<V>,
}

impl<V: Value> Prints<V> {
    fn of(value: &V, comparison: &Comparison, most: usize) -> Result<Self, Refused> {
        Ok(Self {
            readable: comparison.print(value, true, most)?,
            other: comparison.print(value, false, most)?,
            variant: discriminant(value),
        })
    }

    fn same_but_for_order(&self, other: &Self) -> bool {
        self.readable.unordered == other.readable.unordered
            && self.other.unordered == other.other.unordered
            && self.variant == other.variant
    }
}

impl<V> PartialEq for Prints<V> {
    fn eq(&self, other: &Self) -> bool {
        self.readable.ordered == other.readable.ordered
            && self.other.ordered == other.other.ordered
            && self.variant == other.variant
    }
}

fn read_here<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, BoxError> {
    let mut from = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
    Ok(V::deserialize(&mut from)?)
}

/// How deep lists and maps are nested in bytes that are exactly one value.
///
/// It does not call itself, whatever the bytes are. Enums are maps of one pair, and so they count.
///
/// # Errors
/// If the bytes are no value, or more than one, or nested deeper than [`MOST`].
fn depth(bytes: &[u8]) -> Result<usize, BoxError> {
    let mut rest = bytes;
    // how many values are still to come in each list and map that is open
    let mut open: Vec<u64> = Vec::new();
    let mut deepest = 0;
    loop {
        let (values, skipped, after) = head(rest).ok_or("the bytes are no MessagePack, or end too early")?;
        rest = after.get(skipped..).ok_or("the bytes end too early")?;
        if values > 0 {
            open.push(values);
            deepest = deepest.max(open.len());
            if deepest > MOST {
                return Err(format!("it is nested deeper than {MOST} lists and maps").into());
            }
            continue;
        }
        // a value is over, and with it every list of which it was the last one
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            break;
        }
    }
    if rest.is_empty() { Ok(deepest) } else { Err(format!("{} bytes are left over", rest.len()).into()) }
}

/// The head of a value: how many values are in it, how many bytes of its own follow, and what is after the head.
fn head(bytes: &[u8]) -> Option<(u64, usize, &[u8])> {
    let (marker, rest) = bytes.split_first()?;
    let number = |size: usize| {
        let (number, rest) = rest.split_at_checked(size)?;
        let number = number.iter().fold(0, |number: u64, byte| (number << 8) | u64::from(*byte));
        Some((number, rest))
    };
    let list = |size, each: u64| number(size).map(|(count, rest)| (count * each, 0, rest));
    let text = |size, more: usize| number(size).map(|(len, rest)| (0, len as usize + more, rest));
    match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Some((0, 0, rest)),
        0x80..=0x8f => Some((u64::from(marker & 0x0f) * 2, 0, rest)),
        0x90..=0x9f => Some((u64::from(marker & 0x0f), 0, rest)),
        0xa0..=0xbf => Some((0, usize::from(marker & 0x1f), rest)),
        0xc1 => None,
        0xc4 | 0xd9 => text(1, 0),
        0xc5 | 0xda => text(2, 0),
        0xc6 | 0xdb => text(4, 0),
        // a byte says of which type an extension is
        0xc7 => text(1, 1),
        0xc8 => text(2, 1),
        0xc9 => text(4, 1),
        0xcc | 0xd0 => Some((0, 1, rest)),
        0xcd | 0xd1 => Some((0, 2, rest)),
        0xca | 0xce | 0xd2 => Some((0, 4, rest)),
        0xcb | 0xcf | 0xd3 => Some((0, 8, rest)),
        0xd4..=0xd8 => Some((0, 1 + (1 << (marker - 0xd4)), rest)),
        0xdc => list(2, 1),
        0xdd => list(4, 1),
        0xde => list(2, 2),
        0xdf => list(4, 2),
    }
}
