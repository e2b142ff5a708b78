//! The one place that knows the `redis` crate: commands out, replies in, over one server or a cluster.

mod cluster;
mod explain;
mod greet;
mod identity;
mod per_runtime;
mod single;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use mastaba::{Fault, FaultKind};
use redis::io::tcp::TcpSettings;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, RedisWrite, ToRedisArgs, Value};

use self::per_runtime::PerRuntime;
pub(crate) use self::per_runtime::lacks;
use crate::AtStart;
use crate::config::Servers;
use crate::hub::Hub;
use crate::script::Script;
use mastaba::shared::connections::ConnectError;

/// The connections of a backend, one set per runtime that uses it. Clones share them.
#[derive(Clone)]
pub(crate) enum Wire {
    Single(Arc<PerRuntime<single::SingleLink>>),
    Cluster(Arc<PerRuntime<cluster::ClusterLink>>),
}

/// A command for one key, or for several of one server.
pub(crate) struct Command {
    cmd: Cmd,
    script: Option<Call>,
}

/// A call of a script: how many of the words are keys, and all of them.
struct Call {
    script: &'static Script,
    keys: usize,
    words: Vec<Bytes>,
}

/// One argument, in two pieces.
struct TwoPieces<'a>([&'a [u8]; 2]);

impl ToRedisArgs for TwoPieces<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut argument = out.writer_for_next_arg();
        for piece in self.0 {
            argument.write_all(piece).expect("memory takes all bytes");
        }
    }
}

/// What one server said to a question that is for no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSaid {
    /// Where it is; empty where there is one alone.
    pub(crate) place: String,
    pub(crate) took: Duration,
    /// When the answer came, by the clock of this process.
    pub(crate) at_ms: u64,
    /// Each text of the answer, or why there is none, in a clause.
    pub(crate) words: Result<Vec<String>, String>,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerReply {
    Nil,
    Done,
    Number(i64),
    Bytes(Bytes),
    /// It refused: the code, and what it said.
    Refused(String, String),
    /// It takes no scripts: what it said.
    NoScripts(String),
}

impl Command {
    /// A plain command, and its arguments.
    pub(crate) fn new(name: &str, arguments: &[Bytes]) -> Self {
        Self { cmd: command(&[name], arguments), script: None }
    }

    /// A call of a script for one key, by its digest.
    pub(crate) fn script(
        script: &'static Script,
        key: Bytes,
        arguments: impl IntoIterator<Item = Bytes>,
    ) -> Self {
        Self::script_of(script, 1, [key].into_iter().chain(arguments).collect())
    }

    /// The same for as many keys, with which the words begin.
    pub(crate) fn script_of(script: &'static Script, keys: usize, words: Vec<Bytes>) -> Self {
        let call = Call { script, keys, words };
        Self { cmd: call.by("EVALSHA", script.digest()), script: Some(call) }
    }
}

impl Call {
    fn by(&self, name: &str, script: &str) -> Cmd {
        command(&[name, script, &self.keys.to_string()], &self.words)
    }
}

/// In buffers that are large enough: there are many of these in one trip.
fn command(words: &[&str], arguments: &[Bytes]) -> Cmd {
    let bytes = words.iter().map(|word| word.len()).chain(arguments.iter().map(Bytes::len)).sum();
    let mut cmd = Cmd::with_capacity(words.len() + arguments.len(), bytes);
    words.iter().for_each(|word| {
        cmd.arg(*word);
    });
    arguments.iter().for_each(|argument| {
        cmd.arg(&argument[..]);
    });
    cmd
}

impl Wire {
    /// Connects, and checks what it has connected to.
    pub(crate) async fn connect(hub: Arc<Hub>) -> Result<Self, ConnectError> {
        hub.config.check()?;
        if let Some(what) = lacks() {
            return Err(ConnectError::config(format!("{}: {what}", hub.config.place())));
        }
        #[cfg(feature = "tls")]
        if hub.config.tls.is_some() {
            // another one that the program has chosen does as well
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let optional = hub.config.at_start == AtStart::Optional;
        Ok(match &hub.config.servers {
            Servers::Cluster(nodes) => {
                Self::Cluster(cluster::ClusterLink::connect(&hub, nodes, optional).await?)
            }
            _ => Self::Single(single::SingleLink::connect(&hub, optional).await?),
        })
    }

    /// Plain `MGET`: one trip, in a cluster one per node.
    pub(crate) async fn mget(&self, keys: &[Bytes], prefix: &[u8]) -> Result<Vec<Option<Bytes>>, Fault> {
        // the keys are copied once, into a buffer that is large enough
        let bytes = keys.iter().map(|key| prefix.len() + key.len()).sum::<usize>();
        let mut cmd = Cmd::with_capacity(1 + keys.len(), 4 + bytes);
        cmd.arg("MGET");
        for key in keys {
            cmd.arg(TwoPieces([prefix, key]));
        }
        let value = match self {
            Self::Single(links) => links.here().map_err(fault)?.one(&cmd).await,
            Self::Cluster(links) => {
                let each = keys.iter().map(|key| {
                    let mut cmd = Cmd::new();
                    cmd.arg("MGET").arg(TwoPieces([prefix, key]));
                    cmd
                });
                links.here().map_err(fault)?.read(cmd, each).await
            }
        };
        match value {
            Ok(Value::Array(values)) if values.len() == keys.len() => {
                let record = |value| match value {
                    Value::ServerError(error) => Err(fault(error.into())),
                    value => Ok(into_bytes(value).ok().flatten()),
                };
                values.into_iter().map(record).collect()
            }
            Ok(other) => {
                Err(Fault::new(FaultKind::Damaged, format!("MGET was answered with {}", sort(&other))))
            }
            Err(error) => Err(fault(error)),
        }
    }

    /// Commands for keys of their own, in one trip; in a cluster in one per node. Those that follow each other
    /// for one node are carried out in their order. And whether some had to be sent again, which then were carried out after
    /// those that follow them.
    pub(crate) async fn run_again(&self, commands: Vec<Command>) -> Result<(Vec<ServerReply>, bool), Fault> {
        let (commands, scripts): (Vec<_>, Vec<_>) =
            commands.into_iter().map(|command| (command.cmd, command.script)).unzip();
        let mut replies = self.send(commands).await?;
        // a server that was flushed of its scripts, or is another one by now, learns them again
        let forgotten: Vec<_> = (0..replies.len())
            .filter(|at| matches!(&replies[*at], ServerReply::Refused(code, _) if code == "NOSCRIPT"))
            .filter_map(|at| {
                // the same with the script itself, which the server then knows again
                let call = scripts[at].as_ref()?;
                Some((at, call.by("EVAL", call.script.body)))
            })
            .collect();
        let some = !forgotten.is_empty();
        if some {
            let (places, again): (Vec<_>, Vec<_>) = forgotten.into_iter().unzip();
            for (at, reply) in places.into_iter().zip(self.send(again).await?) {
                replies[at] = reply;
            }
        }
        Ok((replies, some))
    }

    async fn send(&self, commands: Vec<Cmd>) -> Result<Vec<ServerReply>, Fault> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<RedisResult<Value>> = match self {
            Self::Single(links) => {
                let link = links.here().map_err(fault)?;
                link.many(commands).await.map_err(fault)?.into_iter().map(Ok).collect()
            }
            Self::Cluster(links) => {
                let link = links.here().map_err(fault)?;
                join_all(commands.into_iter().map(|cmd| link.one(cmd))).await
            }
        };
        values.into_iter().map(reply).collect()
    }

    /// Waits until the notifications of everything that was acknowledged to anybody before have come.
    pub(crate) async fn catch_up(&self) -> Result<(), Fault> {
        match self {
            Self::Single(links) => links.here().map_err(fault)?.catch_up().await,
            Self::Cluster(links) => links.here().map_err(fault)?.catch_up().await,
        }
        .map_err(fault)
    }

    /// Asks each server that takes writes the same, one after the other. A refusal is an answer.
    pub(crate) async fn ask_each(&self, words: &[&str]) -> Result<Vec<ServerSaid>, Fault> {
        let cmd = command(words, &[]);
        let places = match self {
            Self::Single(_) => vec![String::new()],
            Self::Cluster(links) => links.here().map_err(fault)?.nodes().await.map_err(fault)?,
        };
        let mut answers = Vec::with_capacity(places.len());
        for place in places {
            let since = Instant::now();
            let value = match self {
                Self::Single(links) => links.here().map_err(fault)?.one(&cmd).await,
                Self::Cluster(links) => links.here().map_err(fault)?.ask(&place, cmd.clone()).await,
            };
            let (took, at_ms) = (since.elapsed(), mastaba::clock::now_ms());
            let words = match value {
                Ok(value) => Ok(texts(value)),
                Err(error) if error.code().is_some() => Err(explain::refusal(words[0], &error)),
                Err(error) => return Err(fault(error)),
            };
            answers.push(ServerSaid { place, took, at_ms, words });
        }
        Ok(answers)
    }

    /// Begins to track what is listened for.
    pub(crate) fn track(&self) {
        let wire = self.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = wire.catch_up().await;
            });
        }
    }
}

fn reply(value: RedisResult<Value>) -> Result<ServerReply, Fault> {
    match value {
        Ok(Value::Nil) => Ok(ServerReply::Nil),
        Ok(Value::Okay) => Ok(ServerReply::Done),
        Ok(Value::Int(number)) => Ok(ServerReply::Number(number)),
        Ok(Value::Boolean(is)) => Ok(ServerReply::Number(is.into())),
        Ok(Value::ServerError(error)) => refusal(&error.into()),
        Ok(other) => match into_bytes(other) {
            Ok(bytes) => Ok(bytes.map_or(ServerReply::Nil, ServerReply::Bytes)),
            Err(other) => {
                Err(Fault::new(FaultKind::Damaged, format!("a command was answered with {}", sort(&other))))
            }
        },
        Err(error) if error.code().is_some() => refusal(&error),
        Err(error) => Err(fault(error)),
    }
}

/// An error of the server about one command, unless it speaks for all of them.
fn refusal(error: &RedisError) -> Result<ServerReply, Fault> {
    if is_about_scripts(error) {
        return Ok(ServerReply::NoScripts(error.to_string()));
    }
    let code = error.code().unwrap_or("ERR").to_owned();
    if matches!(code.as_str(), "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "NOAUTH" | "NOPERM") {
        return Err(fault(error.clone()));
    }
    Ok(ServerReply::Refused(code, error.detail().unwrap_or_default().to_owned()))
}

/// `EVAL` or `EVALSHA` is forbidden, or there is none: "no permissions to run the 'evalsha' command", "unknown command 'EVAL'".
fn is_about_scripts(error: &RedisError) -> bool {
    let Some(said) = error.detail().map(str::to_ascii_lowercase) else { return false };
    match error.code() {
        Some("NOPERM") => said.contains("to run the 'eval"),
        Some("ERR") => said.contains("unknown command") && said.contains("eval"),
        _ => false,
    }
}

fn into_bytes(value: Value) -> Result<Option<Bytes>, Value> {
    match value {
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        Value::SimpleString(text) => Ok(Some(text.into())),
        Value::Nil => Ok(None),
        other => Err(other),
    }
}

/// All texts of a value, in their order.
fn texts(value: Value) -> Vec<String> {
    match value {
        Value::Array(values) | Value::Set(values) => values.into_iter().flat_map(texts).collect(),
        Value::Map(pairs) => {
            pairs.into_iter().flat_map(|(name, value)| [name, value]).flat_map(texts).collect()
        }
        Value::BulkString(bytes) => vec![String::from_utf8_lossy(&bytes).into_owned()],
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => vec![text],
        Value::Int(number) => vec![number.to_string()],
        Value::Okay => vec!["OK".to_owned()],
        _ => Vec::new(),
    }
}

/// The sort of a value, for people; never its content.
fn sort(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list of another length",
        Value::BulkString(_) | Value::SimpleString(_) => "a string",
        Value::Map(_) => "a map",
        _ => "something else",
    }
}

/// The settings of every TCP connection, also of those to sentinels.
///
/// `TCP_NODELAY`: a command is sent at once. Without it the end of what is sent waits until the server has acknowledged
/// what was sent before it, and on a connection that many share there nearly always is something before it.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// Whether connections are made so that a command is sent at once.
pub(crate) fn sends_at_once() -> bool {
    tcp_settings().nodelay()
}

pub(crate) fn fault(error: RedisError) -> Fault {
    let kind = if error.kind() == ErrorKind::InvalidClientConfig {
        // a replica, say, until the master is back
        FaultKind::Down
    } else if error.is_timeout() {
        FaultKind::Timeout
    } else if error.is_io_error()
        || error.is_connection_dropped()
        || error.is_connection_refusal()
        || error.kind() == redis::ErrorKind::Client
    {
        FaultKind::Down
    } else {
        match error.code() {
            Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "READONLY") => FaultKind::Down,
            _ => FaultKind::Refused,
        }
    };
    Fault::new(kind, format!("redis: {error}")).because(error)
}

#[cfg(feature = "tls")]
fn certificates(hub: &Hub) -> Result<redis::TlsCertificates, ConnectError> {
    if let Some(read) = hub.certificates.get() {
        return Ok(read.clone());
    }
    let tls = hub.config.tls.clone().unwrap_or_default();
    let read = |what: &str, path: &std::path::Path| {
        std::fs::read(path).map_err(|error| {
            ConnectError::config(format!("{what} = {:?} cannot be read: {error}", path.display().to_string()))
        })
    };
    let root_cert = tls.ca.as_deref().map(|path| read("tls_ca", path)).transpose()?;
    let client_tls = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Some(redis::ClientTlsConfig {
            client_cert: read("tls_cert", cert)?,
            client_key: read("tls_key", key)?,
        }),
        _ => None,
    };
    let read = redis::TlsCertificates { client_tls, root_cert };
    Ok(hub.certificates.get_or_init(|| read).clone())
}
