//! A backend in one file of this process: the default, which needs no server.

mod file;
mod tables;
#[cfg(test)]
mod tests;
mod threads;
mod time;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::tables::Work;
use self::threads::Handle;
use super::{
    Abilities, End, Ended, Fill, Filled, Hold, Lease, Leases, Over, Reach, Shared, Stamp, WriteOutcome,
    stamps,
};
use crate::clock::now_ms;
use crate::error::Fault;
use crate::lease;

/// Where an [`Embedded`] keeps its records, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// The file. Parent folders are made.
    pub path: PathBuf,
    /// The most bytes of keys and records. The file may grow to about twice as much, and does not shrink.
    pub max_bytes: u64,
    /// How much of the file is kept in memory.
    pub cache_bytes: u64,
    /// How long an open waits for another process, which is about to end, to let go of the file.
    pub wait: Duration,
    /// How long leases and fills may wait for the disk. Losing them is harmless, and invalidations and
    /// holds never wait: they take everything before them along.
    pub sync_every: Duration,
}

impl EmbeddedConfig {
    /// One GiB of records in this file, 64 MiB of it in memory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 1 << 30,
            cache_bytes: 64 << 20,
            wait: Duration::from_secs(2),
            sync_every: Duration::from_secs(1),
        }
    }
}

/// Keeps records in one file ([redb](https://docs.rs/redb)), which one process has to itself.
///
/// What costs: a read is one trip to a thread that reads for all who wait; everything else is one trip to a
/// thread that puts all that is waiting into one transaction. An invalidation, a hold and an end wait for
/// the disk (`fsync`), together; leases and fills do not.
///
/// A crash of the process or of the machine loses nothing that was acknowledged as durable; leases and fills
/// of the last moment may be gone, always the newest ones first, which is harmless.
///
/// When the file fails (a full disk), calls answer with a [`Fault`] and the file is opened again, at most
/// once a second. Clones share the file. When the last one is dropped, the threads end by themselves, after
/// what was accepted is on disk; [`Shared::close`] waits for that.
///
/// Records expire by the time that the file has been open: it goes on with [`crate::clock::now_ms`] of the caller, and
/// stands still while nobody has the file. So a clock that is wrong, or was, neither keeps a record for longer nor drops a
/// hold early. Where the clock was set back by more than [`crate::clock::SKEW`] since the file was written last, nobody
/// can say how old its entries are: they count as misses, once.
#[derive(Clone)]
pub struct Embedded(Arc<Handle>);

impl Embedded {
    /// Opens the file, or makes it.
    ///
    /// Fails, and leaves the file as it is: where another process has it, where it is damaged or not a
    /// file of this backend, where its layout is of a later version, where it cannot be written. The
    /// sentence names the file and says what to do. A file of an earlier version begins anew, empty.
    pub async fn open(config: EmbeddedConfig) -> Result<Self, Fault> {
        Ok(Self(Arc::new(threads::start(config, now_ms()).await?)))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    async fn write<T: Send + 'static>(
        &self,
        durable: bool,
        work: impl FnOnce(&mut tables::Tables<'_>, u64) -> Result<T, Work> + Send + 'static,
    ) -> Result<T, Fault> {
        let now = now_ms();
        let time = self.0.time_of(now);
        self.0.write(durable, now, move |tables| work(tables, time)).await
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Shared for Embedded {
    const ABILITIES: Abilities = Abilities {
        name: "embedded",
        reach: Reach::Process,
        tells: false,
        stores: true,
        holds: true,
        max_key: 1024,
        max_value: 16 << 20,
        max_batch: 10_000,
    };

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.0.read(keys.to_vec(), now_ms()).await
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        if leases.is_empty() && stamps.is_empty() {
            return Ok(Leases { leased: Vec::new(), stamps: Vec::new() });
        }
        let (leases, stamps) = (leases.to_vec(), stamps.to_vec());
        let records = self.0.stamps.all();
        self.write(false, move |tables, now| {
            let incarnation = tables.incarnation();
            let leased = leases.iter().map(|ask| {
                tables.change(&ask.key, |standing| Ok(lease::lease(standing, incarnation, now, ask)))
            });
            let leased = leased.collect::<Result<_, _>>()?;
            let stamps = stamps.iter().map(|ask| {
                tables.change(&ask.key, |standing| {
                    if records.has(&ask.key) {
                        return Ok((lease::make_stamps(standing, now, stamps::record()), ask.value));
                    }
                    Ok(lease::stamp(standing, now, ask))
                })
            });
            Ok(Leases { leased, stamps: stamps.collect::<Result<_, _>>()? })
        })
        .await
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        if fills.is_empty() {
            return Ok(Vec::new());
        }
        let fills = fills.to_vec();
        self.write(false, move |tables, now| {
            let incarnation = tables.incarnation();
            let filled = fills.iter().map(|ask| {
                if let Over::Unleased { stamps, .. } = &ask.over {
                    return tables.change_beside(stamps, &ask.key, |stamps, standing| {
                        lease::fill_unleased(stamps, standing, incarnation, now, ask)
                    });
                }
                tables.change(&ask.key, |standing| Ok(lease::fill(standing, incarnation, now, ask)))
            });
            filled.collect()
        })
        .await
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        if keys.is_empty() && stamps.is_empty() {
            return Ok(());
        }
        let (keys, stamps) = (keys.to_vec(), stamps.to_vec());
        let records = self.0.stamps.all();
        self.write(true, move |tables, now| {
            for ask in &stamps {
                tables.change(&ask.key, |_| Ok((lease::set_stamp(now, ask), ())))?;
            }
            for key in &keys {
                tables.renew(&records, key, now)?; // R16, R18
                tables.change(key, |standing| Ok((lease::invalidate(standing, now), ())))?;
            }
            Ok(())
        })
        .await
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        if holds.is_empty() {
            return Ok(());
        }
        let holds = holds.to_vec();
        let records = self.0.stamps.all();
        self.write(true, move |tables, now| {
            let incarnation = tables.incarnation();
            for ask in &holds {
                tables.room_for_a_hold()?;
                tables
                    .change(&ask.key, |standing| Ok((lease::hold(standing, incarnation, now, ask)?, ())))?;
                tables.renew(&records, &ask.key, now)?; // R17
            }
            Ok(())
        })
        .await
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let ends = ends.to_vec();
        let records = self.0.stamps.all();
        self.write(true, move |tables, now| {
            let incarnation = tables.incarnation();
            let ended = ends.iter().map(|ask| {
                if ask.outcome == WriteOutcome::Committed {
                    tables.renew(&records, &ask.key, now)?; // R17
                }
                tables.change(&ask.key, |standing| Ok(lease::end(standing, incarnation, now, ask)))
            });
            ended.collect()
        })
        .await
    }

    fn stamps(&self, prefix: &[u8], record: &Bytes) -> bool {
        self.0.stamps.keep(prefix, record);
        true
    }

    fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    fn now_ms(&self) -> u64 {
        self.0.time_of(now_ms())
    }

    async fn close(&self) -> Result<(), Fault> {
        self.0.close().await
    }
}
