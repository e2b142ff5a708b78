//! The fields of an entry, read where they stand.

use super::{
    AGE_BITS, COMPRESSED, COST_BITS, FENCE_AT, FLAGS, FOR_EVER, Fence, Foreign, Format, HOLD, Header,
    INCARNATION_AT, KIND_AT, Kind, LAYOUT, LAYOUT_BITS, LEASE_LEN, MAGIC, MESSAGE_PACK, OVERHEAD, PLAIN,
    SIX_BYTES, SUM, TAGGED,
};

/// The fields of an entry, each of them read when it is asked for. A field that the kind does not have is any number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    pub(super) kind: Kind,
    pub(super) bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Whether the flags and the length are such as an entry of its kind may have.
    #[inline]
    pub(super) fn check(bytes: &'a [u8]) -> Result<Self, Foreign> {
        let kind = kind_of(bytes)?;
        let (least, known) = match kind {
            Kind::Lease => (LEASE_LEN, 0),
            Kind::Hold => (HOLD + SUM, 0),
            Kind::Value | Kind::Absent => (OVERHEAD, COMPRESSED | MESSAGE_PACK | TAGGED),
        };
        if bytes[KIND_AT] & FLAGS & !known != 0 {
            return Err(Foreign::Version);
        }
        if bytes.len() < least {
            return Err(Foreign::TooShort);
        }
        Ok(Self { kind, bytes })
    }

    pub(super) fn header(self) -> Header {
        let mut header = Header::new(self.kind, self.fence(), word(self.bytes, INCARNATION_AT) & SIX_BYTES);
        match self.kind {
            Kind::Lease => {}
            Kind::Hold => header.kept_until_ms = word(self.bytes, 17),
            Kind::Value | Kind::Absent => {
                header.compressed = self.compressed();
                header.format = self.format();
                header.stamps = self.stamps();
                header.schema = self.schema();
                header.created_ms = self.created_ms();
                header.soft_ms = self.soft_ms();
                header.hard_ms = self.hard_ms();
                header.cost_us = self.cost_us();
            }
        }
        header
    }

    #[inline]
    pub(super) fn flags(self) -> u8 {
        self.bytes.get(KIND_AT).map_or(0, |byte| byte & FLAGS)
    }

    #[inline]
    pub(crate) fn kind(self) -> Kind {
        self.kind
    }

    #[inline]
    pub(crate) fn fence(self) -> Fence {
        Fence(word(self.bytes, FENCE_AT))
    }

    /// As [`Header::is_of`].
    #[inline]
    pub(crate) fn is_of(self, incarnation: u64) -> bool {
        (word(self.bytes, INCARNATION_AT) ^ incarnation) & SIX_BYTES == 0
    }

    #[inline]
    pub(crate) fn compressed(self) -> Option<u32> {
        (self.flags() & COMPRESSED != 0).then(|| half_word(self.bytes, PLAIN))
    }

    #[inline]
    pub(crate) fn format(self) -> Format {
        if self.flags() & MESSAGE_PACK == 0 { Format::Postcard } else { Format::MessagePack }
    }

    #[inline]
    pub(crate) fn stamps(self) -> u64 {
        word(self.bytes, 17)
    }

    #[inline]
    pub(crate) fn schema(self) -> u64 {
        word(self.bytes, 25) & SIX_BYTES
    }

    #[inline]
    pub(crate) fn created_ms(self) -> u64 {
        word(self.bytes, 31) & SIX_BYTES
    }

    #[inline]
    pub(crate) fn soft_ms(self) -> u64 {
        age_of(half_word(self.bytes, 37))
    }

    #[inline]
    pub(crate) fn hard_ms(self) -> u64 {
        age_of(half_word(self.bytes, 40))
    }

    #[inline]
    pub(crate) fn cost_us(self) -> u32 {
        let code = self.bytes.get(43).copied().unwrap_or_default();
        u32::try_from(lengthened(code.into(), COST_BITS)).unwrap_or(u32::MAX)
    }
}

/// The kind of what looks like an entry of any length.
#[inline]
pub(super) fn kind_of(bytes: &[u8]) -> Result<Kind, Foreign> {
    let start = bytes.get(..LEASE_LEN).ok_or(Foreign::TooShort)?;
    if start[..KIND_AT] != MAGIC {
        return Err(Foreign::Magic);
    }
    if start[KIND_AT] & LAYOUT_BITS != LAYOUT {
        return Err(Foreign::Version);
    }
    Ok(Kind::from_bits(start[KIND_AT] >> 4))
}

/// What [`shortened`] left of a number.
#[inline]
pub(super) fn lengthened(code: u64, bits: u32) -> u64 {
    let first = 1 << bits;
    let shift = (code >> bits).saturating_sub(1);
    if code < first { code } else { (first | (code & (first - 1))) << shift }
}

#[inline]
pub(super) fn age_of(code: u32) -> u64 {
    let code = u64::from(code) & FOR_EVER;
    if code == FOR_EVER { u64::MAX } else { lengthened(code, AGE_BITS) }
}

/// Missing bytes read as zero: callers have checked the length.
#[inline]
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|it| it.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[inline]
fn half_word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_le_bytes)
}
