//! Reads inside of a transaction.

use mastaba_sqlx::Begin;

use crate::town::{Database, NameOf, Town, rename};

pub(crate) async fn a_transaction_reads_what_it_has_written<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let request = town.request();
    let mut tx = request.begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    tx.invalidate::<NameOf<DB>>([1]).await.unwrap();
    assert_eq!(tx.get::<NameOf<DB>>(1).await.unwrap().unwrap().as_str(), "A");
    assert!(tx.get::<NameOf<DB>>(100).await.unwrap().is_none());
    assert_eq!(town.trips(), ["load name inside [1]", "load name inside [100]"], "past the tiers");
    rename(&mut tx, 1, "B").await.unwrap();
    assert_eq!(
        tx.get::<NameOf<DB>>(1).await.unwrap().unwrap().as_str(),
        "B",
        "not even remembered by itself"
    );
    assert_eq!(request.report().statements(), 5, "reads count, too");
    tx.commit().await.unwrap();
    assert!(!request.report().trips.iter().any(|trip| trip.name == "probe"), "nothing was in doubt");
}

pub(crate) async fn many_keys_are_one_statement<DB: Database>(town: Town<DB>) {
    let request = town.request();
    let mut tx = request.begin(&town.pool).await.unwrap();
    rename(&mut tx, 2, "B").await.unwrap();
    let names = tx.get_many::<NameOf<DB>>([3, 2, 100, 3]).await.unwrap();
    assert_eq!(names.keys().copied().collect::<Vec<_>>(), [3, 2, 100]);
    let name = |key: i64| names[&key].as_ref().map(|name| name.as_str());
    assert_eq!((name(3), name(2), name(100)), (Some("c"), Some("B"), None));
    assert_eq!(town.trips(), ["load name inside [3, 2, 100]"]);
    assert_eq!(request.report().statements(), 2);
}

/// As a test suite has it that wraps each test in a transaction.
pub(crate) async fn what_is_read_in_a_transaction_reaches_no_tier<DB: Database>(town: Town<DB>) {
    let town = town.warm(&[1]).await;
    let second = town.second().await;
    let request = town.request();
    let mut tx = request.begin(&town.pool).await.unwrap();
    rename(&mut tx, 1, "A").await.unwrap();
    rename(&mut tx, 2, "B").await.unwrap();
    for key in [1, 2] {
        assert_ne!(tx.get::<NameOf<DB>>(key).await.unwrap().unwrap().as_str(), ["", "a", "b"][key as usize]);
    }
    town.cache.idle().await;
    assert_eq!(town.trips(), ["load name inside [1]", "load name inside [2]"], "no fill");
    assert_eq!(request.peek::<NameOf<DB>>(2).await.unwrap(), None, "not even in the request");
    tx.rollback().await.unwrap();
    for key in [1, 2] {
        let name = request.get::<NameOf<DB>>(key).await.unwrap().unwrap();
        assert_eq!(name.as_str(), ["", "a", "b"][key as usize], "in the request itself");
        assert_eq!(town.sees(key).await.0, ["", "a", "b"][key as usize]);
        assert_eq!(second.sees(key).await.0, ["", "a", "b"][key as usize], "in another process");
    }
}
