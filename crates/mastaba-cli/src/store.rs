//! The backend behind a URL, opened as a program would open it.

use bytes::Bytes;
use mastaba::Region;
use mastaba::inspect::{EntryKey, Inspection, RegionInspection};
use mastaba::shared::Shared;
use mastaba_memcached::{Memcached, MemcachedConfig};
use mastaba_redis::{AtStart, Redis, RedisConfig};

use crate::args::{ClearArgs, EntryArgs, InvalidateArgs};
use crate::entry::Found;
use crate::trouble::Trouble;
use crate::voids::{self, Target, Voided, VoidedKey};

/// A backend that can be looked into.
pub(crate) enum Store {
    /// Redis or Valkey.
    Redis(Redis, Box<RedisConfig>),
    /// Memcached.
    Memcached(Memcached, Box<MemcachedConfig>),
}

/// Keys of one region, and what stood there.
pub(crate) struct Run {
    places: Vec<EntryKey>,
    keys: Vec<VoidedKey>,
}

/// The same with the backend, whichever it is.
macro_rules! with_backend {
    ($store:expr, $backend:ident => $work:expr) => {
        match $store {
            Store::Redis($backend, _) => $work,
            Store::Memcached($backend, _) => $work,
        }
    };
}

impl Store {
    /// Connects. Costs what the start of a program costs: a connection to each server, and one trip for the greeting.
    pub(crate) async fn open(url: &str) -> Result<Self, Trouble> {
        if is_memcached(url) {
            let config = MemcachedConfig::from_url(url)?;
            // a program with another list of servers would take them over
            let memcached = Memcached::visit(config.clone()).await?;
            return Ok(Self::Memcached(memcached, Box::new(config)));
        }
        let mut config = RedisConfig::from_url(url)?;
        // a program may go on without its server; there is nothing to look at then
        config.at_start = AtStart::Required;
        let redis = Redis::connect(config.clone()).await?;
        Ok(Self::Redis(redis, Box::new(config)))
    }

    /// What stands under a key. One trip, and one more for an entry with tags of its own.
    pub(crate) async fn find(&self, asked: &EntryArgs) -> Result<Found, Trouble> {
        let place = self.place(&asked.source.whole(&asked.key))?;
        refuse_urls(&asked.fixed_tags, "a tag")?;
        let tags: Vec<&str> = asked.fixed_tags.iter().map(String::as_str).collect();
        let look = self.look(&place, &tags).await?;
        Ok(Found::of(&place, self.full_key(&place), &look))
    }

    /// What stands under keys before they are voided: of each run of one region together. One trip for each.
    pub(crate) async fn before(&self, asked: &InvalidateArgs) -> Result<Vec<Run>, Trouble> {
        let places = asked.keys.iter().map(|key| self.place(&asked.source.whole(key)));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let mut runs = Vec::new();
        for run in
            places.chunk_by(|one, next| one.namespace() == next.namespace() && one.region() == next.region())
        {
            let mut keys = Vec::new();
            for place in run {
                let before = Found::of(place, self.full_key(place), &self.look(place, &[]).await?).kind();
                keys.push(VoidedKey { key: self.full_key(place), before });
            }
            runs.push(Run { places: run.to_vec(), keys });
        }
        Ok(runs)
    }

    /// Voids them.
    pub(crate) async fn invalidate(&self, runs: Vec<Run>) -> Result<Vec<Voided>, Trouble> {
        let mut done = Vec::new();
        for Run { places, keys } in runs {
            let (namespace, region) = (places[0].namespace().to_owned(), places[0].region().to_owned());
            let target = Target::Keys(places, keys);
            done.push(voids::void(self.region(), &namespace, &region, target).await?);
        }
        Ok(done)
    }

    /// What the store knows of a region, or of what has a tag, before it is voided. One trip.
    pub(crate) async fn known(&self, asked: &ClearArgs) -> Result<RegionInspection, Trouble> {
        refuse_urls(&asked.tag, "a tag")?;
        let tags: Vec<&str> = asked.tag.iter().map(String::as_str).collect();
        let name = asked.name()?;
        Ok(with_backend!(self, backend => name.look(backend, &tags).await)?)
    }

    /// Voids it.
    ///
    /// Also where the store knows no such region or tag: a load may be under way that began before the stamp was evicted. But the
    /// stamp that this makes of a name that nobody uses is taken away again, for the next one who asks would take it for that of a
    /// region or tag.
    pub(crate) async fn clear(&self, asked: &ClearArgs, known: &RegionInspection) -> Result<Voided, Trouble> {
        let target = match &asked.tag[..] {
            [] => Target::Region,
            tags => Target::Tags(tags.to_vec()),
        };
        let done = voids::void(self.region(), &asked.namespace, &asked.region, target).await;
        let made = self.made_stamps(asked, known)?;
        if !made.is_empty() {
            // they are void with their stamps and without, so nothing depends on this
            let remove = async { with_backend!(self, backend => backend.invalidate(&made, &[]).await) };
            let _ = tokio::time::timeout(voids::BUDGET, remove).await;
        }
        let mut done = done?;
        done.know(known, self.listing(&asked.namespace));
        Ok(done)
    }

    /// The keys of stamps that were not there before.
    fn made_stamps(&self, asked: &ClearArgs, known: &RegionInspection) -> Result<Vec<Bytes>, Trouble> {
        let name = asked.name()?;
        if asked.tag.is_empty() {
            let made = known.generation.is_none().then(|| name.generation_key().clone());
            return Ok(made.into_iter().collect());
        }
        let unknown = known.tags.iter().filter(|(_, stamp)| stamp.is_none()).map(|(tag, _)| tag);
        let keys = unknown.map(|tag| with_backend!(self, backend => name.tag_key(backend, tag)));
        Ok(keys.collect::<Result<_, _>>()?)
    }

    /// How somebody finds out which regions there are. The tool does not: it would look at every key of every server.
    fn listing(&self, namespace: &str) -> String {
        let stamps = format!("{}{namespace}:*:@generation", self.prefix());
        match self {
            Self::Redis(..) => {
                format!(
                    "`redis-cli --scan --pattern '{stamps}'` finds those that there are, and looks at every key for that"
                )
            }
            Self::Memcached(..) => {
                format!(
                    "`lru_crawler metadump all` tells every key of a server; each region that there is has a key {stamps}"
                )
            }
        }
    }

    /// The prefix of the configuration.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Self::Redis(_, config) => &config.prefix,
            Self::Memcached(_, config) => &config.prefix,
        }
    }

    /// Takes a key apart. One with the prefix of the configuration, as it stands in the store, will do.
    fn place(&self, key: &str) -> Result<EntryKey, Trouble> {
        refuse_urls([key], "a key")?;
        let without = key.strip_prefix(self.prefix()).map(EntryKey::of_key);
        let place = match without {
            Some(Ok(place)) => place,
            _ => EntryKey::of_key(key).map_err(|error| Trouble::new("config", &error.to_string()))?,
        };
        // the library stores it under a hash, so nothing ever stands there
        let (length, most) = (place.whole().len(), self.max_key());
        if length > most {
            let sentence = format!(
                "the key has {length} bytes, which is longer than the {most} that this store takes: give it as Cache::key_of \
                 gives it"
            );
            return Err(Trouble::new("config", &sentence));
        }
        Ok(place)
    }

    fn max_key(&self) -> usize {
        with_backend!(self, backend => backend.abilities().max_key)
    }

    async fn look(&self, place: &EntryKey, tags: &[&str]) -> Result<Inspection, Trouble> {
        Ok(with_backend!(self, backend => place.look(backend, tags).await)?)
    }

    fn full_key(&self, place: &EntryKey) -> String {
        let key = Bytes::copy_from_slice(place.whole().as_bytes());
        let full = with_backend!(self, backend => backend.full_key(&key));
        String::from_utf8_lossy(&full).into_owned()
    }

    fn region(&self) -> Region {
        with_backend!(self, backend => Region::backend(backend.clone()))
    }
}

/// There may be a password in it, so it is neither stored nor repeated.
fn refuse_urls(texts: impl IntoIterator<Item = impl AsRef<str>>, what: &str) -> Result<(), Trouble> {
    match texts.into_iter().any(|text| text.as_ref().contains("://")) {
        true => {
            Err(Trouble::new("config", &format!("a URL stands where {what} belongs; give it with --url")))
        }
        false => Ok(()),
    }
}

/// By the scheme, whatever else is wrong with it.
fn is_memcached(url: &str) -> bool {
    let scheme = url.trim().split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| scheme.starts_with("memcache"))
}
