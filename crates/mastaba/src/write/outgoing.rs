//! What a write is going to void, as plain data: for an outbox in the database.
//!
//! It is written down in the transaction, so it is there if and only if the transaction is committed. Whoever finds it
//! later, in whichever process, gives it to [`Cache::void`](crate::Cache::void). No type of the program is needed for
//! that: a piece names records of the shared tier, tags or a region.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::step::{Local, Step};
use super::{Published, Write};
use crate::cache::CacheCore;
use crate::error::Error;
use crate::inspect::EntryKey;
use crate::policy::WriteMode;
use crate::region::{Extent, RegionCore, SAMPLE, What};
use crate::request::RequestCache;
use crate::sync::lock;

/// The first byte of every piece.
const VERSION: u8 = 1;
/// A piece holds about so many bytes of keys or tags, and one at least.
const PIECE: usize = 16 * 1024;

/// One piece of what a write is going to void, as plain data. See [`Write::outgoing`].
///
/// It names records of the shared tier, or tags, or a whole region, and the namespace and the region that they are of.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::Outgoing;
/// use mastaba_test::world::{UserById, World};
///
/// let world = World::new().await; // users 1 to 999, a shared tier in memory
/// world.request().get::<UserById>(1).await?;
/// let write = world.request().write();
/// write.invalidate::<UserById>([1]).await?;
/// let row = write.outgoing()[0].to_bytes(); // goes into the database, in the transaction of the write
/// world.db.update(1); // and commit
/// drop(write); // the process dies
///
/// let piece = Outgoing::from_bytes(&row)?; // in another one
/// world.cache.void(&[piece]).await?;
/// assert_eq!(world.request().get::<UserById>(1).await?.unwrap().version, 1);
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// `namespace:region`.
    region: String,
    what: Target,
}

/// What a piece names. Numbers stand for these in what is stored: new ones go to the end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Target {
    Records(Vec<RecordKey>),
    Tags(Vec<String>),
    Region,
}

impl Outgoing {
    /// The bytes to be stored. They say which version of their form they are in.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // writing to memory what has only strings and bytes in it does not fail
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// Reads what [`to_bytes`](Outgoing::to_bytes) wrote.
    ///
    /// # Errors
    /// Of usage, if it is of another version or damaged: keep the bytes, a later version of the program may read them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let Some((version, rest)) = bytes.split_first() else {
            return Err(Error::usage("an outgoing invalidation has no bytes"));
        };
        if *version != VERSION {
            return Err(Error::usage(format!(
                "an outgoing invalidation has version {version}, and this program knows version {VERSION}: another \
                 version of the program wrote it"
            )));
        }
        match postcard::take_from_bytes(rest) {
            Ok((piece, [])) => Ok(piece),
            Ok((_, more)) => {
                Err(Error::usage(format!("an outgoing invalidation has {} bytes too many", more.len())))
            }
            Err(why) => Err(Error::usage(format!("an outgoing invalidation cannot be read: {why}"))),
        }
    }

    /// `namespace:region`.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// How many keys, tags and regions it names.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        match &self.what {
            Target::Records(records) => records.len(),
            Target::Tags(tags) => tags.len(),
            Target::Region => 1,
        }
    }

    /// Keys that a person names, as pieces: for a tool that voids them as a write of a program would.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba::{Cache, Outgoing, Region, inspect::EntryKey};
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// world.request().get::<UserById>(1).await?;
    /// world.idle().await;
    /// world.db.update(1); // and nobody has told the cache
    ///
    /// let place = EntryKey::of_key("mastaba:objects:user:1")?;
    /// // no source is needed, and no type of the program
    /// let region = Region::backend(world.memory.clone());
    /// let tool = Cache::builder().region("objects", region).build().await?;
    /// assert!(tool.void(&Outgoing::of_keys([&place])).await?.is_confirmed());
    /// assert_eq!(world.request().get::<UserById>(1).await?.unwrap().version, 1);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub fn of_keys<'p>(places: impl IntoIterator<Item = &'p EntryKey>) -> Vec<Self> {
        let mut pieces = Pieces::default();
        for place in places {
            let region = format!("{}:{}", place.namespace(), place.region());
            pieces.record(&region, &Bytes::copy_from_slice(place.whole().as_bytes()));
        }
        pieces.done
    }

    /// Tags that a person names, as pieces: see [`of_keys`](Outgoing::of_keys).
    pub fn of_tags(namespace: &str, region: &str, tags: &[impl AsRef<str>]) -> Vec<Self> {
        let mut pieces = Pieces::default();
        let place = format!("{namespace}:{region}");
        tags.iter().for_each(|tag| pieces.tag(&place, tag.as_ref()));
        pieces.done
    }

    /// A region that a person names: see [`of_keys`](Outgoing::of_keys).
    pub fn of_region(namespace: &str, region: &str) -> Self {
        Self { region: format!("{namespace}:{region}"), what: Target::Region }
    }

    fn what(&self) -> What {
        match &self.what {
            Target::Records(records) => What::Keys(records.iter().map(|record| record.0.clone()).collect()),
            Target::Tags(tags) => What::Tags(tags.clone()),
            Target::Region => What::Region,
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(records) => {
                f.debug_list().entries(records.iter().map(|record| text(&record.0))).finish()
            }
            Self::Tags(tags) => f.debug_tuple("Tags").field(tags).finish(),
            Self::Region => f.write_str("Region"),
        }
    }
}

fn text(record: &[u8]) -> String {
    String::from_utf8_lossy(record).into_owned()
}

/// A key of the shared tier. Written as bytes, and not one by one.
#[derive(Clone, PartialEq, Eq)]
struct RecordKey(Bytes);

impl Serialize for RecordKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RecordKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RecordVisitor;
        impl Visitor<'_> for RecordVisitor {
            type Value = RecordKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<RecordKey, E> {
                Ok(RecordKey(Bytes::copy_from_slice(bytes)))
            }
        }
        deserializer.deserialize_bytes(RecordVisitor)
    }
}

/// How far a write had come when everything of it had been tried. See [`Write::afterwards`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// Committed, and the shared tier has confirmed everything, in its order.
    Confirmed,
    /// Committed, and something was not confirmed at the first attempt. This process keeps it and sends it again, unless
    /// it dies before.
    Unconfirmed,
    /// Nobody knows whether it is committed; it may even be so later than now.
    Unknown,
    /// Rolled back, or refused: nothing has changed.
    RolledBack,
}

/// What is to be run once a write is settled.
pub(super) type Afterwards = Box<dyn FnOnce(Settled) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

impl Write {
    /// What was collected up to now, as plain data in bounded pieces: to be stored in the transaction, so that it is not
    /// lost when this process dies before it has voided it.
    ///
    /// The pieces are in the order of collecting, and have to be [voided](crate::Cache::void) in it: inner objects before
    /// those derived from them (`R7`). Regions that keep nothing are left out. Makes no trip, and changes nothing: the
    /// write still voids everything by itself. See [`Outgoing`] for an example.
    #[must_use]
    pub fn outgoing(&self) -> Vec<Outgoing> {
        let mut pieces = Pieces::default();
        for step in lock(&self.steps).iter().filter(|step| step.region.stores()) {
            let region = step.region.place();
            match &step.what {
                What::Keys(keys) => keys.iter().for_each(|key| pieces.record(region, key)),
                What::Tags(tags) => tags.iter().for_each(|tag| pieces.tag(region, tag)),
                What::Region => pieces.whole(region),
            }
        }
        pieces.done
    }

    /// Whether one of the regions that it concerns goes on without its shared tier
    /// ([`WriteMode::Degrade`](crate::WriteMode::Degrade)), so that it needs an outbox.
    #[must_use]
    pub fn degrades(&self) -> bool {
        let goes_on = |step: &Step| step.region.policy.write_mode == WriteMode::Degrade;
        lock(&self.steps).iter().any(goes_on)
    }

    /// Runs something when everything of this write has been tried: its commit, its invalidations, the ends of its holds.
    ///
    /// It runs in the task of the write, after the caller of [`commit`](Write::commit) was answered;
    /// [`Cache::idle`](crate::Cache::idle) waits for it. It does not run when the write is dropped, or cut off by the end
    /// of its runtime, and need not when it is [discarded](Write::discard).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba::Settled;
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let write = world.request().write();
    /// write.invalidate::<UserById>([1]).await?;
    /// let (tell, told) = tokio::sync::oneshot::channel();
    /// write.afterwards(|settled| async move { tell.send(settled).unwrap() });
    /// write.commit(std::future::ready(Ok::<_, std::io::Error>(()))).await.unwrap();
    /// assert_eq!(told.await, Ok(Settled::Confirmed));
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub fn afterwards<F>(&self, run: impl FnOnce(Settled) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        lock(&self.afterwards).push(Box::new(|settled| Box::pin(run(settled))));
    }
}

/// Collects pieces, each within its bound.
#[derive(Default)]
struct Pieces {
    done: Vec<Outgoing>,
    /// Bytes in the last one.
    bytes: usize,
    /// The keys of the run: once is enough, at the first place, as the write itself does it (`R7`).
    run: HashSet<Bytes>,
}

impl Pieces {
    fn record(&mut self, region: &str, key: &Bytes) {
        let goes_on = matches!(self.done.last(),
            Some(Outgoing { region: last, what: Target::Records(_) }) if last == region);
        if !goes_on {
            self.run.clear();
        }
        if !self.run.insert(key.clone()) {
            return;
        }
        match self.room(region, key.len()) {
            Some(Target::Records(records)) => records.push(RecordKey(key.clone())),
            _ => self.begin(region, Target::Records(vec![RecordKey(key.clone())]), key.len()),
        }
    }

    fn tag(&mut self, region: &str, tag: &str) {
        match self.room(region, tag.len()) {
            Some(Target::Tags(tags)) => tags.push(tag.to_owned()),
            _ => self.begin(region, Target::Tags(vec![tag.to_owned()]), tag.len()),
        }
    }

    fn whole(&mut self, region: &str) {
        self.begin(region, Target::Region, 0);
    }

    /// The last piece, if it is of this region and so many more bytes go into it.
    fn room(&mut self, region: &str, bytes: usize) -> Option<&mut Target> {
        self.bytes += bytes;
        let fits = self.bytes <= PIECE;
        self.done.last_mut().filter(|last| fits && last.region == region).map(|last| &mut last.what)
    }

    fn begin(&mut self, region: &str, what: Target, bytes: usize) {
        self.bytes = bytes;
        self.done.push(Outgoing { region: region.to_owned(), what });
    }
}

/// The region that a piece is of.
///
/// # Errors
/// Of usage: there is none here, or it keeps nothing here, so that nothing could be voided.
pub(crate) fn region_of(cache: &CacheCore, piece: &Outgoing) -> Result<Arc<RegionCore>, Error> {
    let Some(region) = cache.regions().find(|each| each.place() == piece.region) else {
        let known = cache.regions().map(|each| each.place()).collect::<Vec<_>>().join(", ");
        return Err(Error::usage(format!(
            "an outgoing invalidation is of the region {:?}, and this cache has: {known}",
            piece.region
        )));
    };
    if !region.stores() {
        return Err(Error::usage(format!(
            "an outgoing invalidation is of the region {:?}, which keeps nothing in this process",
            piece.region
        )));
    }
    Ok(region.clone())
}

/// Voids pieces in every tier, as the write would have done that they are of.
pub(crate) async fn void(cache: &Arc<CacheCore>, pieces: &[Outgoing]) -> Result<Published, Error> {
    let steps = pieces.iter().map(|piece| Ok(step(cache, region_of(cache, piece)?, piece)));
    let steps = steps.collect::<Result<Vec<_>, Error>>()?;
    let write = RequestCache::new(cache.clone()).write();
    steps.into_iter().for_each(|step| write.push(step));
    write.published().await
}

fn step(cache: &Arc<CacheCore>, region: Arc<RegionCore>, piece: &Outgoing) -> Step {
    let what = piece.what();
    let records = match &what {
        What::Keys(keys) => keys.clone(),
        What::Tags(_) | What::Region => Vec::new(),
    };
    // whose key a record is, is not known here
    let shown = if region.hides_keys.load(Ordering::Relaxed) { 0 } else { SAMPLE };
    let sample = records.iter().take(shown).map(|record| text(record)).collect();
    let (cache, of) = (cache.clone(), region.clone());
    let local = Local {
        void: Box::new(move || {
            // which key of the program a record is of is not known here
            cache.void_all(&of);
            of.void_records(&records);
        }),
        forget: Box::new(|| ()),
        put: None,
    };
    let collected = Extent { count: piece.len(), sources: Vec::new(), sample };
    Step { region, what, collected, local: vec![local], held: false, tried: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn pieces_are_bounded_keep_their_order_and_name_each_key_once() {
        let mut pieces = Pieces::default();
        (0..10_000).for_each(|nth| pieces.record("app:objects", &key(&format!("app:objects:user:{nth}"))));
        pieces.record("app:objects", &key("app:objects:user:7"));
        pieces.tag("app:objects", "team");
        pieces.record("app:objects", &key("app:objects:user:last"));
        pieces.record("app:others", &key("app:others:user:1"));
        pieces.whole("app:others");
        let sizes: Vec<_> = pieces.done.iter().map(|piece| piece.to_bytes().len()).collect();
        assert!(sizes.iter().all(|size| *size <= PIECE * 3 / 2), "{sizes:?}");
        assert_eq!(pieces.done.iter().map(Outgoing::len).sum::<usize>(), 10_004);
        let last: Vec<_> = pieces.done.iter().rev().take(4).rev().map(|piece| format!("{piece:?}")).collect();
        assert!(last[0].contains("Tags([\"team\"])"), "{last:?}");
        assert!(last[1].contains("user:last") && last[2].contains("app:others:user:1"), "{last:?}");
        assert!(last[3].contains("Region"), "{last:?}");
    }

    #[test]
    fn what_is_stored_comes_back_and_what_is_not_of_this_version_is_an_error_of_its_own() {
        let piece = Outgoing {
            region: "app:objects".to_owned(),
            what: Target::Records(vec![RecordKey(key("app:objects:user:1"))]),
        };
        let bytes = piece.to_bytes();
        assert_eq!(Outgoing::from_bytes(&bytes).unwrap(), piece);
        // other processes have such rows: this form stays
        assert_eq!(bytes, b"\x01\x0bapp:objects\x00\x01\x12app:objects:user:1");
        let later = [&[VERSION + 1], &bytes[1..]].concat();
        let error = Outgoing::from_bytes(&later).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("version 2"), "{error}");
        for damaged in [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat(), b""] {
            assert!(Outgoing::from_bytes(damaged).unwrap_err().is_usage());
        }
    }
}
