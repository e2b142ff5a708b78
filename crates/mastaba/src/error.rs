//! Errors: one cloneable type for callers, one for backends.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::config::Understood;
use crate::guarded::{Panicked, guard};

/// What of a key panicked, where it is looked up, compared and copied.
pub(crate) const OF_A_KEY: &str = "`Hash`, `Eq` or `Clone` of a key";

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
    kind: ErrorKind,
    sentence: String,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
    /// Of settings with something wrong in them: the rest.
    understood: Option<Box<Understood>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorKind {
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
        Self::new(ErrorKind::Source, sentence, Some(Arc::from(cause)))
    }

    /// The source answered with rows that cannot be used.
    pub(crate) fn rows(sentence: impl Into<String>) -> Self {
        Self::new(ErrorKind::Source, sentence, None)
    }

    pub(crate) fn timeout(sentence: impl Into<String>) -> Self {
        Self::new(ErrorKind::Timeout, sentence, None)
    }

    pub(crate) fn panic(sentence: impl Into<String>) -> Self {
        Self::new(ErrorKind::Panic, sentence, None)
    }

    /// The user's code panicked: what of a source, and what it said.
    pub(crate) fn panicked(source: &str, what: &str, why: &Panicked) -> Self {
        Self::panic(format!("source {source}: {what} panicked: {why}"))
    }

    /// The shared tier did not confirm an invalidation.
    pub(crate) fn shared(sentence: impl Into<String>, cause: Fault) -> Self {
        Self::new(ErrorKind::Shared, sentence, Some(Arc::new(cause)))
    }

    /// Settings are wrong, and this is what could be read of them all the same.
    pub(crate) fn settings(sentence: impl Into<String>, understood: Option<Box<Understood>>) -> Self {
        let (kind, sentence) = (ErrorKind::Config, sentence.into());
        Self(Arc::new(Inner { kind, sentence, cause: None, understood }))
    }

    pub(crate) fn understood(&self) -> Option<&Understood> {
        self.0.understood.as_deref()
    }

    /// For the crates beside this one.
    #[doc(hidden)]
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, sentence, None)
    }

    /// The same of one source, whose name the sentence begins with.
    pub(crate) fn named(&self, source: &str) -> Self {
        self.within(&format!("source {source}"))
    }

    /// The same, with a sentence that says first what it happened in.
    pub(crate) fn within(&self, what: &str) -> Self {
        let Inner { kind, sentence, cause, .. } = &*self.0;
        Self::new(*kind, format!("{what}: {sentence}"), cause.clone())
    }

    fn new(
        kind: ErrorKind,
        sentence: impl Into<String>,
        cause: Option<Arc<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner { kind, sentence: sentence.into(), cause, understood: None }))
    }

    /// The source failed: its own error is the cause, or its rows could not be used, or it panicked.
    pub fn is_source(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Source | ErrorKind::Panic)
    }

    /// The source did not answer within its hard budget; or the shared tier is out, and the turn of the load would
    /// have come later than that (see
    /// [`RegionPolicy::outage_loads_per_second`](crate::RegionPolicy::outage_loads_per_second)).
    pub fn is_timeout(&self) -> bool {
        self.0.kind == ErrorKind::Timeout
    }

    /// The program's own code panicked: a loader, a hook, `tags`, a key or a value. The sentence names the source, what
    /// panicked, and the panic's message. Only the keys that it was run for fail.
    pub fn is_panic(&self) -> bool {
        self.0.kind == ErrorKind::Panic
    }

    /// The shared tier did not confirm an invalidation. Only writes fail with this.
    pub fn is_shared(&self) -> bool {
        self.0.kind == ErrorKind::Shared
    }

    /// The configuration is wrong; the sentence lists everything that was found.
    pub fn is_config(&self) -> bool {
        self.0.kind == ErrorKind::Config
    }

    /// The program used the library wrongly: an unregistered source, a call outside of a runtime, a loader
    /// that waits for itself.
    pub fn is_usage(&self) -> bool {
        self.0.kind == ErrorKind::Usage
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

/// The sentence, and on a line of its own each cause that it does not repeat: as an error reads that `main` returns.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        chain(self, f)
    }
}

/// An error as people read it: its sentence, and every cause that it does not say itself.
///
/// For the `Debug` of errors of this workspace, which is what Rust prints of an error that `main` returns.
#[doc(hidden)]
pub fn chain(error: &dyn StdError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut said = error.to_string();
    f.write_str(&said)?;
    let mut cause = error.source();
    while let Some(error) = cause {
        let sentence = error.to_string();
        if !said.contains(&sentence) {
            write!(f, "\n  because: {sentence}")?;
            said = sentence;
        }
        cause = error.source();
    }
    Ok(())
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

/// What an error says of itself, in the user's words where it is the user's.
pub(crate) fn text_of(error: &BoxError) -> String {
    guard(|| error.to_string())
        .unwrap_or_else(|why| format!("an error that panicked while it was shown: {why}"))
}

/// What went wrong in a backend of the shared tier. The outcome of the call is unknown.
#[derive(Clone)]
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

    /// The backend panicked. What it left behind is unknown, as with an answer that never came.
    pub(crate) fn panicked(what: &str, why: &Panicked) -> Self {
        Self::new(FaultKind::Damaged, format!("the backend panicked in {what}: {why}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// As that of [`Error`].
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        chain(self, f)
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_its_sentence_and_the_causes_that_it_does_not_say() {
        let io = || std::io::Error::other("connection refused");
        let fault = Fault::new(FaultKind::Down, "redis is not there").because(io());
        assert_eq!(format!("{fault:?}"), "redis is not there\n  because: connection refused");
        let error =
            Error::shared("region objects: the invalidation was not confirmed: redis is not there", fault);
        assert_eq!(
            format!("{error:?}"),
            "region objects: the invalidation was not confirmed: redis is not there\n  because: connection refused"
        );
        let error = Error::source("source user: loading 1 key failed: connection refused", Box::new(io()));
        assert_eq!(format!("{error:?}"), error.to_string());
        let lines = Error::settings("the configuration has 2 problems:\n- one\n- two", None);
        assert_eq!(
            format!("{:?}", Err::<(), _>(lines)),
            "Err(the configuration has 2 problems:\n- one\n- two)"
        );
    }
}
