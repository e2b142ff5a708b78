//! Leases, fills and invalidations: `R1`, `R3`, `R11`.

use mastaba::entry::{Fence, Header, Kind, write};
use mastaba::shared::{Fill, Filled, Leased, Over, Shared};

use super::trial::{Checked, LONG, SHORT, Trial, fault, same, seen};

pub(super) async fn a_lease_is_granted_once<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let first = trial.granted(&key).await?;
    match trial.ask(trial.lease(&key, None, LONG).0).await? {
        Leased::Granted => Err("a second lease on a leased key was granted".to_owned()),
        Leased::Found(record) => {
            let found = seen(&record)?;
            same(&(found.kind, found.fence), &(Kind::Lease, first), "what the second lease finds")
        }
    }
}

pub(super) async fn a_lease_finds_the_value_that_is_there<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.put(&key, b"value", LONG).await?;
    match trial.ask(trial.lease(&key, None, LONG).0).await? {
        Leased::Granted => Err("a lease on a value was granted".to_owned()),
        Leased::Found(record) => same(&seen(&record)?.payload, &b"value".to_vec(), "what a lease finds"),
    }
}

pub(super) async fn a_lease_replaces_only_the_record_that_it_is_over<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let fence = trial.put(&key, b"outdated", LONG).await?;
    let other = trial.ask(trial.lease(&key, Some(Fence::random()), LONG).0).await?;
    same(&matches!(other, Leased::Found(_)), &true, "a lease over another fence finds the value")?;
    let (lease, new) = trial.lease(&key, Some(fence), LONG);
    same(&trial.ask(lease).await?, &Leased::Granted, "a lease over the fence that stands")?;
    same(&trial.payload(&key).await?, &None, "the value that the lease replaced")?;
    same(
        &trial.store(trial.value(&key, fence, b"late")).await?,
        &Filled::Refused,
        "a fill under the fence before",
    )?;
    same(&trial.store(trial.value(&key, new, b"new")).await?, &Filled::Stored, "a fill under the new lease")
}

pub(super) async fn a_fill_on_its_lease_is_stored<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.put(&key, b"value", LONG).await?;
    same(&trial.payload(&key).await?, &Some(b"value".to_vec()), "the value after its fill")
}

pub(super) async fn an_absence_is_stored<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let expected = trial.granted(&key).await?;
    let record = trial.record(Kind::Absent, Fence::random(), b"");
    let fill = Fill { key: key.clone(), expected, over: Over::Lease, record, ttl: LONG };
    same(&trial.store(fill).await?, &Filled::Stored, "a fill with an absence")?;
    same(&trial.kind(&key).await?, &Some(Kind::Absent), "what stands there then")
}

pub(super) async fn a_fill_under_another_fence_is_refused<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let fence = trial.granted(&key).await?;
    for wrong in [Fence(fence.0 ^ 1), Fence(fence.0 ^ (1 << 63)), Fence::random()] {
        same(&trial.store(trial.value(&key, wrong, b"wrong")).await?, &Filled::Refused, "a fill on a lease")?;
    }
    let right = trial.value(&key, fence, b"right");
    let fence = mastaba::entry::peek_fence(&right.record).ok_or("no fence")?;
    same(&trial.store(right).await?, &Filled::Stored, "a fill on its lease")?;
    same(
        &trial.store(trial.value(&key, Fence(fence.0 ^ 1), b"wrong")).await?,
        &Filled::Refused,
        "a fill on a value",
    )?;
    same(&trial.payload(&key).await?, &Some(b"right".to_vec()), "the value after refused fills")
}

pub(super) async fn a_fill_on_nothing_is_refused<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let fill = trial.value(&key, Fence::random(), b"value");
    same(&trial.store(fill).await?, &Filled::Refused, "a fill on nothing")?;
    same(&trial.at(&key).await?, &None, "what stands there then")
}

pub(super) async fn the_same_fill_again_is_refused<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let fence = trial.granted(&key).await?;
    let fill = trial.value(&key, fence, b"value");
    same(&trial.store(fill.clone()).await?, &Filled::Stored, "a fill on its lease")?;
    same(&trial.store(fill).await?, &Filled::Refused, "the same fill again")
}

pub(super) async fn a_value_is_refreshed_under_its_own_fence<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let fence = trial.put(&key, b"old", LONG).await?;
    same(&trial.store(trial.value(&key, fence, b"new")).await?, &Filled::Stored, "a refresh")?;
    same(&trial.payload(&key).await?, &Some(b"new".to_vec()), "the value after its refresh")
}

pub(super) async fn a_fill_of_another_incarnation_is_refused<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let expected = trial.granted(&key).await?;
    let other = Header::new(Kind::Value, Fence::random(), trial.store.incarnation() ^ 1);
    let record = write(&other, &[], &[], b"value").into();
    let fill = Fill { key: key.clone(), expected, over: Over::Lease, record, ttl: LONG };
    same(&trial.store(fill).await?, &Filled::Refused, "a fill that was leased in another incarnation (R11)")
}

pub(super) async fn each_fill_of_a_batch_has_its_own_answer<B: Shared>(trial: &Trial<B>) -> Checked {
    let keys: Vec<_> = (0..6).map(|n| trial.key(n)).collect();
    let mut fills = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let fence = trial.granted(key).await?;
        fills.push(trial.value(key, if n % 3 == 1 { Fence::random() } else { fence }, key));
    }
    let filled = trial.store.fill(&fills).await.map_err(fault("fill"))?;
    use Filled::{Refused, Stored};
    same(
        &filled,
        &vec![Stored, Refused, Stored, Stored, Refused, Stored],
        "six fills, two on a wrong fence",
    )?;
    let kinds: Vec<_> = trial.read(&keys).await?.into_iter().flatten().map(|it| it.kind).collect();
    use Kind::{Lease, Value};
    same(&kinds, &vec![Value, Lease, Value, Value, Lease, Value], "what stands there then")
}

pub(super) async fn an_invalidation_removes_values<B: Shared>(trial: &Trial<B>) -> Checked {
    let (key, other) = (trial.key("key"), trial.key("key of another"));
    let fence = trial.put(&key, b"value", LONG).await?;
    trial.put(&other, b"other", LONG).await?;
    trial.invalidate(&[key.clone(), trial.key("absent")]).await?;
    same(&trial.at(&key).await?, &None, "the value after its invalidation")?;
    same(
        &trial.store(trial.value(&key, fence, b"late")).await?,
        &Filled::Refused,
        "a refresh of the value before",
    )?;
    same(&trial.payload(&other).await?, &Some(b"other".to_vec()), "the value of another key")
}

pub(super) async fn an_invalidation_voids_leases<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let fence = trial.granted(&key).await?;
    trial.invalidate(std::slice::from_ref(&key)).await?;
    same(
        &trial.store(trial.value(&key, fence, b"old")).await?,
        &Filled::Refused,
        "a fill on a void lease (R1)",
    )?;
    same(&trial.at(&key).await?, &None, "what stands there then")
}

pub(super) async fn a_fill_from_before_an_invalidation_never_meets_a_later_lease<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let key = trial.key("key");
    let (lease, fence) = trial.lease(&key, None, SHORT);
    trial.ask(lease).await?;
    trial.expired(&key).await?;
    // the key is absent, so nothing is there that could be voided; the fence alone decides
    trial.invalidate(std::slice::from_ref(&key)).await?;
    let later = trial.granted(&key).await?;
    same(&trial.store(trial.value(&key, fence, b"old")).await?, &Filled::Refused, "a fill from before")?;
    same(&trial.store(trial.value(&key, later, b"new")).await?, &Filled::Stored, "a fill on the later lease")
}
