//! What a request holds: tier 1, what gathers, and what the request has cost.

use std::any::TypeId;
use std::future::poll_fn;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use smallvec::SmallVec;
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::cut_off_elsewhere;
use super::lookout::Lookout;
use super::once::Onces;
use super::slot::{AnySlot, Glance, Slot};
use super::standby::{LONGEST, StandBy};
use super::stash::Stash;
use super::traffic::Traffic;
use crate::cache::CacheCore;
use crate::error::Error;
use crate::guarded::Panicked;
use crate::read::LookingUp;
use crate::region::RegionCore;
use crate::report::{Metered, Report, Trip, Trips};
use crate::runtime::minder::WakeSleepers;
use crate::source::Source;
use crate::sync::lock;
use crate::telemetry;

pub(crate) struct RequestCore {
    pub(crate) cache: Arc<CacheCore>,
    /// The route of a web service, or the name of a job; empty if it has none.
    pub(crate) name: String,
    pub(super) began: Instant,
    /// Who comes and goes, for those who wait to send.
    pub(crate) traffic: Traffic,
    /// Who waits to send until others have asked.
    pub(super) stand_by: StandBy<Id>,
    /// Who sends what gathers. Shared with its minder, which keeps no request alive.
    pub(crate) lookout: Arc<Lookout<Id>>,
    pub(crate) state: Mutex<RequestState>,
    /// This request has written: its loads ask for the writing database.
    pub(crate) wrote: AtomicBool,
    pub(super) stash: Stash,
    pub(super) onces: Onces,
}

/// Tier 1.
pub(crate) struct RequestState {
    /// One per source, found by type: a request rarely uses more than a few.
    pub(crate) slots: SmallVec<[(TypeId, Box<dyn AnySlot>); 2]>,
    /// The parts that gather keys now.
    pub(crate) gathering: Parts,
    /// Parts that were made in an earlier turn take no more keys.
    pub(crate) turn: u64,
    pub(crate) next_part: u64,
    pub(crate) trips: Trips,
    /// Operations of the shared tier that were not tried.
    pub(crate) passed_over: u64,
    /// Writes that have not been published and concern keys that are not known: everything is read past
    /// the shared tier until they are.
    pub(crate) wide_writes: usize,
    /// Writes that have been begun and have not ended.
    pub(crate) open_writes: usize,
    /// The regions for which this request has made sure of the notifications of every change before its first read. They live
    /// as long as the cache, and so as long as this: no other one is ever found at the same place.
    pub(crate) fenced: Vec<usize>,
    /// How often the request was renewed.
    pub(super) renewals: u64,
    /// The number of the latest call, by which keys that it names twice are found.
    call: u32,
    pub(crate) glance: Glance,
    /// What a batch ended with that did not come to its end.
    cut_off: Option<Panicked>,
}

/// What gathers: of one source or two, mostly.
pub(crate) type Parts = SmallVec<[Box<dyn AnyPart>; 2]>;

/// A [`Bound`](super::Bound) whose source is not known.
pub(crate) trait AnyPart: Send {
    fn id(&self) -> u64;
    fn set_nested(&mut self);
    fn sleepers(&self, into: &mut Vec<Waker>);
    fn send(&mut self, begun: u64, hurry: &CancellationToken);
    fn claim(
        self: Box<Self>,
        request: &Arc<RequestCore>,
        hurry: &CancellationToken,
    ) -> Option<Box<dyn LookingUp>>;
    fn fail(&mut self, error: &Error);
}

impl Drop for RequestCore {
    fn drop(&mut self) {
        for (_, slot) in &lock(&self.state).slots {
            telemetry::request_ended(&slot.outcomes(), slot.region());
        }
    }
}

impl Metered for RequestCore {
    fn began(&self) -> Instant {
        self.began
    }

    fn add_trip(&self, trip: Trip) {
        lock(&self.state).trips.push(trip);
    }

    fn add_passed_over(&self) {
        lock(&self.state).passed_over += 1;
    }
}

impl WakeSleepers for RequestCore {
    fn wake_sleepers(&self) {
        let mut sleepers = Vec::new();
        lock(&self.state).gathering.iter().for_each(|part| part.sleepers(&mut sleepers));
        sleepers.into_iter().for_each(Waker::wake);
    }
}

impl RequestCore {
    pub(super) fn new(cache: Arc<CacheCore>, name: String) -> Arc<Self> {
        Arc::new(Self {
            cache,
            name,
            began: Instant::now(),
            traffic: Traffic::default(),
            stand_by: StandBy::default(),
            lookout: Arc::default(),
            state: Mutex::new(RequestState {
                slots: SmallVec::new(),
                gathering: Parts::new(),
                turn: 0,
                next_part: 0,
                trips: Trips::default(),
                passed_over: 0,
                wide_writes: 0,
                open_writes: 0,
                fenced: Vec::new(),
                renewals: 0,
                call: 0,
                glance: Glance::new(),
                cut_off: None,
            }),
            wrote: AtomicBool::new(false),
            stash: Stash::default(),
            onces: Onces::default(),
        })
    }

    /// Its route, or the name of its job, where it has one.
    pub(crate) fn route(&self) -> Option<&str> {
        Some(self.name.as_str()).filter(|name| !name.is_empty())
    }

    /// What it has cost up to now.
    pub(super) fn report(&self) -> Report {
        let state = lock(&self.state);
        let (trips, earlier) = state.trips.copy();
        Report {
            trips,
            earlier,
            outcomes: state.slots.iter().map(|(_, slot)| slot.outcomes()).collect(),
            passed_over: state.passed_over,
            elapsed: self.began.elapsed(),
        }
    }

    /// Where the slot of a source is, made on first use.
    pub(crate) fn slot<S: Source>(&self, state: &mut RequestState) -> Result<usize, Error> {
        let id = TypeId::of::<S>();
        if let Some(at) = state.slots.iter().position(|(each, _)| *each == id) {
            return Ok(at);
        }
        let source = self.cache.source::<S>()?;
        state.slots.push((id, Box::new(Slot::<S>::new(source))));
        Ok(state.slots.len() - 1)
    }

    /// Whether near of a region may answer this request.
    pub(crate) fn is_fenced(&self, region: &Arc<RegionCore>) -> bool {
        lock(&self.state).fenced.contains(&region.id())
    }

    /// How often it was renewed: to be asked for before what is said by [`set_fenced`](RequestCore::set_fenced) begins.
    pub(crate) fn renewals(&self) -> u64 {
        lock(&self.state).renewals
    }

    /// This request has made sure of every notification of a region, unless it was renewed since.
    pub(crate) fn set_fenced(&self, region: &Arc<RegionCore>, renewals: u64) {
        let mut state = lock(&self.state);
        if state.renewals == renewals && !state.fenced.contains(&region.id()) {
            state.fenced.push(region.id());
        }
    }

    /// A batch of this request ended in a panic that nothing had foreseen.
    pub(crate) fn cut_off(&self, why: Panicked) {
        lock(&self.state).cut_off = Some(why);
    }

    /// What to say of keys that came back without an answer: why the task that carried them did not come to its end.
    pub(super) fn why_cut_off(&self, source: &str) -> Error {
        if self.cache.has_ended_here() {
            return Error::usage(format!(
                "source {source}: the tokio runtime of this read was shut down, and nothing can be read on it any longer; \
                 read on one that runs"
            ));
        }
        match &lock(&self.state).cut_off {
            Some(why) => Error::panicked(source, "a read was cut off three times; what carried it", why),
            None => cut_off_elsewhere(source),
        }
    }

    /// Has the runtime of the caller mind a gathering in which a reader goes to sleep here. Whether it does: where there is no
    /// runtime to, a reader must not sleep.
    pub(super) fn is_minded(self: &Arc<Self>, gathering: usize) -> bool {
        // mostly another reader has seen to it: then it costs no more than to know where this is
        if Handle::try_current().is_ok_and(|here| self.lookout.is_minded(&here.id(), gathering)) {
            return true;
        }
        let Ok(home) = self.cache.home("a read that has to ask a tier") else { return false };
        if !self.lookout.set_minded(home.id(), gathering) {
            let request: Arc<dyn WakeSleepers> = self.clone();
            home.mind(&request, self.lookout.clone(), gathering);
        }
        true
    }
}

/// While it lives, a batch of this request asks the shared tier, and others stand by for it.
pub(crate) struct Asking {
    request: Arc<RequestCore>,
    id: u64,
}

impl Asking {
    pub(crate) fn new(request: &Arc<RequestCore>, home: Id) -> Self {
        Self { request: request.clone(), id: request.stand_by.begin(home) }
    }

    /// Ends once it has been stood by for as long as anybody may.
    pub(crate) async fn was_long(&self) {
        poll_fn(|cx| self.request.stand_by.is_waited_for(self.id, cx)).await;
        sleep(LONGEST).await;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.request.stand_by.end(self.id);
    }
}

impl RequestState {
    /// A number for the keys of a new call.
    pub(super) fn next_call(&mut self) -> u32 {
        if self.call == u32::MAX {
            // a key that was marked so long ago would pass for a twin of this call
            self.slots.iter_mut().for_each(|(_, slot)| slot.unmark());
            self.call = 0;
        }
        self.call += 1;
        self.call
    }

    /// The number of the latest call.
    pub(super) fn call(&self) -> u32 {
        self.call
    }

    /// Forgets what is known, where a write may have changed it. What is on its way stays.
    pub(crate) fn forget_all(&mut self, region: Option<&str>, tick: u64) {
        for (_, slot) in &mut self.slots {
            if region.is_none_or(|region| region == slot.region()) {
                slot.forget_all(tick);
            }
        }
        self.turn_page();
    }

    /// What gathers from now on gathers in new parts: keys were forgotten that the present ones have, and no
    /// part may have a key twice.
    pub(crate) fn turn_page(&mut self) {
        self.turn += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::future::join_all;

    use super::*;
    use crate::report::kept::KEPT;
    use crate::request::RequestCache;
    use crate::{Cache, LoadContext, NearConfig, Region, Rows};

    struct Double;

    impl Source for Double {
        type Key = u32;
        type Value = u32;
        type Error = Infallible;
        const NAME: &'static str = "double";
        const REGION: &'static str = "objects";

        async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, Infallible> {
            Ok(keys.iter().map(|key| (*key, key * 2)).collect())
        }
    }

    async fn cache(region: Region) -> Cache {
        Cache::builder().region("objects", region).source(Double).build().await.unwrap()
    }

    /// Everything of a request that could grow.
    #[derive(Debug, PartialEq)]
    struct Size {
        trips: usize,
        cells: usize,
        room: usize,
        written: usize,
        slots: usize,
        gathering: usize,
        fenced: usize,
        open_writes: usize,
        handles: usize,
    }

    fn size(request: &RequestCache) -> Size {
        let mut state = lock(&request.inner.state);
        let state = &mut *state;
        let slots = state.slots.len();
        let slot = Slot::<Double>::of(&mut state.slots[0].1);
        Size {
            trips: state.trips.copy().0.len(),
            cells: slot.cells.len(),
            room: slot.cells.capacity(),
            written: slot.written.len(),
            slots,
            gathering: state.gathering.len() + slot.parts(),
            fenced: state.fenced.len(),
            open_writes: state.open_writes,
            handles: Arc::strong_count(&request.inner),
        }
    }

    #[tokio::test]
    async fn a_request_that_is_renewed_does_not_grow_however_long_it_lives() {
        let cache = cache(Region::memory().near(NearConfig::entries(10_000))).await;
        let request = cache.request();
        let (mut batches, mut loaded) = (0, 0);
        for message in 0..5000 {
            request.renew();
            // half of them were read for the message before
            let keys = message * 10..message * 10 + 20;
            let gets = join_all(keys.clone().map(|key| request.get::<Double>(key))).await;
            for (key, value) in keys.clone().zip(gets) {
                assert_eq!(value.unwrap().as_deref(), Some(&(key * 2)));
            }
            if message % 10 == 0 {
                request.invalidate::<Double>([message * 10]).await.unwrap();
                assert_eq!(
                    request.get::<Double>(message * 10).await.unwrap().as_deref(),
                    Some(&(message * 20))
                );
            }
            batches += 1;
            loaded += keys.len();
        }
        cache.idle().await;
        let report = request.report();
        let answered: u64 = report.sum(|o| o.request_hits + o.near_hits + o.shared_hits + o.loaded);
        assert!(answered >= 100_000 && loaded == 100_000, "{answered}");
        assert!(report.statements() >= batches, "every message had something new");
        assert!(report.earlier_trips() > 10_000, "{}", report.earlier_trips());
        let Size { cells, room, gathering, .. } = size(&request);
        assert!(cells <= 20 && room < 100 && gathering <= 1, "{cells} in {room}, {gathering} gathering");
        request.renew();
        let empty = Size {
            trips: KEPT,
            cells: 0,
            room: 0,
            written: 0,
            slots: 1,
            gathering: 0,
            fenced: 0,
            open_writes: 0,
            handles: 1,
        };
        assert_eq!(size(&request), empty);
    }

    #[tokio::test]
    async fn the_mark_of_a_call_comes_again_without_harm() {
        let request = cache(Region::memory()).await.request();
        request.get::<Double>(1).await.unwrap();
        for start in [u32::MAX - 2, u32::MAX - 1, u32::MAX] {
            lock(&request.inner.state).call = start;
            for _ in 0..4 {
                let doubles = request.get_many::<Double>([1, 2, 1]).await.unwrap();
                assert_eq!((doubles.keys().count(), doubles[&1].as_deref()), (2, Some(&2)));
            }
        }
    }
}
