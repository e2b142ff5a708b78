//! Why there is no connection, at start.

use std::fmt;

/// Why [`Redis::connect`](crate::Redis::connect) failed, in one sentence that says what to do.
///
/// Once connected, nothing fails with it: what goes wrong later is a [`Fault`](mastaba::Fault) of one operation.
///
/// ```
/// use mastaba_redis::RedisConfig;
///
/// let error = RedisConfig::from_url("reddis://localhost").unwrap_err();
/// assert!(error.is_config() && error.to_string().contains("redis://"), "{error}");
/// ```
pub struct ConnectError {
    kind: ConnectErrorKind,
    sentence: String,
    cause: Option<redis::RedisError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectErrorKind {
    Config,
    Refused,
    Unreachable,
}

impl ConnectError {
    pub(crate) fn config(sentence: impl Into<String>) -> Self {
        Self { kind: ConnectErrorKind::Config, sentence: sentence.into(), cause: None }
    }

    /// The server was reached, and it or its setup does not do.
    pub(crate) fn refused(sentence: impl Into<String>) -> Self {
        Self { kind: ConnectErrorKind::Refused, sentence: sentence.into(), cause: None }
    }

    pub(crate) fn unreachable(sentence: impl Into<String>) -> Self {
        Self { kind: ConnectErrorKind::Unreachable, sentence: sentence.into(), cause: None }
    }

    pub(crate) fn because(mut self, cause: redis::RedisError) -> Self {
        self.cause = Some(cause);
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
        mastaba::chain(self, f)
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}
