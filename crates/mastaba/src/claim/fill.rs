//! Storing what was loaded, with nobody waiting.

use std::time::Duration;

use bytes::Bytes;

use super::fetch::Brought;
use super::right::Right;
use super::{Claim, Loaded, Tags, Way};
use crate::answer::Known;
use crate::carried::Carried;
use crate::clock::{self, Now};
use crate::codec;
use crate::entry::{self, Fence, Format, Header, Kind, MAX_TAG_NAME};
use crate::event::Event;
use crate::guarded::{each, let_go};
use crate::limits::millis;
use crate::near::NearEntry;
use crate::read::Storing;
use crate::region::Stamps;
use crate::shared::{Fill, Over};
use crate::source::Source;

impl<S: Source> Storing for Claim<S> {
    fn name_tags(&mut self) -> Vec<String> {
        let mut untagged = Vec::new();
        for at in 0..self.items.len() {
            let item = &self.items[at];
            let Some(Loaded { carried, .. }) = item.loaded.as_deref() else { continue };
            let named = match carried {
                Carried::Absent => continue,
                Carried::Live(value) => self.source.tags(&item.key, value),
                Carried::Encoded(encoded) => match self.source.decode(encoded.format, &encoded.payload) {
                    Ok(value) => {
                        let named = self.source.tags(&item.key, &value);
                        let_go(value);
                        named
                    }
                    Err(_) => continue,
                },
            };
            let tags = match named {
                Ok(tags) => tags,
                Err(why) => {
                    self.source.say_panicked(&self.request.cache.events, &item.record, "`tags`", &why);
                    continue;
                }
            };
            if !tags.is_empty() {
                self.source.set_tagged();
            }
            if matches!(item.storable.right(), Some(Right::Lease(_) | Right::Record(_))) {
                untagged.extend(tags.iter().cloned());
            }
            if let Some(loaded) = self.items[at].loaded.as_deref_mut() {
                loaded.tags = Tags::Named(tags);
            }
        }
        untagged
    }

    fn make_fills(&mut self, tags: Option<&Stamps>) -> Vec<Fill> {
        if !self.source.region.is_private() {
            self.departures.iter().for_each(|(departure, _)| departure.close());
        }
        let mut fills = Vec::new();
        for at in 0..self.items.len() {
            let item = &self.items[at];
            let Some(loaded) = item.loaded.as_ref().filter(|_| item.stored.is_none()) else { continue };
            // without its tags a value is not stored
            if let Tags::Named(own) = &loaded.tags
                && let Some(fill) = self.fill_of(at, loaded, own, tags)
            {
                fills.push(fill);
                self.filling.push(at);
            }
        }
        fills
    }

    fn confirm(&mut self, stored: &[bool]) {
        let unstored = !self.source.region.stores();
        let mut kept: Vec<_> = self.items.iter().map(|item| item.stored.unwrap_or(unstored)).collect();
        for (at, stored) in std::mem::take(&mut self.filling).into_iter().zip(stored) {
            kept[at] = *stored;
            self.count_fill(at, *stored);
        }
        let stamps = self.carry.as_ref().map_or(0, Stamps::digest);
        for (departure, ats) in std::mem::take(&mut self.departures) {
            // who comes late has not seen the stamps of tags of the value
            let alone =
                |at: &usize| self.items[*at].loaded.as_ref().is_some_and(|loaded| !loaded.tags.are_none());
            departure.confirm(ats.iter().map(|at| kept[*at] && !alone(at)).collect(), stamps);
        }
        if self.source.near.is_some() {
            each(self, kept.len(), |claim, at| claim.fill_near(at, kept[at]), |_, _, _| {});
        }
    }
}

impl<S: Source> Claim<S> {
    /// What to store of an item, if it may be stored at all.
    fn fill_of(&self, at: usize, loaded: &Loaded<S>, own: &[String], tags: Option<&Stamps>) -> Option<Fill> {
        let item = &self.items[at];
        let carry = self.carry.as_ref()?;
        let stood = carry.folded(S::TAGS)?;
        let right = item.storable.right()?;
        let (expected, over, incarnation) = match right {
            Right::Lease(fence) => (fence, Over::Lease, self.incarnation),
            Right::Record(fence) => (fence, Over::Record, self.incarnation),
            Right::Stamp { stamp, over } => {
                let stamped = Over::Unleased { stamps: self.source.region.stamps_key(), stamp };
                (over.unwrap_or(Fence(0)), stamped, self.incarnation_read)
            }
        };
        let zero = loaded.policy.ttl == Some(Duration::ZERO);
        if !(loaded.policy.store || zero) {
            return None;
        }
        // Tags of the value were not known before the load, so their stamps were read after it. They are good if no
        // tag of the region was renewed in between (R12).
        let steady = tags.is_some_and(|tags| tags.epoch.is_some() && tags.epoch == carry.epoch);
        if !own.is_empty() && !steady {
            return None;
        }
        let stamp = |tag: &str| carry.tags.get(tag).or_else(|| tags?.tags.get(tag)).copied().flatten();
        let names = own.iter().map(String::as_str);
        let stamped = names.map(|tag| Some((tag, stamp(tag)?))).collect::<Option<Vec<_>>>()?;
        let record = match self.source.policy.keeps(loaded.carried.is_absent(), loaded.policy) {
            true => self.record(&item.record, loaded, (stood, incarnation), &stamped),
            // there is no lease that others would wait for
            false if item.storable.is_unleased() => Ok(None),
            false => Ok(Some(self.nothing(stood))),
        };
        match record {
            Ok(None) => None,
            Ok(Some((record, ttl))) => {
                self.source.refusals.forget(&item.record);
                Some(Fill { key: item.record.clone(), expected, over, record, ttl })
            }
            Err(why) => {
                self.request.cache.events.tell(Event::NotStored { source: S::name(), why });
                self.source.refusals.note(&item.record);
                None
            }
        }
    }

    /// Stores what has come while the rest of the claim waits for other processes, which may wait for just this.
    /// Gives which of it was stored.
    ///
    /// What has tags of its own is left for the end: their stamps are still to be read.
    pub(super) async fn fill_early(&self, brought: &[Brought<S>]) -> Vec<(usize, bool)> {
        let mut early = Vec::new();
        for (at, known, loaded) in brought {
            let (Ok(known), Some(loaded)) = (known, loaded) else { continue };
            let key = &self.items[*at].key;
            // what panics here does so again at the end, where it is said
            let own = match known {
                Known::Value(value) => self.source.tags(key, value),
                Known::Absent => Ok(Vec::new()),
            };
            if own.is_ok_and(|own| own.is_empty()) {
                early.extend(self.fill_of(*at, loaded, &[], None).map(|fill| (*at, fill)));
            }
        }
        if early.is_empty() {
            return Vec::new();
        }
        // before the fill is sent (R5): see `make_fills`
        self.departures.iter().for_each(|(departure, _)| departure.close());
        let (places, fills): (Vec<_>, Vec<_>) = early.into_iter().unzip();
        let stored = self.source.region.fill(&self.meter.in_background(), &fills).await;
        places.iter().zip(&stored).for_each(|(at, stored)| self.count_fill(*at, *stored));
        places.into_iter().zip(stored).collect()
    }

    /// What stands in for an entry that is not to be kept: it is over before anybody reads it. Without it the lease would
    /// stay, and other processes would wait for its fill.
    fn nothing(&self, stamps: u64) -> (Bytes, Duration) {
        let mut header = Header::new(Kind::Absent, Fence::random(), self.incarnation);
        header.stamps = stamps;
        header.schema = self.source.schema(header.format);
        header.created_ms = clock::now_ms();
        (Bytes::from(entry::write(&header, &[], &[], &[])), Duration::from_millis(1))
    }

    /// One entry, and how long the shared tier keeps it. `None`: its value cannot be stored, which was said.
    fn record(
        &self,
        key: &[u8],
        loaded: &Loaded<S>,
        (stamps, incarnation): (u64, u64),
        tags: &[(&str, u64)],
    ) -> Result<Option<(Bytes, Duration)>, String> {
        let policy = &self.source.policy;
        let absent = loaded.carried.is_absent();
        if let Some((tag, _)) = tags.iter().find(|(tag, _)| tag.len() > MAX_TAG_NAME) {
            return Err(format!("its tag {tag:?} is longer than {MAX_TAG_NAME} bytes"));
        }
        if tags.len() > entry::MAX_TAGS {
            return Err(format!("it has {} tags, and may have {}", tags.len(), entry::MAX_TAGS));
        }
        let (format, packed) = match &loaded.carried {
            Carried::Absent => (Format::default(), codec::pack(Vec::new(), None)),
            Carried::Encoded(encoded) => {
                (encoded.format, codec::pack(encoded.payload.clone(), policy.compress_above))
            }
            Carried::Live(value) => {
                let mut payload = Vec::new();
                match self.source.encode(&self.request.cache.events, key, value, &mut payload) {
                    Some(format) => (format, codec::pack(payload, policy.compress_above)),
                    None => return Ok(None),
                }
            }
        };
        let kind = if absent { Kind::Absent } else { Kind::Value };
        let ages = policy.ages(absent, loaded.policy);
        let mut header = Header::new(kind, Fence::random(), incarnation);
        header.format = format;
        header.compressed = packed.compressed;
        header.stamps = stamps;
        header.schema = self.source.schema(format);
        header.created_ms = clock::now_ms();
        header.soft_ms = millis(ages.soft);
        header.hard_ms = millis(ages.hard);
        header.cost_us = u32::try_from(loaded.cost.as_micros()).unwrap_or(u32::MAX);
        let record = entry::write(&header, tags, &[], &packed.bytes);
        let most = self.source.region.max_value();
        if record.len() > most {
            return Err(format!("its entry has {} bytes, and the backend takes {most}", record.len()));
        }
        Ok(Some((Bytes::from(record), ages.hard)))
    }

    /// How much is wasted without leases decides whether there are to be any (`R20`).
    fn count_fill(&self, at: usize, stored: bool) {
        if let Some(pace) = &self.source.pace {
            let item = &self.items[at];
            pace.filled(&item.record, item.storable.is_unleased(), stored);
        }
    }

    /// Gives near what was stored of an item.
    fn fill_near(&mut self, at: usize, kept: bool) {
        let source = self.source.clone();
        let (item, now_ms) = (&mut self.items[at], Now::look().steady_ms);
        let (Some(near), Some(loaded)) = (&source.near, item.loaded.take()) else { return };
        let Tags::Named(tags) = &loaded.tags else { return };
        let absent = loaded.carried.is_absent();
        let keeps = source.policy.keeps(absent, loaded.policy);
        // Left alone: nothing was stored that could prove it. But the counts of changes, of clears and of the stripe are from
        // before the load, and whoever voids the key from then on changes one of them (R13).
        let current = kept || item.storable.is_left_alone();
        if !current || !keeps || item.storable.is_held() || matches!(item.way, Way::Alone) {
            return;
        }
        let soft = source.policy.ages(absent, loaded.policy).soft;
        let size = match &loaded.carried {
            Carried::Encoded(encoded) => encoded.payload.len(),
            Carried::Live(value) if near.by_bytes() => {
                let mut payload = Vec::new();
                if source.encode(&self.request.cache.events, &item.record, value, &mut payload).is_none() {
                    return;
                }
                payload.len()
            }
            _ => 0,
        };
        let tagged = !tags.is_empty() || !S::TAGS.is_empty();
        let entry = NearEntry {
            known: loaded.carried,
            until_ms: now_ms.saturating_add(millis(soft)),
            era: self.era,
            tagged,
            mark: item.mark,
            size: u32::try_from(size).unwrap_or(u32::MAX),
        };
        near.insert(item.key.clone(), source.near_entry(entry, now_ms), item.seen);
    }
}
