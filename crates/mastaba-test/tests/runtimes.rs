//! A cache outlives the runtimes that it is used from: what each of them leaves behind, and what the next one finds.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::{Cache, Event, Region, Tier};
use mastaba_test::world::{Db, UserById};

type Events = Arc<Mutex<Vec<Event>>>;

/// A cache over one region, and what it says beside its answers.
async fn cache_over(region: Region, db: &Arc<Db>) -> (Cache, Events) {
    let events = Events::default();
    let listener = events.clone();
    let cache = Cache::builder()
        .region("objects", region.jitter(0.0).early_refresh(0.0))
        .source(UserById(db.clone()))
        .on_event(move |event| listener.lock().unwrap().push(event.clone()))
        .build()
        .await
        .unwrap();
    (cache, events)
}

/// The tier that a user comes from for a new request.
async fn tier(cache: &Cache, id: u64) -> Option<Tier> {
    cache.request().try_get_many::<UserById>([id]).await[&id].tier()
}

fn said(events: &Events) -> Vec<String> {
    events.lock().unwrap().drain(..).map(|event| event.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_embedded_file_answers_within_its_budget_while_the_clock_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, events) = cache_over(Region::embedded(folder.path()), &Arc::default()).await;
    let began = tokio::time::Instant::now();
    for id in 1..=20 {
        assert_eq!(tier(&cache, id).await, Some(Tier::Source));
        cache.idle().await;
        assert_eq!(tier(&cache, id).await, Some(Tier::Shared), "user {id}");
        cache.request().invalidate::<UserById>([id]).await.unwrap();
        assert_eq!(tier(&cache, id).await, Some(Tier::Source));
    }
    cache.close().await.unwrap();
    assert_eq!(said(&events), [""; 0]);
    assert!(began.elapsed() < Duration::from_millis(500), "no budget ran out: {:?}", began.elapsed());
}
