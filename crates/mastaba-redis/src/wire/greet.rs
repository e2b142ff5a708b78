//! The first commands on every connection: which store it is (`R11`), and notifications of changes (`R13`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use redis::aio::{ConnectionLike, MultiplexedConnection, SendError};
use redis::{ErrorKind, Pipeline, PushInfo, PushKind, RedisError, RedisResult, ServerError, Value};

use crate::greeting::Greeting;
use crate::hub::Hub;
use crate::loss::Loss;

/// Asks a server what it is. What it does not say, or may not be asked, is unknown.
pub(super) async fn ask(connection: &mut MultiplexedConnection) -> RedisResult<Greeting> {
    let mut said = connection.req_packed_command(&question()).await?;
    if matches!(&said, Value::ServerError(error) if is_misunderstood(error)) {
        said = connection.req_packed_command(&redis::cmd("INFO")).await?;
    }
    match said {
        Value::ServerError(error) if is_refused(&error) => Ok(Greeting::default()),
        said => said.extract_error().map(read),
    }
}

/// What it is asked.
pub(super) fn question() -> redis::Cmd {
    let mut cmd = redis::cmd("INFO");
    cmd.arg("server").arg("memory").arg("replication").arg("cluster");
    cmd
}

/// Reads what it said.
pub(super) fn read(value: Value) -> Greeting {
    let info = match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } => text,
        Value::SimpleString(text) => text,
        _ => String::new(),
    };
    Greeting::read(&info).unwrap_or_default()
}

/// Several sections at once are new in 7.0, and others than Redis may not know them.
fn is_misunderstood(error: &ServerError) -> bool {
    error.code() == "ERR"
        && error.details().is_some_and(|said| said.contains("syntax") || said.contains("arguments"))
}

/// Whether a command was refused for good: there is none of that name, or not in that form, or the user has no right to it.
/// Another error may be of the moment, or of the key ("no permissions to access one of the keys"), or of a command that only has
/// this name.
pub(super) fn is_refused(error: &ServerError) -> bool {
    match error.code() {
        "ERR" => !error.details().is_some_and(|said| said.starts_with("wrong number of arguments")),
        "NOPERM" => error.details().is_some_and(|said| said.contains("to run")),
        _ => false,
    }
}

/// What a command is for that may be refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Nothing goes without it.
    Everything,
    Notifications,
    Scripts,
    /// To learn whether the server has `SET .. NX GET`, and so is 7.0 or later.
    Version,
    /// To learn whether it has `SET .. IFEQ`.
    Compares,
}

/// Looks whether what will be asked of the server may be, once per backend: what nothing goes without is an error at start, and
/// what something goes without is a [`Loss`]. Every command is given in a form that changes nothing, and a server looks at
/// the right to a command before anything else.
///
/// The right to the keys shows later: what they begin with is known with the first region.
pub(super) async fn examine(
    connection: &mut MultiplexedConnection,
    hub: &Hub,
    greeting: &Greeting,
) -> RedisResult<()> {
    if !hub.examines() {
        if let Some(compares) = greeting.compares {
            hub.learn(compares);
        }
        return Ok(());
    }
    let examined = examine_now(connection, hub, greeting).await;
    if examined.is_err() {
        hub.examine_again();
    }
    examined
}

async fn examine_now(
    connection: &mut MultiplexedConnection,
    hub: &Hub,
    greeting: &Greeting,
) -> RedisResult<()> {
    warn_of_a_needless_password(connection, hub).await?;
    let key = format!("{}mastaba:?", hub.config.prefix);
    let digest = "0".repeat(40);
    let mut asked: Vec<(Use, Vec<&str>)> = vec![
        (Use::Everything, vec!["MGET", &key]),
        (Use::Everything, vec!["GET", &key]),
        (Use::Everything, vec!["GETRANGE", &key, "0", "0"]),
        (Use::Everything, vec!["PTTL", &key]),
        (Use::Everything, vec!["UNLINK", &key]),
        (Use::Everything, vec!["SET", &key, "", "XX", "PX", "1"]),
        // with a key, by which a proxy knows where they belong
        (Use::Scripts, vec!["EVALSHA", &digest, "1", &key]),
        (Use::Scripts, vec!["EVAL", "return 0", "1", &key]),
    ];
    if hub.config.tell && !hub.has_lost(Loss::Resp3) {
        asked.push((Use::Notifications, vec!["PING"]));
        // some have tracking, and not by prefixes
        let on = vec!["CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP", "PREFIX", &key];
        asked.push((Use::Notifications, on));
        asked.push((Use::Notifications, vec!["CLIENT", "TRACKING", "OFF"]));
    }
    if greeting.version.is_none() {
        asked.push((Use::Version, vec!["SET", &key, "", "NX", "GET", "PX", "1"]));
        asked.push((Use::Compares, vec!["SET", &key, "", "IFEQ", "", "PX", "1"]));
    }
    let mut pipeline = Pipeline::with_capacity(asked.len());
    for (_, words) in &asked {
        let mut cmd = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            cmd.arg(word);
        });
        pipeline.add_command(cmd);
    }
    let said = connection.req_packed_commands(&pipeline, 0, asked.len()).await?;
    let refused: Vec<_> = asked
        .iter()
        .zip(&said)
        .filter_map(|((what, words), said)| match said {
            Value::ServerError(error) if is_refused(error) => Some((*what, words[0], error)),
            _ => None,
        })
        .collect();
    let of = |what: Use| refused.iter().filter(move |(its, ..)| *its == what);
    if let Some((_, name, error)) = of(Use::Everything).next() {
        let names: Vec<_> = of(Use::Everything).map(|(_, name, _)| *name).collect();
        return Err(refuse(match error.code() {
            "NOPERM" => format!(
                "the user lacks the right to {}; {}",
                names.join(", "),
                super::explain::rights(&hub.config)
            ),
            _ => format!("it refuses {name}, without which nothing can be stored or read: {error}"),
        }));
    }
    if of(Use::Version).next().is_some() {
        return Err(refuse(
            "it has no SET .. NX GET, so it is older than 7.0, which is needed; Valkey will do".into(),
        ));
    }
    hub.learn(greeting.compares.unwrap_or_else(|| of(Use::Compares).next().is_none()));
    let mut why = Vec::new();
    for (what, loss) in [(Use::Notifications, Loss::Notifications), (Use::Scripts, Loss::Scripts)] {
        match of(what).next() {
            Some((.., error)) => {
                hub.lose(loss);
                why.push(error.to_string());
            }
            None => hub.regain(loss),
        }
    }
    if of(Use::Notifications).chain(of(Use::Scripts)).any(|(.., error)| error.code() == "NOPERM") {
        why.push(super::explain::rights(&hub.config));
    }
    hub.say_losses((!why.is_empty()).then(|| why.join("; ")).as_deref());
    Ok(())
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
    /// Of what changed before it began no notification came, so that is a gap. A server that refuses is used without.
    pub(super) async fn track(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let Some(hub) = self.hub() else { return Ok(()) };
        if !hub.tells() || hub.wanted() == self.tracked.load(Ordering::Acquire) {
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
            if let Value::ServerError(error) = &said
                && is_refused(error)
            {
                self.tracked.store(0, Ordering::Release);
                hub.lose(Loss::Notifications);
                hub.say_losses(Some(&error.to_string()));
                return Ok(());
            }
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
