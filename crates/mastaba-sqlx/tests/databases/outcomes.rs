//! What became of a transaction, where it is not simply committed.

use mastaba::{CommitError, Lost};
use mastaba_sqlx::Begin;
use mastaba_test::proxy::Proxy;
use sqlx::Executor;

use crate::town::{Database, NameOf, Town, pool, rename, scheme};

pub(crate) async fn a_commit_after_a_failed_statement_says_what_the_database_did<DB: Database>(
    town: Town<DB>,
) {
    let town = town.warm(&[1]).await;
    let request = town.request();
    let mut tx = request.begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    assert!(tx.execute("insert into person (number, name) values (1, 'again')").await.is_err());
    let done = tx.commit().await; // the handler has not looked at the error
    if DB::FAILS_AS_A_WHOLE {
        let error = done.unwrap_err();
        assert!(matches!(error, CommitError::RolledBack(_)), "{error}");
        assert_eq!((town.stored(1).await.as_str(), town.trips()), ("a", vec![]));
        assert!(request.report().trips.iter().any(|trip| trip.name == "probe" && trip.failed));
    } else {
        done.unwrap();
        assert_eq!(town.trips(), ["shared invalidate [1]"]);
        assert_eq!(town.stored(1).await, "A");
    }
    assert_eq!(town.sees(1).await.0, town.stored(1).await);
    assert!(town.events().is_empty());
}

pub(crate) async fn a_constraint_that_is_checked_at_the_commit_is_a_known_rollback<DB: Database>(
    town: Town<DB>,
) {
    if !DB::DEFERS {
        return;
    }
    let town = town.warm(&[1]).await;
    let tables = "drop table if exists cat; create table cat (number bigint primary key, owner bigint not null \
                  references person (number) deferrable initially deferred)";
    DB::script(&mut *town.pool.acquire().await.unwrap(), tables.to_owned()).await.unwrap();
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    tx.execute("insert into cat (number, owner) values (1, 100)").await.unwrap();
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(&error, CommitError::RolledBack(sqlx::Error::Database(_))), "{error}");
    assert_eq!((town.stored(1).await.as_str(), town.trips()), ("a", vec![]));
    assert_eq!(town.sees(1).await, ("a".to_owned(), vec![]));
    DB::script(&mut *town.pool.acquire().await.unwrap(), "drop table cat".to_owned()).await.unwrap();
}

pub(crate) async fn a_commit_whose_answer_is_lost_is_published<DB: Database>(town: Town<DB>) {
    let Some(addr) = town.addr() else { return };
    let town = town.warm(&[1]).await;
    let proxy = Proxy::to(addr).await;
    let url = town.url.replace(&addr.to_string(), &proxy.addr().to_string());
    assert!(url.starts_with(scheme::<DB>()));
    let far = town.through(pool::<DB>(&url, 1).await);
    let mut tx = far.request().begin(&far.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    proxy.reset_after("COMMIT");
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(&error, CommitError::Unknown { cause: Lost::Failed(_), .. }), "{error}");
    assert_eq!(town.trips(), ["shared invalidate [1]"]);
    assert_eq!((town.stored(1).await.as_str(), town.sees(1).await.0.as_str()), ("A", "A"));
}

pub(crate) async fn two_writers_of_one_key_leave_the_last_value<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let write = async |name: &str| {
        let mut tx = town.request().begin_with(&town.pool, first_word::<DB>()).await.unwrap();
        rename(&mut tx, 1, name).await.unwrap();
        tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
        tx.commit().await.unwrap();
    };
    for _ in 0..5 {
        tokio::join!(write("A"), write("B"));
        town.cache.idle().await;
        let stored = town.stored(1).await;
        assert!(stored == "A" || stored == "B");
        assert_eq!(town.sees(1).await.0, stored);
    }
}

/// With a lock from the beginning where two transactions that turn from reading to writing would meet.
fn first_word<DB: Database>() -> &'static str {
    if scheme::<DB>() == "sqlite" { "begin immediate" } else { "begin" }
}
