//! Fills without a lease, over a backend that keeps write stamps: `R15` to `R18`.

use std::sync::Arc;

use bytes::Bytes;
use mastaba::entry::{Fence, Header, Kind, write};
use mastaba::shared::WriteOutcome::{Committed, RolledBack};
use mastaba::shared::{Fill, Filled, Over, Shared, Stamp, stamps};

use super::trial::{Checked, LONG, Trial, fault, same};

/// The key of the record of stamps, with which the backend renews those of every key of the check. `None`: it keeps none.
fn kept<B: Shared>(trial: &Trial<B>) -> Option<Bytes> {
    let record = Bytes::from([&trial.key("")[..trial.key("").len() - 1], b"@writes"].concat());
    trial.store.stamps(&trial.key(""), &record).then_some(record)
}

async fn make<B: Shared>(trial: &Trial<B>, record: &Bytes) -> Checked {
    let stamp = Stamp { key: record.clone(), value: 1, ttl: None };
    let made =
        trial.store.lease(&[], &[stamp]).await.map_err(fault("a lease that makes a record of stamps"))?;
    same(&made.stamps.len(), &1, "answers to the record of stamps")
}

async fn look<B: Shared>(trial: &Trial<B>, record: &Bytes) -> Checked<Option<Bytes>> {
    Ok(trial.store.read(std::slice::from_ref(record)).await.map_err(fault("read"))?.remove(0))
}

async fn stamp_of<B: Shared>(trial: &Trial<B>, record: &Bytes, key: &Bytes) -> Checked<Option<u64>> {
    Ok(look(trial, record).await?.and_then(|found| stamps::of(&found, key)))
}

/// A stamp that has to be there.
async fn stamp<B: Shared>(trial: &Trial<B>, record: &Bytes, key: &Bytes) -> Checked<u64> {
    stamp_of(trial, record, key).await?.ok_or_else(|| "the record of stamps says nothing of a key".to_owned())
}

fn fill<B: Shared>(
    trial: &Trial<B>,
    record: &Bytes,
    key: &Bytes,
    stamp: u64,
    over: Option<Fence>,
    payload: &[u8],
) -> Fill {
    Fill {
        key: key.clone(),
        expected: over.unwrap_or(Fence(0)),
        over: Over::Unleased { stamps: record.clone(), stamp },
        record: trial.record(Kind::Value, Fence::random(), payload),
        ttl: LONG,
    }
}

pub(super) async fn a_record_of_stamps_is_made_once_and_says_something_of_every_key<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    same(&look(trial, &record).await?, &None, "the record before it was made")?;
    make(trial, &record).await?;
    let made = look(trial, &record).await?.unwrap_or_default();
    same(&(made.len(), stamps::is_whole(&made)), &(stamps::LEN, true), "the record that was made")?;
    make(trial, &record).await?;
    same(&look(trial, &record).await?, &Some(made), "the record, made a second time")
}

pub(super) async fn a_record_of_another_length_or_with_a_zero_is_made_anew<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    let (key, whole) = (trial.key("key"), stamps::record());
    let zero = stamps::renewed(&whole, &key, 0).ok_or("no record")?;
    for wrong in [whole.slice(1..), zero, Bytes::from_static(b"x")] {
        trial.plant(&record, wrong).await?;
        same(&stamp_of(trial, &record, &key).await?, &None, "the stamp in a record that says nothing")?;
        make(trial, &record).await?;
        let made = look(trial, &record).await?.unwrap_or_default();
        same(&stamps::is_whole(&made), &true, "the record that was made anew")?;
    }
    Ok(())
}

pub(super) async fn a_fill_without_a_lease_is_stored_where_nothing_stands<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    make(trial, &record).await?;
    let key = trial.key("key");
    let seen = stamp(trial, &record, &key).await?;
    let filled = trial.store(fill(trial, &record, &key, seen, None, b"value")).await?;
    same(&filled, &Filled::Stored, "a fill on nothing, under its stamp")?;
    same(&trial.payload(&key).await?, &Some(b"value".to_vec()), "what stands there then")?;
    let again = trial.store(fill(trial, &record, &key, seen, None, b"another")).await?;
    same(&again, &Filled::Refused, "a fill where a value stands")?;
    same(&trial.payload(&key).await?, &Some(b"value".to_vec()), "the value that stood there")
}

pub(super) async fn a_fill_without_a_lease_replaces_only_the_record_that_the_read_saw<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    make(trial, &record).await?;
    let key = trial.key("key");
    let fence = trial.put(&key, b"outdated", LONG).await?;
    let seen = stamp(trial, &record, &key).await?;
    let other = trial.store(fill(trial, &record, &key, seen, Some(Fence::random()), b"no")).await?;
    same(&other, &Filled::Refused, "a fill over another fence")?;
    let filled = trial.store(fill(trial, &record, &key, seen, Some(fence), b"new")).await?;
    same(&filled, &Filled::Stored, "a fill over the fence that stands")?;
    same(&trial.payload(&key).await?, &Some(b"new".to_vec()), "what stands there then")?;
    trial.invalidate(std::slice::from_ref(&key)).await?;
    let gone = trial.store(fill(trial, &record, &key, seen, Some(fence), b"late")).await?;
    same(&gone, &Filled::Refused, "a fill after an invalidation, over what was there")?;
    let seen = stamp(trial, &record, &key).await?;
    let expired = trial.store(fill(trial, &record, &key, seen, Some(fence), b"late")).await?;
    same(&expired, &Filled::Stored, "a fill where what the read saw is gone by itself")
}

pub(super) async fn a_fill_under_another_stamp_or_none_is_refused<B: Shared>(trial: &Trial<B>) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    let key = trial.key("key");
    let missing = trial.store(fill(trial, &record, &key, 7, None, b"no")).await?;
    same(&missing, &Filled::Refused, "a fill without a record of stamps")?;
    same(
        &trial.store(fill(trial, &record, &key, 0, None, b"no")).await?,
        &Filled::Refused,
        "the same under zero",
    )?;
    make(trial, &record).await?;
    let seen = stamp(trial, &record, &key).await?;
    let other = trial.store(fill(trial, &record, &key, seen ^ 1, None, b"no")).await?;
    same(&other, &Filled::Refused, "a fill under another stamp")?;
    let zero =
        stamps::renewed(&look(trial, &record).await?.unwrap_or_default(), &key, 0).ok_or("no record")?;
    trial.plant(&record, zero).await?;
    same(
        &trial.store(fill(trial, &record, &key, 0, None, b"no")).await?,
        &Filled::Refused,
        "a fill under zero",
    )?;
    same(&trial.at(&key).await?, &None, "what stands there then")
}

pub(super) async fn an_invalidation_renews_the_stamps_of_its_keys_and_no_other<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    make(trial, &record).await?;
    let keys: Vec<_> = (0..6).map(|n| trial.key(n)).collect();
    let before = look(trial, &record).await?.unwrap_or_default();
    trial.invalidate(&keys).await?;
    let after = look(trial, &record).await?.unwrap_or_default();
    same(&stamps::is_whole(&after), &true, "the record after an invalidation")?;
    let renewed = |at: &usize| before[*at..at + 8] != after[*at..at + 8];
    let changed: Vec<_> = (0..stamps::LEN).step_by(8).filter(renewed).collect();
    let mut places: Vec<_> = keys.iter().map(|key| stamps::place(key)).collect();
    places.sort_unstable();
    places.dedup();
    same(&changed, &places, "the places that were renewed")?;
    for key in &keys {
        let old = stamps::of(&before, key).ok_or("no stamp")?;
        same(
            &trial.store(fill(trial, &record, key, old, None, b"old")).await?,
            &Filled::Refused,
            "a fill from before (R16)",
        )?;
        let new = stamps::of(&after, key).ok_or("no stamp")?;
        same(
            &trial.store(fill(trial, &record, key, new, None, b"new")).await?,
            &Filled::Stored,
            "a fill from after",
        )?;
    }
    Ok(())
}

pub(super) async fn an_invalidation_removes_what_is_no_record_of_stamps<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    let key = trial.key("key");
    trial.invalidate(std::slice::from_ref(&key)).await?;
    same(&look(trial, &record).await?, &None, "the record that was missing")?;
    trial.plant(&record, Bytes::from_static(b"short")).await?;
    trial.invalidate(std::slice::from_ref(&key)).await?;
    same(&look(trial, &record).await?, &None, "the record that said nothing")
}

pub(super) async fn each_fill_of_a_batch_without_leases_has_its_own_answer<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    make(trial, &record).await?;
    let keys: Vec<_> = (0..200).map(|n| trial.key(n)).collect();
    for key in keys.iter().step_by(5) {
        trial.granted(key).await?;
    }
    trial.put(&keys[1], b"value", LONG).await?;
    let all = look(trial, &record).await?.unwrap_or_default();
    let fence = trial.granted(&trial.key("leased")).await?;
    let mut fills = vec![trial.value(&trial.key("leased"), fence, b"leased")];
    let mut expected = vec![Filled::Stored];
    for (n, key) in keys.iter().enumerate() {
        let seen = stamps::of(&all, key).ok_or("no stamp")?;
        let wrong = n % 7 == 3;
        fills.push(fill(trial, &record, key, if wrong { seen ^ 1 } else { seen }, None, key));
        expected.push(if wrong || n % 5 == 0 || n == 1 { Filled::Refused } else { Filled::Stored });
    }
    let filled = trial.store.fill(&fills).await.map_err(fault("fill"))?;
    same(&filled, &expected, "fills beside leases, a value and other stamps")?;
    for (n, found) in trial.read(&keys).await?.into_iter().enumerate() {
        let kind = match n {
            1 => Some(Kind::Value),
            n if n % 5 == 0 => Some(Kind::Lease),
            n if n % 7 == 3 => None,
            _ => Some(Kind::Value),
        };
        same(&found.map(|it| it.kind), &kind, "what stands under a key of the batch")?;
    }
    Ok(())
}

pub(super) async fn a_fill_without_a_lease_of_another_incarnation_is_refused<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    make(trial, &record).await?;
    let key = trial.key("key");
    let seen = stamp(trial, &record, &key).await?;
    let other = Header::new(Kind::Value, Fence::random(), trial.store.incarnation() ^ 1);
    let of_another =
        Fill { record: write(&other, &[], &[], b"v").into(), ..fill(trial, &record, &key, seen, None, b"") };
    same(&trial.store(of_another).await?, &Filled::Refused, "a fill of another incarnation (R11)")
}

pub(super) async fn no_fill_without_a_lease_survives_an_invalidation_at_the_same_time<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    make(trial, &record).await?;
    for round in 0..50 {
        let key = trial.key(round);
        let seen = stamp(trial, &record, &key).await?;
        let racers = (0..4).map(|n| {
            let (store, fill) = (Arc::clone(&trial.store), fill(trial, &record, &key, seen, None, b"old"));
            async move {
                if n == 1 {
                    store.invalidate(&[fill.key], &[]).await.map_err(fault("invalidate"))
                } else {
                    store.fill(&[fill]).await.map(drop).map_err(fault("fill"))
                }
            }
        });
        super::races::together(racers).await?;
        same(&trial.at(&key).await?, &None, "what stands there when fill and invalidation are done")?;
    }
    Ok(())
}

pub(super) async fn a_hold_and_the_end_of_a_commit_renew_the_stamp<B: Shared>(trial: &Trial<B>) -> Checked {
    let Some(record) = kept(trial) else { return Ok(()) };
    make(trial, &record).await?;
    let key = trial.key("key");
    let before = stamp(trial, &record, &key).await?;
    trial.hold(&key, 1, LONG, true).await?;
    let held = stamp(trial, &record, &key).await?;
    same(&(held != before), &true, "a hold renews the stamp (R17)")?;
    let under = trial.store(fill(trial, &record, &key, held, None, b"no")).await?;
    same(&under, &Filled::Refused, "a fill where a hold stands")?;
    trial.end(&key, 1, Committed).await?;
    let ended = stamp(trial, &record, &key).await?;
    same(&(ended != held), &true, "the end of a commit renews the stamp (R17)")?;
    let late = trial.store(fill(trial, &record, &key, held, None, b"old")).await?;
    same(&late, &Filled::Refused, "a fill whose stamp was read under the hold")?;
    same(&trial.at(&key).await?, &None, "what stands there when the hold has ended")?;
    // also where the hold is gone already
    trial.end(&key, 2, Committed).await?;
    same(&(stamp(trial, &record, &key).await? != ended), &true, "so does the end of a hold that is gone")?;
    let ended = stamp(trial, &record, &key).await?;
    trial.hold(&key, 3, LONG, true).await?;
    trial.end(&key, 3, RolledBack).await?;
    let rolled_back = trial.store(fill(trial, &record, &key, ended, None, b"old")).await?;
    same(&rolled_back, &Filled::Refused, "a fill from before a hold that was rolled back")
}
