//! What a request cost: trips, statements, batch sizes, waits, and where each answer came from.

mod budget;
pub(crate) mod kept;
mod meter;

use std::fmt::{self, Write as _};
use std::time::Duration;

pub use self::budget::Budget;
pub(crate) use self::kept::{Earlier, Trips};
pub(crate) use self::meter::{Meter, Metered};
use crate::limits::Shown;

/// Which tier an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Tier {
    /// The request's own map.
    Request,
    /// The in-process cache.
    Near,
    /// The shared cache.
    Shared,
    /// The source.
    Source,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Near => "near",
            Self::Shared => "shared",
            Self::Source => "source",
        })
    }
}

/// What a trip did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Read records of the shared tier.
    Read,
    /// Took the right to fill, and read the stamps that a fill carries.
    Lease,
    /// Stored what was loaded. Nobody waits for it.
    Fill,
    /// Removed records and renewed stamps.
    Invalidate,
    /// Held keys over a commit, so that nobody fills them.
    Hold,
    /// Ended holds.
    End,
    /// Loaded from the source.
    Load,
    /// Went to the database for other things than a load: a statement of a transaction, or its begin and end. See
    /// [`RequestCache::database_trip`](crate::RequestCache::database_trip).
    Database,
    /// Made sure that near has every notification of a change, and read no key.
    Ping,
}

impl Operation {
    /// Whether it goes to the source, or its database, and not to the shared tier.
    fn of_source(self) -> bool {
        matches!(self, Self::Load | Self::Database)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Lease => "lease",
            Self::Fill => "fill",
            Self::Invalidate => "invalidate",
            Self::Hold => "hold",
            Self::End => "end",
            Self::Load => "load",
            Self::Database => "database",
            Self::Ping => "ping",
        })
    }
}

/// One trip to the shared tier or to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trip {
    /// What it did.
    pub operation: Operation,
    /// The region; for a load the source; for the database what was done there.
    pub name: String,
    /// How many keys travelled.
    pub keys: usize,
    /// How many statements it was: 0 for the shared tier, 1 for a load whose loader did not count otherwise, 0 for the
    /// begin and the end of a transaction.
    pub statements: usize,
    /// When it began, counted from the start of the request.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// Whether the request waited for it. A fill and a refresh in the background are not waited for.
    pub waited: bool,
    /// Whether it failed.
    pub failed: bool,
}

/// How the keys of one source were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcomes {
    /// The name of the source.
    pub source: &'static str,
    /// Keys that the request knew.
    pub request_hits: u64,
    /// Keys that near knew.
    pub near_hits: u64,
    /// Keys that the shared tier knew.
    pub shared_hits: u64,
    /// Keys that came from the source: loaded for this request, or by a flight that it joined.
    pub loaded: u64,
    /// Of the loaded, those that a flight of another reader carried.
    pub joined: u64,
    /// Of the loaded, those that were loaded for this request without a lease, which saved a trip. See
    /// [`Policy::fill_without_lease`](field@crate::Policy::fill_without_lease).
    pub unleased: u64,
    /// Of all that were answered outside of the request, those that are absent.
    pub absent: u64,
    /// Of all that were answered outside of the request, those that were stale.
    pub stale: u64,
    /// Keys that failed.
    pub failed: u64,
    /// Keys that stood in the shared tier in another shape of the type, as another version of the program writes it: a miss,
    /// though the key was there. See [`Event::OtherShape`](crate::Event::OtherShape).
    pub other_shape: u64,
}

/// The cost of a request up to now. See [`RequestCache::report`](crate::RequestCache::report).
///
/// `Display` gives a table for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The latest 1,000 trips, in the order in which they ended. Those before them are left out here, and in the table
    /// that `Display` gives; everything that counts goes on to count them.
    pub trips: Vec<Trip>,
    pub(crate) earlier: Earlier,
    /// Per source, in the order of first use.
    pub outcomes: Vec<Outcomes>,
    /// Operations of the shared tier that were not tried, because the breaker of their region was open. They cost
    /// no trip, and what they would have read was taken as not known.
    pub passed_over: u64,
    /// How long the request has lived.
    pub elapsed: Duration,
}

impl Report {
    /// Trips to the shared tier that the request waited for.
    #[must_use]
    pub fn shared_trips(&self) -> usize {
        self.earlier.shared_trips + self.count(|trip| trip.waited && !trip.operation.of_source())
    }

    /// How many trips there were before those that are kept in [`trips`](Report::trips).
    #[must_use]
    pub fn earlier_trips(&self) -> usize {
        self.earlier.count
    }

    /// Reads of the shared tier.
    #[must_use]
    pub fn shared_reads(&self) -> usize {
        self.earlier.shared_reads + self.count(|trip| trip.operation == Operation::Read)
    }

    /// Statements that the request waited for.
    #[must_use]
    pub fn statements(&self) -> usize {
        let latest = self.trips.iter().filter(|trip| trip.waited).map(|trip| trip.statements);
        self.earlier.statements + latest.sum::<usize>()
    }

    /// Keys that were loaded from sources by this request, one by one: the statements of a program that
    /// asks for each as it meets it, and remembers nothing.
    #[must_use]
    pub fn keys_loaded(&self) -> usize {
        let latest = self.trips.iter().filter(|trip| trip.operation == Operation::Load).map(|trip| trip.keys);
        self.earlier.keys_loaded + latest.sum::<usize>()
    }

    /// How long the request waited for each: the shared tier, and the sources. Trips that travelled at the
    /// same time are counted once.
    #[must_use]
    pub fn waits(&self) -> (Duration, Duration) {
        let latest = |source: bool| {
            let of_kind =
                self.trips.iter().filter(move |trip| trip.waited && trip.operation.of_source() == source);
            of_kind.map(|trip| (trip.began, trip.began + trip.took))
        };
        (self.earlier.shared.total(latest(false)), self.earlier.source.total(latest(true)))
    }

    /// Whether the request has cost no more than this.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    /// use mastaba::Budget;
    ///
    /// let request = World::new().await.request();
    /// request.get::<UserById>(1).await?;
    /// request.get::<UserById>(2).await?; // one after the other: N+1 begins like this
    /// assert!(!request.report().is_within(Budget { trips: 2, statements: 1 }));
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn is_within(&self, budget: Budget) -> bool {
        budget.allows(self.shared_trips(), self.statements())
    }

    /// The value of a `Server-Timing` header: what each tier has answered up to now and how long the request
    /// waited for it, in milliseconds. Counts only: no key and no name of a source is in it.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let request = World::new().await.request();
    /// request.get_many::<UserById>(1..=20).await?;
    /// let header = request.report().server_timing(); // shared;dur=0.031;desc="2 trips", source;..
    /// assert!(header.contains("desc=\"1 statement\""), "{header}");
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn server_timing(&self) -> String {
        let mut header = String::with_capacity(128);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (shared, source) = self.waits();
        for (tier, hits) in [
            (Tier::Request, self.sum(|outcomes| outcomes.request_hits)),
            (Tier::Near, self.sum(|outcomes| outcomes.near_hits)),
        ] {
            if hits > 0 {
                let _ = write!(header, "{tier};desc=\"{}\", ", counted(hits as usize, "hit"));
            }
        }
        for (tier, waited, cost) in [
            (Tier::Shared, shared, counted(self.shared_trips(), "trip")),
            (Tier::Source, source, counted(self.statements(), "statement")),
        ] {
            let _ = write!(header, "{tier};dur={:.3};desc=\"{cost}\", ", ms(waited));
        }
        let _ = write!(header, "total;dur={:.3}", ms(self.elapsed));
        header
    }

    /// The source with the most statements that the request waited for, and how many.
    #[must_use]
    pub fn worst_source(&self) -> Option<(&str, usize)> {
        self.worst_sources().into_iter().next()
    }

    /// The sources with the most statements that the request waited for, the worst first.
    pub(crate) fn worst_sources(&self) -> Vec<(&str, usize)> {
        let earlier = self.earlier.by_source.iter();
        let mut sources: Vec<(&str, usize)> = earlier.map(|(name, count)| (name.as_str(), *count)).collect();
        for trip in self.trips.iter().filter(|trip| trip.waited && trip.operation.of_source()) {
            match sources.iter_mut().find(|(name, _)| *name == trip.name) {
                Some((_, statements)) => *statements += trip.statements,
                None => sources.push((&trip.name, trip.statements)),
            }
        }
        sources.sort_by_key(|(_, statements)| std::cmp::Reverse(*statements));
        sources
    }

    /// A count of [`Outcomes`], over all sources.
    pub(crate) fn sum(&self, count: impl Fn(&Outcomes) -> u64) -> u64 {
        self.outcomes.iter().map(count).sum()
    }

    /// Panics, with the whole table, if the request has cost more than this.
    ///
    /// # Panics
    /// If the request made more trips or statements than the budget allows.
    #[track_caller]
    pub fn assert_at_most(&self, budget: Budget) {
        let over = budget.over(self.shared_trips(), self.statements());
        assert!(over.is_none(), "the request {}\n{self}", over.unwrap_or_default());
    }

    fn count(&self, which: impl Fn(&Trip) -> bool) -> usize {
        self.trips.iter().filter(|trip| which(trip)).count()
    }
}

/// `1 trip`, `2 trips`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shared, source) = self.waits();
        writeln!(
            f,
            "{} ({}), {} ({}), {} in all",
            counted(self.shared_trips(), "trip"),
            Shown(shared),
            counted(self.statements(), "statement"),
            Shown(source),
            Shown(self.elapsed),
        )?;
        if self.passed_over > 0 {
            let times = counted(self.passed_over as usize, "time");
            writeln!(f, "  shared tier passed over {times}: breaker open")?;
        }
        if !self.outcomes.is_empty() {
            writeln!(
                f,
                "  {:24} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
                "source", "request", "near", "shared", "loaded", "joined", "absent", "stale", "failed"
            )?;
        }
        for o in &self.outcomes {
            writeln!(
                f,
                "  {:24} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
                o.source,
                o.request_hits,
                o.near_hits,
                o.shared_hits,
                o.loaded,
                o.joined,
                o.absent,
                o.stale,
                o.failed
            )?;
        }
        for o in self.outcomes.iter().filter(|o| o.other_shape > 0) {
            let keys = counted(o.other_shape as usize, "key");
            writeln!(f, "  {keys} of {} stood in the shared tier in another shape of the type", o.source)?;
        }
        for o in self.outcomes.iter().filter(|o| o.unleased > 0) {
            let keys = counted(o.unleased as usize, "key");
            writeln!(f, "  {keys} of {} went to the source without a lease", o.source)?;
        }
        match self.earlier.count {
            0 => {}
            1 => writeln!(f, "  1 earlier trip is not listed")?,
            count => writeln!(f, "  {count} earlier trips are not listed")?,
        }
        for trip in &self.trips {
            writeln!(
                f,
                "  {:>10}  {:10} {:24} {:>6} {:4} {:>10}{}{}",
                Shown(trip.began),
                trip.operation,
                trip.name,
                trip.keys,
                if trip.keys == 1 { "key" } else { "keys" },
                Shown(trip.took),
                if trip.waited { "" } else { "  in the background" },
                if trip.failed { "  FAILED" } else { "" },
            )?;
        }
        Ok(())
    }
}
