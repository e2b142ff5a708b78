//! What is said, and done, where there is no connection at start.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why connecting failed, in one sentence that says what to do.
///
/// Once connected, nothing fails with it: what goes wrong later is a [`Fault`](crate::Fault) of one operation.
///
/// ```
/// use mastaba::shared::connections::ConnectError;
///
/// let error = ConnectError::refused("redis at db:6379 has the version 6.2, and 7.0 or later is needed");
/// assert!(error.is_refused() && !error.is_config());
/// ```
#[derive(Clone)]
pub struct ConnectError {
    kind: ConnectErrorKind,
    sentence: String,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectErrorKind {
    Config,
    Refused,
    Unreachable,
}

impl ConnectError {
    /// The configuration is wrong: nothing was tried.
    pub fn config(sentence: impl Into<String>) -> Self {
        Self::new(ConnectErrorKind::Config, sentence.into())
    }

    /// The server was reached, and it or its setup does not do.
    pub fn refused(sentence: impl Into<String>) -> Self {
        Self::new(ConnectErrorKind::Refused, sentence.into())
    }

    /// Nobody answered.
    pub fn unreachable(sentence: impl Into<String>) -> Self {
        Self::new(ConnectErrorKind::Unreachable, sentence.into())
    }

    fn new(kind: ConnectErrorKind, sentence: String) -> Self {
        Self { kind, sentence, cause: None }
    }

    /// The same, with what it is due to.
    #[must_use]
    pub fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }

    /// The configuration is wrong: nothing was tried.
    pub fn is_config(&self) -> bool {
        self.kind == ConnectErrorKind::Config
    }

    /// The server answered, and cannot be used: a wrong password, an old version, a replica.
    pub fn is_refused(&self) -> bool {
        self.kind == ConnectErrorKind::Refused
    }

    /// Nobody answered, or TLS did not come about.
    pub fn is_unreachable(&self) -> bool {
        self.kind == ConnectErrorKind::Unreachable
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// As it reads where `main` returns it: the sentence, and the causes that it does not repeat.
impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::chain(self, f)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// What to do when a server cannot be reached at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtStart {
    /// Fail, with a sentence that says why.
    #[default]
    Required,
    /// Warn, serve from the source alone what would be there, and go on trying.
    Optional,
}

/// As it stands in a configuration. The error says what is needed.
impl FromStr for AtStart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "required" => Ok(Self::Required),
            "optional" => Ok(Self::Optional),
            _ => Err("`required` or `optional` is needed".to_owned()),
        }
    }
}
