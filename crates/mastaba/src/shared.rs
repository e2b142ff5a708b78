//! The contract of every backend of the shared tier: records of bytes, fences, stamps.
//!
//! A backend stores *records* under keys. It never looks into a payload; of a record it understands only
//! what [`crate::entry`] reads of it: its kind, its fence, its holders. The rules of the consistency protocol
//! that a backend has to keep are these, and the conformance suite in `mastaba-test` checks each of them:
//!
//! * each operation on one key is atomic; across keys nothing is promised;
//! * a [fill](Shared::fill) is a compare-and-set on exactly the fence that the reader saw (`R1`);
//! * an [invalidation](Shared::invalidate) that has returned `Ok` is seen by everything that starts later,
//!   also by a later process on the same store, and it voids every lease;
//! * where the backend keeps [stamps](Shared::stamps), every invalidation, hold and end renews the stamp of each of its keys,
//!   and a fill without a lease is a compare-and-set on that stamp (`R15` to `R18`);
//! * the backend's own expiry is the only clock that safety rests on.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock;
use crate::entry::Fence;
use crate::error::Fault;

#[cfg(feature = "connections")]
pub mod connections;
#[cfg(feature = "embedded")]
pub mod embedded;
pub(crate) mod erased;
pub(crate) mod guard;
pub mod memory;
pub mod null;
pub mod stamps;

/// A backend of the shared tier.
///
/// Every method is one trip for all that it is given, and is called with at most
/// [`Abilities::max_batch`] keys. Keys are distinct within a call, except in a read. Answers are in the order of what was
/// asked. An `Err` says that the outcome of the *whole call* is unknown: some of it may have happened.
/// Callers treat a failed read as "knows nothing" and never fill after a failed lease.
///
/// Dropping a returned future may leave the operation done, undone, or still under way; the protocol
/// allows for each of them.
pub trait Shared: Send + Sync + 'static {
    /// What this backend can do, known from its type alone.
    const ABILITIES: Abilities;

    /// What this very store can do: less than [`ABILITIES`](Shared::ABILITIES) where a server turned out to lack something.
    ///
    /// Asked once, when a cache is built; it makes no trip and does not wait. What is lost later, an operation answers with
    /// a [`Fault`].
    fn abilities(&self) -> Abilities {
        Self::ABILITIES
    }

    /// Reads records. Stamps are read like any other record (eight bytes, little-endian).
    ///
    /// A record past its time to live is `None`.
    fn read(&self, keys: &[Bytes]) -> impl Future<Output = Result<Vec<Option<Bytes>>, Fault>> + Send;

    /// Takes the right to fill (for keys that the read missed), and reads the stamps that a fill will carry.
    ///
    /// A lease is placed where there is no record, or where the record's fence is [`Lease::over`]. A stamp
    /// that is missing becomes the one given (`R12`). Both before this returns, hence before any load that
    /// the caller begins (`R4`).
    fn lease(&self, leases: &[Lease], stamps: &[Stamp])
    -> impl Future<Output = Result<Leases, Fault>> + Send;

    /// Stores records where the fence is still the expected one (`R1`).
    fn fill(&self, fills: &[Fill]) -> impl Future<Output = Result<Vec<Filled>, Fault>> + Send;

    /// Sets `stamps`, in their order, and then removes `keys` with every lease on them.
    ///
    /// A hold is not removed, but it forgets the value that it kept. `Ok` means durable: neither a crash of
    /// the process nor one of the machine brings a removed record back.
    ///
    /// Of a key with a [write stamp](Shared::stamps), that is renewed before the key is removed, and after every key before it
    /// was removed: pairs, in the order of the keys (`R16`, `R18`). Where it could not be renewed the key is removed all the
    /// same, and the answer is an error. Whoever sends it again draws a new number.
    fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Places holds: until its end or its expiry nobody can fill the key (`R7`). Voids leases and values.
    ///
    /// Meanwhile a read, or a lease, finds an entry of [`Kind::Hold`](crate::entry::Kind::Hold) with what is
    /// kept as its payload. `Ok` means durable.
    ///
    /// The [write stamp](Shared::stamps) of each key is renewed with its hold or after it; where it could not be, the answer is
    /// an error (`R17`).
    fn hold(&self, holds: &[Hold]) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Ends holds. An end removes only its own hold (`R9`).
    ///
    /// What was kept comes back only if every hold since ended in a rollback, in time (`R10`). A commit whose
    /// hold has expired removes whatever has come to stand there since. `Ok` means durable.
    ///
    /// The end of a commit renews the [write stamp](Shared::stamps) of its key before it changes anything else (`R17`).
    fn end(&self, ends: &[End]) -> impl Future<Output = Result<Vec<Ended>, Fault>> + Send;

    /// From now on keeps the write stamps of the keys that begin with `prefix` in a record under the key `record`
    /// ([`stamps`]), and renews the stamp of a key with every invalidation, every hold and every end of a commit. Whether it
    /// does: otherwise nobody fills there without a lease, and nothing else is asked of it.
    ///
    /// Called once per region, before its first read, whether the region fills without leases or not: another process may.
    /// A [read](Shared::read) gives the record like any other one. A [lease](Shared::lease) for a stamp with its key makes the
    /// record anew unless it [is whole](stamps::is_whole), and the number in its answer means nothing. It does not expire.
    fn stamps(&self, prefix: &[u8], record: &Bytes) -> bool {
        let (_, _) = (prefix, record);
        false
    }

    /// The incarnation of the store (`R11`): random, new whenever records may have been lost or brought
    /// back. A record of another incarnation is a miss.
    fn incarnation(&self) -> u64;

    /// Whether the backend can work on the runtime that the caller is on.
    ///
    /// Asked once per cache and runtime, before the first trip from there. An error fails every read and write there as
    /// one of usage, so its sentence says what the runtime lacks and what to call. It makes no trip and does not wait.
    ///
    /// A backend may be used from several runtimes, one after the other and at the same time. What it keeps on one of
    /// them (a task, a connection) is gone with it, and stands still when nobody drives it.
    fn runs_here(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// A key as the store itself knows it, where that is another one: with a prefix that the backend puts before each. For
    /// people who look it up there ([`Cache::key_of`](crate::Cache::key_of)).
    fn full_key(&self, key: &Bytes) -> Bytes {
        key.clone()
    }

    /// The largest record that it takes, in bytes, where only the store itself says that: at most
    /// [`Abilities::max_value`]. A larger one is not stored, which is an event.
    fn max_value(&self) -> usize {
        Self::ABILITIES.max_value
    }

    /// What time it is for the store, in milliseconds since the Unix epoch: what the expiries in a
    /// [hold](crate::entry::Holder) are compared with by whoever reads it. The clock of this process, unless the store has
    /// one of its own.
    fn now_ms(&self) -> u64 {
        clock::now_ms()
    }

    /// From now on notifies `listener` of every change, by anybody, of a record whose key begins with `prefix`.
    ///
    /// Called once per region, before its first read. No notification is needed for what this very backend changes, unless it
    /// could suppress that of a change by somebody else: a lease that is placed right after the record was removed, for one.
    /// Of such a change the listener is notified before the call that made it returns. A backend without notifications
    /// ([`Abilities::tells`]) ignores it.
    fn listen(&self, prefix: &[u8], listener: Arc<dyn Listener>) {
        let (_, _) = (prefix, listener);
    }

    /// Waits until the listeners were notified of every change that was acknowledged to anybody before this call: one ping on
    /// every connection that carries notifications, and the end of the own changes that were begun before it.
    fn catch_up(&self) -> impl Future<Output = Result<(), Fault>> + Send {
        async { Ok(()) }
    }

    /// Makes what was accepted durable and lets go of the store. Later calls may fail.
    fn close(&self) -> impl Future<Output = Result<(), Fault>> + Send {
        async { Ok(()) }
    }
}

/// What a backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Its name in configurations and reports.
    pub name: &'static str,
    /// Who else may write to the store.
    pub reach: Reach,
    /// Whether it notifies [listeners](Shared::listen) of what others change: what near needs where there are others.
    pub tells: bool,
    /// Whether it keeps anything at all. Where it does not, it is never called.
    pub stores: bool,
    /// Whether it can hold keys over a commit.
    pub holds: bool,
    /// The longest key, in bytes. A longer one is hashed.
    pub max_key: usize,
    /// The largest record, in bytes. A larger one is not stored. A store may take [less](Shared::max_value).
    pub max_value: usize,
    /// The most keys of one call. A larger batch is cut, and its parts travel at the same time.
    pub max_batch: usize,
}

/// Who wants to know what others change. The calls are short and never wait.
pub trait Listener: Send + Sync + 'static {
    /// The record under a key is another one now, or gone: filled, leased, removed, expired, evicted.
    fn changed(&self, key: &[u8]);

    /// Changes may have gone by untold: a connection was lost or is new, the store was flushed, its incarnation is
    /// another one. Whatever is known of the store counts as nothing (`R13`).
    fn gap(&self);
}

/// Who may write to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This process alone: every invalidation passes through it.
    Process,
    /// Other processes as well.
    Processes,
}

/// A wish to fill a key.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The key.
    pub key: Bytes,
    /// The lease's record: [`entry::lease`](crate::entry::lease). Its fence is the one that a fill must meet.
    pub record: Bytes,
    /// Also replace a record that has this fence: one that was read and judged outdated.
    pub over: Option<Fence>,
    /// How long the lease stands.
    pub ttl: Duration,
}

/// A named random number; what is stored under an older one is void (`R12`).
#[derive(Clone, Debug)]
pub struct Stamp {
    /// The key.
    pub key: Bytes,
    /// The number.
    pub value: u64,
    /// How long it is kept; `None`: as long as the store.
    pub ttl: Option<Duration>,
}

/// The answer to [`Shared::lease`].
#[derive(Clone, Debug)]
pub struct Leases {
    /// For each lease, in order.
    pub leased: Vec<Leased>,
    /// For each stamp, in order: the number that stands there now.
    pub stamps: Vec<u64>,
}

/// What became of a wish to fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// The lease was placed.
    Granted,
    /// There is another record, which is this: a value, an absence, somebody else's lease, a hold.
    Found(Bytes),
}

/// A record to store after a load.
#[derive(Clone, Debug)]
pub struct Fill {
    /// The key.
    pub key: Bytes,
    /// The fence that the reader saw: that of its lease, or of the record it refreshes. Zero, which none is: it saw nothing.
    pub expected: Fence,
    /// What that fence is the fence of.
    pub over: Over,
    /// The record, with a fence of its own.
    pub record: Bytes,
    /// How long it is kept.
    pub ttl: Duration,
}

/// What a fill takes the place of. A backend that keeps no [stamps](Shared::stamps) may ignore it: the fence alone decides
/// (`R1`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// A lease, so every byte of what stands there is known: [`entry::lease`](crate::entry::lease). A backend that can
    /// compare whole records needs nothing else.
    Lease,
    /// A value or an absence, of which only the fence is known.
    #[default]
    Record,
    /// Nothing, or the record with the expected fence: no lease was taken. It is stored only if the stamp of its key is still
    /// this one, which is compared and stored in one step (`R15`).
    Unleased {
        /// The key of the record of stamps.
        stamps: Bytes,
        /// The stamp that the read saw. Zero is none.
        stamp: u64,
    },
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Stored: no invalidation came between.
    Stored,
    /// Not stored: the fence is another, or gone.
    Refused,
}

/// A wish that nobody fills a key for a while.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The key.
    pub key: Bytes,
    /// Who holds: random, one per write.
    pub holder: u64,
    /// How long the hold stands when nobody ends it.
    pub ttl: Duration,
    /// Keep the value that is there, to serve it meanwhile or to restore it after a rollback (`R10`).
    pub keep: bool,
}

/// The end of a hold.
#[derive(Clone, Debug)]
pub struct End {
    /// The key.
    pub key: Bytes,
    /// Whose hold.
    pub holder: u64,
    /// What became of the write. An unknown outcome has no end: its hold is left to expire (`R8`).
    pub outcome: WriteOutcome,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It was committed.
    Committed,
    /// It was rolled back, certainly.
    RolledBack,
}

/// What became of the end of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was the last hold; the key is free.
    Freed,
    /// The value that was kept is back (`R10`).
    Restored,
    /// Others still hold the key.
    StillHeld,
    /// The hold had expired or was lost.
    Gone,
}
