//! Types of every kind that serde can make.

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) photo: Option<u64>,
    pub(super) tags: Vec<String>,
    pub(super) state: State,
}

pub(super) fn account() -> Account {
    Account { id: 1, name: "bob".into(), photo: None, tags: vec!["t".into()], state: State::New }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum State {
    New,
    Open(u8),
    Moved(i32, String),
    Shut { by: Option<Role> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Admin,
    Guest,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<Box<T>>,
}

pub(super) fn page<T>(item: T) -> Page<T> {
    Page { items: vec![item], next: None }
}

/// One serde name, two types.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pages {
    pub(super) a: Page<u8>,
    pub(super) b: Page<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Wrapping(pub(super) String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Wide {
    pub(super) id: u32,
    pub(super) name: String,
}

pub(super) mod same {
    use super::*;
    #[derive(Serialize, Deserialize)]
    pub(in super::super) struct Wide {
        id: u32,
        name: String,
    }
}

pub(super) mod v2 {
    use super::*;
    #[derive(Serialize, Deserialize)]
    pub(in super::super) struct Wide {
        id: u32,
        title: String,
    }
    #[derive(Serialize, Deserialize)]
    pub(in super::super) enum State {
        New,
        Open(u8),
        Moved(i32, String),
        Shut { by: Option<Role> },
        More,
    }
    #[derive(Serialize, Deserialize)]
    pub(in super::super) struct Flat {
        pub(in super::super) key: u8,
        #[serde(default = "seven")]
        pub(in super::super) added: u8,
        #[serde(flatten)]
        rest: HashMap<String, Untagged>,
    }
    fn seven() -> u8 {
        7
    }
}

pub(super) mod v3 {
    use super::*;
    #[derive(Serialize, Deserialize)]
    pub(in super::super) struct Wide {
        name: String,
        id: u32,
    }
    #[derive(Serialize, Deserialize)]
    pub(in super::super) enum State {
        Open(u8),
        New,
        Moved(i32, String),
        Shut { by: Option<Role> },
    }
}

pub(super) mod v4 {
    use super::*;
    #[derive(Serialize, Deserialize)]
    pub(in super::super) struct Wide {
        id: u32,
        name: String,
        more: Option<u8>,
    }
}

pub(super) mod v5 {
    use super::*;
    #[derive(Serialize, Deserialize)]
    pub(in super::super) struct Wide {
        id: u64,
        name: String,
    }
}

/// A date that is read from a string and refuses most of them, as in chrono.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Day(pub(super) String);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Day(String);
        let Day(day) = Day::deserialize(from)?;
        let numbers = day.split('-').filter(|part| part.parse::<u16>().is_ok()).count();
        if day.len() == 10 && numbers == 3 { Ok(Self(day)) } else { Err(serde::de::Error::custom("no day")) }
    }
}

/// Sixteen bytes and no fewer, as in the uuid crate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Uuid(pub(super) [u8; 16]);

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Sixteen;
        impl serde::de::Visitor<'_> for Sixteen {
            type Value = Uuid;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("sixteen bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Uuid, E> {
                bytes.try_into().map(Uuid).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        from.deserialize_bytes(Sixteen)
    }
}

/// A sample is refused inside a variant.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Holder {
    None,
    One { day: Day, role: Role },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Untagged {
    Number(i64),
    Text(String),
    Fields { a: u8 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Tagged {
    A { x: u8 },
    B(Wide),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
pub(super) enum Adjacent {
    A(u8),
    Unit,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Flat {
    pub(super) key: u8,
    #[serde(flatten)]
    pub(super) rest: Wide,
    #[serde(flatten)]
    pub(super) more: HashMap<String, u8>,
}

/// Never written, but asked for when it is read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hidden {
    pub(super) a: u8,
    #[serde(skip_serializing, default)]
    pub(super) secret: String,
}

/// Written as a sequence, read as a tuple.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(from = "(u8,)")]
pub(super) struct Uneven(pub(super) u8);

impl From<(u8,)> for Uneven {
    fn from(one: (u8,)) -> Self {
        Self(one.0)
    }
}

impl Serialize for Uneven {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        [self.0].as_slice().serialize(to)
    }
}

/// serde_derive counts a skipped variant when it writes and not when it reads.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum SkippedVariant {
    First(u8),
    #[serde(skip)]
    #[allow(dead_code)]
    Middle,
    Last(u8),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) a: Option<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) b: Vec<u8>,
    pub(super) c: i64,
}

/// Claims a length of its own.
#[derive(Debug)]
pub(super) struct Lengths {
    pub(super) claimed: Option<usize>,
    pub(super) items: Vec<u8>,
}

impl Serialize for Lengths {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut items = to.serialize_seq(self.claimed)?;
        self.items.iter().try_for_each(|item| items.serialize_element(item))?;
        items.end()
    }
}

impl<'de> Deserialize<'de> for Lengths {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let items = Vec::deserialize(from)?;
        Ok(Self { claimed: Some(items.len()), items })
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tree {
    pub(super) name: String,
    pub(super) below: Vec<Tree>,
}

/// The first variant contains the enum.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Term {
    Not(Box<Term>),
    True,
}

/// Recursive, and serde never sees a name.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Chain(pub(super) Vec<Chain>);

#[derive(Debug, Serialize)]
pub(super) struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("this one does")
    }
}

/// Takes no sample at all.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Picky(pub(super) u8);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Picky(u8);
        let Picky(number) = Picky::deserialize(from)?;
        if from_program(number) { Ok(Self(number)) } else { Err(serde::de::Error::custom("never")) }
    }
}

fn from_program(number: u8) -> bool {
    number > 1
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Lossy {
    pub(super) a: Option<Option<u8>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) skipped: Option<u8>,
}
