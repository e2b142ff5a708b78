//! Parts of a transaction that are rolled back by themselves.

use futures_util::FutureExt;
use mastaba::CommitError;
use mastaba_sea_orm::Begin;
use sea_orm::ConnectionTrait;

use crate::library::Library;
use crate::writing::titled;

pub(crate) async fn what_a_savepoint_collects_goes_with_it_and_nothing_else_does(library: Library) {
    let library = library.warm().await;
    let mut tx = library.request().begin(&library.db).await.unwrap();
    tx.update(titled(1, "new 1")).await.unwrap();
    let part = tx.savepoint().await.unwrap();
    part.update(titled(2, "new 2")).await.unwrap();
    part.rollback().await.unwrap();
    let part = tx.savepoint().await.unwrap();
    part.update(titled(3, "new 3")).await.unwrap();
    drop(part);
    let part = tx.savepoint().await.unwrap();
    part.update(titled(4, "new 4")).await.unwrap();
    part.release().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(library.trips(), ["shared invalidate [1, 4]"]);
    for (book, title) in [(1, "new 1"), (2, "book 2"), (3, "book 3"), (4, "new 4")] {
        assert_eq!(library.stored(book).await, title);
        assert_eq!(library.title(book).await.0, title);
    }
}

pub(crate) async fn a_savepoint_within_a_savepoint_goes_by_itself(library: Library) {
    let library = library.warm().await;
    let mut tx = library.request().begin(&library.db).await.unwrap();
    let mut part = tx.savepoint().await.unwrap();
    part.update(titled(1, "new 1")).await.unwrap();
    let inner = part.savepoint().await.unwrap();
    inner.update(titled(2, "new 2")).await.unwrap();
    inner.rollback().await.unwrap();
    part.update(titled(3, "new 3")).await.unwrap();
    part.release().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(library.trips(), ["shared invalidate [1, 3]"]);
    assert_eq!(library.stored(1).await, "new 1");
    assert_eq!(library.stored(2).await, "book 2");
    assert_eq!(library.stored(3).await, "new 3");
}

pub(crate) async fn a_statement_that_fails_in_a_savepoint_fails_nothing_else(library: Library) {
    let library = library.warm().await;
    let request = library.request();
    let mut tx = request.begin(&library.db).await.unwrap();
    tx.update(titled(1, "new 1")).await.unwrap();
    let part = tx.savepoint().await.unwrap();
    assert!(part.execute_unprepared("select nonsense").await.is_err());
    part.rollback().await.unwrap();
    tx.update(titled(2, "new 2")).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!request.report().trips.iter().any(|trip| trip.name == "probe"), "nothing is in doubt");
    assert_eq!(
        (library.title(1).await.0, library.title(2).await.0),
        ("new 1".to_owned(), "new 2".to_owned())
    );
}

/// Tries a thing that is given up after its first poll, until its answer was not there by then.
async fn until_given_up(mut attempt: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if attempt().await {
            return;
        }
    }
    panic!("its answer was always there at once");
}

pub(crate) async fn a_savepoint_that_is_given_up_while_it_is_set_ends_the_transaction(library: Library) {
    let library = library.warm().await;
    until_given_up(async || {
        let mut tx = library.begin_after_another(&library.request()).await.unwrap();
        tx.update(titled(1, "new")).await.unwrap();
        if tx.savepoint().now_or_never().is_some() {
            return false;
        }
        let error = tx.update(titled(2, "alone")).await.unwrap_err();
        assert!(error.to_string().contains("rolled back already: a savepoint could not be set"), "{error}");
        let error = tx.commit().await.unwrap_err();
        assert!(matches!(error, CommitError::RolledBack(_)), "{error}");
        true
    })
    .await;
    assert_eq!((library.stored(1).await.as_str(), library.stored(2).await.as_str()), ("book 1", "book 2"));
    assert_eq!(library.trips(), [""; 0]);
}

pub(crate) async fn a_savepoint_that_is_given_up_while_it_ends_ends_the_transaction(library: Library) {
    let library = library.warm().await;
    for releases in [true, false] {
        until_given_up(async || {
            let mut tx = library.begin_after_another(&library.request()).await.unwrap();
            tx.update(titled(1, "new")).await.unwrap();
            let part = tx.savepoint().await.unwrap();
            part.update(titled(2, "new")).await.unwrap();
            let ended = match releases {
                true => part.release().now_or_never(),
                false => part.rollback().now_or_never(),
            };
            if ended.is_some() {
                return false;
            }
            let error = tx.commit().await.unwrap_err();
            assert!(matches!(error, CommitError::RolledBack(_)), "{error}");
            true
        })
        .await;
        assert_eq!(
            (library.stored(1).await.as_str(), library.stored(2).await.as_str()),
            ("book 1", "book 2")
        );
        assert_eq!(library.title(1).await, ("book 1".to_owned(), 0));
    }
}
