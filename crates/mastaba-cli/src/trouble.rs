//! Why nothing could be looked at.

use mastaba::{Fault, FaultKind};
use mastaba_redis::ConnectError;
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

/// The same type for both backends.
impl From<ConnectError> for Trouble {
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            error if error.is_config() => "config",
            error if error.is_refused() => "refused",
            _ => "unreachable",
        };
        Self::new(kind, &error.to_string())
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        let kind = if fault.kind() == FaultKind::Refused { "refused" } else { "unreachable" };
        Self::new(kind, &fault.to_string())
    }
}
