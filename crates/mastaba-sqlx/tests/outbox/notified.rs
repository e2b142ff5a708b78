//! On PostgreSQL relays are told when a writer hands over what it could not send.

use std::time::Duration;

use mastaba_sqlx::Begin;
use mastaba_test::world::UserById;

use super::bases::{Sql, degrades, degrading, postgres, until};

const LISTENS: &str = "select count(*) from pg_stat_activity where query like 'LISTEN%' and state = 'idle'";

#[tokio::test]
async fn a_writer_that_does_not_reach_the_shared_tier_wakes_the_relays_of_others() {
    let Some(base) = postgres().await else { return };
    base.run("create schema app").await;
    let hour = Duration::from_secs(3600);
    // it would look again in an hour, and rows are due in an hour
    let outbox = base.outbox("app.told").await.grace(hour).poll(hour);
    let world = degrading().await;
    let other = world.second_with(degrades).await;
    let relay = outbox.relay(&other.cache).await.unwrap();
    outbox.attach(&world.cache);
    world.shared.down(&["hold", "invalidate"]);
    for version in 1..3 {
        until("somebody who listens", async || {
            sqlx::Postgres::number(&base.pool, LISTENS.to_owned()).await == 1
        })
        .await;
        assert_eq!(other.sees(1).await, version - 1);
        other.idle().await;
        let tx = world.request().begin(&base.pool).await.unwrap();
        tx.invalidate::<UserById>([1]).await.unwrap();
        world.db.update(1);
        assert!(!tx.commit().await.unwrap().published.is_confirmed());
        until("an empty outbox", async || base.rows("app.told").await == 0).await;
        assert_eq!(other.sees(1).await, version);
        // its connection is cut: it listens again
        base.run(LISTENS.replace("count(*)", "pg_terminate_backend(pid)")).await;
    }
    relay.stop().await;
    let gone = async || sqlx::Postgres::number(&base.pool, LISTENS.to_owned()).await == 0;
    until("nobody who listens", gone).await;
}
