//! Reads, and how long what they find lives.

use std::time::Instant;

use bytes::Bytes;
use mastaba::entry::Kind;
use mastaba::shared::{Filled, Leased, Shared};

use super::trial::{Checked, LONG, SHORT, Trial, fault, same};

pub(super) async fn a_missing_key_is_none<B: Shared>(trial: &Trial<B>) -> Checked {
    same(&trial.at(&trial.key("nothing")).await?, &None, "a key that was never written")
}

pub(super) async fn empty_calls_have_empty_answers<B: Shared>(trial: &Trial<B>) -> Checked {
    same(&trial.store.read(&[]).await.map_err(fault("an empty read"))?.len(), &0, "a read of nothing")?;
    let leases = trial.store.lease(&[], &[]).await.map_err(fault("an empty lease"))?;
    same(&(leases.leased.len(), leases.stamps.len()), &(0, 0), "a lease of nothing")?;
    same(&trial.store.fill(&[]).await.map_err(fault("an empty fill"))?.len(), &0, "a fill of nothing")?;
    trial.store.invalidate(&[], &[]).await.map_err(fault("an empty invalidation"))?;
    if trial.store.abilities().holds {
        trial.store.hold(&[]).await.map_err(fault("an empty hold"))?;
        same(&trial.store.end(&[]).await.map_err(fault("an empty end"))?.len(), &0, "an end of nothing")?;
    }
    Ok(())
}

pub(super) async fn answers_come_in_the_order_of_the_keys<B: Shared>(trial: &Trial<B>) -> Checked {
    let keys: Vec<_> = [5, 2, 9, 1, 7].map(|n| trial.key(n)).into();
    for key in keys.iter().step_by(2) {
        trial.put(key, key, LONG).await?;
    }
    let payloads: Vec<_> = trial.read(&keys).await?.into_iter().map(|it| it.map(|it| it.payload)).collect();
    let expected: Vec<_> =
        keys.iter().enumerate().map(|(i, key)| (i % 2 == 0).then(|| key.to_vec())).collect();
    same(&payloads, &expected, "three values and two misses")
}

pub(super) async fn a_key_may_be_asked_for_twice<B: Shared>(trial: &Trial<B>) -> Checked {
    let (key, other) = (trial.key("key"), trial.key("other"));
    trial.put(&key, b"value", LONG).await?;
    let found = trial.read(&[key.clone(), other, key]).await?;
    let kinds: Vec<_> = found.iter().map(|it| it.as_ref().map(|it| it.kind)).collect();
    same(&kinds, &vec![Some(Kind::Value), None, Some(Kind::Value)], "one key twice in a read")
}

pub(super) async fn keys_and_payloads_may_be_any_bytes<B: Shared>(trial: &Trial<B>) -> Checked {
    let with = |bytes: &[u8]| Bytes::from([&trial.key("")[..], bytes].concat());
    let mut keys: Vec<_> = (0..=255).map(|byte| with(&[byte])).collect();
    keys.extend([
        with(b""),
        with(b"\0\0"),
        with(b"a b"),
        with(b"a\r\nb"),
        with(b"\xff\xfe\0"),
        with("ü*?[]{}".as_bytes()),
    ]);
    for key in &keys {
        trial.put(key, key, LONG).await?;
    }
    for (key, found) in keys.iter().zip(trial.read(&keys).await?) {
        same(&found.map(|it| it.payload), &Some(key.to_vec()), "a value under binary keys")?;
    }
    Ok(())
}

pub(super) async fn a_thousand_keys_travel_together<B: Shared>(trial: &Trial<B>) -> Checked {
    let keys: Vec<_> = (0..1_000.min(B::ABILITIES.max_batch)).map(|n| trial.key(n)).collect();
    let (leases, fences): (Vec<_>, Vec<_>) = keys.iter().map(|key| trial.lease(key, None, LONG)).unzip();
    let leased = trial.store.lease(&leases, &[]).await.map_err(fault("lease"))?.leased;
    same(&leased, &vec![Leased::Granted; keys.len()], "a thousand leases")?;
    let fills: Vec<_> = keys.iter().zip(fences).map(|(key, fence)| trial.value(key, fence, key)).collect();
    let filled = trial.store.fill(&fills).await.map_err(fault("fill"))?;
    same(&filled, &vec![Filled::Stored; keys.len()], "a thousand fills")?;
    for (key, found) in keys.iter().zip(trial.read(&keys).await?) {
        same(&found.map(|it| it.payload), &Some(key.to_vec()), "one of a thousand values")?;
    }
    trial.invalidate(&keys).await?;
    let left = trial.read(&keys).await?.iter().flatten().count();
    same(&left, &0, "values after the invalidation of a thousand")
}

pub(super) async fn large_values_come_back_whole<B: Shared>(trial: &Trial<B>) -> Checked {
    for len in [0, 1, 1_000, 64 << 10, 256 << 10, (1 << 20) - 200] {
        if len + 200 > trial.store.max_value() {
            continue;
        }
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let key = trial.key(len);
        trial.put(&key, &payload, LONG).await?;
        let whole = trial.payload(&key).await? == Some(payload);
        same(&whole, &true, &format!("a payload of {len} bytes came back as it was"))?;
    }
    Ok(())
}

pub(super) async fn a_value_expires<B: Shared>(trial: &Trial<B>) -> Checked {
    let (short, long) = (trial.key("short"), trial.key("long"));
    trial.put(&long, b"long", LONG).await?;
    let since = Instant::now();
    trial.put(&short, b"short", SHORT).await?;
    let found = trial.payload(&short).await?;
    if since.elapsed() < SHORT / 2 {
        same(&found, &Some(b"short".to_vec()), "a value before its time is over")?;
    }
    trial.expired(&short).await?;
    same(&trial.payload(&long).await?, &Some(b"long".to_vec()), "the value with a longer time")
}

pub(super) async fn a_lease_expires<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let (lease, fence) = trial.lease(&key, None, SHORT);
    same(&trial.ask(lease).await?, &Leased::Granted, "a lease on a free key")?;
    trial.expired(&key).await?;
    let late = trial.value(&key, fence, b"late");
    same(&trial.store(late).await?, &Filled::Refused, "a fill on a lease that is over")?;
    trial.granted(&key).await.map(drop)
}
