//! The operations of a backend, as commands.

mod compare;
mod fill;
mod hold;
mod renew;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::{
    Abilities, End, Ended, Fill, Filled, Hold, Lease, Leased, Leases, Listener, Reach, Shared, Stamp, stamps,
};
use mastaba::{Fault, FaultKind, lease};

use crate::config::RedisConfig;
use crate::hub::{Hub, Means};
use crate::loss::Loss;
use crate::own::OwnChange;
use crate::script;
use crate::wire::{Command, ServerReply, Wire};
use mastaba::shared::connections::ConnectError;

/// A backend over Redis or Valkey. Clones share its connections.
///
/// One connection per server and tokio runtime, on which all commands from that runtime travel. It comes back by itself;
/// meanwhile operations fail at once with [`FaultKind::Down`]. The first operation from a runtime makes its connection
/// and waits for it; a runtime that ends takes its connection along. Dropping the future of an operation leaves nothing locked; what was sent
/// may be done or not.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Arc<Hub>,
    wire: Wire,
    /// Fills under way, and their bytes.
    filling: AtomicUsize,
    filling_bytes: AtomicU64,
}

impl Redis {
    /// Connects, and checks the version and the settings of the server.
    ///
    /// Waits at most twice [`RedisConfig::connect_timeout`]. Needs a tokio runtime with IO and timers (`enable_all()`),
    /// which may end before the cache does: see [`Redis`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use mastaba::{Cache, Region};
    /// use mastaba_redis::{Redis, RedisConfig};
    ///
    /// let redis = Redis::connect(RedisConfig::from_url("redis://localhost:6379")?).await?;
    /// let cache = Cache::builder().region("objects", Region::backend(redis)).build().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// One sentence that names the server and what to do: the configuration is wrong
    /// ([`ConnectError::is_config`]), the server cannot be used ([`ConnectError::is_refused`]), or nobody answers
    /// ([`ConnectError::is_unreachable`]). With [`AtStart::Optional`](crate::AtStart::Optional) the last two are warnings, and
    /// it goes on trying.
    pub async fn connect(config: RedisConfig) -> Result<Self, ConnectError> {
        let hub = Hub::new(config);
        let wire = Wire::connect(hub.clone()).await?;
        let (filling, filling_bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        Ok(Self { inner: Arc::new(Inner { hub, wire, filling, filling_bytes }) })
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.inner.wire
    }

    fn full(&self, key: &Bytes) -> Bytes {
        if self.inner.hub.config.prefix.is_empty() { key.clone() } else { self.inner.hub.full(key).into() }
    }

    /// What the servers do not give, so that it does without: empty where all is there. No trip; of what turns up later it
    /// knows once it has.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let Some(server) = mastaba_test::servers::RedisServer::start().await else { return };
    /// # let url = server.url();
    /// use mastaba_redis::{Redis, RedisConfig};
    ///
    /// let redis = Redis::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    /// assert_eq!(redis.losses(), []);
    /// # });
    /// ```
    #[must_use]
    pub fn losses(&self) -> Vec<Loss> {
        self.inner.hub.losses()
    }

    async fn run(&self, commands: Vec<Command>) -> Result<Vec<ServerReply>, Fault> {
        self.run_again(commands).await.map(|(replies, _)| replies)
    }

    /// The same, and whether some had to be sent again, which then were carried out after those that follow them.
    async fn run_again(&self, commands: Vec<Command>) -> Result<(Vec<ServerReply>, bool), Fault> {
        let done = self.inner.wire.run_again(commands).await?;
        let lost = done.0.iter().find_map(|reply| match reply {
            ServerReply::NoScripts(said) => Some(said),
            _ => None,
        });
        if let Some(said) = lost {
            // this call fails, and from the next one on it goes without
            self.inner.hub.lose(Loss::Scripts);
            self.inner.hub.say_losses(Some(said));
        }
        Ok(done)
    }

    fn is_cluster(&self) -> bool {
        matches!(self.inner.wire, Wire::Cluster(_))
    }

    /// The stamps as commands that leave what stands and give it (`R12`).
    fn ask_stamp(&self, ask: &Stamp) -> Command {
        if self.inner.hub.stamps.all().has(&ask.key) {
            if self.inner.hub.means() != Means::Scripts {
                // nothing is filled without a lease, so nobody needs it
                return Command::new("GET", &[self.full(&ask.key)]);
            }
            return Command::script(&script::MAKE_STAMPS, self.full(&ask.key), [stamps::record()]);
        }
        let number = ask.value.to_le_bytes();
        let mut arguments = vec![self.full(&ask.key), Bytes::copy_from_slice(&number)];
        arguments.extend([Bytes::from_static(b"NX"), Bytes::from_static(b"GET")]);
        arguments.extend(expiry(ask.ttl));
        Command::new("SET", &arguments)
    }

    fn set_stamp(&self, ask: &Stamp) -> Command {
        let number = ask.value.to_le_bytes();
        let mut arguments = vec![self.full(&ask.key), Bytes::copy_from_slice(&number)];
        arguments.extend(expiry(ask.ttl));
        Command::new("SET", &arguments)
    }

    /// What the stamps came to. One that is no number is replaced.
    async fn numbers(&self, asks: &[Stamp], replies: Vec<ServerReply>) -> Result<Vec<u64>, Fault> {
        let mut numbers = Vec::with_capacity(asks.len());
        let records = self.inner.hub.stamps.all();
        for (ask, reply) in asks.iter().zip(replies) {
            numbers.push(match reply {
                // whatever was answered: without a record nothing is stored without a lease
                _ if records.has(&ask.key) => ask.value,
                ServerReply::Nil | ServerReply::Done => ask.value,
                ServerReply::Bytes(bytes) if bytes.len() == 8 => {
                    u64::from_le_bytes(bytes[..].try_into().unwrap_or_default())
                }
                ServerReply::Bytes(_) => self.replace_stamp(ask).await?,
                ServerReply::Refused(code, _) if code == "WRONGTYPE" => self.replace_stamp(ask).await?,
                other => return Err(unexpected("a stamp", &other)),
            });
        }
        Ok(numbers)
    }

    /// Something else stands in the place of a stamp: it goes, and whoever comes first sets a new one.
    async fn replace_stamp(&self, ask: &Stamp) -> Result<u64, Fault> {
        let remove = Command::new("UNLINK", &[self.full(&ask.key)]);
        let replies = self.run_in_order(vec![remove, self.ask_stamp(ask)]).await?;
        match replies.into_iter().nth(1) {
            Some(ServerReply::Nil | ServerReply::Done) => Ok(ask.value),
            Some(ServerReply::Bytes(bytes)) if bytes.len() == 8 => {
                Ok(u64::from_le_bytes(bytes[..].try_into().unwrap_or_default()))
            }
            other => Err(unexpected("a stamp", &other.unwrap_or(ServerReply::Nil))),
        }
    }

    /// One after the other also where they are for several nodes.
    async fn run_in_order(&self, commands: Vec<Command>) -> Result<Vec<ServerReply>, Fault> {
        if !self.is_cluster() {
            return self.run(commands).await;
        }
        let mut replies = Vec::with_capacity(commands.len());
        for command in commands {
            replies.extend(self.run(vec![command]).await?);
        }
        Ok(replies)
    }

    fn lease_command(&self, ask: &Lease) -> Command {
        match ask.over {
            Some(fence) if self.inner.hub.means() == Means::Scripts => {
                let fence = Bytes::copy_from_slice(&fence.0.to_le_bytes());
                let words = [fence, ask.record.clone(), millis(ask.ttl)];
                Command::script(&script::LEASE_OVER, self.full(&ask.key), words)
            }
            // without scripts what it is over is found there, and looked at
            _ => self.lease_where_nothing_stands(ask),
        }
    }

    fn lease_where_nothing_stands(&self, ask: &Lease) -> Command {
        let [nx, get, px] = ["NX", "GET", "PX"].map(|word| Bytes::from_static(word.as_bytes()));
        Command::new("SET", &[self.full(&ask.key), ask.record.clone(), nx, get, px, millis(ask.ttl)])
    }

    /// What stands in the way of a lease: it is respected, or gives way to it, as [`lease::lease`] says.
    async fn lease_over_foreign(&self, ask: &Lease, mut found: Bytes) -> Result<Leased, Fault> {
        for _ in 0..8 {
            // what the server still has is not over, whatever a clock of ours says: holds stand until the server drops them
            let now_ms = 0;
            let standing = lease::Standing { record: &found, expires_ms: lease::NEVER };
            if let (_, kept @ Leased::Found(_)) =
                lease::lease(Some(standing), self.incarnation(), now_ms, ask)
            {
                return Ok(kept);
            }
            let lease = Some((&ask.record, Some(ask.ttl)));
            if self.swap(&ask.key, Some(&found), lease, false).await? {
                return Ok(Leased::Granted);
            }
            match self.run(vec![self.lease_where_nothing_stands(ask)]).await?.pop() {
                Some(ServerReply::Nil | ServerReply::Done) => return Ok(Leased::Granted),
                Some(ServerReply::Bytes(record)) => found = record,
                other => return Err(unexpected("a lease", &other.unwrap_or(ServerReply::Nil))),
            }
        }
        Ok(Leased::Found(found))
    }

    /// A value of another type stands under the key: it is nobody's entry.
    async fn lease_over_other_type(&self, ask: &Lease) -> Result<Leased, Fault> {
        let remove = Command::new("UNLINK", &[self.full(&ask.key)]);
        let replies = self.run_in_order(vec![remove, self.lease_command(ask)]).await?;
        match replies.into_iter().nth(1) {
            Some(ServerReply::Nil | ServerReply::Done) => Ok(Leased::Granted),
            Some(ServerReply::Bytes(record)) => Ok(Leased::Found(record)),
            other => Err(unexpected("a lease", &other.unwrap_or(ServerReply::Nil))),
        }
    }

    /// Puts one record in the place of exactly another one. Whether that one still stood there.
    async fn swap(
        &self,
        key: &Bytes,
        before: Option<&Bytes>,
        after: Option<(&Bytes, Option<Duration>)>,
        renewing: bool,
    ) -> Result<bool, Fault> {
        match self.inner.hub.means() {
            Means::Scripts => {}
            Means::Compare => return self.swap_by_compare(key, before, after, renewing).await,
            Means::Nothing => return Err(nothing_compares()),
        }
        let before = before.cloned().unwrap_or_default();
        let (record, ttl) = after.map_or((Bytes::new(), None), |(record, ttl)| (record.clone(), ttl));
        let ttl = ttl.map_or(Bytes::from_static(b"0"), millis);
        match self.run_renewing(&script::SWAP, key, [before, record, ttl], renewing).await? {
            ServerReply::Number(done) => Ok(done == 1),
            other => Err(unexpected("a swap", &other)),
        }
    }

    /// Whether the keys were voided in their order.
    async fn invalidate_keys(&self, keys: &[Bytes]) -> Result<bool, Fault> {
        match self.inner.hub.means() {
            Means::Scripts => {}
            Means::Compare => return self.void_by_compare(keys).await.map(|()| false),
            // all stamps went before all keys, and not each before its own (R18)
            Means::Nothing => return self.void_plainly(keys).await.map(|()| false),
        }
        let (replies, again) = self.renew_and_remove(keys).await?;
        // all of them, whatever one was answered with: a key whose stamp was not renewed is removed (R16)
        let mut done = Ok(());
        for (key, reply) in keys.iter().zip(replies) {
            let its = match reply {
                ServerReply::Number(0) => Ok(()),
                ServerReply::Number(_) => self.forget_kept(key).await,
                other => Err(unexpected("an invalidation", &other)),
            };
            done = done.and(its);
        }
        done.map(|()| !again && !self.is_cluster())
    }

    /// Sets stamps. A store that is full does not take them: there a stamp is removed, which voids the same, and
    /// becomes a new one with the next lease (`R12`).
    async fn renew(&self, stamps: &[Stamp]) -> Result<(), Fault> {
        let replies = self.run(stamps.iter().map(|ask| self.set_stamp(ask)).collect()).await?;
        if replies.iter().all(|reply| *reply == ServerReply::Done) {
            return Ok(());
        }
        let is_full = |reply: &ServerReply| matches!(reply, ServerReply::Refused(code, _) if code == "OOM");
        if let Some(other) = replies.iter().find(|reply| **reply != ServerReply::Done && !is_full(reply)) {
            return Err(unexpected("a stamp", other));
        }
        // all of them, in their order: one that was taken came before one that was not
        let removed = stamps.iter().map(|ask| Command::new("UNLINK", &[self.full(&ask.key)])).collect();
        match self.run(removed).await?.iter().find(|reply| !matches!(reply, ServerReply::Number(_))) {
            Some(other) => Err(unexpected("a stamp", other)),
            None => Ok(()),
        }
    }
}

impl Shared for Redis {
    const ABILITIES: Abilities = Abilities {
        name: "redis",
        reach: Reach::Processes,
        tells: true,
        stores: true,
        holds: true,
        max_key: 4 << 10,
        max_value: 16 << 20,
        max_batch: 4096,
    };

    fn abilities(&self) -> Abilities {
        let hub = &self.inner.hub;
        Abilities { tells: hub.tells(), holds: hub.means() != Means::Nothing, ..Self::ABILITIES }
    }

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let hub = &self.inner.hub;
        let mut records = self.inner.wire.mget(keys, hub.config.prefix.as_bytes()).await?;
        if hub.is_one_key() {
            // Several servers are behind the address, so that nothing compares a stamp and stores in one step (R15). To show it
            // would only have fills refused.
            let stamps = hub.stamps.all();
            let shown = keys.iter().zip(&mut records).filter(|(key, _)| stamps.has(key));
            shown.for_each(|(_, record)| *record = None);
        }
        Ok(records)
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        if self.inner.hub.means() == Means::Nothing {
            // nothing will be stored, so nobody has to wait for anybody
            let leased = vec![Leased::Granted; leases.len()];
            let asked = self.run(stamps.iter().map(|ask| self.ask_stamp(ask)).collect()).await?;
            return Ok(Leases { leased, stamps: self.numbers(stamps, asked).await? });
        }
        let keys = leases.iter().map(|ask| &ask.key).chain(stamps.iter().map(|ask| &ask.key));
        let own = OwnChange::begin(&self.inner.hub, keys.cloned());
        let asked = leases.iter().map(|ask| self.lease_command(ask));
        let mut stamped: Vec<_> = stamps.iter().map(|ask| self.ask_stamp(ask)).collect();
        // On several nodes the last stamp is read after the others: an invalidation by tag renews it before them.
        let last = if self.is_cluster() { stamped.pop() } else { None };
        let mut replies = self.run(asked.chain(stamped).collect()).await?;
        replies.extend(self.run(last.into_iter().collect()).await?);
        let numbers = replies.split_off(leases.len());
        let mut leased = Vec::with_capacity(leases.len());
        for (ask, reply) in leases.iter().zip(replies) {
            leased.push(match reply {
                ServerReply::Nil | ServerReply::Done => Leased::Granted,
                ServerReply::Bytes(record) => self.lease_over_foreign(ask, record).await?,
                ServerReply::Refused(code, _) if code == "WRONGTYPE" => {
                    self.lease_over_other_type(ask).await?
                }
                other => return Err(unexpected("a lease", &other)),
            });
        }
        let stamped = self.numbers(stamps, numbers).await?;
        let granted = leases.iter().zip(&leased).filter(|(_, leased)| **leased == Leased::Granted);
        let set = stamps.iter().zip(&stamped).filter(|(ask, number)| ask.value == **number);
        own.only(
            granted.map(|(ask, _)| ask.key.clone()).chain(set.map(|(ask, _)| ask.key.clone())).collect(),
        );
        Ok(Leases { leased, stamps: stamped })
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        self.store(fills).await
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        // the listeners are notified at the end, whatever becomes of it: see `OwnChange`
        let keys_changed = stamps.iter().map(|stamp| &stamp.key).chain(keys).cloned();
        let _own = OwnChange::begin(&self.inner.hub, keys_changed);
        // the first stamp before the others, and all of them before the keys
        let alone = if self.is_cluster() { stamps.len().min(1) } else { 0 };
        let (first, rest) = stamps.split_at(alone);
        self.renew(first).await?;
        self.renew(rest).await?;
        let in_order = keys.is_empty() || self.invalidate_keys(keys).await?;
        // of one key there is no order: a second time would only take away the lease of somebody who loads what is new
        if !in_order && keys.len() > 1 {
            // R7: they were carried out in no order, on several nodes or because some had to be sent again. What was
            // derived meanwhile from an inner object that was still to go is void after the second time.
            self.invalidate_keys(keys).await?;
        }
        Ok(())
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        self.place_holds(holds).await
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        self.end_holds(ends).await
    }

    fn stamps(&self, prefix: &[u8], record: &Bytes) -> bool {
        // In a cluster a stamp stands on one node and most of its keys on others: a demoted master of it, which still answers,
        // could have old rows stored on a node that is sound.
        let one_place = !self.is_cluster();
        if one_place {
            self.inner.hub.stamps.keep(prefix, record);
        }
        // without scripts they are renewed, for others, and nothing is compared with them
        one_place && self.inner.hub.means() == Means::Scripts
    }

    fn incarnation(&self) -> u64 {
        self.inner.hub.incarnation()
    }

    fn full_key(&self, key: &Bytes) -> Bytes {
        self.full(key)
    }

    fn runs_here(&self) -> Result<(), Fault> {
        crate::wire::lacks().map_or(Ok(()), |what| Err(Fault::new(FaultKind::Refused, what)))
    }

    fn listen(&self, prefix: &[u8], listener: Arc<dyn Listener>) {
        self.inner.hub.listen(prefix.to_vec(), listener);
        if self.inner.hub.tells() {
            self.inner.wire.track();
        }
    }

    async fn catch_up(&self) -> Result<(), Fault> {
        let hub = &self.inner.hub;
        let begun = hub.own.begun();
        if hub.tells() {
            self.inner.wire.catch_up().await?;
        }
        // which may just have found out that it does not
        if hub.tells() {
            hub.own.told(begun).await;
            return Ok(());
        }
        let sentence = match hub.config.tell {
            true => "redis: the server does not notify us of changes",
            false => "redis: the argument `tell` is false, so near cannot be notified of changes",
        };
        Err(Fault::new(FaultKind::Refused, sentence))
    }
}

fn millis(duration: Duration) -> Bytes {
    // Redis refuses an expiry of 0, and one that overflows its clock
    duration.as_millis().clamp(1, 100 * 366 * 24 * 3_600_000).to_string().into()
}

fn expiry(ttl: Option<Duration>) -> impl Iterator<Item = Bytes> {
    ttl.map(|ttl| [Bytes::from_static(b"PX"), millis(ttl)]).into_iter().flatten()
}

/// What needs to put one record in the place of another one cannot be done.
fn nothing_compares() -> Fault {
    let sentence =
        "redis: the server refuses scripts (EVAL, EVALSHA) and has no SET .. IFEQ, so no key can be held";
    Fault::new(FaultKind::Refused, sentence)
}

fn unexpected(what: &str, reply: &ServerReply) -> Fault {
    match reply {
        ServerReply::NoScripts(said) => {
            Fault::new(FaultKind::Refused, format!("redis no longer takes scripts, for {what}: {said}"))
        }
        ServerReply::Refused(code, said) => {
            Fault::new(FaultKind::Refused, format!("redis refused {what}: {code} {said}"))
        }
        _ => Fault::new(FaultKind::Damaged, format!("redis answered {what} with something else")),
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("config", &self.inner.hub.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use mastaba::entry::{self, Fence, Header, Kind};
    use mastaba::shared::Over;
    use mastaba_test::servers::RedisServer;

    use super::*;

    /// A fill as of this incarnation, over a lease that stands at the server.
    async fn leased(server: &RedisServer, key: &'static str, incarnation: u64) -> Fill {
        let fence = Fence::random();
        let lease = entry::lease(fence, incarnation);
        let set: [&[u8]; 3] = [b"SET", key.as_bytes(), &lease];
        assert_eq!(server.command(&set).await, "OK");
        let header = Header::new(Kind::Value, Fence::random(), incarnation);
        let record = entry::write(&header, &[], &[], b"v").into();
        Fill { key: key.into(), expected: fence, over: Over::Lease, record, ttl: Duration::from_secs(60) }
    }

    /// R11: what is stored then could be of any store.
    #[tokio::test]
    async fn while_it_is_not_known_which_store_it_is_nothing_is_stored() {
        let Some(server) = RedisServer::start().await else { return };
        let redis = Redis::connect(RedisConfig::from_url(&server.url()).unwrap()).await.unwrap();
        let known = redis.incarnation();
        let fill = leased(&server, "m:1", known).await;
        assert_eq!(redis.fill(&[fill]).await.unwrap(), [Filled::Stored]);
        let (before, unknown) = (leased(&server, "m:2", known).await, leased(&server, "m:3", 0).await);
        redis.inner.hub.met("another master", known ^ 1);
        assert_eq!(redis.incarnation(), 0);
        assert_eq!(redis.fill(&[before, unknown]).await.unwrap(), [Filled::Refused; 2]);
        for key in ["m:2", "m:3"] {
            let kind = server.command(&["GETRANGE", key, "2", "2"]).await;
            assert_ne!(kind, "@", "{key} is a value");
        }
    }
}
