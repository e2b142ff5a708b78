//! What a backend learned of its servers, and what it makes of them: for people, who are going to change one or the other.

mod facts;

use std::time::{Duration, Instant};

use mastaba::inspect::Capability;
use mastaba::{Fault, FaultKind};
use tokio::time::timeout;

pub use self::facts::{ListRecord, MemcachedFacts};
use crate::operations::Memcached;
use crate::wire::{ItemReply, is_ours, look_at_list};

/// A command that does nothing.
const NOTHING: &str = "mn";

/// The servers behind a backend, and what it uses of them: [`Memcached::describe`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemcachedDescription {
    /// Where the servers are, by the configuration: `memcached at localhost:11211`.
    pub place: String,
    /// Whether commands are sent at once (`TCP_NODELAY`).
    pub nodelay: bool,
    /// What the backend uses, or does without, and why: the same names in the same order, whatever the servers are.
    pub capabilities: Vec<Capability>,
    /// Why nothing is stored just now, and no invalidation is acknowledged: another list of servers is in use, or was a moment ago.
    pub refuses: Option<String>,
    /// The largest record that every server takes, in bytes.
    pub max_record: usize,
    /// Each server, in the order of the configuration.
    pub servers: Vec<MemcachedFacts>,
}

impl Memcached {
    /// Says what the servers are, and what this backend will use of them.
    ///
    /// One trip to each server, to one after the other (`stats`, `stats settings`, and the record of its list), on the connection
    /// that everything else travels on. Changes nothing. Each is waited for as long as an attempt to connect. Dropping its future
    /// leaves nothing behind.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let Some(server) = mastaba_test::servers::MemcachedServer::start().await else { return };
    /// # let url = format!("memcached://{}", server.addr());
    /// use mastaba_memcached::{ListRecord, Memcached, MemcachedConfig};
    ///
    /// let memcached = Memcached::connect(MemcachedConfig::from_url(&url).unwrap()).await.unwrap();
    /// let description = memcached.describe().await.unwrap();
    /// assert_eq!(description.servers[0].memory_limit, Some(64 << 20));
    /// assert_eq!(description.servers[0].list, Some(ListRecord::Ours));
    /// let near = description.capabilities.iter().find(|it| it.name == "notifications").unwrap();
    /// assert!(!near.used && near.how.contains("near"), "{}", near.how);
    /// # });
    /// ```
    ///
    /// # Errors
    /// If the runtime cannot be used. A server that does not answer is one of which nothing is known
    /// ([`MemcachedFacts::down`](field@MemcachedFacts::down)).
    pub async fn describe(&self) -> Result<MemcachedDescription, Fault> {
        let hub = self.hub();
        let mut servers = Vec::with_capacity(hub.servers());
        for server in 0..hub.servers() {
            let place = hub.name(server).to_owned();
            servers.push(match self.in_time(server, self.facts(server)).await {
                Ok(facts) => facts,
                Err(fault) => MemcachedFacts::down(place, fault.to_string()),
            });
        }
        Ok(MemcachedDescription {
            place: hub.config.place(),
            // set on every connection before its first command
            nodelay: true,
            capabilities: capabilities(),
            refuses: hub.known_incarnation().err().map(|fault| fault.to_string()),
            max_record: hub.max_record(),
            servers,
        })
    }

    /// Asks each server for a sign of life, one after the other, and says how long each answer took. A server that cannot be
    /// reached is left out.
    ///
    /// One trip to each server.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let Some(server) = mastaba_test::servers::MemcachedServer::start().await else { return };
    /// # let url = format!("memcached://{}", server.addr());
    /// # use mastaba_memcached::{Memcached, MemcachedConfig};
    /// let memcached = Memcached::connect(MemcachedConfig::from_url(&url).unwrap()).await.unwrap();
    /// let took = memcached.ping().await.unwrap();
    /// assert!(took.len() == 1 && took[0].as_secs() < 10);
    /// # });
    /// ```
    ///
    /// # Errors
    /// If none of them can be reached.
    pub async fn ping(&self) -> Result<Vec<Duration>, Fault> {
        let (mut all, mut last) = (Vec::new(), None);
        for server in 0..self.hub().servers() {
            let took = self.in_time(server, async {
                let connection = self.to(server).await?;
                let since = Instant::now();
                connection.ask(NOTHING).await.map(|_| since.elapsed())
            });
            match took.await {
                Ok(took) => all.push(took),
                Err(fault) => last = Some(fault),
            }
        }
        match last {
            Some(fault) if all.is_empty() => Err(fault),
            _ => Ok(all),
        }
    }

    async fn facts(&self, server: usize) -> Result<MemcachedFacts, Fault> {
        let (hub, connection) = (self.hub(), self.to(server).await?);
        let since = Instant::now();
        // they travel together
        let (counts, settings, record) = tokio::try_join!(
            connection.ask("stats"),
            connection.ask("stats settings"),
            connection.run(vec![look_at_list(hub)]),
        )?;
        let at_ms = mastaba::clock::now_ms();
        let mut facts = MemcachedFacts::read(hub.name(server).to_owned(), &counts, &settings);
        facts.compare_clock(&counts, at_ms, since.elapsed());
        facts.list = match &record[..] {
            [ItemReply::Done(item)] if is_ours(hub, item.record.as_deref().unwrap_or_default()) => {
                Some(ListRecord::Ours)
            }
            [ItemReply::Done(_)] => Some(ListRecord::Another),
            [ItemReply::Missing] => Some(ListRecord::Missing),
            _ => None,
        };
        Ok(facts)
    }

    /// Somebody waits, and others may answer.
    async fn in_time<T>(
        &self,
        server: usize,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let limit = self.hub().config.connect_timeout;
        let silent = |_| {
            let name = self.hub().name(server);
            Err(Fault::new(
                FaultKind::Timeout,
                format!("memcached at {name} accepts connections, and does not answer within {limit:?}"),
            ))
        };
        timeout(limit, work).await.unwrap_or_else(silent)
    }
}

fn capabilities() -> Vec<Capability> {
    vec![
        Capability::new(
            "fills",
            true,
            "mg, and ms with the CAS number of what was seen: two trips, in the background",
        ),
        Capability::new(
            "fills without leases",
            false,
            "a key and its write stamp are two keys, which nothing compares in one step: every load that is stored takes a lease",
        ),
        Capability::new(
            "notifications",
            false,
            "Memcached tells nobody of changes: near cannot stand before it, and whoever waits for another process asks again",
        ),
        Capability::new(
            "holds",
            true,
            "one record with all its holders, changed by its CAS number, for the write modes Strict, Serve and Degrade",
        ),
        Capability::new(
            "TLS and passwords",
            false,
            "this client has neither: the servers have to be in a network of their own, or behind a tunnel",
        ),
    ]
}
