//! What a backend learned of its servers, and what it makes of them: for people, who are going to change one or the other.

mod facts;

use std::time::Duration;

use mastaba::Fault;
use mastaba::inspect::Capability;

pub use self::facts::ServerFacts;
use crate::config::Servers;
use crate::hub::Means;
use crate::loss::Loss;
use crate::operations::Redis;
use crate::wire::ServerSaid;

/// The servers behind a backend, and what it uses of them: [`Redis::describe`].
///
/// What a server does not say, or the user may not ask, is `None`, and stands in [`ServerFacts::unknown`] with the reason. No
/// password is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Where the servers are, by the configuration: `redis at localhost:6379`.
    pub place: String,
    /// What they are together.
    pub deployment: Deployment,
    /// The version of the protocol that is spoken.
    pub resp: u8,
    /// Whether the connections are encrypted.
    pub tls: bool,
    /// Whether the user of the configuration has given a password.
    pub password: bool,
    /// Whether commands are sent at once (`TCP_NODELAY`); `None`: by a unix socket, which does not wait.
    pub nodelay: Option<bool>,
    /// What the backend uses, or does without, and why: the same names in the same order, whatever the server is.
    pub capabilities: Vec<Capability>,
    /// What the servers hide or forbid, so that it is done without.
    pub losses: Vec<Loss>,
    /// Each server that takes writes: one, or the masters of a cluster.
    pub servers: Vec<ServerFacts>,
}

/// What several servers are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deployment {
    /// One server.
    Single,
    /// The master that sentinels name.
    Sentinel,
    /// A cluster.
    Cluster,
}

impl Redis {
    /// Says what the servers are, and what this backend will use of them.
    ///
    /// Three trips to each server, one after the other (`INFO`, `CONFIG GET`, `TIME`), on the connection that everything else
    /// travels on. Changes nothing. Dropping its future leaves nothing behind.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let Some(server) = mastaba_test::servers::RedisServer::start().await else { return };
    /// # let url = server.url();
    /// use mastaba_redis::{Deployment, Redis, RedisConfig};
    ///
    /// let redis = Redis::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    /// let description = redis.describe().await.unwrap();
    /// assert_eq!((description.deployment, description.resp), (Deployment::Single, 3));
    /// assert_eq!(description.servers.len(), 1);
    /// let fills = description.capabilities.iter().find(|it| it.name == "fills").unwrap();
    /// assert!(fills.used, "{}", fills.how);
    /// # });
    /// ```
    ///
    /// # Errors
    /// If a server cannot be reached. What it refuses to say is an unknown.
    pub async fn describe(&self) -> Result<Description, Fault> {
        let config = &self.hub().config;
        let wire = self.wire();
        let mut servers: Vec<_> =
            wire.ask_each(&["INFO"]).await?.into_iter().map(ServerFacts::read).collect();
        for words in [&["CONFIG", "GET", "save"][..], &["TIME"]] {
            for said in wire.ask_each(words).await? {
                if let Some(facts) = servers.iter_mut().find(|facts| facts.place == said.place) {
                    facts.learn(words[0], said);
                }
            }
        }
        let socket = matches!(config.servers, Servers::Socket(_));
        Ok(Description {
            place: config.place(),
            deployment: match config.servers {
                Servers::One(..) | Servers::Socket(_) => Deployment::Single,
                Servers::Sentinel { .. } => Deployment::Sentinel,
                Servers::Cluster(_) => Deployment::Cluster,
            },
            resp: if self.hub().has_lost(Loss::Resp3) { 2 } else { 3 },
            tls: config.tls.is_some(),
            password: config.password.is_some(),
            nodelay: (!socket).then(crate::wire::sends_at_once),
            capabilities: self.capabilities(),
            losses: self.losses(),
            servers,
        })
    }

    /// Asks each server for a sign of life, one after the other, and says how long each answer took.
    ///
    /// One trip to each server.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let Some(server) = mastaba_test::servers::RedisServer::start().await else { return };
    /// # let url = server.url();
    /// # use mastaba_redis::{Redis, RedisConfig};
    /// let redis = Redis::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    /// let took = redis.ping().await.unwrap();
    /// assert!(took.len() == 1 && took[0].as_secs() < 10);
    /// # });
    /// ```
    ///
    /// # Errors
    /// If a server cannot be reached, or the user has no right to `PING`.
    pub async fn ping(&self) -> Result<Vec<Duration>, Fault> {
        let answers = self.wire().ask_each(&["PING"]).await?;
        let took = |said: ServerSaid| match said.words {
            Ok(_) => Ok(said.took),
            Err(why) => Err(Fault::new(mastaba::FaultKind::Refused, format!("redis: {why}"))),
        };
        answers.into_iter().map(took).collect()
    }

    fn capabilities(&self) -> Vec<Capability> {
        let hub = self.hub();
        let cluster = matches!(hub.config.servers, Servers::Cluster(_));
        let newer = "the server has no SET .. IFEQ, which Valkey 8.1 and Redis 8.4 have";
        let fills = match (hub.compares(), cluster, hub.is_one_key()) {
            (true, ..) => {
                "SET .. IFEQ over a lease, a plain command for each key; over what is there, a script"
                    .to_owned()
            }
            (false, true, _) => {
                format!("a call of a script for each key of a batch, to the node of the key: {newer}")
            }
            (false, false, true) => format!(
                "a call of a script for each key of a batch: {newer}, and several servers are behind the address, which refuse a \
                 script for keys of more than one of them (CROSSSLOT)"
            ),
            (false, false, false) => format!("one call of a script for a batch: {newer}"),
        };
        let unleased = match (cluster, hub.is_one_key()) {
            (true, _) => "in a cluster the write stamp of a key stands on another node than the key".to_owned(),
            (false, true) => "several servers are behind the address, which refuse a script for a key and its write stamp (CROSSSLOT)"
                .to_owned(),
            (false, false) => "loads that are cheap are stored so, for the write stamps stand beside their keys".to_owned(),
        };
        let tell = match (hub.config.tell, cluster) {
            (true, true) => {
                "CLIENT TRACKING in broadcast mode, on the connection to each node: near may stand before it"
            }
            (true, false) => {
                "CLIENT TRACKING in broadcast mode, on the connection that reads: near may stand before it"
            }
            (false, _) => {
                "the argument `tell` is false: near cannot stand before it, and whoever waits for another process asks again"
            }
        };
        let losses = self.losses();
        // what is lost says itself what goes without
        let or_lost = |how: String, of: &[Loss]| match losses.iter().find(|loss| of.contains(loss)) {
            Some(loss) => loss.to_string(),
            None => how,
        };
        let (means, scripts) = (hub.means(), [Loss::Scripts, Loss::Stores]);
        let holds = "scripts, for the write modes Strict, Serve and Degrade".to_owned();
        vec![
            Capability::new("fills", means != Means::Nothing, or_lost(fills, &scripts)),
            Capability::new(
                "fills without leases",
                !cluster && !hub.is_one_key() && means == Means::Scripts,
                or_lost(unleased, &scripts),
            ),
            Capability::new(
                "notifications",
                hub.tells(),
                or_lost(tell.to_owned(), &[Loss::Resp3, Loss::Notifications]),
            ),
            Capability::new("holds", means != Means::Nothing, or_lost(holds, &scripts)),
        ]
    }
}
