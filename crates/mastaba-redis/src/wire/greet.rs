//! The first words on every connection: who are you (`R11`), and tell me of changes (`R13`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use redis::aio::{ConnectionLike, MultiplexedConnection, SendError};
use redis::{ErrorKind, PushInfo, PushKind, RedisError, RedisResult, Value};

use crate::hub::{Greeting, Hub};

/// Asks a server what it is.
pub(super) async fn ask(connection: &mut MultiplexedConnection) -> RedisResult<Greeting> {
    let mut cmd = redis::cmd("INFO");
    cmd.arg("server").arg("memory").arg("replication").arg("cluster");
    read(connection.req_packed_command(&cmd).await?.extract_error()?)
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

/// Hears what one connection is told.
#[derive(Default)]
pub(super) struct Ear {
    hub: OnceLock<Arc<Hub>>,
    /// The [`Hub::wanted`] that the connection tracks.
    tracked: AtomicU64,
}

impl Ear {
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
    /// ping is seen, everything that was told before it has been heard.
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
            (PushKind::Disconnection, _) => {
                if self.tracked.swap(0, Ordering::AcqRel) != 0 {
                    hub.gap();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes the server tell of everything that is listened for, unless it does.
    ///
    /// What changed before it began was not told, so that is a gap.
    pub(super) async fn track(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let Some(hub) = self.hub() else { return Ok(()) };
        let wanted = hub.wanted();
        let before = self.tracked.load(Ordering::Acquire);
        if wanted == before {
            return Ok(());
        }
        if before != 0 {
            let mut off = redis::cmd("CLIENT");
            off.arg("TRACKING").arg("OFF");
            connection.req_packed_command(&off).await?.extract_error()?;
        }
        // NOLOOP: what this very connection changes this process knows
        let mut on = redis::cmd("CLIENT");
        on.arg("TRACKING").arg("ON").arg("BCAST").arg("NOLOOP");
        for prefix in hub.prefixes() {
            on.arg("PREFIX").arg(prefix);
        }
        connection.req_packed_command(&on).await?.extract_error()?;
        self.tracked.store(wanted, Ordering::Release);
        hub.gap();
        Ok(())
    }
}

/// What is wrong with a server, as an error of the connection.
pub(super) fn refuse(sentence: String) -> RedisError {
    (ErrorKind::InvalidClientConfig, "the server cannot be used", sentence).into()
}
