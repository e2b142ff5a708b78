//! A database that can be read in two places, and which of them a load reads.

mod checked;

pub use self::checked::{Checked, Positions};
use crate::source::LoadContext;

/// A database that can be read in two places.
///
/// [`consistent`](Replicated::consistent) and [`lagging`](Replicated::lagging) ask neither of them anything. Where the
/// replica can be asked how far it has come, [`checked_by`](Replicated::checked_by) reads from it whatever it shows.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # use mastaba::{Cache, LoadContext, Region, Replicated, Rows, Source};
/// struct Answer { pools: Replicated<&'static str> }
///
/// impl Source for Answer {
///     # type Key = u8; type Value = String; type Error = std::convert::Infallible;
///     # const NAME: &'static str = "answer"; const REGION: &'static str = "objects";
///     async fn load_many(&self, cx: &LoadContext<'_>, keys: &[u8]) -> Result<Rows<Self>, Self::Error> {
///         let pool = self.pools.pick(cx);
///         Ok(keys.iter().map(|key| (*key, format!("{key} from the {pool}"))).collect())
///     }
/// }
///
/// let pools = Replicated::lagging("writer", "reader");
/// let cache = Cache::builder().region("objects", Region::memory()).source(Answer { pools }).build().await?;
/// let request = cache.request();
/// assert_eq!(*request.get::<Answer>(1).await?.unwrap(), "1 from the reader");
///
/// let write = request.write();
/// write.invalidate::<Answer>([2]).await?;
/// write.published().await?;
/// assert_eq!(*request.get::<Answer>(2).await?.unwrap(), "2 from the writer");
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Replicated<P> {
    writer: P,
    reader: P,
    lagging: bool,
    prefer: Prefer,
}

/// Which of two databases is to be read, as far as there is a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Prefer {
    /// The reader, and the writer from the first write of the request on, and for keys that a write holds.
    #[default]
    ReaderUntilWrite,
    /// The reader, also after a write of the request. Without a check of its position, the request may then read what was
    /// there before its own write.
    Reader,
    /// The writer, always: while the reader is being looked after, for example.
    Writer,
}

impl<P> Replicated<P> {
    /// Reads from the reader only what is not going to be stored, so that a replica that lags never refills
    /// the cache with what a write has just voided. Keeps I1 for all that is read through the tiers; a read that goes past
    /// them ([`Force::PastShared`](crate::Force::PastShared)) may see what the replica still shows.
    pub fn consistent(writer: P, reader: P) -> Self {
        Self { writer, reader, lagging: false, prefer: Prefer::default() }
    }

    /// Reads from the reader, and from the writer after a write of the request. Other requests may store what
    /// the replica still shows, so they may see a row for up to its time to live after it has changed.
    pub fn lagging(writer: P, reader: P) -> Self {
        Self { writer, reader, lagging: true, prefer: Prefer::default() }
    }

    /// Which of the two is to be read where both may; [`Prefer::ReaderUntilWrite`] unless it is set.
    pub fn prefer(mut self, prefer: Prefer) -> Self {
        self.prefer = prefer;
        self
    }

    /// Asks the databases how far they have come: the reader is read whenever it shows all that the writer had when the
    /// load began, and the writer otherwise. It makes no difference then which constructor was used.
    pub fn checked_by<C: Positions<P>>(self, positions: C) -> Checked<P, C> {
        Checked::new(self, positions)
    }

    /// The database to use for this load. Costs nothing.
    pub fn pick(&self, cx: &LoadContext<'_>) -> &P {
        let storing = cx.stores && !cx.facts.unstored();
        if !self.may_read(cx) || (storing && !self.lagging) { &self.writer } else { &self.reader }
    }

    /// The writing database.
    pub fn writer(&self) -> &P {
        &self.writer
    }

    /// The reading database.
    pub fn reader(&self) -> &P {
        &self.reader
    }

    /// Whether it is wanted that this load reads from the reader.
    fn may_read(&self, cx: &LoadContext<'_>) -> bool {
        match self.prefer {
            Prefer::ReaderUntilWrite => !cx.needs_writer(),
            Prefer::Reader => true,
            Prefer::Writer => false,
        }
    }
}
