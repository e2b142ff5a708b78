//! Rows by their primary key.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use mastaba::{Cache, Region, Source};
use mastaba_sea_orm::{Begin, ById, Entities};
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{ActiveModelTrait, DbBackend, EntityTrait};

use crate::entities::{author, book, far, loan, mood, tag};
use crate::library::{Books, Library, connect, run};

pub(crate) async fn twenty_rows_are_one_statement(library: Library) {
    let request = library.request();
    let books = request.entities::<book::Entity>((1..=20).chain([99, 1])).await.unwrap();
    assert_eq!(books.found().count(), 20);
    assert_eq!(books.get(&7).unwrap().as_ref().unwrap().title, "book 7");
    assert!(books.get(&99).unwrap().is_none());
    assert_eq!((library.sql().len(), request.report().statements()), (1, 1));
    library.cache.idle().await;

    let request = library.request();
    let again = request.entities::<book::Entity>((1..=20).chain([99])).await.unwrap();
    let here = book::Entity::find_by_id(7).one(&library.db).await.unwrap();
    assert_eq!(again.get(&7).unwrap().as_deref(), here.as_ref(), "what was stored is what is there");
    assert_eq!((again.found().count(), request.report().statements()), (20, 0));
    assert!(library.events().is_empty(), "{:?}", library.events());
}

pub(crate) async fn gets_that_are_awaited_together_are_one_statement(library: Library) {
    let request = library.request();
    let books = try_join_all((1..=20).map(|id| request.entity::<book::Entity>(id))).await.unwrap();
    assert_eq!(books[19].as_ref().unwrap().title, "book 20");
    assert_eq!((library.sql().len(), request.report().statements()), (1, 1));
}

pub(crate) async fn keys_of_several_columns_are_found_as_they_belong_together(library: Library) {
    let key = |reader: &str, book| (reader.to_owned(), book);
    let asked = [key("x", 1), key("y", 2), key("x", 2), key("y", 1), key("x", 3)];
    let loans = library.request().entities::<loan::Entity>(asked.clone()).await.unwrap();
    let days: Vec<_> = asked.iter().map(|key| loans[key].as_ref().map(|loan| loan.days)).collect();
    assert_eq!(days, [Some(11), Some(22), None, None, Some(13)]);
    assert_eq!(library.sql().len(), 1);
    library.cache.idle().await;
    let request = library.request();
    assert_eq!(request.entity::<loan::Entity>(key("y", 2)).await.unwrap().unwrap().days, 22);
    assert_eq!(request.report().statements(), 0);
    assert!(library.events().is_empty(), "{:?}", library.events());
}

pub(crate) async fn keys_of_a_type_of_the_database_are_found(library: Library) {
    let kind = match library.backend() {
        DbBackend::Postgres => "mood_kind",
        DbBackend::MySql => "enum ('good', 'bad', 'none')",
        _ => "text",
    };
    library.behind_the_back("drop table if exists mood").await;
    if library.backend() == DbBackend::Postgres {
        library.behind_the_back("create type mood_kind as enum ('good', 'bad', 'none')").await;
    }
    library
        .behind_the_back(&format!("create table mood (kind {kind} primary key, people int not null)"))
        .await;
    library.behind_the_back("insert into mood values ('good', 3), ('bad', 1)").await;
    let moods = ById::<mood::Entity>::new(&library.db);
    let cache = Cache::builder().region("objects", Region::memory()).source(moods).build().await.unwrap();
    let request = cache.request();
    let kinds = [mood::Kind::Good, mood::Kind::Bad, mood::Kind::None];
    let moods = request.entities::<mood::Entity>(kinds).await.unwrap();
    let people = kinds.map(|kind| moods[&kind].as_ref().map(|mood| mood.people));
    assert_eq!((people, request.report().statements()), ([Some(3), Some(1), None], 1));
    let tx = request.begin(&library.db).await.unwrap();
    tx.update(mood::ActiveModel { kind: Unchanged(mood::Kind::Bad), people: Set(0) }).await.unwrap();
    tx.commit().await.unwrap();
    let bad = cache.request().entity::<mood::Entity>(mood::Kind::Bad).await.unwrap().unwrap();
    assert_eq!(bad.people, 0);
}

pub(crate) async fn the_texts_of_statements_are_few(library: Library) {
    let mut texts = BTreeSet::new();
    for most in 1..=20 {
        library.request().with(mastaba::Force::PastShared).entities::<book::Entity>(1..=most).await.unwrap();
        texts.extend(library.sql());
    }
    // 1, 2, 4, 8, 16, 32
    let of_numbers = if library.backend() == DbBackend::Postgres { 1 } else { 6 };
    assert_eq!(texts.len(), of_numbers, "{texts:#?}");
    texts.clear();
    for most in 1..=9 {
        let request = library.request().with(mastaba::Force::PastShared);
        request.entities::<loan::Entity>((1..=most).map(|book| ("x".to_owned(), book))).await.unwrap();
        request.list_many_by::<Books>(100..100 + most).await.unwrap();
        texts.extend(
            library.sql().into_iter().filter(|sql| sql.contains("loan") || sql.contains("row_number")),
        );
    }
    let of_pairs = if library.backend() == DbBackend::Postgres { 2 } else { 10 };
    assert_eq!(texts.len(), of_pairs, "{texts:#?}");
}

pub(crate) async fn more_keys_than_a_statement_takes_are_several(library: Library) {
    let (db, _) = connect(&library.url, 2).await;
    let region = Region::null().max_batch(100_000);
    let cache = Cache::builder().region("objects", region).source(ById::<book::Entity>::new(&db));
    let cache = cache.build().await.unwrap();
    let request = cache.request();
    let books = request.entities::<book::Entity>(1..=40_000).await.unwrap();
    assert_eq!(books.found().count(), 23);
    let statements = if library.backend() == DbBackend::Postgres { 1 } else { 3 };
    assert_eq!(request.report().statements(), statements, "and they are counted");
}

pub(crate) async fn names_and_regions_are_those_of_tables_and_of_the_program(library: Library) {
    assert_eq!(ById::<book::Entity>::name(), "book.by_id");
    assert_eq!(ById::<far::Entity>::name(), "far.book.by_id");
    assert_eq!(Books::name(), "book.ids_by_author");
    assert_eq!(Source::region(&ById::<book::Entity>::new(&library.db)), "objects");
    let elsewhere = ById::<book::Entity>::new(&library.db).region("elsewhere");
    assert_eq!(Source::region(&elsewhere), "elsewhere");
    if library.backend() != DbBackend::Postgres {
        return;
    }
    run(&library.db, "drop schema if exists far cascade; create schema far").await;
    run(&library.db, "create table far.book (id bigint primary key, title text not null)").await;
    run(&library.db, "insert into far.book values (1, 'far away')").await;
    let cache = Cache::builder()
        .region("elsewhere", Region::memory())
        .source(elsewhere)
        .source(ById::<far::Entity>::new(&library.db).region("elsewhere"))
        .build()
        .await
        .unwrap();
    let request = cache.request();
    let (far, near) = tokio::join!(request.entity::<far::Entity>(1), request.entity::<book::Entity>(1));
    assert_eq!(far.unwrap().unwrap().title, "far away");
    assert_eq!(near.unwrap().unwrap().title, "book 1");
}

pub(crate) async fn a_table_that_is_not_there_is_one_clear_error(library: Library) {
    library.behind_the_back("drop table book_tag").await;
    library.behind_the_back("drop table tag").await;
    library.behind_the_back("alter table author rename column name to called").await;
    let build = Cache::builder()
        .region("objects", Region::memory())
        .source(ById::<tag::Entity>::new(&library.db))
        .source(ById::<author::Entity>::new(&library.db))
        .source(Books::new(&library.db))
        .build();
    let error = build.await.unwrap_err();
    assert!(error.is_config());
    let said = error.to_string();
    assert!(said.contains("source tag.by_id: the table tag cannot be selected from"), "{said}");
    assert!(said.contains("source author.by_id: the table author cannot be selected from"), "{said}");
    assert!(!said.contains("book.ids_by_author"), "{said}");
    library.behind_the_back("alter table book rename column author_id to by_whom").await;
    let build = Cache::builder().region("objects", Region::memory()).source(Books::new(&library.db)).build();
    let said = build.await.unwrap_err().to_string();
    assert!(said.contains("source book.ids_by_author: the keys in book cannot be selected"), "{said}");
}

pub(crate) async fn a_transaction_reads_what_it_has_written(library: Library) {
    let library = library.warm().await;
    let request = library.request();
    let mut tx = request.begin(&library.db).await.unwrap();
    let row = book::ActiveModel { id: Unchanged(1), title: Set("new".to_owned()), author_id: Set(Some(103)) };
    row.update(&tx).await.unwrap();
    let books = tx.get_many::<ById<book::Entity>>([1, 2, 99, 1]).await.unwrap();
    let titles: Vec<_> =
        books.iter().map(|(_, book)| book.as_ref().map(|book| book.title.as_str())).collect();
    assert_eq!(titles, [Some("new"), Some("book 2"), None]);
    assert_eq!(*tx.get::<Books>(103).await.unwrap().unwrap(), [1]);
    assert_eq!(request.report().statements(), library.sql().len());
    tx.commit().await.unwrap();
    assert!(!request.report().trips.iter().any(|trip| trip.name == "probe"), "nothing was in doubt");
    assert_eq!(library.title(1).await, ("book 1".to_owned(), 0), "no tier remembers what was read in it");
}
