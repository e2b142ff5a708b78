//! Transactions that collect what they change.

use std::time::Duration;

use mastaba::{Budget, Cache, Keyed, Keys, LoadContext, Region, Rows, Source};
use mastaba_sea_orm::{Begin, ById, ChangeError, Entities};
use sea_orm::ActiveValue::{NotSet, Set, Unchanged};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait,
    IntoActiveModel, QueryFilter,
};

use crate::entities::{author, book, tag};
use crate::library::{Library, connect};

pub(crate) fn titled(id: i64, title: &str) -> book::ActiveModel {
    book::ActiveModel { id: Unchanged(id), title: Set(title.to_owned()), author_id: NotSet }
}

/// The rows that a statement gives back cost a select on MySQL.
fn written(library: &Library) -> usize {
    if library.backend() == DbBackend::MySql { 2 } else { 1 }
}

pub(crate) async fn an_update_voids_the_row_and_no_list(library: Library) {
    let library = library.warm().await;
    let request = library.request();
    assert_eq!(request.entity::<book::Entity>(1).await.unwrap().unwrap().title, "book 1");
    let tx = request.begin(&library.db).await.unwrap();
    let new = tx.update(titled(1, "new")).await.unwrap();
    assert_eq!((new.title.as_str(), new.author_id), ("new", Some(101)));
    assert_eq!(library.title(1).await, ("book 1".to_owned(), 0), "it is not committed");
    assert!(tx.commit().await.unwrap().published.is_confirmed());
    assert_eq!(library.trips(), ["shared invalidate [1]"], "the lists are as they were");
    assert_eq!(library.title(1).await, ("new".to_owned(), 1));
    assert_eq!(request.entity::<book::Entity>(1).await.unwrap().unwrap().title, "new", "its own writes");
    assert_eq!(library.books_of(101).await, ((1..=20).collect(), 0));
    assert_eq!(library.title(2).await.1, 0, "what it did not change stays");
    assert!(library.events().is_empty(), "{:?}", library.events());
}

pub(crate) async fn a_row_that_moves_voids_the_list_that_it_leaves_and_the_one_that_it_enters(
    library: Library,
) {
    let library = library.warm().await;
    // as long as no model was read: what the active model does not know is read inside of the transaction
    let row = book::ActiveModel { id: Unchanged(21), title: NotSet, author_id: Set(Some(103)) };
    let tx = library.request().begin(&library.db).await.unwrap();
    tx.update(row).await.unwrap();
    assert_eq!(library.sql().len(), 1 + written(&library), "what it was is read before");
    tx.commit().await.unwrap();
    assert_eq!(
        library.trips(),
        ["shared invalidate [21]", "shared invalidate [102, 103]"],
        "and not that of 101"
    );
    assert_eq!(library.books_of(102).await.0, [22]);
    assert_eq!(library.books_of(103).await.0, [21]);
    assert_eq!(library.books_of(101).await.1, 0);

    let tx = library.request().begin(&library.db).await.unwrap();
    tx.update(book::ActiveModel { id: Unchanged(21), title: NotSet, author_id: Set(None) }).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(library.books_of(103).await.0, [0; 0], "to nobody");
}

/// The second one waits for the first one to commit, and only then looks where the row is.
pub(crate) async fn two_that_move_one_row_void_every_list_that_it_was_in(library: Library) {
    if library.backend() == DbBackend::Sqlite {
        return; // one writer at a time
    }
    let library = library.warm().await;
    let moved = |author| book::ActiveModel { id: Unchanged(21), title: NotSet, author_id: Set(Some(author)) };
    let one = library.request().begin(&library.db).await.unwrap();
    one.update(moved(103)).await.unwrap();
    let two = library.request().begin(&library.db).await.unwrap();
    let first = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        one.commit().await
    };
    let (first, second) = tokio::join!(first, two.update(moved(101)));
    first.unwrap();
    second.unwrap();
    assert_eq!(library.books_of(103).await.0, [21], "as it is between the two");
    library.settle().await;
    two.commit().await.unwrap();
    assert_eq!(library.trips(), ["shared invalidate [21]", "shared invalidate [103, 101]"]);
    assert_eq!(library.books_of(103).await.0, [0; 0]);
    assert_eq!(library.books_of(101).await.0, (1..=21).collect::<Vec<_>>());
}

pub(crate) async fn a_row_that_is_inserted_is_no_longer_absent_and_enters_its_list(library: Library) {
    let library = library.warm().await;
    assert_eq!(library.title(500).await.0, "none");
    let tx = library.request().begin(&library.db).await.unwrap();
    let row = book::ActiveModel { id: Set(500), title: Set("new".to_owned()), author_id: Set(Some(103)) };
    tx.insert(row).await.unwrap();
    let numbered =
        book::ActiveModel { id: NotSet, title: Set("newer".to_owned()), author_id: Set(Some(102)) };
    let numbered = tx.insert(numbered).await.unwrap().id;
    assert_eq!(library.sql().len(), 2 * written(&library));
    tx.commit().await.unwrap();
    assert_eq!(library.title(500).await.0, "new");
    assert_eq!(library.books_of(103).await.0, [500]);
    assert_eq!(library.books_of(102).await.0, [21, 22, numbered]);
    assert_eq!(library.books_of(101).await.1, 0);
}

pub(crate) async fn a_row_that_is_deleted_leaves_its_list(library: Library) {
    let library = library.warm().await;
    let request = library.request();
    let book = request.entity::<book::Entity>(22).await.unwrap().unwrap();
    // the database knows better than the cache
    library.behind_the_back("update book set author_id = 103 where id = 22").await;
    library.sql();
    let tx = request.begin(&library.db).await.unwrap();
    let deleted = tx.delete((*book).clone().into_active_model()).await.unwrap();
    assert_eq!((deleted.rows_affected, library.sql().len()), (1, 2));
    tx.commit().await.unwrap();
    assert_eq!(library.trips(), ["shared invalidate [22]", "shared invalidate [103]"]);
    assert_eq!(library.title(22).await.0, "none");
    // an entity that stands in no list
    let tx = request.begin(&library.db).await.unwrap();
    let gone = author::ActiveModel { id: Unchanged(104), name: NotSet };
    assert_eq!(tx.delete(gone).await.unwrap().rows_affected, 1);
    assert_eq!(library.sql().len(), 1);
    tx.commit().await.unwrap();
    assert!(library.request().entity::<author::Entity>(104).await.unwrap().is_none());
}

pub(crate) async fn what_an_active_model_is_about_to_change_is_collected_before_its_statement(
    library: Library,
) {
    let library = library.warm().await;
    let tx = library.request().begin(&library.db).await.unwrap();
    let row = book::ActiveModel { id: Unchanged(21), title: NotSet, author_id: Set(Some(103)) };
    tx.changed_active(&row).await.unwrap();
    assert_eq!(library.sql().len(), 1, "what it was");
    row.update(&tx).await.unwrap();
    // one that is not there yet
    let row = book::ActiveModel { id: Set(500), title: Set("new".to_owned()), author_id: Set(Some(101)) };
    tx.changed_active(&row).await.unwrap();
    book::Entity::insert(row).exec_without_returning(&tx).await.unwrap();
    // one whose author is not touched
    let row = titled(1, "new");
    tx.changed_active(&row).await.unwrap();
    row.update(&tx).await.unwrap();
    tx.commit().await.unwrap();
    let voided = ["shared invalidate [21]", "shared invalidate [102, 103]"];
    let more = ["shared invalidate [500]", "shared invalidate [101]", "shared invalidate [1]"];
    assert_eq!(library.trips(), [&voided[..], &more[..]].concat());
    assert_eq!((library.books_of(102).await.0, library.books_of(103).await.0), (vec![22], vec![21]));
    assert_eq!(library.title(500).await.0, "new");
}

pub(crate) async fn an_active_model_without_its_key_is_refused(library: Library) {
    let tx = library.request().begin(&library.db).await.unwrap();
    let row = book::ActiveModel { id: NotSet, title: Set("new".to_owned()), author_id: NotSet };
    let error = tx.changed_active(&row).await.unwrap_err();
    assert!(matches!(&error, ChangeError::Cache(error) if error.is_usage()), "{error}");
    assert!(error.to_string().contains("the primary key (id) of a row of book is not set"), "{error}");
    tx.rollback().await.unwrap();
}

pub(crate) async fn models_that_a_statement_gave_are_collected(library: Library) {
    let library = library.warm().await;
    let tx = library.request().begin(&library.db).await.unwrap();
    let old = book::Entity::find().filter(book::Column::AuthorId.eq(102)).all(&tx).await.unwrap();
    let update = book::Entity::update_many().col_expr(book::Column::AuthorId, Expr::value(103));
    update.filter(book::Column::AuthorId.eq(102)).exec(&tx).await.unwrap();
    for old in old {
        let new = book::Model { author_id: Some(103), ..old.clone() };
        tx.changed_model::<book::Entity>(Some(&old), Some(&new)).unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!((library.books_of(102).await.0, library.books_of(103).await.0), (vec![], vec![21, 22]));
    assert_eq!(library.books_of(101).await.1, 0);
}

/// A source of one's own, and the keys that a book has there.
struct LengthOf(DatabaseConnection);

impl Source for LengthOf {
    type Key = String;
    type Value = usize;
    type Error = DbErr;
    const NAME: &'static str = "length";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, titles: &[String]) -> Result<Rows<Self>, DbErr> {
        let found = book::Entity::find().filter(book::Column::Title.is_in(titles)).all(&self.0).await?;
        Ok(found.into_iter().map(|book| (book.title.clone(), book.title.len())).collect())
    }
}

impl Keyed for book::Model {
    fn keys(&self, keys: &mut Keys) {
        keys.add::<LengthOf>(self.title.clone());
    }
}

pub(crate) async fn a_model_that_names_its_own_keys_voids_them(library: Library) {
    let (db, _) = connect(&library.url, 2).await;
    let cache = Cache::builder()
        .region("objects", Region::memory().jitter(0.0).early_refresh(0.0))
        .source(ById::<book::Entity>::new(&db))
        .source(LengthOf(db.clone()))
        .build()
        .await
        .unwrap();
    let request = cache.request();
    let lengths = async |request: &mastaba::RequestCache| {
        let titles = ["book 1", "a longer one", "book 2"].map(str::to_owned);
        let found = request.get_many::<LengthOf>(titles.clone()).await.unwrap();
        titles.map(|title| found[&title].as_deref().copied())
    };
    assert_eq!(lengths(&request).await, [Some(6), None, Some(6)]);
    cache.idle().await;
    let old = request.entity::<book::Entity>(1).await.unwrap().unwrap();
    let tx = request.begin(&db).await.unwrap();
    let new = tx.update(titled(1, "a longer one")).await.unwrap();
    tx.changed(&*old, &new).unwrap();
    let other = tx.insert(book::ActiveModel { id: Set(500), title: Set("x".to_owned()), author_id: NotSet });
    tx.inserted(&other.await.unwrap()).unwrap();
    tx.commit().await.unwrap();
    let request = cache.request();
    assert_eq!(lengths(&request).await, [None, Some(12), Some(6)]);
    let asked: Vec<_> =
        request.report().trips.iter().filter(|trip| trip.name == "length").map(|trip| trip.keys).collect();
    assert_eq!(asked, [2], "the third one was never voided");
}

pub(crate) async fn statements_count_in_the_report(library: Library) {
    let request = library.request();
    let tx = request.begin(&library.db).await.unwrap();
    tx.update(author::ActiveModel { id: Unchanged(101), name: Set("A".to_owned()) }).await.unwrap();
    author::Entity::find().all(&tx).await.unwrap();
    author::Entity::find_by_id(101).one(&tx).await.unwrap();
    tx.execute_unprepared("select 1").await.unwrap();
    let statements = written(&library) + 3;
    assert_eq!((request.report().statements(), request.report().shared_trips()), (statements, 0));
    assert!(tx.execute_unprepared("select nonsense").await.is_err());
    let failed: Vec<_> =
        request.report().trips.iter().filter(|trip| trip.failed).map(|trip| trip.statements).collect();
    assert_eq!((request.report().statements(), failed), (statements + 1, vec![1]));
    drop(tx);

    let request = library.request();
    let tx = library.begin_after_another(&request).await.unwrap();
    tx.update(author::ActiveModel { id: Unchanged(101), name: Set("A".to_owned()) }).await.unwrap();
    tx.commit().await.unwrap();
    let report = request.report();
    report.assert_at_most(Budget { trips: 1, statements: written(&library) });
    assert!(!report.is_within(Budget { trips: 1, statements: 0 }), "a budget holds for writes, too");
    let trips: Vec<_> =
        report.trips.iter().map(|trip| trip.name.as_str()).filter(|name| *name != "statement").collect();
    assert_eq!(trips, ["begin", "commit", "objects"]);
}

pub(crate) async fn an_entity_that_is_not_registered_is_refused_before_its_statement(library: Library) {
    let tx = library.request().begin(&library.db).await.unwrap();
    let error = tx.insert(tag::ActiveModel { id: Set(1) }).await.unwrap_err();
    assert!(error.to_string().contains("source tag.by_id"), "{error}");
    assert!(error.database().is_none());
    assert_eq!(library.sql(), [""; 0]);
    // the error of the database is there to be looked at
    let error = tx.insert(author::ActiveModel { id: Set(900), name: Set("a".to_owned()) }).await.unwrap_err();
    assert!(error.database().and_then(DbErr::sql_err).is_some(), "a name that is taken: {error}");
    tx.rollback().await.unwrap();
}
