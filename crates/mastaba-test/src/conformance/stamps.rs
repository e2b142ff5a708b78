//! Stamps: `R12`.

use mastaba::shared::{Leased, Shared, Stamp};

use super::trial::{Checked, LONG, SHORT, Trial, fault, same};

pub(super) async fn a_missing_stamp_becomes_the_one_given<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("stamp");
    same(&trial.ask_stamp(&key, 7, None).await?, &7, "a stamp that was missing")?;
    same(&trial.ask_stamp(&key, 8, None).await?, &7, "the same stamp, asked for by a second one")
}

pub(super) async fn a_stamp_is_read_like_a_record<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("stamp");
    let number = 0x0102_0304_0506_07f8;
    trial.ask_stamp(&key, number, Some(LONG)).await?;
    let record = trial.store.read(&[key]).await.map_err(fault("read"))?.remove(0);
    same(&record.map(|it| it.to_vec()), &Some(number.to_le_bytes().to_vec()), "eight bytes, little-endian")
}

pub(super) async fn stamps_are_answered_in_order_beside_leases<B: Shared>(trial: &Trial<B>) -> Checked {
    let stamp = |n: u64| Stamp { key: trial.key(format_args!("stamp {n}")), value: n, ttl: None };
    for n in [3, 1] {
        trial.ask_stamp(&stamp(n).key, n + 100, None).await?;
    }
    let leases: Vec<_> = (0..3).map(|n| trial.lease(&trial.key(n), None, LONG).0).collect();
    let stamps: Vec<_> = (0..5).map(stamp).collect();
    let answer = trial.store.lease(&leases, &stamps).await.map_err(fault("lease"))?;
    same(&answer.leased, &vec![Leased::Granted; 3], "three leases beside five stamps")?;
    same(&answer.stamps, &vec![0, 101, 2, 103, 4], "five stamps, two of which were there")
}

pub(super) async fn an_invalidation_sets_stamps<B: Shared>(trial: &Trial<B>) -> Checked {
    let (known, unknown) = (trial.key("known"), trial.key("unknown"));
    trial.ask_stamp(&known, 7, None).await?;
    let stamp = |key, value| Stamp { key, value, ttl: None };
    let stamps = [stamp(known.clone(), 8), stamp(unknown.clone(), 9)];
    trial.store.invalidate(&[], &stamps).await.map_err(fault("invalidate"))?;
    same(&trial.ask_stamp(&known, 1, None).await?, &8, "a stamp that was there")?;
    same(&trial.ask_stamp(&unknown, 1, None).await?, &9, "a stamp that was missing")
}

pub(super) async fn a_stamp_expires<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("stamp");
    trial.ask_stamp(&key, 7, Some(SHORT)).await?;
    trial.expired(&key).await?;
    same(&trial.ask_stamp(&key, 8, None).await?, &8, "a stamp whose time is over")
}
