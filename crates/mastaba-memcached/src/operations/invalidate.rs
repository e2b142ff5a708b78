//! Invalidations: stamps in their order, then keys in theirs.

use std::sync::Arc;

use bytes::Bytes;
use mastaba::shared::Stamp;
use mastaba::{Fault, FaultKind, lease};

use super::transform::{Decided, TRIES, pause};
use super::{Memcached, again_and_again, unexpected};
use crate::wire::{self, HOLD, ItemCommand, ItemReply, Pipe};

impl Memcached {
    pub(super) async fn void(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        let several = self.hub().servers() > 1;
        // on several servers the first stamp before the others, and all of them before the keys
        let (first, rest) = stamps.split_at(if several { stamps.len().min(1) } else { 0 });
        self.set_stamps(first).await?;
        self.set_stamps(rest).await?;
        if !keys.is_empty() && !self.void_keys(keys).await? {
            // R7: they were removed in no order. What was derived meanwhile from an inner object that was still to go is void
            // after the second time.
            self.void_keys(keys).await?;
        }
        Ok(())
    }

    /// Whether our list is in use at the servers that were asked. A visitor does not write it, so where there is none the prefix or
    /// the servers may be wrong, and what was to be voided stands elsewhere.
    pub(super) async fn find_list(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        let hub = self.hub();
        for part in self.parts(keys.iter().chain(stamps.iter().map(|ask| &ask.key))) {
            let connection = self.to(part.server).await?;
            match connection.run(vec![wire::look_at_list(hub)]).await?.pop() {
                Some(ItemReply::Done(item))
                    if wire::is_ours(hub, item.record.as_deref().unwrap_or_default()) => {}
                Some(ItemReply::Done(_)) => {
                    hub.found_elsewhere(part.server);
                    hub.is_in_use()?;
                }
                Some(ItemReply::Missing) => {
                    let sentence = format!(
                        "memcached at {}: no list of servers is known there: is the list, and the prefix, right? After a restart \
                         whoever uses the server writes the list again within seconds",
                        hub.name(part.server)
                    );
                    return Err(Fault::new(FaultKind::Refused, sentence));
                }
                other => {
                    let reply = other.unwrap_or(ItemReply::Other);
                    return Err(unexpected("a look at its list of servers", &reply));
                }
            }
        }
        Ok(())
    }

    async fn set_stamps(&self, stamps: &[Stamp]) -> Result<(), Fault> {
        let set = self.each(stamps.iter().map(|ask| &ask.key), |connection, places| {
            Box::pin(async move {
                let set = |at: &usize| {
                    let ask = &stamps[*at];
                    ItemCommand::put(self.full(&ask.key), &ask.value.to_le_bytes(), ask.ttl)
                };
                let replies = connection.run(places.iter().map(set).collect()).await?;
                // Full: a stamp that is not stored is gone, which voids the same. It becomes a new one with the next lease (R12).
                let done = |reply| match reply {
                    ItemReply::Done(_) | ItemReply::Refused(_) => Ok(()),
                    other => Err(unexpected("a stamp", &other)),
                };
                replies.into_iter().map(done).collect()
            })
        });
        set.await.map(drop)
    }

    /// Whether the keys were voided in their order.
    async fn void_keys(&self, keys: &[Bytes]) -> Result<bool, Fault> {
        let parts = self.parts(keys.iter());
        let done = parts.iter().map(|part| async move {
            let connection = self.to(part.server).await?;
            self.void_of_one_server(&connection, part.places.iter().map(|at| &keys[*at]).collect()).await
        });
        // all of them, whatever one was answered with
        let done = futures_util::future::join_all(done).await;
        let in_order = done.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().all(|in_order| in_order);
        Ok(in_order && parts.len() == 1)
    }

    /// Removes what is no hold, in the order of the keys; a hold forgets what it keeps. Whether all went in order.
    async fn void_of_one_server(&self, connection: &Arc<Pipe>, keys: Vec<&Bytes>) -> Result<bool, Fault> {
        let mut in_order = true;
        let mut open = keys;
        for round in 0..TRIES {
            pause(round).await;
            let looked = connection
                .run(open.iter().map(|key| ItemCommand::look_aside(self.full(key))).collect())
                .await?;
            let (mut removals, mut removed, mut held) = (Vec::new(), Vec::new(), Vec::new());
            for (key, reply) in open.into_iter().zip(looked) {
                match reply {
                    // R7: what is derived meanwhile from an inner object that is still to go is void only after a second time
                    ItemReply::Missing => in_order &= removals.is_empty(),
                    ItemReply::Done(item) if item.flags == Some(HOLD) => held.push(key),
                    ItemReply::Done(item) => {
                        let no_number = || unexpected("an invalidation", &ItemReply::Other);
                        removals.push(ItemCommand::remove(self.full(key), item.cas.ok_or_else(no_number)?));
                        removed.push(key);
                    }
                    other => return Err(unexpected("an invalidation", &other)),
                }
            }
            in_order &= held.is_empty();
            let done = connection.run(removals).await?;
            let mut again = Vec::new();
            for (key, reply) in removed.into_iter().zip(done) {
                match reply {
                    ItemReply::Done(_) | ItemReply::Missing => {}
                    ItemReply::Other => again.push(key),
                    other => return Err(unexpected("an invalidation", &other)),
                }
            }
            if !held.is_empty() {
                self.forget_kept(connection, &held).await?;
            }
            if again.is_empty() {
                return Ok(in_order);
            }
            in_order = false;
            open = again;
        }
        Err(again_and_again("an invalidation"))
    }

    async fn forget_kept(&self, connection: &Arc<Pipe>, keys: &[&Bytes]) -> Result<(), Fault> {
        let forget = |_, standing: Option<lease::Standing<'_>>, now_ms| {
            Ok(Decided { change: lease::invalidate(standing, now_ms), answer: (), refused: None })
        };
        let keys = keys.iter().enumerate().map(|(at, key)| (at, *key)).collect();
        self.transform(connection, "an invalidation", keys, forget).await.map(drop)
    }
}
