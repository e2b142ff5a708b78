//! Rows that are found by an index or in a list, which store keys alone.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use mastaba::{
    Cache, Force, Index, Keyed, Keys, List, LoadContext, Record, Region, RequestCache, Rows, Source,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Post {
    id: u64,
    slug: String,
    author: u64,
}

impl Record for Post {
    type Source = PostById;
}

/// A table of posts.
#[derive(Clone, Default)]
struct Posts(Arc<Mutex<BTreeMap<u64, Post>>>);

impl Posts {
    fn set(&self, id: u64, slug: &str, author: u64) {
        self.0.lock().unwrap().insert(id, Post { id, slug: slug.to_owned(), author });
    }

    fn delete(&self, id: u64) {
        self.0.lock().unwrap().remove(&id);
    }

    fn all(&self) -> Vec<Post> {
        self.0.lock().unwrap().values().cloned().collect()
    }
}

struct PostById(Posts);
struct PostBySlug(Posts);
struct PostIdsByAuthor(Posts);

macro_rules! source {
    ($source:ident: $key:ty => $value:ty, |$posts:ident, $keys:ident| $load:expr) => {
        impl Source for $source {
            type Key = $key;
            type Value = $value;
            type Error = Infallible;
            const NAME: &'static str = stringify!($source);
            const REGION: &'static str = "objects";

            async fn load_many(&self, _: &LoadContext<'_>, $keys: &[$key]) -> Result<Rows<Self>, Infallible> {
                let $posts = self.0.all();
                Ok($load)
            }
        }
    };
}

source!(PostById: u64 => Post, |posts, ids| {
    posts.into_iter().filter(|post| ids.contains(&post.id)).map(|post| (post.id, post)).collect()
});
source!(PostBySlug: String => u64, |posts, slugs| {
    posts.into_iter().filter(|post| slugs.contains(&post.slug)).map(|post| (post.slug, post.id)).collect()
});
source!(PostIdsByAuthor: u64 => Vec<u64>, |posts, authors| {
    let of = |author: u64| posts.iter().rev().filter(move |post| post.author == author).map(|post| post.id).collect();
    authors.iter().map(|author| (*author, of(*author))).collect()
});

impl Index for PostBySlug {
    type Rows = PostById;

    fn leads(slug: &String, post: &Post) -> bool {
        assert_ne!(slug, "panics", "this slug panics");
        post.slug == *slug
    }
}

impl List for PostIdsByAuthor {
    type Rows = PostById;

    fn holds(author: &u64, post: &Post) -> bool {
        post.author == *author
    }
}

impl Keyed for Post {
    fn keys(&self, keys: &mut Keys) {
        keys.add::<PostById>(self.id);
        keys.add::<PostBySlug>(self.slug.clone());
        keys.add::<PostIdsByAuthor>(self.author);
    }

    fn changed(old: &Self, new: &Self, keys: &mut Keys) {
        for post in [old, new] {
            keys.add::<PostById>(post.id);
            if old.slug != new.slug {
                keys.add::<PostBySlug>(post.slug.clone());
            }
            if old.author != new.author {
                keys.add::<PostIdsByAuthor>(post.author);
            }
        }
    }
}

/// Posts 1 to 20, of authors 0 to 3, and a cache over them.
async fn blog() -> (Posts, Cache) {
    let posts = Posts::default();
    (1..=20).for_each(|id| posts.set(id, &format!("post-{id}"), id % 4));
    let cache = Cache::builder()
        .region("objects", Region::memory().jitter(0.0).early_refresh(0.0))
        .source(PostById(posts.clone()))
        .source(PostBySlug(posts.clone()))
        .source(PostIdsByAuthor(posts.clone()))
        .build()
        .await
        .unwrap();
    (posts, cache)
}

fn slugs() -> impl Iterator<Item = String> {
    (1..=20).map(|id| format!("post-{id}"))
}

/// The id of the post with a slug, and how many statements that was.
async fn find(cache: &Cache, slug: &str) -> (Option<u64>, usize) {
    let request = cache.request();
    let found = request.find_by::<PostBySlug>(slug.to_owned()).await.unwrap();
    cache.idle().await;
    (found.map(|post| post.id), request.report().statements())
}

/// The ids of the posts of an author, and how many statements that was.
async fn list(cache: &Cache, author: u64) -> (Vec<u64>, usize) {
    let request = cache.request();
    let posts = request.list_by::<PostIdsByAuthor>(author).await.unwrap();
    cache.idle().await;
    (posts.iter().map(|post| post.id).collect(), request.report().statements())
}

#[tokio::test]
async fn any_number_of_finds_is_two_statements_and_when_warm_two_reads_of_the_shared_tier() {
    let (_, cache) = blog().await;
    let request = cache.request();
    let found = request.find_many_by::<PostBySlug>(slugs().chain(["none".to_owned()])).await.unwrap();
    assert_eq!(found.len(), 21);
    assert_eq!(found[&"post-7".to_owned()].as_ref().unwrap().id, 7);
    assert_eq!(found[&"none".to_owned()], None);
    assert_eq!(request.report().statements(), 2);
    cache.idle().await;
    let request = cache.request();
    let found = try_join_all(slugs().map(|slug| request.find_by::<PostBySlug>(slug))).await.unwrap();
    assert_eq!(
        found.into_iter().map(|post| post.unwrap().id).collect::<Vec<_>>(),
        (1..=20).collect::<Vec<_>>()
    );
    assert_eq!((request.report().statements(), request.report().shared_trips()), (0, 2));
}

#[tokio::test]
async fn finds_that_are_awaited_together_are_two_statements() {
    let (_, cache) = blog().await;
    let request = cache.request();
    try_join_all(slugs().map(|slug| request.find_by::<PostBySlug>(slug))).await.unwrap();
    assert_eq!(request.report().statements(), 2);
    let request = cache.request();
    let authors = (0..4).map(|author| request.list_by::<PostIdsByAuthor>(author));
    let lists = try_join_all(authors).await.unwrap();
    assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [5; 4]);
    assert_eq!(request.report().statements(), 1, "the rows are known to the shared tier");
    assert_eq!(request.find::<Post>(7).await.unwrap().unwrap().slug, "post-7");
    assert_eq!(request.find_many::<Post>([1, 2]).await.unwrap().len(), 2);
    assert_eq!(request.report().statements(), 1);
}

#[tokio::test]
async fn an_entry_of_an_index_that_is_out_of_date_never_gives_a_wrong_row() {
    let (posts, cache) = blog().await;
    find(&cache, "post-1").await;
    find(&cache, "post-2").await;
    // somebody swaps two slugs, and voids the rows alone
    posts.set(1, "post-2", 1);
    posts.set(2, "post-1", 2);
    cache.request().invalidate::<PostById>([1, 2]).await.unwrap();
    let (one, two) = (find(&cache, "post-1").await, find(&cache, "post-2").await);
    assert_eq!((one.0, two.0), (Some(2), Some(1)));
    assert_eq!(find(&cache, "post-1").await, (Some(2), 0), "what was found anew is stored");
}

#[tokio::test]
async fn an_entry_of_an_index_whose_row_is_gone_is_a_miss() {
    let (posts, cache) = blog().await;
    find(&cache, "post-1").await;
    posts.delete(1);
    cache.request().invalidate::<PostById>([1]).await.unwrap();
    assert_eq!(find(&cache, "post-1").await.0, None);
    assert_eq!(find(&cache, "post-1").await, (None, 0), "that it is absent is stored");
    posts.set(30, "post-1", 1);
    cache.request().invalidate::<PostBySlug>(["post-1".to_owned()]).await.unwrap();
    assert_eq!(find(&cache, "post-1").await.0, Some(30));
}

#[tokio::test]
async fn a_row_that_is_out_of_date_is_read_anew_where_an_index_shows_it() {
    let (posts, cache) = blog().await;
    find(&cache, "post-1").await;
    posts.set(1, "renamed", 1);
    // the index is voided, and the row is not
    cache.request().invalidate::<PostBySlug>(["post-1".to_owned(), "renamed".to_owned()]).await.unwrap();
    assert_eq!(find(&cache, "renamed").await.0, Some(1));
    assert_eq!(find(&cache, "post-1").await.0, None);
}

#[tokio::test]
async fn a_list_has_its_order_and_an_empty_list_is_a_list() {
    let (_, cache) = blog().await;
    assert_eq!(list(&cache, 1).await, (vec![17, 13, 9, 5, 1], 2));
    assert_eq!(list(&cache, 1).await, (vec![17, 13, 9, 5, 1], 0));
    assert_eq!(list(&cache, 9).await, (vec![], 1));
    assert_eq!(list(&cache, 9).await, (vec![], 0));
    let request = cache.request();
    assert_eq!(request.get::<PostIdsByAuthor>(9).await.unwrap().as_deref(), Some(&vec![]));
    let lists = request.list_many_by::<PostIdsByAuthor>([1, 9]).await.unwrap();
    assert_eq!((lists[&1].len(), lists[&9].len()), (5, 0));
}

#[tokio::test]
async fn a_list_with_a_row_that_left_it_is_a_miss() {
    let (posts, cache) = blog().await;
    list(&cache, 1).await;
    posts.set(9, "post-9", 2);
    cache.request().invalidate::<PostById>([9]).await.unwrap();
    assert_eq!(list(&cache, 1).await.0, [17, 13, 5, 1], "one that moved");
    let entry = async || cache.request().get::<PostIdsByAuthor>(1).await.unwrap().unwrap().to_vec();
    assert_eq!(entry().await, [17, 13, 5, 1], "the list is loaded anew, and not only read without it");
    posts.delete(5);
    cache.request().invalidate::<PostById>([5]).await.unwrap();
    assert_eq!(list(&cache, 1).await.0, [17, 13, 1], "one that is gone");
    assert_eq!(list(&cache, 1).await, (vec![17, 13, 1], 0), "what was found anew is stored");
}

#[tokio::test]
async fn a_forced_find_is_forced_on_both_reads_and_once() {
    let (posts, cache) = blog().await;
    find(&cache, "post-1").await;
    posts.set(1, "post-1", 3);
    let request = cache.request();
    let forced = request.with(Force::PastShared);
    assert_eq!(forced.find_by::<PostBySlug>("post-1".to_owned()).await.unwrap().unwrap().author, 3);
    assert_eq!(request.report().statements(), 2);
    assert_eq!(forced.list_by::<PostIdsByAuthor>(3).await.unwrap().len(), 6);
    assert_eq!(request.report().statements(), 4);
}

#[tokio::test]
async fn what_panics_in_an_index_is_named() {
    let (posts, cache) = blog().await;
    posts.set(21, "panics", 1);
    let error = cache.request().find_by::<PostBySlug>("panics".to_owned()).await.unwrap_err().to_string();
    assert!(error.contains("PostBySlug") && error.contains("`Index::leads`"), "{error}");
    assert!(error.contains("this slug panics"), "{error}");
}

#[tokio::test]
async fn a_change_voids_what_it_concerns_and_nothing_else() {
    let (posts, cache) = blog().await;
    let statements = async |read: &dyn Fn(RequestCache) -> futures_util::future::BoxFuture<'static, ()>| {
        let request = cache.request();
        read(request.clone()).await;
        cache.idle().await;
        request.report().statements()
    };
    let row = |request: RequestCache| -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(async move { drop(request.find::<Post>(1).await.unwrap()) })
    };
    let index = |request: RequestCache| -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(async move { drop(request.get::<PostBySlug>("post-1".to_owned()).await.unwrap()) })
    };
    let listed = |request: RequestCache| -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(async move { drop(request.get::<PostIdsByAuthor>(1).await.unwrap()) })
    };
    let all = async || (statements(&row).await, statements(&index).await, statements(&listed).await);
    all().await;
    assert_eq!(all().await, (0, 0, 0));
    let change = async |id, slug: &str, author| {
        let old = posts.all().into_iter().find(|post| post.id == id).unwrap();
        posts.set(id, slug, author);
        let new = posts.all().into_iter().find(|post| post.id == id).unwrap();
        let write = cache.request().write();
        write.changed(&old, &new).unwrap();
        write.published().await.unwrap();
    };
    change(1, "post-1", 1).await;
    assert_eq!(all().await, (1, 0, 0), "neither its slug nor its author has changed");
    change(1, "new", 1).await;
    assert_eq!(all().await, (1, 1, 0), "its slug has");
    change(1, "new", 2).await;
    assert_eq!(all().await, (1, 0, 1), "its author has");
    assert_eq!(list(&cache, 2).await.0, [18, 14, 10, 6, 2, 1]);
}
