//! What happens beside the answers: faults and outages of the shared tier, and loaders that break their contract.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Fault;
use crate::guarded::guard;
use crate::limits::Shown;
use crate::report::counted;
use crate::sync::lock;

/// Something that an operator should be able to see. It is also given to `tracing`.
///
/// Faults of the shared tier reach callers in this form only: a broken cache is an event, not an error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An operation of the shared tier failed; reads went on to the source.
    SharedFault {
        /// The region.
        region: String,
        /// What was tried: `read`, `lease`, `fill`, `invalidate`, `ping`.
        operation: &'static str,
        /// Why it failed.
        fault: Fault,
    },
    /// An operation of the shared tier took longer than its soft budget.
    SharedSlow {
        /// The region.
        region: String,
        /// What took so long.
        operation: &'static str,
        /// How long.
        took: Duration,
        /// The soft budget, [`RegionPolicy::shared_soft_budget`](crate::RegionPolicy::shared_soft_budget).
        budget: Duration,
    },
    /// The breaker of a region opened: until it closes, reads and fills pass the shared tier over, and its faults are
    /// no events of their own. Invalidations are still sent.
    BreakerOpened {
        /// The region.
        region: String,
        /// How many of the recent operations had failed.
        failures: u32,
        /// Why the last of them did.
        fault: Fault,
    },
    /// An operation that was let through to try was answered: the shared tier is in use again.
    BreakerClosed {
        /// The region.
        region: String,
        /// How long the breaker was open.
        after: Duration,
    },
    /// The shared tier is out, and loads in its place wait for their turn. Emitted once per outage; loads that fail because
    /// their turn would come too late are no events of their own.
    LoadsHeldBack {
        /// The region.
        region: String,
        /// The source whose load was the first to wait.
        source: &'static str,
        /// How many loads per second the region's policy lets an outage add.
        per_second: u32,
    },
    /// A record was not one of ours, or damaged, or does not decode into the value of its source: it counted as a miss,
    /// and whoever misses replaces it. Said at most once a minute for each source and each fault.
    ForeignRecord {
        /// The source that asked.
        source: &'static str,
        /// The key in the shared tier.
        key: String,
        /// What was wrong with it.
        why: String,
        /// How many others with the same fault this source has met since that was said last.
        more: u64,
    },
    /// An entry says that it was made later than now, by more than [`clock::SKEW`](crate::clock::SKEW): the clock of this
    /// process is wrong, or that of the one that made it. Such entries count as misses and are replaced. Emitted once per source.
    ClocksDiffer {
        /// The source.
        source: &'static str,
        /// How far in the future it was made.
        ahead: Duration,
    },
    /// The shared tier holds entries of a source in another shape of its type: another version of the program runs beside this
    /// one, or did. Such an entry is a miss. For about a minute after it was written it is left to that version, and what
    /// is loaded here goes into near alone; then it is replaced. Emitted once per source; `Outcomes::other_shape` and the
    /// metric `mastaba_other_shape_total` count the keys.
    OtherShape {
        /// The source.
        source: &'static str,
    },
    /// A loader gave back a row under a key that it was not asked for; it was dropped.
    ForeignRow {
        /// The source.
        source: &'static str,
        /// The key of that row, as text.
        key: String,
    },
    /// A loader gave back two rows under one key; that key failed.
    DuplicateRow {
        /// The source.
        source: &'static str,
        /// The key of those rows, as text.
        key: String,
    },
    /// A load failed, panicked or took longer than its hard budget.
    LoadFailed {
        /// The source.
        source: &'static str,
        /// How many keys it was to load.
        keys: usize,
        /// Why.
        error: crate::Error,
    },
    /// One of two databases did not say how far it has come: see [`Checked`](crate::Checked). Loads read from the writer,
    /// and the reader is asked again every second. Said once, until it goes well again.
    ReaderNotRead {
        /// The source whose load found it.
        source: &'static str,
        /// Why.
        why: String,
    },
    /// A loader, or its hook, gave back errors for some of the keys of a load ([`Rows::fail`](crate::Rows::fail)); the
    /// others were answered. Said once per load.
    KeysFailed {
        /// The source.
        source: &'static str,
        /// How many keys failed.
        failed: usize,
        /// Of how many.
        keys: usize,
        /// Why the first of them did; it names the key.
        error: crate::Error,
    },
    /// A value has too many tags, or is larger than the backend takes; or it panicked while it was written, or `tags` did:
    /// it was not stored. A panic is said at most once a minute for each source.
    NotStored {
        /// The source.
        source: &'static str,
        /// Why.
        why: String,
    },
    /// A value would not come back from the shared tier as it is, or is nested too deep: it was not stored. The reads
    /// that it was loaded for have it; later ones load it again.
    ///
    /// Said once per source and reason, for the values of one type mostly share their fate.
    CannotBeStored {
        /// The source.
        source: &'static str,
        /// The type of its values.
        value: &'static str,
        /// Why.
        why: String,
    },
    /// The values of a source have fields that are read and never written, such as one with
    /// `#[serde(skip_serializing)]`: the requests that a value is loaded for see them, and later ones see their defaults.
    ///
    /// Said once per source, when such a value is first stored.
    FieldsNotStored {
        /// The source.
        source: &'static str,
        /// The type of its values.
        value: &'static str,
        /// The fields, each as `struct.field` or `enum.field`, with the names that serde knows.
        fields: Vec<String>,
    },
    /// The loader of a source used the stash of the request, or read a private source, and its own source is not
    /// [private](crate::Source::PRIVATE): what it made for one request may be given to others. Said in debug builds, once per
    /// source.
    NotPrivate {
        /// The source.
        source: &'static str,
        /// What its loader read.
        reads: String,
    },
    /// A write was dropped before it was published: it has invalidated nothing, and nobody knows whether it is committed.
    WriteDropped {
        /// How many keys, tags and regions it had collected.
        collected: usize,
        /// The sources of its keys.
        sources: Vec<&'static str>,
        /// Some of its keys, as text.
        sample: Vec<String>,
        /// The route of its request, or the name of its job, where it has one: see [`Cache::scope`](crate::Cache::scope).
        route: Option<String>,
    },
    /// The shared tier did not confirm an invalidation. It is kept and sent again until it is confirmed
    /// ([`InvalidationsConfirmed`](Self::InvalidationsConfirmed)); this process acts as if it had happened.
    InvalidationUnconfirmed {
        /// The region.
        region: String,
        /// The sources of its keys; none for tags and regions.
        sources: Vec<&'static str>,
        /// How many keys, tags and regions it names.
        collected: usize,
        /// Some of its keys, as text.
        sample: Vec<String>,
        /// The route of the request that wrote, or the name of its job, where it has one.
        route: Option<String>,
        /// Why it was not confirmed.
        fault: Fault,
    },
    /// The shared tier has confirmed every invalidation that was kept for it.
    InvalidationsConfirmed {
        /// The region.
        region: String,
        /// The sources of their keys; none for tags and regions.
        sources: Vec<&'static str>,
        /// How many keys, tags and regions they named.
        collected: usize,
        /// Some of their keys, as text.
        sample: Vec<String>,
        /// Some of the routes whose requests wrote, and of the names of jobs.
        routes: Vec<String>,
        /// How long after the first of them had failed.
        after: Duration,
    },
    /// The relay of an outbox voided what writes had left behind: their processes have died, or could not reach the shared
    /// tier.
    OutboxRelayed {
        /// The table.
        table: String,
        /// How many writes.
        writes: usize,
        /// How many keys, tags and regions they named.
        collected: usize,
    },
    /// The database of an outbox does not answer its relay, which goes on trying with growing pauses. Said once until it
    /// answers again ([`OutboxBack`](Self::OutboxBack)).
    OutboxAway {
        /// The table.
        table: String,
        /// Why.
        why: String,
    },
    /// The database of an outbox answers its relay again.
    OutboxBack {
        /// The table.
        table: String,
        /// How long it did not.
        after: Duration,
    },
    /// The relay of an outbox cannot read a row, or this process does not know its region. The row stays, for another
    /// version of the program or for a person. Said at most once a minute.
    OutboxUnread {
        /// The table.
        table: String,
        /// The `id` of the row.
        row: i64,
        /// Why.
        why: String,
        /// How many others it was since that was said last.
        more: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedFault { region, operation, fault } => {
                write!(f, "region {region}: {operation} failed: {fault}")
            }
            Self::SharedSlow { region, operation, took, budget } => {
                let (took, budget) = (Shown(*took), Shown(*budget));
                write!(f, "region {region}: {operation} took {took}, over its soft budget of {budget}")
            }
            Self::BreakerOpened { region, failures, fault } => {
                let failures = counted(*failures as usize, "failure");
                write!(f, "region {region}: the shared tier is passed over after {failures}: {fault}")
            }
            Self::BreakerClosed { region, after } => {
                write!(f, "region {region}: the shared tier answers again, after {after:.1?}")
            }
            Self::LoadsHeldBack { region, source, per_second } => write!(
                f,
                "region {region}: the shared tier is out, and loads wait for their turn, {per_second} per second \
                 (the first: source {source})"
            ),
            Self::ForeignRecord { source, key, why, more } => {
                write!(f, "source {source}: the record under {key} counts as a miss: {why}")?;
                write_more(f, *more)
            }
            Self::OtherShape { source } => write!(
                f,
                "source {source}: the shared tier holds entries in another shape of its type, as another version of the \
                 program writes it: they count as misses, and are replaced about a minute after they were written"
            ),
            Self::ClocksDiffer { source, ahead } => write!(
                f,
                "source {source}: an entry was made {} in the future, so the clock of this process is behind, or \
                 that of the one that made it is ahead: such entries count as misses",
                Shown(*ahead)
            ),
            Self::ForeignRow { source, key } => {
                write!(f, "source {source}: the loader gave back a row for {key}, which it was not asked for")
            }
            Self::DuplicateRow { source, key } => {
                write!(f, "source {source}: the loader gave back two rows for {key}")
            }
            Self::LoadFailed { source, keys, error } => {
                write!(f, "source {source}: a load of {} failed: {error}", counted(*keys, "key"))
            }
            Self::ReaderNotRead { source, why } => write!(
                f,
                "source {source}: how far the reader is behind the writer could not be found out, and loads read from the \
                 writer until it can: {why}"
            ),
            Self::KeysFailed { source, failed, keys, error } => {
                let keys = counted(*keys, "key");
                write!(f, "source {source}: {failed} of {keys} of a load failed, the first so: {error}")
            }
            Self::NotStored { source, why } => write!(f, "source {source}: a value was not stored: {why}"),
            Self::CannotBeStored { source, value, why } => write!(
                f,
                "source {source}: a value of type {value} cannot be stored, and is loaded again by every request: {why} \
                 (said once)"
            ),
            Self::FieldsNotStored { source, value, fields } => write!(
                f,
                "source {source}: a value of type {value} reads fields that it does not write: {}. Who loads it sees \
                 them, and later readers see their defaults (said once)",
                fields.join(", ")
            ),
            Self::NotPrivate { source, reads } => write!(
                f,
                "source {source}: its loader reads {reads}, so its rows depend on the request as well as on their \
                 keys: make what they depend on a part of the key, or set `Source::PRIVATE` (said once)"
            ),
            Self::WriteDropped { collected, sources, sample, route } => write!(
                f,
                "a write was dropped before it was published: {} not invalidated{}",
                were(*collected),
                Particulars { sources, sample, routes: route.as_slice() }
            ),
            Self::InvalidationUnconfirmed { region, sources, collected, sample, route, fault } => write!(
                f,
                "region {region}: the shared tier has not confirmed that {} invalidated, which is sent again{}: {fault}",
                were(*collected),
                Particulars { sources, sample, routes: route.as_slice() }
            ),
            Self::InvalidationsConfirmed { region, sources, collected, sample, routes, after } => write!(
                f,
                "region {region}: the shared tier has confirmed, {after:.1?} later, that {} invalidated{}",
                were(*collected),
                Particulars { sources, sample, routes }
            ),
            Self::OutboxRelayed { table, writes, collected } => write!(
                f,
                "outbox {table}: {} had been left behind, and {} invalidated for {}",
                counted(*writes, "write"),
                were(*collected),
                if *writes == 1 { "it" } else { "them" }
            ),
            Self::OutboxAway { table, why } => {
                write!(
                    f,
                    "outbox {table}: its database does not answer the relay, which goes on trying: {why}"
                )
            }
            Self::OutboxBack { table, after } => {
                write!(f, "outbox {table}: its database answers the relay again, after {after:.1?}")
            }
            Self::OutboxUnread { table, row, why, more } => {
                write!(
                    f,
                    "outbox {table}: the row with id {row} stays, for it cannot be relayed here: {why}"
                )?;
                write_more(f, *more)
            }
        }
    }
}

impl Event {
    /// The route of the request whose write it is about. As a field of the event, for the span that has it too is at level
    /// `DEBUG`: it costs something in every request, and this only where something is wrong.
    fn route(&self) -> Option<String> {
        let routes = match self {
            Self::WriteDropped { route, .. } | Self::InvalidationUnconfirmed { route, .. } => {
                route.as_slice()
            }
            Self::InvalidationsConfirmed { routes, .. } => routes,
            _ => &[],
        };
        (!routes.is_empty()).then(|| routes.join(", "))
    }
}

/// `3 keys, tags or regions were`.
fn were(collected: usize) -> String {
    match collected {
        1 => "1 key, tag or region was".to_owned(),
        more => format!("{more} keys, tags and regions were"),
    }
}

/// The sources of a write, some of its keys, and where it was made.
struct Particulars<'a> {
    sources: &'a [&'static str],
    sample: &'a [String],
    routes: &'a [String],
}

impl fmt::Display for Particulars<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.sources, self.sample) {
            ([], _) => {}
            (sources, []) => write!(f, " ({})", sources.join(", "))?,
            (sources, sample) => write!(f, " ({}: {}, ..)", sources.join(", "), sample.join(", "))?,
        }
        match self.routes {
            [] => Ok(()),
            routes => write!(f, ", written by {}", routes.join(", ")),
        }
    }
}

/// Where events go.
pub(crate) struct Events {
    listener: Option<Box<dyn Fn(&Event) + Send + Sync>>,
}

impl Events {
    pub(crate) fn new(listener: Option<Box<dyn Fn(&Event) + Send + Sync>>) -> Self {
        Self { listener }
    }

    #[allow(clippy::needless_pass_by_value)] // an event is made to be given away
    pub(crate) fn tell(&self, event: Event) {
        // neither a subscriber nor a listener takes a batch with it when it panics, nor the other one's event
        let said = guard(|| tracing::warn!(target: "mastaba", route = event.route(), "{event}"));
        let heard = self.listener.as_ref().map_or(Ok(()), |listener| guard(|| listener(&event)));
        if let (Ok(()), Err(why)) = (said, heard) {
            let _ = guard(|| tracing::warn!(target: "mastaba", "the listener of events panicked: {why}"));
        }
    }
}

/// What would be said at every read is said at most once a minute, with how often it was not said in between.
#[derive(Default)]
pub(crate) struct Seldom {
    /// Per cause: when it was said, and how often not since. Causes are a handful.
    said: Mutex<Vec<(&'static str, Instant, u64)>>,
}

const SELDOM: Duration = Duration::from_secs(60);

impl Seldom {
    /// Whether to say it now, and then how many went unsaid.
    pub(crate) fn is_due(&self, cause: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut said = lock(&self.said);
        let Some((_, last, unsaid)) = said.iter_mut().find(|(each, ..)| *each == cause) else {
            said.push((cause, now, 0));
            return Some(0);
        };
        if now.saturating_duration_since(*last) < SELDOM {
            *unsaid += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(unsaid))
    }
}

/// The end of a sentence about one of many.
pub(crate) fn write_more(out: &mut impl fmt::Write, more: u64) -> fmt::Result {
    if more == 0 { Ok(()) } else { write!(out, " (and {more} more like it since this was said last)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_again_and_again_is_said_once_a_minute_with_its_count() {
        let seldom = Seldom::default();
        assert_eq!(seldom.is_due("one"), Some(0));
        assert_eq!((1..=5).filter_map(|_| seldom.is_due("one")).count(), 0);
        assert_eq!(seldom.is_due("two"), Some(0), "each cause for itself");
        tokio::time::advance(SELDOM).await;
        assert_eq!(seldom.is_due("one"), Some(5));
        assert_eq!(seldom.is_due("one"), None);
    }
}
