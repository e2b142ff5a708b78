//! Errors: one cloneable type for callers, one for backends.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// A cause, as sources give it.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Why a read, a write or a start-up failed.
///
/// Cheap to clone: every waiter of one failed load gets the same error. Its sentence names the region or the
/// source and how many keys were concerned; [`std::error::Error::source`] gives the cause.
///
/// A fault of the shared tier is *not* an error of a read: it is an event and a line in the report.
///
/// ```
/// # use mastaba::Error;
/// fn retry_later(error: &Error) -> bool {
///     error.is_timeout()
/// }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    sentence: String,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Source,
    Timeout,
    Panic,
    Shared,
    Config,
    Usage,
}

impl Error {
    /// The source failed to look.
    pub(crate) fn source(sentence: impl Into<String>, cause: BoxError) -> Self {
        Self::new(Kind::Source, sentence, Some(Arc::from(cause)))
    }

    /// The source answered with rows that cannot be used.
    pub(crate) fn rows(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Source, sentence, None)
    }

    pub(crate) fn timeout(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Timeout, sentence, None)
    }

    pub(crate) fn panic(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Panic, sentence, None)
    }

    /// The shared tier did not confirm an invalidation.
    pub(crate) fn shared(sentence: impl Into<String>, cause: Fault) -> Self {
        Self::new(Kind::Shared, sentence, Some(Arc::new(cause)))
    }

    pub(crate) fn config(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Config, sentence, None)
    }

    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Usage, sentence, None)
    }

    fn new(kind: Kind, sentence: impl Into<String>, cause: Option<Arc<dyn StdError + Send + Sync>>) -> Self {
        Self(Arc::new(Inner { kind, sentence: sentence.into(), cause }))
    }

    /// The source failed: its own error is the cause, or its rows could not be used, or it panicked.
    pub fn is_source(&self) -> bool {
        matches!(self.0.kind, Kind::Source | Kind::Panic)
    }

    /// The source did not answer within its hard budget; or the shared tier is out, and the turn of the load would
    /// have come later than that (see [`Policy::outage_loads_per_second`](crate::Policy::outage_loads_per_second)).
    pub fn is_timeout(&self) -> bool {
        self.0.kind == Kind::Timeout
    }

    /// The source panicked.
    pub fn is_panic(&self) -> bool {
        self.0.kind == Kind::Panic
    }

    /// The shared tier did not confirm an invalidation. Only writes fail with this.
    pub fn is_shared(&self) -> bool {
        self.0.kind == Kind::Shared
    }

    /// The configuration is wrong; the sentence lists everything that was found.
    pub fn is_config(&self) -> bool {
        self.0.kind == Kind::Config
    }

    /// The program used the library wrongly: an unregistered source, a call outside of a runtime, a loader
    /// that waits for itself.
    pub fn is_usage(&self) -> bool {
        self.0.kind == Kind::Usage
    }

    /// The cause, if it is an `E`: the error that a source returned, for example.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.cause.as_deref().and_then(|cause| (cause as &(dyn StdError + 'static)).downcast_ref())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind).field("sentence", &self.0.sentence);
        if let Some(cause) = &self.0.cause {
            out.field("cause", cause);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

/// What went wrong in a backend of the shared tier. The outcome of the call is unknown.
#[derive(Clone, Debug)]
pub struct Fault {
    kind: FaultKind,
    sentence: String,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The sort of a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// The store cannot be reached, or has been closed.
    Down,
    /// The store did not answer in time.
    Timeout,
    /// The store answered that it cannot do this: it is full, read-only, of a wrong version.
    Refused,
    /// The store's own data are damaged.
    Damaged,
}

impl Fault {
    /// A fault, with a sentence for people.
    pub fn new(kind: FaultKind, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into(), cause: None }
    }

    /// Adds what lies behind it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<BoxError>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// Its sort.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}
