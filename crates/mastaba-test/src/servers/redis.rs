//! One Redis or Valkey.

mod builder;
mod traits;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use tokio::process::Command;

pub(super) use builder::CONTROL;
pub use builder::RedisBuilder;
pub use traits::RedisTraits;

use super::home::{ServerHome, lives_at_home};
use super::missing::missing;
use super::process::{Started, free_port};
use super::resp::{Connection, Reply};
use super::skip::skipped;
use super::tls::Certificates;

/// A server that keeps nothing on disk unless it is configured to. Dropping it kills it and removes its folder.
///
/// Its own calls ([`command`](Self::command) and all that look something up) go through a socket in its folder: they
/// work whatever is asked of those who come over TCP, and they are counted by the server like any other.
#[derive(Debug)]
pub struct RedisServer {
    shape: RedisBuilder,
    bus: u16,
    home: ServerHome,
    certificates: Option<Certificates>,
}

impl RedisServer {
    /// A server with nothing special about it. `None` when none is installed: see [`missing`](super::missing).
    ///
    /// # Panics
    ///
    /// When it does not start or does not answer.
    pub async fn start() -> Option<Self> {
        Self::builder().start().await
    }

    /// For a server with settings.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    async fn launch(shape: RedisBuilder) -> Option<Self> {
        if missing(&[shape.program]) {
            return None;
        }
        if shape.tls && !Self::offers_tls(shape.program).await {
            let why = "the server was built without TLS";
            assert!(skipped(why), "{why}, and in CI no test is skipped unless MASTABA_SKIPPED names a file");
            return None;
        }
        let home = ServerHome::of("redis");
        let own = || shape.tls.then(|| Certificates::write(home.path()));
        let certificates = shape.certificates.clone().or_else(own);
        let mut server = Self { shape, bus: 0, home, certificates };
        loop {
            server.home.moves();
            server.bus = free_port();
            server.shape.write(&server);
            if server.spawn().await == Started::Ready {
                return Some(server);
            }
        }
    }

    async fn spawn(&self) -> Started {
        let mut command = Command::new(self.shape.program.find().expect("it was there before"));
        command.arg(self.home.path().join("conf"));
        if self.shape.sentinel {
            command.arg("--sentinel");
        }
        // the socket is made after the port is taken: whoever answers there is this process, and it has its port
        let ready =
            async |_| self.call(&["PING"]).await.is_ok_and(|reply| reply == Reply::Word("PONG".into()));
        self.home.start(command, ready).await
    }

    /// Where clients connect: `redis://127.0.0.1:PORT`, with the password when there is one, or `rediss`
    /// with TLS.
    pub fn url(&self) -> String {
        let password = self.shape.password.as_ref().map(|word| format!(":{word}@")).unwrap_or_default();
        let scheme = if self.certificates.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{password}{}", self.addr())
    }

    /// Where nodes of a cluster talk to each other.
    pub(super) fn bus(&self) -> u16 {
        self.bus
    }

    /// What a client of a server with TLS needs.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// A socket at which it listens too.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("socket")
    }

    /// Kills it when it runs, and starts it on the same port with an empty folder.
    pub async fn restart_empty(&self) {
        self.kill().await;
        fs::remove_dir_all(self.home.path().join("data")).expect("a folder can be emptied");
        fs::create_dir(self.home.path().join("data")).expect("a folder can be made");
        self.wake().await;
    }

    /// Sends a command and gives the text of the answer, also of a refusal; lists have one line per part.
    ///
    /// # Panics
    ///
    /// When the server does not answer. [`call`](Self::call) gives an error instead.
    pub async fn command<A: AsRef<[u8]>>(&self, command: &[A]) -> String {
        let name = || String::from_utf8_lossy(command[0].as_ref()).into_owned();
        let reply = self.call(command).await;
        reply.unwrap_or_else(|error| panic!("{} does not answer {}: {error}", self.url(), name())).to_string()
    }

    /// Sends a command over a new connection to its socket, and gives the answer.
    pub async fn call<A: AsRef<[u8]>>(&self, command: &[A]) -> io::Result<Reply> {
        let mut connection = Connection::open_socket(self.socket()).await?;
        if self.shape.guarded() {
            let [name, password] = CONTROL;
            connection.call(&["AUTH", name, password]).await?;
        }
        connection.call(command).await
    }

    /// A section of `INFO`, by name of the field.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn info(&self, section: &str) -> BTreeMap<String, String> {
        let text = self.command(&["INFO", section]).await;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    }

    /// How often each command was called since the start or [`reset_stats`](Self::reset_stats), by its name in small
    /// letters, with a subcommand after a bar: `get`, `client|tracking`. The calls of this type are among them, but
    /// not the `info` that asks.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn commandstats(&self) -> BTreeMap<String, u64> {
        let calls = |(name, value): (String, String)| {
            let calls = value.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
            Some((name.strip_prefix("cmdstat_")?.to_owned(), calls))
        };
        self.info("commandstats").await.into_iter().filter_map(calls).collect()
    }

    /// Counts from nought again.
    pub async fn reset_stats(&self) {
        assert_eq!(self.command(&["CONFIG", "RESETSTAT"]).await, "OK");
    }

    /// Changes a setting until the next restart.
    ///
    /// # Panics
    ///
    /// When the server refuses or does not answer.
    pub async fn config_set(&self, name: &str, value: &str) {
        let reply = self.command(&["CONFIG", "SET", name, value]).await;
        assert_eq!(reply, "OK", "CONFIG SET {name} {value}");
    }

    /// Cuts its replicas off, or lets them back in.
    pub(super) async fn replicate(&self, on: bool) {
        let [name, _] = builder::REPLICATION;
        assert_eq!(self.command(&["ACL", "SETUSER", name, if on { "on" } else { "off" }]).await, "OK");
        if !on {
            self.command(&["CLIENT", "KILL", "USER", name]).await;
        }
    }

    /// Whether it is a replica that has all that its master has, as far as it knows.
    pub(super) async fn is_linked(&self) -> bool {
        self.info("replication").await.get("master_link_status").is_some_and(|status| status == "up")
    }

    /// Whether it runs, answers and is a master.
    pub(super) async fn is_master(&self) -> bool {
        self.call(&["ROLE"]).await.is_ok_and(|role| role.to_string().starts_with("master"))
    }
}

lives_at_home!(
    RedisServer,
    Term: "in an orderly way (`SIGTERM`)",
    "with nothing, except with [`persistent`](RedisBuilder::persistent), or in as far as [`set`](RedisBuilder::set) made it keep \
     something",
    alone
);

/// Several servers as one place: `redis-cluster://a:1,b:2`.
pub(super) fn url_of_all(kind: &str, servers: &[RedisServer]) -> String {
    let addresses: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
    let scheme = if servers.iter().any(|server| server.certificates.is_some()) { "rediss" } else { "redis" };
    format!("{scheme}-{kind}://{}", addresses.join(","))
}
