//! Relays: what they take and what they leave alone, two of them side by side, and when something is away.

use std::time::Duration;

use mastaba_sqlx::Begin;
use mastaba_test::world::{UserById, World};

use super::bases::{Base, Server, Sql, degrades, degrading, leave, mariadb, postgres, said, sqlite, until};

#[tokio::test]
async fn relays_void_what_was_left_behind_on_postgres() {
    let Some(base) = postgres().await else { return };
    all(&base).await;
}

#[tokio::test]
async fn relays_void_what_was_left_behind_on_mariadb() {
    let Some(base) = mariadb().await else { return };
    all(&base).await;
}

#[tokio::test]
async fn relays_void_what_was_left_behind_on_sqlite() {
    let Some(base) = sqlite().await else { return };
    all(&base).await;
}

async fn all<DB: Sql>(base: &Base<DB>) {
    another_process_voids_it(base).await;
    a_fresh_row_is_left_to_its_writer(base).await;
    what_the_shared_tier_does_not_confirm_stays_until_it_does(base).await;
    rows_that_cannot_be_read_stay_and_hold_nobody_up(base).await;
    relayed_twice_is_harmless(base).await;
    it_ends_with_its_handle_and_with_the_cache(base).await;
    if !matches!(base.server, Server::File(_)) {
        two_relays_share_the_work(base).await;
        writers_do_not_wait_for_a_relay(base).await;
        it_outlives_a_database_that_is_away(base).await;
    }
}

/// A process that has read user 1 as it was before.
async fn knows(world: &World) -> World {
    let other = world.second_with(degrades).await;
    assert_eq!(other.sees(1).await, world.db.version(1));
    other.idle().await;
    other
}

async fn another_process_voids_it<DB: Sql>(base: &Base<DB>) {
    let (world, outbox) = (degrading().await, base.outbox("behind").await);
    let other = knows(&world).await;
    leave(&outbox, &base.pool, &world, &[1]).await;
    assert_eq!((base.rows("behind").await, other.sees(1).await), (1, 0));
    let relay = outbox.relay(&other.cache).await.unwrap();
    until("an empty outbox", async || base.rows("behind").await == 0).await;
    assert_eq!(other.sees(1).await, 1);
    until("word of it", async || said(&other, "outbox behind: 1 write had been left behind") == 1).await;
    relay.stop().await;
}

async fn a_fresh_row_is_left_to_its_writer<DB: Sql>(base: &Base<DB>) {
    let (world, outbox) = (degrading().await, base.outbox("fresh").await);
    let patient = outbox.clone().grace(Duration::from_secs(3600));
    patient.attach(&world.cache);
    let end = world.shared.before("end");
    let tx = world.request().begin(&base.pool).await.unwrap();
    tx.invalidate::<UserById>([1]).await.unwrap();
    let meanwhile = async {
        end.arrived(1).await;
        // an older one, and a later one of somebody who died: the relay goes past the fresh one
        let other = world.second_with(degrades).await;
        leave(&outbox, &base.pool, &world, &[2]).await;
        let relay = outbox.relay(&other.cache).await.unwrap();
        until("one row", async || base.rows("fresh").await == 1).await;
        assert_eq!(other.trips(), ["shared invalidate [2]"]);
        // when its time has come it is taken, whether its writer lives or not
        base.run("update fresh set due = 1").await;
        until("an empty outbox", async || base.rows("fresh").await == 0).await;
        assert_eq!(other.trips(), ["shared invalidate [1]"]);
        end.open_for_good();
        relay.stop().await;
    };
    let (committed, ()) = tokio::join!(tx.commit(), meanwhile);
    assert!(committed.unwrap().published.is_confirmed());
    world.idle().await;
}

async fn what_the_shared_tier_does_not_confirm_stays_until_it_does<DB: Sql>(base: &Base<DB>) {
    let (world, outbox) = (degrading().await, base.outbox("outage").await);
    let (other, third) = (knows(&world).await, knows(&world).await);
    // the whole tier is out during the write, and its process dies then
    world.shared.down(&["hold", "invalidate", "read"]);
    other.shared.down(&["invalidate"]);
    outbox.attach(&world.cache);
    let tx = world.request().begin(&base.pool).await.unwrap();
    tx.invalidate::<UserById>([1]).await.unwrap();
    world.db.update(1);
    assert!(!tx.commit().await.unwrap().published.is_confirmed(), "it is committed all the same");
    world.idle().await;
    let relay = outbox.relay(&other.cache).await.unwrap();
    until("a try", async || said(&other, "has not confirmed that 1 key") == 1).await;
    assert_eq!(other.sees(1).await, 1, "in force in the process of the relay");
    // the relay looks again, and goes past it
    leave(&outbox, &base.pool, &world, &[2]).await;
    until("another try", async || said(&other, "has not confirmed that 1 key") == 2).await;
    assert_eq!((base.rows("outage").await, third.sees(1).await), (2, 0));
    other.shared.down(&[]);
    until("an empty outbox", async || base.rows("outage").await == 0).await;
    assert_eq!(third.sees(1).await, 1);
    assert_eq!(said(&other, "has not confirmed"), 2, "each was kept once");
    relay.stop().await;
}

async fn rows_that_cannot_be_read_stay_and_hold_nobody_up<DB: Sql>(base: &Base<DB>) {
    let (world, outbox) = (degrading().await, base.outbox("odd").await);
    leave(&outbox, &base.pool, &world, &[1]).await;
    let known = base.id_of("odd").await;
    let row = |write: u32, pieces: u32, body: &str| {
        let body = if DB::NAME == "PostgreSQL" { format!("'\\x{body}'") } else { format!("x'{body}'") };
        format!(
            "insert into odd (write_id, piece, pieces, due, body) values ({write}, 0, {pieces}, 0, {body})"
        )
    };
    let strange: String =
        [&b"\x01\x0bapp:strange\x02"[..]].concat().iter().map(|byte| format!("{byte:02x}")).collect();
    for (write, pieces, body) in
        [(1, 1, "02aabb"), (2, 1, "01ff"), (3, 1, ""), (4, 1, strange.as_str()), (5, 2, "01")]
    {
        base.run(row(write, pieces, body)).await;
    }
    leave(&outbox, &base.pool, &world, &[2]).await;
    let other = world.second_with(degrades).await;
    let relay = outbox.relay(&other.cache).await.unwrap();
    until("the rows that cannot be read", async || base.rows("odd").await == 5).await;
    assert_eq!(other.trips(), ["shared invalidate [1, 2]"], "the others are relayed, before and behind them");
    let sentence = format!(
        "outbox odd: the row with id {} stays, for it cannot be relayed here: an outgoing invalidation has version 2",
        known + 1
    );
    assert_eq!((said(&other, &sentence), said(&other, "cannot be relayed here")), (1, 1), "once a minute");
    // whoever knows them takes them
    leave(&outbox, &base.pool, &world, &[3]).await;
    until("the rows that cannot be read", async || base.rows("odd").await == 5).await;
    relay.stop().await;
}

async fn relayed_twice_is_harmless<DB: Sql>(base: &Base<DB>) {
    let (world, outbox) = (degrading().await, base.outbox("twice").await);
    let other = knows(&world).await;
    leave(&outbox, &base.pool, &world, &[1]).await;
    base.run("create table again as select * from twice").await;
    let relay = outbox.relay(&other.cache).await.unwrap();
    until("an empty outbox", async || base.rows("twice").await == 0).await;
    world.db.update(1);
    other.request().invalidate::<UserById>([1]).await.unwrap();
    assert_eq!(other.sees(1).await, 2);
    other.idle().await;
    // a backup that was played back, for example
    base.run(
        "insert into twice (write_id, piece, pieces, due, body) select write_id, piece, pieces, due, body from again",
    )
    .await;
    until("an empty outbox", async || base.rows("twice").await == 0).await;
    assert_eq!(other.sees(1).await, 2);
    relay.stop().await;
}

async fn it_ends_with_its_handle_and_with_the_cache<DB: Sql>(base: &Base<DB>) {
    let (world, outbox) = (degrading().await, base.outbox("ends").await);
    let relay = outbox.relay(&world.cache).await.unwrap();
    world.cache.close().await.unwrap();
    until("its end", async || relay.has_ended()).await;
    let other = world.second_with(degrades).await;
    drop(outbox.relay(&other.cache).await.unwrap());
    outbox.relay(&other.cache).await.unwrap().stop().await;
    leave(&outbox, &base.pool, &world, &[1]).await;
    // one that works shows that the others do not
    let third = world.second_with(degrades).await;
    let relay = outbox.relay(&third.cache).await.unwrap();
    until("an empty outbox", async || base.rows("ends").await == 0).await;
    assert_eq!(other.trips(), [""; 0]);
    relay.stop().await;
}

async fn two_relays_share_the_work<DB: Sql>(base: &Base<DB>) {
    let (world, outbox) = (degrading().await, base.outbox("shared").await);
    leave(&outbox, &base.pool, &world, &[1]).await;
    let (one, two) = (world.second_with(degrades).await, world.second_with(degrades).await);
    let voids = one.shared.before("invalidate");
    let first = outbox.relay(&one.cache).await.unwrap();
    voids.arrived(1).await;
    // the first relay is just voiding user 1: the second one neither takes it too, nor waits for it
    let second = outbox.relay(&two.cache).await.unwrap();
    for user in 2..5 {
        leave(&outbox, &base.pool, &world, &[user]).await;
    }
    until("one row", async || base.rows("shared").await == 1).await;
    let of_two = two.trips().join(" ");
    assert!(["2", "3", "4"].iter().all(|user| of_two.contains(user)) && !of_two.contains('1'), "{of_two}");
    voids.open_for_good();
    until("an empty outbox", async || base.rows("shared").await == 0).await;
    assert_eq!(one.trips(), ["shared invalidate [1]"]);
    // many, by both of them: none twice
    for user in 10..60 {
        leave(&outbox, &base.pool, &world, &[user]).await;
    }
    until("an empty outbox", async || base.rows("shared").await == 0).await;
    let trips = [one.trips(), two.trips()].concat();
    let mut keys: Vec<u64> = trips
        .iter()
        .flat_map(|trip| trip["shared invalidate [".len()..trip.len() - 1].split(", "))
        .map(|key| key.parse().unwrap())
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (10..60).collect::<Vec<_>>());
    first.stop().await;
    second.stop().await;
}

async fn writers_do_not_wait_for_a_relay<DB: Sql>(base: &Base<DB>) {
    let (world, outbox) = (degrading().await, base.outbox("busy").await);
    leave(&outbox, &base.pool, &world, &[1]).await;
    let other = world.second_with(degrades).await;
    let voids = other.shared.before("invalidate");
    let relay = outbox.relay(&other.cache).await.unwrap();
    voids.arrived(1).await;
    // with its rows locked
    outbox.attach(&world.cache);
    let tx = world.request().begin(&base.pool).await.unwrap();
    tx.invalidate::<UserById>([2]).await.unwrap();
    let committed = tokio::time::timeout(Duration::from_secs(10), tx.commit()).await;
    assert!(committed.expect("a commit that waits for nobody").unwrap().published.is_confirmed());
    voids.open_for_good();
    until("an empty outbox", async || base.rows("busy").await == 0).await;
    relay.stop().await;
}

async fn it_outlives_a_database_that_is_away<DB: Sql>(base: &Base<DB>) {
    let (world, outbox) = (degrading().await, base.outbox("away").await);
    let other = knows(&world).await;
    let relay = outbox.relay(&other.cache).await.unwrap();
    base.server.stop().await;
    until("word of it", async || said(&other, "outbox away: its database does not answer the relay") == 1)
        .await;
    base.server.restart().await;
    until("an answer", async || said(&other, "its database answers the relay again") == 1).await;
    leave(&outbox, &base.pool, &world, &[1]).await;
    until("an empty outbox", async || base.rows("away").await == 0).await;
    assert_eq!((other.sees(1).await, said(&other, "does not answer")), (1, 1));
    relay.stop().await;
}
