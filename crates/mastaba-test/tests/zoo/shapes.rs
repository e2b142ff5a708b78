//! The shapes, and strategies that make values of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, NaiveDate, Utc};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;
use time::OffsetDateTime;
use uuid::Uuid;

/// A number that is equal to itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Float(f64);

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

/// Bytes that serialize as bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Raw(Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> serde::de::Visitor<'de> for Bytes {
            type Value = Raw;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Raw, E> {
                Ok(Raw(bytes.to_vec()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = items.next_element()? {
                    bytes.push(byte);
                }
                Ok(Raw(bytes))
            }
        }
        from.deserialize_byte_buf(Bytes)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum External {
    Unit,
    New(Option<i8>),
    Tuple(u64, String),
    Fields { a: Option<bool>, b: Vec<char> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(super) enum Internal {
    Unit,
    Fields { addr: IpAddr, count: Option<u64>, list: Vec<External> },
    New(BTreeMap<String, i64>),
    Flat(Flat),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
pub(super) enum Adjacent {
    Unit,
    New(Option<IpAddr>),
    Tuple(u8, Duration),
    Fields { raw: Raw },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Untagged {
    Nothing,
    Flag(bool),
    Up(u64),
    Number(i64),
    Real(Float),
    Addr(IpAddr),
    Exact(u128),
    Text(String),
    Pools(BTreeMap<String, Vec<u8>>),
    List(Vec<Untagged>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Flat {
    id: u32,
    #[serde(flatten)]
    inner: Sparse,
    #[serde(flatten)]
    rest: HashMap<String, Untagged>,
}

/// Fields that are left out, that have a default, that are never written or read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<u8>,
    // another default than what is left out
    #[serde(default = "seven", skip_serializing_if = "is_zero")]
    b: u8,
    #[serde(skip)]
    c: u8,
    #[serde(default, alias = "e")]
    d: String,
}

fn seven() -> u8 {
    7
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct New(i64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pair(String, f32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Transparent {
    only: Vec<u16>,
}

/// Shapes that can be traced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Plain {
    External(External),
    Wide(i128, u128),
    Bytes(Raw, [u8; 4]),
    Net(IpAddr, SocketAddr),
    Times(Duration, SystemTime, DateTime<Utc>, NaiveDate),
    Uuid(Uuid),
    Maps(HashMap<u8, Option<i64>>, BTreeMap<(u8, String), bool>, BTreeMap<bool, Float>),
    Sets(HashSet<String>, BTreeSet<i32>),
    Nested(Option<Option<u8>>, Option<()>, Option<Option<Option<String>>>),
    Small(Unit, New, Pair, Transparent),
    Texts(Cow<'static, str>, Box<str>, char),
}

/// All shapes, in a type that cannot be traced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Named {
    Plain(Plain),
    Internal(Internal),
    Adjacent(Adjacent),
    Untagged(Untagged),
    Sparse(Sparse),
    Flat(Flat),
    Decimal(Decimal),
    Time(OffsetDateTime),
    Json(Json),
}

impl Named {
    pub(super) fn plain(self) -> Option<Plain> {
        match self {
            Self::Plain(plain) => Some(plain),
            _ => None,
        }
    }
}

/// All shapes, read through serde's buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Buffered {
    #[serde(flatten)]
    held: Held,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Held {
    held: Named,
}

impl Buffered {
    pub(super) fn new(held: Named) -> Self {
        Self { held: Held { held } }
    }
}

fn float() -> impl Strategy<Value = Float> {
    prop_oneof![
        any::<f64>().prop_map(Float),
        prop::sample::select(vec![f64::NAN, f64::INFINITY, -0.0, 0.0, 1.0, 1e300]).prop_map(Float),
    ]
}

/// Texts, some of which look like something else.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>(),
        1 => any::<IpAddr>().prop_map(|addr| addr.to_string()),
        1 => any::<i32>().prop_map(|number| number.to_string()),
        1 => prop::sample::select(vec!["", "a", "id", "null", "true", "V4", "type"]).prop_map(str::to_owned),
    ]
}

fn raw() -> impl Strategy<Value = Raw> {
    prop_oneof![any::<Vec<u8>>(), text().prop_map(String::into_bytes)].prop_map(Raw)
}

fn external() -> impl Strategy<Value = External> {
    prop_oneof![
        Just(External::Unit),
        any::<Option<i8>>().prop_map(External::New),
        (any::<u64>(), text()).prop_map(|(a, b)| External::Tuple(a, b)),
        (any::<Option<bool>>(), any::<Vec<char>>()).prop_map(|(a, b)| External::Fields { a, b }),
    ]
}

fn since_1970() -> impl Strategy<Value = Duration> {
    (0u64..1 << 33, 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn plain() -> impl Strategy<Value = Plain> {
    let maps = (
        any::<HashMap<u8, Option<i64>>>(),
        any::<BTreeMap<(u8, String), bool>>(),
        prop::collection::btree_map(any::<bool>(), float(), 0..3),
    );
    let times = (any::<Duration>(), since_1970(), since_1970(), 0i32..100_000);
    prop_oneof![
        external().prop_map(Plain::External),
        any::<(i128, u128)>().prop_map(|(a, b)| Plain::Wide(a, b)),
        (raw(), any::<[u8; 4]>()).prop_map(|(a, b)| Plain::Bytes(a, b)),
        (any::<IpAddr>(), any::<IpAddr>(), any::<u16>())
            .prop_map(|(a, b, port)| Plain::Net(a, SocketAddr::new(b, port))),
        times.prop_map(|(a, b, c, days)| {
            let c = DateTime::from_timestamp(c.as_secs() as i64, c.subsec_nanos()).unwrap();
            let day = NaiveDate::from_num_days_from_ce_opt(days + 1).unwrap();
            Plain::Times(a, SystemTime::UNIX_EPOCH + b, c, day)
        }),
        any::<u128>().prop_map(|bits| Plain::Uuid(Uuid::from_u128(bits))),
        maps.prop_map(|(a, b, c)| Plain::Maps(a, b, c)),
        any::<(HashSet<String>, BTreeSet<i32>)>().prop_map(|(a, b)| Plain::Sets(a, b)),
        (any::<Option<Option<u8>>>(), any::<Option<()>>(), any::<Option<Option<Option<String>>>>())
            .prop_map(|(a, b, c)| Plain::Nested(a, b, c)),
        (
            any::<i64>(),
            text(),
            any::<f32>().prop_filter("equal to itself", |f| !f.is_nan()),
            any::<Vec<u16>>()
        )
            .prop_map(|(a, b, c, only)| Plain::Small(Unit, New(a), Pair(b, c), Transparent { only })),
        (text(), text(), any::<char>()).prop_map(|(a, b, c)| Plain::Texts(Cow::Owned(a), b.into(), c)),
    ]
}

fn untagged() -> impl Strategy<Value = Untagged> {
    let leaf = prop_oneof![
        Just(Untagged::Nothing),
        any::<bool>().prop_map(Untagged::Flag),
        any::<u64>().prop_map(Untagged::Up),
        any::<i64>().prop_map(Untagged::Number),
        float().prop_map(Untagged::Real),
        any::<IpAddr>().prop_map(Untagged::Addr),
        any::<u128>().prop_map(Untagged::Exact),
        text().prop_map(Untagged::Text),
        prop::collection::btree_map(text(), any::<Vec<u8>>(), 0..3).prop_map(Untagged::Pools),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Untagged::List))
}

fn sparse() -> impl Strategy<Value = Sparse> {
    (any::<Option<u8>>(), 0u8..4, text()).prop_map(|(a, b, d)| Sparse { a, b, c: 0, d })
}

fn flat() -> impl Strategy<Value = Flat> {
    let rest = prop::collection::hash_map(text(), untagged(), 0..3);
    (any::<u32>(), sparse(), rest).prop_map(|(id, inner, rest)| Flat { id, inner, rest })
}

fn internal() -> impl Strategy<Value = Internal> {
    let list = prop::collection::vec(external(), 0..3);
    prop_oneof![
        Just(Internal::Unit),
        (any::<IpAddr>(), any::<Option<u64>>(), list).prop_map(|(addr, count, list)| Internal::Fields {
            addr,
            count,
            list
        }),
        prop::collection::btree_map(text(), any::<i64>(), 0..3).prop_map(Internal::New),
        flat().prop_map(Internal::Flat),
    ]
}

fn adjacent() -> impl Strategy<Value = Adjacent> {
    prop_oneof![
        Just(Adjacent::Unit),
        any::<Option<IpAddr>>().prop_map(Adjacent::New),
        any::<(u8, Duration)>().prop_map(|(a, b)| Adjacent::Tuple(a, b)),
        raw().prop_map(|raw| Adjacent::Fields { raw }),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        text().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::hash_map(text(), inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

/// Any of them.
pub(super) fn named() -> impl Strategy<Value = Named> {
    prop_oneof![
        4 => plain().prop_map(Named::Plain),
        1 => internal().prop_map(Named::Internal),
        1 => adjacent().prop_map(Named::Adjacent),
        1 => untagged().prop_map(Named::Untagged),
        1 => sparse().prop_map(Named::Sparse),
        1 => flat().prop_map(Named::Flat),
        1 => (any::<i64>(), 0u32..20).prop_map(|(number, scale)| Named::Decimal(Decimal::new(number, scale))),
        1 => (0i64..1 << 33, 0i64..1_000_000_000, -12i8..12).prop_map(|(seconds, nanos, hours)| {
            let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let offset = time::UtcOffset::from_hms(hours, 0, 0).unwrap();
            Named::Time((time + time::Duration::nanoseconds(nanos)).to_offset(offset))
        }),
        1 => json().prop_map(Named::Json),
    ]
}
