//! What a write is for its transaction: savepoints, values that it puts, rows that name their keys, holds that are renewed,
//! reads through a connection of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mastaba::{
    CommitError, Fetched, Keyed, Keys, Lazy, LoadContext, LoadIn, NearConfig, Rows, Source, WriteMode,
};
use mastaba_test::world::{PhotoById, User, UserById, World};

const HOLD: Duration = Duration::from_secs(15);

async fn warm(mode: WriteMode) -> World {
    let world =
        World::with(|region| region.near(NearConfig::entries(100)).write_mode(mode).hold_ttl(HOLD)).await;
    world.request().get_many::<UserById>([1, 2, 3]).await.unwrap();
    world.idle().await;
    world.trips();
    world
}

async fn done() -> Result<(), String> {
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn holds_are_renewed_for_as_long_as_the_write_is_open() {
    let world = warm(WriteMode::Strict).await;
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    write.hold().await.unwrap();
    assert_eq!(world.trips(), ["shared hold [1]"]);
    tokio::time::sleep(4 * HOLD).await;
    let renewed = world.trips();
    assert!(renewed.len() >= 11 && renewed.iter().all(|trip| trip == "shared hold [1]"), "{renewed:?}");
    assert_eq!(request.report().shared_trips(), 1, "nobody waits for them");
    world.sees(1).await;
    world.idle().await;
    assert!(!world.trips().contains(&"shared fill [1]".to_owned()), "it stands");
    let committed = write.commit(done()).await.unwrap();
    assert!(committed.published.is_confirmed());
    world.idle().await;
    world.trips();
    tokio::time::sleep(4 * HOLD).await;
    assert_eq!(world.trips(), [""; 0], "and not for longer");

    for ends in [drop, mastaba::Write::discard] {
        let write = world.request().write();
        write.invalidate::<UserById>([2]).await.unwrap();
        write.hold().await.unwrap();
        ends(write);
        world.idle().await;
        world.trips();
        tokio::time::sleep(4 * HOLD).await;
        assert_eq!(world.trips(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_refused_where_holds_could_not_be_renewed() {
    for (mode, refused) in [(WriteMode::Strict, true), (WriteMode::Serve, true), (WriteMode::Degrade, false)]
    {
        let world = warm(mode).await;
        let write = world.request().write();
        write.invalidate::<UserById>([1]).await.unwrap();
        write.hold().await.unwrap();
        world.shared.down(&["hold"]);
        tokio::time::sleep(2 * HOLD).await;
        let db = world.db.clone();
        let done = write.commit(async move { Ok::<_, String>(db.update(1)) }).await;
        assert_eq!(done.is_err(), refused, "{mode:?}");
        assert_eq!(world.db.version(1), u32::from(!refused), "{mode:?}: COMMIT is not begun");
        if let Err(error) = done {
            assert!(matches!(error, CommitError::Refused(_)));
        }
        world.shared.down(&[]);
        world.idle().await;
        assert_eq!(world.sees(1).await, u32::from(!refused), "{mode:?}");
    }
    // and goes on where they can be placed again
    let world = warm(WriteMode::Strict).await;
    let write = world.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    write.hold().await.unwrap();
    world.shared.down(&["hold"]);
    tokio::time::sleep(2 * HOLD).await;
    world.shared.down(&[]);
    let db = world.db.clone();
    write.commit(async move { Ok::<_, String>(db.update(1)) }).await.unwrap();
    world.idle().await;
    assert_eq!(world.sees(1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_to_a_savepoint_is_held_no_longer() {
    let world = warm(WriteMode::Strict).await;
    let write = world.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let savepoint = write.savepoint();
    write.invalidate::<UserById>([1, 2]).await.unwrap();
    write.hold().await.unwrap();
    assert_eq!(world.trips(), ["shared hold [1, 2]"]);
    write.rolled_back_to(savepoint);
    world.idle().await;
    assert_eq!(world.trips(), ["shared end [2]"], "the first one still holds 1 (R9)");
    assert_eq!(world.sees(2).await, 0);
    assert_eq!(world.loads(), [""; 0], "what was held is back (R10)");
    world.trips();
    tokio::time::sleep(HOLD / 2).await;
    assert_eq!(world.trips(), ["shared hold [1]"], "and is not renewed");
    write.commit(done()).await.unwrap();
    world.idle().await;
    assert_eq!(world.trips(), ["shared hold [1]", "shared end [1]"]);
}

/// In a destructor that runs anywhere, for example.
#[test]
fn a_savepoint_may_be_taken_back_outside_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (world, write, savepoint) = runtime.block_on(async {
        let world = warm(WriteMode::Strict).await;
        let write = world.request().write();
        write.invalidate::<UserById>([1]).await.unwrap();
        let savepoint = write.savepoint();
        write.invalidate::<UserById>([2]).await.unwrap();
        write.hold().await.unwrap();
        world.trips();
        (world, write, savepoint)
    });
    write.rolled_back_to(savepoint);
    runtime.block_on(async {
        assert!(write.commit(done()).await.unwrap().published.is_confirmed());
        assert_eq!(world.trips(), ["shared hold [1]", "shared end [1]"]);
    });
}

#[tokio::test]
async fn a_savepoint_takes_back_keys_tags_regions_and_no_more() {
    let world = warm(WriteMode::Simple).await;
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let savepoint = write.savepoint();
    write.invalidate::<UserById>([2]).await.unwrap();
    write.invalidate_tag("everybody");
    write.clear("objects").unwrap();
    request.get::<UserById>(3).await.unwrap();
    assert_eq!(
        world.trips(),
        ["source load user from the writer [3]"],
        "nobody knows which keys that concerns"
    );
    write.rolled_back_to(savepoint);
    request.get::<UserById>(3).await.unwrap();
    assert_eq!(world.trips(), [""; 0], "and now it concerns none");
    write.rolled_back_to(savepoint);
    write.commit(done()).await.unwrap();
    assert_eq!(world.trips(), ["shared invalidate [1]"]);
}

fn ada() -> User {
    User { id: 1, name: "Ada".to_owned(), version: 9, photo: Lazy::new(1) }
}

#[tokio::test]
async fn what_is_put_stays_with_its_request_in_every_mode_and_goes_with_a_rollback() {
    for mode in [WriteMode::Simple, WriteMode::Strict, WriteMode::Serve, WriteMode::Degrade] {
        let world = warm(mode).await;
        let request = world.request();
        let name = async || request.get::<UserById>(1).await.unwrap().unwrap().name.clone();
        let write = request.write();
        write.put::<UserById>(1, ada()).await.unwrap();
        assert_eq!(name().await, "Ada");
        assert_eq!(world.request().get::<UserById>(1).await.unwrap().unwrap().name, "user 1", "{mode:?}");
        write.commit(done()).await.unwrap();
        assert_eq!(name().await, "Ada", "{mode:?}: it is what was committed");
        assert_eq!(world.loads(), [""; 0], "{mode:?}");
        world.idle().await;
        assert_eq!(world.sees(1).await, 0, "{mode:?}: others load it");

        let (unknown, rolled_back) = (|_: &String| false, |_: &String| true);
        for outcome in [unknown, rolled_back] {
            let request = world.request();
            let write = request.write();
            write.put::<UserById>(1, ada()).await.unwrap();
            let failed = std::future::ready(Err::<(), _>("gone".to_owned()));
            write.commit_unless(failed, outcome).await.unwrap_err();
            world.idle().await;
            let name = request.get::<UserById>(1).await.unwrap().unwrap().name.clone();
            assert_eq!(name, "user 1", "{mode:?}: it may never have been committed");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_collected_after_it_was_put_is_read_from_the_source() {
    let world = warm(WriteMode::Simple).await;
    let request = world.request();
    let write = request.write();
    write.put::<UserById>(1, ada()).await.unwrap();
    write.put::<UserById>(2, ada()).await.unwrap();
    write.invalidate::<UserById>([1]).await.unwrap(); // a trigger has changed it, for example
    write.commit(done()).await.unwrap();
    let users = request.get_many::<UserById>([1, 2]).await.unwrap();
    let name = |key: u64| users[&key].as_ref().unwrap().name.as_str();
    assert_eq!((name(1), name(2)), ("user 1", "Ada"));
}

struct Profile {
    user: u64,
    photo: u64,
}

impl Keyed for Profile {
    fn keys(&self, keys: &mut Keys) {
        assert!(self.user < 100, "no such user");
        keys.add::<PhotoById>(self.photo);
        keys.add::<UserById>(self.user);
        keys.add::<PhotoById>(self.photo);
        keys.tag(format!("team-{}", self.user % 2));
    }
}

#[tokio::test]
async fn a_row_names_its_keys_of_before_and_after_each_once_inner_ones_first() {
    let world = World::new().await;
    let write = world.request().write();
    write.changed(&Profile { user: 1, photo: 10 }, &Profile { user: 2, photo: 11 }).unwrap();
    write.commit(done()).await.unwrap();
    let trips = world.trips();
    assert_eq!(trips[0], "shared invalidate [10, 11, 1, 2]");
    assert_eq!(trips[1..], ["shared invalidate [@tags, #team-1, #team-0]"]);

    let write = world.request().write();
    write.inserted(&Profile { user: 3, photo: 12 }).unwrap();
    write.deleted(&Profile { user: 4, photo: 12 }).unwrap();
    write.commit(done()).await.unwrap();
    assert!(world.trips()[0].starts_with("shared invalidate [12, 3]"));

    let write = world.request().write();
    let error = write.changed(&Profile { user: 1, photo: 1 }, &Profile { user: 100, photo: 1 }).unwrap_err();
    assert!(error.is_panic() && error.to_string().contains("no such user"), "{error}");
    assert!(write.is_empty(), "nothing was collected");
}

/// Numbers and what they are worth in a transaction that is open.
struct Worth;
static FETCHED: AtomicUsize = AtomicUsize::new(0);

impl Source for Worth {
    type Key = u32;
    type Value = u32;
    type Error = String;
    const NAME: &'static str = "worth";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, String> {
        Ok(keys.iter().map(|key| (*key, *key)).collect())
    }

    async fn before_store(&self, _: &LoadContext<'_>, rows: &mut Rows<Self>) -> Result<(), String> {
        rows.iter_mut().for_each(|(_, worth)| *worth += 1000);
        Ok(())
    }

    async fn after_fetch(&self, _: &LoadContext<'_>, rows: &mut Fetched<Self>) -> Result<(), String> {
        FETCHED.fetch_add(rows.len(), Ordering::SeqCst);
        rows.iter_mut().for_each(|(_, worth)| *worth += 10_000);
        Ok(())
    }

    fn policy(&self, region: &mastaba::Policy) -> mastaba::Policy {
        region.clone().max_batch(3)
    }
}

/// A connection, as far as this is one: what it has been asked.
impl LoadIn<Vec<Vec<u32>>> for Worth {
    async fn load_in(&self, asked: &mut Vec<Vec<u32>>, keys: &[u32]) -> Result<Rows<Self>, String> {
        asked.push(keys.to_vec());
        let mut rows = Rows::new();
        for key in keys {
            match key {
                7 => {}
                13 => rows.fail(*key, "unlucky"),
                14 => return Err("gone".to_owned()),
                15 => panic!("broken"),
                _ => rows.insert(*key, key * 2),
            }
        }
        Ok(rows)
    }
}

#[tokio::test]
async fn a_read_through_a_connection_has_its_hooks_its_limits_and_its_errors_and_stores_nothing() {
    let world =
        World::build::<false>(Default::default(), |region| region, |builder, _| builder.source(Worth)).await;
    let (request, mut asked) = (world.request(), Vec::new());
    let found = request.get_many_in::<Worth, _>(&mut asked, [1, 7, 2, 1, 3]).await.unwrap();
    assert_eq!(asked, [vec![1, 7, 2], vec![3]], "distinct, and so many at a time");
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 7, 2, 3]);
    assert_eq!((found[&1].as_deref(), found[&7].as_deref()), (Some(&11_002), None));
    assert_eq!(FETCHED.load(Ordering::SeqCst), 3);
    assert_eq!((request.report().statements(), request.report().keys_loaded()), (2, 4));
    for (key, said) in [(13, "unlucky"), (14, "gone"), (15, "broken")] {
        let error = request.get_in::<Worth, _>(&mut asked, key).await.unwrap_err();
        assert!(error.is_source() && error.to_string().contains(said), "{error}");
    }
    world.idle().await;
    assert_eq!(world.trips(), [""; 0], "no tier was asked, and none was filled");
    assert_eq!(
        request.get::<Worth>(1).await.unwrap().as_deref(),
        Some(&11_001),
        "nor does the request know it"
    );
}
