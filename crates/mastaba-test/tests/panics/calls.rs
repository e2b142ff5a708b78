//! What is called once: iterators, errors, policies, backends while they are opened. And keys that panic each time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mastaba::shared::memory::Memory;
use mastaba::shared::{Abilities, Listener, Reach, Shared};
use mastaba::{Backend, BoxError, Cache, Fault, LoadContext, NearConfig, Policy, Region, Rows, Source};

use crate::fuse::{self, Part};
use crate::sore::{Db, Innocent, Key, Sore, Stage, Tier, Value};

fn breaks_at<T>(things: Vec<T>, at: usize) -> impl Iterator<Item = T> {
    things.into_iter().enumerate().map(move |(nth, thing)| {
        assert!(nth != at, "the fuse of an iterator");
        thing
    })
}

#[tokio::test]
async fn an_iterator_of_keys_that_panics_fails_its_call_and_nothing_is_asked() {
    fuse::arm(Part::Listener, 99); // for quiet alone
    let stage = Stage::new(Tier::Near, Sore).await;
    let request = stage.cache.request();
    let said = "source innocent: the iterator of keys panicked: the fuse of an iterator";
    for at in [0, 2] {
        let (many, beside) = futures_util::join!(
            request.get_many::<Innocent>(breaks_at(vec![1, 2, 3], at)),
            request.get::<Innocent>(9),
        );
        assert_eq!(many.err().map(|error| error.to_string()).as_deref(), Some(said));
        assert_eq!(beside.unwrap().unwrap().id, 9);
        let error = request.prefetch::<Innocent>(breaks_at(vec![1, 2, 3], at)).await.unwrap_err();
        assert!(error.is_panic() && error.to_string() == said, "{error}");
        let error = request.invalidate::<Innocent>(breaks_at(vec![1, 2, 3], at)).await.unwrap_err();
        assert!(error.is_panic() && error.to_string() == said, "{error}");
        let put =
            breaks_at(vec![1, 2, 3], at).map(|id| (id, Arc::new(crate::sore::Plain { id, version: 7 })));
        let error = request.put_many::<Innocent>(put).await.unwrap_err();
        assert!(error.is_panic() && error.to_string() == said, "{error}");
        // it has no place for an error, so the panic goes on to the caller
        let clone = request.clone();
        let outcomes =
            tokio::spawn(async move { clone.get_outcomes::<Innocent>(breaks_at(vec![1, 2, 3], at)).await });
        assert!(outcomes.await.unwrap_err().is_panic());
    }
    assert_eq!(stage.db.loads.lock().unwrap().keys().copied().collect::<Vec<_>>(), [9]);
    assert_eq!(request.get::<Innocent>(1).await.unwrap().unwrap().version, 0, "nothing was put");
}

/// An error that panics as often as it is asked to.
#[derive(Debug)]
struct SoreError;

impl fmt::Display for SoreError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("the fuse of an error's text")
    }
}

impl std::error::Error for SoreError {}

struct Made(bool);

impl From<Made> for BoxError {
    fn from(made: Made) -> Self {
        assert!(!made.0, "the fuse of an error's making");
        Box::new(SoreError)
    }
}

/// Fails with an error that panics while it is made, or else while it is shown.
struct Fails(Arc<AtomicBool>);

impl Source for Fails {
    type Key = u64;
    type Value = u64;
    type Error = Made;
    const NAME: &'static str = "fails";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u64]) -> Result<Rows<Self>, Made> {
        if keys.contains(&100) {
            let mut rows = Rows::new();
            for key in keys {
                match key {
                    100 => rows.fail(*key, SoreError),
                    _ => rows.insert(*key, *key),
                }
            }
            return Ok(rows);
        }
        Err(Made(self.0.load(Ordering::SeqCst)))
    }
}

#[tokio::test]
async fn an_error_that_panics_is_an_error() {
    fuse::arm(Part::Listener, 99);
    let making = Arc::new(AtomicBool::new(true));
    let builder = Cache::builder().region("objects", Region::memory()).source(Fails(making.clone()));
    let cache = builder.source(Innocent(Db::default())).build().await.unwrap();
    for (made, text) in [(true, "an error's making"), (false, "an error's text")] {
        making.store(made, Ordering::SeqCst);
        let request = cache.request();
        let (fails, innocent) = futures_util::join!(request.get::<Fails>(1), request.get::<Innocent>(1));
        let error = fails.unwrap_err();
        let said = format!("source fails: loading 1 key failed, and its error panicked: the fuse of {text}");
        assert!(error.is_panic() && error.is_source() && error.to_string() == said, "{error}");
        assert_eq!(innocent.unwrap().unwrap().id, 1);
    }
    let outcomes = cache.request().get_outcomes::<Fails>([100, 101]).await;
    let said = "source fails: loading key 100 failed, and its error panicked: the fuse of an error's text";
    assert_eq!(outcomes[&100].error().unwrap().to_string(), said);
    assert_eq!(outcomes[&101].value().unwrap().map(|value| **value), Some(101));
}

/// Panics when it is asked for its policy.
struct NoPolicy;

impl Source for NoPolicy {
    type Key = u64;
    type Value = u64;
    type Error = std::convert::Infallible;
    const NAME: &'static str = "no_policy";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, _: &[u64]) -> Result<Rows<Self>, Self::Error> {
        Ok(Rows::new())
    }

    fn policy(&self, _: &Policy) -> Policy {
        panic!("the fuse of a policy")
    }
}

/// A backend that panics when a region begins to listen to it, which one does where it tells, and when it is closed.
struct Deaf<const TELLS: bool>(Memory);

impl<const TELLS: bool> Shared for Deaf<TELLS> {
    const ABILITIES: Abilities = Abilities {
        reach: if TELLS { Reach::Processes } else { Memory::ABILITIES.reach },
        tells: TELLS,
        ..Memory::ABILITIES
    };

    mastaba_test::pass_on!(0: read, lease, fill, invalidate, hold, end, incarnation);

    fn listen(&self, _: &[u8], _: Arc<dyn Listener>) {
        panic!("the fuse of listening")
    }

    async fn close(&self) -> Result<(), Fault> {
        panic!("the fuse of closing")
    }
}

#[tokio::test]
async fn what_panics_at_start_is_a_problem_of_the_configuration() {
    fuse::arm(Part::Listener, 99);
    let builder = Cache::builder().region("objects", Region::memory()).region("other", Region::memory());
    let error = builder.source(NoPolicy).build().await.unwrap_err();
    assert!(
        error.is_config()
            && error.to_string().contains("source no_policy: `policy` panicked: the fuse of a policy"),
        "{error}"
    );

    let mangled = Region::memory().mangler(|_| panic!("the fuse of a mangler"));
    let error = Cache::builder().region("mangled", mangled).build().await.unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("region mangled: its mangler panicked") && said.contains("the fuse of a mangler"),
        "{said}"
    );

    let near = NearConfig::entries(10);
    let deaf = Region::backend(Deaf::<true>(Memory::default())).near(near);
    let error = Cache::builder().region("deaf", deaf).build().await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("region deaf: the backend panicked in listen: the fuse of listening"), "{said}");

    for awaited in [false, true] {
        let builder = Cache::from_settings([("cache.objects.backend", "mine")]);
        let open = move |_| {
            assert!(awaited, "the fuse of an opener");
            async { if true { panic!("the fuse of an opener") } else { Ok(Backend::new(Memory::default())) } }
        };
        let error = builder.backend("mine", open).build().await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("region objects: opening the backend mine panicked: the fuse of an opener"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_backend_that_panics_while_it_is_closed_is_an_error() {
    fuse::arm(Part::Listener, 99);
    let backend = Deaf::<false>(Memory::default());
    let cache = Cache::builder().region("objects", Region::backend(backend)).build().await.unwrap();
    let error = cache.close().await.unwrap_err();
    assert!(error.to_string().contains("the backend panicked in close: the fuse of closing"), "{error}");
}

/// Reads three keys of the sore source, one of which panics each time, and gives which of them failed.
async fn failed(stage: &Stage) -> Vec<u64> {
    let request = stage.cache.request();
    let (sore, innocent) = futures_util::join!(
        request.get_outcomes::<Sore>([12, 13, 14].map(Key)),
        request.get_many::<Innocent>([1, 2]),
    );
    let mut failed = Vec::new();
    {
        let _hold = fuse::hold();
        assert_eq!(innocent.unwrap().found().count(), 2);
        for (key, outcome) in sore.iter() {
            match outcome.value() {
                Ok(value) => assert_eq!(value.unwrap().version, stage.db.version()),
                Err(error) => {
                    assert!(error.is_panic() && error.to_string().contains("source sore"), "{error}");
                    failed.push(key.0);
                }
            }
        }
        drop((sore, request));
    }
    stage.cache.idle().await;
    failed
}

#[tokio::test]
async fn a_key_that_panics_each_time_fails_each_time_and_alone() {
    for tier in [Tier::Near, Tier::Shared, Tier::Null] {
        for part in [Part::KeyHash, Part::KeyClone, Part::KeySerialize] {
            if part == Part::KeySerialize && tier == Tier::Null {
                continue; // nothing writes it
            }
            let stage = Stage::new(tier, Sore).await;
            fuse::always(part, 13);
            for _ in 0..3 {
                assert_eq!(failed(&stage).await, [13], "{part:?} over {tier:?}");
            }
            fuse::disarm();
            assert_eq!(failed(&stage).await, [0; 0], "{part:?} over {tier:?}");
        }
    }
}

#[tokio::test]
async fn a_value_whose_tags_panic_is_answered_and_stored_by_nobody() {
    for tier in [Tier::Near, Tier::Shared] {
        let stage = Stage::new(tier, Sore).await;
        fuse::always(Part::Tags, 13);
        for _ in 0..3 {
            assert_eq!(failed(&stage).await, [0; 0], "{tier:?}");
        }
        let loads = |id: u64| stage.db.loads.lock().unwrap()[&id];
        assert_eq!((loads(12), loads(13), loads(14)), (1, 3, 1), "{tier:?}: those beside it are stored");
        let said: Vec<_> = stage.events.lock().unwrap().drain(..).collect();
        assert_eq!(
            said,
            ["source sore: a value was not stored: `tags` panicked: the fuse of Tags"],
            "{tier:?}"
        );
        fuse::disarm();
        assert_eq!(failed(&stage).await, [0; 0]);
        // and what was stored meanwhile has its tags
        stage.db.update();
        stage.cache.region("objects").invalidate_tag("group").await.unwrap();
        stage.cache.request().invalidate::<Innocent>([1, 2]).await.unwrap();
        assert_eq!(failed(&stage).await, [0; 0], "{tier:?}");
    }
}

#[tokio::test]
async fn values_that_panic_while_they_are_dropped_do_not_end_the_process() {
    for tier in [Tier::Near, Tier::Shared, Tier::Null] {
        let stage = Stage::new(tier, Sore).await;
        let request = stage.cache.request();
        fuse::always(Part::ValueDrop, 13);
        let read = request.get_outcomes::<Sore>([12, 13, 14].map(Key)).await;
        stage.cache.idle().await;
        // nobody has it any longer but the request and near
        drop(read);
        let near: Option<Arc<Value>> = request.get::<Sore>(Key(13)).await.unwrap();
        drop(near);
        let writer = stage.cache.request();
        let written = writer.invalidate::<Sore>([12, 13].map(Key)).await;
        assert!(written.is_ok(), "{tier:?}: {written:?}");
        stage.db.update();
        request.invalidate::<Sore>([12, 13].map(Key)).await.unwrap();
        fuse::disarm();
        assert_eq!(request.get::<Sore>(Key(13)).await.unwrap().unwrap().version, 1, "{tier:?}");
    }
}
