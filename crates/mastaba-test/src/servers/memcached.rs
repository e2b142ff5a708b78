//! One Memcached.

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::home::{ServerHome, lives_at_home};
use super::missing::missing;
use super::process::Started;
use super::programs::Program;

/// A command that does nothing, and its answer: whatever was asked before is answered before.
const NOTHING: [&[u8]; 2] = [b"mn\r\n", b"MN\r\n"];

/// A server for one test. Dropping it kills it and removes its folder.
///
/// It keeps all in memory: what it held is gone after a [`stop`](Self::stop), a [`kill`](Self::kill) and a
/// [`restart`](Self::restart). Its own calls ([`command`](Self::command), [`stats`](Self::stats)) come over a new connection each.
///
/// ```
/// use mastaba_test::servers::MemcachedServer;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let Some(server) = MemcachedServer::start().await else { return };
/// assert_eq!(server.command("set a 0 0 1\r\n1\r\n").await, "STORED\r\n");
/// assert_eq!(server.command("mg a v\r\n").await, "VA 1\r\n1\r\n");
/// assert_eq!(server.stats("").await["curr_items"], "1");
/// # });
/// ```
#[derive(Debug)]
pub struct MemcachedServer {
    shape: MemcachedBuilder,
    home: ServerHome,
}

impl MemcachedServer {
    /// A server with nothing special about it. `None` when none is installed: see [`missing`](super::missing).
    ///
    /// # Panics
    ///
    /// When it does not start or does not answer.
    pub async fn start() -> Option<Self> {
        Self::builder().start().await
    }

    /// For a server with settings.
    pub fn builder() -> MemcachedBuilder {
        MemcachedBuilder::default()
    }

    async fn launch(shape: MemcachedBuilder) -> Option<Self> {
        if missing(&[Program::Memcached]) {
            return None;
        }
        let mut server = Self { shape, home: ServerHome::of("memcached") };
        loop {
            server.home.moves();
            if server.spawn().await == Started::Ready {
                return Some(server);
            }
        }
    }

    async fn spawn(&self) -> Started {
        let mut command = Command::new(Program::Memcached.find().expect("it was there before"));
        command.args(["-l", "127.0.0.1", "-U", "0", "-p"]).arg(self.port().to_string());
        // root has to say as whom it shall run; nobody else is asked
        command.args(["-u", "root"]).args(&self.shape.arguments);
        let ready = async |pid: u32| {
            self.fields("").await.is_ok_and(|stats| stats.get("pid") == Some(&pid.to_string()))
        };
        self.home.start(command, ready).await
    }

    /// Sends commands, each with its line ending and its data, and gives all that is answered to them, refusals as well. What
    /// is no text is shown as `�`.
    ///
    /// # Panics
    ///
    /// When the server does not answer. [`call`](Self::call) gives an error instead.
    pub async fn command(&self, commands: &str) -> String {
        let answer = self.call(commands.as_bytes()).await;
        let answer =
            answer.unwrap_or_else(|error| panic!("{} does not answer {commands:?}: {error}", self.addr()));
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends commands over a new connection, each with its line ending and its data, and gives all that is answered to them.
    pub async fn call(&self, commands: &[u8]) -> io::Result<Vec<u8>> {
        let [nothing, end] = NOTHING;
        let mut stream = TcpStream::connect(self.addr()).await?;
        stream.write_all(&[commands, nothing].concat()).await?;
        let mut answer = Vec::new();
        // a value may end like that as well, but then more comes behind it
        while !answer.ends_with(end) {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        answer.truncate(answer.len() - end.len());
        Ok(answer)
    }

    /// What it counts: in all (`""`), or of `items`, `slabs`, `settings`, `conns`, by name.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn stats(&self, section: &str) -> BTreeMap<String, String> {
        let fields = self.fields(section).await;
        fields.unwrap_or_else(|error| panic!("{} does not answer stats {section}: {error}", self.addr()))
    }

    async fn fields(&self, section: &str) -> io::Result<BTreeMap<String, String>> {
        let section = if section.is_empty() { String::new() } else { format!(" {section}") };
        let answer = self.call(format!("stats{section}\r\n").as_bytes()).await?;
        let text = String::from_utf8_lossy(&answer);
        let field = |line: &str| {
            let (name, value) = line.strip_prefix("STAT ")?.split_once(' ')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Ok(text.lines().filter_map(field).collect())
    }

    /// Counts from nought again.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn reset_stats(&self) {
        assert_eq!(self.command("stats reset\r\n").await, "RESET\r\n");
    }
}

lives_at_home!(MemcachedServer, Term: "in an orderly way (`SIGTERM`)", "empty", alone);

/// What a server shall be like; made by [`MemcachedServer::builder`].
///
/// ```
/// use mastaba_test::servers::MemcachedServer;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let small = MemcachedServer::builder().memory(8).item_size(64);
/// let Some(server) = small.start().await else { return };
/// assert_eq!(server.stats("").await["limit_maxbytes"], (8 << 20).to_string());
/// assert_eq!(server.stats("settings").await["item_size_max"], (64 << 10).to_string());
/// # });
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemcachedBuilder {
    arguments: Vec<String>,
}

impl MemcachedBuilder {
    /// Arguments of its command line, after those that are there by default.
    pub fn arguments<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// How much it may hold, in mebibytes (`-m`); 64 unless set.
    pub fn memory(self, mebibytes: u32) -> Self {
        self.arguments(["-m".to_owned(), mebibytes.to_string()])
    }

    /// How large an item may be, with its key, in kibibytes (`-I`): 1024 unless set, and a power of two below.
    pub fn item_size(self, kibibytes: u32) -> Self {
        // it refuses pieces of items that are larger than an item
        let pieces = (kibibytes / 2).clamp(1, 512);
        self.arguments([
            "-I".to_owned(),
            format!("{kibibytes}k"),
            "-o".to_owned(),
            format!("slab_chunk_max={pieces}"),
        ])
    }

    /// Writes every command and its answer to the [log](MemcachedServer::log) (`-vv`).
    pub fn verbose(self) -> Self {
        self.arguments(["-vv"])
    }

    /// Starts it, which takes a few milliseconds. `None` when no server is installed: see [`missing`](super::missing).
    ///
    /// # Panics
    ///
    /// When it does not start or does not answer.
    pub async fn start(self) -> Option<MemcachedServer> {
        MemcachedServer::launch(self).await
    }
}
