//! Every public future can be spawned: checked whenever the library is compiled, with whatever features.
//!
//! A future is `Send` by what it holds while it waits, which no signature shows. A field that is not `Sync` is enough
//! to take it away from everybody who builds a cache in a task, so the compiler is asked here. Nothing of this runs.

use std::sync::Arc;

use crate::{Cache, CacheBuilder, Index, Lazy, List, RegionHandle, RequestCache, Scope, Source, Write};

const fn send<T: Send>(_: &T) {}
const fn send_and_sync<T: Send + Sync>() {}

const _: () = {
    send_and_sync::<Cache>();
    send_and_sync::<CacheBuilder>();
    send_and_sync::<RegionHandle>();
    send_and_sync::<RequestCache>();
    send_and_sync::<Scope>();
    send_and_sync::<Write>();
};

fn of_a_cache(builder: CacheBuilder, cache: &Cache, region: &RegionHandle) {
    send(&builder.build());
    send(&cache.idle());
    send(&cache.close());
    send(&region.clear());
    send(&region.invalidate_tag("tag"));
    send(&cache.scope("job").run(|request| async move { drop(request) }));
}

fn of_a_request<S: Source>(request: &RequestCache, key: &S::Key, value: &Arc<S::Value>, lazy: &Lazy<S>) {
    let one = || key.clone();
    send(&request.get::<S>(one()));
    send(&request.get_many::<S>([one()]));
    send(&request.get_outcomes::<S>([one()]));
    send(&request.peek::<S>(one()));
    send(&request.prefetch::<S>([one()]));
    send(&request.refresh::<S>(one()));
    send(&request.invalidate::<S>([one()]));
    send(&request.put::<S>(one(), value.clone()));
    send(&request.put_many::<S>([(one(), value.clone())]));
    send(&lazy.get(request));
    send(&request.once("name", one(), || std::future::ready(Ok::<_, String>(()))));
    let write = request.write();
    send(&write.invalidate::<S>([one()]));
    send(&write.hold());
    send(&write.put::<S>(one(), value.clone()));
    send(&write.published());
    send(&request.write().commit(std::future::ready(Ok::<_, String>(()))));
}

fn of_what_leads_to_rows<I: Index, L: List>(request: &RequestCache, index: &I::Key, list: &L::Key) {
    send(&request.find_by::<I>(index.clone()));
    send(&request.find_many_by::<I>([index.clone()]));
    send(&request.list_by::<L>(list.clone()));
    send(&request.list_many_by::<L>([list.clone()]));
}

#[cfg(feature = "expand")]
fn of_an_expansion<T: serde::Serialize + Sync>(request: &RequestCache, value: &T) {
    send(&request.expand(value));
}

#[cfg(feature = "embedded")]
fn of_a_file(config: crate::shared::embedded::EmbeddedConfig) {
    send(&crate::shared::embedded::Embedded::open(config));
}
