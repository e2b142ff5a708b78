//! Look, decide by [`mastaba::lease`], and change exactly what was seen; again where it has changed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mastaba::entry::{EntryRef, Kind};
use mastaba::lease::{Change, NEVER, Standing};
use mastaba::{Fault, FaultKind, clock};

use super::{Memcached, again_and_again, unexpected};
use crate::wire::{ItemCommand, ItemReply, Pipe, SeenItem};

/// How often a key that others change meanwhile is tried.
pub(super) const TRIES: usize = 64;
/// After so many a pause comes in between, so that not all of those who want the same key try in step.
const IN_STEP: usize = 4;

/// What becomes of one key.
pub(super) struct Decided<T> {
    pub(super) change: Change,
    pub(super) answer: T,
    /// The answer where the server refuses to store it; none: then the whole call has failed.
    pub(super) refused: Option<T>,
}

impl Memcached {
    /// Transforms what stands under some keys of one server. Two trips, unless others change them at the same time. Each key is
    /// given by its place in the call.
    ///
    /// All over one connection: the CAS numbers are those of one run of the server.
    pub(super) async fn transform<T>(
        &self,
        connection: &Arc<Pipe>,
        what: &str,
        keys: Vec<(usize, &Bytes)>,
        decide: impl Fn(usize, Option<Standing<'_>>, u64) -> Result<Decided<T>, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let mut answers: Vec<Option<T>> = keys.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..keys.len()).collect();
        for round in 0..TRIES {
            pause(round).await;
            let looked = connection
                .run(open.iter().map(|nth| ItemCommand::look(self.full(keys[*nth].1))).collect())
                .await?;
            let (mut commands, mut changed, mut again) = (Vec::new(), Vec::new(), Vec::new());
            for (nth, reply) in open.into_iter().zip(looked) {
                let (at, key) = keys[nth];
                let item = match reply {
                    ItemReply::Done(item) => Some(item),
                    ItemReply::Missing => None,
                    other => return Err(unexpected(what, &other)),
                };
                let now_ms = now_of(item.as_ref());
                let decided = decide(at, item.as_ref().and_then(|item| standing(item, now_ms)), now_ms)?;
                match self.command(key, item.as_ref(), &decided.change, now_ms) {
                    Some(command) => {
                        commands.push(command);
                        changed.push((nth, decided));
                    }
                    None => answers[nth] = Some(decided.answer),
                }
            }
            let done = connection.run(commands).await?;
            for ((nth, decided), reply) in changed.into_iter().zip(done) {
                match (reply, decided.refused) {
                    (ItemReply::Done(_), _) => answers[nth] = Some(decided.answer),
                    // what was to be removed has gone by itself
                    (ItemReply::Missing, _) if decided.change == Change::Remove => {
                        answers[nth] = Some(decided.answer);
                    }
                    (ItemReply::Missing | ItemReply::Other, _) => again.push(nth),
                    (ItemReply::Refused(_), Some(refused)) => answers[nth] = Some(refused),
                    (refused, None) => return Err(unexpected(what, &refused)),
                }
            }
            if again.is_empty() {
                let missing = || Fault::new(FaultKind::Damaged, "memcached: an answer is missing");
                return answers.into_iter().map(|answer| answer.ok_or_else(missing)).collect();
            }
            open = again;
        }
        Err(again_and_again(what))
    }

    /// What carries a change out; `None`: there is nothing to do.
    pub(super) fn command(
        &self,
        key: &Bytes,
        seen: Option<&SeenItem>,
        change: &Change,
        now_ms: u64,
    ) -> Option<ItemCommand> {
        let key = || self.full(key);
        match (change, seen) {
            (Change::Keep, _) | (Change::Remove, None) => None,
            (Change::Remove, Some(item)) => Some(ItemCommand::remove(key(), item.cas?)),
            (Change::Put { record, expires_ms }, None) => {
                Some(ItemCommand::add(key(), record, ttl(*expires_ms, now_ms)))
            }
            (Change::Put { record, expires_ms }, Some(item)) => {
                Some(ItemCommand::swap(key(), record, ttl(*expires_ms, now_ms), item.cas?))
            }
        }
    }
}

/// A short pause before a try that is not one of the first.
pub(super) async fn pause(round: usize) {
    if round >= IN_STEP {
        let most = 100 * round as u64;
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..=most))).await;
    }
}

fn ttl(expires_ms: u64, now_ms: u64) -> Option<Duration> {
    (expires_ms != NEVER).then(|| Duration::from_millis(expires_ms.saturating_sub(now_ms).max(1)))
}

/// What stands under a key. What the server still has is not over.
pub(super) fn standing(item: &SeenItem, now_ms: u64) -> Option<Standing<'_>> {
    let record = item.record.as_ref()?;
    let left = item.left.and_then(|left| u64::try_from(left).ok());
    let expires_ms =
        left.map_or(NEVER, |left| now_ms.saturating_add(left.saturating_mul(1000)).max(now_ms + 1));
    Some(Standing { record, expires_ms })
}

/// What time it is, as far as what stands under a key is concerned.
///
/// The times in a hold are by the clock of the process that placed its first holder. The record is kept until the last holder
/// expires, and up to two seconds longer, and the server says in whole seconds how long that still is: together these give the
/// time of that clock within three seconds. A clock that is within them (all clocks that are set are) is exact; one that is
/// not is not believed, and the earliest of these times counts, for then nobody's hold is over too soon.
fn now_of(item: Option<&SeenItem>) -> u64 {
    let own = clock::now_ms();
    let hold = item.and_then(|item| item.record.as_ref()).and_then(|record| EntryRef::read(record).ok());
    let last = hold
        .filter(|it| it.header().kind == Kind::Hold)
        .and_then(|it| it.holders().map(|it| it.expires_ms).max());
    let left = item.and_then(|item| item.left).and_then(|left| u64::try_from(left).ok());
    match (last, left) {
        (Some(last), Some(left)) => {
            let earliest = last.saturating_sub(left.saturating_mul(1000));
            if (earliest..=earliest.saturating_add(3000)).contains(&own) { own } else { earliest }
        }
        _ => own,
    }
}
