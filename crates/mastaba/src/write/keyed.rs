//! Rows that name their keys, so that a change of one voids all of them.

use std::any::Any;
use std::fmt;

use super::Write;
use crate::error::{Error, OF_A_KEY};
use crate::guarded::guard;
use crate::source::Source;

/// A row that says under which keys it is cached: by its number, by its e-mail address, in the list of its team.
///
/// A change of a row voids the keys of what it was *and* of what it is: an address that is given up must not lead to
/// anybody, and one that was free must not stay absent. [`Write::changed`] does both.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::{Keyed, Keys};
/// use mastaba_test::world::{PhotoById, UserById, World};
///
/// struct Profile { user: u64, photo: u64 }
///
/// impl Keyed for Profile {
///     fn keys(&self, keys: &mut Keys) {
///         keys.add::<PhotoById>(self.photo); // inner objects before those derived from them
///         keys.add::<UserById>(self.user);
///     }
/// }
///
/// let world = World::new().await; // users and photos 1 to 999, a shared tier in memory
/// let write = world.request().write();
/// write.changed(&Profile { user: 1, photo: 10 }, &Profile { user: 1, photo: 11 })?;
/// write.commit(async { Ok::<_, std::io::Error>(()) }).await.unwrap();
/// assert_eq!(world.trips(), ["shared invalidate [10, 11, 1]"]); // each once
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
pub trait Keyed {
    /// Names the keys, inner objects before those derived from them.
    fn keys(&self, keys: &mut Keys);

    /// Names the keys that a change concerns. If it is not given, all keys of what the row was and of what it is.
    ///
    /// An entry that holds nothing of the row but its key, of an index or of a list, is as it was where neither what it
    /// goes by nor its order has changed: leave it out, and it need not be loaded again.
    fn changed(old: &Self, new: &Self, keys: &mut Keys)
    where
        Self: Sized,
    {
        old.keys(keys);
        new.keys(keys);
    }
}

/// The keys that rows stand under: see [`Keyed`].
#[derive(Default)]
pub struct Keys {
    sources: Vec<Box<dyn OfSource>>,
    tags: Vec<String>,
}

impl Keys {
    /// A key. Named twice, it is voided once.
    pub fn add<S: Source>(&mut self, key: S::Key) {
        for source in &mut self.sources {
            let source: &mut dyn Any = source.as_mut();
            if let Some(Of(keys)) = source.downcast_mut::<Of<S>>() {
                keys.push(key); // named twice or not, it is voided once
                return;
            }
        }
        self.sources.push(Box::new(Of::<S>(vec![key])));
    }

    /// A tag, of every region: for what is derived from the row and whose keys it does not know. Tags go after all keys.
    pub fn tag(&mut self, tag: impl Into<String>) {
        self.tags.push(tag.into());
    }
}

/// The keys of one source.
struct Of<S: Source>(Vec<S::Key>);

trait OfSource: Any + Send {
    fn collect(self: Box<Self>, write: &Write) -> Result<(), Error>;
}

impl<S: Source> OfSource for Of<S> {
    fn collect(self: Box<Self>, write: &Write) -> Result<(), Error> {
        write.collect::<S>(self.0)
    }
}

impl Write {
    /// Collects the keys of a row that changes: those of what it was and those of what it is, each once
    /// ([`Keyed::changed`]).
    ///
    /// Costs no trip. Take what it was from the database, inside the transaction (`select .. for update`, or
    /// `returning`): what the cache knows of it may be older.
    ///
    /// # Errors
    /// As [`invalidate`](Write::invalidate), or if [`Keyed::keys`] panics. Some of the keys may have been collected then.
    pub fn changed<R: Keyed>(&self, old: &R, new: &R) -> Result<(), Error> {
        self.collect_rows::<R>(|keys| R::changed(old, new, keys))
    }

    /// Collects the keys of a row that is inserted: nothing may go on saying that they are absent.
    ///
    /// # Errors
    /// As [`changed`](Write::changed).
    pub fn inserted<R: Keyed>(&self, row: &R) -> Result<(), Error> {
        self.collect_rows::<R>(|keys| row.keys(keys))
    }

    /// Collects the keys of a row that is deleted.
    ///
    /// # Errors
    /// As [`changed`](Write::changed).
    pub fn deleted<R: Keyed>(&self, row: &R) -> Result<(), Error> {
        self.collect_rows::<R>(|keys| row.keys(keys))
    }

    fn collect_rows<R: Keyed>(&self, name: impl FnOnce(&mut Keys)) -> Result<(), Error> {
        let mut keys = Keys::default();
        // user code, and so are the comparisons of its keys
        let named = guard(|| name(&mut keys));
        named.map_err(|why| {
            let row = std::any::type_name::<R>();
            Error::panic(format!("`Keyed::keys` of {row}, or {OF_A_KEY}, panicked: {why}"))
        })?;
        let Keys { sources, tags } = keys;
        sources.into_iter().try_for_each(|source| source.collect(self))?;
        tags.into_iter().for_each(|tag| self.invalidate_tag(tag));
        Ok(())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("sources", &self.sources.len()).field("tags", &self.tags).finish()
    }
}
