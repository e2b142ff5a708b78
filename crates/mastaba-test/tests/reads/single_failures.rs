//! A loader that fails single keys of a load: the others are answered and stored.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::{Cache, EntryPolicy, Event, LoadContext, NearConfig, Region, Rows, Source, Tier};
use mastaba_test::world::{DbError, DbFault, UserById, World};

#[tokio::test]
async fn one_key_fails_and_the_others_are_answered_and_stored() {
    let world = World::new().await;
    world.db.fail_next(DbFault::FailKeys(vec![2, 4]));
    let request = world.request();
    let users = request.get_outcomes::<UserById>(1..=4).await;
    assert_eq!(users[&1].tier(), Some(Tier::Source));
    assert_eq!(users[&3].tier(), Some(Tier::Source));
    let error = users[&2].error().unwrap();
    assert!(error.is_source() && !error.is_panic(), "{error:?}");
    assert_eq!(error.to_string(), "source user: loading key 2 failed: row 2 is locked");
    assert_eq!(error.downcast_ref::<DbError>().unwrap().0, "row 2 is locked");
    assert!(users[&4].error().unwrap().to_string().contains("key 4"));
    let said = "source user: 2 of 4 keys of a load failed, the first so: source user: loading key 2 failed: row 2 is \
                locked";
    assert_eq!(world.events(), [said], "once for the load");
    let outcomes = request.report().outcomes[0];
    assert_eq!((outcomes.loaded, outcomes.failed, outcomes.absent), (2, 2, 0));

    world.idle().await;
    assert!(world.trips().contains(&"shared fill [1, 3]".to_owned()));
    let users = world.request().get_outcomes::<UserById>(1..=4).await;
    assert_eq!([1, 2, 3, 4].map(|id| users[&id].tier().unwrap()), {
        [Tier::Shared, Tier::Source, Tier::Shared, Tier::Source]
    });
}

#[tokio::test]
async fn the_failure_of_a_key_is_not_remembered() {
    for region in [Region::memory(), Region::memory().near(NearConfig::entries(100)), Region::null()] {
        let faulty = Faulty::default();
        faulty.say(7, Say::Fail);
        let cache = Cache::builder().region("objects", region).source(faulty.clone()).build().await.unwrap();
        let request = cache.request();
        assert!(request.get::<Faulty>(7).await.unwrap_err().is_source());
        cache.idle().await;
        assert_eq!(request.peek::<Faulty>(7).await.unwrap(), None, "neither as a value nor as absent");
        faulty.say(7, Say::Row);
        assert_eq!(request.get::<Faulty>(7).await.unwrap().as_deref(), Some(&70));
        assert_eq!(cache.request().get::<Faulty>(7).await.unwrap().as_deref(), Some(&70));
    }
}

#[tokio::test]
async fn who_joined_the_flight_gets_the_error_of_its_key_alone() {
    let world = World::new().await;
    let gate = world.db.close_gate();
    world.db.fail_next(DbFault::FailKeys(vec![2]));
    let (first, second) = (world.request(), world.request());
    let starter = tokio::spawn(async move { first.get_outcomes::<UserById>([1, 2]).await });
    world.db.reached(1).await;
    let joiner = tokio::spawn(async move {
        let users = tokio::join!(second.get::<UserById>(1), second.get::<UserById>(2));
        (users, second.report().outcomes[0].joined)
    });
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    gate.open_for_good();
    let ((one, two), joined) = joiner.await.unwrap();
    assert_eq!(one.unwrap().unwrap().id, 1);
    let error = two.unwrap_err();
    assert_eq!(error.downcast_ref::<DbError>().unwrap().0, "row 2 is locked");
    assert_eq!(joined, 1);
    assert!(starter.await.unwrap()[&2].error().is_some());
    assert_eq!(world.loads(), ["source load user [1, 2]"], "one load for both");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_is_covered_by_what_was_there() {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    let world = World::with(|region| region.ttl(10 * second).stale_if_error(hour)).await;
    world.request().get_many::<UserById>([1, 2]).await.unwrap();
    world.idle().await;
    tokio::time::advance(11 * second).await;
    world.db.update(1);
    world.db.update(2);
    world.db.fail_next(DbFault::FailKeys(vec![1]));
    let users = world.request().get_outcomes::<UserById>([1, 2]).await;
    assert!(users[&1].is_stale() && users[&1].tier() == Some(Tier::Shared));
    assert_eq!(users[&1].value().unwrap().unwrap().version, 0);
    assert_eq!(users[&2].value().unwrap().unwrap().version, 1);
    world.idle().await;
    assert_eq!(world.events().len(), 1, "{:?}", world.events());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Row,
    Fail,
    FailTwice,
    RowAndFail,
    FailAndTwoRows,
    AbsentAndFail,
    FailAndForeign,
    FailBeforeStoring,
}

/// Does with each key what it was told; a key of which nothing was said has a row.
#[derive(Clone, Default)]
struct Faulty(Arc<Mutex<BTreeMap<u32, Say>>>);

impl Faulty {
    fn say(&self, key: u32, say: Say) {
        self.0.lock().unwrap().insert(key, say);
    }

    fn of(&self, key: u32) -> Say {
        self.0.lock().unwrap().get(&key).copied().unwrap_or(Say::Row)
    }
}

impl Source for Faulty {
    type Key = u32;
    type Value = u32;
    type Error = std::convert::Infallible;
    const NAME: &'static str = "faulty";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, Self::Error> {
        let mut rows = Rows::new();
        for &key in keys {
            match self.of(key) {
                Say::Row | Say::FailBeforeStoring => rows.insert(key, key * 10),
                Say::Fail => rows.fail(key, "out of order"),
                Say::FailTwice => {
                    rows.fail(key, "first");
                    rows.fail(key, "second");
                }
                Say::RowAndFail => {
                    rows.insert(key, key * 10);
                    rows.fail(key, "out of order");
                }
                Say::FailAndTwoRows => {
                    rows.fail(key, "out of order");
                    rows.insert(key, key * 10);
                    rows.insert(key, key * 10);
                }
                Say::AbsentAndFail => {
                    rows.fail(key, "out of order");
                    rows.absent_with(key, EntryPolicy::default());
                }
                Say::FailAndForeign => {
                    rows.insert(key, key * 10);
                    rows.fail(key + 1000, "nobody asked");
                }
            }
        }
        Ok(rows)
    }

    async fn before_store(&self, _: &LoadContext<'_>, rows: &mut Rows<Self>) -> Result<(), Self::Error> {
        let bad: Vec<_> = rows.iter().map(|(key, _)| *key).collect();
        for key in bad.into_iter().filter(|key| self.of(*key) == Say::FailBeforeStoring) {
            rows.fail(key, "could not be enriched");
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_failure_counts_before_whatever_else_is_said_of_its_key() {
    let faulty = Faulty::default();
    let cases = [
        (1, Say::Fail, "out of order"),
        (2, Say::FailTwice, "first"),
        (3, Say::RowAndFail, "out of order"),
        (4, Say::FailAndTwoRows, "out of order"),
        (5, Say::AbsentAndFail, "out of order"),
        (6, Say::FailBeforeStoring, "could not be enriched"),
    ];
    cases.iter().for_each(|(key, say, _)| faulty.say(*key, *say));
    faulty.say(8, Say::FailAndForeign);
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = events.clone();
    let cache = Cache::builder()
        .region("objects", Region::memory())
        .source(faulty)
        .on_event(move |event| heard.lock().unwrap().push(event.clone()))
        .build()
        .await
        .unwrap();
    let answers = cache.request().get_outcomes::<Faulty>(1..=8).await;
    for (key, say, why) in cases {
        let error = answers[&key].error().unwrap_or_else(|| panic!("{say:?}"));
        assert_eq!(error.to_string(), format!("source faulty: loading key {key} failed: {why}"), "{say:?}");
    }
    for key in [7, 8] {
        assert_eq!(answers[&key].value().unwrap().map(|value| **value), Some(key * 10));
    }
    let events = std::mem::take(&mut *events.lock().unwrap());
    let failed: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::KeysFailed { source, failed, keys, error } => {
                Some((*source, *failed, *keys, error.to_string()))
            }
            _ => None,
        })
        .collect();
    let first = "source faulty: loading key 1 failed: out of order".to_owned();
    assert_eq!(failed, [("faulty", 6, 8, first)]);
    let foreign = |event: &&Event| matches!(event, Event::ForeignRow { key, .. } if key == "1008");
    assert_eq!(events.iter().filter(foreign).count(), 1);
    assert_eq!(events.len(), 2, "{events:?}");
    cache.idle().await;
    let again = cache.request();
    for key in 1..=8u32 {
        assert_eq!(again.peek::<Faulty>(key).await.unwrap().is_some(), key > 6, "key {key}");
    }
}
