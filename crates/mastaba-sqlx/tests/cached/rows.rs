//! Rows by their keys, and by their indexes.

use futures_util::future::try_join_all;
use mastaba::{Cache, Region};

use crate::library::{Base, CountOfPosts, Library, Post, PostBySlug, Seat, SeatByTeamAndHolder, Tag, Word};

pub(crate) async fn any_number_of_rows_is_one_statement<DB: Base>(library: Library<DB>) {
    let request = library.request();
    let posts = request.find_many::<Post>((1..=20).chain([99])).await.unwrap();
    assert_eq!(posts.found().count(), 20);
    assert_eq!(posts[&99], None);
    let seven = posts[&7].as_ref().unwrap();
    assert_eq!((seven.slug.as_str(), seven.author_id, seven.editor_id), ("post-7", 3, Some(1)));
    assert_eq!(request.report().statements(), 1);
    library.cache.idle().await;
    let request = library.request();
    assert_eq!(request.find::<Post>(8).await.unwrap().unwrap().editor_id, None);
    assert_eq!(request.report().statements(), 0, "the shared tier knows it");
}

pub(crate) async fn joined_finds_of_an_index_are_two_statements<DB: Base>(library: Library<DB>) {
    let request = library.request();
    let finds = (1..=20).map(|id| request.find_by::<PostBySlug>(format!("post-{id}")));
    let posts = try_join_all(finds).await.unwrap();
    assert_eq!(posts.iter().flatten().map(|post| post.id).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert_eq!(request.report().statements(), 2);
    assert!(Post::by_slug(&request, "nowhere".into()).await.unwrap().is_none());
    assert_eq!(Post::by_slug(&request, "post-3".into()).await.unwrap().unwrap().id, 3);
    assert_eq!(request.report().statements(), 3);
}

pub(crate) async fn a_key_of_two_columns_finds_its_row<DB: Base>(library: Library<DB>) {
    let request = library.request();
    let seats = request.find_many::<Seat>([(1, 2), (2, 1), (2, 2), (2, 9), (9, 1)]).await.unwrap();
    let holders: Vec<_> = seats.values().map(|seat| seat.as_ref().map(|seat| seat.holder.as_str())).collect();
    assert_eq!(holders, [Some("bob"), Some("bob"), Some("ada"), None, None]);
    assert_eq!(request.report().statements(), 1);
    let held = [(1, "ada"), (2, "ada"), (2, "eve")].map(|(team, holder)| (team, holder.to_owned()));
    let seats = request.find_many_by::<SeatByTeamAndHolder>(held).await.unwrap();
    assert_eq!(
        seats.values().map(|seat| seat.as_ref().map(|seat| seat.nr)).collect::<Vec<_>>(),
        [Some(1), Some(2), None]
    );
    assert_eq!(request.report().statements(), 3, "one row was known");
}

pub(crate) async fn texts_are_found_as_they_are<DB: Base>(library: Library<DB>) {
    let request = library.request();
    library.run("insert into post values (30, 'it''s \"quoted\", größer [\\u0041] {keys} ? $1', 9, null, '', 0, '')").await;
    let slug = r#"it's "quoted", größer [\u0041] {keys} ? $1"#;
    // MySQL reads `\u` in the text of a statement as `u`
    let slug = if DB::NAME == "MySQL" { slug.replace('\\', "") } else { slug.to_owned() };
    let slugs = [slug.clone(), "post-1".to_owned(), String::new()];
    let posts = request.find_many_by::<PostBySlug>(slugs).await.unwrap();
    assert_eq!(posts[&slug].as_ref().unwrap().id, 30);
    assert_eq!(posts.found().count(), 2);
}

pub(crate) async fn a_key_of_a_type_of_ones_own_finds_its_row<DB: Base>(library: Library<DB>) {
    let request = library.request();
    let words = ["rust", "it's \"quoted\"", "größe", "a,b", "none"].map(|word| Word(word.to_owned()));
    let tags = request.find_many::<Tag>(words).await.unwrap();
    assert_eq!(
        tags.values().map(|tag| tag.as_ref().map(|tag| tag.uses.uses)).collect::<Vec<_>>(),
        [Some(7), Some(1), Some(2), Some(3), None]
    );
    assert_eq!(request.report().statements(), 1);
}

pub(crate) async fn a_row_that_is_taken_apart_by_sqlx_is_found<DB: Base>(library: Library<DB>) {
    let tag = library.request().find::<Tag>(Word("rust".to_owned())).await.unwrap().unwrap();
    assert_eq!((tag.uses.uses, tag.seen), (7, false));
    let report = library.request();
    report.find::<Tag>(Word("rust".to_owned())).await.unwrap();
    assert!(report.report().to_string().contains("keyword.by_word"), "{}", report.report());
}

pub(crate) async fn a_source_with_sql_of_its_own_is_one_statement<DB: Base>(library: Library<DB>) {
    let request = library.request();
    let counts = request.get_many::<CountOfPosts>([0, 1, 2, 3, 4]).await.unwrap();
    assert_eq!(
        counts.values().map(|count| count.as_deref().copied()).collect::<Vec<_>>(),
        [Some(5), Some(5), Some(5), Some(5), None]
    );
    assert_eq!(request.report().statements(), 1);
    // what the database refuses is found when the cache is built
    let wrong = DB::counts(
        &library.pool,
        "select author_id, cuont(*) from post where author_id in {keys} group by author_id",
    );
    let error = Cache::builder()
        .region("objects", Region::memory())
        .source(wrong)
        .build()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("source count_of_posts: the database refuses its statement: "), "{error}");
}
