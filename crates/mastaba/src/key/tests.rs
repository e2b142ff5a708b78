use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer};

use super::*;

fn space(max_key: usize) -> KeySpace {
    KeySpace::new("shop", "objects", "account.by_id", max_key, None).unwrap()
}

fn one<K: Key>(space: &KeySpace, key: &K) -> Bytes {
    space.encode_all(std::iter::once(key)).unwrap().remove(0)
}

/// The text of a key without its prefix.
fn text<K: Key>(key: &K) -> String {
    let whole = String::from_utf8(one(&space(1000), key).to_vec()).unwrap();
    whole.strip_prefix("shop:objects:account.by_id:").unwrap().to_owned()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Which {
    Plain,
    #[serde(rename = "1")]
    Digit,
    #[serde(rename = "true")]
    Word,
    #[serde(rename = "")]
    Empty,
    #[serde(rename = "in progress")]
    Spaced,
    One(i64),
    Two(String, String),
    Named {
        a: Option<u8>,
        b: char,
    },
    Deep(Box<Which>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Wrapped(String);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Holes {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    a: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    b: Option<u8>,
}

/// Bytes that serialize as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
struct Raw(Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
enum Anything {
    Flag(bool),
    Number(i64),
    Text(String),
    Which(Which),
    Pair(Box<Anything>, Box<Anything>),
}

#[test]
fn keys_read_like_the_values_they_stand_for() {
    assert_eq!(text(&1), "1");
    assert_eq!(text(&-5i8), "-5");
    assert_eq!(text(&i64::MIN), i64::MIN.to_string());
    assert_eq!(text(&u64::MAX), u64::MAX.to_string());
    assert_eq!(text(&i128::MIN), i128::MIN.to_string());
    assert_eq!(text(&true), "true");
    assert_eq!(text(&"bob".to_owned()), r#""bob""#);
    assert_eq!(text(&"a b%\"\\\u{7f}é".to_owned()), r#""a%20b%25%22%5c%7f%c3%a9""#);
    assert_eq!(text(&'c'), "'c'");
    assert_eq!(text(&'\''), "'%27'");
    assert_eq!(text(&Raw(vec![0, 255])), r#"x"00ff""#);
    assert_eq!(text(&()), "()");
    assert_eq!(text(&(1, "bob".to_owned())), r#"(1,"bob")"#);
    assert_eq!(text(&None::<u8>), "~");
    assert_eq!(text(&Some(Some(1))), "++1");
    assert_eq!(text(&vec![1, 2]), "[1,2]");
    assert_eq!(text(&std::collections::BTreeMap::from([("k".to_owned(), 1), ("l".to_owned(), 2)])), {
        r#"{"k"=1,"l"=2}"#
    });
    assert_eq!(text(&Wrapped("x".into())), r#""x""#);
    assert_eq!(text(&Which::Plain), "Plain");
    assert_eq!(text(&Which::Spaced), "in%20progress");
    assert_eq!(text(&Which::Two("a".into(), "b".into())), r#"Two("a","b")"#);
    assert_eq!(text(&Which::Named { a: Some(1), b: '/' }), "Named(+1,'/')");
    assert_eq!(text(&std::net::IpAddr::from([127, 0, 0, 1])), r#""127.0.0.1""#);
}

#[test]
fn keys_that_look_alike_are_different() {
    assert_ne!(text(&("a b".to_owned(), "c".to_owned())), text(&("a".to_owned(), "b c".to_owned())));
    assert_ne!(text(&1), text(&"1".to_owned()));
    assert_ne!(text(&Which::Digit), text(&1));
    assert_ne!(text(&Which::Word), text(&true));
    assert_ne!(text(&vec![1, 2]), text(&(1, 2)));
    assert_ne!(text(&(1, (2, 3))), text(&((1, 2), 3)));
    assert_ne!(text(&Holes { a: Some(1), b: None }), text(&Holes { a: None, b: Some(1) }));
    assert_eq!(text(&Holes { a: None, b: Some(1) }), "(_,+1)");
}

#[test]
fn a_key_that_cannot_be_serialized_names_its_source() {
    #[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
    struct Never;
    impl Serialize for Never {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not on a Sunday"))
        }
    }
    let said = space(250).encode_all([Never].iter()).unwrap_err();
    assert_eq!(
        said.to_string(),
        "a key of source `account.by_id` cannot be written as text: not on a Sunday"
    );
}

#[test]
fn a_key_at_the_limit_stays_and_a_longer_one_is_hashed() {
    let prefix = "shop:objects:account.by_id:";
    let space = space(prefix.len() + 65);
    space.fits().unwrap();
    let stays = one(&space, &"a".repeat(63));
    assert_eq!(stays, format!("{prefix}\"{}\"", "a".repeat(63)));
    let hashed = one(&space, &"a".repeat(64));
    // printf '%s' 'shop:objects:account.by_id:"aaa...a"' | sha256sum
    assert_eq!(hashed, format!("{prefix}%436210bf7536e98fa7467ff57f2eeff4e32f82c78739b20f0201dbcf24a5ec17"));
}

#[test]
fn a_limit_without_room_for_a_hash_is_refused_at_the_start() {
    let prefix = "shop:objects:account.by_id:".len();
    assert!(space(prefix + 64).fits().unwrap_err().contains("`account.by_id`"));
    assert!(space(prefix + 65).fits().is_ok());
    let short = KeySpace::new("n", "r", "s", 60, None).unwrap();
    assert!(short.fits().is_err());
}

#[test]
fn stamps_have_keys_that_no_entry_has() {
    let space = space(250);
    assert_eq!(space.generation(), "shop:objects:@generation");
    assert_eq!(space.tag_epoch(), "shop:objects:@tags");
    assert_eq!(space.tag("account:1"), "shop:objects:#account:1");
    assert_eq!(space.tag("a b"), "shop:objects:#a%20b");
    assert_eq!(space.tag(" b"), "shop:objects:#!%20b");
    assert_eq!(space.tag("!b"), "shop:objects:#!!b");
    assert_eq!(space.tag(""), "shop:objects:#");
    let long = space.tag(&"é".repeat(100));
    assert!(long.starts_with(b"shop:objects:#%") && long.len() == "shop:objects:#%".len() + 64);
}

#[test]
fn a_crafted_tag_does_not_meet_a_hashed_one() {
    let space = space(250);
    for number in 0..2000 {
        let long = space.tag(&format!("{number:0300}"));
        let hash = std::str::from_utf8(&long["shop:objects:#%".len()..]).unwrap();
        let first = u8::from_str_radix(&hash[..2], 16).unwrap();
        if first.is_ascii() {
            assert_ne!(space.tag(&format!("{}{}", char::from(first), &hash[2..])), long);
        }
    }
}

#[test]
fn a_mangler_sees_the_whole_key_before_it_is_measured() {
    let mangler: Mangler = Arc::new(|key| [b"v2:", key].concat());
    let space = KeySpace::new("shop", "objects", "account", 100, Some(mangler)).unwrap();
    assert_eq!(one(&space, &1), "v2:shop:objects:account:1");
    assert_eq!(space.generation(), "v2:shop:objects:@generation");
    assert_eq!(space.tag("t"), "v2:shop:objects:#t");
    let keys = space.encode_all(["a".repeat(99), "b".into()].iter()).unwrap();
    assert!(keys[0].starts_with(b"shop:objects:account:%") && keys[0].len() <= 100);
    assert_eq!(keys[1], r#"v2:shop:objects:account:"b""#);
}

#[test]
fn a_mangler_that_writes_nonsense_gets_its_keys_hashed() {
    let mangler: Mangler = Arc::new(|key| if key.ends_with(b":1") { vec![] } else { b"a b\n".to_vec() });
    let space = KeySpace::new("shop", "objects", "account", 100, Some(mangler)).unwrap();
    let keys = space.encode_all([1, 2].iter()).unwrap();
    assert_ne!(keys[0], keys[1]);
    assert!(keys.iter().all(|key| key.starts_with(b"shop:objects:account:%")));
}

#[test]
fn names_are_checked() {
    check_name("region", "Objects_2.by-id").unwrap();
    for wrong in ["", "a b", "a:b", "é", "@", "a/b", &"a".repeat(101)] {
        assert!(check_name("region", wrong).unwrap_err().contains("region"), "{wrong}");
    }
    assert!(KeySpace::new("a", "b", "c:d", 250, None).is_err());
}

fn string() -> impl Strategy<Value = String> {
    // Pieces of the text itself, so that a missing escape makes two values meet.
    let pieces = prop::sample::select(vec!["a", "\"", "\",\"", ",", "%22", "%", "\\", ")", " ", "+", "~"]);
    let made = prop::collection::vec(pieces, 0..4).prop_map(|pieces| pieces.concat());
    prop_oneof![3 => made, 1 => any::<String>()]
}

fn which() -> impl Strategy<Value = Which> {
    let leaf = prop_oneof![
        Just(Which::Plain),
        Just(Which::Digit),
        Just(Which::Word),
        Just(Which::Empty),
        Just(Which::Spaced),
        (-2i64..2).prop_map(Which::One),
        (string(), string()).prop_map(|(a, b)| Which::Two(a, b)),
        (any::<Option<u8>>(), any::<char>()).prop_map(|(a, b)| Which::Named { a, b }),
    ];
    leaf.prop_recursive(3, 8, 1, |inner| inner.prop_map(|inner| Which::Deep(Box::new(inner))))
}

fn anything() -> impl Strategy<Value = Anything> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Anything::Flag),
        (-2i64..20).prop_map(Anything::Number),
        string().prop_map(Anything::Text),
        which().prop_map(Anything::Which),
    ];
    leaf.prop_recursive(2, 8, 2, |inner| {
        (inner.clone(), inner).prop_map(|(a, b)| Anything::Pair(Box::new(a), Box::new(b)))
    })
}

type Composite = (
    (String, i64, Raw),
    Option<Option<(String, bool)>>,
    Vec<Vec<String>>,
    Which,
    Anything,
    std::collections::BTreeMap<String, Option<u8>>,
);

fn composite() -> impl Strategy<Value = Composite> {
    let raw = proptest::collection::vec(any::<u8>(), 0..3).prop_map(Raw);
    (
        (string(), any::<i64>(), raw),
        proptest::option::of(proptest::option::of((string(), any::<bool>()))),
        proptest::collection::vec(proptest::collection::vec(string(), 0..3), 0..3),
        which(),
        anything(),
        proptest::collection::btree_map(string(), any::<Option<u8>>(), 0..3),
    )
}

proptest! {
    #[test]
    fn different_values_have_different_texts(a in composite(), b in composite()) {
        prop_assert_eq!(a == b, text(&a) == text(&b));
    }

    #[test]
    fn small_values_have_different_texts(
        a in (string(), string(), which(), anything()),
        b in (string(), string(), which(), anything()),
    ) {
        prop_assert_eq!(a.0 == b.0, text(&a.0) == text(&b.0));
        prop_assert_eq!(a.2 == b.2, text(&a.2) == text(&b.2));
        prop_assert_eq!(a.3 == b.3, text(&a.3) == text(&b.3));
        let (left, right) = ((&a.0, &a.1) , (&b.0, &b.1));
        prop_assert_eq!(
            left == right,
            text(&(a.0.clone(), a.1.clone())) == text(&(b.0.clone(), b.1.clone()))
        );
        let sequence = |strings: &(String, String)| vec![strings.0.clone(), strings.1.clone()];
        let (left, right) = (sequence(&(a.0, a.1)), sequence(&(b.0, b.1)));
        prop_assert_eq!(left == right, text(&left) == text(&right));
    }

    #[test]
    fn many_are_each(keys in proptest::collection::vec(composite(), 0..6), max in 92usize..400) {
        let space = space(max);
        space.fits().unwrap();
        let all = space.encode_all(keys.iter()).unwrap();
        prop_assert_eq!(all.len(), keys.len());
        for (key, bytes) in keys.iter().zip(&all) {
            prop_assert_eq!(&one(&space, key), bytes);
            prop_assert!(bytes.len() <= max);
            prop_assert!(bytes.iter().all(|byte| (0x21..=0x7e).contains(byte)));
        }
        for (a, left) in keys.iter().zip(&all) {
            for (b, right) in keys.iter().zip(&all) {
                prop_assert_eq!(a == b, left == right);
            }
        }
    }

    #[test]
    fn different_tags_have_different_keys(a in string(), b in string()) {
        let space = space(100);
        prop_assert_eq!(a == b, space.tag(&a) == space.tag(&b));
        prop_assert!(space.tag(&a).iter().all(u8::is_ascii_graphic));
        prop_assert!(space.tag(&a).len() <= 100);
    }
}

#[test]
fn a_key_that_is_nested_too_deep_is_refused_before_the_stack_ends() {
    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    struct Link(Option<Box<Link>>);
    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    struct Tree(Vec<Tree>);

    fn refused<K: Key>(key: K) {
        let said = space(250).encode_all(std::iter::once(&key)).unwrap_err();
        assert!(said.to_string().contains("nested deeper than 64 steps"), "{said}");
        assert_eq!(space(250).show(&key), "a key that cannot be written as text");
        std::mem::forget(key); // to drop it is what would end the stack here
    }
    let deep = |levels| (0..levels).fold(Which::Plain, |inner, _| Which::Deep(Box::new(inner)));
    let link = |levels| (0..levels).fold(Link(None), |inner, _| Link(Some(Box::new(inner))));
    let tree = |levels| (0..levels).fold(Tree(vec![]), |inner, _| Tree(vec![inner]));
    assert!(
        text(&deep(64)).ends_with("Plain))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))")
    );
    refused(deep(65));
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            refused(deep(200_000));
            refused(link(200_000));
            refused(tree(200_000));
        })
        .unwrap()
        .join()
        .unwrap();
}
