//! One call after the other panics: the first hash of a key, the second, and so on until there is none left.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use mastaba::{Error, Force, Outcome, RequestCache, Source};

use crate::fuse::{self, Part};
use crate::sore::{Elsewhere, Hooked, Innocent, Key, Sore, Stage, Tier, Value};

const ABSENT: u64 = 999;

fn keys() -> Vec<Key> {
    [12, 13, 14, ABSENT].map(Key).into()
}

/// What came of one run.
struct Run {
    part: Part,
    what: String,
}

impl Run {
    /// The error of a key that failed: it says whose code panicked, and what that said.
    fn knows(&self, error: &Error) {
        let said = error.to_string();
        assert!(error.is_panic(), "{}: {said}", self.what);
        assert!(said.contains("sore"), "{}: no source in: {said}", self.what);
        assert!(
            said.contains(&format!("the fuse of {:?}", self.part)),
            "{}: no message in: {said}",
            self.what
        );
        let of = match self.part {
            Part::KeyHash => "`Hash`",
            Part::KeyEq => "`Eq`",
            Part::KeyClone => "`Clone`",
            Part::KeySerialize => "`Serialize` of a key",
            Part::LoadCalled | Part::LoadAwaited => "the loader",
            Part::BeforeStoreCalled | Part::BeforeStoreAwaited => "before_store",
            Part::AfterFetchCalled | Part::AfterFetchAwaited => "after_fetch",
            Part::Mangler => "mangler",
            _ => "",
        };
        assert!(said.contains(of), "{}: {of} is not named in: {said}", self.what);
    }

    /// How many of four keys may fail by one panic.
    fn most(&self) -> usize {
        match self.part {
            // of a row: then what has no row fails as well
            Part::KeyHash | Part::KeyEq | Part::KeyClone => 2,
            Part::KeySerialize | Part::Mangler => 1,
            Part::LoadCalled
            | Part::LoadAwaited
            | Part::BeforeStoreCalled
            | Part::BeforeStoreAwaited
            | Part::AfterFetchCalled
            | Part::AfterFetchAwaited => 4,
            // a drop that panics in the reader's own poll is the reader's
            Part::KeyDrop | Part::ValueDrop => 4,
            _ => 0,
        }
    }

    /// Reads everything at once. Gives how many keys of the sore source failed.
    async fn round<S: Source<Key = Key, Value = Value>>(
        &self,
        stage: &Stage,
        request: &RequestCache,
    ) -> usize {
        let (sore, innocent, elsewhere) = futures_util::join!(
            AssertUnwindSafe(request.get_outcomes::<S>(keys())).catch_unwind(),
            request.get_many::<Innocent>([1, 2]),
            request.get_many::<Elsewhere>([1, 2]),
        );
        let _hold = fuse::hold();
        let (what, version) = (&self.what, stage.db.version());
        let innocent = innocent.unwrap_or_else(|why| panic!("{what}: an innocent one failed: {why}"));
        let elsewhere = elsewhere.unwrap_or_else(|why| panic!("{what}: one in another region failed: {why}"));
        for (id, value) in innocent.iter().chain(elsewhere.iter()) {
            let value = value.as_ref().expect("it has a row");
            assert_eq!((value.id, value.version), (*id, version), "{what}");
        }
        let Ok(sore) = sore else {
            assert!(matches!(self.part, Part::KeyDrop | Part::ValueDrop), "{what}: it unwound to the reader");
            return 4;
        };
        assert_eq!(sore.len(), 4, "{what}");
        let mut failed = 0;
        for (key, outcome) in sore.iter() {
            match outcome {
                Outcome::Value { value, .. } => {
                    assert_eq!((value.id, value.version), (key.0, version), "{what}");
                }
                Outcome::Absent { .. } => assert_eq!(key.0, ABSENT, "{what}: an absence that is none"),
                Outcome::Failed(error) => {
                    self.knows(error);
                    failed += 1;
                }
                Outcome::Stale { .. } => panic!("{what}: {key:?} is stale"),
            }
        }
        assert!(failed <= self.most(), "{what}: {failed} keys failed");
        failed
    }

    /// Reads cold and warm, past what is known, and writes; whether the fuse blew.
    async fn play<S: Source<Key = Key, Value = Value>>(&self, stage: &Stage, calls: usize) -> bool {
        plant(stage).await;
        fuse::arm(self.part, calls);
        let cold = stage.cache.request();
        let mut failed = self.round::<S>(stage, &cold).await;
        failed += self.round::<S>(stage, &cold).await;
        stage.cache.idle().await;
        for force in [Force::No, Force::PastRequest, Force::Refresh, Force::No] {
            let request = stage.cache.request().with(force);
            failed += self.round::<S>(stage, &request).await;
            stage.cache.idle().await;
            drop_held(request);
        }
        assert!(failed <= self.most(), "{}: one panic failed {failed} keys", self.what);
        // one writes, while another has read before it
        stage.db.update();
        let writer = stage.cache.request();
        let written = AssertUnwindSafe(async {
            futures_util::join!(writer.invalidate::<S>(keys()), writer.invalidate::<Innocent>([1, 2]))
        });
        let written = written.catch_unwind().await;
        stage.cache.region("others").clear().await.unwrap();
        {
            let _hold = fuse::hold();
            match written {
                Ok((sore, innocent)) => {
                    // what the backend did not confirm is in force in this process
                    innocent.unwrap_or_else(|why| panic!("{}: {why}", self.what));
                    if let Err(error) = sore {
                        self.knows(&error);
                        stage.cache.request().invalidate::<S>(keys()).await.unwrap();
                    }
                }
                Err(_) => {
                    assert!(matches!(self.part, Part::KeyDrop | Part::ValueDrop), "{}", self.what);
                    stage.cache.request().invalidate::<S>(keys()).await.unwrap();
                    stage.cache.request().invalidate::<Innocent>([1, 2]).await.unwrap();
                }
            }
        }
        // whatever it was that panicked: acknowledged is acknowledged
        self.round::<S>(stage, &writer).await;
        let reader = stage.cache.request();
        self.round::<S>(stage, &reader).await;
        stage.cache.idle().await;
        drop_held((cold, writer, reader));
        let blown = fuse::disarm();
        self.is_whole::<S>(stage).await;
        blown
    }

    /// Nothing panics any longer: everything is answered, stored under its tags, and voided by them.
    async fn is_whole<S: Source<Key = Key, Value = Value>>(&self, stage: &Stage) {
        for _ in 0..2 {
            let request = stage.cache.request();
            assert_eq!(self.round::<S>(stage, &request).await, 0, "{}", self.what);
            stage.cache.idle().await;
            stage.db.update();
            stage.cache.region("objects").invalidate_tag("group").await.unwrap();
            stage.cache.request().invalidate::<Innocent>([1, 2]).await.unwrap();
            stage.cache.region("others").clear().await.unwrap();
        }
        let request = stage.cache.request();
        assert_eq!(self.round::<S>(stage, &request).await, 0, "{}", self.what);
        // or the next run would meet what is left of this one
        stage.cache.idle().await;
        let events = stage.events.lock().unwrap();
        let shut_down = events.iter().find(|event| event.contains("shut down"));
        assert_eq!(shut_down, None, "{}", self.what);
    }
}

/// Something that a cache says an event about.
async fn plant(stage: &Stage) {
    use mastaba::shared::{Lease, Shared};
    let lease = Lease {
        key: "mastaba:objects:sore:12".into(),
        record: "nonsense".into(),
        over: None,
        ttl: std::time::Duration::from_secs(3600),
    };
    stage.memory.lease(&[lease], &[]).await.unwrap();
}

fn drop_held<T>(things: T) {
    let _hold = fuse::hold();
    drop(things);
}

/// Lets the calls of a part panic one after the other, until a run has no such call left. Gives how many there were.
async fn one_after_the_other<S: Source<Key = Key, Value = Value>>(
    part: Part,
    tier: Tier,
    source: impl Fn(crate::sore::Db) -> S,
) -> usize {
    for calls in 0.. {
        let run = Run { part, what: format!("{part:?} at call {calls} over {tier:?}") };
        let stage = Stage::new(tier, &source).await;
        if !run.play::<S>(&stage, calls).await {
            return calls;
        }
    }
    unreachable!()
}

/// Whether a part is run at all.
fn has_part(part: Part, tier: Tier, hooked: bool) -> bool {
    match part {
        Part::BackendCalled | Part::BackendAwaited | Part::Incarnation => tier == Tier::Shared,
        Part::AfterFetchCalled | Part::AfterFetchAwaited => hooked,
        Part::Mangler | Part::Listener => tier != Tier::Null,
        // of a hook's values each request has its own
        Part::ValueSerialize | Part::ValueDeserialize => tier != Tier::Null || hooked,
        _ => true,
    }
}

async fn every_part(tier: Tier) {
    for part in Part::ALL {
        let plain = one_after_the_other(part, tier, Sore).await;
        let hooked = one_after_the_other(part, tier, Hooked).await;
        assert_eq!(plain > 0, has_part(part, tier, false), "{part:?} over {tier:?}: {plain} calls");
        assert_eq!(hooked > 0, has_part(part, tier, true), "{part:?} over {tier:?}, hooked: {hooked} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn each_panic_costs_its_own_keys_where_near_answers() {
    every_part(Tier::Near).await;
}

#[tokio::test(start_paused = true)]
async fn each_panic_costs_its_own_keys_where_other_processes_read() {
    every_part(Tier::Shared).await;
}

#[tokio::test(start_paused = true)]
async fn each_panic_costs_its_own_keys_where_nothing_is_shared() {
    every_part(Tier::Null).await;
}
