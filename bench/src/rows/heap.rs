//! P9: heap allocations of a multi-get of 100. Counts, which do not depend on the machine.

use std::hint::black_box;

use mastaba::{Cache, NearConfig, Region, RequestCache};
use stats_alloc::Region as Counted;
use tokio::runtime::Runtime;

use crate::fixture::{UserById, cache, map, runtime};
use crate::rounds::{Case, Effort, Table, measure};

const N: i64 = 100;

pub(crate) fn measured(_: Effort) -> Vec<Table> {
    let runtime = runtime();
    let map = map(N);
    let known = cache(&runtime, Region::memory(), 0..N);
    let near = cache(&runtime, Region::memory().near(NearConfig::entries(10_000)), 0..N);
    let request = known.request();
    runtime.block_on(request.prefetch::<UserById>(0..N)).expect("users");
    let table = |row: &str, about: &str, goal: f64, ours: Box<dyn FnMut() -> f64 + '_>| {
        let reference = || {
            allocations(|| {
                black_box((0..N).map(|id| (id, map.get(&id).cloned())).collect::<Vec<_>>());
            })
        };
        let cases = vec![Case::new("reference", reference), Case::new("mastaba", ours)];
        let about = format!("allocations of a multi-get of 100, {about}; reference: a Vec from a map (1)");
        measure(format!("P9 {row}"), about, ("allocs", Some(goal)), 5, cases)
    };
    vec![
        table("request", "all known to the request", 1.0, Box::new(|| get(&runtime, &request))),
        table("near", "all in near, new request included", 110.0, Box::new(|| anew(&runtime, &near))),
        table(
            "shared",
            "all in the memory backend, new request included",
            528.0,
            Box::new(|| anew(&runtime, &known)),
        ),
    ]
}

fn anew(runtime: &Runtime, cache: &Cache) -> f64 {
    allocations(|| {
        let request = cache.request();
        black_box(runtime.block_on(request.get_many::<UserById>(0..N))).expect("users");
    })
}

fn get(runtime: &Runtime, request: &RequestCache) -> f64 {
    allocations(|| {
        black_box(runtime.block_on(request.get_many::<UserById>(0..N))).expect("users");
    })
}

#[allow(clippy::cast_precision_loss)]
fn allocations(work: impl FnOnce()) -> f64 {
    let counted = Counted::new(crate::ALLOCATOR);
    work();
    let change = counted.change();
    (change.allocations + change.reallocations) as f64
}
