//! Fills: on one server those of a call are one call of a script, in bounded pieces.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use mastaba::shared::{Fill, Filled, Over, stamps};
use mastaba::{Fault, entry};

use super::{Inner, Redis, millis, unexpected};
use crate::hub::Means;
use crate::script;
use crate::wire::{Command, ServerReply};

/// A script holds up everybody else, so it stores no more than this at once: that takes the server a millisecond at most.
/// What is beyond follows in the same trip, and others have their turn in between.
const MOST_KEYS: usize = 128;

/// The same in bytes of records. A record that is larger alone has a call to itself.
const MOST_BYTES: usize = 128 << 10;

/// What one command stores: the places of its fills.
struct Piece {
    places: Vec<usize>,
    /// Of their records.
    bytes: usize,
    by: StoredBy,
}

/// How a piece is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StoredBy {
    /// By `SET .. IFEQ`: the server compares the lease.
    Compare,
    /// By a script that compares fences.
    Fences,
    /// By a script that compares stamps in the record under this key (`R15`).
    Stamps(Bytes),
}

impl Redis {
    pub(super) async fn store(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        let mut filled = vec![Filled::Refused; fills.len()];
        let Some(_under_way) = self.admit(fills) else {
            tracing::debug!(target: "mastaba", fills = fills.len(), "not stored: too many fills are under way");
            return Ok(filled);
        };
        let (hub, incarnation) = (&self.inner.hub, self.inner.hub.incarnation());
        if incarnation == 0 || hub.is_quarantined() {
            return Ok(filled);
        }
        // R11: what was leased in another incarnation is not stored in this one
        let fits = |fill: &Fill| {
            entry::peek(&fill.record).is_ok_and(|it| {
                it.is_of(incarnation) && matches!(it.kind, entry::Kind::Value | entry::Kind::Absent)
            })
        };
        // nobody renews stamps in a cluster, and without scripts for two keys nothing compares one
        let one_key = || self.is_cluster() || hub.is_one_key();
        let unleased = |fill: &Fill| matches!(fill.over, Over::Unleased { .. });
        let mut places: Vec<_> = (0..fills.len()).filter(|at| fits(&fills[*at])).collect();
        places.retain(|at| !(unleased(&fills[*at]) && one_key()));
        match hub.means() {
            Means::Scripts => {}
            Means::Compare => {
                places.retain(|at| !unleased(&fills[*at]));
                let (leased, others) = places.into_iter().partition(|at| fills[*at].over == Over::Lease);
                places = leased;
                self.refresh_by_compare(fills, others, &mut filled).await?;
            }
            Means::Nothing => return Ok(filled),
        }
        let mut compares = hub.compares();
        let mut most_keys = if one_key() { 1 } else { MOST_KEYS };
        while !places.is_empty() {
            let pieces = pieces(fills, places, compares, most_keys);
            let commands = pieces.iter().map(|piece| self.fill_command(fills, piece, incarnation)).collect();
            let replies = self.run(commands).await?;
            places = Vec::new();
            for (piece, reply) in pieces.into_iter().zip(replies) {
                match reply {
                    ServerReply::Done | ServerReply::Number(1) => filled[piece.places[0]] = Filled::Stored,
                    ServerReply::Nil | ServerReply::Number(0) => {}
                    ServerReply::Refused(code, _) if code == "WRONGTYPE" && piece.places.len() == 1 => {}
                    ServerReply::Refused(_, said)
                        if piece.by == StoredBy::Compare && said.contains("syntax") =>
                    {
                        // the server is not what it said it is: nothing was stored, and scripts can do the same
                        hub.compares_no_longer();
                        compares = false;
                        places.extend(piece.places);
                    }
                    ServerReply::Refused(code, _)
                        if code == "CROSSSLOT" && matches!(piece.by, StoredBy::Stamps(_)) =>
                    {
                        hub.one_key_from_now_on();
                    }
                    ServerReply::Refused(code, _) if code == "CROSSSLOT" && piece.places.len() > 1 => {
                        hub.one_key_from_now_on();
                        most_keys = 1;
                        places.extend(piece.places);
                    }
                    ServerReply::Bytes(digits) if is_answer(&digits, piece.places.len()) => {
                        let stored = piece.places.into_iter().zip(digits).filter(|(_, digit)| *digit == b'1');
                        stored.for_each(|(at, _)| filled[at] = Filled::Stored);
                    }
                    other => return Err(unexpected("a fill", &other)),
                }
            }
        }
        Ok(filled)
    }

    /// Stores where the fence is still the expected one (`R1`). Of a lease every byte is known, so that the server can
    /// compare by itself where it is able to; of a value only the fence is.
    fn fill_command(&self, fills: &[Fill], piece: &Piece, incarnation: u64) -> Command {
        let fills = piece.places.iter().map(|at| &fills[*at]);
        if let StoredBy::Stamps(record) = &piece.by {
            return self.unleased_command(fills, piece.places.len(), record, incarnation);
        }
        if let (StoredBy::Compare, Some(fill)) = (&piece.by, fills.clone().next()) {
            let lease = Bytes::from(entry::lease(fill.expected, incarnation));
            let [ifeq, px] = ["IFEQ", "PX"].map(|word| Bytes::from_static(word.as_bytes()));
            let words = [self.full(&fill.key), fill.record.clone(), ifeq, lease, px, millis(fill.ttl)];
            return Command::new("SET", &words);
        }
        let fence = |fill: &Fill| Bytes::copy_from_slice(&fill.expected.0.to_le_bytes());
        let count = piece.places.len();
        let script = if count == 1 { &script::FILL } else { &script::FILLS };
        let mut words = Vec::with_capacity(4 * count + 1);
        words.extend(fills.clone().map(|fill| self.full(&fill.key)));
        words.push(Bytes::copy_from_slice(&entry::incarnation_bytes(incarnation)));
        words.extend(fills.flat_map(|fill| [fence(fill), fill.record.clone(), millis(fill.ttl)]));
        Command::script_of(script, count, words)
    }

    /// Stores where the stamp of each key is still the one that was read (`R15`).
    fn unleased_command<'f>(
        &self,
        fills: impl Iterator<Item = &'f Fill> + Clone,
        count: usize,
        record: &Bytes,
        incarnation: u64,
    ) -> Command {
        let number = |number: u64| Bytes::copy_from_slice(&number.to_le_bytes());
        let mut words = Vec::with_capacity(6 * count + 2);
        words.push(self.full(record));
        words.extend(fills.clone().map(|fill| self.full(&fill.key)));
        words.push(Bytes::copy_from_slice(&entry::incarnation_bytes(incarnation)));
        words.extend(fills.flat_map(|fill| {
            let stamp = if let Over::Unleased { stamp, .. } = fill.over { stamp } else { 0 };
            let fence = if fill.expected.0 == 0 { Bytes::new() } else { number(fill.expected.0) };
            let place = stamps::place(&fill.key).to_string().into();
            [place, number(stamp), fence, fill.record.clone(), millis(fill.ttl)]
        }));
        Command::script_of(&script::FILLS_UNLEASED, count + 1, words)
    }

    /// Counts a call of fill in, unless too much is under way.
    fn admit(&self, fills: &[Fill]) -> Option<Filling<'_>> {
        let inner = &*self.inner;
        let bytes = fills.iter().map(|fill| fill.record.len() as u64).sum();
        let calls = inner.filling.fetch_add(1, Ordering::AcqRel) + 1;
        let total = inner.filling_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let filling = Filling { inner, bytes };
        (calls <= inner.hub.config.max_fills && total <= inner.hub.config.max_fill_bytes).then_some(filling)
    }
}

/// Fills that are under way, until this is dropped.
struct Filling<'a> {
    inner: &'a Inner,
    bytes: u64,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.inner.filling.fetch_sub(1, Ordering::AcqRel);
        self.inner.filling_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// What is stored by one command each. `compares`: a fill over a lease is a command of its own, as the server compares.
fn pieces(fills: &[Fill], places: Vec<usize>, compares: bool, most_keys: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for at in places {
        let by = match &fills[at].over {
            Over::Lease if compares => StoredBy::Compare,
            Over::Lease | Over::Record => StoredBy::Fences,
            Over::Unleased { stamps, .. } => StoredBy::Stamps(stamps.clone()),
        };
        let size = fills[at].record.len();
        let last = match by {
            StoredBy::Compare => None,
            _ => pieces.iter_mut().rfind(|piece| piece.by == by),
        };
        match last {
            Some(last) if last.places.len() < most_keys && last.bytes + size <= MOST_BYTES => {
                last.places.push(at);
                last.bytes += size;
            }
            _ => pieces.push(Piece { places: vec![at], bytes: size, by }),
        }
    }
    pieces
}

/// Whether a script has answered for every key.
fn is_answer(digits: &[u8], keys: usize) -> bool {
    digits.len() == keys && digits.iter().all(|digit| matches!(digit, b'0' | b'1'))
}
