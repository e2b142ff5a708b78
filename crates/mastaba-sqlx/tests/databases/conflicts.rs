//! Transactions that lose against others.

use mastaba::{BoxError, CommitError};
use mastaba_sqlx::{Begin, Counted, Retry};
use sqlx::Executor;

use crate::town::{Database, NameOf, Town, connection, rename, scheme};

/// Somebody else who is in the way.
struct Rival<DB: Database>(DB::Connection);

impl<DB: Database> Rival<DB> {
    async fn new(town: &Town<DB>) -> Self {
        Self(connection::<DB>(&town.url).await)
    }

    /// Makes the next [`rename`] of person 1 in this transaction lose.
    async fn stand_in_the_way(&mut self, tx: &mut Counted<DB>) {
        let (first, sql) = match scheme::<DB>() {
            // the snapshot is taken by the first statement
            "postgres" => ("select 1", "update person set name = 'rival' where number = 1"),
            "mysql" => {
                ("set innodb_lock_wait_timeout = 1", "begin; update person set name = 'x' where number = 1")
            }
            _ => ("pragma busy_timeout = 0", "begin immediate"),
        };
        tx.execute(first).await.unwrap();
        DB::script(&mut self.0, sql.to_owned()).await.unwrap();
    }

    async fn go_away(&mut self) {
        if scheme::<DB>() != "postgres" {
            DB::script(&mut self.0, "rollback".to_owned()).await.unwrap();
        }
    }
}

fn serious<DB: Database>(retry: Retry) -> Retry {
    match scheme::<DB>() {
        "postgres" => retry.begin_with("begin isolation level repeatable read"),
        _ => retry,
    }
}

pub(crate) async fn a_transaction_that_loses_is_tried_again_and_collects_anew<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1, 2]).await;
    let mut rival = Rival::new(&town).await;
    let (request, mut tries) = (town.request(), 0);
    let retry = serious::<DB>(Retry::tries(3));
    let done = retry.run(&request, &town.pool, async |tx| {
        tries += 1;
        if tries == 1 {
            tx.invalidate::<NameOf<DB>>([2]).await?;
            rival.stand_in_the_way(tx).await;
            let lost = rename(tx, 1, "lost").await;
            rival.go_away().await;
            lost?;
        }
        rename(tx, 1, "A").await?;
        tx.invalidate::<NameOf<DB>>([1]).await?;
        Ok::<_, BoxError>(tries)
    });
    assert_eq!(done.await.unwrap().value, 2);
    assert_eq!(town.trips(), ["shared invalidate [1]"], "and not what the first try had collected");
    assert_eq!((town.stored(1).await.as_str(), town.sees(1).await.0.as_str()), ("A", "A"));
    assert!(town.events().is_empty());
}

pub(crate) async fn tries_are_bounded<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let mut rival = Rival::new(&town).await;
    let (request, mut tries) = (town.request(), 0);
    let retry = serious::<DB>(Retry::tries(2));
    let done = retry.run(&request, &town.pool, async |tx| {
        tries += 1;
        rival.stand_in_the_way(tx).await;
        let lost = rename(tx, 1, "lost").await;
        rival.go_away().await;
        tx.invalidate::<NameOf<DB>>([1]).await?;
        Ok::<_, BoxError>(lost?)
    });
    let error = done.await.map(drop).unwrap_err();
    assert!(DB::is_conflict(error.downcast_ref().unwrap()), "{error}");
    assert_eq!((tries, town.trips()), (2, vec![]));
}

pub(crate) async fn other_errors_are_not_tried_again<DB: Database>(town: Town<DB>) {
    let (request, mut tries) = (town.request(), 0);
    let done = Retry::tries(3).run(&request, &town.pool, async |tx| {
        tries += 1;
        tx.execute("insert into person (number, name) values (1, 'again')").await?;
        Ok::<_, BoxError>(())
    });
    assert!(done.await.map(drop).unwrap_err().downcast_ref::<sqlx::Error>().is_some());
    assert_eq!(tries, 1);
}

/// MySQL ends the whole transaction at a deadlock, and would commit each further statement by itself.
pub(crate) async fn a_transaction_that_a_deadlock_has_ended_does_nothing_more<DB: Database>(town: Town<DB>) {
    if scheme::<DB>() != "mysql" {
        return;
    }
    let town = town.warm(&[3]).await;
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1, 3]).await.unwrap();
    let mut rival = connection::<DB>(&town.url).await;
    // it has done more, so that it is the other one that is ended
    let more = "begin; update person set name = 'rival' where number in (2, 4, 5)".to_owned();
    DB::script(&mut rival, more).await.unwrap();
    let waits = tokio::spawn(async move {
        DB::script(&mut rival, "update person set name = 'rival' where number = 1; commit".to_owned()).await
    });
    let waiting = "select count(*), 'x' from information_schema.innodb_trx where trx_state = 'LOCK WAIT'";
    let mut look = connection::<DB>(&town.url).await;
    while DB::select(&mut look, waiting.to_owned()).await.unwrap()[0].0 == 0 {
        tokio::task::yield_now().await;
    }
    let error = rename(&mut tx, 2, "B").await.unwrap_err();
    assert!(DB::is_conflict(&error), "{error}");
    waits.await.unwrap().unwrap();
    let error = rename(&mut tx, 3, "C").await.unwrap_err();
    assert!(error.to_string().contains("rolled the transaction back already"), "{error}");
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::RolledBack(_)), "{error}");
    assert_eq!((town.stored(1).await.as_str(), town.stored(3).await.as_str()), ("rival", "c"));
    assert!(town.trips().is_empty());
}
