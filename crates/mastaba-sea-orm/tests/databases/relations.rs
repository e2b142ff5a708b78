//! From a row to what it is related to.

use futures_util::future::try_join_all;
use mastaba::{Cache, Region};
use mastaba_sea_orm::{ById, Entities, RelatedIds, Relations};

use crate::entities::{author, book, fine, loan, note, review, tag};
use crate::library::{Books, Library};

/// From six reviews to three books to one author.
pub(crate) async fn three_levels_are_three_statements(library: Library) {
    for statements in [3, 0] {
        library.settle().await;
        let request = library.request();
        let reviews = request.entities::<review::Entity>(1..=6).await.unwrap();
        let reviews: Vec<_> = reviews.found().map(|(_, review)| review.clone()).collect();
        let books = reviews.iter().map(|review| review.related::<book::Entity>(&request));
        let books = try_join_all(books).await.unwrap();
        let authors = books.iter().flatten().map(|book| book.related::<author::Entity>(&request));
        let authors = try_join_all(authors).await.unwrap();
        let names: Vec<_> = authors.iter().map(|author| author.as_ref().unwrap().name.as_str()).collect();
        assert_eq!(names, ["a"; 6]);
        assert_eq!((request.report().statements(), library.sql().len()), (statements, statements));
    }
    // a number that is shorter than the key that it stands for
    let request = library.request();
    let note = request.entity::<note::Entity>("odd".to_owned()).await.unwrap().unwrap();
    assert_eq!(note.related::<book::Entity>(&request).await.unwrap().unwrap().title, "book 2");
}

pub(crate) async fn a_foreign_key_that_is_null_costs_nothing(library: Library) {
    let request = library.request();
    let book = request.entity::<book::Entity>(23).await.unwrap().unwrap();
    assert_eq!(book.author_id, None);
    let trips = request.report().trips.len();
    assert!(book.related::<author::Entity>(&request).await.unwrap().is_none());
    assert_eq!(request.report().trips.len(), trips);
}

pub(crate) async fn lists_are_two_statements_for_any_number(library: Library) {
    for statements in [3, 0] {
        library.settle().await;
        let request = library.request();
        let authors = request.entities::<author::Entity>([104, 103, 102, 101]).await.unwrap();
        let lists = authors.iter().map(|(_, author)| {
            let author = author.clone().unwrap();
            let request = request.clone();
            async move { author.related_many::<book::Entity>(&request).await }
        });
        let lists = try_join_all(lists).await.unwrap();
        let numbers =
            |list: &[std::sync::Arc<book::Model>]| list.iter().map(|book| book.id).collect::<Vec<_>>();
        assert_eq!(lists[0..2].iter().map(Vec::len).sum::<usize>(), 0, "an empty list is one, too");
        assert_eq!(numbers(&lists[2]), [21, 22]);
        assert_eq!(numbers(&lists[3]), (1..=20).collect::<Vec<_>>());
        // the authors, the lists, the books
        assert_eq!((request.report().statements(), library.sql().len()), (statements, statements));
    }
    assert!(library.events().is_empty(), "{:?}", library.events());
}

/// From an author to twenty books to six reviews.
pub(crate) async fn three_levels_of_lists_are_two_statements_each(library: Library) {
    for statements in [5, 0] {
        library.settle().await;
        let request = library.request();
        let author = request.entity::<author::Entity>(101).await.unwrap().unwrap();
        let books = author.related_many::<book::Entity>(&request).await.unwrap();
        let reviews = try_join_all(books.iter().map(|book| book.related_many::<review::Entity>(&request)));
        let stars: Vec<_> = reviews.await.unwrap().iter().flatten().map(|review| review.stars).collect();
        assert_eq!(stars, [5, 4, 3, 2, 1, 5]);
        assert_eq!((request.report().statements(), library.sql().len()), (statements, statements));
    }
}

pub(crate) async fn a_list_ends_at_its_limit(library: Library) {
    let cache = Cache::builder()
        .region("objects", Region::memory())
        .source(ById::<book::Entity>::new(&library.db))
        .source(Books::new(&library.db).limit(3))
        .build()
        .await
        .unwrap();
    let lists = cache.request().get_many::<Books>([101, 102, 103]).await.unwrap();
    let list = |author: i64| lists[&author].as_ref().unwrap().to_vec();
    assert_eq!((list(101), list(102), list(103)), (vec![1, 2, 3], vec![21, 22], vec![]), "each by itself");
}

pub(crate) async fn a_row_that_belongs_to_another_one_by_now_is_left_out(library: Library) {
    let library = library.warm().await;
    library.behind_the_back("update book set author_id = 103 where id = 21").await;
    // somebody voids the row and forgets the lists
    library.request().invalidate::<ById<book::Entity>>([21]).await.unwrap();
    assert_eq!(library.books_of(102).await.0, [22]);
    let (books, statements) = library.books_of(102).await;
    assert_eq!((books, statements), (vec![22], 0), "and the list was loaded once more");
}

pub(crate) async fn keys_of_several_columns_lead_to_rows_and_to_lists(library: Library) {
    let request = library.request();
    let fines = request.entities::<fine::Entity>([1, 2, 3]).await.unwrap();
    let loans = fines.found().map(|(_, fine)| fine.related::<loan::Entity>(&request));
    let loans: Vec<_> = try_join_all(loans).await.unwrap().into_iter().flatten().collect();
    assert_eq!(loans.iter().map(|loan| loan.days).collect::<Vec<_>>(), [11, 11, 22]);
    assert_eq!(library.sql().len(), 2);
    let fines = try_join_all(loans[1..].iter().map(|loan| loan.related_many::<fine::Entity>(&request)));
    let fines: Vec<Vec<_>> =
        fines.await.unwrap().iter().map(|list| list.iter().map(|fine| fine.id).collect()).collect();
    assert_eq!(fines, [vec![1, 2], vec![3]]);
    assert_eq!(library.sql().len(), 1, "the lists; the rows were known");
}

pub(crate) async fn what_is_no_foreign_key_is_refused(library: Library) {
    let build = Cache::builder()
        .region("objects", Region::memory())
        .source(RelatedIds::<book::Entity, tag::Entity>::new(&library.db))
        .source(RelatedIds::<book::Entity, note::Entity>::new(&library.db))
        .build();
    let said = build.await.unwrap_err().to_string();
    assert!(said.contains("the relation of tag to book goes through a third table"), "{said}");
    assert!(said.contains("the columns of note that lead to book are of other types"), "{said}");
    let request = library.request();
    let book = request.entity::<book::Entity>(1).await.unwrap().unwrap();
    let error = book.related::<review::Entity>(&request).await.unwrap_err();
    assert!(error.is_usage(), "{error}");
    assert!(error.to_string().contains("book to review is not one of belonging to it"), "{error}");
    let error = book.related_many::<tag::Entity>(&request).await.unwrap_err();
    assert!(error.to_string().contains("tag.ids_by_book"), "it is not registered: {error}");
}
