//! What the store knows of a region as a whole.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::{Error, Fault};
use crate::key::KeySpace;
use crate::region::stamp;
use crate::shared::Shared;

/// The name of a region in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionName {
    namespace: String,
    region: String,
    generation: Bytes,
}

impl RegionName {
    /// A region of a cache with this namespace.
    ///
    /// # Errors
    /// Of usage: one of the names cannot be one.
    pub fn new(namespace: &str, region: &str) -> Result<Self, Error> {
        let space = space(namespace, region, usize::MAX).map_err(Error::usage)?;
        let (namespace, region) = (namespace.to_owned(), region.to_owned());
        Ok(Self { namespace, region, generation: space.generation() })
    }

    /// The key of its stamp (`R12`). A region with a [mangler](crate::Region::mangler) has it under another one.
    pub fn generation_key(&self) -> &Bytes {
        &self.generation
    }

    /// The key of the stamp of a tag, in this store: where it is long, that is a hash.
    ///
    /// # Errors
    /// A refusal, where the names of the region cannot be in a key.
    pub fn tag_key<B: Shared>(&self, backend: &B, tag: &str) -> Result<Bytes, Fault> {
        Ok(self.space(backend)?.tag(tag))
    }

    fn space<B: Shared>(&self, backend: &B) -> Result<KeySpace, Fault> {
        let space = space(&self.namespace, &self.region, backend.abilities().max_key);
        space.map_err(|why| Fault::new(crate::FaultKind::Refused, why))
    }

    /// Reads the stamps of the region and of these tags. One trip; changes nothing.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba::inspect::RegionName;
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // a shared tier in memory
    /// world.request().get::<UserById>(7).await?;
    /// world.idle().await; // nobody waits for a fill
    /// assert!(RegionName::new("mastaba", "objects")?.look(&world.memory, &[]).await?.generation.is_some());
    /// let misspelt = RegionName::new("mastaba", "object")?.look(&world.memory, &["red"]).await?;
    /// assert_eq!((misspelt.generation, misspelt.tags["red"]), (None, None));
    /// # Ok::<_, mastaba::BoxError>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The backend's.
    pub async fn look<B: Shared>(&self, backend: &B, tags: &[&str]) -> Result<RegionInspection, Fault> {
        let space = self.space(backend)?;
        let mut keys = vec![self.generation.clone()];
        keys.extend(tags.iter().map(|tag| space.tag(tag)));
        let mut stamps = backend.read(&keys).await?.into_iter().map(|record| stamp(record.as_deref()));
        let generation = stamps.next().flatten();
        Ok(RegionInspection {
            generation,
            tags: tags.iter().map(|tag| (*tag).to_owned()).zip(stamps).collect(),
        })
    }
}

fn space(namespace: &str, region: &str, max_key: usize) -> Result<KeySpace, String> {
    // no source is asked for
    KeySpace::new(namespace, region, "any", max_key, None)
}

/// What the store knows of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionInspection {
    /// The stamp of the region (`R12`). `None`: there is none, so nothing that is stored of it is valid. The first miss makes one.
    pub generation: Option<u64>,
    /// The stamps of the tags. `None`: there is none, so nothing that is stored with that tag is valid.
    pub tags: BTreeMap<String, Option<u64>>,
}
