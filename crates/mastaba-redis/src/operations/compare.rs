//! What scripts do, by `SET .. IFEQ`, where the server forbids scripts; and what is left where it has neither.
//!
//! The server compares whole records, and a record has a fence that nobody draws twice, so to compare the record that was
//! seen is to compare its fence (`R1`). What a script does in one step is a look and then a `SET` that is tried again where
//! the record has changed between the two. Nothing is removed that way, as `UNLINK` compares nothing: instead a void lease is
//! put there, which the server removes a millisecond later.
//!
//! Without either, nothing is stored: leases are granted to everybody and fills are refused. Invalidations are as sure as
//! ever: other processes may be allowed more.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use mastaba::entry::{self, Fence};
use mastaba::lease::{self, Change, NEVER, Standing};
use mastaba::shared::{Fill, Filled};
use mastaba::{Fault, FaultKind};
use tokio::time::sleep;

use super::hold::TRIES;
use super::{Redis, expiry, millis, unexpected};
use crate::wire::{Command, ServerReply};

/// How long a void lease may stand, and after that it does not: the server counts milliseconds.
const VOID: Duration = Duration::from_millis(1);
const VOID_IS_OVER: Duration = Duration::from_millis(2);

/// A record that is of no use to anybody: no store has this incarnation.
fn void() -> Bytes {
    entry::lease(Fence::random(), 0).into()
}

impl Redis {
    /// Puts one record in the place of exactly another one, as the script `SWAP` does. `renewing`: with the write stamps of the
    /// key, which go: that voids what a new number would (`R16`).
    pub(super) async fn swap_by_compare(
        &self,
        key: &Bytes,
        before: Option<&Bytes>,
        after: Option<(&Bytes, Option<Duration>)>,
        renewing: bool,
    ) -> Result<bool, Fault> {
        let full = self.full(key);
        let void = void();
        let (record, ttl) = after.unwrap_or((&void, Some(VOID)));
        let [set, nx, ifeq] = ["SET", "NX", "IFEQ"];
        let mut words = vec![full.clone(), record.clone()];
        match before {
            Some(before) => words.extend([Bytes::from_static(ifeq.as_bytes()), before.clone()]),
            None => words.push(Bytes::from_static(nx.as_bytes())),
        }
        words.extend(expiry(ttl));
        let swap = match (before, after) {
            (None, None) => Command::new("GET", &[full]),
            _ => Command::new(set, &words),
        };
        // before it, for an end, and after it, for a hold (R17)
        let stamps = if renewing { self.stamps_gone(key) } else { Vec::new() };
        let at = stamps.len();
        let mut commands = stamps;
        commands.push(swap);
        commands.extend(if renewing { self.stamps_gone(key) } else { Vec::new() });
        let mut replies = self.run(commands).await?;
        let done = replies.remove(at);
        if let Some(other) = replies.iter().find(|reply| !matches!(reply, ServerReply::Number(_))) {
            return Err(unexpected("a stamp", other));
        }
        match done {
            ServerReply::Done => {
                if after.is_none() {
                    sleep(VOID_IS_OVER).await;
                }
                Ok(true)
            }
            ServerReply::Nil => Ok(before.is_none() && after.is_none()),
            ServerReply::Bytes(_) => Ok(false),
            other => Err(unexpected("a swap", &other)),
        }
    }

    /// The records of write stamps that say something of a key, to be removed.
    fn stamps_gone(&self, key: &Bytes) -> Vec<Command> {
        let records = self.inner.hub.stamps.all();
        records.of(key).map(|record| Command::new("UNLINK", &[self.full(record)])).collect()
    }

    /// Fills over values, of which a reader knows the fence alone: looks at them, and compares what it saw.
    pub(super) async fn refresh_by_compare(
        &self,
        fills: &[Fill],
        places: Vec<usize>,
        filled: &mut [Filled],
    ) -> Result<(), Fault> {
        if places.is_empty() {
            return Ok(());
        }
        let incarnation = self.inner.hub.incarnation();
        let looks = places.iter().map(|at| Command::new("GET", &[self.full(&fills[*at].key)])).collect();
        let mut seen = Vec::new();
        for (at, reply) in places.into_iter().zip(self.run(looks).await?) {
            let ServerReply::Bytes(found) = reply else { continue };
            let standing = Standing { record: &found, expires_ms: NEVER };
            if lease::fill(Some(standing), incarnation, 0, &fills[at]).1 == Filled::Stored {
                seen.push((at, found));
            }
        }
        let sets = seen.iter().map(|(at, found)| {
            let fill = &fills[*at];
            let [ifeq, px] = ["IFEQ", "PX"].map(|word| Bytes::from_static(word.as_bytes()));
            let words =
                [self.full(&fill.key), fill.record.clone(), ifeq, found.clone(), px, millis(fill.ttl)];
            Command::new("SET", &words)
        });
        let replies = self.run(sets.collect()).await?;
        for ((at, _), reply) in seen.into_iter().zip(replies) {
            match reply {
                ServerReply::Done => filled[at] = Filled::Stored,
                ServerReply::Nil => {}
                other => return Err(unexpected("a fill", &other)),
            }
        }
        Ok(())
    }

    /// Voids keys, each by itself, so in no order. Their write stamps go first (`R16`).
    pub(super) async fn void_by_compare(&self, keys: &[Bytes]) -> Result<(), Fault> {
        let gone = self.remove_stamps(keys).await;
        // all of them, whatever one was answered with: a key whose stamp was not removed is voided all the same (R16)
        let voided = join_all(keys.iter().map(|key| self.void_one_by_compare(key))).await;
        sleep(VOID_IS_OVER).await;
        voided.into_iter().fold(gone, Result::and)
    }

    async fn remove_stamps(&self, keys: &[Bytes]) -> Result<(), Fault> {
        let stamps = keys.iter().flat_map(|key| self.stamps_gone(key)).collect();
        let replies = self.run(stamps).await?;
        match replies.iter().find(|reply| !matches!(reply, ServerReply::Number(_))) {
            Some(other) => Err(unexpected("a stamp", other)),
            None => Ok(()),
        }
    }

    async fn void_one_by_compare(&self, key: &Bytes) -> Result<(), Fault> {
        let full = self.full(key);
        let [nx, ifeq, px] = ["NX", "IFEQ", "PX"].map(|word| Bytes::from_static(word.as_bytes()));
        for _ in 0..TRIES {
            let found = self.run(vec![Command::new("GET", std::slice::from_ref(&full))]).await?.pop();
            let mut words = vec![full.clone(), void()];
            match found {
                // also where nothing stands: listeners are notified of it (R13)
                Some(ServerReply::Nil) => words.push(nx.clone()),
                Some(ServerReply::Bytes(record)) => {
                    let standing = Standing { record: &record, expires_ms: NEVER };
                    if lease::invalidate(Some(standing), 0) != Change::Remove {
                        // a hold, which forgets what it keeps
                        return self.forget_kept(key).await;
                    }
                    words.extend([ifeq.clone(), record]);
                }
                Some(ServerReply::Refused(code, _)) if code == "WRONGTYPE" => {
                    return self.unlink(&full).await;
                }
                other => return Err(unexpected("an invalidation", &other.unwrap_or(ServerReply::Nil))),
            }
            words.extend([px.clone(), millis(VOID)]);
            match self.run(vec![Command::new("SET", &words)]).await?.pop() {
                Some(ServerReply::Done) => return Ok(()),
                Some(ServerReply::Nil) => {}
                // no hold stands there, and while memory is full none can be placed
                Some(ServerReply::Refused(code, _)) if code == "OOM" => return self.unlink(&full).await,
                other => return Err(unexpected("an invalidation", &other.unwrap_or(ServerReply::Nil))),
            }
        }
        Err(Fault::new(
            FaultKind::Refused,
            "redis: a key was changed by others again and again; it was not invalidated",
        ))
    }

    async fn unlink(&self, full: &Bytes) -> Result<(), Fault> {
        match self.run(vec![Command::new("UNLINK", std::slice::from_ref(full))]).await?.pop() {
            Some(ServerReply::Number(_)) => Ok(()),
            other => Err(unexpected("an invalidation", &other.unwrap_or(ServerReply::Nil))),
        }
    }

    /// Voids keys in their order where the server compares nothing. A hold, which only a process that is allowed more can have
    /// placed, is left to stand, and its key is not confirmed: nobody can fill it meanwhile. One that is placed between the look
    /// and the removal goes with it, for nothing here can compare: see CAVEATS.
    pub(super) async fn void_plainly(&self, keys: &[Bytes]) -> Result<(), Fault> {
        let gone = self.remove_stamps(keys).await;
        let head = ["0", "2"].map(|word| Bytes::from_static(word.as_bytes()));
        let looks = keys.iter().map(|key| {
            let [from, to] = head.clone();
            Command::new("GETRANGE", &[self.full(key), from, to])
        });
        let kinds = self.run(looks.collect()).await?;
        let is_held = |kind: &ServerReply| matches!(kind, ServerReply::Bytes(kind) if kind[..] == *b"Mtp");
        let px = Bytes::from_static(b"PX");
        let commands = keys.iter().zip(&kinds).filter(|(_, kind)| !is_held(kind)).flat_map(|(key, _)| {
            let full = self.full(key);
            // a key that is absent is notified of as well (R13)
            let touch = Command::new("SET", &[full.clone(), void(), px.clone(), millis(VOID)]);
            [touch, Command::new("UNLINK", &[full])]
        });
        let replies = self.run(commands.collect()).await?;
        if let Some(other) =
            replies.iter().skip(1).step_by(2).find(|reply| !matches!(reply, ServerReply::Number(_)))
        {
            return Err(unexpected("an invalidation", other));
        }
        if kinds.iter().any(is_held) {
            let sentence = "redis: a key is held by a process that may use scripts, which this one may not";
            return Err(Fault::new(FaultKind::Refused, sentence));
        }
        gone
    }
}
