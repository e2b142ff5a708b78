//! The beginning and the end of a transaction.

use std::time::Duration;

use futures_util::FutureExt;
use mastaba::{BoxError, Budget, CommitError, WriteMode};
use mastaba_sqlx::Begin;
use sqlx::{AssertSqlSafe, Executor};

use crate::town::{Database, NameOf, NumberOf, Town, pool, rename};

const NOTHING: [&str; 0] = [];

pub(crate) async fn a_transaction_is_committed_and_then_voids_what_it_changed<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1, 2]).await;
    let request = town.request();
    assert_eq!(request.get::<NameOf<DB>>(1).await.unwrap().unwrap().as_str(), "a");
    let mut tx = request.begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    assert_eq!(town.sees(1).await, ("a".to_owned(), vec![]), "to others it is not committed");
    let committed = tx.commit().await.unwrap();
    assert!(committed.published.is_confirmed());
    assert_eq!(town.trips(), ["shared invalidate [1]"]);
    let name = request.get::<NameOf<DB>>(1).await.unwrap().unwrap();
    assert_eq!((name.as_str(), town.trips()), ("A", vec!["load name [1]".to_owned()]), "and fills nothing");
    let (name, trips) = town.sees(1).await;
    assert_eq!((name.as_str(), trips.last().unwrap().as_str()), ("A", "shared fill [1]"));
    assert_eq!(town.sees(2).await, ("b".to_owned(), vec![]), "what it did not change stays");
    assert_eq!(town.events(), NOTHING);
}

pub(crate) async fn a_transaction_that_is_dropped_is_rolled_back_in_silence<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let handler = async |fails: bool| -> Result<(), sqlx::Error> {
        let mut tx = town.request().begin(&town.pool).await?;
        tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
        tx.invalidate_tag("people");
        tx.clear("indexes").unwrap();
        rename(&mut tx, 1, "A").await?;
        if fails {
            tx.execute("select nonsense").await?;
        }
        drop(tx.commit()); // never polled: never begun
        Ok(())
    };
    for fails in [true, false] {
        assert_eq!(handler(fails).await.is_err(), fails);
        assert_eq!(town.stored(1).await, "a");
        assert_eq!(town.sees(1).await, ("a".to_owned(), vec![]));
    }
    assert_eq!(town.events(), NOTHING, "and nobody is told");
}

pub(crate) async fn a_rollback_voids_nothing<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let request = town.request();
    let mut tx = request.begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    assert_eq!(request.get::<NameOf<DB>>(1).await.unwrap().unwrap().as_str(), "a", "by another connection");
    tx.rollback().await.unwrap();
    assert_eq!(town.stored(1).await, "a");
    assert_eq!(town.trips(), ["load name [1]"]);
    assert_eq!(town.sees(1).await, ("a".to_owned(), vec![]));
    assert_eq!(town.events(), NOTHING);
}

pub(crate) async fn statements_count_in_the_report<DB: Database>(town: Town<DB>) {
    let request = town.request();
    let mut tx = request.begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.fetch_one("select 1").await.unwrap();
    assert_eq!((request.report().statements(), request.report().shared_trips()), (2, 0));
    tx.execute(AssertSqlSafe(String::from("select 1; select 2; select 3"))).await.unwrap();
    assert_eq!(request.report().statements(), 5, "a text of three");
    assert!(tx.execute("select nonsense").await.is_err());
    let failed: Vec<_> =
        request.report().trips.iter().filter(|trip| trip.failed).map(|trip| trip.statements).collect();
    assert_eq!((request.report().statements(), failed), (6, vec![1]));
    drop(tx);

    let request = town.request();
    let mut tx = request.begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    tx.invalidate::<NumberOf<DB>>(["a@town".to_owned()]).await.unwrap();
    tx.commit().await.unwrap();
    let report = request.report();
    report.assert_at_most(Budget { trips: 2, statements: 1 });
    assert!(!report.is_within(Budget { trips: 2, statements: 0 }), "a budget holds for writes, too");
    let trips: Vec<_> = report.trips.iter().map(|trip| trip.name.as_str()).collect();
    assert_eq!(trips, ["begin", "statement", "commit", "objects", "indexes"]);
    assert_eq!(report.worst_source(), Some(("statement", 1)));
}

pub(crate) async fn two_caches_see_a_commit_and_no_rollback<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1, 2]).await;
    let second = town.second().await.warm(&[1, 2]).await;
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    rename(&mut tx, 2, "B").await.unwrap();
    tx.invalidate::<NameOf<DB>>([2]).await.unwrap();
    drop(tx);
    let (name, trips) = second.sees(1).await;
    assert_eq!((name.as_str(), trips.contains(&"load name [1]".to_owned())), ("A", true));
    let (name, trips) = second.sees(2).await;
    assert_eq!((name.as_str(), trips.iter().any(|trip| trip.starts_with("load"))), ("b", false));
}

pub(crate) async fn a_pool_that_is_exhausted_is_named_and_nothing_is_collected<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let small = pool::<DB>(&town.url, 1).await;
    let request = town.request();
    let first = request.begin(&small).await.unwrap();
    let error = request.begin(&small).await.unwrap_err();
    assert!(matches!(error, sqlx::Error::PoolTimedOut), "{error}");
    assert!(error.to_string().contains("pool timed out"), "{error}");
    drop(first);
    let mut second = request.begin(&small).await.unwrap();
    rename(&mut second, 1, "A").await.unwrap();
    second.invalidate::<NameOf<DB>>([1]).await.unwrap();
    second.commit().await.unwrap();
    assert_eq!(town.trips(), ["shared invalidate [1]"]);
    assert_eq!(town.events(), NOTHING);
}

pub(crate) async fn a_job_without_a_web_request_writes<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let pool = town.pool.clone();
    let job = town.cache.scope("nightly").run(|request| async move {
        let mut tx = request.begin(&pool).await?;
        rename(&mut tx, 1, "A").await?;
        tx.invalidate::<NameOf<DB>>([1]).await?;
        tx.commit().await?;
        Ok::<_, BoxError>(())
    });
    job.await.unwrap();
    assert_eq!(town.sees(1).await.0, "A");
}

/// Every await point: the caller is polled so many times, and then goes.
pub(crate) async fn a_handler_that_is_dropped_in_its_commit_costs_nobody_the_invalidation<DB: Database>(
    town: Town<DB>,
) {
    let mut town = town.warm(&[1]).await;
    for polls in 1..6 {
        let mut tx = town.request().begin(&town.pool).await.unwrap();
        let name = format!("after {polls}");
        rename(&mut tx, 1, &name).await.unwrap();
        tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
        let mut commit = Box::pin(tx.commit());
        for _ in 0..polls {
            if (&mut commit).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(commit);
        town.cache.idle().await;
        assert_eq!(town.stored(1).await, name, "it was begun, and goes to its end");
        assert_eq!(town.sees(1).await.0, name, "after {polls} polls");
        town = town.warm(&[1]).await;
    }
    assert_eq!(town.events(), NOTHING);
}

pub(crate) async fn keys_are_held_before_the_commit_which_is_refused_without<DB: Database>(town: Town<DB>) {
    let town = town.in_mode(WriteMode::Strict).await.warm(&[1]).await;
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    tx.hold().await.unwrap();
    assert_eq!(town.trips(), ["shared hold [1]"]);
    town.request().get::<NameOf<DB>>(1).await.unwrap();
    town.cache.idle().await;
    let filled = town.trips().iter().any(|trip| trip.starts_with("shared fill"));
    assert!(!filled, "nobody stores what is about to go");
    town.shared.down(&["hold"]);
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::Refused(_)), "{error}");
    assert_eq!(town.stored(1).await, "a", "COMMIT was not sent");
    town.shared.down(&[]);
    town.cache.idle().await;

    let mut tx = town.request().begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    town.trips();
    tx.commit().await.unwrap();
    town.cache.idle().await;
    assert_eq!(town.trips(), ["shared hold [1]", "shared end [1]"]);
    assert_eq!(town.sees(1).await.0, "A");
}

pub(crate) async fn a_transaction_that_is_open_for_longer_than_its_holds_live_keeps_them<DB: Database>(
    town: Town<DB>,
) {
    let ttl = Duration::from_millis(600);
    let town = town.with(|region| region.write_mode(WriteMode::Strict).hold_ttl(ttl)).await.warm(&[1]).await;
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    tx.hold().await.unwrap();
    tokio::time::sleep(ttl * 2).await;
    let held = town.trips();
    assert!(held.len() > 3 && held.iter().all(|trip| trip == "shared hold [1]"), "renewed: {held:?}");
    for _ in 0..2 {
        let (name, trips) = town.sees(1).await;
        let stored = trips.iter().any(|trip| trip.starts_with("shared fill"));
        assert_eq!((name.as_str(), stored), ("a", false), "nobody stores what is about to go: {trips:?}");
    }
    assert!(tx.commit().await.unwrap().published.is_confirmed());
    assert_eq!(town.sees(1).await.0, "A");
    town.cache.idle().await;
    town.trips();
    tokio::time::sleep(ttl * 2).await;
    assert_eq!(town.trips(), NOTHING, "and no longer");
    assert_eq!(town.events(), NOTHING);
}
