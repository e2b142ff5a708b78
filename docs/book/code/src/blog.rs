//! What the pages read: posts and authors, in a database that is a map and counts its statements.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mastaba::{Cache, CacheBuilder, Lazy, LoadContext, Region, Rows, Source};
use serde::{Deserialize, Serialize};

/// A post, which knows its author by number.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Post {
    /// Its number.
    pub id: i64,
    /// Its title.
    pub title: String,
    /// Who wrote it.
    pub author: Lazy<AuthorById>,
}

/// An author, who has a photo or none.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Author {
    /// The name.
    pub name: String,
    /// A picture.
    pub photo: Option<Lazy<PhotoById>>,
}

/// Posts 1 to 100, by seven authors; authors 1 and up; photos for authors with an even number.
#[derive(Default)]
pub struct Database {
    statements: AtomicUsize,
    titles: Mutex<BTreeMap<i64, String>>,
}

impl Database {
    /// How many statements it was sent.
    pub fn statements(&self) -> usize {
        self.statements.load(Ordering::Relaxed)
    }

    /// Changes a title, as a transaction would that has just been committed.
    pub fn rename(&self, id: i64, title: &str) {
        self.titles.lock().expect("no thread panicked").insert(id, title.to_owned());
    }

    fn select<T>(&self, ids: &[i64], row: impl Fn(i64) -> Option<T>) -> Vec<(i64, T)> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        ids.iter().filter_map(|id| Some((*id, row(*id)?))).collect()
    }
}

macro_rules! source {
    ($(#[$doc:meta])* $source:ident, $value:ty, $name:literal, $row:expr) => {
        $(#[$doc])*
        pub struct $source(pub Arc<Database>);

        impl Source for $source {
            type Key = i64;
            type Value = $value;
            type Error = Infallible;
            const NAME: &'static str = $name;
            const REGION: &'static str = "objects";

            async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> Result<Rows<Self>, Infallible> {
                let row: fn(&Database, i64) -> Option<$value> = $row;
                Ok(self.0.select(ids, |id| row(&self.0, id)).into_iter().collect())
            }
        }
    };
}

source!(
    /// Posts by their number.
    PostById, Post, "post.by_id", |database, id| {
        let changed = database.titles.lock().expect("no thread panicked").get(&id).cloned();
        let title = changed.unwrap_or_else(|| format!("Post {id}"));
        (1..=100).contains(&id).then(|| Post { id, title, author: Lazy::new(id % 7 + 1) })
    }
);
source!(
    /// Authors by their number.
    AuthorById, Author, "author.by_id", |_, id| {
        (id > 0).then(|| Author { name: format!("Author {id}"), photo: (id % 2 == 0).then(|| Lazy::new(id)) })
    }
);
source!(
    /// Addresses of photos by their number.
    PhotoById, String, "photo.by_id", |_, id| Some(format!("/photo/{id}.jpg"))
);

/// A region in memory, without the two things that happen at random.
#[must_use]
pub fn region() -> Region {
    Region::memory().jitter(0.0).early_refresh(0.0)
}

/// The three sources over one database.
pub fn sources(builder: CacheBuilder, database: &Arc<Database>) -> CacheBuilder {
    builder
        .source(PostById(database.clone()))
        .source(AuthorById(database.clone()))
        .source(PhotoById(database.clone()))
}

/// A cache over a database of its own.
///
/// # Errors
/// None: its configuration is sound.
pub async fn cache() -> Result<Cache, mastaba::Error> {
    Ok(open().await?.0)
}

/// The same, and the database.
///
/// # Errors
/// None: its configuration is sound.
pub async fn open() -> Result<(Cache, Arc<Database>), mastaba::Error> {
    let database = Arc::new(Database::default());
    let builder = sources(Cache::builder().region("objects", region()), &database);
    Ok((builder.build().await?, database))
}
