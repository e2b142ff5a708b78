//! What became of a transaction, where it is not simply committed.

use futures_util::FutureExt;
use mastaba::{CommitError, Lost, WriteMode};
use mastaba_sea_orm::{Begin, Entities};
use mastaba_test::proxy::Proxy;
use sea_orm::{ConnAcquireErr, ConnectionTrait, DbBackend, DbErr};

use crate::entities::book;
use crate::library::{Library, connect, run};
use crate::writing::titled;

pub(crate) async fn a_transaction_that_is_dropped_is_rolled_back_in_silence(library: Library) {
    let library = library.warm().await;
    let handler = async |fails: bool| -> Result<(), mastaba::BoxError> {
        let tx = library.begin_after_another(&library.request()).await?;
        tx.update(titled(1, "new")).await?;
        tx.invalidate_tag("everything");
        tx.clear("lists")?;
        if fails {
            tx.execute_unprepared("select nonsense").await?;
        }
        drop(tx.commit()); // never polled: never begun
        Ok(())
    };
    for fails in [true, false] {
        assert_eq!(handler(fails).await.is_err(), fails);
        assert_eq!(library.stored(1).await, "book 1");
        assert_eq!(library.title(1).await, ("book 1".to_owned(), 0));
        assert_eq!(library.books_of(101).await.1, 0);
    }
    assert!(library.events().is_empty(), "and nobody is told: {:?}", library.events());
}

pub(crate) async fn a_rollback_voids_nothing(library: Library) {
    let library = library.warm().await;
    let request = library.request();
    let tx = request.begin(&library.db).await.unwrap();
    tx.update(titled(1, "new")).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!((library.stored(1).await.as_str(), library.trips()), ("book 1", vec![]));
    assert_eq!(library.title(1).await, ("book 1".to_owned(), 0));
    assert_eq!(request.entity::<book::Entity>(1).await.unwrap().unwrap().title, "book 1");
    assert!(library.events().is_empty());
}

pub(crate) async fn a_pool_that_is_exhausted_is_named_and_nothing_is_collected(library: Library) {
    let library = library.warm().await;
    let (small, _) = connect(&library.url, 1).await;
    let request = library.request();
    let first = request.begin(&small).await.unwrap();
    let error = request.begin(&small).await.map(drop).unwrap_err();
    assert!(matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)), "{error:?}");
    drop(first);
    let second = request.begin(&small).await.unwrap();
    second.update(titled(1, "new")).await.unwrap();
    second.commit().await.unwrap();
    assert_eq!(library.trips(), ["shared invalidate [1]"]);
    assert_eq!(library.title(1).await.0, "new");
    assert!(library.events().is_empty(), "{:?}", library.events());
}

/// Every await point: the caller is polled so many times, and then goes.
pub(crate) async fn a_handler_that_is_dropped_in_its_commit_costs_nobody_the_invalidation(library: Library) {
    let mut library = library.warm().await;
    for polls in 1..6 {
        let tx = library.request().begin(&library.db).await.unwrap();
        let title = format!("after {polls}");
        tx.update(titled(1, &title)).await.unwrap();
        let mut commit = Box::pin(tx.commit());
        for _ in 0..polls {
            if (&mut commit).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(commit);
        library.cache.idle().await;
        assert_eq!(library.stored(1).await, title, "it was begun, and goes to its end");
        assert_eq!(library.title(1).await.0, title, "after {polls} polls");
        library = library.warm().await;
    }
    assert!(library.events().is_empty());
}

pub(crate) async fn a_commit_after_a_failed_statement_says_what_the_database_did(library: Library) {
    let library = library.warm().await;
    let request = library.request();
    let tx = request.begin(&library.db).await.unwrap();
    tx.update(titled(1, "new")).await.unwrap();
    assert!(tx.execute_unprepared("insert into author (id, name) values (101, 'again')").await.is_err());
    let done = tx.commit().await; // the handler has not looked at the error
    if library.backend() == DbBackend::Postgres {
        let error = done.unwrap_err();
        assert!(matches!(error, CommitError::RolledBack(_)), "{error}");
        assert_eq!((library.stored(1).await.as_str(), library.trips()), ("book 1", vec![]));
        assert!(request.report().trips.iter().any(|trip| trip.name == "probe" && trip.failed));
    } else {
        done.unwrap();
        assert_eq!(library.trips(), ["shared invalidate [1]"]);
        assert_eq!(library.stored(1).await, "new");
    }
    assert_eq!(library.title(1).await.0, library.stored(1).await);

    // what is done by the plain transaction may be what fails it
    let tx = library.request().begin(&library.db).await.unwrap();
    tx.update(titled(2, "new")).await.unwrap();
    assert!(
        tx.plain().execute_unprepared("insert into author (id, name) values (101, 'again')").await.is_err()
    );
    assert_eq!(tx.commit().await.is_err(), library.backend() == DbBackend::Postgres);
    assert_eq!(library.title(2).await.0, library.stored(2).await);
    assert!(library.events().is_empty());
}

pub(crate) async fn a_constraint_that_is_checked_at_the_commit_is_a_known_rollback(library: Library) {
    if library.backend() == DbBackend::MySql {
        return; // it checks all of them at once
    }
    let library = library.warm().await;
    run(&library.db, "drop table if exists pledge").await;
    let table = "create table pledge (id bigint primary key, author bigint not null \
                 references author (id) deferrable initially deferred)";
    run(&library.db, table).await;
    let tx = library.request().begin(&library.db).await.unwrap();
    tx.update(titled(1, "new")).await.unwrap();
    tx.execute_unprepared("insert into pledge (id, author) values (1, 900)").await.unwrap();
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(&error, CommitError::RolledBack(DbErr::Query(_))), "{error}");
    assert_eq!((library.stored(1).await.as_str(), library.trips()), ("book 1", vec![]));
    assert_eq!(library.title(1).await, ("book 1".to_owned(), 0));
    run(&library.db, "drop table pledge").await;
}

pub(crate) async fn a_commit_whose_answer_is_lost_is_published(library: Library) {
    let Some(addr) = library.addr() else { return };
    let library = library.warm().await;
    let proxy = Proxy::to(addr).await;
    let far = library.through(&library.url.replace(&addr.to_string(), &proxy.addr().to_string())).await;
    let tx = far.request().begin(&far.db).await.unwrap();
    tx.update(titled(1, "new")).await.unwrap();
    proxy.reset_after("COMMIT");
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(&error, CommitError::Unknown { cause: Lost::Failed(_), .. }), "{error}");
    assert_eq!(far.trips(), ["shared invalidate [1]"]);
    assert_eq!(library.stored(1).await, "new");
    let book = far.request().peek::<mastaba_sea_orm::ById<book::Entity>>(1).await.unwrap();
    assert!(book.is_none(), "nobody finds what was there before");
}

pub(crate) async fn keys_are_held_before_the_commit_which_is_refused_without(library: Library) {
    let library = library.in_mode(WriteMode::Strict).await.warm().await;
    let tx = library.request().begin(&library.db).await.unwrap();
    tx.update(titled(1, "new")).await.unwrap();
    library.shared.down(&["hold"]);
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::Refused(_)), "{error}");
    assert_eq!(library.stored(1).await, "book 1", "COMMIT was not sent");
    library.shared.down(&[]);
    library.settle().await;

    let tx = library.begin_after_another(&library.request()).await.unwrap();
    tx.update(titled(1, "new")).await.unwrap();
    tx.commit().await.unwrap();
    library.cache.idle().await;
    assert_eq!(library.trips(), ["shared hold [1]", "shared end [1]"]);
    assert_eq!(library.title(1).await.0, "new");
}

/// MySQL ends the whole transaction at a deadlock, and would commit each further statement by itself.
pub(crate) async fn a_transaction_that_a_deadlock_has_ended_does_nothing_more(library: Library) {
    if library.backend() == DbBackend::Sqlite {
        return; // one writer at a time
    }
    let library = library.warm().await;
    let (one, two) = (library.request(), library.request());
    let one = one.begin(&library.db).await.unwrap();
    let two = two.begin(&library.db).await.unwrap();
    one.update(titled(1, "one")).await.unwrap();
    two.update(titled(2, "two")).await.unwrap();
    let (first, second) = tokio::join!(one.update(titled(2, "one")), two.update(titled(1, "two")));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let (loser, winner) = if first.is_ok() { (two, one) } else { (one, two) };
    assert!(loser.conflict() && !winner.conflict());
    assert!(loser.update(titled(3, "alone")).await.is_err());
    assert_eq!(library.stored(3).await, "book 3");
    let error = loser.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::RolledBack(_)), "{error}");
    winner.commit().await.unwrap();
    assert_eq!(library.stored(1).await, library.stored(2).await);
}
