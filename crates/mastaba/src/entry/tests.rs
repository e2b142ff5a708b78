use proptest::prelude::*;

use super::fields::{age_of, lengthened};
use super::*;

fn header(kind: Kind) -> Header {
    let plain = Header::new(kind, Fence(0x1112_1314_1516_1718), 0x2324_2526_2728);
    match kind {
        Kind::Lease => plain,
        Kind::Hold => Header { kept_until_ms: 0x3132_3334_3536_3738, ..plain },
        Kind::Value | Kind::Absent => Header {
            compressed: Some(0xa1a2_a3a4),
            format: Format::MessagePack,
            stamps: 0x3132_3334_3536_3738,
            schema: 0x4344_4546_4748,
            created_ms: 0x6364_6566_6768,
            soft_ms: 0x7_7778,
            hard_ms: 0x8_8788,
            cost_us: 0xd,
            ..plain
        },
    }
}

fn sample() -> Vec<u8> {
    write(&header(Kind::Value), &[("team:7", 0xc1), ("ü", 0xc2)], &[], b"payload")
}

fn sample_hold() -> Vec<u8> {
    let holders = [Holder { id: 0xb1, expires_ms: 0xb2 }, Holder { id: 0xb3, expires_ms: 0xb4 }];
    write(&header(Kind::Hold), &[], &holders, b"kept")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Parts = (Header, Vec<(String, u64)>, Vec<Holder>, Vec<u8>);

fn parts(entry: &EntryRef<'_>) -> Parts {
    let tags = entry.tags().map(|(name, stamp)| (name.to_owned(), stamp)).collect();
    (entry.header(), tags, entry.holders().collect(), entry.payload().to_vec())
}

#[test]
fn the_layout_is_pinned() {
    let expected = concat!(
        "4d74",
        "47",               // magic, layout and kind and flags
        "1817161514131211", // fence
        "282726252423",     // incarnation
        "3837363534333231",
        "484746454443", // stamps, schema
        "686766656463",
        "787707",
        "888708", // created, soft, hard
        "0d",
        "a4a3a2a1", // cost, raw length
        "02",
        "06",
        "7465616d3a37",
        "c100000000000000",
        "02",
        "c3bc",
        "c200000000000000", // tags
        "7061796c6f6164",   // payload
        "73949b7b",
    );
    assert_eq!(hex(&sample()), expected);
    let hold = concat!(
        "4d74",
        "70",
        "1817161514131211",
        "282726252423",
        "3837363534333231", // until when it keeps
        "02",
        "b100000000000000",
        "b200000000000000",
        "b300000000000000",
        "b400000000000000", // holders
        "6b657074",         // what it keeps
        "2efe560c",
    );
    assert_eq!(hex(&sample_hold()), hold);
    let lease = concat!("4d74", "60", "1817161514131211", "282726252423", "250786e7");
    assert_eq!(hex(&super::lease(Fence(0x1112_1314_1516_1718), 0xffff_2324_2526_2728)), lease);
}

/// What the design asks for: 48 bytes beside a plain value, and a lease below 24.
#[test]
fn a_plain_value_costs_48_bytes_and_a_lease_has_21() {
    let mut plain = Header { compressed: None, ..header(Kind::Value) };
    assert_eq!(write(&plain, &[], &[], b"payload").len(), 48 + b"payload".len());
    assert_eq!(OVERHEAD, 48);
    plain.compressed = Some(1);
    assert_eq!(write(&plain, &[], &[], b"payload").len(), 52 + b"payload".len());
    assert_eq!(lease(Fence(1), 2).len(), 21);
    assert_eq!(LEASE_LEN, 21);
}

#[test]
fn an_entry_reads_back_what_was_written() {
    let bytes = sample();
    let entry = EntryRef::read(&bytes).unwrap();
    assert_eq!(entry.header(), header(Kind::Value));
    assert_eq!(entry.tags().collect::<Vec<_>>(), [("team:7", 0xc1), ("ü", 0xc2)]);
    assert_eq!(entry.payload(), b"payload");
    assert_eq!(peek_fence(&bytes), Some(Fence(0x1112_1314_1516_1718)));
    assert_eq!(peek_kind(&bytes), Some(Kind::Value));
    assert_eq!(bytes.capacity(), bytes.len());
    let bytes = sample_hold();
    let entry = EntryRef::read(&bytes).unwrap();
    assert_eq!(entry.header(), header(Kind::Hold));
    assert_eq!(entry.holders().map(|it| it.id).collect::<Vec<_>>(), [0xb1, 0xb3]);
    assert_eq!(entry.payload(), b"kept");
    assert_eq!(peek_kind(&bytes), Some(Kind::Hold));
    assert_eq!(bytes.capacity(), bytes.len());
}

#[test]
fn each_sort_of_foreign_bytes_has_its_name() {
    let bytes = sample();
    let changed = |at: usize, byte: u8| {
        let mut out = bytes.clone();
        out[at] = byte;
        EntryRef::read(&out).unwrap_err()
    };
    assert_eq!(EntryRef::read(&[]).unwrap_err(), Foreign::TooShort);
    assert_eq!(EntryRef::read(&bytes[..LEASE_LEN - 1]).unwrap_err(), Foreign::TooShort);
    assert_eq!(EntryRef::read(&bytes[..OVERHEAD - 1]).unwrap_err(), Foreign::TooShort);
    assert_eq!(EntryRef::read(&bytes[..OVERHEAD + 5]).unwrap_err(), Foreign::Length);
    assert_eq!(EntryRef::read(&sample_hold()[..29]).unwrap_err(), Foreign::TooShort);
    assert_eq!(EntryRef::read(&[&lease(Fence(1), 2)[..], b"x"].concat()).unwrap_err(), Foreign::Length);
    assert_eq!(changed(0, b'X'), Foreign::Magic);
    assert_eq!(changed(2, 1), Foreign::Version);
    assert_eq!(changed(2, 0x87), Foreign::Version);
    assert_eq!(changed(2, 0xc7), Foreign::Version);
    assert_eq!(changed(2, 0x4f), Foreign::Version, "a flag that is to come");
    assert_eq!(changed(2, 0x61), Foreign::Version, "a lease has no flags");
    assert_eq!(changed(2, 0x71), Foreign::Version, "nor has a hold");
    assert_eq!(changed(PLAIN + 4, 255), Foreign::Length);
    assert_eq!(changed(FENCE_AT, 0), Foreign::Checksum);
    assert_eq!(changed(bytes.len() - 5, 0), Foreign::Checksum);
    assert_eq!(changed(bytes.len() - 1, 0), Foreign::Checksum);
    let mut hold = sample_hold();
    hold[HOLD - 1] = 255;
    assert_eq!(EntryRef::read(&hold).unwrap_err(), Foreign::Length);
}

#[test]
fn what_a_kind_has_no_place_for_is_not_left_out_silently() {
    let holder = [Holder { id: 1, expires_ms: 2 }];
    let refused = |kind, tags: &[(&str, u64)], holders: &[Holder], payload: &[u8]| {
        let header = header(kind);
        std::panic::catch_unwind(|| write(&header, tags, holders, payload)).is_err()
    };
    assert!(refused(Kind::Lease, &[("t", 1)], &[], b""));
    assert!(refused(Kind::Hold, &[("t", 1)], &[], b""));
    assert!(refused(Kind::Value, &[], &holder, b""));
    assert!(refused(Kind::Lease, &[], &holder, b""));
    assert!(refused(Kind::Lease, &[], &[], b"x"));
    assert!(!refused(Kind::Absent, &[("t", 1)], &[], b"x"));
}

/// R11: what stands in entries of an incarnation is enough to compare it by, wherever the rest of it comes from.
#[test]
fn an_incarnation_is_compared_by_what_is_written_of_it() {
    let of = |incarnation| EntryRef::read(&lease(Fence(1), incarnation)).unwrap().header();
    for incarnation in [0, 1, 0x1234_5678_9abc_def0, u64::MAX] {
        assert!(of(incarnation).is_of(incarnation), "{incarnation:x}");
        assert!(Header::new(Kind::Lease, Fence(1), incarnation).is_of(incarnation));
        for bit in 0..48 {
            assert!(!of(incarnation).is_of(incarnation ^ (1 << bit)), "{incarnation:x} bit {bit}");
        }
    }
}

/// No damage of one bit and no cut is taken for a sound entry, of any kind: all of them, not a choice.
#[test]
fn every_flip_of_a_bit_and_every_cut_is_found() {
    let mut entries = vec![sample(), sample_hold(), lease(Fence(7), 9)];
    for len in [0, 1, 7, 160, 1000] {
        let plain = Header { compressed: None, ..header(Kind::Value) };
        entries.push(write(&plain, &[], &[], &vec![0; len]));
        entries.push(write(&Header { kind: Kind::Absent, ..plain }, &[("a", 1)], &[], b""));
    }
    for entry in entries {
        assert!(EntryRef::read(&entry).is_ok());
        for bit in 0..entry.len() * 8 {
            let mut damaged = entry.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(EntryRef::read(&damaged).is_err(), "bit {bit} of {}", hex(&entry));
        }
        for len in 0..entry.len() {
            assert!(EntryRef::read(&entry[..len]).is_err(), "cut to {len}: {}", hex(&entry));
        }
    }
}

/// The first layout as programs know it that may run beside this one: magic, its number, a kind; 88 bytes before all.
fn known_to_the_first_layout(bytes: &[u8]) -> bool {
    bytes.len() >= 88 && bytes[..3] == *b"Mt\x01" && (1..=4).contains(&bytes[3])
}

#[test]
fn neither_layout_takes_an_entry_of_the_other_for_its_own() {
    for kind in 1..=4 {
        for len in [88, 200] {
            let mut first = vec![0; len];
            first[..4].copy_from_slice(&[b'M', b't', 1, kind]);
            assert!(known_to_the_first_layout(&first));
            assert_eq!(EntryRef::read(&first).unwrap_err(), Foreign::Version);
            assert_eq!((peek(&first).err(), peek_kind(&first)), (Some(Foreign::Version), None));
            assert_eq!(peek_fence(&first), None, "no fill has its fence");
        }
    }
    let long = write(&Header { compressed: None, ..header(Kind::Value) }, &[], &[], &[0; 300]);
    for second in [long, sample(), sample_hold(), lease(Fence(1), 2)] {
        assert!(!known_to_the_first_layout(&second));
    }
}

#[test]
fn ages_that_people_set_come_back_as_they_were() {
    let exact = |ms: u64| age_of(u32::try_from(age_code(ms)).unwrap()) == ms;
    assert!((0..1 << 20).step_by(7).all(exact), "all below 17 minutes");
    assert!((1..=9 * 60).all(|minutes| exact(minutes * 60_000)));
    assert!((1..=36).all(|hours| exact(hours * 3_600_000)));
    assert!((1..=12).all(|days| exact(days * 86_400_000)));
    assert!(exact(u64::MAX), "for ever");
    let century = 100 * 366 * 86_400_000;
    let kept = age_of(u32::try_from(age_code(century)).unwrap());
    assert!(
        kept <= century && century - kept < 2 * 3_600_000,
        "a hundred years, short by {}",
        century - kept
    );
    let most = age_of(u32::try_from(age_code(u64::MAX - 1)).unwrap());
    assert!(most > 35_000 * 365 * 86_400_000 && most < u64::MAX, "{most}");
}

#[test]
fn a_kept_entry_gets_another_fence_and_nothing_else_changes() {
    let bytes = sample();
    let entry = EntryRef::read(&bytes).unwrap();
    let again = entry.with_fence(Fence(5));
    let again = EntryRef::read(&again).unwrap();
    assert_eq!(again.header().fence, Fence(5));
    let mut expected = parts(&entry);
    expected.0.fence = Fence(5);
    assert_eq!(parts(&again), expected);
}

#[test]
fn random_fences_differ_and_are_never_zero() {
    let from_threads: Vec<Vec<Fence>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..10_000).map(|_| Fence::random()).collect())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let all: std::collections::HashSet<_> = from_threads.into_iter().flatten().collect();
    assert_eq!(all.len(), 40_000);
    assert!(!all.contains(&Fence(0)));
}

/// 100,000 damages of every sort: none panics, none yields an entry other than the undamaged one.
#[test]
fn a_damaged_entry_is_never_taken_for_another() {
    let mut random = fastrand::Rng::with_seed(0x6d61_7374);
    let originals: Vec<Vec<u8>> = (0..64)
        .map(|i| {
            let kind = [Kind::Value, Kind::Absent, Kind::Lease, Kind::Hold][i % 4];
            let names: Vec<String> = (0..random.usize(..4)).map(|n| format!("tag:{n}:{i}")).collect();
            let mut tags: Vec<_> = names.iter().map(|name| (name.as_str(), random.u64(..))).collect();
            let mut holders: Vec<_> = (0..random.usize(..3))
                .map(|id| Holder { id: id as u64, expires_ms: random.u64(..) })
                .collect();
            let mut payload: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
            leave_only(kind, &mut tags, &mut holders, &mut payload);
            write(&Header { fence: Fence(random.u64(..)), ..header(kind) }, &tags, &holders, &payload)
        })
        .collect();
    let mut refused = 0;
    for round in 0..100_000 {
        let original = &originals[random.usize(..originals.len())];
        let other = &originals[random.usize(..originals.len())];
        let mut bytes = original.clone();
        match round % 6 {
            0 => {
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..bytes.len());
                    bytes[at] ^= 1 << random.u8(..8);
                }
            }
            1 => bytes.truncate(random.usize(..bytes.len())),
            2 => bytes.extend((0..random.usize(1..40)).map(|_| random.u8(..))),
            3 => {
                let (cut, from) = (random.usize(..=bytes.len()), random.usize(..=other.len()));
                bytes.truncate(cut);
                bytes.extend_from_slice(&other[from..]);
            }
            4 => {
                // the head of one, the body of another, at the same place: lengths stay plausible
                let cut = random.usize(..bytes.len().min(other.len()));
                bytes.truncate(cut);
                bytes.extend_from_slice(&other[cut..]);
            }
            _ => {
                let from = random.usize(..bytes.len());
                let to = random.usize(from..=bytes.len());
                for byte in &mut bytes[from..to] {
                    *byte = random.u8(..);
                }
            }
        }
        match EntryRef::read(&bytes) {
            Ok(_) => assert!(&bytes == original || &bytes == other, "round {round}: damage was not seen"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 95_000, "only {refused} damages damaged anything");
}

/// Takes away what a kind has no place for.
fn leave_only<T>(kind: Kind, tags: &mut Vec<T>, holders: &mut Vec<Holder>, payload: &mut Vec<u8>) {
    match kind {
        Kind::Value | Kind::Absent => holders.clear(),
        Kind::Hold => tags.clear(),
        Kind::Lease => {
            tags.clear();
            holders.clear();
            payload.clear();
        }
    }
}

/// What is left of a header when it is written: a part that the kind does not have is gone, numbers are shortened.
fn as_written(header: Header) -> Header {
    let incarnation = header.incarnation & 0xffff_ffff_ffff;
    let plain = Header::new(header.kind, header.fence, incarnation);
    match header.kind {
        Kind::Lease => plain,
        Kind::Hold => Header { kept_until_ms: header.kept_until_ms, ..plain },
        Kind::Value | Kind::Absent => Header {
            incarnation,
            schema: header.schema & 0xffff_ffff_ffff,
            created_ms: header.created_ms.min(0xffff_ffff_ffff),
            soft_ms: age_of(age_code(header.soft_ms) as u32),
            hard_ms: age_of(age_code(header.hard_ms) as u32),
            cost_us: lengthened(shortened(header.cost_us.into(), COST_BITS), COST_BITS) as u32,
            kept_until_ms: 0,
            ..header
        },
    }
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Value), Just(Kind::Absent), Just(Kind::Lease), Just(Kind::Hold)]
}

/// Numbers of every size, and those beside the powers of two.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0u32..64, any::<u64>()).prop_map(|(shift, number)| number >> shift),
        (0u32..64, 0u64..3).prop_map(|(shift, more)| ((1u64 << shift) - 1).saturating_add(more)),
        Just(u64::MAX),
        Just(u64::MAX - 1),
    ]
}

proptest! {
    #[test]
    fn every_entry_survives_the_round_trip(
        kind in any_kind(),
        compressed: Option<u32>,
        pack: bool,
        words in prop::array::uniform8(any_number()),
        cost_us: u32,
        tags in prop::collection::vec((".{0,60}", any::<u64>()), 0..5),
        holders in prop::collection::vec((any::<u64>(), any::<u64>()), 0..5),
        payload in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        let [fence, incarnation, stamps, schema, kept_until_ms, created_ms, soft_ms, hard_ms] = words;
        let header = Header {
            kind, compressed, format: if pack { Format::MessagePack } else { Format::Postcard },
            fence: Fence(fence), incarnation, stamps, schema, kept_until_ms, created_ms, soft_ms, hard_ms, cost_us,
        };
        let (mut tags, mut payload): (Vec<(String, u64)>, Vec<u8>) = (tags, payload);
        let mut holders: Vec<Holder> =
            holders.into_iter().map(|(id, expires_ms)| Holder { id, expires_ms }).collect();
        leave_only(kind, &mut tags, &mut holders, &mut payload);
        let borrowed: Vec<(&str, u64)> = tags.iter().map(|(name, stamp)| (name.as_str(), *stamp)).collect();
        let bytes = write(&header, &borrowed, &holders, &payload);
        prop_assert_eq!(bytes.len(), bytes.capacity());
        let entry = EntryRef::read(&bytes).unwrap();
        prop_assert_eq!(parts(&entry), (as_written(header), tags.clone(), holders.clone(), payload.clone()));
        prop_assert_eq!(peek(&bytes), Ok(entry.header()));
        prop_assert_eq!(peek_fence(&bytes), Some(header.fence));
        prop_assert_eq!(peek_kind(&bytes), Some(kind));
        // once shortened, nothing is lost any more: an entry may be written again and again
        let again = write(&entry.header(), &borrowed, &holders, &payload);
        prop_assert_eq!(bytes, again);
    }

    /// An age is never rounded up, by less than a 500,000th down, and the larger of two stays the larger or equal one.
    #[test]
    fn an_age_is_rounded_down_and_by_little(one in any_number(), other in any_number()) {
        let stored = |ms| age_of(u32::try_from(age_code(ms)).unwrap());
        prop_assert!(stored(one) <= one);
        if one < 1 << 20 {
            prop_assert_eq!(stored(one), one);
        }
        if one < 1 << 50 {
            prop_assert!(one - stored(one) <= one >> 19, "{} became {}", one, stored(one));
        }
        prop_assert_eq!(one <= other && stored(one) > stored(other), false);
        prop_assert_eq!(stored(one) == u64::MAX, one == u64::MAX, "for ever is nothing but for ever");
        prop_assert_eq!(stored(stored(one)), stored(one));
    }

    #[test]
    fn a_cost_is_rounded_down_by_an_eighth_at_most(us: u32) {
        let code = shortened(us.into(), COST_BITS);
        prop_assert!(code < 256);
        let stored = u32::try_from(lengthened(code, COST_BITS)).unwrap();
        prop_assert!(stored <= us && us - stored <= us / 8);
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind: Option<u8>) {
        let mut bytes = bytes;
        if let Some(kind) = kind.filter(|_| bytes.len() > 3) {
            bytes[..3].copy_from_slice(&[b'M', b't', 0x40 | kind]);
        }
        prop_assert!(EntryRef::read(&bytes).is_err());
        let _ = peek(&bytes);
    }
}
