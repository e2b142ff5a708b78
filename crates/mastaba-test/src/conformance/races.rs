//! Each operation on one key is atomic.

use std::future::Future;
use std::sync::Arc;

use mastaba::shared::{End, Ended, Filled, Hold, Leased, Shared, Stamp, WriteOutcome};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::trial::{Checked, LONG, Trial, fault, same};

/// How often a race is run.
const ROUNDS: usize = 10;

/// Lets all of them start at the same time.
pub(super) async fn together<T: Send + 'static, F>(racers: impl Iterator<Item = F>) -> Checked<Vec<T>>
where
    F: Future<Output = Checked<T>> + Send + 'static,
{
    let racers: Vec<_> = racers.collect();
    let start = Arc::new(Barrier::new(racers.len()));
    let mut racers: JoinSet<_> = racers
        .into_iter()
        .map(|racer| {
            let start = Arc::clone(&start);
            async move {
                start.wait().await;
                racer.await
            }
        })
        .collect();
    let mut out = Vec::new();
    while let Some(done) = racers.join_next().await {
        out.push(done.map_err(|panic| format!("an operation panicked: {panic}"))??);
    }
    Ok(out)
}

pub(super) async fn of_fifty_leases_one_is_granted<B: Shared>(trial: &Trial<B>) -> Checked {
    for round in 0..ROUNDS {
        let key = trial.key(round);
        let leases = (0..50).map(|_| {
            let (store, lease) = (Arc::clone(&trial.store), trial.lease(&key, None, LONG).0);
            async move { Ok(store.lease(&[lease], &[]).await.map_err(fault("lease"))?.leased.remove(0)) }
        });
        let leased = together(leases).await?;
        let granted = leased.iter().filter(|it| **it == Leased::Granted).count();
        same(&granted, &1, "leases granted of fifty at the same time")?;
    }
    Ok(())
}

pub(super) async fn of_fifty_fills_under_one_fence_one_is_stored<B: Shared>(trial: &Trial<B>) -> Checked {
    for round in 0..ROUNDS {
        let key = trial.key(round);
        let fence = trial.granted(&key).await?;
        let fills = (0..50).map(|_| {
            let (store, fill) = (Arc::clone(&trial.store), trial.value(&key, fence, b"value"));
            async move { Ok(store.fill(&[fill]).await.map_err(fault("fill"))?.remove(0)) }
        });
        let filled = together(fills).await?;
        let stored = filled.iter().filter(|it| **it == Filled::Stored).count();
        same(&stored, &1, "fills stored of fifty at the same time")?;
    }
    Ok(())
}

pub(super) async fn fifty_askers_of_a_missing_stamp_get_the_same<B: Shared>(trial: &Trial<B>) -> Checked {
    for round in 0..ROUNDS {
        let key = trial.key(round);
        let askers = (1..=50).map(|value| {
            let (store, stamp) = (Arc::clone(&trial.store), Stamp { key: key.clone(), value, ttl: None });
            async move { Ok(store.lease(&[], &[stamp]).await.map_err(fault("lease"))?.stamps.remove(0)) }
        });
        let mut stamps = together(askers).await?;
        stamps.sort_unstable();
        stamps.dedup();
        same(&stamps.len(), &1, "different stamps that fifty askers got")?;
    }
    Ok(())
}

pub(super) async fn no_fill_survives_an_invalidation_at_the_same_time<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    for round in 0..ROUNDS * 5 {
        let key = trial.key(round);
        let fence = trial.granted(&key).await?;
        let fills = (0..4).map(|n| {
            let (store, fill) = (Arc::clone(&trial.store), trial.value(&key, fence, b"old"));
            let key = key.clone();
            async move {
                if n == 0 {
                    store.invalidate(&[key], &[]).await.map_err(fault("invalidate"))
                } else {
                    store.fill(&[fill]).await.map(drop).map_err(fault("fill"))
                }
            }
        });
        together(fills).await?;
        // stored before and removed, or refused after
        same(&trial.at(&key).await?, &None, "what stands there when fill and invalidation are done")?;
    }
    Ok(())
}

pub(super) async fn twenty_holds_at_the_same_time_all_count<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let holds = (1..=20).map(|holder| {
        let hold = Hold { key: key.clone(), holder, ttl: LONG, keep: false };
        let store = Arc::clone(&trial.store);
        async move { store.hold(&[hold]).await.map_err(fault("hold")) }
    });
    together(holds).await?;
    let ends = (1..=20).map(|holder| {
        let end = End { key: key.clone(), holder, outcome: WriteOutcome::Committed };
        let store = Arc::clone(&trial.store);
        async move { Ok(store.end(&[end]).await.map_err(fault("end"))?.remove(0)) }
    });
    let ended = together(ends).await?;
    let count = |what| ended.iter().filter(|it| **it == what).count();
    same(
        &(count(Ended::StillHeld), count(Ended::Freed)),
        &(19, 1),
        "ends that left others, and that freed the key",
    )
}
