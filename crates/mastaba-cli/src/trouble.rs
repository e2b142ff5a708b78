//! Why nothing could be looked at.

use mastaba::{Fault, FaultKind};
use serde::Serialize;

use crate::secrets::Secrets;

/// One sentence that says what was wrong and what to do, for people; and of what sort it is, for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Trouble {
    /// `config`, `refused`, `unreachable`, `unconfirmed`, `runtime`.
    kind: &'static str,
    error: String,
}

impl Trouble {
    pub(crate) fn new(kind: &'static str, error: &str) -> Self {
        // one line, whatever a server or a library has said
        Self { kind, error: error.split_whitespace().collect::<Vec<_>>().join(" ") }
    }

    /// Whatever a server or a library has repeated, a password is not.
    pub(crate) fn masked(self, secrets: &Secrets) -> Self {
        Self { error: secrets.masked(&self.error), ..self }
    }

    /// Prints it: for people where errors go, for programs where answers go.
    pub(crate) fn write(&self, json: bool) {
        match json {
            true => println!("{}", serde_json::to_string_pretty(self).unwrap_or_default()),
            false => eprintln!("mastaba: {}", self.error),
        }
    }
}

/// One of the two backends could not be connected to.
fn of_connecting(is_config: bool, is_refused: bool, error: &dyn std::fmt::Display) -> Trouble {
    let kind = match (is_config, is_refused) {
        (true, _) => "config",
        (_, true) => "refused",
        _ => "unreachable",
    };
    Trouble::new(kind, &error.to_string())
}

impl From<mastaba_redis::ConnectError> for Trouble {
    fn from(error: mastaba_redis::ConnectError) -> Self {
        of_connecting(error.is_config(), error.is_refused(), &error)
    }
}

impl From<mastaba_memcached::ConnectError> for Trouble {
    fn from(error: mastaba_memcached::ConnectError) -> Self {
        of_connecting(error.is_config(), error.is_refused(), &error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        let kind = if fault.kind() == FaultKind::Refused { "refused" } else { "unreachable" };
        Self::new(kind, &fault.to_string())
    }
}
