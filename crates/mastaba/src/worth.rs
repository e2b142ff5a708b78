//! What one record of the shared tier is worth, before anybody looks into its payload: pure, and the same for the reads of
//! a program and for who explains them ([`inspect`](crate::inspect)).

use std::time::Duration;

use crate::clock::Now;
use crate::codec::fingerprint;
use crate::entry::{EntryRef, Fence, Fields, Foreign, Kind};
use crate::lease;
use crate::region::Stamps;

/// What records are weighed by.
pub(crate) struct Scales<'a> {
    /// The stamps that were read with the record (`R12`).
    pub(crate) stamps: &'a Stamps,
    /// Those that every entry of the source stands under, as one number.
    pub(crate) folded: Option<u64>,
    /// What the store is (`R11`).
    pub(crate) incarnation: u64,
}

/// What a record is worth.
pub(crate) enum Worth<'r> {
    /// No entry that this program can use.
    Foreign(Foreign),
    /// Of a store that lost or brought back records (`R11`).
    OtherStore(Fence),
    /// Somebody loads it (`R3`).
    Lease(Fence),
    /// Somebody writes it, and nothing is kept that could be served.
    Held,
    /// A value or an absence, on its own or kept by a hold.
    Valued(Valued<'r>),
}

/// A value or an absence, and what it is worth.
pub(crate) struct Valued<'r> {
    pub(crate) entry: EntryRef<'r>,
    /// A hold keeps it: it is served, and nothing is made of it.
    pub(crate) kept: bool,
    pub(crate) state: Soundness<'r>,
}

/// Whether a value may be used.
pub(crate) enum Soundness<'r> {
    /// It was made so far in the future that one of two clocks is wrong.
    Ahead(Duration),
    /// It is over.
    Void(Void),
    /// It has another shape of the type, and is so many milliseconds old.
    OtherShape(u64),
    /// It is as good as these tags, whose stamps were not read with it.
    Sound {
        unproven: Vec<(&'r str, u64)>,
        /// It stands under a tag of its own, whether its stamp was read with it or not.
        tagged: bool,
    },
}

/// Why a value is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Void {
    /// The region was cleared, or one of the fixed tags voided.
    Stamps,
    /// A tag of its own was voided.
    Tag,
    /// It is past its age.
    Age,
}

impl Scales<'_> {
    /// Weighs a record. `now` is looked at again where the record is newer.
    ///
    /// `schema` is the number of the shape that is asked for; `serves`: for a hold, what time it is for the store, where what
    /// holds keep goes on to be served.
    pub(crate) fn weigh<'r>(
        &self,
        record: &'r [u8],
        schema: impl FnOnce(Fields<'_>) -> u64,
        serves: impl FnOnce() -> Option<u64>,
        now: &mut Now,
    ) -> Worth<'r> {
        let entry = match EntryRef::read(record) {
            Ok(entry) => entry,
            Err(why) => return Worth::Foreign(why),
        };
        let fields = entry.fields();
        if !fields.is_of(self.incarnation) {
            return Worth::OtherStore(fields.fence());
        }
        let (entry, kept) = match fields.kind() {
            Kind::Lease => return Worth::Lease(fields.fence()),
            Kind::Hold => {
                // Write mode `Serve`: while a key is held, what it held before goes on to be served.
                let kept = serves().and_then(|store_ms| lease::kept(&entry, store_ms));
                let valued = |kept: &EntryRef<'_>| {
                    let fields = kept.fields();
                    fields.is_of(self.incarnation) && matches!(fields.kind(), Kind::Value | Kind::Absent)
                };
                match kept.filter(valued) {
                    Some(entry) => (entry, true),
                    None => return Worth::Held,
                }
            }
            Kind::Value | Kind::Absent => (entry, false),
        };
        Worth::Valued(Valued { entry, kept, state: self.state(&entry, schema, now) })
    }

    fn state<'r>(
        &self,
        entry: &EntryRef<'r>,
        schema: impl FnOnce(Fields<'_>) -> u64,
        now: &mut Now,
    ) -> Soundness<'r> {
        let fields = entry.fields();
        let age = match age(fields.created_ms(), now) {
            Ok(age) => age,
            Err(ahead) => return Soundness::Ahead(ahead),
        };
        let schema = schema(fields);
        let absent = fields.kind() == Kind::Absent;
        // whether what a version of the program with other fixed tags wrote is outdated is for that version to say
        if same_tags(fields.schema(), schema) && self.folded != Some(fields.stamps()) {
            return Soundness::Void(Void::Stamps);
        }
        let mut unproven = Vec::new();
        let mut tagged = false;
        for (tag, stamp) in entry.tags() {
            tagged = true;
            match self.stamps.tags.get(tag) {
                Some(now) if *now != Some(stamp) => return Soundness::Void(Void::Tag),
                Some(_) => {}
                None => unproven.push((tag, stamp)),
            }
        }
        if age >= fields.hard_ms() || (absent && age >= fields.soft_ms()) {
            return Soundness::Void(Void::Age);
        }
        if fields.schema() != schema {
            return Soundness::OtherShape(age);
        }
        Soundness::Sound { unproven, tagged }
    }
}

/// When a value is past its soft age, in milliseconds since the Unix epoch.
pub(crate) fn soft_until_ms(fields: Fields<'_>) -> u64 {
    fields.created_ms().saturating_add(fields.soft_ms())
}

/// For how many milliseconds more a value is fresh; zero: it is past its soft age.
pub(crate) fn left_ms(soft_until_ms: u64, now: Now) -> u64 {
    soft_until_ms.saturating_sub(now.unix_ms)
}

/// Whether two schema numbers are of the same fixed tags, so that the stamps beside them can be compared.
fn same_tags(one: u64, other: u64) -> bool {
    (one ^ other) & TAG_BITS == 0
}

/// A schema number: 40 bits for the type, and 8 for the names of the fixed tags.
pub(crate) fn schema_number(of_type: u64, tags: u8) -> u64 {
    ((of_type << 8) & ((1 << 48) - 1)) | u64::from(tags)
}

/// The number of the names of fixed tags.
pub(crate) fn number_of_tags(tags: &[&str]) -> u8 {
    fingerprint(&tags.join("\n")).to_le_bytes()[0]
}

/// The bits of a schema number that say which the fixed tags are.
pub(crate) const TAG_BITS: u64 = 0xff;

/// How old an entry is, in milliseconds; or how far ahead it was made, for one of two clocks is wrong.
fn age(created_ms: u64, now: &mut Now) -> Result<u64, Duration> {
    if let Some(age) = now.age_ms(created_ms) {
        return Ok(age);
    }
    // it may have been made while this read waited
    *now = Now::look();
    now.age_ms(created_ms).ok_or_else(|| Duration::from_millis(created_ms.saturating_sub(now.unix_ms)))
}
