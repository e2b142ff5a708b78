//! The operations of a backend, as commands.

mod invalidate;
mod lease;
mod transform;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use mastaba::lease::{Change, Standing};
use mastaba::shared::connections;
use mastaba::shared::{Abilities, End, Ended, Fill, Filled, Hold, Lease, Leases, Over, Reach, Shared, Stamp};
use mastaba::{Fault, FaultKind, lease as transitions};

use self::transform::Decided;
use crate::config::MemcachedConfig;
use crate::hub::ServerList;
use crate::wire::{ItemCommand, ItemReply, Pipe, Pipes};
use mastaba::shared::connections::ConnectError;

/// A backend over Memcached. Clones share its connections.
///
/// One connection per server and tokio runtime, on which all commands from that runtime travel. It comes back by itself;
/// meanwhile operations on keys that have their place there fail at once with [`FaultKind::Down`]: no other server takes their
/// place, for it would be asked again for what it has, when nobody voids that any longer. The first operation from a runtime
/// makes its connections and waits for them; a runtime that ends takes them along. Dropping the future of an operation
/// leaves nothing locked; what was sent may be done or not.
#[derive(Clone)]
pub struct Memcached {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Arc<ServerList>,
    wire: Pipes,
    /// Bytes of fills under way.
    filling: AtomicU64,
}

/// Some of what a call is about: that of one server, by its places in the call.
struct ServerPart {
    server: usize,
    places: Vec<usize>,
}

impl Memcached {
    /// Connects, and checks the version and the settings of each server.
    ///
    /// Waits at most [`MemcachedConfig::connect_timeout`]. Needs a tokio runtime with IO and timers (`enable_all()`), which may
    /// end before the cache does: see [`Memcached`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use mastaba::{Cache, Region};
    /// use mastaba_memcached::{Memcached, MemcachedConfig};
    ///
    /// let memcached = Memcached::connect(MemcachedConfig::from_url("memcached://localhost")?).await?;
    /// let cache = Cache::builder().region("objects", Region::backend(memcached)).build().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// One sentence that names the server and what to do: the configuration is wrong
    /// ([`ConnectError::is_config`]), a server cannot be used ([`ConnectError::is_refused`]), or does not answer
    /// ([`ConnectError::is_unreachable`]). With [`AtStart::Optional`](crate::AtStart::Optional) the last two are warnings, and
    /// it goes on trying.
    pub async fn connect(config: MemcachedConfig) -> Result<Self, ConnectError> {
        Self::over(ServerList::new(config)).await
    }

    /// Connects to look at what is there, for people and the tools that they use.
    ///
    /// A program that comes with another list of servers than those before it takes the servers over. This does not, and does
    /// not write its list where there is none: where another list is in use every operation is refused with a sentence that
    /// says so, and an invalidation is not acknowledged where none is in use. A server of several that cannot be reached is no
    /// error, whatever [`at_start`](MemcachedConfig::at_start) says, for [`describe`](Memcached::describe) tells why; its keys
    /// have a fault.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let Some(server) = mastaba_test::servers::MemcachedServer::start().await else { return };
    /// # let url = format!("memcached://{}", server.addr());
    /// use mastaba_memcached::{Memcached, MemcachedConfig};
    ///
    /// let memcached = Memcached::visit(MemcachedConfig::from_url(&url).unwrap()).await.unwrap();
    /// assert!(memcached.describe().await.unwrap().servers[0].version.is_some());
    /// assert_eq!(server.stats("").await["curr_items"], "0", "it leaves nothing behind");
    /// # });
    /// ```
    ///
    /// # Errors
    /// As [`connect`](Memcached::connect), if no server can be used.
    pub async fn visit(config: MemcachedConfig) -> Result<Self, ConnectError> {
        Self::over(ServerList::visited(config)).await
    }

    async fn over(hub: ServerList) -> Result<Self, ConnectError> {
        let hub = Arc::new(hub);
        let wire = Pipes::connect(hub.clone()).await?;
        Ok(Self { inner: Arc::new(Inner { hub, wire, filling: AtomicU64::new(0) }) })
    }

    pub(crate) fn hub(&self) -> &ServerList {
        &self.inner.hub
    }

    fn full(&self, key: &[u8]) -> Vec<u8> {
        self.hub().full(key)
    }

    pub(crate) async fn to(&self, server: usize) -> Result<Arc<Pipe>, Fault> {
        self.inner.wire.to(server).await
    }

    /// What is asked of each server.
    fn parts<'k>(&self, keys: impl Iterator<Item = &'k Bytes>) -> Vec<ServerPart> {
        let mut parts: Vec<ServerPart> = Vec::new();
        for (at, key) in keys.enumerate() {
            let server = self.hub().place(key);
            match parts.iter_mut().find(|part| part.server == server) {
                Some(part) => part.places.push(at),
                None => parts.push(ServerPart { server, places: vec![at] }),
            }
        }
        parts
    }

    /// Does something with the part of each server, with all at the same time, and puts the answers in order.
    async fn each<'a, T: Send>(
        &'a self,
        keys: impl ExactSizeIterator<Item = &'a Bytes>,
        work: impl Fn(Arc<Pipe>, Vec<usize>) -> BoxFuture<'a, Result<Vec<T>, Fault>> + Send + Sync,
    ) -> Result<Vec<T>, Fault> {
        let count = keys.len();
        let parts = self.parts(keys);
        let work = &work;
        let under_way = parts.iter().map(|part| async move {
            let connection = self.to(part.server).await?;
            work(connection, part.places.clone()).await
        });
        // all of them, whatever one is answered with: what goes to the others is to be done
        let done = join_all(under_way).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut answers: Vec<Option<T>> = (0..count).map(|_| None).collect();
        for (part, done) in parts.iter().zip(done) {
            part.places.iter().zip(done).for_each(|(at, answer)| answers[*at] = Some(answer));
        }
        let missing = || Fault::new(FaultKind::Damaged, "memcached: an answer is missing");
        answers.into_iter().map(|answer| answer.ok_or_else(missing)).collect()
    }

    async fn store(&self, fills: &[Fill], incarnation: u64) -> Result<Vec<Filled>, Fault> {
        let most = self.hub().max_record();
        self.each(fills.iter().map(|ask| &ask.key), |connection, places| {
            Box::pin(async move {
                let decide = |at: usize, standing: Option<Standing<'_>>, now_ms| {
                    let ask = &fills[at];
                    // one that is too large would take what stands there with it, whatever that is
                    let stored = ask.record.len() <= most && !matches!(ask.over, Over::Unleased { .. });
                    let (change, filled) =
                        transitions::fill(standing.filter(|_| stored), incarnation, now_ms, ask);
                    Ok(Decided { change, answer: filled, refused: Some(Filled::Refused) })
                };
                let keys: Vec<_> = places.iter().map(|at| (*at, &fills[*at].key)).collect();
                self.transform(&connection, "a fill", keys, decide).await
            })
        })
        .await
    }
}

impl Shared for Memcached {
    const ABILITIES: Abilities = Abilities {
        name: "memcached",
        reach: Reach::Processes,
        tells: false,
        stores: true,
        holds: true,
        // with a prefix 250, which is what Memcached takes
        max_key: 200,
        max_value: 16 << 20,
        max_batch: 4096,
    };

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        self.hub().is_in_use()?;
        self.each(keys.iter(), |connection, places| {
            Box::pin(async move {
                let replies = connection
                    .run(places.iter().map(|at| ItemCommand::read(self.full(&keys[*at]))).collect())
                    .await?;
                let record = |reply| match reply {
                    ItemReply::Done(item) => Ok(item.record),
                    ItemReply::Missing => Ok(None),
                    other => Err(unexpected("a read", &other)),
                };
                replies.into_iter().map(record).collect()
            })
        })
        .await
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        let incarnation = self.hub().known_incarnation()?;
        self.take_leases(leases, stamps, incarnation).await
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        // R11: what is stored while it is not known could be of any store
        let Ok(incarnation) = self.hub().known_incarnation() else {
            return Ok(vec![Filled::Refused; fills.len()]);
        };
        let bytes = fills.iter().map(|ask| ask.record.len() as u64).sum::<u64>();
        let filling = &self.inner.filling;
        let room = self.hub().config.max_fill_bytes;
        if filling
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                Some(now + bytes).filter(|sum| *sum <= room)
            })
            .is_err()
        {
            return Ok(vec![Filled::Refused; fills.len()]);
        }
        let _done = OnDrop(|| {
            filling.fetch_sub(bytes, Ordering::AcqRel);
        });
        self.store(fills, incarnation).await
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        let visits = self.hub().visits();
        if visits {
            // what a person does with a wrong list is nothing that anybody waits for
            self.hub().is_in_use()?;
        }
        let done = self.void(keys, stamps).await;
        // It is tried all the same. It is not acknowledged where another list is in use, nor before all who use another one can have
        // noticed ours: they read from other servers until then.
        self.hub().known_incarnation().and(done)?;
        if visits { self.find_list(keys, stamps).await } else { Ok(()) }
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        let incarnation = self.hub().known_incarnation()?;
        let most = self.hub().max_record();
        let placed = self.each(holds.iter().map(|ask| &ask.key), |connection, places| {
            Box::pin(async move {
                let decide = |at: usize, standing: Option<Standing<'_>>, now_ms| -> Result<_, Fault> {
                    let ask = &holds[at];
                    let mut change = transitions::hold(standing, incarnation, now_ms, ask)?;
                    if matches!(&change, Change::Put { record, .. } if record.len() > most) {
                        // what it keeps makes it too large
                        let without = Hold { keep: false, ..ask.clone() };
                        change = transitions::hold(standing, incarnation, now_ms, &without)?;
                    }
                    Ok(Decided { change, answer: (), refused: None })
                };
                let keys = places.iter().map(|at| (*at, &holds[*at].key)).collect();
                self.transform(&connection, "a hold", keys, decide).await
            })
        });
        placed.await.map(drop)
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        let incarnation = self.hub().known_incarnation()?;
        self.each(ends.iter().map(|ask| &ask.key), |connection, places| {
            Box::pin(async move {
                let decide = |at: usize, standing: Option<Standing<'_>>, now_ms| {
                    let (change, answer) = transitions::end(standing, incarnation, now_ms, &ends[at]);
                    Ok(Decided { change, answer, refused: None })
                };
                let keys = places.iter().map(|at| (*at, &ends[*at].key)).collect();
                self.transform(&connection, "the end of a hold", keys, decide).await
            })
        })
        .await
    }

    fn incarnation(&self) -> u64 {
        self.hub().incarnation()
    }

    fn runs_here(&self) -> Result<(), Fault> {
        connections::lacks().map_or(Ok(()), |what| Err(Fault::new(FaultKind::Refused, what)))
    }

    fn full_key(&self, key: &Bytes) -> Bytes {
        self.full(key).into()
    }

    fn max_value(&self) -> usize {
        self.hub().max_record()
    }
}

/// Calls a function when it goes.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn unexpected(what: &str, reply: &ItemReply) -> Fault {
    match reply {
        ItemReply::Refused(said) => {
            Fault::new(FaultKind::Refused, format!("memcached refused {what}: {said}"))
        }
        _ => Fault::new(FaultKind::Damaged, format!("memcached answered {what} with something else")),
    }
}

fn again_and_again(what: &str) -> Fault {
    let sentence =
        format!("memcached: a key was changed by others again and again, and {what} was not carried out");
    Fault::new(FaultKind::Refused, sentence)
}

impl fmt::Debug for Memcached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memcached").field("config", &self.hub().config).finish_non_exhaustive()
    }
}
