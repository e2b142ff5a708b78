//! Three ways to read the same objects. A page is gathered by one piece of code, which knows none of them.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_graphql::dataloader::{DataLoader, HashMapCache, Loader};
use tokio::sync::Mutex;

use crate::Result;
use crate::database::Database;
use crate::sources::{Id, Select};

/// Gives the object of a key.
pub(crate) trait Reader: Sync {
    /// What a source has under a key; `None` if there is no such row.
    fn get<S: Select>(&self, key: S::Key) -> impl Future<Output = Result<Option<Arc<S::Value>>>> + Send;
}

/// How a page is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One statement per object, when it is met.
    Naive,
    /// Batches per request, by async-graphql's `DataLoader`, and no cache that outlives the request.
    DataLoader,
    /// Three tiers.
    #[default]
    Mastaba,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Naive, Self::DataLoader, Self::Mastaba];

    /// The mode of a word in an address.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }

    /// Its word in an address.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::DataLoader => "dataloader",
            Self::Mastaba => "mastaba",
        }
    }

    /// Its name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Naive => "Naive",
            Self::DataLoader => "DataLoader",
            Self::Mastaba => "Mastaba",
        }
    }

    /// An address in this mode. What is read by Mastaba needs no word.
    pub(crate) fn link(self, address: &str) -> String {
        if self == Self::default() {
            return address.to_owned();
        }
        let joint = if address.contains('?') { '&' } else { '?' };
        format!("{address}{joint}mode={}", self.word())
    }
}

/// Asks for each object when it is met, one after the other, and remembers nothing: as it is written where
/// nobody thought of it.
pub(crate) struct Naive {
    database: Database,
    turn: Mutex<()>,
}

impl Naive {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, turn: Mutex::default() }
    }
}

impl Reader for Naive {
    async fn get<S: Select>(&self, key: S::Key) -> Result<Option<Arc<S::Value>>> {
        // a page asks for everything that it knows of at once; here nothing comes of that
        let _turn = self.turn.lock().await;
        Ok(self.database.one::<S>(key).await?.map(Arc::new))
    }
}

/// One loader per request, over SQL alone, with its cache of what this request has seen.
pub(crate) struct Loading(DataLoader<Grouped, HashMapCache>);

impl Loading {
    pub(crate) fn new(database: Database) -> Self {
        Self(DataLoader::with_cache(Grouped(database), tokio::spawn, HashMapCache::default()))
    }
}

impl Reader for Loading {
    async fn get<S: Select>(&self, key: S::Key) -> Result<Option<Arc<S::Value>>> {
        Ok(self.0.load_one(Ask::<S>(key)).await?)
    }
}

struct Grouped(Database);

impl<S: Select> Loader<Ask<S>> for Grouped {
    type Value = Arc<S::Value>;
    type Error = Arc<sqlx::Error>;

    async fn load(&self, keys: &[Ask<S>]) -> Result<HashMap<Ask<S>, Arc<S::Value>>, Arc<sqlx::Error>> {
        let keys: Vec<_> = keys.iter().map(|ask| ask.0).collect();
        let rows = self.0.many::<S>(&keys).await?;
        Ok(rows.into_iter().map(|(key, value)| (Ask(key), Arc::new(value))).collect())
    }
}

/// A key and its source: several sources share a type of key.
struct Ask<S: Select>(S::Key);

impl<S: Select> Clone for Ask<S> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<S: Select> PartialEq for Ask<S> {
    fn eq(&self, other: &Self) -> bool {
        self.0.number() == other.0.number()
    }
}

impl<S: Select> Eq for Ask<S> {}

impl<S: Select> Hash for Ask<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.number().hash(state);
    }
}

impl Reader for mastaba::RequestCache {
    async fn get<S: Select>(&self, key: S::Key) -> Result<Option<Arc<S::Value>>> {
        Ok(self.get::<S>(key).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn a_mode_is_a_word_of_the_address_except_for_the_usual_one() {
        assert_eq!(Mode::Mastaba.link("/packages/1"), "/packages/1");
        assert_eq!(Mode::Naive.link("/packages/1"), "/packages/1?mode=naive");
        assert_eq!(Mode::DataLoader.link("/?q=a"), "/?q=a&mode=dataloader");
        assert!(Mode::ALL.into_iter().all(|mode| Mode::of(mode.word()) == Some(mode)));
        assert_eq!(Mode::of("Naive"), None);
    }
}
