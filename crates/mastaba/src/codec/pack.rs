//! Compression of payloads, with lengths that nobody has to be trusted for.

use std::borrow::Cow;

use crate::error::BoxError;

/// A payload as it is stored.
#[derive(Debug)]
pub(crate) struct Packed {
    /// What to store.
    pub(crate) bytes: Vec<u8>,
    /// It has to be unpacked, and had this length before.
    pub(crate) compressed: Option<u32>,
}

/// Compresses a payload that is longer than `above`, and keeps the result if it is shorter.
pub(crate) fn pack(payload: Vec<u8>, above: Option<u64>) -> Packed {
    if above.is_some_and(|above| payload.len() as u64 > above)
        && let Some(bytes) = compress(&payload)
    {
        // A payload beyond 4 GiB fits no backend; the wrong length makes it a miss and never a wrong value.
        return Packed { bytes, compressed: Some(u32::try_from(payload.len()).unwrap_or(u32::MAX)) };
    }
    Packed { bytes: payload, compressed: None }
}

/// Gives back what was packed, if it was so many bytes as is said and those are at most `max_raw`.
pub(crate) fn unpack(
    bytes: &[u8],
    compressed: Option<u32>,
    max_raw: usize,
) -> Result<Cow<'_, [u8]>, BoxError> {
    let raw_len = compressed.map_or(Ok(bytes.len()), usize::try_from)?;
    if raw_len > max_raw {
        return Err(format!("a payload of {raw_len} bytes is longer than {max_raw}").into());
    }
    match compressed {
        Some(_) => decompress(bytes, raw_len).map(Cow::Owned),
        None => Ok(Cow::Borrowed(bytes)),
    }
}

#[cfg(feature = "compression")]
fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    let bytes = lz4_flex::block::compress(payload);
    (bytes.len() < payload.len()).then_some(bytes)
}

#[cfg(feature = "compression")]
fn decompress(bytes: &[u8], raw_len: usize) -> Result<Vec<u8>, BoxError> {
    // A byte of LZ4 stands for 255 bytes at most, so that a short entry cannot ask for a large buffer.
    if raw_len > bytes.len().saturating_mul(255) {
        return Err(format!("{} compressed bytes cannot become {raw_len}", bytes.len()).into());
    }
    let mut raw = vec![0; raw_len];
    let written = lz4_flex::block::decompress_into(bytes, &mut raw)?;
    if written != raw_len {
        return Err(format!("a payload of {raw_len} bytes became {written}").into());
    }
    Ok(raw)
}

#[cfg(not(feature = "compression"))]
fn compress(_: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(not(feature = "compression"))]
fn decompress(_: &[u8], _: usize) -> Result<Vec<u8>, BoxError> {
    Err("the payload is compressed, and the feature `compression` is off".into())
}
