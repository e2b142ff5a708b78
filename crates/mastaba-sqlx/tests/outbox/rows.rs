//! Rows are there from COMMIT on and until the shared tier has confirmed, and never otherwise.

use std::time::Duration;

use mastaba::WriteMode;
use mastaba_sqlx::{Begin, Outbox};
use mastaba_test::world::{UserById, World};

use super::bases::{Base, Sql, degrades, degrading, leave, mariadb, postgres, said, sqlite, until};

#[tokio::test]
async fn rows_live_and_die_with_their_write_on_postgres() {
    let Some(base) = postgres().await else { return };
    all(&base).await;
}

#[tokio::test]
async fn rows_live_and_die_with_their_write_on_mariadb() {
    let Some(base) = mariadb().await else { return };
    all(&base).await;
}

#[tokio::test]
async fn rows_live_and_die_with_their_write_on_sqlite() {
    let Some(base) = sqlite().await else { return };
    all(&base).await;
}

async fn all<DB: Sql>(base: &Base<DB>) {
    a_table_that_is_missing_is_an_error_that_says_what_to_do(base).await;
    they_are_there_from_the_commit_on_until_it_is_confirmed(base).await;
    a_transaction_that_is_rolled_back_takes_them_along(base).await;
    only_writes_that_degrade_or_ask_for_it_have_some(base).await;
    what_is_unknown_or_unconfirmed_stays(base).await;
    a_transaction_whose_rows_cannot_be_written_is_rolled_back(base).await;
    very_many_keys_are_cut_into_rows_and_come_back_whole(base).await;
    writes_that_end_together_are_deleted_together(base).await;
}

async fn a_table_that_is_missing_is_an_error_that_says_what_to_do<DB: Sql>(base: &Base<DB>) {
    let world = degrading().await;
    let outbox = Outbox::new(&base.pool).table("not_there");
    let error = outbox.relay(&world.cache).await.unwrap_err().to_string();
    assert!(
        error.contains("the outbox not_there cannot be used") && error.contains(&outbox.ddl()),
        "{error}"
    );
    base.run(outbox.ddl()).await;
    base.run(outbox.ddl()).await; // harmless
    outbox.check().await.unwrap();
    base.run("alter table not_there drop column due").await;
    assert!(outbox.check().await.unwrap_err().to_string().contains("cannot be used"));
}

async fn they_are_there_from_the_commit_on_until_it_is_confirmed<DB: Sql>(base: &Base<DB>) {
    let world = degrading().await;
    let outbox = base.outbox("confirmed").await;
    outbox.attach(&world.cache);
    let request = world.request();
    let tx = request.begin(&base.pool).await.unwrap();
    tx.invalidate::<UserById>([1]).await.unwrap();
    let statements = request.report().statements();
    let end = world.shared.before("end");
    let meanwhile = async {
        end.arrived(1).await;
        assert_eq!(base.rows("confirmed").await, 1, "committed, and the end of the hold is not confirmed");
        end.open_for_good();
    };
    let (committed, ()) = tokio::join!(tx.commit(), meanwhile);
    assert!(committed.unwrap().published.is_confirmed());
    assert_eq!(request.report().statements(), statements + 1, "one for the rows, however many");
    world.idle().await;
    assert_eq!(base.rows("confirmed").await, 0);
    assert_eq!(world.events(), [""; 0]);
}

async fn a_transaction_that_is_rolled_back_takes_them_along<DB: Sql>(base: &Base<DB>) {
    let world = degrading().await;
    let outbox = base.outbox("rolled_back").await;
    let write = world.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let mut transaction = base.pool.begin().await.unwrap();
    outbox.write_down(&write, &mut transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    write.discard();
    assert_eq!(base.rows("rolled_back").await, 0);
}

async fn only_writes_that_degrade_or_ask_for_it_have_some<DB: Sql>(base: &Base<DB>) {
    let outbox = base.outbox("asked").await;
    for (mode, asks, rows) in
        [(WriteMode::Simple, false, 0), (WriteMode::Simple, true, 1), (WriteMode::Degrade, false, 1)]
    {
        let world = World::across_processes(|region| region.write_mode(mode)).await;
        let mut tx = world.request().begin(&base.pool).await.unwrap();
        if asks {
            let error = tx.with_outbox().unwrap_err();
            assert!(error.to_string().contains("no outbox"), "{error}");
        }
        outbox.attach(&world.cache);
        tx.invalidate::<UserById>([1]).await.unwrap();
        if asks {
            tx.with_outbox().unwrap();
        }
        world.shared.down(&["hold", "invalidate"]);
        tx.commit().await.unwrap();
        world.cache.idle().await;
        assert_eq!(base.rows("asked").await, rows, "{mode:?} {asks}");
        base.run("delete from asked").await;
    }
}

async fn what_is_unknown_or_unconfirmed_stays<DB: Sql>(base: &Base<DB>) {
    let world = degrading().await;
    let outbox = base.outbox("stays").await.grace(Duration::from_secs(3600));
    let write = world.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let mut transaction = base.pool.begin().await.unwrap();
    outbox.write_down(&write, &mut transaction).await.unwrap();
    let answer_is_lost = async {
        transaction.commit().await.unwrap();
        Err::<(), _>("connection reset")
    };
    assert!(write.commit(answer_is_lost).await.unwrap_err().is_unknown());
    world.idle().await;
    assert_eq!(base.rows("stays").await, 1);
    assert_eq!(base.rows("stays where due = 0").await, 0, "it may not be committed yet");

    outbox.attach(&world.cache);
    let tx = world.request().begin(&base.pool).await.unwrap();
    tx.invalidate::<UserById>([2]).await.unwrap();
    world.shared.down(&["hold", "invalidate"]);
    assert!(!tx.commit().await.unwrap().published.is_confirmed());
    world.idle().await;
    assert_eq!((base.rows("stays").await, base.rows("stays where due = 0").await), (2, 1), "handed over");
}

async fn a_transaction_whose_rows_cannot_be_written_is_rolled_back<DB: Sql>(base: &Base<DB>) {
    let world = degrading().await;
    Outbox::new(&base.pool).table("missing").attach(&world.cache);
    base.run("create table note (id integer)").await;
    let mut tx = world.request().begin(&base.pool).await.unwrap();
    DB::on(&mut tx, "insert into note values (1)").await;
    tx.invalidate::<UserById>([1]).await.unwrap();
    let error = tx.commit().await.unwrap_err();
    assert!(error.is_rolled_back() && error.to_string().contains("missing"), "{error}");
    assert_eq!(base.rows("note").await, 0);
    world.idle().await;
    assert!(!world.trips().iter().any(|trip| trip.contains("invalidate")));
}

async fn very_many_keys_are_cut_into_rows_and_come_back_whole<DB: Sql>(base: &Base<DB>) {
    let world = degrading().await;
    let outbox = base.outbox("many").await;
    let users: Vec<_> = (0..100_000).collect();
    leave(&outbox, &base.pool, &world, &users).await;
    let rows = base.rows("many").await;
    assert!((100..1000).contains(&rows), "{rows}");
    let other = world.second_with(degrades).await;
    let relay = outbox.relay(&other.cache).await.unwrap();
    until("an empty outbox", async || base.rows("many").await == 0).await;
    let keys = |trip: &String| trip["shared invalidate [".len()..].matches(", ").count() + 1;
    assert_eq!(
        other.trips().iter().map(keys).sum::<usize>(),
        100_000,
        "each once, in as few trips as may be"
    );
    let sentence = "1 write had been left behind, and 100000 keys, tags and regions were";
    until("word of it", async || said(&other, sentence) == 1).await;
    relay.stop().await;
}

async fn writes_that_end_together_are_deleted_together<DB: Sql>(base: &Base<DB>) {
    let world = degrading().await;
    base.outbox("together").await.attach(&world.cache);
    let writes = (1..20).map(|user| {
        let (request, pool) = (world.request(), base.pool.clone());
        async move {
            let tx = request.begin(&pool).await.unwrap();
            tx.invalidate::<UserById>([user]).await.unwrap();
            tx.commit().await.unwrap();
        }
    });
    futures_util::future::join_all(writes).await;
    world.idle().await;
    assert_eq!(base.rows("together").await, 0);
}
