use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde::{Deserialize, Deserializer, Serializer};

use super::*;

mod named;
mod types;
mod unread;
use types::*;

/// Encodes, decodes and compares; gives the format.
fn round<V: Value + PartialEq + Debug>(value: &V) -> Format {
    let codec = Codec::of::<V>(0);
    let mut out = b"before".to_vec();
    let format = codec.encode(value, &mut out).unwrap();
    assert!(out.starts_with(b"before"));
    assert_eq!(&codec.decode::<V>(format, &out[6..]).unwrap(), value);
    out.push(0);
    assert!(codec.decode::<V>(format, &out[6..]).is_err(), "a byte too many");
    assert!(codec.decode::<V>(format, &out[6..out.len() - 2]).is_err(), "a byte too few");
    format
}

fn traced<V: Value>() -> Result<u64, String> {
    let codec = Codec::of::<V>(0);
    let Encoding { schema, why_named, .. } = codec.encoding();
    why_named.map_or(Ok(schema), Err)
}

#[test]
fn plain_types_are_written_without_names() {
    assert_eq!(round(&1u8), Format::Postcard);
    assert_eq!(round(&(i128::MIN, "é".to_owned(), 'x', 1.5f32, true)), Format::Postcard);
    assert_eq!(round(&vec![Some(vec![1i64]), None]), Format::Postcard);
    assert_eq!(round(&HashMap::from([("k".to_owned(), [1u8; 4])])), Format::Postcard);
    assert_eq!(round(&Some(Some(()))), Format::Postcard);
    assert_eq!(round(&account()), Format::Postcard);
    assert_eq!(round(&Page { items: vec![account()], next: None }), Format::Postcard);
    assert_eq!(round(&Wrapping("w".into())), Format::Postcard);
    assert_eq!(round(&Pages { a: page(1u8), b: page("b".to_owned()) }), Format::Postcard);
}

#[test]
fn every_variant_of_every_enum_is_found() {
    for state in
        [State::New, State::Open(1), State::Moved(1, "m".into()), State::Shut { by: Some(Role::Admin) }]
    {
        assert_eq!(round(&state), Format::Postcard);
        assert_eq!(round(&vec![Some(state.clone())]), Format::Postcard);
        assert_eq!(round(&BTreeMap::from([(1, (state.clone(), Role::Guest))])), Format::Postcard);
    }
}

#[test]
fn types_that_check_what_they_read_are_traced_with_other_samples() {
    assert_eq!(round(&NonZeroU32::MAX), Format::Postcard);
    assert_eq!(round(&Day("2026-11-03".into())), Format::Postcard);
    assert_eq!(round(&vec![(Day("2026-11-03".into()), Some(Role::Admin))]), Format::Postcard);
    assert_eq!(round(&Uuid([7; 16])), Format::Postcard);
    assert_eq!(round(&IpAddr::from([127, 0, 0, 1])), Format::Postcard);
    assert_eq!(round(&"[::1]:80".parse::<SocketAddr>().unwrap()), Format::Postcard);
    assert_eq!(round(&(Duration::from_millis(5), SystemTime::UNIX_EPOCH)), Format::Postcard);
    assert_eq!(round(&Holder::One { day: Day("2026-11-03".into()), role: Role::Admin }), Format::Postcard);
}

#[test]
fn attributes_of_self_describing_formats_are_written_with_names() {
    assert_eq!(round(&Untagged::Text("t".into())), Format::MessagePack);
    assert_eq!(round(&Untagged::Fields { a: 1 }), Format::MessagePack);
    assert_eq!(round(&Tagged::A { x: 1 }), Format::MessagePack);
    assert_eq!(round(&Tagged::B(Wide { id: 1, name: "n".into() })), Format::MessagePack);
    assert_eq!(round(&Adjacent::A(1)), Format::MessagePack);
    assert_eq!(round(&Adjacent::Unit), Format::MessagePack);
    assert_eq!(
        round(&Flat { key: 1, rest: Wide { id: 2, name: "n".into() }, more: HashMap::new() }),
        Format::MessagePack
    );
    assert_eq!(round(&Hidden { a: 1, secret: String::new() }), Format::MessagePack);
    assert_eq!(round(&Uneven(5)), Format::MessagePack);
    assert_eq!(round(&SkippedVariant::Last(1)), Format::MessagePack);
}

#[test]
fn a_type_that_serializes_unlike_it_deserializes_is_found_when_it_is_registered() {
    let unlike = Err("it does not serialize as it deserializes".to_owned());
    assert_eq!(traced::<Hidden>(), unlike);
    assert_eq!(traced::<Uneven>(), unlike);
    assert_eq!(traced::<SkippedVariant>(), unlike);
}

#[test]
fn a_value_that_leaves_out_a_field_is_written_with_names() {
    assert_eq!(round(&Sparse { a: Some(1), b: vec![1], c: 1 }), Format::Postcard);
    assert_eq!(round(&Sparse { a: None, b: vec![1], c: 1 }), Format::MessagePack);
    assert_eq!(round(&Sparse { a: Some(1), b: vec![], c: 1 }), Format::MessagePack);
    assert_eq!(round(&vec![Some(Sparse { a: None, b: vec![], c: 1 })]), Format::MessagePack);
}

#[test]
fn a_sequence_of_unknown_length_is_written_with_names_and_one_of_a_wrong_length_is_refused() {
    let codec = Codec::of::<Lengths>(0);
    assert_eq!(codec.encoding().format, Format::Postcard);
    let mut out = Vec::new();
    let format = codec.encode(&Lengths { claimed: None, items: vec![1, 2] }, &mut out).unwrap();
    assert_eq!(format, Format::MessagePack);
    assert_eq!(codec.decode::<Lengths>(format, &out).unwrap().items, [1, 2]);
    let mut out = b"before".to_vec();
    let error = codec.encode(&Lengths { claimed: Some(3), items: vec![1, 2] }, &mut out).unwrap_err();
    assert!(error.to_string().contains("would come back as another value"), "{error}");
    assert_eq!(out, b"before");
}

#[test]
fn a_recursive_type_is_written_with_names() {
    let tree = Tree { name: "a".into(), below: vec![Tree { name: "b".into(), below: vec![] }] };
    assert_eq!(round(&tree), Format::MessagePack);
    assert_eq!(traced::<Tree>(), Err("`Tree` contains itself".to_owned()));
    assert_eq!(round(&Term::Not(Box::new(Term::True))), Format::MessagePack);
    assert_eq!(round(&Chain(vec![Chain(vec![])])), Format::MessagePack);
    assert_eq!(traced::<Chain>(), Err("it is too large".to_owned()));
}

#[test]
fn a_type_that_cannot_be_made_is_no_reason_to_stop() {
    assert_eq!(traced::<Panics>(), Err("it panics on values that are made up".to_owned()));
    assert_eq!(traced::<Picky>(), Err("never".to_owned()));
    assert_eq!(traced::<Vec<()>>(), Err("it has a sequence of items without size".to_owned()));
    assert_eq!(round(&Picky(2)), Format::MessagePack);
}

#[test]
fn fingerprints_are_the_same_in_every_process() {
    // If one of these changes, every entry that programs have stored becomes a miss.
    assert_eq!(traced::<Account>(), Ok(0x30dd_2ee8_934b_65d7));
    assert_eq!(traced::<Vec<Option<State>>>(), Ok(0x0942_42cb_05f3_e96a));
    assert_eq!(Codec::of::<Untagged>(0).schema(Format::MessagePack), 0x642d_21b6_c8d7_ca22);
    let mut shapes = Shapes::default();
    trace::trace::<Wide>(&mut shapes).unwrap();
    assert_eq!(shapes.text(), r#"StructFields "Wide"("id":U32,"name":Str,)"#);
}

#[test]
fn another_type_has_another_fingerprint() {
    let all = [
        traced::<Wide>(),
        traced::<v2::Wide>(),
        traced::<v3::Wide>(),
        traced::<v4::Wide>(),
        traced::<v5::Wide>(),
        traced::<State>(),
        traced::<v2::State>(),
        traced::<v3::State>(),
        traced::<(u8, u8)>(),
        traced::<(u8, i8)>(),
        traced::<Vec<u8>>(),
        traced::<Option<u8>>(),
        traced::<Wrapping>(),
        traced::<Pages>(),
    ];
    for (place, one) in all.iter().enumerate() {
        assert!(one.is_ok(), "{place}: {one:?}");
        assert!(all[..place].iter().all(|other| other != one), "{place}");
    }
    assert_eq!(traced::<Wide>(), traced::<same::Wide>());
}

#[test]
fn an_added_field_is_read_from_entries_with_names() {
    let old = Codec::of::<Flat>(0);
    let mut out = Vec::new();
    let flat = Flat { key: 1, rest: Wide { id: 2, name: "n".into() }, more: HashMap::new() };
    let format = old.encode(&flat, &mut out).unwrap();
    let new: v2::Flat = Codec::of::<v2::Flat>(0).decode(format, &out).unwrap();
    assert_eq!((new.key, new.added), (1, 7));
}

#[test]
fn a_long_payload_is_compressed_if_that_helps() {
    let text = b"all work and no play ".repeat(100);
    let packed = pack(text.clone(), Some(100));
    let before = cfg!(feature = "compression").then_some(text.len() as u32);
    assert_eq!(packed.compressed, before);
    assert_eq!(unpack(&packed.bytes, packed.compressed, text.len()).unwrap(), text);
    assert_eq!(pack(text.clone(), None).compressed, None);
    assert_eq!(pack(text.clone(), Some(text.len() as u64)).compressed, None);
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(1000).collect();
    assert_eq!(pack(noise, Some(10)).compressed, None);
}

#[test]
fn a_wrong_length_is_an_error() {
    for above in [Some(0), None] {
        let packed = pack(vec![7; 5000], above);
        // what is not compressed has the length that it has, and no other one is written down
        let unpack = |len: u32, most| unpack(&packed.bytes, packed.compressed.map(|_| len), most);
        assert!(unpack(5000, 5000).is_ok());
        for wrong in [0, 4999, 5001, u32::MAX].into_iter().filter(|_| packed.compressed.is_some()) {
            assert!(unpack(wrong, usize::MAX).is_err(), "{wrong}");
        }
        let error = unpack(5000, 4999).unwrap_err().to_string();
        assert_eq!(error, "a payload of 5000 bytes is longer than 4999");
    }
}

/// Looked at before the buffer is made: a few damaged bytes must not ask for gigabytes.
#[cfg(feature = "compression")]
#[test]
fn compressed_bytes_that_cannot_become_so_many_are_refused_by_their_length_alone() {
    for (len, refused) in [(255 * 3, false), (255 * 3 + 1, true), (u32::MAX, true)] {
        let error = unpack(&[1, 2, 3], Some(len), usize::MAX).unwrap_err().to_string();
        assert_eq!(error == format!("3 compressed bytes cannot become {len}"), refused, "{error}");
    }
}

proptest! {
    #[test]
    fn any_payload_is_unpacked_again(bytes in prop::collection::vec(0u8..4, 0..3000)) {
        let packed = pack(bytes.clone(), Some(0));
        prop_assert_eq!(&*unpack(&packed.bytes, packed.compressed, 3000).unwrap(), &bytes);
    }

    #[test]
    fn random_bytes_are_never_unpacked_in_panic(bytes in any::<Vec<u8>>(), len in 0u32..100_000) {
        if let Ok(raw) = unpack(&bytes, Some(len), 100_000) {
            prop_assert_eq!(raw.len(), len as usize);
        }
    }

    #[test]
    fn random_bytes_are_an_error_or_a_value(bytes in any::<Vec<u8>>()) {
        /// What is read is a value like any other: it is written, and comes back.
        fn read<V: Value + PartialEq + Debug>(bytes: &[u8]) {
            let codec = Codec::of::<V>(0);
            for format in [Format::Postcard, Format::MessagePack] {
                if let Ok(value) = codec.decode::<V>(format, bytes) {
                    let mut out = Vec::new();
                    let format = codec.encode(&value, &mut out).unwrap();
                    assert_eq!(codec.decode::<V>(format, &out).unwrap(), value);
                }
            }
        }
        read::<Account>(&bytes);
        read::<State>(&bytes);
        read::<Vec<Option<State>>>(&bytes);
        read::<Term>(&bytes);
        read::<Tree>(&bytes);
        read::<Untagged>(&bytes);
        read::<Tagged>(&bytes);
        read::<Flat>(&bytes);
        read::<HashMap<String, Uuid>>(&bytes);
    }

    #[test]
    fn values_come_back(
        id in any::<i64>(),
        name in any::<String>(),
        photo in any::<Option<u64>>(),
        tags in any::<Vec<String>>(),
        a in any::<Option<u8>>(),
    ) {
        round(&Account { id, name: name.clone(), photo, tags, state: State::Moved(1, name.clone()) });
        round(&Sparse { a, b: name.into_bytes(), c: id });
    }
}
