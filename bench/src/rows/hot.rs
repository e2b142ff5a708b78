//! P1: a get of what the request knows.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::{Arc, Mutex};

use async_graphql::dataloader::{DataLoader, HashMapCache, Loader};
use mastaba::Region;

use crate::fixture::{UserById, cache, keys, map, per, runtime, user};
use crate::rounds::{Case, Effort, Table, measure};

const DISTINCT: i64 = 1000;

struct HotUsers;

impl Loader<i64> for HotUsers {
    type Value = Arc<crate::fixture::User>;
    type Error = Infallible;

    async fn load(&self, ids: &[i64]) -> Result<std::collections::HashMap<i64, Self::Value>, Infallible> {
        Ok(ids.iter().map(|id| (*id, Arc::new(user(*id)))).collect())
    }
}

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let keys = keys(DISTINCT, if effort.quick { 2_000 } else { 50_000 });
    let count = keys.len();
    let runtime = runtime();
    let map = map(DISTINCT);
    let locked = Mutex::new(map.clone());
    let quick = quick_cache::sync::Cache::new(10 * DISTINCT as usize);
    let moka = moka::future::Cache::new(10 * DISTINCT as u64);
    let cache = cache(&runtime, Region::memory(), []);
    let request = cache.request();
    let loader = DataLoader::with_cache(HotUsers, tokio::spawn, HashMapCache::default());
    runtime.block_on(async {
        for (id, user) in &map {
            quick.insert(*id, user.clone());
            moka.insert(*id, user.clone()).await;
        }
        request.prefetch::<UserById>(0..DISTINCT).await.expect("users");
        loader.load_many(0..DISTINCT).await.expect("users");
    });
    let cases = vec![
        Case::new("reference", || {
            per(count, || keys.iter().for_each(|id| drop(black_box(map.get(id).cloned()))))
        }),
        Case::new("map in a mutex", || {
            let get = |id| locked.lock().expect("no panic").get(id).cloned();
            per(count, || keys.iter().for_each(|id| drop(black_box(get(id)))))
        }),
        Case::new("mastaba", || {
            runtime.block_on(async {
                let began = std::time::Instant::now();
                for id in &keys {
                    black_box(request.get::<UserById>(*id).await.expect("a user"));
                }
                nanos(began, count)
            })
        }),
        Case::new("quick_cache", || per(count, || keys.iter().for_each(|id| drop(black_box(quick.get(id)))))),
        Case::new("moka future", || {
            runtime.block_on(async {
                let began = std::time::Instant::now();
                for id in &keys {
                    black_box(moka.get(id).await);
                }
                nanos(began, count)
            })
        }),
        Case::new("async-graphql DataLoader", || {
            runtime.block_on(async {
                let began = std::time::Instant::now();
                for id in &keys {
                    black_box(loader.load_one(*id).await.expect("a user"));
                }
                nanos(began, count)
            })
        }),
    ];
    vec![measure(
        "P1",
        "hot single get in one request, async",
        ("ns/get", Some(2.2)),
        effort.rounds(101),
        cases,
    )]
}

#[allow(clippy::cast_precision_loss)]
fn nanos(began: std::time::Instant, count: usize) -> f64 {
    began.elapsed().as_nanos() as f64 / count as f64
}
