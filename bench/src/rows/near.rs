//! P2: a hit of near, from a request that is new for every hundred keys; its creation and the insert into its
//! map are part of the figure.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use mastaba::{NearConfig, Region};

use crate::fixture::{User, UserById, cache, keys, map, runtime};
use crate::rounds::{Case, Effort, Table, measure};

const DISTINCT: i64 = 1000;

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let keys = keys(DISTINCT, if effort.quick { 2_000 } else { 50_000 });
    let one = runtime();
    let map = map(DISTINCT);
    let near = Region::memory().near(NearConfig::entries(100_000));
    let cache = cache(&one, near, 0..DISTINCT);
    let quick = quick_cache::sync::Cache::new(100_000);
    let moka = moka::future::Cache::new(100_000);
    for (id, user) in &map {
        quick.insert(*id, user.clone());
        one.block_on(moka.insert(*id, user.clone()));
    }
    let measured = |threads: usize, name: &str| {
        let cases = vec![
            Case::new("reference", || {
                on(threads, &keys, |_, keys| {
                    // as private as a request's own map is: nothing is shared between the threads
                    let map = map.iter().map(|(id, user)| (*id, Arc::new(User::clone(user)))).collect();
                    time(keys, |id| {
                        let map: &crate::fixture::Map = &map;
                        black_box(map.get(id).cloned());
                    })
                })
            }),
            Case::new("mastaba", || {
                on(threads, &keys, |runtime, keys| {
                    runtime.block_on(async {
                        let began = Instant::now();
                        for keys in keys.chunks(100) {
                            let request = cache.request();
                            for id in keys {
                                black_box(request.get::<UserById>(*id).await.expect("a user"));
                            }
                        }
                        nanos(began, keys.len())
                    })
                })
            }),
            Case::new("quick_cache", || {
                on(threads, &keys, |_, keys| {
                    time(keys, |id| {
                        black_box(quick.get(id));
                    })
                })
            }),
            Case::new("moka future", || {
                on(threads, &keys, |runtime, keys| {
                    runtime.block_on(async {
                        let began = Instant::now();
                        for id in keys {
                            black_box(moka.get(id).await);
                        }
                        nanos(began, keys.len())
                    })
                })
            }),
        ];
        let about = format!("near hit from a new request per 100 keys, {name}, shared by the threads");
        let goal = ("ns/get", Some(5.0));
        measure(format!("P2 {name}"), about, goal, effort.rounds(61), cases)
    };
    vec![measured(1, "1 thread"), measured(2, "2 threads")]
}

/// The same on several threads at once: the mean of what each measured.
#[allow(clippy::cast_precision_loss)]
fn on(threads: usize, keys: &[i64], work: impl Fn(&tokio::runtime::Runtime, &[i64]) -> f64 + Sync) -> f64 {
    let start = Barrier::new(threads);
    let sum: f64 = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let runtime = runtime();
                    start.wait();
                    work(&runtime, keys)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    sum / threads as f64
}

fn time(keys: &[i64], get: impl Fn(&i64)) -> f64 {
    let began = Instant::now();
    keys.iter().for_each(get);
    nanos(began, keys.len())
}

#[allow(clippy::cast_precision_loss)]
fn nanos(began: Instant, count: usize) -> f64 {
    began.elapsed().as_nanos() as f64 / count as f64
}
