//! The ways to read a page.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::dataloader::{DataLoader, Loader};
use futures_util::future::{join_all, try_join_all};
use mastaba::{Cache, LoadContext, NearConfig, Rows, Source};
use sqlx::postgres::PgPool;

use super::records::{Photo, Post, Record, by_id, feed, keys, render, select};
use crate::by_hand::Hand;
use crate::fixture::User;
use crate::servers::{self, Database};

const TTL_S: u64 = 36_000;
/// As many as near holds, per kind.
const NEAR: usize = 20_000;

/// One way, with its connections.
pub(super) struct Reader {
    tiers: PageTiers,
    way: Way,
}

enum Way {
    ByHand(Option<Box<Nears>>),
    Loader,
    Moka(Box<Mokas>),
    Sql,
    Ours(Cache),
}

/// The shared tier and the database.
#[derive(Clone)]
struct PageTiers {
    hand: Hand,
    pool: PgPool,
}

struct Nears {
    users: Near<User>,
    posts: Near<Post>,
    photos: Near<Photo>,
}

type Near<R> = quick_cache::sync::Cache<i64, Arc<R>>;

struct Mokas {
    users: Moka<User>,
    posts: Moka<Post>,
    photos: Moka<Photo>,
}

type Moka<R> = moka::future::Cache<i64, Arc<R>>;

impl Reader {
    pub(super) async fn new(case: &str, url: &str, database: &Database) -> Self {
        let tiers = PageTiers { hand: servers::hand(url).await, pool: database.pool(4).await };
        let way = match case {
            "mastaba" => Way::Ours(cache(url, &tiers.pool, None).await),
            "mastaba near" => Way::Ours(cache(url, &tiers.pool, Some(NEAR)).await),
            "by hand and near" => {
                let (users, posts, photos) = (Near::new(NEAR), Near::new(NEAR), Near::new(NEAR));
                Way::ByHand(Some(Box::new(Nears { users, posts, photos })))
            }
            "DataLoader" => Way::Loader,
            "moka and GET" => {
                let most = NEAR as u64;
                let (users, posts, photos) = (Moka::new(most), Moka::new(most), Moka::new(most));
                Way::Moka(Box::new(Mokas { users, posts, photos }))
            }
            "naive SQL" => Way::Sql,
            _ => Way::ByHand(None),
        };
        Self { tiers, way }
    }

    /// The page of a user.
    pub(super) async fn page(&self, user: i64) -> String {
        match &self.way {
            Way::ByHand(near) => by_hand(&self.tiers, near.as_deref(), user).await,
            Way::Loader => loaded(&self.tiers, user).await,
            Way::Moka(mokas) => through_moka(&self.tiers, mokas, user).await,
            Way::Sql => naive(&self.tiers.pool, user).await,
            Way::Ours(cache) => ours(cache, user).await,
        }
    }

    /// Brings all that these pages need into Redis, and then takes `cold` of 100 out of it again.
    pub(super) async fn prepare(&self, users: &[i64], cold: u8) {
        let [user_ids, posts, photos] = keys(users);
        let tenth = |ids: &[i64]| -> Vec<i64> {
            ids.iter().copied().filter(|_| fastrand::u8(0..100) < cold).collect()
        };
        let (cold_users, cold_posts, cold_photos) = (tenth(&user_ids), tenth(&posts), tenth(&photos));
        match &self.way {
            Way::Sql => {}
            Way::Ours(cache) => {
                let request = cache.request();
                request.prefetch::<TableSource<User>>(user_ids).await.expect("users");
                request.prefetch::<TableSource<Post>>(posts).await.expect("posts");
                request.prefetch::<TableSource<Photo>>(photos).await.expect("photos");
                cache.idle().await;
                let write = cache.request().write();
                write.invalidate::<TableSource<User>>(cold_users).await.expect("a write");
                write.invalidate::<TableSource<Post>>(cold_posts).await.expect("a write");
                write.invalidate::<TableSource<Photo>>(cold_photos).await.expect("a write");
                write.published().await.expect("an invalidation");
            }
            way => {
                self.tiers.all::<User>(&user_ids).await;
                self.tiers.all::<Post>(&posts).await;
                self.tiers.all::<Photo>(&photos).await;
                self.tiers.forget::<User>(&cold_users).await;
                self.tiers.forget::<Post>(&cold_posts).await;
                self.tiers.forget::<Photo>(&cold_photos).await;
                if let Way::ByHand(Some(near)) = way {
                    cold_users.iter().for_each(|id| drop(near.users.remove(id)));
                    cold_posts.iter().for_each(|id| drop(near.posts.remove(id)));
                    cold_photos.iter().for_each(|id| drop(near.photos.remove(id)));
                }
                if let Way::Moka(mokas) = way {
                    join_all(cold_users.iter().map(|id| mokas.users.invalidate(id))).await;
                    join_all(cold_posts.iter().map(|id| mokas.posts.invalidate(id))).await;
                    join_all(cold_photos.iter().map(|id| mokas.photos.invalidate(id))).await;
                }
            }
        }
    }

    pub(super) async fn idle(&self) {
        if let Way::Ours(cache) = &self.way {
            cache.idle().await;
        }
    }
}

impl PageTiers {
    /// What was found, and the rest from the database.
    async fn complete<R: Record>(&self, ids: &[i64], found: &[Option<Vec<u8>>]) -> HashMap<i64, R> {
        let decode = |bytes: &Vec<u8>| postcard::from_bytes::<R>(bytes).expect("a record");
        let mut records = by_id(found.iter().flatten().map(decode));
        let missing: Vec<_> =
            ids.iter().zip(found).filter(|(_, found)| found.is_none()).map(|(id, _)| *id).collect();
        if !missing.is_empty() {
            let loaded = select::<R>(&self.pool, &missing).await.expect("rows");
            let bytes = |record: &R| postcard::to_stdvec(record).expect("bytes");
            self.hand.store(loaded.iter().map(|record| (R::key(record.id()), bytes(record))).collect()).await;
            records.extend(by_id(loaded));
        }
        records
    }

    /// All of a kind: one `MGET`, one statement, one fill.
    async fn all<R: Record>(&self, ids: &[i64]) -> HashMap<i64, R> {
        let found = self.hand.mget(ids.iter().map(|id| R::key(*id)).collect()).await;
        self.complete(ids, &found).await
    }

    async fn forget<R: Record>(&self, ids: &[i64]) {
        self.hand.remove(ids.iter().map(|id| R::key(*id)).collect()).await;
    }

    /// One of a kind.
    async fn one<R: Record>(&self, id: i64) -> R {
        self.all(&[id]).await.remove(&id).expect("a record")
    }
}

/// Distinct keys, and what near knows of them.
fn recall<R: Record>(
    near: Option<&Near<R>>,
    ids: impl Iterator<Item = i64>,
) -> (HashMap<i64, Arc<R>>, Vec<i64>) {
    let (mut known, mut asked) = (HashMap::new(), Vec::new());
    for id in ids {
        if known.contains_key(&id) || asked.contains(&id) {
            continue;
        }
        match near.and_then(|near| near.get(&id)) {
            Some(record) => drop(known.insert(id, record)),
            None => asked.push(id),
        }
    }
    (known, asked)
}

fn keep<R: Record>(near: Option<&Near<R>>, known: &mut HashMap<i64, Arc<R>>, found: HashMap<i64, R>) {
    for (id, record) in found {
        let record = Arc::new(record);
        if let Some(near) = near {
            near.insert(id, record.clone());
        }
        known.insert(id, record);
    }
}

/// One `MGET` per level: the user, the posts, the authors with the photos.
async fn by_hand(tiers: &PageTiers, near: Option<&Nears>, user: i64) -> String {
    let near_users = near.map(|near| &near.users);
    let (mut users, asked) = recall(near_users, [user].into_iter());
    keep(near_users, &mut users, tiers.all(&asked).await);
    let feed = feed(user);
    let near_posts = near.map(|near| &near.posts);
    let (mut posts, asked) = recall(near_posts, feed.iter().copied());
    keep(near_posts, &mut posts, tiers.all(&asked).await);
    let near_photos = near.map(|near| &near.photos);
    let (mut authors, ask_authors) = recall(near_users, feed.iter().map(|id| posts[id].author));
    let (mut photos, ask_photos) = recall(near_photos, feed.iter().map(|id| posts[id].photo));
    let keys = ask_authors.iter().map(|id| User::key(*id)).chain(ask_photos.iter().map(|id| Photo::key(*id)));
    let found = tiers.hand.mget(keys.collect()).await;
    let (found_authors, found_photos) = found.split_at(ask_authors.len());
    let found =
        tokio::join!(tiers.complete(&ask_authors, found_authors), tiers.complete(&ask_photos, found_photos));
    keep(near_users, &mut authors, found.0);
    keep(near_photos, &mut photos, found.1);
    let rows = feed.iter().map(|id| {
        let post = &posts[id];
        (&**post, &*authors[&post.author], &*photos[&post.photo])
    });
    render(&users[&user], rows)
}

/// One statement per object, each after the other.
async fn naive(pool: &PgPool, user: i64) -> String {
    async fn one<R: Record>(pool: &PgPool, id: i64) -> R {
        select::<R>(pool, &[id]).await.expect("rows").remove(0)
    }
    let shown: User = one(pool, user).await;
    let mut rows: Vec<(Post, User, Photo)> = Vec::new();
    for id in feed(user) {
        let post: Post = one(pool, id).await;
        let (author, photo) = (one(pool, post.author).await, one(pool, post.photo).await);
        rows.push((post, author, photo));
    }
    render(&shown, rows.iter().map(|(post, author, photo)| (post, author, photo)))
}

/// `get_with` and `GET` for each object, joined.
async fn through_moka(tiers: &PageTiers, mokas: &Mokas, user: i64) -> String {
    async fn get<R: Record>(moka: &Moka<R>, tiers: &PageTiers, id: i64) -> Arc<R> {
        moka.get_with(id, async { Arc::new(tiers.one(id).await) }).await
    }
    let shown = get(&mokas.users, tiers, user).await;
    let rows = join_all(feed(user).into_iter().map(|id| async move {
        let post = get(&mokas.posts, tiers, id).await;
        let rest = (get(&mokas.users, tiers, post.author), get(&mokas.photos, tiers, post.photo));
        let (author, photo) = tokio::join!(rest.0, rest.1);
        (post, author, photo)
    }));
    let rows = rows.await;
    render(&shown, rows.iter().map(|(post, author, photo)| (&**post, &**author, &**photo)))
}

/// A key that tells what it is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct KeyOf<const KIND: u8>(i64);

macro_rules! loads {
    ($kind:literal, $type:ty) => {
        impl Loader<KeyOf<$kind>> for PageTiers {
            type Value = $type;
            type Error = ();

            async fn load(&self, keys: &[KeyOf<$kind>]) -> Result<HashMap<KeyOf<$kind>, $type>, ()> {
                let ids: Vec<_> = keys.iter().map(|key| key.0).collect();
                let records = self.all::<$type>(&ids).await;
                Ok(records.into_iter().map(|(id, record)| (KeyOf(id), record)).collect())
            }
        }
    };
}

loads!(0, User);
loads!(1, Post);
loads!(2, Photo);

/// async-graphql's loader over both tiers, one per request.
async fn loaded(tiers: &PageTiers, user: i64) -> String {
    let loader = DataLoader::new(tiers.clone(), tokio::spawn).delay(Duration::ZERO);
    let loader = &loader;
    let shown = loader.load_one(KeyOf::<0>(user)).await.expect("rows").expect("a user");
    let rows = try_join_all(feed(user).into_iter().map(|id| async move {
        let post = loader.load_one(KeyOf::<1>(id)).await?.expect("a post");
        let author = loader.load_one(KeyOf::<0>(post.author));
        let (author, photo) = tokio::try_join!(author, loader.load_one(KeyOf::<2>(post.photo)))?;
        Ok::<_, ()>((post, author.expect("an author"), photo.expect("a photo")))
    }));
    let rows = rows.await.expect("rows");
    render(&shown, rows.iter().map(|(post, author, photo)| (post, author, photo)))
}

/// A table as a source.
struct TableSource<R>(PgPool, std::marker::PhantomData<fn() -> R>);

impl<R: Record> Source for TableSource<R> {
    type Key = i64;
    type Value = R;
    type Error = sqlx::Error;
    const NAME: &'static str = R::NAME;
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> Result<Rows<Self>, sqlx::Error> {
        let rows = select::<R>(&self.0, ids).await?;
        Ok(rows.into_iter().map(|row| (row.id(), row)).collect())
    }
}

async fn cache(url: &str, pool: &PgPool, near: Option<usize>) -> Cache {
    let url = format!("{url}?prefix={}:", if near.is_some() { "near" } else { "far" });
    let region = servers::region(&url).await.ttl(Duration::from_secs(TTL_S));
    let region = region.early_refresh(0.0).max_batch(1_000_000);
    let region = match near {
        Some(most) => region.near(NearConfig::entries(most as u64)),
        None => region,
    };
    let builder = Cache::builder().region("objects", region);
    let builder = builder.source(TableSource::<User>(pool.clone(), Default::default()));
    let builder = builder.source(TableSource::<Post>(pool.clone(), Default::default()));
    let builder = builder.source(TableSource::<Photo>(pool.clone(), Default::default()));
    builder.build().await.expect("a sound configuration")
}

/// Each object by itself, as a handler or a resolver asks for it.
async fn ours(cache: &Cache, user: i64) -> String {
    let request = &cache.request();
    let shown = request.get::<TableSource<User>>(user).await.expect("rows").expect("a user");
    let rows = try_join_all(feed(user).into_iter().map(|id| async move {
        let post = request.get::<TableSource<Post>>(id).await?.expect("a post");
        let author = request.get::<TableSource<User>>(post.author);
        let (author, photo) = tokio::try_join!(author, request.get::<TableSource<Photo>>(post.photo))?;
        Ok::<_, mastaba::Error>((post, author.expect("an author"), photo.expect("a photo")))
    }));
    let rows = rows.await.expect("rows");
    render(&shown, rows.iter().map(|(post, author, photo)| (&**post, &**author, &**photo)))
}
