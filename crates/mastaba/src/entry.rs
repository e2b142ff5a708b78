//! The entry: one binary header before every payload and a checksum behind it, the same on every backend.
//!
//! All numbers are little-endian. Every entry begins with the same 17 bytes, and a lease has no others but its checksum:
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 2 | magic, `Mt` |
//! | 2 | 1 | bits 6 and 7: `01`, this layout, the second one; bits 4 and 5: [`Kind`]; bits 0 to 3: flags. So it is a letter: `@` to `O` a value, `P` to `_` an absence, a backtick a lease, `p` a hold |
//! | 3 | 8 | [`Fence`], always at [`FENCE_AT`], so that a backend can compare it without parsing |
//! | 11 | 6 | incarnation of the store (`R11`), its lower 48 bits, always at [`INCARNATION_AT`] |
//!
//! A value or an absence goes on with
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 17 | 8 | the stamps that it stands under, in one number: the region's generation and the fixed tags (`R12`) |
//! | 25 | 6 | fingerprint of the schema, its lower 48 bits |
//! | 31 | 6 | created, milliseconds since the Unix epoch |
//! | 37 | 3 | soft age, milliseconds after `created`, rounded down |
//! | 40 | 3 | hard age, milliseconds after `created`, rounded down |
//! | 43 | 1 | cost of the load, microseconds, rounded down |
//! | 44 | 4 | flag 0, compressed: the length of the payload before compression |
//! | | | flag 2, tags of its own: a byte for their number, then of each a length byte, the name, an eight-byte stamp |
//! | | | the payload: postcard, with flag 1 MessagePack in readable form |
//!
//! and a hold, which has no flags, with
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 17 | 8 | when that is over which it keeps, milliseconds since the Unix epoch |
//! | 25 | 1 | number of holders, then of each eight bytes of id and eight bytes of expiry |
//! | | | the payload: the whole entry that is kept, or nothing |
//!
//! The last four bytes of each are its checksum: the lower half of the frozen portable *V3* function of rapidhash 4.5
//! (`rapidhash::v3::rapidhash_v3_seeded`, seed [`CHECKSUM_SEED`]) of everything before them. Codecs are no protection:
//! without a checksum every one of them decodes some damaged entries into wrong values. It is there for accidents, and 32
//! bits let one damaged record in four billion pass, where damage is rare and has to hit the payload alone: what hits
//! the incarnation, the stamps or the schema makes a miss of it anyway.
//!
//! An age, 24 bits, is exact below 2^20 milliseconds (17 minutes); beyond, it has 19 bits after the first one, so it is
//! short by less than a 500,000th. All ones are for ever. The cost, 8 bits, has 3 bits after the first one.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

pub(crate) use self::fields::Fields;
use self::fields::{kind_of, word};

mod fields;
#[cfg(test)]
mod tests;

/// Where the fence stands in every entry: eight bytes, little-endian.
pub const FENCE_AT: usize = 3;
/// Where the incarnation stands in every entry: six bytes, little-endian.
pub const INCARNATION_AT: usize = 11;
/// The length of a lease.
pub const LEASE_LEN: usize = COMMON + SUM;
/// What an entry with a value has besides its payload, where that is not compressed and has no tags of its own.
pub const OVERHEAD: usize = PLAIN + SUM;
/// The most tags of its own of one entry.
pub const MAX_TAGS: usize = 255;
/// The longest name of a tag, in bytes.
pub const MAX_TAG_NAME: usize = 255;
/// The most holders of one entry.
pub const MAX_HOLDERS: usize = 255;
/// The seed of the checksum.
pub const CHECKSUM_SEED: u64 = 0x6d61_7374_6162_6131;

const MAGIC: [u8; 2] = *b"Mt";
const KIND_AT: usize = 2;
/// The layout, where the kind and the flags are zero. The first layout had its number, 1, in this byte.
const LAYOUT: u8 = 0b0100_0000;
const LAYOUT_BITS: u8 = 0b1100_0000;
const COMPRESSED: u8 = 1;
const MESSAGE_PACK: u8 = 1 << 1;
const TAGGED: u8 = 1 << 2;
const FLAGS: u8 = 0b1111;
/// What every kind begins with.
const COMMON: usize = 17;
/// What stands before a value that is not compressed and has no tags of its own.
const PLAIN: usize = 44;
/// What stands before the holders of a hold.
const HOLD: usize = 26;
const HOLDER: usize = 16;
const SUM: usize = 4;
const SIX_BYTES: u64 = (1 << 48) - 1;
/// How many bits of an age, and of a cost, are kept after the first one.
const AGE_BITS: u32 = 19;
const COST_BITS: u32 = 3;
/// The age for ever; the longest other one is one less, which is 35,000 years.
const FOR_EVER: u64 = 0x00ff_ffff;
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
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Value,
            1 => Self::Absent,
            2 => Self::Lease,
            _ => Self::Hold,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Value => 0,
            Self::Absent => 1,
            Self::Lease => 2,
            Self::Hold => 3,
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

/// What an entry says besides its tags, its holders and its payload.
///
/// A lease has a fence and an incarnation and nothing else; a hold has [`kept_until_ms`](Header::kept_until_ms) as well; a
/// value and an absence have everything but that. What a kind does not have is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the entry is.
    pub kind: Kind,
    /// The payload is compressed, from so many bytes.
    pub compressed: Option<u32>,
    /// How the payload is encoded.
    pub format: Format,
    /// What a fill must meet.
    pub fence: Fence,
    /// The store's incarnation when the lease was taken (`R11`). To be compared by [`is_of`](Header::is_of): 48 bits of it
    /// are written.
    pub incarnation: u64,
    /// The region's generation and its fixed tags when the lease was taken, in one number (`R12`).
    pub stamps: u64,
    /// Fingerprint of the schema of the payload; 48 bits of it are written.
    pub schema: u64,
    /// When it was made, in milliseconds since the Unix epoch; 48 bits of it are written.
    pub created_ms: u64,
    /// How long after `created_ms` it becomes stale, in milliseconds; rounded down when it is written.
    pub soft_ms: u64,
    /// How long after `created_ms` it is over, in milliseconds; rounded down when it is written.
    pub hard_ms: u64,
    /// What the load cost, in microseconds; rounded down when it is written, by up to an eighth.
    pub cost_us: u32,
    /// In a hold: when that is over which it keeps, in milliseconds since the Unix epoch.
    pub kept_until_ms: u64,
}

impl Header {
    /// A header with nothing but these; everything else zero, postcard, not compressed.
    pub fn new(kind: Kind, fence: Fence, incarnation: u64) -> Self {
        Self {
            kind,
            compressed: None,
            format: Format::Postcard,
            fence,
            incarnation,
            stamps: 0,
            schema: 0,
            created_ms: 0,
            soft_ms: 0,
            hard_ms: 0,
            cost_us: 0,
            kept_until_ms: 0,
        }
    }

    /// Whether it is of this incarnation of the store (`R11`), as far as entries say which that is.
    pub fn is_of(&self, incarnation: u64) -> bool {
        incarnation_bytes(self.incarnation) == incarnation_bytes(incarnation)
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
    /// Fewer bytes than an entry of its kind has.
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

/// An incarnation as it stands in every entry at [`INCARNATION_AT`]: 48 bits of it.
pub fn incarnation_bytes(incarnation: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = incarnation.to_le_bytes();
    [a, b, c, d, e, f]
}

/// Builds an entry, in one allocation.
///
/// # Panics
///
/// With more than [`MAX_TAGS`] tags, more than [`MAX_HOLDERS`] holders, or a tag's name longer than
/// [`MAX_TAG_NAME`]: to leave one out would lose invalidations, so callers have to refuse them earlier. And with what
/// the kind has no place for: tags of a lease or a hold, holders of anything but a hold, a payload of a lease.
pub fn write(header: &Header, tags: &[(&str, u64)], holders: &[Holder], payload: &[u8]) -> Vec<u8> {
    assert!(tags.len() <= MAX_TAGS, "an entry has at most {MAX_TAGS} tags");
    assert!(holders.len() <= MAX_HOLDERS, "an entry has at most {MAX_HOLDERS} holders");
    let valued = matches!(header.kind, Kind::Value | Kind::Absent);
    assert!(tags.is_empty() || valued, "only a value or an absence has tags");
    assert!(holders.is_empty() || header.kind == Kind::Hold, "only a hold has holders");
    assert!(payload.is_empty() || header.kind != Kind::Lease, "a lease has no payload");
    let mut flags = 0;
    if valued {
        flags |= if header.compressed.is_some() { COMPRESSED } else { 0 };
        flags |= if header.format == Format::MessagePack { MESSAGE_PACK } else { 0 };
        flags |= if tags.is_empty() { 0 } else { TAGGED };
    }
    let mut start = [0; PLAIN];
    start[..KIND_AT].copy_from_slice(&MAGIC);
    start[KIND_AT] = LAYOUT | (header.kind.bits() << 4) | flags;
    start[FENCE_AT..INCARNATION_AT].copy_from_slice(&header.fence.0.to_le_bytes());
    start[INCARNATION_AT..COMMON].copy_from_slice(&incarnation_bytes(header.incarnation));
    let start = match header.kind {
        Kind::Lease => &start[..COMMON],
        Kind::Hold => {
            start[17..25].copy_from_slice(&header.kept_until_ms.to_le_bytes());
            start[25] = count(holders.len());
            &start[..HOLD]
        }
        Kind::Value | Kind::Absent => {
            start[17..25].copy_from_slice(&header.stamps.to_le_bytes());
            start[25..31].copy_from_slice(&header.schema.to_le_bytes()[..6]);
            start[31..37].copy_from_slice(&header.created_ms.min(SIX_BYTES).to_le_bytes()[..6]);
            start[37..40].copy_from_slice(&age_code(header.soft_ms).to_le_bytes()[..3]);
            start[40..43].copy_from_slice(&age_code(header.hard_ms).to_le_bytes()[..3]);
            start[43] = shortened(header.cost_us.into(), COST_BITS).to_le_bytes()[0];
            &start[..]
        }
    };
    let raw_len = if flags & COMPRESSED == 0 { 0 } else { 4 };
    let named: usize = tags.iter().map(|(name, _)| name.len() + 9).sum();
    let named = if tags.is_empty() { 0 } else { 1 + named };
    let whole = start.len() + raw_len + named + holders.len() * HOLDER + payload.len() + SUM;
    let mut out = Vec::with_capacity(whole);
    out.extend_from_slice(start);
    if let Some(raw_len) = header.compressed.filter(|_| valued) {
        out.extend_from_slice(&raw_len.to_le_bytes());
    }
    if !tags.is_empty() {
        out.push(count(tags.len()));
    }
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
    out.extend_from_slice(&sum);
    out
}

fn count(n: usize) -> u8 {
    u8::try_from(n).expect("asserted by the caller")
}

/// Of everything that stands before it.
fn checksum(bytes: &[u8]) -> [u8; SUM] {
    let [a, b, c, d, ..] = rapidhash_v3_seeded(bytes, &SECRETS).to_le_bytes();
    [a, b, c, d]
}

/// A number with its first bit and `bits` after it, the others cut off. Of two numbers, the larger one does not get the
/// smaller code.
fn shortened(number: u64, bits: u32) -> u64 {
    let shift = number.checked_ilog2().unwrap_or(0).saturating_sub(bits);
    (u64::from(shift) << bits) + (number >> shift)
}

fn age_code(ms: u64) -> u64 {
    if ms == u64::MAX { FOR_EVER } else { shortened(ms, AGE_BITS).min(FOR_EVER - 1) }
}

/// A key spread over all numbers: the same in every process and in every version.
pub(crate) fn spread(key: &[u8]) -> u64 {
    rapidhash_v3_seeded(key, &SECRETS)
}

/// What binds a record to its key, for a store whose keys may be damaged as well.
#[cfg(feature = "embedded")]
pub(crate) fn key_sum(key: &[u8], more: u64) -> u64 {
    let mut bound = [0; 16];
    bound[..8].copy_from_slice(&spread(key).to_le_bytes());
    bound[8..].copy_from_slice(&more.to_le_bytes());
    rapidhash_v3_seeded(&bound, &SECRETS)
}

/// An entry, read in place.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    fields: Fields<'a>,
    /// The tags of a value, or the holders of a hold, without their number.
    named: &'a [u8],
    payload: &'a [u8],
}

impl<'a> EntryRef<'a> {
    /// Reads bytes from anywhere: checks magic, layout, lengths and checksum; copies nothing, never panics.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Foreign> {
        let fields = Fields::check(bytes)?;
        let (body, sum) = bytes.split_last_chunk::<SUM>().ok_or(Foreign::TooShort)?;
        let mut named: &[u8] = &[];
        let payload = match fields.kind {
            // by its length nothing else: whoever knows its fence and its incarnation knows every byte of it
            Kind::Lease if body.len() != COMMON => return Err(Foreign::Length),
            Kind::Lease => &[],
            Kind::Hold => {
                let rest = body.get(HOLD..).ok_or(Foreign::TooShort)?;
                let payload;
                (named, payload) =
                    rest.split_at_checked(usize::from(body[HOLD - 1]) * HOLDER).ok_or(Foreign::Length)?;
                payload
            }
            Kind::Value | Kind::Absent => {
                let before = if fields.flags() & COMPRESSED == 0 { PLAIN } else { PLAIN + 4 };
                let mut payload = body.get(before..).ok_or(Foreign::TooShort)?;
                if fields.flags() & TAGGED != 0 {
                    (named, payload) = split_tags(payload).ok_or(Foreign::Length)?;
                }
                payload
            }
        };
        if checksum(body) != *sum {
            return Err(Foreign::Checksum);
        }
        Ok(Self { fields, named, payload })
    }

    /// What it says besides the rest.
    pub fn header(&self) -> Header {
        self.fields.header()
    }

    /// The same for who needs a few of it: a header is longer than many values.
    pub(crate) fn fields(&self) -> Fields<'a> {
        self.fields
    }

    /// The tags of its own with the stamps that were read before the load, in the order in which they were written.
    pub fn tags(&self) -> impl Iterator<Item = (&'a str, u64)> + use<'a> {
        let mut left = if self.fields.kind == Kind::Hold { &[] } else { self.named };
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
        let holders = if self.fields.kind == Kind::Hold { self.named } else { &[] };
        holders.chunks_exact(HOLDER).map(|it| Holder { id: word(it, 0), expires_ms: word(it, 8) })
    }

    /// The value, or what a hold keeps.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The same entry under another fence.
    pub fn with_fence(&self, fence: Fence) -> Vec<u8> {
        let mut out = self.fields.bytes.to_vec();
        let end = out.len() - SUM;
        out[FENCE_AT..INCARNATION_AT].copy_from_slice(&fence.0.to_le_bytes());
        let sum = checksum(&out[..end]);
        out[end..].copy_from_slice(&sum);
        out
    }
}

/// The tags, without their number, and what comes after them.
fn split_tags(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first()?;
    let mut len = 0;
    for _ in 0..*count {
        let name = usize::from(*rest.get(len)?);
        let text = rest.get(len + 1..len + 1 + name)?;
        std::str::from_utf8(text).ok()?;
        len += 1 + name + 8;
    }
    rest.split_at_checked(len)
}

/// What looks like an entry says, without a look at its checksum: enough for comparing a fence, which nobody guesses;
/// not enough for using a payload.
pub fn peek(bytes: &[u8]) -> Result<Header, Foreign> {
    Ok(Fields::check(bytes)?.header())
}

/// The fence of what looks like an entry, without its checksum.
pub fn peek_fence(bytes: &[u8]) -> Option<Fence> {
    kind_of(bytes).ok().map(|_| Fence(word(bytes, FENCE_AT)))
}

/// The kind of what looks like an entry, without its checksum.
pub fn peek_kind(bytes: &[u8]) -> Option<Kind> {
    kind_of(bytes).ok()
}
