//! What is known of a key, and what a caller gets of it.

use std::collections::HashMap;
use std::fmt;
use std::ops::Index;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, OF_A_KEY};
use crate::guarded::Panicked;
use crate::report::Tier;
use crate::source::Source;

/// What a tier knows of a key: its value, or that there is no row.
///
/// A tier that knows nothing says `None`, which is neither of these.
#[derive(Debug, PartialEq, Eq)]
pub enum Known<V> {
    /// There is a row.
    Value(Arc<V>),
    /// There is no row.
    Absent,
}

impl<V> Clone for Known<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Value(value) => Self::Value(value.clone()),
            Self::Absent => Self::Absent,
        }
    }
}

impl<V> Known<V> {
    /// The value, if there is one.
    pub fn into_value(self) -> Option<Arc<V>> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent => None,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// What became of one key of a read.
pub enum Outcome<V> {
    /// A value that is fresh, and the tier that it came from.
    Value {
        /// The value.
        value: Arc<V>,
        /// Where it came from.
        tier: Tier,
    },
    /// A value past its soft deadline: it is being refreshed, or the source failed.
    Stale {
        /// The value.
        value: Arc<V>,
        /// Where it came from.
        tier: Tier,
    },
    /// There is no row.
    Absent {
        /// Which tier knew.
        tier: Tier,
    },
    /// It could not be found out.
    Failed(Error),
}

impl<V> Clone for Outcome<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Value { value, tier } => Self::Value { value: value.clone(), tier: *tier },
            Self::Stale { value, tier } => Self::Stale { value: value.clone(), tier: *tier },
            Self::Absent { tier } => Self::Absent { tier: *tier },
            Self::Failed(error) => Self::Failed(error.clone()),
        }
    }
}

impl<V: fmt::Debug> fmt::Debug for Outcome<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { value, tier } => f.debug_tuple("Value").field(value).field(tier).finish(),
            Self::Stale { value, tier } => f.debug_tuple("Stale").field(value).field(tier).finish(),
            Self::Absent { tier } => f.debug_tuple("Absent").field(tier).finish(),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<V> Outcome<V> {
    /// What a tier knows, as the answer of a read.
    pub(crate) fn of(known: Known<V>, stale: bool, tier: Tier) -> Self {
        match known {
            Known::Absent => Self::Absent { tier },
            Known::Value(value) if stale => Self::Stale { value, tier },
            Known::Value(value) => Self::Value { value, tier },
        }
    }

    /// What is known by it.
    ///
    /// # Errors
    /// The error of a key that failed.
    pub(crate) fn into_known(self) -> Result<Known<V>, Error> {
        match self {
            Self::Value { value, .. } | Self::Stale { value, .. } => Ok(Known::Value(value)),
            Self::Absent { .. } => Ok(Known::Absent),
            Self::Failed(error) => Err(error),
        }
    }

    /// The value, fresh or stale; `None` if absent.
    ///
    /// # Errors
    /// The error of a key that failed: failure never looks like absence.
    pub fn value(&self) -> Result<Option<&Arc<V>>, Error> {
        match self {
            Self::Value { value, .. } | Self::Stale { value, .. } => Ok(Some(value)),
            Self::Absent { .. } => Ok(None),
            Self::Failed(error) => Err(error.clone()),
        }
    }

    /// The tier that answered; `None` if it failed.
    pub fn tier(&self) -> Option<Tier> {
        match self {
            Self::Value { tier, .. } | Self::Stale { tier, .. } | Self::Absent { tier } => Some(*tier),
            Self::Failed(_) => None,
        }
    }

    /// Whether it is known that there is no row.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Whether it is past its soft deadline.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }

    /// Why it failed, if it did.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// An answer on its way to its readers.
pub(crate) struct Answered<V> {
    pub(crate) outcome: Outcome<V>,
    /// As new as the read that found it: what a load makes of it may be stored (`R6`).
    pub(crate) sound: bool,
}

impl<V> Clone for Answered<V> {
    fn clone(&self) -> Self {
        Self { outcome: self.outcome.clone(), sound: self.sound }
    }
}

/// A key, and its answer once there is one.
pub(crate) struct Asked<S: Source> {
    pub(crate) key: S::Key,
    pub(crate) answer: Option<Outcome<S::Value>>,
    /// The same key stands earlier in the same call.
    pub(crate) twin: bool,
}

impl<S: Source> Asked<S> {
    pub(crate) fn new(key: S::Key) -> Self {
        Self { key, answer: None, twin: false }
    }

    /// The key panicked while it was looked up.
    pub(crate) fn panicked(&mut self, why: &Panicked) {
        self.twin = false;
        self.answer = Some(Outcome::Failed(Error::panicked(S::name(), OF_A_KEY, why)));
    }
}

/// The answers to many keys, by key: every key that was asked for is in it, once, in the order of the asking.
///
/// `T` is `Option<Arc<Value>>` for [`get_many`](crate::RequestCache::get_many) and an [`Outcome`] for
/// [`get_outcomes`](crate::RequestCache::get_outcomes).
pub struct Answers<K, T> {
    rows: Vec<(K, T)>,
    /// Made on the first look by key, when there are more keys than one walks through.
    index: OnceLock<HashMap<K, usize, foldhash::fast::RandomState>>,
}

/// Up to this many keys, walking through them is as fast as hashing.
const WALK: usize = 16;

impl<K: crate::key::Key, T> Answers<K, T> {
    pub(crate) fn new(rows: Vec<(K, T)>) -> Self {
        Self { rows, index: OnceLock::new() }
    }

    /// The answer to a key. `None`: it was not asked for.
    pub fn get(&self, key: &K) -> Option<&T> {
        let at = if self.rows.len() <= WALK {
            self.rows.iter().position(|(each, _)| each == key)?
        } else {
            let index = self.index.get_or_init(|| {
                self.rows.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect()
            });
            *index.get(key)?
        };
        Some(&self.rows[at].1)
    }

    /// Whether a key was asked for.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }
}

impl<K, T> Answers<K, T> {
    /// Keys and answers, in the order of the asking.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &T)> {
        self.rows.iter().map(|(key, answer)| (key, answer))
    }

    /// The keys, in the order of the asking.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> {
        self.rows.iter().map(|(key, _)| key)
    }

    /// The answers, in the order of the asking: of [`get_many`](crate::RequestCache::get_many), `None` for a key that has
    /// no row. For those that have one, [`found`](Answers::found).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let users = World::new().await.request().get_many::<UserById>([2, 2000, 1]).await?;
    /// let ids: Vec<_> = users.values().map(|user| user.as_ref().map(|user| user.id)).collect();
    /// assert_eq!(ids, [Some(2), None, Some(1)]);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub fn values(&self) -> impl ExactSizeIterator<Item = &T> {
        self.rows.iter().map(|(_, answer)| answer)
    }

    /// How many distinct keys were asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl<K, V> Answers<K, Option<Arc<V>>> {
    /// The keys that have a value, with it.
    pub fn found(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.rows.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }

    /// The keys that have no row.
    pub fn absent(&self) -> impl Iterator<Item = &K> {
        self.rows.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key)
    }
}

impl<K: crate::key::Key, T> Index<&K> for Answers<K, T> {
    type Output = T;

    /// # Panics
    /// If the key was not asked for.
    fn index(&self, key: &K) -> &T {
        self.get(key).expect("a key that was asked for")
    }
}

impl<K, T> IntoIterator for Answers<K, T> {
    type Item = (K, T);
    type IntoIter = std::vec::IntoIter<(K, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<K: fmt::Debug, T: fmt::Debug> fmt::Debug for Answers<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
