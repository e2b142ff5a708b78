//! `mastaba get` and `mastaba explain`: what stands under a key, and what the next read would make of it.

mod payload;

use std::time::{Duration, UNIX_EPOCH};

use bytesize::ByteSize;
use mastaba::clock;
use mastaba::entry::{EntryRef, Format, Kind};
use mastaba::inspect::{EntryKey, Inspection, Prospect};
use serde::Serialize;
use serde_json::json;

use self::payload::Payload;
use crate::output::{Printed, Table};

/// What stands under a key. The names of its fields are those of the JSON, which stay.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    #[serde(flatten)]
    at: At,
    /// `value`, `absence`, `lease`, `hold`, `foreign`; nothing: nothing stands there.
    kind: Option<&'static str>,
    bytes: usize,
    /// Why the bytes are no entry of this version.
    foreign: Option<String>,
    header: Option<Head>,
    tags: Vec<TagStamp>,
    holders: Vec<HeldBy>,
    /// The value; or the one that a hold keeps.
    payload: Option<Payload>,
    prospect: Outlook,
}

/// Where it is.
#[derive(Debug, Serialize)]
struct At {
    /// As the store knows it.
    key: String,
    namespace: String,
    region: String,
    source: String,
    source_key: String,
}

/// What an entry says of itself. Times are milliseconds since the Unix epoch, ages milliseconds; `null` is for ever, or what
/// its kind does not have.
#[derive(Debug, Serialize)]
struct Head {
    /// Fences, incarnations, stamps and fingerprints are written in hexadecimal: numbers in JSON are not exact.
    fence: String,
    incarnation: String,
    of_this_store: bool,
    stamps: Option<String>,
    schema: Option<String>,
    created_ms: Option<u64>,
    age_ms: Option<u64>,
    soft_ms: Option<u64>,
    hard_ms: Option<u64>,
    load_cost_us: Option<u32>,
    format: Option<&'static str>,
    compressed_from_bytes: Option<u32>,
}

/// A tag of its own.
#[derive(Debug, Serialize)]
struct TagStamp {
    tag: String,
    stamp: String,
    /// Whether the stamp of the tag is still this one.
    holds: bool,
}

/// A write that holds the key.
#[derive(Debug, Serialize)]
struct HeldBy {
    holder: String,
    expires_in_ms: i64,
}

/// What the next read would make of it, and by what that was judged.
#[derive(Debug, Serialize)]
struct Outlook {
    /// One word that stays.
    verdict: &'static str,
    hit: bool,
    sentence: String,
    store_incarnation: String,
    /// The stamp of the region; nothing: it has none.
    generation: Option<String>,
    /// The write stamp of the key; nothing: there is none.
    write_stamp: Option<String>,
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

/// Nothing for ever.
fn finite(ms: u64) -> Option<u64> {
    (ms != u64::MAX).then_some(ms)
}

impl Found {
    pub(crate) fn of(place: &EntryKey, full_key: String, look: &Inspection) -> Self {
        let prospect = look.prospect();
        let mut found = Self {
            at: At {
                key: full_key,
                namespace: place.namespace().to_owned(),
                region: place.region().to_owned(),
                source: place.source().to_owned(),
                source_key: place.key().to_owned(),
            },
            kind: None,
            bytes: look.record.as_ref().map_or(0, bytes::Bytes::len),
            foreign: None,
            header: None,
            tags: Vec::new(),
            holders: Vec::new(),
            payload: None,
            prospect: Outlook {
                verdict: word(&prospect),
                hit: prospect.is_hit(),
                sentence: prospect.to_string(),
                store_incarnation: hex(look.incarnation & ((1 << 48) - 1)),
                generation: look.generation.map(hex),
                write_stamp: look.write_stamp.map(hex),
            },
        };
        match look.entry() {
            None => {}
            Some(Err(why)) => (found.kind, found.foreign) = (Some("foreign"), Some(why.to_string())),
            Some(Ok(entry)) => found.read(&entry, look),
        }
        found
    }

    fn read(&mut self, entry: &EntryRef<'_>, look: &Inspection) {
        let kind = entry.header().kind;
        self.kind = Some(match kind {
            Kind::Value => "value",
            Kind::Absent => "absence",
            Kind::Lease => "lease",
            Kind::Hold => "hold",
        });
        // of a hold the value is of interest that it keeps
        let kept = look.kept();
        let valued = if kind == Kind::Hold { kept.as_ref() } else { Some(entry) };
        self.header = Some(Head::of(entry, look));
        self.holders = entry
            .holders()
            .map(|holder| HeldBy {
                holder: hex(holder.id),
                expires_in_ms: i64::try_from(holder.expires_ms)
                    .unwrap_or(i64::MAX)
                    .saturating_sub_unsigned(look.store_ms),
            })
            .collect();
        let Some(valued) = valued else { return };
        let holds = |tag: &str, stamp| look.tags.get(tag) == Some(&Some(stamp));
        self.tags = valued
            .tags()
            .map(|(tag, stamp)| TagStamp { tag: tag.to_owned(), stamp: hex(stamp), holds: holds(tag, stamp) })
            .collect();
        if valued.header().kind == Kind::Value {
            self.payload = Some(Payload::of(valued));
        }
    }

    /// The word for what stands there.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        self.kind
    }

    /// Whether anything stands there.
    pub(crate) fn is_there(&self) -> bool {
        self.kind.is_some()
    }

    /// For `get`: what stands there.
    pub(crate) fn printed(&self) -> Printed {
        let mut table = Table::default();
        table.heading(&self.at.key);
        table.row("kind", &self.kind_in_words());
        if let Some(header) = &self.header {
            table.row(
                "size",
                &format!(
                    "{} with its header and its checksum, which is right",
                    ByteSize::b(self.bytes as u64).display().iec()
                ),
            );
            header.tell(&mut table);
        }
        self.tell_tags(&mut table);
        for holder in &self.holders {
            let left = holder.expires_in_ms;
            let when = if left < 0 {
                "has expired: its outcome is unknown".to_owned()
            } else {
                format!("expires in {left} ms")
            };
            table.row("held by", &format!("write {}, which {when}", holder.holder));
        }
        if let Some(payload) = &self.payload {
            payload.tell(&mut table);
        }
        table.row("next read", &self.prospect.sentence);
        Printed::new(table, json!(self))
    }

    /// For `explain`: what the next read would make of it, and what was compared.
    pub(crate) fn explained(&self) -> Printed {
        let mut table = Table::default();
        table.heading(&self.at.key);
        table.row("next read", &self.prospect.sentence);
        table.row("stored", &self.kind_in_words());
        let store = &self.prospect.store_incarnation;
        if let Some(header) = &self.header {
            let same = if header.of_this_store {
                "the same"
            } else {
                "another one: the store lost or brought back records"
            };
            table.row(
                "incarnation",
                &format!("{} in the entry, {store} of the store: {same}", header.incarnation),
            );
            header.tell_ages(&mut table);
        } else {
            table.row("incarnation", &format!("{store} of the store"));
        }
        let none = "none: nothing of the region is valid, and the next miss makes one";
        table.row("generation", self.prospect.generation.as_deref().unwrap_or(none));
        self.tell_tags(&mut table);
        let none = "none: nothing is stored there without a lease";
        table.row("write stamp", self.prospect.write_stamp.as_deref().unwrap_or(none));
        Printed::new(table, json!(self))
    }

    fn kind_in_words(&self) -> String {
        match (self.kind, &self.foreign) {
            (None, _) => "nothing is stored there".to_owned(),
            (_, Some(why)) => format!("{} bytes that are no entry of this version: {why}", self.bytes),
            (Some("value"), _) => "a value".to_owned(),
            (Some("absence"), _) => "an absence: there is no row".to_owned(),
            (Some("lease"), _) => "a lease: somebody loads it just now".to_owned(),
            (Some(_), _) => match &self.payload {
                Some(_) => "a hold: a write is under way; it keeps the value from before".to_owned(),
                None => "a hold: a write is under way; it keeps no value".to_owned(),
            },
        }
    }

    fn tell_tags(&self, table: &mut Table) {
        for tag in &self.tags {
            let state = if tag.holds {
                "which it still has"
            } else {
                "and has another one now, or none: it was voided"
            };
            table.row("tag", &format!("{:?} with the stamp {}, {state}", tag.tag, tag.stamp));
        }
    }
}

impl Head {
    fn of(entry: &EntryRef<'_>, look: &Inspection) -> Self {
        let header = entry.header();
        let valued = matches!(header.kind, Kind::Value | Kind::Absent);
        Self {
            fence: hex(header.fence.0),
            incarnation: hex(header.incarnation),
            of_this_store: header.is_of(look.incarnation),
            stamps: valued.then(|| hex(header.stamps)),
            schema: valued.then(|| format!("{:012x}", header.schema)),
            created_ms: valued.then_some(header.created_ms),
            age_ms: valued.then(|| clock::now_ms().saturating_sub(header.created_ms)),
            soft_ms: finite(header.soft_ms).filter(|_| valued),
            hard_ms: finite(header.hard_ms).filter(|_| valued),
            load_cost_us: valued.then_some(header.cost_us),
            format: (header.kind == Kind::Value).then_some(match header.format {
                Format::Postcard => "postcard",
                Format::MessagePack => "messagepack",
            }),
            compressed_from_bytes: header.compressed,
        }
    }

    fn tell(&self, table: &mut Table) {
        self.tell_ages(table);
        table.row("fence", &self.fence);
        table.row(
            "incarnation",
            &format!("{}{}", self.incarnation, if self.of_this_store { "" } else { ", of another store" }),
        );
        if let (Some(stamps), Some(schema)) = (&self.stamps, &self.schema) {
            table.row(
                "stamps",
                &format!("{stamps} (the generation of the region and the fixed tags, in one)"),
            );
            table.row("schema", schema);
        }
        if let Some(cost) = self.load_cost_us {
            let cost = humantime::format_duration(Duration::from_micros(cost.into()));
            table.row("cost of its load", &cost.to_string());
        }
        if let Some(raw) = self.compressed_from_bytes {
            table.row("compressed from", &format!("{raw} bytes"));
        }
    }

    fn tell_ages(&self, table: &mut Table) {
        let (Some(created), Some(age)) = (self.created_ms, self.age_ms) else { return };
        let time = |ms| humantime::format_duration(Duration::from_millis(ms)).to_string();
        // it writes years of four digits, and a damaged record may say any
        let at = match created < YEAR_10000_MS {
            true => humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(created)).to_string(),
            false => format!("{created} ms after 1970"),
        };
        table.row("made", &format!("{at}, {} ago", time(age)));
        let until = |ms: Option<u64>| match ms {
            None => "for ever".to_owned(),
            Some(ms) if ms > age => format!("for {} more, of {}", time(ms - age), time(ms)),
            Some(ms) => format!("no longer, for {}", time(age - ms)),
        };
        table.row("fresh", &until(self.soft_ms));
        table.row("kept", &until(self.hard_ms));
    }
}

/// The first moment that has no date of four digits.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

/// One word for programs.
fn word(prospect: &Prospect) -> &'static str {
    match prospect {
        Prospect::Nothing => "nothing",
        Prospect::Foreign(_) => "foreign",
        Prospect::OtherStore => "other-store",
        Prospect::Leased => "leased",
        Prospect::Held { .. } => "held",
        Prospect::Ahead { .. } => "ahead",
        Prospect::NoGeneration => "no-generation",
        Prospect::Cleared => "cleared",
        Prospect::TagVoided { .. } => "tag-voided",
        Prospect::Over => "over",
        Prospect::OtherTags => "other-tags",
        Prospect::Fresh { .. } => "fresh",
        Prospect::Soft => "soft",
        _ => "unknown",
    }
}
