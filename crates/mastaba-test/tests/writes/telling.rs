//! Near before a store that tells of changes, without a server: what a process hears of itself (R13).

use std::sync::Arc;
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{Cache, Coherence, NearConfig, Region, Tier};
use mastaba_test::telling::Telling;
use mastaba_test::world::{Db, UserById};

async fn cache(store: Telling<Memory>, db: &Arc<Db>) -> Cache {
    let near = NearConfig::entries(100).coherence(Coherence::Fenced);
    // every load takes a lease: that is what is told of here
    let region = Region::backend(store).jitter(0.0).early_refresh(0.0).near(near).fill_without_lease(false);
    Cache::builder().region("objects", region).source(UserById(db.clone())).build().await.unwrap()
}

/// The version of a user as a new request sees it, and where it came from. What is stored is stored by then.
async fn finds(cache: &Cache, key: u64) -> (u32, Tier) {
    let users = cache.request().get_outcomes::<UserById>([key]).await;
    cache.idle().await;
    (users[&key].value().unwrap().unwrap().version, users[&key].tier().unwrap())
}

#[tokio::test(start_paused = true)]
async fn near_takes_in_what_was_loaded_under_a_lease_that_it_was_told_of() {
    let (store, db) = (Telling::new(Memory::default()), Arc::new(Db::default()));
    let cache = cache(store, &db).await;
    finds(&cache, 1).await; // places the stamps of the region, which void what was read before them
    assert_eq!(finds(&cache, 2).await, (0, Tier::Source));
    assert_eq!(finds(&cache, 2).await, (0, Tier::Near));
}

#[tokio::test(start_paused = true)]
async fn near_takes_in_what_another_process_stored_while_it_was_waited_for() {
    let (store, db) = (Telling::new(Memory::default()), Arc::new(Db::default()));
    let (one, two) = (cache(store.clone(), &db).await, cache(store.process(), &db).await);
    finds(&one, 1).await;
    let gate = db.close_gate();
    let first = tokio::spawn({
        let one = one.clone();
        async move { finds(&one, 2).await }
    });
    db.reached(2).await;
    let second = tokio::spawn({
        let two = two.clone();
        async move { finds(&two, 2).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open_for_good();
    assert_eq!(first.await.unwrap(), (0, Tier::Source));
    assert_eq!(second.await.unwrap(), (0, Tier::Shared));
    assert_eq!(finds(&two, 2).await, (0, Tier::Near));
    // and is told of what is written from then on
    db.update(2);
    one.request().invalidate::<UserById>([2]).await.unwrap();
    assert_eq!(finds(&two, 2).await.0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_one_cache_voids_what_another_one_of_the_same_process_has_in_near() {
    let (memory, db) = (Memory::default(), Arc::new(Db::default()));
    let store = Telling::new(memory.clone());
    let (one, two) = (cache(store.clone(), &db).await, cache(store, &db).await);
    finds(&one, 1).await;
    finds(&two, 1).await;
    assert_eq!(finds(&two, 1).await, (0, Tier::Near));
    db.update(1);
    // by somebody of whom this process hears nothing, because its own lease comes right after it
    mastaba::shared::Shared::invalidate(&memory, &["mastaba:objects:user:1".into()], &[]).await.unwrap();
    let gate = db.close_gate();
    let loading = tokio::spawn({
        let request = one.request();
        async move { request.with(mastaba::Force::Refresh).get::<UserById>(1).await.unwrap().unwrap().version }
    });
    db.reached(2).await;
    let known = two.request().peek::<UserById>(1).await.unwrap();
    assert_eq!(known, None, "its near has what was voided");
    gate.open_for_good();
    assert_eq!(loading.await.unwrap(), 1);
}
