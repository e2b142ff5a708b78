//! `mastaba invalidate` and `mastaba clear`: voids what a person names as a write of a program would. It is a cache of its own
//! without a source, so whatever the library does with an invalidation is done: write stamps are renewed (`R16`), holds forget
//! what they keep, and a server that notifies tells near of every running process.

use std::time::{Duration, Instant};

use mastaba::inspect::{EntryKey, RegionInspection};
use mastaba::{Cache, FOREVER, Outgoing, Region};
use serde::Serialize;
use serde_json::json;

use crate::output::{Printed, Table};
use crate::trouble::Trouble;

/// A person waits longer than a request.
pub(crate) const BUDGET: Duration = Duration::from_secs(10);

/// What was voided. The names of its fields are those of the JSON, which stay.
#[derive(Debug, Serialize)]
pub(crate) struct Voided {
    namespace: String,
    region: String,
    /// Keys, as the store knows them.
    keys: Vec<VoidedKey>,
    tags: Vec<String>,
    /// The whole region.
    cleared: bool,
    /// Whether the store had a stamp of the region, for `clear`: without one nothing of it was valid, or nobody has a region of this name.
    region_known: Option<bool>,
    /// Those of the tags of which it had none.
    tags_unknown: Vec<String>,
    /// How the regions of the store are found.
    #[serde(skip)]
    listing: String,
    /// In microseconds, for all of them.
    took_us: u64,
}

/// What became of a key.
#[derive(Debug, Serialize)]
pub(crate) struct VoidedKey {
    pub(crate) key: String,
    /// What stood there before: one of the kinds of `get`, or nothing.
    pub(crate) before: Option<&'static str>,
}

/// What is to be voided in a region.
pub(crate) enum Target {
    Keys(Vec<EntryKey>, Vec<VoidedKey>),
    Tags(Vec<String>),
    Region,
}

/// Voids it, and waits for the store to confirm that.
pub(crate) async fn void(
    store: Region,
    namespace: &str,
    region: &str,
    target: Target,
) -> Result<Voided, Trouble> {
    // the stamp of a tag is kept for as long as any source of the region could need it, which is not known here
    let policy = store.shared_budget(BUDGET).ttl(FOREVER);
    let built = Cache::builder().namespace(namespace).region(region, policy).build().await;
    let cache = built.map_err(|error| Trouble::new("config", &error.to_string()))?;
    let pieces = match &target {
        Target::Keys(places, _) => Outgoing::of_keys(places),
        Target::Tags(tags) => Outgoing::of_tags(namespace, region, tags),
        Target::Region => vec![Outgoing::of_region(namespace, region)],
    };
    let begun = Instant::now();
    let published = cache.void(&pieces).await.map_err(|error| Trouble::new("config", &error.to_string()))?;
    let took = begun.elapsed();
    if !published.is_confirmed() {
        let why = published.error().map_or_else(|| "it was not confirmed".to_owned(), ToString::to_string);
        let sentence = format!("not confirmed, so it may be done or not: {why}. Do it again");
        return Err(Trouble::new("unconfirmed", &sentence));
    }
    let (keys, tags, cleared) = match target {
        Target::Keys(_, keys) => (keys, Vec::new(), false),
        Target::Tags(tags) => (Vec::new(), tags, false),
        Target::Region => (Vec::new(), Vec::new(), true),
    };
    let (namespace, region) = (namespace.to_owned(), region.to_owned());
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let (region_known, tags_unknown, listing) = (None, Vec::new(), String::new());
    Ok(Voided { namespace, region, keys, tags, cleared, region_known, tags_unknown, listing, took_us })
}

impl Voided {
    /// What the store knew before.
    pub(crate) fn know(&mut self, before: &RegionInspection, listing: String) {
        let unknown = before.tags.iter().filter(|(_, stamp)| stamp.is_none());
        self.tags_unknown = unknown.map(|(tag, _)| tag.clone()).collect();
        self.region_known = Some(before.generation.is_some());
        self.listing = listing;
    }

    /// Whether nobody may have a region of this name.
    pub(crate) fn is_of_nobody(&self) -> bool {
        self.region_known == Some(false)
    }
}

/// What was done, region by region.
pub(crate) fn printed(all: &[Voided]) -> Printed {
    let mut table = Table::default();
    for voided in all {
        table.heading(&format!("{}:{}", voided.namespace, voided.region));
        for VoidedKey { key, before } in &voided.keys {
            let before = match before {
                None => "nothing stood there; a load that is under way is not stored",
                Some("value") => "voided: a value",
                Some("absence") => "voided: an absence",
                Some("lease") => "voided: a lease; the load of it that is under way is not stored",
                Some("hold") => "a write holds it and goes on to; the value that it kept is forgotten",
                Some(_) => "removed: no entry of this version",
            };
            table.row("key", &format!("{key}: {before}"));
        }
        for tag in &voided.tags {
            let what = match voided.tags_unknown.contains(tag) {
                true => {
                    "the store knows no such tag of this region, so no entry with it was valid; is it spelt right?"
                }
                false => "all entries with it are void; they go when their time is over",
            };
            table.row("tag", &format!("{tag}: {what}"));
        }
        if voided.is_of_nobody() {
            table.row(
                "region",
                "NOT FOUND: the store has no stamp of a region of this name, so no entry of it was valid. Is the name right? If it \
                 is, nothing was stored, or the stamp was evicted, which voids the same; or the region has a mangler: then \
                 clear it from the program",
            );
            table.row("its regions", &voided.listing);
        } else if voided.cleared {
            table.row("region", "all of its entries are void; they go when their time is over");
        }
        let near = "near of every process is told, where the server notifies";
        table.row("confirmed", &format!("in {:.2} ms; {near}", voided.took_us as f64 / 1000.0));
    }
    Printed::new(table, json!(all))
}
