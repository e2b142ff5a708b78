//! Keys that may not be shown: no event and no error of theirs has one in it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{Cache, Event, LoadContext, Outgoing, Region, Rows, Source};
use mastaba_test::faulty::{Faults, Faulty, Mishap, Op};

const ADDRESS: &str = "ada@example.org";

/// By an address; `SHOWN` is the control.
struct ByAddress<const SHOWN: bool>;

impl<const SHOWN: bool> Source for ByAddress<SHOWN> {
    type Key = String;
    type Value = u32;
    type Error = std::io::Error;
    const NAME: &'static str = "by_address";
    const REGION: &'static str = "objects";
    const SHOW_KEYS: bool = SHOWN;

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[String]) -> Result<Rows<Self>, Self::Error> {
        let mut rows: Vec<_> = keys.iter().map(|key| (key.clone(), 1)).collect();
        if keys.len() == 2 {
            rows.extend(rows.clone()); // two rows each
            rows.push((format!("{ADDRESS} and somebody else"), 3)); // and one that nobody asked for
        }
        let mut rows: Rows<Self> = rows.into_iter().collect();
        if keys.len() == 3 {
            rows.fail(keys[0].clone(), std::io::Error::other("locked"));
        }
        Ok(rows)
    }
}

/// Everything that is said of these keys, in whichever form.
async fn said<const SHOWN: bool>() -> Vec<String> {
    let events: Arc<Mutex<Vec<String>>> = Arc::default();
    let faults = Faults::new();
    let (told, store) = (events.clone(), Faulty::new(Memory::default(), faults.clone()));
    let cache = Cache::builder()
        .region("objects", Region::backend(store))
        .source(ByAddress::<SHOWN>)
        .on_event(move |event: &Event| told.lock().unwrap().push(format!("{event} {event:?}")))
        .build()
        .await
        .unwrap();
    let key = |nth: u32| format!("{nth}{ADDRESS}");
    let request = cache.request();
    for keys in [vec![key(1), key(2)], vec![key(3), key(4), key(5)]] {
        let answers = request.get_outcomes::<ByAddress<SHOWN>>(keys).await;
        let errors = answers.values().filter_map(|outcome| outcome.error());
        events.lock().unwrap().extend(errors.map(|error| format!("{error} {error:?}")));
    }
    let write = request.write();
    write.invalidate::<ByAddress<SHOWN>>([key(6)]).await.unwrap();
    let pieces: Vec<Outgoing> = write.outgoing();
    drop(write);
    faults.always(Op::Invalidate, Mishap::Down);
    request.invalidate::<ByAddress<SHOWN>>([key(7)]).await.unwrap();
    let published = cache.void(&pieces).await.unwrap();
    faults.heal();
    published.confirmed(Duration::from_secs(10)).await.unwrap();
    events.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn keys_that_may_not_be_shown_are_counted_and_not_shown() {
    let shown = said::<true>().await;
    let with_key = shown.iter().filter(|said| said.contains(ADDRESS)).count();
    assert!(with_key >= 7, "the control: {shown:#?}");
    let hidden = said::<false>().await;
    assert_eq!(hidden.len(), shown.len(), "{hidden:#?}");
    assert_eq!(
        hidden.iter().filter(|said| said.contains(ADDRESS)).collect::<Vec<_>>(),
        [""; 0],
        "{hidden:#?}"
    );
}
