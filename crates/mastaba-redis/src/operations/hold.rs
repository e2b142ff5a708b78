//! Holds: read, decide by [`mastaba::lease`], and put in the place of exactly what was read; again if it has changed.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use mastaba::entry::{EntryRef, Kind};
use mastaba::lease::{self, Change, Standing};
use mastaba::shared::{End, Ended, Hold, WriteOutcome};
use mastaba::{Fault, FaultKind, clock};

use super::{Redis, nothing_compares, unexpected};
use crate::hub::Means;
use crate::own::OwnChange;
use crate::wire::{Command, ServerReply};

/// How often a key that others change meanwhile is tried.
pub(super) const TRIES: usize = 64;

impl Redis {
    pub(super) async fn place_holds(&self, holds: &[Hold]) -> Result<(), Fault> {
        let incarnation = self.known_incarnation()?;
        let _own = self.own_change(holds.iter().map(|ask| &ask.key))?;
        try_join_all(holds.iter().map(|ask| {
            self.transform(&ask.key, true, move |standing, now_ms| {
                lease::hold(standing, incarnation, now_ms, ask).map(|change| (change, ()))
            })
        }))
        .await
        .map(drop)
    }

    pub(super) async fn end_holds(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        let incarnation = self.known_incarnation()?;
        let _own = self.own_change(ends.iter().map(|ask| &ask.key))?;
        try_join_all(ends.iter().map(|ask| {
            let committed = ask.outcome == WriteOutcome::Committed;
            self.transform(&ask.key, committed, move |standing, now_ms| {
                Ok(lease::end(standing, incarnation, now_ms, ask))
            })
        }))
        .await
    }

    /// An invalidation has met a hold, which forgets the value that it keeps.
    pub(super) async fn forget_kept(&self, key: &Bytes) -> Result<(), Fault> {
        self.transform(key, false, |standing, now_ms| Ok((lease::invalidate(standing, now_ms), ()))).await
    }

    /// Without scripts the changes are our own, and may hide those of others: see [`OwnChange`].
    fn own_change<'k>(&self, keys: impl Iterator<Item = &'k Bytes>) -> Result<Option<OwnChange<'_>>, Fault> {
        match self.inner.hub.means() {
            Means::Scripts => Ok(None),
            Means::Compare => Ok(Some(OwnChange::begin(&self.inner.hub, keys.cloned()))),
            Means::Nothing => Err(nothing_compares()),
        }
    }

    fn known_incarnation(&self) -> Result<u64, Fault> {
        match self.inner.hub.incarnation() {
            0 => Err(Fault::new(FaultKind::Down, "redis: it is not known yet what has become of the server")),
            known => Ok(known),
        }
    }

    /// `renewing`: what is put in the place of what was read comes with a new stamp for the key (`R17`).
    async fn transform<T>(
        &self,
        key: &Bytes,
        renewing: bool,
        decide: impl Fn(Option<Standing<'_>>, u64) -> Result<(Change, T), Fault>,
    ) -> Result<T, Fault> {
        for _ in 0..TRIES {
            let full = self.full(key);
            let look = ["GET", "PTTL"].map(|name| Command::new(name, std::slice::from_ref(&full))).into();
            let replies = self.run(look).await?;
            let [record, expiry] = &replies[..] else { return Err(unexpected("a hold", &ServerReply::Nil)) };
            let record = match record {
                ServerReply::Nil => None,
                ServerReply::Bytes(record) => Some(record.clone()),
                other => return Err(unexpected("a hold", other)),
            };
            let left_ms = match expiry {
                ServerReply::Number(left) => u64::try_from(*left).ok(),
                other => return Err(unexpected("a hold", other)),
            };
            let now_ms = now_of(record.as_ref(), left_ms);
            let expires_ms = left_ms.map_or(lease::NEVER, |left| now_ms.saturating_add(left));
            let standing = record.as_ref().map(|record| Standing { record, expires_ms });
            let (change, answer) = decide(standing, now_ms)?;
            let done = match change {
                Change::Keep => true,
                Change::Remove => self.swap(key, record.as_ref(), None, renewing).await?,
                Change::Put { record: new, expires_ms } => {
                    let ttl = (expires_ms != lease::NEVER)
                        .then(|| Duration::from_millis(expires_ms.saturating_sub(now_ms).max(1)));
                    self.swap(key, record.as_ref(), Some((&new, ttl)), renewing).await?
                }
            };
            if done {
                return Ok(answer);
            }
        }
        Err(Fault::new(
            FaultKind::Refused,
            "redis: a key was changed by others again and again; its hold was not set",
        ))
    }
}

/// What time it is, as far as the record under a key is concerned.
///
/// The times in a hold are by the clock of the process that placed its first holder. The record is kept until the last
/// holder expires, and the server says how long that still is: together these give the time of that clock, and no two
/// processes have to agree about theirs. Elsewhere any clock does.
fn now_of(record: Option<&Bytes>, left_ms: Option<u64>) -> u64 {
    let hold = record.and_then(|record| EntryRef::read(record).ok());
    let last = hold
        .filter(|it| it.header().kind == Kind::Hold)
        .and_then(|it| it.holders().map(|it| it.expires_ms).max());
    match (last, left_ms) {
        (Some(last), Some(left)) => last.saturating_sub(left),
        _ => clock::now_ms(),
    }
}
