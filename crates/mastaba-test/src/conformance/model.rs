//! Random operations, compared with the transitions of [`mastaba::lease`].

use std::collections::HashMap;

use bytes::Bytes;
use mastaba::entry::{EntryRef, Fence, Kind};
use mastaba::lease::{self, Change, Standing};
use mastaba::shared::{End, Hold, Lease, Leased, Shared, Stamp, WriteOutcome};

use super::trial::{Checked, LONG, Trial, fault, same};

const STEPS: usize = 1_500;
const KEYS: usize = 4;
/// The model's clock stands still: nothing expires within a check.
const NOW: u64 = 1;

#[derive(Default)]
struct Model(HashMap<Bytes, (Bytes, u64)>);

impl Model {
    fn at(&self, key: &Bytes) -> Option<Standing<'_>> {
        self.0.get(key).map(|(record, expires_ms)| Standing { record, expires_ms: *expires_ms })
    }

    fn apply(&mut self, key: &Bytes, change: Change) {
        match change {
            Change::Keep => {}
            Change::Put { record, expires_ms } => drop(self.0.insert(key.clone(), (record, expires_ms))),
            Change::Remove => drop(self.0.remove(key)),
        }
    }

    /// Compares one record. The fence of a restored value is the store's choice, and so is everything in a
    /// hold; the model takes over the former.
    fn compare(&mut self, key: &Bytes, found: Option<&Bytes>) -> Checked {
        let (Some((record, _)), Some(found)) = (self.0.get_mut(key), found) else {
            return same(&found.is_some(), &self.0.contains_key(key), "whether something stands there");
        };
        let model = EntryRef::read(record).map_err(|it| it.to_string())?;
        let store = EntryRef::read(found).map_err(|it| format!("a record is not the entry it was: {it}"))?;
        same(&store.header().kind, &model.header().kind, "the kind of what stands there")?;
        if model.header().kind == Kind::Hold {
            return Ok(());
        }
        let fenced = Bytes::from(model.with_fence(store.header().fence));
        same(found, &fenced, "what stands there, but for its fence")?;
        *record = fenced;
        Ok(())
    }
}

pub(super) async fn random_operations_do_what_the_transitions_say<B: Shared>(trial: &Trial<B>) -> Checked {
    random_operations(trial, 4).await
}

pub(super) async fn random_operations_with_holds_do_what_the_transitions_say<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    random_operations(trial, 6).await
}

async fn random_operations<B: Shared>(trial: &Trial<B>, operations: usize) -> Checked {
    let mut random = fastrand::Rng::with_seed(0x6d6f_6465_6c00 + operations as u64);
    let mut model = Model::default();
    let keys: Vec<_> = (0..KEYS).map(|n| trial.key(n)).collect();
    // fences that were met, so that old ones are tried again
    let mut fences = vec![Fence::random()];
    for number in 0..STEPS {
        let key = &keys[random.usize(..KEYS)];
        let compared = async {
            step(trial, &mut model, &mut random, &fences, key, operations).await?;
            let found = trial.store.read(&keys).await.map_err(fault("read"))?;
            keys.iter().zip(&found).try_for_each(|(key, found)| model.compare(key, found.as_ref()))
        };
        compared.await.map_err(|sentence| format!("step {number}: {sentence}"))?;
        let current = model.at(key).and_then(|it| mastaba::entry::peek_fence(it.record));
        fences.extend(current);
        let forget = fences.len().saturating_sub(6);
        fences.drain(..forget);
    }
    Ok(())
}

async fn step<B: Shared>(
    trial: &Trial<B>,
    model: &mut Model,
    random: &mut fastrand::Rng,
    fences: &[Fence],
    key: &Bytes,
    operations: usize,
) -> Checked {
    let incarnation = trial.store.incarnation();
    let fence = fences[random.usize(..fences.len())];
    match random.usize(..operations) {
        0 => {
            let over = random.bool().then_some(fence);
            let (ask, _): (Lease, _) = trial.lease(key, over, LONG);
            let (change, expected) = lease::lease(model.at(key), incarnation, NOW, &ask);
            model.apply(key, change);
            // what is found is compared afterwards
            let granted = |it: &Leased| *it == Leased::Granted;
            same(&granted(&trial.ask(ask).await?), &granted(&expected), "whether a lease was granted")
        }
        1 => {
            let current = model.at(key).and_then(|it| mastaba::entry::peek_fence(it.record));
            let expected = current.filter(|_| random.u8(..4) > 0).unwrap_or(fence);
            let payload = random.u64(..).to_le_bytes();
            let ask = trial.value(key, expected, &payload[..random.usize(..8)]);
            let (change, expected) = lease::fill(model.at(key), incarnation, NOW, &ask);
            model.apply(key, change);
            same(&trial.store(ask).await?, &expected, "the answer to a fill")
        }
        2 => {
            model.apply(key, lease::invalidate(model.at(key), NOW));
            trial.invalidate(std::slice::from_ref(key)).await
        }
        3 => {
            let ask =
                Stamp { key: Bytes::from([key, &b"/stamp"[..]].concat()), value: random.u64(1..), ttl: None };
            if random.u8(..3) == 0 {
                model.apply(&ask.key, lease::set_stamp(NOW, &ask));
                return trial.store.invalidate(&[], &[ask]).await.map_err(fault("invalidate"));
            }
            let (change, expected) = lease::stamp(model.at(&ask.key), NOW, &ask);
            model.apply(&ask.key, change);
            same(&trial.ask_stamp(&ask.key, ask.value, None).await?, &expected, "a stamp")
        }
        4 => {
            let ask =
                Hold { key: key.clone(), holder: random.u64(1..4), ttl: LONG, keep: random.u8(..4) > 0 };
            let change =
                lease::hold(model.at(key), incarnation, NOW, &ask).map_err(fault("the model's hold"))?;
            model.apply(key, change);
            trial.hold(key, ask.holder, ask.ttl, ask.keep).await
        }
        _ => {
            let outcome =
                if random.u8(..3) == 0 { WriteOutcome::Committed } else { WriteOutcome::RolledBack };
            let ask = End { key: key.clone(), holder: random.u64(1..4), outcome };
            let (change, expected) = lease::end(model.at(key), incarnation, NOW, &ask);
            model.apply(key, change);
            same(&trial.end(key, ask.holder, outcome).await?, &expected, "the answer to an end")
        }
    }
}
