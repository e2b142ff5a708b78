//! What a transaction is told that it changes.

use mastaba::{CommitError, Lost};
use mastaba_sqlx::Begin;
use sqlx::{AssertSqlSafe, Executor};

use crate::town::{Database, NameOf, NumberOf, OwnerOf, Person, Town, rename, scheme};

pub(crate) async fn a_value_that_is_put_is_seen_at_once_by_its_request_alone<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    for commits in [false, true] {
        let request = town.request();
        let sees = async || request.get::<NameOf<DB>>(1).await.unwrap().unwrap();
        let mut tx = request.begin(&town.pool).await.unwrap();
        rename(&mut tx, 1, "A").await.unwrap();
        tx.put::<NameOf<DB>>(1, "A".to_owned()).await.unwrap();
        assert_eq!((sees().await.as_str(), town.trips()), ("A", vec![]), "inside, and without a trip");
        assert_eq!(town.sees(1).await, ("a".to_owned(), vec![]), "others have what is committed");
        if commits {
            tx.commit().await.unwrap();
            assert_eq!(town.trips(), ["shared invalidate [1]"]);
            assert_eq!((sees().await.as_str(), town.trips()), ("A", vec![]), "and afterwards");
            let (name, trips) = town.sees(1).await;
            assert_eq!((name.as_str(), trips.contains(&"load name [1]".to_owned())), ("A", true));
        } else {
            tx.rollback().await.unwrap();
            assert_eq!((sees().await.as_str(), town.trips()), ("a", vec!["load name [1]".to_owned()]));
        }
    }
    let request = town.request();
    let tx = request.begin(&town.pool).await.unwrap();
    tx.put::<NameOf<DB>>(1, "never".to_owned()).await.unwrap();
    drop(tx);
    assert_eq!(request.get::<NameOf<DB>>(1).await.unwrap().unwrap().as_str(), "A", "a drop takes it, too");
}

pub(crate) async fn a_changed_row_voids_its_old_and_its_new_keys_each_once<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let number = async |email: &str| {
        let found = town.request().get::<NumberOf<DB>>(email.to_owned()).await.unwrap();
        town.cache.idle().await;
        found.map(|number| *number)
    };
    assert_eq!((number("a@town").await, number("new@town").await), (Some(1), None));
    town.trips();
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    tx.execute("update person set email = 'new@town' where number = 1").await.unwrap();
    tx.changed(&Person::<DB>::new(1, "a@town"), &Person::<DB>::new(1, "new@town")).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(town.trips(), ["shared invalidate [1]", r#"shared invalidate ["a@town", "new@town"]"#]);
    assert_eq!((number("a@town").await, number("new@town").await), (None, Some(1)));
    town.trips();

    let mut tx = town.request().begin(&town.pool).await.unwrap();
    tx.execute("insert into person (number, name, email) values (6, 'f', 'a@town')").await.unwrap();
    tx.execute("delete from person where number = 1").await.unwrap();
    tx.inserted(&Person::<DB>::new(6, "a@town")).unwrap();
    tx.deleted(&Person::<DB>::new(1, "new@town")).unwrap();
    tx.commit().await.unwrap();
    let trips = [
        "shared invalidate [6]",
        r#"shared invalidate ["a@town"]"#,
        "shared invalidate [1]",
        r#"shared invalidate ["new@town"]"#,
    ];
    assert_eq!(town.trips(), trips, "in the order of collecting");
    assert_eq!((number("a@town").await, number("new@town").await), (Some(6), None));
}

pub(crate) async fn rows_that_an_update_names_by_itself_are_voided_by_their_keys<DB: Database>(
    town: Town<DB>,
) {
    let town = town.warm(&[1, 2, 3, 4, 5]).await;
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    let rows = if DB::UPDATE_RETURNS {
        let sql = "update person set name = 'late' where email > 'c@town' returning number, name";
        DB::select(&mut tx, sql.to_owned()).await.unwrap()
    } else {
        let sql = "select number, name from person where email > 'c@town' for update";
        let rows = DB::select(&mut tx, sql.to_owned()).await.unwrap();
        tx.execute("update person set name = 'late' where email > 'c@town'").await.unwrap();
        rows
    };
    let mut numbers: Vec<i64> = rows.into_iter().map(|(number, _)| number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [4, 5]);
    tx.invalidate::<NameOf<DB>>(numbers).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(town.trips(), ["shared invalidate [4, 5]"]);
    assert_eq!(town.sees(5).await.0, "late");
    assert_eq!(town.sees(3).await, ("c".to_owned(), vec![]));
}

pub(crate) async fn rows_that_nobody_can_name_are_voided_by_their_tag<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1, 2]).await;
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    tx.execute("update person set name = 'all' where number > 0").await.unwrap();
    tx.invalidate_tag("people");
    tx.commit().await.unwrap();
    let voided = town.trips();
    assert_eq!(voided.len(), 2, "one trip per region: {voided:?}");
    for key in [1, 2] {
        assert_eq!(town.sees(key).await.0, "all");
    }
}

pub(crate) async fn rows_that_a_cascade_deletes_are_voided_by_the_tag_of_their_owner<DB: Database>(
    town: Town<DB>,
) {
    let pets = "insert into pet (number, owner) values (10, 1), (11, 1), (20, 2)";
    DB::script(&mut *town.pool.acquire().await.unwrap(), pets.to_owned()).await.unwrap();
    let owner = async |pet: i64| {
        let found = town.request().get::<OwnerOf<DB>>(pet).await.unwrap();
        town.cache.idle().await;
        found.map(|owner| *owner)
    };
    assert_eq!((owner(10).await, owner(11).await, owner(20).await), (Some(1), Some(1), Some(2)));
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    tx.execute("delete from person where number = 1").await.unwrap(); // and its pets with it
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    tx.invalidate_tag("pets of 1");
    tx.commit().await.unwrap();
    assert_eq!((owner(10).await, owner(11).await), (None, None));
    town.trips();
    assert_eq!(owner(20).await, Some(2));
    assert_eq!(town.trips().iter().filter(|trip| trip.starts_with("load")).count(), 0, "not that of others");
}

pub(crate) async fn a_whole_region_is_voided<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let request = town.request();
    let tx = request.begin(&town.pool).await.unwrap();
    assert!(tx.clear("attic").unwrap_err().to_string().contains("attic"));
    drop(tx);
    let mut tx = request.begin(&town.pool).await.unwrap();
    tx.execute(AssertSqlSafe("update person set name = 'all' where number > 0".to_owned())).await.unwrap();
    tx.clear("objects").unwrap();
    tx.commit().await.unwrap();
    assert_eq!(town.trips().len(), 1);
    assert_eq!(town.sees(1).await.0, "all");
}

/// Whoever is renamed gives the pets away: the program changes one row, and the database others.
pub(crate) async fn rows_that_a_trigger_changes_are_voided_by_the_tag_of_their_owner<DB: Database>(
    town: Town<DB>,
) {
    let moves = "update pet set owner = 2 where owner = new.number";
    let trigger = "create trigger moves after update on person for each row";
    let ddl = match scheme::<DB>() {
        "sqlite" => vec![format!("{trigger} begin {moves}; end")],
        "mysql" => vec![format!("{trigger} {moves}")],
        _ => vec![
            format!(
                "create or replace function moves() returns trigger language plpgsql \
                 as $$ begin {moves}; return null; end $$"
            ),
            format!("{trigger} execute function moves()"),
        ],
    };
    let pets = "insert into pet (number, owner) values (10, 1), (11, 1), (30, 3)".to_owned();
    for sql in ddl.into_iter().chain([pets]) {
        DB::script(&mut *town.pool.acquire().await.unwrap(), sql).await.unwrap();
    }
    let owner = async |pet: i64| {
        let found = town.request().get::<OwnerOf<DB>>(pet).await.unwrap();
        town.cache.idle().await;
        found.map(|owner| *owner)
    };
    assert_eq!((owner(10).await, owner(11).await, owner(30).await), (Some(1), Some(1), Some(3)));
    let mut tx = town.request().begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    tx.invalidate_tag("pets of 1");
    tx.commit().await.unwrap();
    assert_eq!((owner(10).await, owner(11).await), (Some(2), Some(2)));
    town.trips();
    assert_eq!(owner(30).await, Some(3));
    assert_eq!(town.trips().iter().filter(|trip| trip.starts_with("load")).count(), 0, "not those of others");
}

/// Each statement commits by itself, and the third one fails: what the first two have changed is void all the same.
pub(crate) async fn a_loop_of_statements_that_stops_half_way_voids_what_is_committed<DB: Database>(
    town: Town<DB>,
) {
    let town = town.warm(&[1, 2, 3]).await;
    let write = town.request().write();
    write.invalidate::<NameOf<DB>>([1, 2, 3]).await.unwrap();
    let pool = town.pool.clone();
    let statements = async move {
        for key in [1, 2, 3] {
            let table = if key == 3 { "nobody" } else { "person" };
            let sql = format!("update {table} set name = 'late' where number = {key}");
            DB::script(&mut *pool.acquire().await?, sql).await?;
        }
        Ok::<_, sqlx::Error>(())
    };
    let error = write.commit(statements).await.unwrap_err();
    let CommitError::Unknown { cause: Lost::Failed(_), published } = error else { panic!("{error}") };
    assert!(published.is_confirmed());
    assert_eq!(town.trips(), ["shared invalidate [1, 2, 3]"]);
    for (key, name) in [(1, "late"), (2, "late"), (3, "c")] {
        assert_eq!(town.sees(key).await.0, name);
    }

    // keys that are known only as the loop goes: collected before their statement, and published before the error leaves
    let write = town.request().write();
    let mut done = Ok(());
    for (key, table) in [(1, "person"), (2, "nobody")] {
        write.invalidate::<NameOf<DB>>([key]).await.unwrap();
        let sql = format!("update {table} set name = 'later' where number = {key}");
        done = DB::script(&mut *town.pool.acquire().await.unwrap(), sql).await;
        if done.is_err() {
            break;
        }
    }
    town.trips();
    assert!(write.published().await.unwrap().is_confirmed());
    done.unwrap_err();
    assert_eq!(town.trips(), ["shared invalidate [1, 2]"]);
    assert_eq!((town.sees(1).await.0, town.sees(2).await.0), ("later".to_owned(), "late".to_owned()));
    assert_eq!(town.events(), [""; 0]);
}
