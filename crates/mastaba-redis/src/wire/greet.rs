//! The first commands on every connection: which store it is (`R11`), and notifications of changes (`R13`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use redis::aio::{ConnectionLike, MultiplexedConnection, SendError};
use redis::{ErrorKind, Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value};

use crate::hub::{Greeting, Hub};

/// Asks a server what it is.
pub(super) async fn ask(connection: &mut MultiplexedConnection) -> RedisResult<Greeting> {
    read(connection.req_packed_command(&question()).await?.extract_error()?)
}

/// What it is asked.
pub(super) fn question() -> redis::Cmd {
    let mut cmd = redis::cmd("INFO");
    cmd.arg("server").arg("memory").arg("replication").arg("cluster");
    cmd
}

/// Reads what it said.
pub(super) fn read(value: Value) -> RedisResult<Greeting> {
    let info = match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } => text,
        Value::SimpleString(text) => text,
        _ => String::new(),
    };
    Greeting::read(&info).ok_or_else(|| {
        (ErrorKind::UnexpectedReturnType, "INFO does not tell run_id and master_replid, which are needed")
            .into()
    })
}

/// Looks whether the user may do what will be asked of the server, once per backend: a missing right is an error at start. Every
/// command is given in a form that changes nothing, and a server looks at the right to a command before anything else.
///
/// The right to the keys shows later: what they begin with is known with the first region.
pub(super) async fn examine(connection: &mut MultiplexedConnection, hub: &Hub) -> RedisResult<()> {
    if !hub.examines() {
        return Ok(());
    }
    if let Err(error) = warn_of_a_needless_password(connection, hub).await {
        hub.examine_again();
        return Err(error);
    }
    let key = format!("{}mastaba:?", hub.config.prefix);
    let digest = "0".repeat(40);
    let asked: Vec<Vec<&str>> = vec![
        vec!["PING"],
        vec!["CLIENT", "TRACKING", "OFF"],
        vec!["MGET", &key],
        vec!["GET", &key],
        vec!["GETRANGE", &key, "0", "0"],
        vec!["PTTL", &key],
        vec!["UNLINK", &key],
        vec!["SET", &key, "", "XX", "PX", "1"],
        vec!["EVALSHA", &digest, "0"],
        vec!["EVAL", "return 0", "0"],
    ];
    let told = |words: &Vec<&str>| hub.config.tell || !matches!(words[0], "PING" | "CLIENT");
    let asked: Vec<_> = asked.into_iter().filter(told).collect();
    let mut pipeline = redis::Pipeline::with_capacity(asked.len());
    for words in &asked {
        let mut cmd = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            cmd.arg(word);
        });
        pipeline.add_command(cmd);
    }
    let examined = connection.req_packed_commands(&pipeline, 0, asked.len()).await;
    if examined.is_err() {
        hub.examine_again();
    }
    let refused = |value: &Value| match value {
        // "no permissions to run the 'get' command", and not "to access one of the keys"
        Value::ServerError(error) => {
            error.code() == "NOPERM" && error.details().is_some_and(|said| said.contains("to run"))
        }
        _ => false,
    };
    let lacking: Vec<_> = asked
        .iter()
        .zip(examined?)
        .filter(|(_, value)| refused(value))
        .map(|(words, _)| if words[0] == "CLIENT" { "CLIENT TRACKING" } else { words[0] })
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    hub.examine_again();
    Err(refuse(format!(
        "the user lacks the right to {}; {}",
        lacking.join(", "),
        super::explain::rights(&hub.config)
    )))
}

/// A server without a password takes any, and so a password that was to protect it passes silently. Asked in the old way,
/// without a name, it says so. A right to `AUTH` is not needed, and whoever is let in already stays who he is.
async fn warn_of_a_needless_password(connection: &mut MultiplexedConnection, hub: &Hub) -> RedisResult<()> {
    let config = &hub.config;
    let Some(password) = &config.password else { return Ok(()) };
    if config.username.as_deref().is_some_and(|name| name != "default") {
        return Ok(());
    }
    let said =
        connection.req_packed_command(redis::cmd("AUTH").arg(password)).await.and_then(Value::extract_error);
    match said {
        Err(error) if error.to_string().contains("without any password configured") => {
            tracing::warn!(
                target: "mastaba",
                "{}: a password is given, and the server has none, so it lets everybody in; give it one (requirepass), or \
                 leave the password out",
                config.place()
            );
            Ok(())
        }
        Err(error) if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() => {
            Err(error)
        }
        // whatever else is wrong with it has been said by the greeting
        _ => Ok(()),
    }
}

/// Receives the notifications of one connection.
#[derive(Default)]
pub(super) struct Tracker {
    hub: OnceLock<Arc<Hub>>,
    /// The [`Hub::wanted`] that the connection tracks.
    tracked: AtomicU64,
    /// Held by who makes the server track.
    setting: tokio::sync::Mutex<()>,
}

impl Tracker {
    pub(super) fn of(hub: &Arc<Hub>) -> Arc<Self> {
        let ear = Self::default();
        let _ = ear.hub.set(hub.clone());
        Arc::new(ear)
    }

    pub(super) fn hub(&self) -> Option<&Arc<Hub>> {
        self.hub.get()
    }

    pub(super) fn belongs_to(&self, hub: &Arc<Hub>) {
        let _ = self.hub.set(hub.clone());
    }

    /// What a push says. Called by the task that reads the connection, in the order of arrival: when the answer to a
    /// ping is seen, all notifications that were sent before it have been received.
    pub(super) fn hear(&self, push: &PushInfo) -> Result<(), SendError> {
        let Some(hub) = self.hub() else { return Ok(()) };
        match (&push.kind, push.data.first()) {
            (PushKind::Invalidate, Some(Value::Array(keys))) => {
                for key in keys {
                    if let Value::BulkString(key) = key {
                        hub.changed(key);
                    }
                }
            }
            // flushed
            (PushKind::Invalidate, _) => hub.gap(),
            (PushKind::Disconnection, _) if self.tracked.swap(0, Ordering::AcqRel) != 0 => hub.gap(),
            _ => {}
        }
        Ok(())
    }

    /// Makes the server send notifications for everything that is listened for, unless it does.
    ///
    /// Of what changed before it began no notification came, so that is a gap.
    pub(super) async fn track(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let Some(hub) = self.hub() else { return Ok(()) };
        if hub.wanted() == self.tracked.load(Ordering::Acquire) {
            return Ok(());
        }
        // One at a time: while one sets it anew no notification comes, and a ping of another one must not go in between.
        let _one = self.setting.lock().await;
        let wanted = hub.wanted();
        if wanted == self.tracked.load(Ordering::Acquire) {
            return Ok(());
        }
        // Off in any case: it may have been set for somebody who did not wait for the answer, and the server refuses to
        // track a prefix twice.
        let mut set = Pipeline::with_capacity(2);
        set.cmd("CLIENT").arg("TRACKING").arg("OFF");
        // NOLOOP: what this very connection changes this process knows
        set.cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST").arg("NOLOOP");
        for prefix in hub.prefixes() {
            set.arg("PREFIX").arg(prefix);
        }
        for said in connection.req_packed_commands(&set, 0, 2).await? {
            said.extract_error()?;
        }
        self.tracked.store(wanted, Ordering::Release);
        hub.gap();
        Ok(())
    }
}

/// What is wrong with a server, as an error of the connection.
pub(super) fn refuse(sentence: String) -> RedisError {
    (ErrorKind::InvalidClientConfig, "the server cannot be used", sentence).into()
}
