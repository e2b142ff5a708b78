//! Parts of a transaction that are rolled back by themselves.

use futures_util::FutureExt;
use mastaba::CommitError;
use mastaba_sqlx::Begin;
use sqlx::{Connection, Executor};

use crate::town::{Database, NameOf, Town, rename};

pub(crate) async fn what_a_savepoint_collects_goes_with_it_and_nothing_else_does<DB: Database>(
    town: Town<DB>,
) {
    let town = town.warm(&[1, 2, 3, 4, 5]).await;
    let request = town.request();
    let mut tx = request.begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();

    let mut rolled_back = tx.savepoint().await.unwrap();
    rename(&mut rolled_back, 2, "B").await.unwrap();
    rolled_back.invalidate::<NameOf<DB>>([1, 2]).await.unwrap();
    rolled_back.invalidate_tag("people");
    rolled_back.clear("objects").unwrap();
    rolled_back.rollback().await.unwrap();

    let mut dropped = tx.savepoint().await.unwrap();
    rename(&mut dropped, 3, "C").await.unwrap();
    dropped.invalidate::<NameOf<DB>>([3]).await.unwrap();
    drop(dropped);

    let mut released = tx.savepoint().await.unwrap();
    rename(&mut released, 4, "D").await.unwrap();
    released.invalidate::<NameOf<DB>>([4]).await.unwrap();
    released.release().await.unwrap();

    rename(&mut tx, 5, "E").await.unwrap();
    tx.invalidate::<NameOf<DB>>([5]).await.unwrap();
    assert_eq!(request.report().statements(), 5);
    tx.commit().await.unwrap();
    assert_eq!(town.trips(), ["shared invalidate [1, 4, 5]"]);
    for (key, name) in [(1, "A"), (2, "b"), (3, "c"), (4, "D"), (5, "E")] {
        assert_eq!((town.stored(key).await.as_str(), town.sees(key).await.0.as_str()), (name, name));
    }
    town.trips();
    let name = request.get::<NameOf<DB>>(5).await.unwrap().unwrap();
    assert_eq!((name.as_str(), town.trips().is_empty()), ("E", false));
}

pub(crate) async fn a_savepoint_within_a_savepoint_goes_by_itself<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1, 2, 3]).await;
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    let mut outer = tx.savepoint().await.unwrap();
    rename(&mut outer, 1, "A").await.unwrap();
    outer.invalidate::<NameOf<DB>>([1]).await.unwrap();
    let mut inner = outer.savepoint().await.unwrap();
    rename(&mut inner, 2, "B").await.unwrap();
    inner.invalidate::<NameOf<DB>>([2]).await.unwrap();
    inner.rollback().await.unwrap();
    outer.release().await.unwrap();

    let mut outer = tx.savepoint().await.unwrap();
    let mut inner = outer.savepoint().await.unwrap();
    rename(&mut inner, 3, "C").await.unwrap();
    inner.invalidate::<NameOf<DB>>([3]).await.unwrap();
    inner.release().await.unwrap();
    outer.rollback().await.unwrap(); // and what was released within it
    tx.commit().await.unwrap();
    assert_eq!(town.trips(), ["shared invalidate [1]"]);
    for (key, name) in [(1, "A"), (2, "b"), (3, "c")] {
        assert_eq!((town.stored(key).await.as_str(), town.sees(key).await.0.as_str()), (name, name));
    }
}

pub(crate) async fn a_nested_transaction_of_sqlx_loses_nothing<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1, 2]).await;
    for commits in [false, true] {
        let mut tx = town.request().begin(&town.pool).await.unwrap();
        rename(&mut tx, 1, "A").await.unwrap();
        tx.invalidate::<NameOf<DB>>([1, 2]).await.unwrap();
        let mut nested = Connection::begin(&mut **tx).await.unwrap();
        let sql = "update person set name = 'B' where number = 2".to_owned();
        DB::script(&mut nested, sql).await.unwrap();
        if commits {
            nested.commit().await.unwrap();
        } else {
            drop(nested);
        }
        tx.commit().await.unwrap();
        assert_eq!(town.trips(), ["shared invalidate [1, 2]"]);
        let second = if commits { "B" } else { "b" };
        for (key, name) in [(1, "A"), (2, second)] {
            assert_eq!((town.stored(key).await.as_str(), town.sees(key).await.0.as_str()), (name, name));
        }
        town.trips();
    }
}

pub(crate) async fn a_statement_that_fails_in_a_savepoint_fails_nothing_else<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let request = town.request();
    let mut tx = request.begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    let mut part = tx.savepoint().await.unwrap();
    assert!(part.execute("insert into person (number, name) values (1, 'again')").await.is_err());
    part.rollback().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(town.sees(1).await.0, "A");
    assert!(!request.report().trips.iter().any(|trip| trip.name == "probe"), "nothing was in doubt");
}

pub(crate) async fn what_is_put_in_a_savepoint_goes_with_it<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let request = town.request();
    let sees = async || request.get::<NameOf<DB>>(1).await.unwrap().unwrap();
    let mut tx = request.begin(&town.pool).await.unwrap();
    tx.put::<NameOf<DB>>(1, "A".to_owned()).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    let mut part = tx.savepoint().await.unwrap();
    part.put::<NameOf<DB>>(1, "B".to_owned()).await.unwrap();
    rename(&mut part, 1, "B").await.unwrap();
    assert_eq!(sees().await.as_str(), "B");
    part.rollback().await.unwrap();
    assert_eq!(sees().await.as_str(), "A", "what was put before is there again");
    tx.commit().await.unwrap();
    assert_eq!((sees().await.as_str(), town.stored(1).await.as_str()), ("A", "A"));
}

/// What becomes of the transaction then is up to sqlx: in any case the commit says what has happened.
pub(crate) async fn a_savepoint_that_is_given_up_while_it_is_set_leaves_no_doubt<DB: Database>(
    town: Town<DB>,
) {
    let town = town.warm(&[1, 2]).await;
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    rename(&mut tx, 2, "B").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1, 2]).await.unwrap();
    drop(tx.savepoint().now_or_never());
    let renamed = rename(&mut tx, 1, "A").await;
    let committed = tx.commit().await;
    assert_eq!(renamed.is_ok(), committed.is_ok(), "no statement is committed by itself");
    let trips = town.trips();
    match committed {
        Ok(_) => {
            assert_eq!((town.stored(1).await.as_str(), town.stored(2).await.as_str()), ("A", "B"));
            assert_eq!(trips.len(), 1);
        }
        Err(error) => {
            assert!(matches!(error, CommitError::RolledBack(_)), "{error}");
            assert_eq!((town.stored(1).await.as_str(), town.stored(2).await.as_str()), ("a", "b"));
            assert_eq!(trips.len(), 0);
        }
    }
}
