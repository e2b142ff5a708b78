//! THE read path: one batch, from the request down the tiers and back.
//!
//! ```text
//! request ──► near ──► shared, one read ──► leases, for misses ──► source, one load each ──► answers
//!                                                                                              └──► fill
//! ```
//!
//! A batch holds what was awaited together: parts of several sources, in several regions. What was asked
//! together is answered together, so that what it leads to travels together again; only a load that is
//! slower than its soft budget is not waited for by the rest.

mod pool;
mod states;

use std::ops::DerefMut;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use smallvec::{SmallVec, smallvec};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::pool::{Pool, distinct};
pub(crate) use self::states::{Answering, Loading, LookingUp, Missing, OnTheWay, Storing};
use crate::guarded::{Guarded, Panicked, guard, let_go};
use crate::limits::later;
use crate::region::{RegionCore, Stamps};
use crate::report::Meter;
use crate::request::{Asking, Glance, Parts, RequestCore, RequestState};

/// Has a claim do something. A panic costs its own keys, and those of no other claim of the batch.
fn alone<C: OnTheWay + ?Sized, T: Default>(claim: &mut C, work: impl FnOnce(&mut C) -> T) -> T {
    guard(|| work(claim)).unwrap_or_else(|why| {
        claim.cut_off(&why);
        T::default()
    })
}

// A batch of hits is answered in the task of its own alone. What only a miss, a hook or a ping needs stands in boxes, for
// a task is as large as all that it may ever wait for, and is copied when it begins and when it ends.

/// Of one source or two, mostly: these then cost no allocation beside their own.
type All<D> = SmallVec<[Box<D>; 2]>;
/// Mostly one.
type ByRegion<D> = SmallVec<[(Arc<RegionCore>, All<D>); 1]>;
type Loads = FuturesUnordered<BoxFuture<'static, Box<dyn Answering>>>;

/// The request that a batch is read for, and where its trips are written down.
struct Caller {
    request: Arc<RequestCore>,
    meter: Meter,
}

impl Caller {
    fn new(request: &Arc<RequestCore>) -> Self {
        Self { request: request.clone(), meter: Meter::new(request.clone(), true) }
    }

    /// The same for what nobody waits for.
    fn in_background(&self) -> Self {
        Self { request: self.request.clone(), meter: self.meter.in_background() }
    }
}

impl RequestCore {
    /// Sends everything that has gathered.
    pub(crate) fn send(self: &Arc<Self>, state: &mut RequestState) {
        state.turn_page();
        state.glance = Glance::new();
        if state.gathering.is_empty() {
            return; // another reader was faster
        }
        let parts = std::mem::take(&mut state.gathering);
        let sent = send(self, parts);
        // after it: who sees another number finds its part sent
        self.lookout.sent();
        if sent.is_err() {
            state.forget_all(None, self.cache.tick());
        }
    }
}

/// Sends the parts of one turn on their way, in a task of its own: no reader depends on another one being
/// polled, and none takes the load with it when it goes.
///
/// Outside of a runtime, or on one that lacks something, it fails the parts, and says so.
fn send(request: &Arc<RequestCore>, mut parts: Parts) -> Result<(), ()> {
    let home = match request.cache.home("a read that has to ask a tier") {
        Ok(home) => home,
        Err(error) => {
            parts.iter_mut().for_each(|part| part.fail(&error));
            return Err(());
        }
    };
    let begun = request.cache.tick();
    let hurry = CancellationToken::new();
    parts.iter_mut().for_each(|part| part.send(begun, &hurry));
    let span = tracing::debug_span!(target: "mastaba", "read", parts = parts.len());
    let asking = Asking::new(request, home.id());
    let work = {
        let request = request.clone();
        async move {
            let work = async {
                let claims = parts.into_iter().filter_map(|part| part.claim(&request, &hurry)).collect();
                read(claims, asking, &hurry, &Caller::new(&request)).await;
            };
            // what the user runs is guarded where it runs; should anything else panic, its readers get an error
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                request.cut_off(Panicked::new(panic));
            }
        }
    };
    home.spawn(work.instrument(span));
    Ok(())
}

/// Answers every key, asking each tier only for what the tier above did not know.
async fn read(claims: All<dyn LookingUp>, asking: Asking, hurry: &CancellationToken, caller: &Caller) {
    let mut recalled = pin!(of_each_region(claims, |region, claims| recall(region, claims, caller)));
    let in_time = tokio::select! {
        biased;
        claims = recalled.as_mut() => Some(claims),
        () = asking.was_long() => None,
    };
    drop(asking);
    let claims = match in_time {
        Some(claims) => claims,
        None => recalled.await,
    };
    load(claims, hurry, caller).await;
}

/// Does something with the claims of each region, for all regions at a time, and gives them as that leaves them.
async fn of_each_region<D, E, F>(claims: All<D>, work: impl Fn(Arc<RegionCore>, All<D>) -> F) -> All<E>
where
    D: OnTheWay + ?Sized,
    E: ?Sized,
    F: Future<Output = All<E>>,
{
    let mut regions = ByRegion::<D>::new();
    for claim in claims {
        match regions.iter_mut().find(|(region, _)| Arc::ptr_eq(region, claim.region())) {
            Some((_, claims)) => claims.push(claim),
            None => regions.push((claim.region().clone(), smallvec![claim])),
        }
    }
    if regions.len() <= 1 {
        // which needs nobody to poll several
        return match regions.pop() {
            Some((region, claims)) => work(region, claims).await,
            None => All::new(),
        };
    }
    let done = join_all(regions.into_iter().map(|(region, claims)| work(region, claims))).await;
    done.into_iter().flatten().collect()
}

/// Near and shared: one read for all sources of a region, and leases for what it missed.
async fn recall(
    region: Arc<RegionCore>,
    mut claims: All<dyn LookingUp>,
    caller: &Caller,
) -> All<dyn Missing> {
    let Caller { request, meter } = caller;
    region.keep_told();
    let mut fenced = region.is_fenced() && request.is_fenced(&region);
    let mut ready = true;
    // all claims are looked at: no short cut
    let left_to_near = |claims: &mut All<dyn LookingUp>| {
        claims.iter_mut().fold(false, |any, claim| alone(&mut **claim, LookingUp::leave_to_near) | any)
    };
    if region.is_fenced() && !fenced && left_to_near(&mut claims) {
        (fenced, ready) = ask_beside_a_ping(&region, &mut claims, caller).await;
    }
    claims.iter_mut().for_each(|claim| alone(&mut **claim, |claim| claim.look_into_near(fenced)));
    ready &= ask(&region, &mut claims, meter).await;
    let unproven = distinct(claims.iter().flat_map(|claim| claim.unproven_tags()));
    let stamps = if unproven.is_empty() {
        Some(Stamps::default())
    } else {
        // those of the tags of hits, where they were not read with them: one trip more
        region.read_tags(meter, unproven).boxed().await.map(|tags| Stamps { tags, ..Stamps::default() })
    };
    claims.iter_mut().for_each(|claim| alone(&mut **claim, |claim| claim.prove_all(stamps.as_ref())));
    let mut missing: All<dyn Missing> = claims.into_iter().map(LookingUp::missing).collect();
    if missing.iter().any(|claim| claim.waits()) {
        // a tier that did not answer the read is not asked for leases (R1: what it has was not seen)
        lease(&region, &mut missing, ready, meter).boxed().await;
    }
    missing
}

/// Where near answers only after a ping: that travels beside the read of what near does not know. Whether near may answer,
/// and whether the shared tier does.
fn ask_beside_a_ping<'c>(
    region: &'c Arc<RegionCore>,
    claims: &'c mut All<dyn LookingUp>,
    Caller { request, meter }: &'c Caller,
) -> BoxFuture<'c, (bool, bool)> {
    Box::pin(async move {
        let renewals = request.renewals();
        let (fenced, ready) = futures_util::join!(region.catch_up(meter), ask(region, claims, meter));
        if fenced {
            request.set_fenced(region, renewals);
        }
        (fenced, ready)
    })
}

/// One read of the shared tier for what is wanted of it. Whether it answered, if it was asked.
async fn ask(region: &RegionCore, claims: &mut All<dyn LookingUp>, meter: &Meter) -> bool {
    let Pool { asks: mut keys, tags, shares } = Pool::gather(claims, LookingUp::ask_for);
    if keys.is_empty() {
        return true;
    }
    let found = region.read(meter, &mut keys, &tags).await;
    shares.scatter(claims, |claim, its| {
        let found = found.as_ref().map(|(records, stamps)| (&records[its.clone()], stamps));
        alone(claim, |claim| claim.look_at(&mut keys[its], found));
    });
    found.is_some()
}

/// Joins flights, and takes the leases that the new ones need.
pub(crate) async fn lease<C, D>(region: &RegionCore, claims: &mut [C], ready: bool, meter: &Meter)
where
    C: DerefMut<Target = D> + Send,
    D: Missing + ?Sized,
{
    let pool = Pool::gather(claims, |claim, leases| {
        let wanted = alone(claim, |claim| claim.board_flights(ready));
        let takes_part = wanted.is_some();
        leases.extend(wanted.unwrap_or_default());
        takes_part
    });
    let Pool { asks: leases, tags, shares } = pool;
    if shares.are_none() {
        return;
    }
    let answer = if ready { region.lease(meter, &leases, &tags).await } else { None };
    shares.scatter(claims, |claim, its| {
        let answer = answer.as_ref().map(|(leased, stamps)| (&leased[its], stamps));
        alone(claim, |claim| claim.take_leases(answer));
    });
}

/// The source, and everything after it.
async fn load(claims: All<dyn Missing>, hurry: &CancellationToken, caller: &Caller) {
    if claims.iter().any(|claim| claim.waits()) {
        load_misses(claims, hurry, caller).await;
    } else {
        finish(claims.into_iter().filter_map(|claim| claim.loading().err()).collect(), caller).await;
    }
}

fn load_misses<'c>(
    claims: All<dyn Missing>,
    hurry: &'c CancellationToken,
    caller: &'c Caller,
) -> BoxFuture<'c, ()> {
    Box::pin(async move {
        let (mut loads, mut together, mut patience) = (Loads::new(), All::new(), Duration::ZERO);
        for claim in claims {
            match claim.loading() {
                Ok(loading) => {
                    patience = patience.max(loading.patience());
                    loads.push(load_one(loading));
                }
                Err(answered) => together.push(answered),
            }
        }
        let patience = sleep_until(later(Instant::now(), patience));
        tokio::pin!(patience);
        loop {
            tokio::select! {
                biased;
                claim = loads.next() => match claim {
                    Some(claim) => together.push(claim),
                    None => break,
                },
                () = &mut patience => break,
                // a load waits for what is here: it would wait for itself
                () = hurry.cancelled() => break,
            }
        }
        futures_util::join!(finish(together, caller), finish_late(loads, caller));
    })
}

/// Finishes each late claim when its load has come, while the others go on loading.
async fn finish_late(mut loads: Loads, caller: &Caller) {
    let mut finishing: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(claim) = loads.next() => finishing.push(finish(smallvec![claim], caller).boxed()),
            Some(()) = finishing.next() => {}
            else => break,
        }
    }
}

fn load_one(mut claim: Box<dyn Loading>) -> BoxFuture<'static, Box<dyn Answering>> {
    Box::pin(async move {
        let loaded = Guarded::of(claim.load()).await;
        if let Err(why) = loaded {
            claim.cut_off(&why);
        }
        claim.answering()
    })
}

/// Hooks, answers, and then, with nobody waiting, one fill per region and the refreshes.
async fn finish(mut claims: All<dyn Answering>, caller: &Caller) {
    // a hook may read what others of the batch have brought, so these are answered first
    let settling = caller.request.traffic.settling();
    claims
        .iter_mut()
        .filter(|claim| !claim.is_hooked())
        .for_each(|claim| alone(&mut **claim, Answering::answer_readers));
    drop(settling);
    if claims.iter().any(|claim| claim.is_hooked()) {
        hook(&mut claims, caller).await;
    }
    let refreshes = claims.iter_mut().filter_map(|claim| alone(&mut **claim, Answering::refreshes));
    let refreshes: All<dyn Missing> = refreshes.collect();
    let brought: All<dyn Storing> = claims.into_iter().filter_map(Answering::storing).collect();
    if !(brought.is_empty() && refreshes.is_empty()) {
        store(brought, refreshes, caller.in_background()).await;
    }
}

/// Hooks, and answers.
fn hook<'c>(claims: &'c mut All<dyn Answering>, caller: &'c Caller) -> BoxFuture<'c, ()> {
    let hooked = claims.iter_mut().filter(|claim| claim.is_hooked());
    let hooked = hooked.map(move |claim| async move {
        let entered = Guarded::of(claim.enter()).await;
        if let Err(why) = entered {
            claim.cut_off(&why);
        }
        let _settling = caller.request.traffic.settling();
        alone(&mut **claim, Answering::answer_readers);
    });
    join_all(hooked).map(drop).boxed()
}

/// What nobody waits for.
fn store(claims: All<dyn Storing>, refreshes: All<dyn Missing>, caller: Caller) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        if !claims.is_empty() {
            // Encoding what is to be stored takes its time, and a reader that was woken on this thread has not been
            // polled yet: it goes first.
            yield_now().await;
            of_each_region(claims, |region, claims| fill(region, claims, &caller.meter)).await;
        }
        if !refreshes.is_empty() {
            refresh(refreshes, &caller).await;
        }
    })
}

/// Loads anew what was served stale or is about to be.
async fn refresh(claims: All<dyn Missing>, caller: &Caller) {
    let leased = of_each_region(claims, |region, mut claims| async move {
        lease(&region, &mut claims, true, &caller.meter).await;
        claims
    });
    load(leased.await, &CancellationToken::new(), caller).await;
}

/// One fill for everything that was loaded for a region.
async fn fill(region: Arc<RegionCore>, mut claims: All<dyn Storing>, meter: &Meter) -> All<dyn Storing> {
    let named = claims.iter_mut().flat_map(|claim| alone(&mut **claim, Storing::name_tags));
    let untagged = distinct(named);
    let tags = if untagged.is_empty() {
        None
    } else {
        let untagged: Vec<_> = untagged.iter().map(String::as_str).collect();
        region.lease(meter, &[], &untagged).await.map(|(_, stamps)| stamps)
    };
    let pool = Pool::gather(&mut claims, |claim, fills| {
        fills.extend(alone(claim, |claim| claim.make_fills(tags.as_ref())));
        true // who joined gets the result in any case
    });
    let stored = if pool.asks.is_empty() { Vec::new() } else { region.fill(meter, &pool.asks).await };
    pool.shares.scatter(&mut claims, |claim, its| alone(claim, |claim| claim.confirm(&stored[its])));
    claims.drain(..).for_each(let_go);
    claims
}
