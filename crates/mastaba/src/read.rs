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

use std::ops::DerefMut;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::answer::{Answered, Outcome};
use crate::claim::Claim;
use crate::error::Error;
use crate::guarded::{Guarded, Panicked, guard, let_go};
use crate::limits::later;
use crate::region::{RegionCore, Stamps};
use crate::registry::Registered;
use crate::request::{Asking, Lane, Meter, PartOf, RequestCore};
use crate::shared::{Fill, Lease, Leased};
use crate::source::Source;

/// A part that gathers, bound to its source.
pub(crate) struct Bound<S: Source> {
    pub(crate) part: Arc<PartOf<S>>,
    pub(crate) source: Arc<Registered<S>>,
    pub(crate) lane: Lane,
    /// A loader waits for one of its keys.
    pub(crate) nested: bool,
    /// The keys, once sent and until they are claimed.
    pub(crate) keys: Option<Vec<(usize, S::Key)>>,
}

impl<S: Source> Drop for Bound<S> {
    /// Sent, and the task that was to carry it never ran: its keys go back to their readers.
    fn drop(&mut self) {
        if self.keys.is_some() {
            self.part.settle(Vec::new());
        }
    }
}

/// A [`Bound`] whose source is not known.
pub(crate) trait AnyPart: Send {
    fn id(&self) -> u64;
    fn set_nested(&mut self);
    fn sleepers(&self, into: &mut Vec<Waker>);
    fn send(&mut self, begun: u64, hurry: &CancellationToken);
    fn claim(&mut self, request: &Arc<RequestCore>, hurry: &CancellationToken) -> Option<Box<dyn AnyClaim>>;
    fn fail(&mut self, error: &Error);
}

impl<S: Source> AnyPart for Bound<S> {
    fn id(&self) -> u64 {
        self.part.id
    }

    fn set_nested(&mut self) {
        self.nested = true;
    }

    fn sleepers(&self, into: &mut Vec<Waker>) {
        self.part.sleepers(into);
    }

    fn send(&mut self, begun: u64, hurry: &CancellationToken) {
        self.keys = Some(self.part.send(begun, hurry));
    }

    fn claim(&mut self, request: &Arc<RequestCore>, hurry: &CancellationToken) -> Option<Box<dyn AnyClaim>> {
        let keys = self.keys.take().filter(|keys| !keys.is_empty())?;
        Some(Box::new(Claim::new(self, request.clone(), keys, hurry.clone())))
    }

    fn fail(&mut self, error: &Error) {
        let keys = self.part.send(0, &CancellationToken::new());
        // nobody waits any longer for those that were not sent
        let count = keys.last().map_or(0, |(at, _)| at + 1);
        let error = error.named(S::NAME);
        let failed = || Some(Answered { outcome: Outcome::Failed(error.clone()), sound: false });
        self.part.settle(std::iter::repeat_with(failed).take(count).collect());
    }
}

/// The keys of one part on their way, whatever their source.
///
/// The methods are called in the order in which they stand here.
pub(crate) trait AnyClaim: Send {
    fn region(&self) -> &Arc<RegionCore>;
    /// Where near answers only after a ping: looks what it may know, and sets that aside. Whether there is any.
    fn set_aside(&mut self) -> bool;
    /// Near, where its values have to be decoded for each request, or were set aside.
    fn recall_near(&mut self, fenced: bool);
    /// The tags that every entry of this source stands under.
    fn tags(&self) -> &'static [&'static str];
    /// Adds the keys to read from the shared tier, and how many.
    fn wanted(&mut self, keys: &mut Vec<Bytes>) -> usize;
    /// Those keys again, and what the shared tier has under them; `None`: it is out, or knows nothing.
    fn recall(&mut self, keys: &mut [Bytes], found: Option<(&[Option<Bytes>], &Stamps)>);
    /// Tags that entries stand under whose stamps are not known yet.
    fn unproven(&self) -> Vec<String>;
    /// The stamps of those tags.
    fn prove(&mut self, stamps: Option<&Stamps>);
    /// Boards flights, and tells which leases its own one needs. `None`: it loads nothing.
    fn board(&mut self, ready: bool) -> Option<Vec<Lease>>;
    /// What became of the leases; `None`: nothing may be stored.
    fn leased(&mut self, leased: Option<(&[Leased], &Stamps)>);
    /// Whether there is anything to wait for.
    fn waits(&self) -> bool;
    /// Loads what it has to, waits for what others load, until every key is answered.
    fn load(&mut self) -> BoxFuture<'_, ()>;
    /// Whether there is a hook on what enters the request.
    fn is_hooked(&self) -> bool;
    /// That hook.
    fn enter(&mut self) -> BoxFuture<'_, ()>;
    /// Answers its readers.
    fn settle(&mut self);
    /// Whether it loaded anything itself, or others joined its flight: then there is more to do than to answer.
    fn brought(&self) -> bool;
    /// Tags of loaded values whose stamps have to be read before they can be stored.
    fn untagged(&mut self) -> Vec<String>;
    /// What to store, for the shared tier.
    fn fills(&mut self, tags: Option<&Stamps>) -> Vec<Fill>;
    /// Which of them were stored.
    fn filled(&mut self, stored: &[bool]);
    /// The keys that were answered with something to be refreshed in the background.
    fn refreshes(&mut self) -> Option<Box<dyn AnyClaim>>;
    /// How long the rest of the batch waits for its load.
    fn patience(&self) -> Duration;
    /// Something of it panicked that was not known to: its keys fail, and nothing of it is stored.
    fn cut_off(&mut self, why: &Panicked);
}

/// Has a claim do something. A panic costs its own keys, and those of no other claim of the batch.
fn alone<C: AnyClaim + ?Sized, T: Default>(claim: &mut C, work: impl FnOnce(&mut C) -> T) -> T {
    guard(|| work(claim)).unwrap_or_else(|why| {
        claim.cut_off(&why);
        T::default()
    })
}

type Claims = Vec<Box<dyn AnyClaim>>;
type Loading = FuturesUnordered<BoxFuture<'static, Box<dyn AnyClaim>>>;

/// Sends the parts of one turn on their way, in a task of its own: no reader depends on another one being
/// polled, and none takes the load with it when it goes.
///
/// Outside of a runtime, or on one that lacks something, it fails the parts, and says so.
pub(crate) fn send(request: &Arc<RequestCore>, mut parts: Vec<Box<dyn AnyPart>>) -> Result<(), ()> {
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
                let claims = parts.iter_mut().filter_map(|part| part.claim(&request, &hurry)).collect();
                read(claims, asking, &hurry, &Meter::new(request.clone(), true)).await;
            };
            // what the user runs is guarded where it runs; should anything else panic, its readers are told so
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                request.cut_off(Panicked::new(panic));
            }
        }
    };
    home.spawn(work.instrument(span));
    Ok(())
}

/// Answers every key, asking each tier only for what the tier above did not know.
async fn read(claims: Claims, asking: Asking, hurry: &CancellationToken, meter: &Meter) {
    let regions = by_region(claims);
    let recalled = join_all(regions.into_iter().map(|(region, claims)| recall(region, claims, meter)));
    let mut recalled = pin!(recalled);
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
    load(claims.into_iter().flatten().collect(), hurry, meter).await;
}

fn by_region(claims: Claims) -> Vec<(Arc<RegionCore>, Claims)> {
    let mut regions: Vec<(Arc<RegionCore>, Claims)> = Vec::new();
    for claim in claims {
        match regions.iter_mut().find(|(region, _)| Arc::ptr_eq(region, claim.region())) {
            Some((_, claims)) => claims.push(claim),
            None => regions.push((claim.region().clone(), vec![claim])),
        }
    }
    regions
}

/// Near and shared: one read for all sources of a region, and leases for what it missed.
async fn recall(region: Arc<RegionCore>, mut claims: Claims, meter: &Meter) -> Claims {
    region.keep_told();
    let mut fenced = region.is_fenced() && meter.request().is_fenced(&region);
    let mut ready = true;
    // all claims are looked at: no short cut
    let aside = |claims: &mut Claims| {
        claims.iter_mut().fold(false, |any, claim| alone(&mut **claim, AnyClaim::set_aside) | any)
    };
    if region.is_fenced() && !fenced && aside(&mut claims) {
        // near answers after the ping, which travels beside the read of what near does not know
        let renewals = meter.request().renewals();
        (fenced, ready) = futures_util::join!(region.catch_up(meter), ask(&region, &mut claims, meter));
        if fenced {
            meter.request().set_fenced(&region, renewals);
        }
    }
    claims.iter_mut().for_each(|claim| alone(&mut **claim, |claim| claim.recall_near(fenced)));
    ready &= ask(&region, &mut claims, meter).await;
    prove(&region, &mut claims, meter).await;
    // a tier that did not answer the read is not asked for leases (R1: what it has was not seen)
    lease(&region, &mut claims, ready, meter).await;
    claims
}

/// One read of the shared tier for what is wanted of it. Whether it answered, if it was asked.
async fn ask(region: &RegionCore, claims: &mut Claims, meter: &Meter) -> bool {
    let mut keys = Vec::new();
    let mut tags: Vec<&'static str> = Vec::new();
    let mut counts = Vec::with_capacity(claims.len());
    for claim in claims.iter_mut() {
        let wanted = claim.wanted(&mut keys);
        counts.push(wanted);
        if wanted > 0 {
            tags.extend(claim.tags());
        }
    }
    if keys.is_empty() {
        return true;
    }
    tags.sort_unstable();
    tags.dedup();
    let found = region.read(meter, &mut keys, &tags).await;
    let mut from = 0;
    for (claim, count) in claims.iter_mut().zip(counts) {
        if count > 0 {
            let its = from..from + count;
            let found = found.as_ref().map(|(records, stamps)| (&records[its.clone()], stamps));
            alone(&mut **claim, |claim| claim.recall(&mut keys[its], found));
            from += count;
        }
    }
    found.is_some()
}

/// Reads the stamps of the tags that hits stand under, where they were not read with them: one trip more.
async fn prove(region: &RegionCore, claims: &mut Claims, meter: &Meter) {
    let mut unproven: Vec<String> = claims.iter().flat_map(|claim| claim.unproven()).collect();
    unproven.sort_unstable();
    unproven.dedup();
    let stamps = if unproven.is_empty() {
        Some(Stamps::default())
    } else {
        region.read_tags(meter, unproven).await.map(|tags| Stamps { tags, ..Stamps::default() })
    };
    claims.iter_mut().for_each(|claim| alone(&mut **claim, |claim| claim.prove(stamps.as_ref())));
}

/// Boards flights, and takes the leases that the new ones need.
pub(crate) async fn lease<C, D>(region: &RegionCore, claims: &mut [C], ready: bool, meter: &Meter)
where
    C: DerefMut<Target = D> + Send,
    D: AnyClaim + ?Sized,
{
    if !claims.iter().any(|claim| claim.waits()) {
        return; // everything was found
    }
    let mut leases = Vec::new();
    let mut tags: Vec<&'static str> = Vec::new();
    let mut counts = Vec::with_capacity(claims.len());
    for claim in claims.iter_mut() {
        let wanted = alone(&mut **claim, |claim| claim.board(ready));
        counts.push(wanted.as_ref().map(Vec::len));
        if let Some(wanted) = wanted {
            tags.extend(claim.tags());
            leases.extend(wanted);
        }
    }
    if counts.iter().all(Option::is_none) {
        return;
    }
    tags.sort_unstable();
    tags.dedup();
    let answer = if ready { region.lease(meter, &leases, &tags).await } else { None };
    let mut from = 0;
    for (claim, count) in claims.iter_mut().zip(counts) {
        if let Some(count) = count {
            let answer = answer.as_ref().map(|(leased, stamps)| (&leased[from..from + count], stamps));
            alone(&mut **claim, |claim| claim.leased(answer));
            from += count;
        }
    }
}

/// The source, and everything after it.
async fn load(claims: Claims, hurry: &CancellationToken, meter: &Meter) {
    if !claims.iter().any(|claim| claim.waits()) {
        return finish(claims, meter).await;
    }
    let (waiting, ready): (Claims, Claims) = claims.into_iter().partition(|claim| claim.waits());
    let patience = waiting.iter().map(|claim| claim.patience()).max().unwrap_or_default();
    let mut loading: Loading = waiting.into_iter().map(load_one).collect();
    let mut together = ready;
    let patience = sleep_until(later(Instant::now(), patience));
    tokio::pin!(patience);
    loop {
        tokio::select! {
            biased;
            claim = loading.next() => match claim {
                Some(claim) => together.push(claim),
                None => break,
            },
            () = &mut patience => break,
            // a load waits for what is here: it would wait for itself
            () = hurry.cancelled() => break,
        }
    }
    futures_util::join!(finish(together, meter), finish_late(loading, meter));
}

/// Finishes each late claim when its load has come, while the others go on loading.
async fn finish_late(mut loading: Loading, meter: &Meter) {
    let mut finishing: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(claim) = loading.next() => finishing.push(finish(vec![claim], meter)),
            Some(()) = finishing.next() => {}
            else => break,
        }
    }
}

fn load_one(mut claim: Box<dyn AnyClaim>) -> BoxFuture<'static, Box<dyn AnyClaim>> {
    Box::pin(async move {
        let loaded = Guarded::of(claim.load()).await;
        if let Err(why) = loaded {
            claim.cut_off(&why);
        }
        claim
    })
}

/// Hooks, answers, and then, with nobody waiting, one fill per region and the refreshes.
fn finish(mut claims: Claims, meter: &Meter) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        // a hook may read what others of the batch have brought, so these are answered first
        let settling = meter.request().traffic.settling();
        claims
            .iter_mut()
            .filter(|claim| !claim.is_hooked())
            .for_each(|claim| alone(&mut **claim, AnyClaim::settle));
        drop(settling);
        let hooked = claims.iter_mut().filter(|claim| claim.is_hooked());
        join_all(hooked.map(|claim| async {
            let entered = Guarded::of(claim.enter()).await;
            if let Err(why) = entered {
                claim.cut_off(&why);
            }
            let _settling = meter.request().traffic.settling();
            alone(&mut **claim, AnyClaim::settle);
        }))
        .await;
        let refreshes = claims.iter_mut().filter_map(|claim| alone(&mut **claim, AnyClaim::refreshes));
        let refreshes: Claims = refreshes.collect();
        let (brought, answered): (Claims, Claims) = claims.into_iter().partition(|claim| claim.brought());
        answered.into_iter().for_each(let_go);
        let claims = brought;
        let meter = meter.in_background();
        if !claims.is_empty() {
            // Encoding what is to be stored takes its time, and a reader that was woken on this thread has not been
            // polled yet: it goes first.
            yield_now().await;
            let fills = by_region(claims).into_iter().map(|(region, claims)| fill(region, claims, &meter));
            join_all(fills).await;
        }
        if !refreshes.is_empty() {
            refresh(refreshes, &meter).await;
        }
    })
}

/// Loads anew, in the background, what was served stale or is about to be.
async fn refresh(claims: Claims, meter: &Meter) {
    let leased = by_region(claims).into_iter().map(|(region, mut claims)| async move {
        lease(&region, &mut claims, true, meter).await;
        claims
    });
    let claims = join_all(leased).await.into_iter().flatten().collect();
    load(claims, &CancellationToken::new(), meter).await;
}

/// One fill for everything that was loaded for a region.
async fn fill(region: Arc<RegionCore>, mut claims: Claims, meter: &Meter) {
    let mut untagged: Vec<String> =
        claims.iter_mut().flat_map(|claim| alone(&mut **claim, AnyClaim::untagged)).collect();
    untagged.sort_unstable();
    untagged.dedup();
    let tags = if untagged.is_empty() {
        None
    } else {
        let untagged: Vec<_> = untagged.iter().map(String::as_str).collect();
        region.lease(meter, &[], &untagged).await.map(|(_, stamps)| stamps)
    };
    let mut fills = Vec::new();
    let mut counts = Vec::with_capacity(claims.len());
    for claim in &mut claims {
        let of_claim = alone(&mut **claim, |claim| claim.fills(tags.as_ref()));
        counts.push(of_claim.len());
        fills.extend(of_claim);
    }
    let stored = if fills.is_empty() { Vec::new() } else { region.fill(meter, &fills).await };
    let mut from = 0;
    for (claim, count) in claims.iter_mut().zip(counts) {
        alone(&mut **claim, |claim| claim.filled(&stored[from..from + count]));
        from += count;
    }
    claims.into_iter().for_each(let_go);
}
