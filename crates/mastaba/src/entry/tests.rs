use proptest::prelude::*;

use super::*;

fn header(kind: Kind) -> Header {
    Header {
        kind,
        compressed: true,
        format: Format::MessagePack,
        fence: Fence(0x1112_1314_1516_1718),
        incarnation: 0x2122_2324_2526_2728,
        region_stamp: 0x3132_3334_3536_3738,
        schema: 0x4142_4344_4546_4748,
        snapshot: 0x5152_5354_5556_5758,
        created_ms: 0x6162_6364_6566_6768,
        soft_ms: 0x7172_7374_7576_7778,
        hard_ms: 0x8182_8384_8586_8788,
        cost_us: 0x9192_9394,
        raw_len: 0xa1a2_a3a4,
    }
}

fn sample() -> Vec<u8> {
    let holders = [Holder { id: 0xb1, expires_ms: 0xb2 }, Holder { id: 0xb3, expires_ms: 0xb4 }];
    write(&header(Kind::Value), &[("team:7", 0xc1), ("ü", 0xc2)], &holders, b"payload")
}

type Parts = (Header, Vec<(String, u64)>, Vec<Holder>, Vec<u8>);

fn parts(entry: &EntryRef<'_>) -> Parts {
    let tags = entry.tags().map(|(name, stamp)| (name.to_owned(), stamp)).collect();
    (*entry.header(), tags, entry.holders().collect(), entry.payload().to_vec())
}

#[test]
fn the_layout_is_pinned() {
    let hex: String = sample().iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = concat!(
        "4d74",
        "01",
        "01",
        "0300",
        "02",
        "02",               // magic, version, kind, flags, tags, holders
        "1817161514131211", // fence
        "536251bc05023ace", // checksum
        "2827262524232221",
        "3837363534333231", // incarnation, region stamp
        "4847464544434241",
        "5857565554535251", // schema, snapshot
        "6867666564636261",
        "7877767574737271",
        "8887868584838281", // created, soft, hard
        "94939291",
        "a4a3a2a1", // cost, raw length
        "06",
        "7465616d3a37",
        "c100000000000000",
        "02",
        "c3bc",
        "c200000000000000", // tags
        "b100000000000000",
        "b200000000000000",
        "b300000000000000",
        "b400000000000000", // holders
        "7061796c6f6164",   // payload
    );
    assert_eq!(hex, expected);
}

#[test]
fn an_entry_reads_back_what_was_written() {
    let bytes = sample();
    let entry = EntryRef::read(&bytes).unwrap();
    assert_eq!(*entry.header(), header(Kind::Value));
    assert_eq!(entry.tags().collect::<Vec<_>>(), [("team:7", 0xc1), ("ü", 0xc2)]);
    assert_eq!(entry.holders().map(|it| it.id).collect::<Vec<_>>(), [0xb1, 0xb3]);
    assert_eq!(entry.payload(), b"payload");
    assert_eq!(peek_fence(&bytes), Some(Fence(0x1112_1314_1516_1718)));
    assert_eq!(peek_kind(&bytes), Some(Kind::Value));
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
    assert_eq!(EntryRef::read(&bytes[..FIXED - 1]).unwrap_err(), Foreign::TooShort);
    assert_eq!(changed(0, b'X'), Foreign::Magic);
    assert_eq!(changed(2, 9), Foreign::Version);
    assert_eq!(changed(3, 0), Foreign::Version);
    assert_eq!(changed(5, 1), Foreign::Version);
    assert_eq!(changed(6, 255), Foreign::Length);
    assert_eq!(changed(7, 255), Foreign::Length);
    assert_eq!(changed(FENCE_AT, 0), Foreign::Checksum);
    assert_eq!(changed(bytes.len() - 1, 0), Foreign::Checksum);
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
            let tags: Vec<_> = names.iter().map(|name| (name.as_str(), random.u64(..))).collect();
            let holders: Vec<_> = (0..random.usize(..3))
                .map(|id| Holder { id: id as u64, expires_ms: random.u64(..) })
                .collect();
            let payload: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
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

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Value), Just(Kind::Absent), Just(Kind::Lease), Just(Kind::Hold)]
}

proptest! {
    #[test]
    fn every_entry_survives_the_round_trip(
        kind in any_kind(),
        compressed: bool,
        pack: bool,
        words: [u64; 8],
        halves: [u32; 2],
        tags in prop::collection::vec((".{0,60}", any::<u64>()), 0..5),
        holders in prop::collection::vec((any::<u64>(), any::<u64>()), 0..5),
        payload in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        let [fence, incarnation, region_stamp, schema, snapshot, created_ms, soft_ms, hard_ms] = words;
        let header = Header {
            kind, compressed, format: if pack { Format::MessagePack } else { Format::Postcard },
            fence: Fence(fence), incarnation, region_stamp, schema, snapshot, created_ms, soft_ms, hard_ms,
            cost_us: halves[0], raw_len: halves[1],
        };
        let tags: Vec<(String, u64)> = tags;
        let borrowed: Vec<(&str, u64)> = tags.iter().map(|(name, stamp)| (name.as_str(), *stamp)).collect();
        let holders: Vec<Holder> =
            holders.into_iter().map(|(id, expires_ms)| Holder { id, expires_ms }).collect();
        let bytes = write(&header, &borrowed, &holders, &payload);
        let entry = EntryRef::read(&bytes).unwrap();
        prop_assert_eq!(parts(&entry), (header, tags.clone(), holders, payload));
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), looks_right: bool) {
        let mut bytes = bytes;
        if looks_right && bytes.len() > 4 {
            bytes[..4].copy_from_slice(&[b'M', b't', 1, 1]);
        }
        prop_assert!(EntryRef::read(&bytes).is_err());
    }
}
