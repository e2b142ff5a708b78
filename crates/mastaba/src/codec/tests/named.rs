//! Values with names come back as they are, or are refused.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::*;

/// Why a value is not written. Nothing of it is left behind.
fn refused<V: Value>(value: &V) -> Refused {
    let mut out = vec![1];
    let refused = Codec::of::<V>(0).encode(value, &mut out).unwrap_err();
    assert_eq!(out, [1]);
    refused
}

fn differs<V: Value>(value: &V) -> bool {
    matches!(refused(value), Refused::Differs(_))
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Peer {
    Addr(IpAddr),
    Pools(BTreeMap<String, Vec<u8>>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Amount {
    Exact(u128),
    Text(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Host {
    Name(String),
    Addr(IpAddr),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Count {
    Up(u64),
    Any(i64),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Length {
    Metres(f64),
    Feet(f64),
}

#[test]
fn an_address_in_an_untagged_enum_comes_back_as_an_address() {
    assert_eq!(round(&Peer::Addr(IpAddr::from([127, 0, 0, 1]))), Format::MessagePack);
    assert_eq!(round(&Peer::Pools(BTreeMap::from([("V4".into(), vec![127, 0, 0, 1])]))), Format::MessagePack);
    assert_eq!(round(&vec![Peer::Addr(IpAddr::from([0; 16]))]), Format::MessagePack);
}

#[test]
fn what_would_come_back_as_another_variant_is_refused() {
    round(&Amount::Text("t".into()));
    assert!(differs(&Amount::Exact(u128::MAX)));
    assert!(differs(&Amount::Exact(1)));
    // the same bytes where the format is readable
    round(&Host::Name("a.example".into()));
    assert!(differs(&Host::Addr(IpAddr::from([127, 0, 0, 1]))));
    assert!(differs(&vec![Some(Host::Addr(IpAddr::from([127, 0, 0, 1])))]));
    // another width of the same number
    round(&Count::Any(-1));
    assert!(differs(&Count::Any(1)));
    // serde says the very same of both
    round(&Length::Metres(1.0));
    assert!(differs(&Length::Feet(1.0)));
}

/// Reads a list, and sorts it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Sorted {
    List(Vec<u8>),
}

impl<'de> Deserialize<'de> for Sorted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Plain {
            List(Vec<u8>),
        }
        let Plain::List(mut list) = Plain::deserialize(from)?;
        list.sort_unstable();
        Ok(Self::List(list))
    }
}

#[test]
fn the_order_of_a_list_counts_and_that_of_a_set_does_not() {
    round(&Sorted::List(vec![1, 2, 3]));
    assert!(differs(&Sorted::List(vec![1, 3, 2])));
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sets {
        #[serde(flatten)]
        map: HashMap<String, Vec<HashSet<String>>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        none: Option<u8>,
    }
    let texts = |count: u32| (0..count).map(|number| number.to_string()).collect::<HashSet<_>>();
    for count in 0..20 {
        let map = texts(count).into_iter().map(|text| (text, vec![texts(count), texts(2)])).collect();
        round(&Sets { map, none: None });
    }
    /// A set whose order is the same for all that were made in one way.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Steady {
        Set(HashSet<u32, BuildHasherDefault<DefaultHasher>>),
    }
    for count in 0..200 {
        let mut set = HashSet::with_capacity_and_hasher(1, BuildHasherDefault::default());
        set.extend((0..count).rev());
        round(&Steady::Set(set));
    }
}

/// A set by hand: serde sees a list, and no name of a set.
#[derive(Debug, PartialEq)]
struct ByHand(HashSet<u32>);

impl Serialize for ByHand {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut items = to.serialize_seq(None)?;
        self.0.iter().try_for_each(|item| items.serialize_element(item))?;
        items.end()
    }
}

impl<'de> Deserialize<'de> for ByHand {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        HashSet::deserialize(from).map(Self)
    }
}

#[test]
fn a_set_that_looks_like_a_list_is_known_by_its_changing_order() {
    for count in 0..40 {
        assert_eq!(round(&ByHand((0..count).collect())), Format::MessagePack);
    }
}

#[test]
fn what_serde_leaves_out_and_reads_as_something_else_is_refused() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sparse {
        #[serde(skip_serializing_if = "String::is_empty", default = "nameless")]
        name: String,
    }
    fn nameless() -> String {
        "nameless".into()
    }
    round(&Sparse { name: "n".into() });
    assert!(differs(&Sparse { name: String::new() }));
    // and what cannot be read at all
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Lost {
        #[serde(skip_serializing)]
        secret: String,
    }
    assert!(differs(&Lost { secret: "s".into() }));
}

#[test]
fn a_null_that_would_be_lost_is_refused() {
    let lossy = Lossy { a: Some(None), skipped: None };
    assert!(refused(&lossy).to_string().contains("Some(None)"));
    round(&Lossy { a: Some(Some(1)), skipped: None });
    round(&Lossy { a: Some(None), skipped: Some(1) });
}

#[test]
fn numbers_come_back_bit_by_bit() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Float {
        Double(f64),
    }
    let codec = Codec::of::<Float>(0);
    for bits in [f64::NAN.to_bits(), f64::NAN.to_bits() | 5, (-0.0f64).to_bits(), f64::INFINITY.to_bits()] {
        let mut out = Vec::new();
        let format = codec.encode(&Float::Double(f64::from_bits(bits)), &mut out).unwrap();
        let Float::Double(again) = codec.decode(format, &out).unwrap();
        assert_eq!(again.to_bits(), bits);
    }
}

/// Runs on the stack of a worker of tokio, which is smaller than that of a test.
fn on_a_worker(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

/// A document, as untagged enums hold it: the deepest that serde descends per level.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Document {
    Leaf(u8),
    Map(BTreeMap<String, Document>),
    List(Vec<Document>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Link {
    next: Option<Box<Link>>,
}

/// Wraps `inner` in itself.
fn nested<T>(levels: usize, inner: T, wrap: impl Fn(T) -> T) -> T {
    (0..levels).fold(inner, |inner, _| wrap(inner))
}

fn tree(levels: usize) -> Tree {
    nested(levels, Tree { name: "t".into(), below: vec![] }, |tree| Tree {
        name: "t".into(),
        below: vec![tree],
    })
}

fn term(levels: usize) -> Term {
    nested(levels, Term::True, |term| Term::Not(Box::new(term)))
}

fn link(levels: usize) -> Link {
    nested(levels, Link { next: None }, |link| Link { next: Some(Box::new(link)) })
}

fn chain(levels: usize) -> Chain {
    nested(levels, Chain(vec![]), |chain| Chain(vec![chain]))
}

fn document(levels: usize) -> Document {
    nested(levels, Document::Leaf(1), |inner| {
        Document::List(vec![Document::Map(BTreeMap::from([("k".into(), inner)]))])
    })
}

#[test]
fn a_value_of_128_levels_comes_back_on_the_stack_of_a_worker() {
    on_a_worker(|| {
        for levels in [1, 10, 20, 70, 128] {
            assert_eq!(round(&tree(levels)), Format::MessagePack);
            assert_eq!(round(&term(levels)), Format::MessagePack);
            assert_eq!(round(&link(levels)), Format::MessagePack);
            assert_eq!(round(&chain(levels)), Format::MessagePack);
            assert_eq!(round(&document(levels)), Format::MessagePack);
        }
    });
}

#[test]
fn what_is_nested_deeper_than_the_limit_is_refused_before_the_stack_ends() {
    fn too_deep<V: Value>(value: V) {
        assert!(matches!(refused(&value), Refused::TooDeep));
        // to drop it is what would end the stack here
        std::mem::forget(value);
    }
    on_a_worker(|| {
        // a term's innermost is no step, and a document's is
        round(&term(deep::MOST));
        too_deep(term(deep::MOST + 1));
        for levels in [deep::MOST + 1, 10_000, 100_000] {
            too_deep(term(levels));
            too_deep(tree(levels));
            too_deep(link(levels));
            too_deep(chain(levels));
            too_deep(document(levels));
        }
    });
}

#[test]
fn bytes_that_are_nested_too_deep_are_an_error_before_the_stack_ends() {
    on_a_worker(|| {
        let (tree, term) = (Codec::of::<Tree>(0), Codec::of::<Term>(0));
        let arrays = vec![0x91; 3_000_000];
        let variants = [0x81, 0xa3, b'N', b'o', b't'].repeat(1_000_000);
        let too_deep = "it is nested deeper than 512 lists and maps";
        assert_eq!(tree.decode::<Tree>(Format::MessagePack, &arrays).unwrap_err().to_string(), too_deep);
        assert_eq!(term.decode::<Term>(Format::MessagePack, &variants).unwrap_err().to_string(), too_deep);
        let error = term.decode::<Term>(Format::Postcard, &[0; 1_000_000]).unwrap_err().to_string();
        assert_eq!(error, "the type is never written without names");
    });
}
