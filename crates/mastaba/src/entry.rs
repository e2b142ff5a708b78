//! The entry: one binary header before every payload, the same on every backend.
//!
//! All numbers are little-endian. The fixed part is [`FIXED`] bytes long:
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 2 | magic, `Mt` |
//! | 2 | 1 | version of this layout |
//! | 3 | 1 | [`Kind`] |
//! | 4 | 2 | flags: bit 0 compressed, bit 1 the payload is MessagePack in readable form (else postcard) |
//! | 6 | 1 | number of tags |
//! | 7 | 1 | number of holders |
//! | 8 | 8 | [`Fence`], always at [`FENCE_AT`], so that a backend can compare it without parsing |
//! | 16 | 8 | checksum |
//! | 24 | 8 | incarnation of the store (`R11`) |
//! | 32 | 8 | stamp of the region's generation (`R12`) |
//! | 40 | 8 | fingerprint of the schema |
//! | 48 | 8 | snapshot position of the database |
//! | 56 | 8 | created, milliseconds since the Unix epoch |
//! | 64 | 8 | soft age, milliseconds after `created` |
//! | 72 | 8 | hard age, milliseconds after `created` |
//! | 80 | 4 | cost of the load, microseconds |
//! | 84 | 4 | length of the payload before compression |
//!
//! Then come the tags (a length byte, the name, an eight-byte stamp), the holders (eight bytes of id, eight
//! bytes of expiry), and the payload up to the end.
//!
//! The checksum is the frozen portable *V3* function of rapidhash 4.5 (`rapidhash::v3::rapidhash_v3_seeded`,
//! seed [`CHECKSUM_SEED`]), of the first 16 bytes followed by the V3 hash of everything after the checksum.
//! Codecs are no protection: without a checksum every one of them decodes some damaged entries into wrong
//! values.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

#[cfg(test)]
mod tests;

/// Where the fence stands in every entry: eight bytes, little-endian.
pub const FENCE_AT: usize = 8;
/// The length of the fixed part.
pub const FIXED: usize = 88;
/// The most tags of one entry.
pub const MAX_TAGS: usize = 255;
/// The longest name of a tag, in bytes.
pub const MAX_TAG_NAME: usize = 255;
/// The most holders of one entry.
pub const MAX_HOLDERS: usize = 255;
/// The seed of the checksum.
pub const CHECKSUM_SEED: u64 = 0x6d61_7374_6162_6131;

const MAGIC: [u8; 2] = *b"Mt";
const VERSION: u8 = 1;
const COMPRESSED: u16 = 1;
const MESSAGE_PACK: u16 = 1 << 1;
const CHECKSUM_AT: usize = 16;
const AFTER_CHECKSUM: usize = 24;
const HOLDER: usize = 16;
static SECRETS: RapidSecrets = RapidSecrets::seed(CHECKSUM_SEED);

/// What a fill must meet to be stored (`R1`).
///
/// Random, and made by the client: a counter at the server would restart and repeat (`R2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence(pub u64);

impl Fence {
    /// A new one; never zero.
    pub fn random() -> Self {
        Self(random())
    }
}

/// Random, not zero: for fences, incarnations, holders, stamps.
pub(crate) fn random() -> u64 {
    // A counter under SipHash with keys that the standard library takes from the operating system. A
    // generator that is seeded from the time would repeat in processes that start together.
    thread_local! {
        static SOURCE: (RandomState, Cell<u64>) = (RandomState::new(), const { Cell::new(0) });
    }
    SOURCE.with(|(state, count)| {
        loop {
            count.set(count.get().wrapping_add(1));
            let number = state.hash_one(count.get());
            if number != 0 {
                return number;
            }
        }
    })
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A value: the payload is its encoding.
    Value,
    /// A known absence; no payload.
    Absent,
    /// Somebody has the right to fill; no payload.
    Lease,
    /// A write is under way, nobody can fill. The payload is the whole entry that was kept, or empty.
    Hold,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Value),
            2 => Some(Self::Absent),
            3 => Some(Self::Lease),
            4 => Some(Self::Hold),
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Value => 1,
            Self::Absent => 2,
            Self::Lease => 3,
            Self::Hold => 4,
        }
    }
}

/// How a payload is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    #[default]
    /// postcard, guarded by the schema fingerprint.
    Postcard,
    /// MessagePack with named fields, in the form that types have for readable formats.
    MessagePack,
}

/// The fixed part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the entry is.
    pub kind: Kind,
    /// The payload is compressed.
    pub compressed: bool,
    /// How the payload is encoded.
    pub format: Format,
    /// What a fill must meet.
    pub fence: Fence,
    /// The store's incarnation when the lease was taken (`R11`).
    pub incarnation: u64,
    /// The region's generation when the lease was taken (`R12`).
    pub region_stamp: u64,
    /// Fingerprint of the schema of the payload.
    pub schema: u64,
    /// Position of the database that the load has seen, or 0.
    pub snapshot: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// How long after `created_ms` it becomes stale, in milliseconds.
    pub soft_ms: u64,
    /// How long after `created_ms` it is over, in milliseconds. In a hold: the deadline of what it keeps.
    pub hard_ms: u64,
    /// What the load cost, in microseconds.
    pub cost_us: u32,
    /// Length of the payload before compression.
    pub raw_len: u32,
}

impl Header {
    /// A header with nothing but these; everything else zero, postcard, not compressed.
    pub fn new(kind: Kind, fence: Fence, incarnation: u64) -> Self {
        Self {
            kind,
            compressed: false,
            format: Format::Postcard,
            fence,
            incarnation,
            region_stamp: 0,
            schema: 0,
            snapshot: 0,
            created_ms: 0,
            soft_ms: 0,
            hard_ms: 0,
            cost_us: 0,
            raw_len: 0,
        }
    }
}

/// One of those who hold a key (`R9`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who: random, one per write.
    pub id: u64,
    /// Until when, in milliseconds since the Unix epoch. Then the outcome of its write is unknown (`R8`).
    pub expires_ms: u64,
}

/// Why bytes are not an entry that this program can use. Such bytes are a miss, never a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Fewer bytes than the fixed part.
    TooShort,
    /// Not made by Mastaba.
    Magic,
    /// Of another layout, or with kinds or flags that this program does not know.
    Version,
    /// Tags or holders do not fit into the bytes that are there.
    Length,
    /// Damaged.
    Checksum,
}

impl Foreign {
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::TooShort => "the record is shorter than the header of an entry",
            Self::Magic => "the record was not written by Mastaba",
            Self::Version => "the entry has a layout that this version does not know",
            Self::Length => "the tags and holders of the entry do not fit into it",
            Self::Checksum => "the checksum of the entry does not match: it is damaged",
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl StdError for Foreign {}

/// Makes the record of a lease: nothing but its fence and the incarnation, so that whoever knows both knows every byte
/// of it.
///
/// ```
/// use mastaba::entry::{self, Fence, Kind};
///
/// assert_eq!(entry::lease(Fence(7), 9), entry::lease(Fence(7), 9));
/// assert_eq!(entry::peek_kind(&entry::lease(Fence(7), 9)), Some(Kind::Lease));
/// ```
pub fn lease(fence: Fence, incarnation: u64) -> Vec<u8> {
    write(&Header::new(Kind::Lease, fence, incarnation), &[], &[], &[])
}

/// Builds an entry, in one allocation.
///
/// # Panics
///
/// With more than [`MAX_TAGS`] tags, more than [`MAX_HOLDERS`] holders, or a tag's name longer than
/// [`MAX_TAG_NAME`]: to leave one out would lose invalidations, so callers have to refuse them earlier.
pub fn write(header: &Header, tags: &[(&str, u64)], holders: &[Holder], payload: &[u8]) -> Vec<u8> {
    assert!(tags.len() <= MAX_TAGS, "an entry has at most {MAX_TAGS} tags");
    assert!(holders.len() <= MAX_HOLDERS, "an entry has at most {MAX_HOLDERS} holders");
    let named: usize = tags.iter().map(|(name, _)| name.len() + 9).sum();
    let mut out = Vec::with_capacity(FIXED + named + holders.len() * HOLDER + payload.len());
    let mut flags = 0;
    if header.compressed {
        flags |= COMPRESSED;
    }
    if header.format == Format::MessagePack {
        flags |= MESSAGE_PACK;
    }
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, header.kind.byte()]);
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&[count(tags.len()), count(holders.len())]);
    for word in [
        header.fence.0,
        0, // the checksum, below
        header.incarnation,
        header.region_stamp,
        header.schema,
        header.snapshot,
        header.created_ms,
        header.soft_ms,
        header.hard_ms,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&header.cost_us.to_le_bytes());
    out.extend_from_slice(&header.raw_len.to_le_bytes());
    for (name, stamp) in tags {
        assert!(name.len() <= MAX_TAG_NAME, "the name of a tag has at most {MAX_TAG_NAME} bytes");
        out.push(count(name.len()));
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&stamp.to_le_bytes());
    }
    for holder in holders {
        out.extend_from_slice(&holder.id.to_le_bytes());
        out.extend_from_slice(&holder.expires_ms.to_le_bytes());
    }
    out.extend_from_slice(payload);
    let sum = checksum(&out);
    out[CHECKSUM_AT..AFTER_CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    out
}

fn count(n: usize) -> u8 {
    u8::try_from(n).expect("asserted by the caller")
}

/// Of bytes that are at least as long as the fixed part.
fn checksum(bytes: &[u8]) -> u64 {
    let mut head = [0; AFTER_CHECKSUM];
    head[..CHECKSUM_AT].copy_from_slice(&bytes[..CHECKSUM_AT]);
    let rest = rapidhash_v3_seeded(&bytes[AFTER_CHECKSUM..], &SECRETS);
    head[CHECKSUM_AT..].copy_from_slice(&rest.to_le_bytes());
    rapidhash_v3_seeded(&head, &SECRETS)
}

/// What binds a record to its key, for a store whose keys may be damaged as well.
#[cfg(feature = "embedded")]
pub(crate) fn key_sum(key: &[u8], more: u64) -> u64 {
    let mut bound = [0; 16];
    bound[..8].copy_from_slice(&rapidhash_v3_seeded(key, &SECRETS).to_le_bytes());
    bound[8..].copy_from_slice(&more.to_le_bytes());
    rapidhash_v3_seeded(&bound, &SECRETS)
}

/// An entry, read in place.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    header: Header,
    tags: &'a [u8],
    holders: &'a [u8],
    payload: &'a [u8],
}

impl<'a> EntryRef<'a> {
    /// Reads bytes from anywhere: checks magic, layout, lengths and checksum; copies nothing, never panics.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Foreign> {
        let header = peek(bytes)?;
        let (fixed, rest) = bytes.split_at_checked(FIXED).ok_or(Foreign::TooShort)?;
        let mut tags_len = 0;
        for _ in 0..fixed[6] {
            let name = usize::from(*rest.get(tags_len).ok_or(Foreign::Length)?);
            let text = rest.get(tags_len + 1..tags_len + 1 + name).ok_or(Foreign::Length)?;
            if std::str::from_utf8(text).is_err() {
                return Err(Foreign::Length);
            }
            tags_len += 1 + name + 8;
        }
        let (tags, rest) = rest.split_at_checked(tags_len).ok_or(Foreign::Length)?;
        let (holders, payload) =
            rest.split_at_checked(usize::from(fixed[7]) * HOLDER).ok_or(Foreign::Length)?;
        if checksum(bytes) != word(bytes, CHECKSUM_AT) {
            return Err(Foreign::Checksum);
        }
        Ok(Self { header, tags, holders, payload })
    }

    /// The fixed part.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The tags with the stamps that were read before the load, in the order in which they were written.
    pub fn tags(&self) -> impl Iterator<Item = (&'a str, u64)> + use<'a> {
        let mut left = self.tags;
        std::iter::from_fn(move || {
            let (&len, rest) = left.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(len))?;
            let (stamp, rest) = rest.split_at_checked(8)?;
            left = rest;
            Some((std::str::from_utf8(name).ok()?, word(stamp, 0)))
        })
    }

    /// Who holds the key.
    pub fn holders(&self) -> impl Iterator<Item = Holder> + use<'a> {
        self.holders.chunks_exact(HOLDER).map(|it| Holder { id: word(it, 0), expires_ms: word(it, 8) })
    }

    /// Everything after the header.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The same entry under another fence.
    pub fn with_fence(&self, fence: Fence) -> Vec<u8> {
        let tags: Vec<_> = self.tags().collect();
        let holders: Vec<_> = self.holders().collect();
        write(&Header { fence, ..self.header }, &tags, &holders, self.payload)
    }
}

/// The fixed part of what looks like an entry, without its checksum: enough for comparing a fence, which
/// nobody guesses; not enough for using a payload.
pub fn peek(bytes: &[u8]) -> Result<Header, Foreign> {
    let fixed = bytes.get(..FIXED).ok_or(Foreign::TooShort)?;
    if fixed[..2] != MAGIC {
        return Err(Foreign::Magic);
    }
    let flags = u16::from_le_bytes([fixed[4], fixed[5]]);
    if fixed[2] != VERSION || flags & !(COMPRESSED | MESSAGE_PACK) != 0 {
        return Err(Foreign::Version);
    }
    Ok(Header {
        kind: Kind::from_byte(fixed[3]).ok_or(Foreign::Version)?,
        compressed: flags & COMPRESSED != 0,
        format: if flags & MESSAGE_PACK == 0 { Format::Postcard } else { Format::MessagePack },
        fence: Fence(word(fixed, FENCE_AT)),
        incarnation: word(fixed, 24),
        region_stamp: word(fixed, 32),
        schema: word(fixed, 40),
        snapshot: word(fixed, 48),
        created_ms: word(fixed, 56),
        soft_ms: word(fixed, 64),
        hard_ms: word(fixed, 72),
        cost_us: half_word(fixed, 80),
        raw_len: half_word(fixed, 84),
    })
}

/// The fence of what looks like an entry, without its checksum.
pub fn peek_fence(bytes: &[u8]) -> Option<Fence> {
    peek(bytes).ok().map(|header| header.fence)
}

/// The kind of what looks like an entry, without its checksum.
pub fn peek_kind(bytes: &[u8]) -> Option<Kind> {
    peek(bytes).ok().map(|header| header.kind)
}

/// Missing bytes read as zero: callers have checked the length.
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|it| it.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn half_word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_le_bytes)
}
