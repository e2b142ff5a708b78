//! P8: the cost per key as calls and requests grow, and what an idle request holds.

use std::hint::black_box;
use std::time::Instant;

use mastaba::Region;
use stats_alloc::Region as Counted;

use crate::fixture::{UserById, cache, runtime};
use crate::rounds::{Case, Effort, Table, measure};

/// The reference of growth.
const BASE: i64 = 100;

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let mut tables = Vec::new();
    let sizes: &[i64] = if effort.quick { &[10, 1000] } else { &[10, 1000, 10_000, 100_000] };
    let runtime = runtime();
    let warm = cache(&runtime, Region::memory(), 0..*sizes.last().unwrap_or(&BASE));
    let cold = cache(&runtime, Region::null(), []);
    for (word, cache) in [("cold", &cold), ("warm", &warm)] {
        let per_key = |keys: i64| {
            // as many keys in all, whatever the size of a call
            let calls = (10_000 / keys).max(1);
            runtime.block_on(async {
                let began = Instant::now();
                for _ in 0..calls {
                    black_box(cache.request().get_many::<UserById>(0..keys).await.expect("users"));
                }
                nanos(began, calls * keys)
            })
        };
        for size in sizes {
            tables.push(measure(
                format!("P8 {word} {size} keys"),
                format!("one call of {size} keys, {word}; reference: {BASE} keys; per key"),
                ("ns/key", (*size >= BASE).then_some(1.5)),
                effort.rounds(21),
                vec![Case::new("reference", || per_key(BASE)), Case::new("mastaba", || per_key(*size))],
            ));
        }
    }
    let requests: &[i64] = if effort.quick { &[1000] } else { &[1, 10, 1000, 10_000] };
    let in_flight = |count: i64| {
        let times = (10_000 / count).max(1);
        runtime.block_on(async {
            let began = Instant::now();
            for _ in 0..times {
                let gets: Vec<_> = (0..count)
                    .map(|id| {
                        let request = warm.request();
                        tokio::spawn(async move { request.get::<UserById>(id % 1000).await })
                    })
                    .collect();
                for get in gets {
                    black_box(get.await.expect("no panic").expect("a user"));
                }
            }
            nanos(began, times * count)
        })
    };
    for count in requests {
        tables.push(measure(
            format!("P8 {count} requests"),
            format!("{count} requests in flight, one get each; reference: {BASE}; per request"),
            ("ns/request", (*count >= BASE).then_some(1.5)),
            effort.rounds(21),
            vec![Case::new("reference", || in_flight(BASE)), Case::new("mastaba", || in_flight(*count))],
        ));
    }
    tables.push(measure(
        "P8 idle request",
        "bytes on the heap of a request that has asked for nothing; reference: 1 KiB",
        ("bytes", Some(1.0)),
        3,
        vec![
            Case::new("reference", || 1024.0),
            Case::new("mastaba", || {
                let counted = Counted::new(crate::ALLOCATOR);
                let request = black_box(warm.request());
                let change = counted.change();
                drop(request);
                #[allow(clippy::cast_precision_loss)]
                let bytes = change.bytes_allocated as f64;
                bytes
            }),
        ],
    ));
    tables
}

#[allow(clippy::cast_precision_loss)]
fn nanos(began: Instant, count: i64) -> f64 {
    began.elapsed().as_nanos() as f64 / count as f64
}
