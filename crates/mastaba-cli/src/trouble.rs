//! Why nothing could be looked at.

use mastaba::Fault;
use mastaba_redis::ConnectError;
use serde::Serialize;

/// One sentence that says what was wrong and what to do, for people; and of what sort it is, for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Trouble {
    /// `config`, `refused`, `unreachable`, `runtime`.
    kind: &'static str,
    error: String,
}

impl Trouble {
    pub(crate) fn new(kind: &'static str, error: &str) -> Self {
        // one line, whatever a server or a library has said
        Self { kind, error: error.split_whitespace().collect::<Vec<_>>().join(" ") }
    }

    /// Prints it: for people where errors go, for programs where answers go.
    pub(crate) fn write(&self, json: bool) {
        match json {
            true => println!("{}", serde_json::to_string_pretty(self).unwrap_or_default()),
            false => eprintln!("mastaba: {}", self.error),
        }
    }
}

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
        Self::new("unreachable", &fault.to_string())
    }
}
