//! What a write says to its caller.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::error::Error;
use crate::region::RegionCore;

/// How far the invalidation of a write has come: confirmed, or still being sent.
///
/// What the shared tier did not confirm is not lost, and it is no failure of the write, which is committed. This process
/// keeps it, acts as if it had happened (it loads these keys from the source and stores them nowhere), and sends it again
/// until it is confirmed. Other processes may see the old values until then.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use mastaba_test::world::{UserById, World};
///
/// let world = World::new().await; // users 1 to 999, a shared tier in memory
/// world.shared.down(&["invalidate"]);
/// let published = world.request().invalidate::<UserById>([1]).await?;
/// assert!(!published.is_confirmed());
///
/// world.shared.down(&[]);
/// published.confirmed(Duration::from_secs(5)).await?; // waits, but not for longer than this
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Published {
    /// The regions that have something to send, with the ticket of the last of it.
    pub(super) waits: Vec<(Arc<RegionCore>, u64)>,
    /// Why the first of it was not confirmed.
    pub(super) error: Option<Error>,
}

impl Published {
    /// Whether every region has confirmed the whole of it by now.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.waits.iter().all(|(region, ticket)| region.unconfirmed.is_confirmed(*ticket))
    }

    /// Why the first attempt was not confirmed, if it was not.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Waits until everything is confirmed, for at most so long.
    ///
    /// Costs no trip of its own. Dropping the future changes nothing: it goes on being sent.
    ///
    /// # Errors
    /// The fault of the first attempt ([`Error::is_shared`]), if the time is over.
    pub async fn confirmed(&self, within: Duration) -> Result<(), Error> {
        let all = async {
            for (region, ticket) in &self.waits {
                region.send_unconfirmed();
                region.unconfirmed.confirmed(*ticket).await;
            }
        };
        match (timeout(within, all).await, &self.error) {
            (Ok(()), _) | (Err(_), None) => Ok(()),
            (Err(_), Some(error)) => Err(error.clone()),
        }
    }

    pub(super) fn unconfirmed(&mut self, region: &Arc<RegionCore>, ticket: u64, error: Error) {
        self.waits_for(region, ticket);
        self.error.get_or_insert(error);
    }

    pub(super) fn waits_for(&mut self, region: &Arc<RegionCore>, ticket: u64) {
        self.waits.push((region.clone(), ticket));
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").field("confirmed", &self.is_confirmed()).finish_non_exhaustive()
    }
}

/// A write that is committed. See [`Write::commit`](super::Write::commit).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Committed<T> {
    /// What the commit gave back.
    pub value: T,
    /// Whether the invalidation is confirmed, or still being sent.
    pub published: Published,
}

impl<T> Committed<T> {
    /// The same with another value: for whoever wraps a commit.
    pub fn map<U>(self, value: impl FnOnce(T) -> U) -> Committed<U> {
        Committed { value: value(self.value), published: self.published }
    }
}

/// A write that is not committed, or of which nobody knows. See [`Write::commit`](super::Write::commit).
#[non_exhaustive]
pub enum CommitError<E> {
    /// The keys could not be held, so the commit was not begun: nothing has changed. Write modes
    /// [`Strict`](crate::WriteMode::Strict) and [`Serve`](crate::WriteMode::Serve) alone.
    Refused(Error),
    /// It was rolled back, and certainly: nothing has changed, and nothing was voided.
    RolledBack(E),
    /// Nobody knows whether it is committed. What it had collected is void in any case.
    Unknown {
        /// Why.
        cause: Lost<E>,
        /// How far the invalidation has come.
        published: Published,
    },
}

/// Why nobody knows whether a write is committed.
#[non_exhaustive]
pub enum Lost<E> {
    /// The commit failed: the connection was lost, for example, after it was sent.
    Failed(E),
    /// The commit panicked, with this message.
    Panicked(String),
    /// The runtime ended before the commit did.
    Ended,
}

impl<E> CommitError<E> {
    /// Whether it is certain that nothing has changed.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        !self.is_unknown()
    }

    /// Whether it may be committed.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// The error of the commit itself, if there was one.
    pub fn cause(&self) -> Option<&E> {
        match self {
            Self::RolledBack(cause) | Self::Unknown { cause: Lost::Failed(cause), .. } => Some(cause),
            _ => None,
        }
    }
}

impl<E> CommitError<E> {
    /// The same with another cause: for whoever wraps a commit.
    pub fn map<F>(self, cause: impl FnOnce(E) -> F) -> CommitError<F> {
        match self {
            Self::Refused(error) => CommitError::Refused(error),
            Self::RolledBack(error) => CommitError::RolledBack(cause(error)),
            Self::Unknown { cause: lost, published } => {
                let lost = match lost {
                    Lost::Failed(error) => Lost::Failed(cause(error)),
                    Lost::Panicked(said) => Lost::Panicked(said),
                    Lost::Ended => Lost::Ended,
                };
                CommitError::Unknown { cause: lost, published }
            }
        }
    }
}

impl<E: fmt::Display> fmt::Display for CommitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "nothing was committed: {error}"),
            Self::RolledBack(cause) => write!(f, "the transaction was rolled back: {cause}"),
            Self::Unknown { cause, .. } => {
                write!(f, "it is not known whether the transaction is committed: {cause}")
            }
        }
    }
}

impl<E: fmt::Display> fmt::Display for Lost<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(cause) => cause.fmt(f),
            Self::Panicked(said) => write!(f, "the commit panicked: {said}"),
            Self::Ended => f.write_str("the runtime ended before the commit did"),
        }
    }
}

impl<E: fmt::Display> fmt::Debug for CommitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: fmt::Display> fmt::Debug for Lost<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: StdError + 'static> StdError for CommitError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            _ => self.cause().map(|cause| cause as _),
        }
    }
}
