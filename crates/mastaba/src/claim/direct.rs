//! Loads through a connection of the caller's: past all tiers, and stored in none.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fetch::{Fetch, Stage, guarded};
use crate::error::Error;
use crate::event::Event;
use crate::limits::later;
use crate::registry::Registered;
use crate::report::{Meter, Operation};
use crate::request::{Nesting, RequestCache, inside};
use crate::source::{Fetched, LoadContext, LoadIn, Rows, Source};
use crate::telemetry;
use crate::waits::Load;

/// A key with what was found.
type Pair<S> = (<S as Source>::Key, Option<Arc<<S as Source>::Value>>);

/// Loads distinct keys through a connection, a call for as many as the source takes at a time, with the hooks that every
/// load has. Nothing is stored, not even in the request: what an open transaction sees may never be committed (`R4`).
pub(crate) async fn load_in<S: LoadIn<C>, C: Send + ?Sized>(
    request: &RequestCache,
    source: &Registered<S>,
    connection: &mut C,
    mut keys: Vec<S::Key>,
) -> Result<Vec<Pair<S>>, Error> {
    let most = source.policy.max_batch.max(1);
    let mut found = Vec::with_capacity(keys.len());
    while !keys.is_empty() {
        let rest = keys.split_off(keys.len().min(most));
        let keys = std::mem::replace(&mut keys, rest);
        let fetched = fetch(request, source, connection, &keys).await?;
        for (key, fetched) in keys.into_iter().zip(fetched) {
            found.push((
                key,
                match fetched {
                    Fetch::Row(value, _) => Some(Arc::new(value)),
                    Fetch::Absent(_) => None,
                    Fetch::Failed(error) => return Err(error),
                },
            ));
        }
    }
    after_fetch(request, source, found).await
}

/// One call of the loader, within the hard budget.
async fn fetch<S: LoadIn<C>, C: Send + ?Sized>(
    request: &RequestCache,
    source: &Registered<S>,
    connection: &mut C,
    keys: &[S::Key],
) -> Result<Vec<Fetch<S>>, Error> {
    let (nested, load) = nested::<S>(request);
    let limit = limit(source);
    let began = Instant::now();
    let cx = LoadContext::new(&nested, true, limit.1, false);
    let loaded = guarded::<S, _, _, _>(Stage::Load, keys.len(), limit, || {
        inside(&load, source.source.load_in(connection, keys))
    });
    let done = match loaded.await {
        Ok(mut rows) => before_store(source, &cx, &load, limit, keys.len(), &mut rows).await.map(|()| rows),
        Err(error) => Err(error),
    };
    let took = began.elapsed();
    let events = &request.inner.cache.events;
    let fetched = done.map(|rows| source.sort(events, keys, rows));
    let statements = 1 + cx.facts.statements() as usize;
    let meter = Meter::new(request.inner.clone(), true);
    meter.trip(Operation::Load, S::name(), keys.len(), statements, (began, took), fetched.is_err());
    let counts = (keys.len(), statements);
    telemetry::load(S::name(), &source.region.name, counts, took, fetched.as_ref().err());
    fetched.inspect_err(|error| {
        events.tell(Event::LoadFailed { source: S::name(), keys: keys.len(), error: error.clone() });
    })
}

async fn before_store<S: Source>(
    source: &Registered<S>,
    cx: &LoadContext<'_>,
    load: &Arc<Load>,
    limit: (Duration, Instant),
    count: usize,
    rows: &mut Rows<S>,
) -> Result<(), Error> {
    guarded::<S, _, _, _>(Stage::BeforeStore, count, limit, || {
        inside(load, source.source.before_store(cx, rows))
    })
    .await
}

/// The hook on everything that enters a request, on values that nobody else has.
async fn after_fetch<S: Source>(
    request: &RequestCache,
    source: &Registered<S>,
    found: Vec<Pair<S>>,
) -> Result<Vec<Pair<S>>, Error> {
    let (mut there, mut places, mut all) = (Vec::new(), Vec::new(), Vec::with_capacity(found.len()));
    for (at, (key, value)) in found.into_iter().enumerate() {
        match value {
            Some(value) => {
                places.push(at);
                there.push((key, value));
            }
            None => all.push((at, (key, None))),
        }
    }
    if !there.is_empty() {
        let (nested, load) = nested::<S>(request);
        let limit = limit(source);
        let cx = LoadContext::new(&nested, true, limit.1, false);
        let count = there.len();
        let mut fetched = Fetched::<S>::new(there);
        let done = guarded::<S, _, _, _>(Stage::AfterFetch, count, limit, || {
            inside(&load, source.source.after_fetch(&cx, &mut fetched))
        });
        done.await?;
        let rows = fetched.rows.into_iter().map(|(key, value)| (key, Some(value)));
        all.extend(places.into_iter().zip(rows));
        all.sort_by_key(|(at, _)| *at);
    }
    Ok(all.into_iter().map(|(_, found)| found).collect())
}

/// The request as hooks see it.
fn nested<S: Source>(request: &RequestCache) -> (RequestCache, Arc<Load>) {
    let load = Load::new(S::name());
    let nesting = Nesting::new(request.inner.cache.tick(), &load);
    (RequestCache::nested(request.inner.clone(), Some(nesting)), load)
}

fn limit<S: Source>(source: &Registered<S>) -> (Duration, Instant) {
    let budget = source.policy.source_budget;
    (budget, later(Instant::now(), budget))
}
