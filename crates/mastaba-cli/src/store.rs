//! The backend behind a URL, opened as a program would open it.

use bytes::Bytes;
use mastaba::Region;
use mastaba::inspect::{EntryKey, Inspection};
use mastaba::shared::Shared;
use mastaba_redis::{AtStart, Redis, RedisConfig};

use crate::args::{ClearArgs, EntryArgs, InvalidateArgs};
use crate::entry::Found;
use crate::output::Printed;
use crate::trouble::Trouble;
use crate::voids::{self, Target, VoidedKey};

/// A backend that can be looked into.
pub(crate) enum Store {
    /// Redis or Valkey.
    Redis(Redis, Box<RedisConfig>),
}

impl Store {
    /// Connects. Costs what the start of a program costs: a connection, and one trip for the greeting.
    pub(crate) async fn open(url: &str) -> Result<Self, Trouble> {
        let mut config = RedisConfig::from_url(url)?;
        // a program may go on without its server; there is nothing to look at then
        config.at_start = AtStart::Required;
        let redis = Redis::connect(config.clone()).await?;
        Ok(Self::Redis(redis, Box::new(config)))
    }

    /// What stands under a key. One trip, and one more for an entry with tags of its own.
    pub(crate) async fn find(&self, asked: &EntryArgs) -> Result<Found, Trouble> {
        let place = self.place(&asked.source.whole(&asked.key))?;
        let tags: Vec<&str> = asked.fixed_tags.iter().map(String::as_str).collect();
        let look = self.look(&place, &tags).await?;
        Ok(Found::of(&place, self.full_key(&place), &look))
    }

    /// Voids keys: of each run of one region together.
    pub(crate) async fn invalidate(&self, asked: &InvalidateArgs) -> Result<Printed, Trouble> {
        let places = asked.keys.iter().map(|key| self.place(&asked.source.whole(key)));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let mut done = Vec::new();
        for run in
            places.chunk_by(|one, next| one.namespace() == next.namespace() && one.region() == next.region())
        {
            let mut keys = Vec::new();
            for place in run {
                let before = Found::of(place, self.full_key(place), &self.look(place, &[]).await?).kind();
                keys.push(VoidedKey { key: self.full_key(place), before });
            }
            let target = Target::Keys(run.to_vec(), keys);
            done.push(voids::void(self.region(), run[0].namespace(), run[0].region(), target).await?);
        }
        Ok(voids::printed(&done))
    }

    /// Voids a region, or what has a tag.
    pub(crate) async fn clear(&self, asked: &ClearArgs) -> Result<Printed, Trouble> {
        let target = if asked.tag.is_empty() { Target::Region } else { Target::Tags(asked.tag.clone()) };
        let done = voids::void(self.region(), &asked.namespace, &asked.region, target).await?;
        Ok(voids::printed(&[done]))
    }

    /// Takes a key apart. One with the prefix of the configuration, as it stands in the store, will do.
    fn place(&self, key: &str) -> Result<EntryKey, Trouble> {
        let Self::Redis(_, config) = self;
        if key.contains("://") {
            // it is not repeated: there may be a password in it
            return Err(Trouble::new("config", "a URL stands where a key belongs; give it with --url"));
        }
        let without = key.strip_prefix(&config.prefix).map(EntryKey::of_key);
        match without {
            Some(Ok(place)) => Ok(place),
            _ => EntryKey::of_key(key).map_err(|error| Trouble::new("config", &error.to_string())),
        }
    }

    async fn look(&self, place: &EntryKey, tags: &[&str]) -> Result<Inspection, Trouble> {
        let Self::Redis(redis, _) = self;
        Ok(place.look(redis, tags).await?)
    }

    fn full_key(&self, place: &EntryKey) -> String {
        let Self::Redis(redis, _) = self;
        let full = redis.full_key(&Bytes::copy_from_slice(place.whole().as_bytes()));
        String::from_utf8_lossy(&full).into_owned()
    }

    fn region(&self) -> Region {
        let Self::Redis(redis, _) = self;
        Region::backend(redis.clone())
    }
}
