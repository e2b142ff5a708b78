//! Hooks and loaders that read through the cache themselves.

use std::error::Error as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{BoxError, Error, Fetched, LoadContext, NearConfig, Region, Rows, Source};
use mastaba_test::world::{Db, PhotoById, UserById, World};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    id: u64,
    /// Written by `before_store`.
    picture: String,
    /// Written by `after_fetch`; empty wherever it is stored.
    note: String,
}

/// What goes wrong in a hook, from now on.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    None,
    StoreFails,
    StorePanics,
    FetchFails,
    FetchPanics,
}

/// A source with both hooks, which write down what they are given.
#[derive(Clone)]
struct ProfileById {
    db: Arc<Db>,
    calls: Arc<Mutex<Vec<String>>>,
    trouble: Arc<Mutex<Trouble>>,
}

impl ProfileById {
    fn said(&self, what: &str, mut keys: Vec<u64>) -> usize {
        keys.sort_unstable();
        let mut calls = self.calls.lock().unwrap();
        calls.push(format!("{what} {keys:?}"));
        calls.len()
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn trouble(&self) -> Trouble {
        *self.trouble.lock().unwrap()
    }
}

impl Source for ProfileById {
    type Key = u64;
    type Value = Profile;
    type Error = BoxError;
    const NAME: &'static str = "profile";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, BoxError> {
        self.db.wrote("profile", ids);
        self.db.answer().await;
        let profile = |id| Profile { id, picture: String::new(), note: String::new() };
        Ok(ids.iter().map(|id| (*id, profile(*id))).collect())
    }

    async fn before_store(&self, cx: &LoadContext<'_>, rows: &mut Rows<Self>) -> Result<(), BoxError> {
        self.said("before_store", rows.iter().map(|(key, _)| *key).collect());
        let pictures = cx.request().get_many::<PhotoById>(rows.iter().map(|(key, _)| *key)).await?;
        for (key, profile) in rows.iter_mut() {
            profile.picture = pictures[key].as_ref().map_or(String::new(), |photo| photo.url.clone());
        }
        match self.trouble() {
            Trouble::StoreFails => Err("no pictures today".into()),
            Trouble::StorePanics => panic!("no pictures at all"),
            _ => Ok(()),
        }
    }

    async fn after_fetch(&self, cx: &LoadContext<'_>, rows: &mut Fetched<Self>) -> Result<(), BoxError> {
        if rows.is_empty() {
            return Ok(()); // the question at start-up
        }
        let nth = self.said("after_fetch", rows.iter().map(|(key, _)| *key).collect());
        let greeting = cx.request().get::<UserById>(500).await?.unwrap();
        for (_, profile) in rows.iter_mut() {
            assert_eq!(profile.note, "", "nobody else's change is in it");
            profile.note = format!("call {nth}, {}", greeting.name);
        }
        match self.trouble() {
            Trouble::FetchFails => Err("no greetings today".into()),
            Trouble::FetchPanics => panic!("no greetings at all"),
            _ => Ok(()),
        }
    }
}

async fn world(configure: impl FnOnce(Region) -> Region) -> (World, ProfileById) {
    let mut profiles = None;
    let world = World::build::<false>(Memory::default(), configure, |builder, db| {
        let calls = Arc::default();
        let trouble = Arc::new(Mutex::new(Trouble::None));
        let source = ProfileById { db: db.clone(), calls, trouble };
        profiles = Some(source.clone());
        builder.source(source)
    })
    .await;
    (world, profiles.unwrap())
}

#[tokio::test]
async fn before_store_sees_each_load_once_and_what_it_adds_is_stored() {
    let (world, profiles) = world(|region| region).await;
    let loaded = world.request().get_many::<ProfileById>([1, 2, 3]).await.unwrap();
    assert_eq!(loaded[&2].as_ref().unwrap().picture, "/2.png");
    world.idle().await;
    assert_eq!(profiles.calls(), ["before_store [1, 2, 3]", "after_fetch [1, 2, 3]"]);
    let loads = ["source load profile [1, 2, 3]", "source load photo [1, 2, 3]", "source load user [500]"];
    assert_eq!(world.loads(), loads, "what the hooks load travels together");
    let again = world.request().get_many::<ProfileById>([1, 2]).await.unwrap();
    assert_eq!(again[&2].as_ref().unwrap().picture, "/2.png");
    assert_eq!(profiles.calls(), ["after_fetch [1, 2]"], "a hit is not stored again");
}

#[tokio::test]
async fn after_fetch_sees_everything_that_enters_a_request_once_and_changes_it_for_that_request_alone() {
    for configure in [|region| region, (|region: Region| region.near(NearConfig::entries(100))) as fn(_) -> _]
    {
        let (world, profiles) = world(configure).await;
        let mut notes = Vec::new();
        for _ in 0..3 {
            let request = world.request();
            let profile = request.get::<ProfileById>(1).await.unwrap().unwrap();
            notes.push(profile.note.clone());
            assert!(Arc::ptr_eq(&profile, &request.get::<ProfileById>(1).await.unwrap().unwrap()));
            world.idle().await;
        }
        assert_eq!(notes, ["call 2, user 500", "call 3, user 500", "call 4, user 500"]);
        let calls = ["before_store [1]", "after_fetch [1]", "after_fetch [1]", "after_fetch [1]"];
        assert_eq!(profiles.calls(), calls);
        assert_eq!(world.loads_of("profile"), [(1, 1)].into());
    }
}

#[tokio::test]
async fn those_who_join_a_load_each_have_their_own_after_fetch() {
    let (world, profiles) = world(|region| region).await;
    world.sees(500).await;
    let gate = world.db.close_gate();
    let gets: Vec<_> = (0..3).map(|_| world.start::<ProfileById>(1)).collect();
    gate.arrived(1).await;
    world.settle().await;
    gate.open_for_good();
    let mut notes = Vec::new();
    for get in gets {
        notes.push(get.await.unwrap().note.clone());
    }
    notes.sort_unstable();
    notes.dedup();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert_eq!(world.loads_of("profile"), [(1, 1)].into());
    assert_eq!(profiles.calls().iter().filter(|call| call.starts_with("before_store")).count(), 1);
}

#[tokio::test]
async fn a_before_store_that_fails_or_panics_fails_its_load_and_nothing_is_stored() {
    for (trouble, sentence) in [
        (Trouble::StoreFails, "source profile: before_store of 2 keys failed: no pictures today"),
        (Trouble::StorePanics, "source profile: before_store of 2 keys panicked: no pictures at all"),
    ] {
        let (world, profiles) = world(|region| region).await;
        *profiles.trouble.lock().unwrap() = trouble;
        let request = world.request();
        let error = request.get_many::<ProfileById>([1, 2]).await.err().unwrap();
        assert!(error.is_source());
        assert_eq!(error.is_panic(), trouble == Trouble::StorePanics);
        assert_eq!(error.to_string(), sentence);
        world.idle().await;
        assert_eq!(world.events(), [format!("source profile: a load of 2 keys failed: {sentence}")]);
        *profiles.trouble.lock().unwrap() = Trouble::None;
        assert!(world.request().peek::<ProfileById>(1).await.unwrap().is_none());
        assert!(request.get::<ProfileById>(1).await.unwrap().is_some(), "not remembered");
    }
}

#[tokio::test]
async fn an_after_fetch_that_fails_or_panics_fails_what_was_to_enter_and_leaves_the_tiers_alone() {
    for (trouble, sentence) in [
        (Trouble::FetchFails, "source profile: after_fetch of 2 keys failed: no greetings today"),
        (Trouble::FetchPanics, "source profile: after_fetch of 2 keys panicked: no greetings at all"),
    ] {
        let (world, profiles) = world(|region| region).await;
        *profiles.trouble.lock().unwrap() = trouble;
        let request = world.request();
        let error = request.get_many::<ProfileById>([1, 2]).await.err().unwrap();
        assert!(error.is_source());
        assert_eq!(error.to_string(), sentence);
        world.idle().await;
        *profiles.trouble.lock().unwrap() = Trouble::None;
        assert!(request.get::<ProfileById>(1).await.unwrap().is_some(), "not remembered");
        assert_eq!(world.loads_of("profile"), [(1, 1), (2, 1)].into(), "what was loaded is stored");
    }
}

/// Key 1 needs [`Pong`] 1; key 7 needs [`Pong`] 7; key 8 needs itself.
struct Ping(Arc<Db>);
/// Key 2 needs [`Ping`] 2; key 7 needs [`Ping`] 7.
struct Pong(Arc<Db>);

impl Source for Ping {
    type Key = u64;
    type Value = u64;
    type Error = Error;
    const NAME: &'static str = "ping";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Error> {
        self.0.wrote("ping", ids);
        self.0.answer().await;
        if ids.contains(&8) {
            cx.request().get::<Ping>(8).await?;
        }
        let needs = ids.iter().filter(|id| [1, 7].contains(*id)).copied();
        cx.request().get_many::<Pong>(needs).await?;
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
}

impl Source for Pong {
    type Key = u64;
    type Value = u64;
    type Error = Error;
    const NAME: &'static str = "pong";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Error> {
        self.0.wrote("pong", ids);
        self.0.answer().await;
        let needs = ids.iter().filter(|id| [2, 7].contains(*id)).copied();
        cx.request().get_many::<Ping>(needs).await?;
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
}

async fn table() -> World {
    World::build::<false>(
        Memory::default(),
        |region| region,
        |builder, db| builder.source(Ping(db.clone())).source(Pong(db.clone())),
    )
    .await
}

fn innermost(error: &Error) -> &(dyn std::error::Error + 'static) {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_waits_for_itself_is_told_so_at_once() {
    let cases = [
        (
            7,
            "source pong: its loader or hook reads from source ping a key whose load waits for this very load",
        ),
        (
            8,
            "source ping: its loader or hook reads from source ping a key whose load waits for this very load",
        ),
    ];
    for (key, sentence) in cases {
        let world = table().await;
        let began = tokio::time::Instant::now();
        let error = world.request().get::<Ping>(key).await.unwrap_err();
        assert!(error.is_source() && error.source().is_some());
        let cause = innermost(&error).downcast_ref::<Error>().unwrap();
        assert!(cause.is_usage());
        assert_eq!(cause.to_string(), format!("{sentence}; it would wait for ever"));
        assert!(began.elapsed() < Duration::from_millis(1), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn two_requests_whose_loads_wait_for_each_other_both_get_their_values() {
    let world = table().await;
    let gate = world.db.close_gate();
    let (one, two) = (world.request(), world.request());
    let began = tokio::time::Instant::now();
    let ping = tokio::spawn(async move { one.get_many::<Ping>([1, 2]).await });
    let pong = tokio::spawn(async move { two.get_many::<Pong>([1, 2]).await });
    gate.arrived(2).await; // each load carries what the other is about to ask for
    gate.open_for_good();
    assert_eq!(ping.await.unwrap().unwrap().found().count(), 2);
    assert_eq!(pong.await.unwrap().unwrap().found().count(), 2);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    world.idle().await;
    let (pings, pongs) = (world.loads_of("ping"), world.loads_of("pong"));
    assert!(pings.values().chain(pongs.values()).all(|loads| *loads <= 2), "{pings:?} {pongs:?}");
}
