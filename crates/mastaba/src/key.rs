//! Keys: what a source is asked by, and the bytes under which a backend knows it.
//!
//! The bytes are readable, `shop:objects:account.by_id:(1,"bob")`, and two different keys never share them.
//! They hold no space, no control character and nothing but ASCII, so every backend takes them as they are.

use std::cell::Cell;
use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::error::Error;
use crate::guarded::guard;

mod text;

/// What a source is asked by: an id, a tuple of ids, a struct, an enum.
///
/// Everything that fits is a key; there is nothing to implement:
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
/// struct ByOwner {
///     owner: i64,
///     name: String,
/// }
/// ```
///
/// A key may be nested 64 steps deep; a deeper one is an error of its read.
///
/// Two keys that are equal must serialize to the same, and two that differ must not; derived
/// implementations do both.
pub trait Key: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T> Key for T where T: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static {}

/// Rewrites whole keys for one region.
pub(crate) type Mangler = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A percent sign and a SHA-256 in hexadecimal.
const HASHED: usize = 1 + 64;

/// Where the entries of one source live, and the stamps that they depend on.
#[derive(Clone)]
pub(crate) struct KeySpace {
    source: Box<str>,
    /// `{namespace}:{region}:{source}:`
    entries: Box<str>,
    /// `{namespace}:{region}:`
    stamps: Box<str>,
    max_key: usize,
    mangler: Option<Mangler>,
}

impl KeySpace {
    /// The keys of one source in a backend that takes at most `max_key` bytes per key.
    pub(crate) fn new(
        namespace: &str,
        region: &str,
        source: &str,
        max_key: usize,
        mangler: Option<Mangler>,
    ) -> Result<Self, String> {
        check_name("namespace", namespace)?;
        check_name("region", region)?;
        check_name("source", source)?;
        Ok(Self {
            source: source.into(),
            entries: format!("{namespace}:{region}:{source}:").into(),
            stamps: format!("{namespace}:{region}:").into(),
            max_key,
            mangler,
        })
    }

    /// Whether the backend's limit leaves room for a hashed key of every sort.
    pub(crate) fn fits(&self) -> Result<(), String> {
        let needed = self.entries.len().max(self.stamps.len() + "@generation".len()) + HASHED;
        if needed <= self.max_key {
            return Ok(());
        }
        Err(format!(
            "the keys of source `{}` need {needed} bytes but its backend takes {}: \
             give shorter names to the namespace, the region or the source",
            self.source, self.max_key
        ))
    }

    /// The bytes of every key, in order. They share one buffer.
    ///
    /// # Errors
    /// If one of them cannot be written, or panics while it is, or the region's mangler does.
    pub(crate) fn encode_all<'k, K: Key>(
        &self,
        keys: impl Iterator<Item = &'k K>,
    ) -> Result<Vec<Bytes>, Error> {
        let mangling = Cell::new(false);
        guard(|| self.encode(keys, &mangling)).unwrap_or_else(|why| {
            let what = if mangling.get() { "the mangler of its region" } else { "`Serialize` of a key" };
            Err(Error::panicked(&self.source, what, &why))
        })
    }

    fn encode<'k, K: Key>(
        &self,
        keys: impl Iterator<Item = &'k K>,
        mangling: &Cell<bool>,
    ) -> Result<Vec<Bytes>, Error> {
        let (least, most) = keys.size_hint();
        let count = most.unwrap_or(least);
        let mut lengths: SmallVec<[usize; 8]> = SmallVec::with_capacity(count);
        let mut out = Vec::with_capacity(count.saturating_mul(self.entries.len() + 16));
        for key in keys {
            let start = out.len();
            out.extend_from_slice(self.entries.as_bytes());
            mangling.set(false);
            text::write(key, &mut out).map_err(|said| {
                Error::usage(format!("a key of source `{}` cannot be written as text: {said}", self.source))
            })?;
            mangling.set(true);
            self.finish(&mut out, start, &self.entries);
            lengths.push(out.len() - start);
        }
        let mut out = Bytes::from(out);
        Ok(lengths.into_iter().map(|length| out.split_to(length)).collect())
    }

    /// `{namespace}:{region}`, whatever a mangler makes of it.
    pub(crate) fn place(&self) -> &str {
        self.stamps.trim_end_matches(':')
    }

    /// What every key of the region begins with; nothing where a mangler has its way.
    pub(crate) fn prefix(&self) -> &[u8] {
        if self.mangler.is_some() { b"" } else { self.stamps.as_bytes() }
    }

    /// Whether a key may be the stamp of a tag. A mangler makes that of any.
    pub(crate) fn may_be_tag(&self, key: &[u8]) -> bool {
        self.mangler.is_some()
            || key.strip_prefix(self.stamps.as_bytes()).is_some_and(|rest| rest.starts_with(b"#"))
    }

    /// A key as text, for people.
    pub(crate) fn show<K: Key>(&self, key: &K) -> String {
        let mut out = Vec::new();
        match guard(|| text::write(key, &mut out)) {
            Ok(Ok(())) => String::from_utf8_lossy(&out).into_owned(),
            _ => "a key that cannot be written as text".to_owned(),
        }
    }

    /// The stamp of the whole region. A source name cannot hold `@`, so no entry has this key.
    pub(crate) fn generation(&self) -> Bytes {
        self.stamp("@generation", |_| ())
    }

    /// The stamp that stands for the tags of the region.
    pub(crate) fn tag_epoch(&self) -> Bytes {
        self.stamp("@tags", |_| ())
    }

    /// The record of the region's write stamps. It does not begin as the keys do whose changes near is notified of: it
    /// changes with
    /// every write, and nothing in near depends on it.
    pub(crate) fn write_stamps(&self) -> Bytes {
        let prefix = format!("{}@writes", self.place());
        let mut out = Vec::from(prefix.as_bytes());
        self.finish(&mut out, 0, &prefix);
        Bytes::from(out)
    }

    /// The stamp of one tag, whatever is in its name.
    pub(crate) fn tag(&self, name: &str) -> Bytes {
        self.stamp("#", |out| text::tag(name, out))
    }

    fn stamp(&self, mark: &str, rest: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut out = Vec::from(self.stamps.as_bytes());
        out.extend_from_slice(mark.as_bytes());
        let prefix = format!("{}{mark}", self.stamps);
        rest(&mut out);
        self.finish(&mut out, 0, &prefix);
        Bytes::from(out)
    }

    /// Mangles the key that begins at `start`, and hashes it if the backend would not take it.
    ///
    /// No encoded key and no tag begins with a percent sign, so a hashed one cannot look like a plain one. The
    /// hash is a cryptographic one because keys come from users: nobody may be able to make two of them meet.
    fn finish(&self, out: &mut Vec<u8>, start: usize, prefix: &str) {
        if let Some(mangler) = &self.mangler {
            let mangled = mangler(&out[start..]);
            out.truncate(start);
            out.extend_from_slice(&mangled);
        }
        let key = &out[start..];
        let foreign = || key.is_empty() || key.iter().any(|byte| !byte.is_ascii_graphic());
        // Only a mangler can make bytes that some backend refuses.
        if key.len() <= self.max_key && !(self.mangler.is_some() && foreign()) {
            return;
        }
        let hash = Sha256::digest(key);
        out.truncate(start);
        out.extend_from_slice(prefix.as_bytes());
        out.push(b'%');
        hash.iter().for_each(|byte| text::hex(*byte, out));
    }
}

/// Whether `name` can stand in a key: 1 to 100 characters of `A-Z a-z 0-9 _ . -`.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("the name of a {what} is empty"));
    }
    if name.len() > 100 {
        return Err(format!("the {what} name `{name:.20}...` is longer than 100 bytes"));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))) {
        Some(c) => {
            Err(format!("the {what} name {name:?} holds {c:?}: only A-Z a-z 0-9 _ . - can stand in it"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
