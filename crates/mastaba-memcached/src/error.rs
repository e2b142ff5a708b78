//! Why there is no connection, at start.

use std::fmt;

/// Why [`Memcached::connect`](crate::Memcached::connect) failed, in one sentence that says what to do.
///
/// Once connected, nothing fails with it: what goes wrong later is a [`Fault`](mastaba::Fault) of one operation.
///
/// ```
/// use mastaba_memcached::MemcachedConfig;
///
/// let error = MemcachedConfig::from_url("memcache://localhost:http").unwrap_err();
/// assert!(error.is_config() && error.to_string().contains("port"), "{error}");
/// ```
#[derive(Clone)]
pub struct ConnectError {
    kind: ConnectErrorKind,
    sentence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectErrorKind {
    Config,
    Refused,
    Unreachable,
}

impl ConnectError {
    pub(crate) fn config(sentence: impl Into<String>) -> Self {
        Self { kind: ConnectErrorKind::Config, sentence: sentence.into() }
    }

    /// The server was reached, and it or its setup does not do.
    pub(crate) fn refused(sentence: impl Into<String>) -> Self {
        Self { kind: ConnectErrorKind::Refused, sentence: sentence.into() }
    }

    pub(crate) fn unreachable(sentence: impl Into<String>) -> Self {
        Self { kind: ConnectErrorKind::Unreachable, sentence: sentence.into() }
    }

    /// The configuration is wrong: nothing was tried.
    pub fn is_config(&self) -> bool {
        self.kind == ConnectErrorKind::Config
    }

    /// The server answered, and cannot be used: an old version, no CAS numbers, a password that it asks for.
    pub fn is_refused(&self) -> bool {
        self.kind == ConnectErrorKind::Refused
    }

    /// Nobody answered.
    pub fn is_unreachable(&self) -> bool {
        self.kind == ConnectErrorKind::Unreachable
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// As it reads where `main` returns it.
impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        mastaba::chain(self, f)
    }
}

impl std::error::Error for ConnectError {}
