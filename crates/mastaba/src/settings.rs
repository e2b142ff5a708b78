//! The table of settings. A row is all that there is to say of one: its doc, its name, its type, its default, how a
//! configuration writes that default, and what it may be.
//!
//! Everything else is made of these rows: the fields of [`Policy`](crate::Policy) and
//! [`RegionPolicy`](crate::RegionPolicy), their defaults, their setters and those of [`Region`](crate::Region), their
//! checks, the names in a configuration, and what it reads. The page on settings of the book is held against them by a test: a setting
//! is added here and on that page.
//!
//! Each macro hands its rows to another one: `of_sources! { declare .. }` is `declare! { .. rows }`, and
//! `of_sources! { of_regions readable .. }` is `readable! { .. rows of sources, rows of regions }`.

/// What a region says for its sources, and each of them may say for itself.
macro_rules! of_sources {
    ($then:ident $($given:tt)*) => { $then! { $($given)*
        /// How long a value is fresh.
        ttl: Duration = Duration::from_secs(300), "5min",
            Span::AboveZero("to keep nothing, use the backend \"null\"");
        /// How long an absence is fresh; it is never served stale. Zero: it is not kept outside of the request.
        absent_ttl: Duration = Duration::from_secs(30), "30s", Span::Any;
        /// How long after `ttl` a value is still served, while it is refreshed in the background.
        stale: Duration = Duration::ZERO, "0s", Span::Any;
        /// How long after `ttl` a value is still served when the source fails, or has not answered within
        /// `source_soft_budget`.
        stale_if_error: Duration = Duration::ZERO, "0s", Span::Any;
        /// By how much each time to live is shortened at random, so that what was loaded together does not expire
        /// together: a share of it, 0 to 1.
        jitter: f64 = 0.1, "0.1", Share;
        /// How eagerly a fresh value is refreshed before it expires, in proportion to what its load cost (XFetch:
        /// Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", 2015). Zero: never.
        early_refresh: f64 = 1.0, "1", Factor;
        /// The most keys of one call of the loader; the parts of a larger batch are loaded at the same time.
        max_batch: usize = 1000, "1000", Count;
        /// How long what was asked together waits for the slowest load of its batch, and how long a key that
        /// `stale_if_error` covers waits for its own.
        source_soft_budget: Duration = Duration::from_millis(100), "100ms", Span::Any;
        /// Past this a load has failed.
        source_budget: Duration = Duration::from_secs(10), "10s",
            Span::AboveZero("nothing could ever be loaded");
        /// How long the right to fill stands. Longer than most loads.
        lease_ttl: Duration = Duration::from_secs(15), "15s", Span::Interval("nothing could ever be filled");
        /// How long a miss that another process is loading waits for that process's fill, before it loads under the same
        /// fence itself (`R3`). Zero: not at all.
        lease_patience: Duration = Duration::from_millis(500), "500ms", Span::Any;
        /// Whether a miss whose load is cheap goes to the source without a lease, which saves a trip (`R20`): then several
        /// processes may load a key at the same time. Switch it off where others than Mastaba delete keys of the store: such a
        /// fill does not notice that, and may bring a value back that was read before.
        fill_without_lease: bool = true, "true", Switch;
        /// Payloads larger than this many bytes are compressed. `None`, which is written `never`: none is.
        compress_above: Option<u64> = Some(4096), "4096", SizeOrNever;
    } };
}
pub(crate) use of_sources;

/// What is of a region as a whole: its sources share it.
macro_rules! of_regions {
    ($then:ident $($given:tt)*) => { $then! { $($given)*
        /// Past this an operation of the shared tier is called slow, in an event.
        shared_soft_budget: Duration = Duration::from_millis(50), "50ms", Span::Any;
        /// Past this the shared tier counts as knowing nothing.
        shared_budget: Duration = Duration::from_millis(500), "500ms",
            Span::AboveZero("nothing could ever be read");
        /// After so many failures of the shared tier in a row, or half of four times as many operations, it is passed
        /// over: nobody waits for it until it answers again. At most 64; zero: never.
        breaker_failures: u32 = 5, "5", UpTo(64);
        /// How long the shared tier is passed over before one operation tries again. Doubles while that fails, up to 30
        /// seconds, and is shortened at random by up to a quarter.
        breaker_pause: Duration = Duration::from_secs(1), "1s",
            Span::Interval("for no breaker at all, set breaker_failures to 0");
        /// How many loads per second may begin because the shared tier is out, in the region and in this process; a tenth
        /// of them at once. A load over it waits for its turn, within its `source_budget`. Loads while the shared tier
        /// answers are not counted. `None`, which is written `unlimited`: any number.
        outage_loads_per_second: Option<u32> = Some(500), "500",
            CountOrUnlimited("nothing could be loaded while the shared tier is out");
        /// What a write does before its commit.
        write_mode: WriteMode = WriteMode::Simple, "simple", Mode;
        /// How long the holds of a write stand when nobody ends them: a writer that dies sends the readers of its keys to
        /// the source for so long. Renewed while the commit takes longer.
        hold_ttl: Duration = Duration::from_secs(15), "15s", Span::Interval("no key could ever be held");
    } };
}
pub(crate) use of_regions;

/// What a configuration says of near, under `near.`; its default is written only. Without any of them there is no near.
macro_rules! of_near {
    ($then:ident $($given:tt)*) => { $then! { $($given)*
        /// The most entries that it holds, per source.
        max_entries: u64, "10000", Count;
        /// The most bytes that its entries take, per source, in place of `max_entries`.
        max_bytes: u64, "", Size;
        /// No entry is served from it for longer, however long the shared tier keeps it.
        ttl: Duration, "", Span::OF_NEAR;
        /// How current it is where other processes write to the shared tier.
        coherence: Coherence, "1s", Lag;
    } };
}
pub(crate) use of_near;
