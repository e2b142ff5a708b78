//! What stands in the shared tier, for people and the tools that they use: where a key belongs, what is stored under it, and
//! what the next read would make of that. A program that reads and writes needs nothing of it.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use mastaba::inspect::{EntryKey, Prospect};
//! use mastaba_test::world::{UserById, World};
//!
//! let world = World::new().await; // users 1 to 999, a shared tier in memory
//! let place = EntryKey::of_key(&world.cache.key_of::<UserById>(&7)?)?;
//! assert_eq!((place.region(), place.source(), place.key()), ("objects", "user", "7"));
//! assert_eq!(place.look(&world.memory, &[]).await?.prospect(), Prospect::Nothing);
//!
//! world.request().get::<UserById>(7).await?;
//! world.idle().await; // nobody waits for a fill
//! let look = place.look(&world.memory, &[]).await?;
//! assert!(look.prospect().is_hit(), "{}", look.prospect());
//! # Ok::<_, mastaba::BoxError>(()) }).unwrap();
//! ```

mod region;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Now;
use crate::codec;
use crate::entry::{EntryRef, Fields, Foreign, Kind};
use crate::error::{BoxError, Error, Fault};
use crate::key::KeySpace;
use crate::lease;
use crate::limits::Shown;
use crate::region::{Stamps, stamp};
use crate::shared::{Shared, stamps};
use crate::worth::{
    Scales, Soundness, TAG_BITS, Valued, Void, Worth, left_ms, number_of_tags, soft_until_ms,
};

pub use self::region::{RegionInspection, RegionName};

/// The largest payload that is unpacked.
const MAX_RAW: usize = 64 << 20;

/// Something that a backend uses of its servers, or does without, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capability {
    /// `fills`, `fills without leases`, `notifications`, `holds`: a name that stays.
    pub name: &'static str,
    /// Whether it is there.
    pub used: bool,
    /// How it is done, or why it is not, in a clause.
    pub how: String,
}

impl Capability {
    /// For authors of backends.
    pub fn new(name: &'static str, used: bool, how: impl Into<String>) -> Self {
        Self { name, used, how: how.into() }
    }
}

/// Where the key of an entry belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryKey {
    whole: String,
    /// How long its three names are.
    names: [usize; 3],
}

impl EntryKey {
    /// Takes a key apart, as [`Cache::key_of`](crate::Cache::key_of) gives it and without what the backend puts before it:
    /// `namespace:region:source:key`.
    ///
    /// # Errors
    /// Of usage: it is not of this form. A region with a [mangler](crate::Region::mangler) has keys of any form.
    pub fn of_key(key: &str) -> Result<Self, Error> {
        let mut parts = key.splitn(4, ':');
        let (Some(namespace), Some(region), Some(source), Some(rest)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::usage(format!(
                "the key {key:?} is not of the form namespace:region:source:key, as `Cache::key_of` gives it"
            )));
        };
        let place = Self { names: [namespace.len(), region.len(), source.len()], whole: key.to_owned() };
        place
            .space(usize::MAX)
            .map_err(|why| Error::usage(format!("{key:?} is not the key of an entry: {why}")))?;
        if rest.is_empty() {
            return Err(Error::usage(format!("the key {key:?} ends before the key of its source")));
        }
        Ok(place)
    }

    /// The namespace of the cache.
    pub fn namespace(&self) -> &str {
        &self.whole[..self.names[0]]
    }

    /// The region.
    pub fn region(&self) -> &str {
        let start = self.names[0] + 1;
        &self.whole[start..start + self.names[1]]
    }

    /// The name of the source.
    pub fn source(&self) -> &str {
        let start = self.names[0] + self.names[1] + 2;
        &self.whole[start..start + self.names[2]]
    }

    /// The key of the source, as text; `%` and a hash where it would be too long.
    pub fn key(&self) -> &str {
        &self.whole[self.names.iter().sum::<usize>() + 3..]
    }

    /// The whole of it.
    pub fn whole(&self) -> &str {
        &self.whole
    }

    fn space(&self, max_key: usize) -> Result<KeySpace, String> {
        KeySpace::new(self.namespace(), self.region(), self.source(), max_key, None)
    }

    /// Reads what stands there, with all that a read would compare it with.
    ///
    /// `fixed_tags` are those that the source has ([`Source::TAGS`](crate::Source::TAGS)), in their order. One trip, and one more for
    /// an entry with tags of its own. Changes nothing.
    ///
    /// # Errors
    /// The backend's.
    pub async fn look<B: Shared>(&self, backend: &B, fixed_tags: &[&str]) -> Result<Inspection, Fault> {
        // the key of a long tag is a hash
        let space = self.space(backend.abilities().max_key);
        let space = space.map_err(|why| Fault::new(crate::FaultKind::Refused, why))?;
        let incarnation = backend.incarnation();
        let mut keys =
            vec![Bytes::copy_from_slice(self.whole.as_bytes()), space.write_stamps(), space.generation()];
        keys.extend(fixed_tags.iter().map(|tag| space.tag(tag)));
        let mut found = backend.read(&keys).await?.into_iter();
        let (record, writes) = (found.next().flatten(), found.next().flatten());
        let mut numbers = found.map(|record| stamp(record.as_deref()));
        let generation = numbers.next().flatten();
        let mut tags: BTreeMap<_, _> = fixed_tags.iter().map(|tag| (*tag).to_owned()).zip(numbers).collect();
        let own: Vec<String> = record.as_deref().map(own_tags).unwrap_or_default();
        let own: Vec<String> = own.into_iter().filter(|tag| !tags.contains_key(tag)).collect();
        if !own.is_empty() {
            let keys: Vec<Bytes> = own.iter().map(|tag| space.tag(tag)).collect();
            let found = backend.read(&keys).await?.into_iter().map(|record| stamp(record.as_deref()));
            tags.extend(own.into_iter().zip(found));
        }
        let write_stamp = writes.and_then(|record| stamps::of(&record, &keys[0]));
        let fixed = fixed_tags.iter().map(|tag| (*tag).to_owned()).collect();
        Ok(Inspection {
            record,
            incarnation,
            generation,
            tags,
            write_stamp,
            store_ms: backend.now_ms(),
            fixed,
        })
    }
}

/// The tags of its own of an entry, or of the one that a hold keeps.
fn own_tags(record: &[u8]) -> Vec<String> {
    let tags = |entry: &EntryRef<'_>| entry.tags().map(|(tag, _)| tag.to_owned()).collect();
    match EntryRef::read(record) {
        Ok(entry) if entry.header().kind == Kind::Hold => {
            EntryRef::read(entry.payload()).map(|kept| tags(&kept)).unwrap_or_default()
        }
        Ok(entry) => tags(&entry),
        Err(_) => Vec::new(),
    }
}

/// What stands under a key, and what a read would compare it with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The bytes; `None`: nothing.
    pub record: Option<Bytes>,
    /// What the store is now (`R11`).
    pub incarnation: u64,
    /// The stamp of the region (`R12`); `None`: there is none, so nothing of it is valid.
    pub generation: Option<u64>,
    /// The stamps of the fixed tags that were given, and of the tags of the entry, as they are now.
    pub tags: BTreeMap<String, Option<u64>>,
    /// The write stamp of the key (`R16`); `None`: there is none, so nothing is stored there without a lease.
    pub write_stamp: Option<u64>,
    /// What time it is for the store, in milliseconds since the Unix epoch.
    pub store_ms: u64,
    fixed: Vec<String>,
}

impl Inspection {
    /// The entry, or why it is none.
    ///
    /// # Errors
    /// The bytes are no entry of this version, or damaged.
    pub fn entry(&self) -> Option<Result<EntryRef<'_>, Foreign>> {
        self.record.as_deref().map(EntryRef::read)
    }

    /// The value or the absence that a hold keeps, if it may still come back or be served.
    pub fn kept(&self) -> Option<EntryRef<'_>> {
        lease::kept(&self.entry()?.ok()?, self.store_ms)
    }

    /// What a read would make of it now: the judgement of the library itself, as far as it goes without the program. A program
    /// knows more: the shape of its types, how old it may serve a value, and which of its own invalidations are not confirmed yet.
    pub fn prospect(&self) -> Prospect {
        let Some(record) = &self.record else { return Prospect::Nothing };
        let fixed: Vec<&str> = self.fixed.iter().map(String::as_str).collect();
        let tags = self.tags.iter().map(|(tag, stamp)| (tag.clone(), *stamp)).collect();
        let stamps = Stamps { generation: self.generation, epoch: None, tags, writes: None };
        let folded = stamps.folded(&fixed);
        let scales = Scales { stamps: &stamps, folded, incarnation: self.incarnation };
        // of whichever type it is; of other fixed tags it is another shape
        let schema = |fields: Fields<'_>| fields.schema() & !TAG_BITS | u64::from(number_of_tags(&fixed));
        let mut now = Now::look();
        let weighed = scales.weigh(record, schema, || Some(self.store_ms), &mut now);
        let valued = match weighed {
            Worth::Foreign(why) => return Prospect::Foreign(why),
            Worth::OtherStore(_) => return Prospect::OtherStore,
            Worth::Lease(_) => return Prospect::Leased,
            Worth::Held => return Prospect::Held { serves: None },
            Worth::Valued(valued) => valued,
        };
        let Valued { entry, kept, state } = valued;
        let of_value = match state {
            Soundness::Ahead(by) => Prospect::Ahead { by },
            Soundness::Void(Void::Stamps) if self.generation.is_none() => Prospect::NoGeneration,
            Soundness::Void(Void::Stamps) => Prospect::Cleared,
            Soundness::Void(Void::Tag) => Prospect::TagVoided { tags: self.voided(&entry) },
            Soundness::Void(Void::Age) => Prospect::Over,
            Soundness::OtherShape(_) => Prospect::OtherTags,
            Soundness::Sound { .. } => match left_ms(soft_until_ms(entry.fields()), now) {
                0 => Prospect::Soft,
                left => Prospect::Fresh { left: Duration::from_millis(left) },
            },
        };
        if kept { Prospect::Held { serves: Some(Box::new(of_value)) } } else { of_value }
    }

    /// Those of its tags that have another stamp now.
    fn voided(&self, entry: &EntryRef<'_>) -> Vec<String> {
        let other = entry.tags().filter(|(tag, stamp)| self.tags.get(*tag) != Some(&Some(*stamp)));
        other.map(|(tag, _)| tag.to_owned()).collect()
    }
}

/// The payload of a value as it was encoded, before it was compressed.
///
/// # Errors
/// It does not unpack, or would be larger than the library believes.
pub fn payload<'e>(entry: &EntryRef<'e>) -> Result<Cow<'e, [u8]>, BoxError> {
    codec::unpack(entry.payload(), entry.header().compressed, MAX_RAW)
}

/// What the next read would make of a record. Its `Display` is a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prospect {
    /// A miss: nothing stands there.
    Nothing,
    /// A miss: what stands there is no entry of this version, or damaged.
    Foreign(Foreign),
    /// A miss: it was stored before the store lost or brought back records (`R11`).
    OtherStore,
    /// A miss, which waits: somebody loads it just now (`R3`).
    Leased,
    /// Somebody writes it just now.
    Held {
        /// What the value is worth that the hold keeps, which is served in write mode `Serve` alone; `None`: it keeps none.
        serves: Option<Box<Prospect>>,
    },
    /// A miss: it was made in the future, so one of two clocks is wrong.
    Ahead {
        /// By so much.
        by: Duration,
    },
    /// A miss: the region has no generation.
    NoGeneration,
    /// A miss: the region was cleared, or one of the fixed tags voided, since it was loaded (`R12`).
    Cleared,
    /// A miss: tags of its own were voided since it was loaded (`R12`).
    TagVoided {
        /// These.
        tags: Vec<String>,
    },
    /// A miss: it is past its time to live.
    Over,
    /// Not known: it stands under other fixed tags than those that were given.
    OtherTags,
    /// A hit, where the type of the program still has the shape that it was stored in.
    Fresh {
        /// It is fresh for so long.
        left: Duration,
    },
    /// A hit where the source serves what is stale, which is then loaded anew; elsewhere a miss.
    Soft,
}

impl Prospect {
    /// Whether a read would be answered by it.
    pub fn is_hit(&self) -> bool {
        matches!(self, Self::Fresh { .. })
    }
}

impl fmt::Display for Prospect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("a miss: nothing is stored there"),
            Self::Foreign(why) => write!(f, "a miss: {why}; whoever loads it replaces it"),
            Self::OtherStore => f.write_str(
                "a miss: it was stored before the store was restarted, or another server took over, and may be from before \
                 an invalidation",
            ),
            Self::Leased => f.write_str(
                "a miss: somebody loads it just now, or has died while loading; other readers wait for up to \
                 lease_patience, and then load it as well",
            ),
            Self::Held { serves: None } => f.write_str("a miss, and nothing is stored: a write holds the key"),
            Self::Held { serves: Some(kept) } => write!(
                f,
                "a write holds the key. In write mode Serve, of what it held before: {kept}. In other modes a miss, and nothing \
                 is stored"
            ),
            Self::Ahead { by } => write!(
                f,
                "a miss: it was made {} in the future, so the clock of this machine is wrong, or that of the one that made it",
                Shown(*by)
            ),
            Self::NoGeneration => f.write_str(
                "a miss: the region has no generation, for it was evicted or removed; the next miss makes one, and what was \
                 stored before is void",
            ),
            Self::Cleared => f.write_str(
                "a miss: since it was loaded the region was cleared, or one of the fixed tags of its source voided",
            ),
            Self::TagVoided { tags } => {
                write!(f, "a miss: since it was loaded these of its tags were voided: {}", tags.join(", "))
            }
            Self::Over => f.write_str("a miss: it is past its time to live"),
            Self::OtherTags => f.write_str(
                "not known: its source has other fixed tags (`Source::TAGS`) than those that were given, and with them the stamp \
                 that it stands under",
            ),
            Self::Fresh { left } => write!(
                f,
                "a hit, fresh for {} more, if the type of the program still has this shape",
                Shown(*left)
            ),
            Self::Soft => f.write_str(
                "past its soft age: a hit where the source serves what is stale (`stale`), and then it is loaded anew; elsewhere \
                 a miss",
            ),
        }
    }
}
