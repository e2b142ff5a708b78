//! Leases and the stamps beside them: one trip where nobody is in the way.

use std::sync::Arc;

use bytes::Bytes;
use mastaba::lease::{self, Change, NEVER, Standing};
use mastaba::shared::{Lease, Leased, Leases, Stamp};
use mastaba::{Fault, FaultKind};

use super::transform::{TRIES, pause};
use super::{Memcached, again_and_again, unexpected};
use crate::wire::{ItemCommand, ItemReply, Pipe, SeenItem};

/// A wish, and what it is to be compared with.
enum Wish<'a> {
    Lease(&'a Lease),
    Stamp(&'a Stamp),
}

/// What became of it.
enum Got {
    Leased(Leased),
    Number(u64),
}

impl Memcached {
    pub(super) async fn take_leases(
        &self,
        leases: &[Lease],
        stamps: &[Stamp],
        incarnation: u64,
    ) -> Result<Leases, Fault> {
        let mut asks: Vec<_> = leases.iter().map(Wish::Lease).chain(stamps.iter().map(Wish::Stamp)).collect();
        // On several servers the last stamp is read after the others: an invalidation by tag renews it before them.
        let last = if self.hub().servers() > 1 && !stamps.is_empty() { asks.pop() } else { None };
        let mut got = self.ask(&asks, incarnation).await?;
        got.extend(self.ask(last.as_slice(), incarnation).await?);
        let (mut leased, mut numbers) = (Vec::with_capacity(leases.len()), Vec::with_capacity(stamps.len()));
        for got in got {
            match got {
                Got::Leased(it) => leased.push(it),
                Got::Number(number) => numbers.push(number),
            }
        }
        Ok(Leases { leased, stamps: numbers })
    }

    async fn ask(&self, asks: &[Wish<'_>], incarnation: u64) -> Result<Vec<Got>, Fault> {
        self.each(asks.iter().map(Wish::key), |connection, places| {
            Box::pin(async move {
                let asks: Vec<_> = places.iter().map(|at| &asks[*at]).collect();
                self.ask_one_server(&connection, &asks, incarnation).await
            })
        })
        .await
    }

    /// Each is added, and what stands there is read, in one go; a second trip is only for what has to give way.
    async fn ask_one_server(
        &self,
        connection: &Arc<Pipe>,
        asks: &[&Wish<'_>],
        incarnation: u64,
    ) -> Result<Vec<Got>, Fault> {
        let mut got: Vec<Option<Got>> = asks.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..asks.len()).collect();
        for round in 0..TRIES {
            pause(round).await;
            let commands = open.iter().flat_map(|nth| {
                let key = self.full(asks[*nth].key());
                [asks[*nth].add(key.clone()), ItemCommand::look(key)]
            });
            let mut replies = connection.run(commands.collect()).await?.into_iter();
            let (mut commands, mut changed, mut again) = (Vec::new(), Vec::new(), Vec::new());
            for nth in open {
                let ask = asks[nth];
                match (replies.next(), replies.next()) {
                    (Some(ItemReply::Done(_)), Some(_)) => got[nth] = Some(ask.added()),
                    (Some(ItemReply::Other), Some(ItemReply::Done(item))) => {
                        let (change, answer) = ask.decide(&item, incarnation);
                        match self.command(ask.key(), Some(&item), &change, 0) {
                            Some(command) => {
                                commands.push(command);
                                changed.push((nth, answer));
                            }
                            None => got[nth] = Some(answer),
                        }
                    }
                    // it went in between
                    (Some(ItemReply::Other), Some(ItemReply::Missing)) => again.push(nth),
                    (Some(refused @ ItemReply::Refused(_)), _) | (_, Some(refused)) => {
                        return Err(unexpected(ask.what(), &refused));
                    }
                    _ => return Err(Fault::new(FaultKind::Damaged, "memcached: an answer is missing")),
                }
            }
            let done = connection.run(commands).await?;
            for ((nth, answer), reply) in changed.into_iter().zip(done) {
                match reply {
                    ItemReply::Done(_) => got[nth] = Some(answer),
                    ItemReply::Missing | ItemReply::Other => again.push(nth),
                    refused => return Err(unexpected(asks[nth].what(), &refused)),
                }
            }
            if again.is_empty() {
                let missing = || Fault::new(FaultKind::Damaged, "memcached: an answer is missing");
                return got.into_iter().map(|got| got.ok_or_else(missing)).collect();
            }
            again.sort_unstable();
            open = again;
        }
        Err(again_and_again("a lease"))
    }
}

impl Wish<'_> {
    fn key(&self) -> &Bytes {
        match self {
            Self::Lease(ask) => &ask.key,
            Self::Stamp(ask) => &ask.key,
        }
    }

    fn what(&self) -> &'static str {
        match self {
            Self::Lease(_) => "a lease",
            Self::Stamp(_) => "a stamp",
        }
    }

    fn add(&self, key: Vec<u8>) -> ItemCommand {
        match self {
            Self::Lease(ask) => ItemCommand::add(key, &ask.record, Some(ask.ttl)),
            Self::Stamp(ask) => ItemCommand::add(key, &ask.value.to_le_bytes(), ask.ttl),
        }
    }

    fn added(&self) -> Got {
        match self {
            Self::Lease(_) => Got::Leased(Leased::Granted),
            Self::Stamp(ask) => Got::Number(ask.value),
        }
    }

    /// What becomes of what is in the way. What the server still has is not over, whatever a clock of ours says: holds stand
    /// until the server drops them. So it is the time 0, and nothing is over.
    fn decide(&self, item: &SeenItem, incarnation: u64) -> (Change, Got) {
        let standing = item.record.as_ref().map(|record| Standing { record, expires_ms: NEVER });
        match self {
            Self::Lease(ask) => {
                let (change, leased) = lease::lease(standing, incarnation, 0, ask);
                (change, Got::Leased(leased))
            }
            Self::Stamp(ask) => {
                let (change, number) = lease::stamp(standing, 0, ask);
                (change, Got::Number(number))
            }
        }
    }
}
