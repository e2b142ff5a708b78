//! The relay: voids what writes have left behind.
//!
//! A write is taken as a whole, by its first row, so that two relays never share one: its pieces have an order (`R7`). It is
//! deleted after the shared tier has confirmed every piece at the first attempt, in that order; otherwise it stays, and is
//! voided again from its beginning.

mod unread;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mastaba::{Cache, Error, Event, Outgoing, Published};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use self::unread::Unread;
use super::Outbox;
use super::statements::{HEADS, Head, OutboxRow};
use crate::dialect::Dialect;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The rows that are read, and voided, at a time, unless one write has more: about four megabytes.
const AT_A_TIME: i32 = 256;
/// With so many writes that the shared tier has not confirmed, no more are taken.
const WAITING: usize = 10_000;

/// A relay at work. Dropping it ends it: what it was just voiding goes on to be voided, and its rows stay.
#[must_use = "the relay ends when this is dropped"]
pub struct Relay {
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<Notify>,
}

impl Relay {
    /// Ends it, and waits until it has.
    pub async fn stop(mut self) {
        self.stop.notify_one();
        // the first is the relay itself; the other one only listens
        let relay = self.tasks.remove(0);
        let _ = relay.await;
    }

    /// Whether it has ended: the cache was closed, or its runtime ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.tasks.first().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("has_ended", &self.has_ended()).finish_non_exhaustive()
    }
}

pub(super) fn start<DB: Dialect>(outbox: Outbox<DB>, cache: Cache) -> Relay {
    let (stop, wake) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let listening = DB::wakes(&outbox.core.pool, &outbox.core.table, wake.clone()).map(tokio::spawn);
    let told = stop.clone();
    let relay = tokio::spawn(async move {
        let closing = cache.closing();
        let mut worker = Worker { outbox, cache, waiting: HashMap::new(), unread: Unread::default() };
        tokio::select! {
            () = worker.run(&wake) => {}
            () = closing => {}
            () = told.notified() => {}
        }
    });
    Relay { tasks: std::iter::once(relay).chain(listening).collect(), stop }
}

struct Worker<DB: Dialect> {
    outbox: Outbox<DB>,
    cache: Cache,
    /// Writes that the shared tier has not confirmed. This process keeps what they void, acts as if it had happened, and
    /// sends it again; then they are taken once more, to be voided in their order.
    waiting: HashMap<i64, Published>,
    unread: Unread,
}

/// Why a pass did not come to its end.
struct PassFailed(String);

impl From<sqlx::Error> for PassFailed {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Error> for PassFailed {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl<DB: Dialect> Worker<DB> {
    async fn run(&mut self, wake: &Notify) {
        let mut away: Option<Instant> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.pass().await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    if let Some(since) = away.take() {
                        let table = self.table();
                        self.cache.tell(Event::OutboxBack { table, after: since.elapsed() });
                    }
                    // not all processes at the same time
                    let poll = self.outbox.core.poll.mul_f64(1.0 - 0.25 * fastrand::f64());
                    let _ = timeout(poll, wake.notified()).await;
                }
                Err(PassFailed(why)) => {
                    if away.is_none() {
                        away = Some(Instant::now());
                        self.cache.tell(Event::OutboxAway { table: self.table(), why });
                    }
                    sleep(pause.mul_f64(1.0 - 0.25 * fastrand::f64())).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Everything that is due now, page by page.
    async fn pass(&mut self) -> Result<(), PassFailed> {
        self.waiting.retain(|_, published| !published.is_confirmed());
        let any = {
            let mut connection = self.outbox.core.pool.acquire().await?;
            DB::any_due(&mut connection, &self.outbox.core.table).await?
        };
        // what cannot be read stays, and is gone past
        let mut after = any.then_some(0);
        while let Some(last) = after {
            after = self.page(last).await?;
        }
        Ok(())
    }

    /// Voids and deletes one page of writes. Gives where the next one begins.
    async fn page(&mut self, after: i64) -> Result<Option<i64>, PassFailed> {
        let core = self.outbox.core.clone();
        let mut held = DB::begin(&core.pool).await?;
        let heads = DB::heads(&mut held, &core.table, after).await?;
        let (mut writes, mut collected) = (0, 0);
        let free: Vec<_> =
            heads.iter().filter(|head| !self.waiting.contains_key(&head.write)).copied().collect();
        for part in parts(&free) {
            let numbers: Vec<_> = part.iter().map(|head| head.write).collect();
            let rows = DB::rows(&mut held, &core.table, &numbers).await?;
            let of_rows: Vec<_> = rows.iter().map(|row| (row.id, row.write)).collect();
            let (done, pieces) = self.read(part, rows);
            if done.is_empty() {
                continue;
            }
            let published = self.cache.void(&pieces).await?;
            if published.error().is_some() {
                // taken again at once they would fail again, and be kept once more each time
                self.waiting.extend(done.into_iter().map(|write| (write, published.clone())));
                continue;
            }
            let gone = |row: &(i64, i64)| done.contains(&row.1).then_some(row.0);
            let ids: Vec<_> = of_rows.iter().filter_map(gone).collect();
            DB::delete(&mut held, &core.table, &ids).await?;
            writes += done.len();
            collected += pieces.iter().map(Outgoing::len).sum::<usize>();
        }
        held.commit().await?;
        if writes > 0 {
            self.cache.tell(Event::OutboxRelayed { table: self.table(), writes, collected });
        }
        let full = i64::try_from(heads.len()).is_ok_and(|len| len == HEADS);
        let more = full && self.waiting.len() < WAITING;
        Ok(heads.last().filter(|_| more).map(|last| last.id))
    }

    /// The writes that can be relayed, with all of their pieces, in their order.
    fn read(&mut self, heads: &[Head], rows: Vec<OutboxRow>) -> (Vec<i64>, Vec<Outgoing>) {
        let mut of_writes: HashMap<i64, Vec<OutboxRow>> = HashMap::new();
        rows.into_iter().for_each(|row| of_writes.entry(row.write).or_default().push(row));
        let (mut done, mut pieces) = (Vec::new(), Vec::new());
        for head in heads {
            let mut rows = of_writes.remove(&head.write).unwrap_or_default();
            rows.sort_unstable_by_key(|row| row.piece);
            match self.decode(head, &rows) {
                Ok(of_write) => {
                    done.push(head.write);
                    pieces.extend(of_write);
                }
                Err((row, why)) => {
                    if let Some(more) = self.unread.says(row) {
                        self.cache.tell(Event::OutboxUnread { table: self.table(), row, why, more });
                    }
                }
            }
        }
        (done, pieces)
    }

    fn decode(&self, head: &Head, rows: &[OutboxRow]) -> Result<Vec<Outgoing>, (i64, String)> {
        let whole = i32::try_from(rows.len()).is_ok_and(|len| len == head.pieces)
            && (0..).zip(rows).all(|(piece, row): (i32, _)| row.piece == piece);
        if !whole {
            let why = format!("its write has {} rows, and {} of them are here", head.pieces, rows.len());
            return Err((head.id, why));
        }
        let piece = |row: &OutboxRow| {
            let piece =
                Outgoing::from_bytes(&row.body).and_then(|piece| self.cache.check(&piece).map(|()| piece));
            piece.map_err(|error| (row.id, error.to_string()))
        };
        rows.iter().map(piece).collect()
    }

    fn table(&self) -> String {
        self.outbox.core.table.clone()
    }
}

/// Cuts a page where it has too many rows; a write stays whole.
fn parts(heads: &[Head]) -> impl Iterator<Item = &[Head]> {
    let mut rest = heads;
    std::iter::from_fn(move || {
        let mut rows = 0_i32;
        let fits = rest.iter().take_while(|head| {
            rows = rows.saturating_add(head.pieces);
            rows <= AT_A_TIME
        });
        let (part, more) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = more;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_between_its_writes() {
        let head = |pieces| Head { id: 0, write: 0, pieces };
        let cut = |pieces: &[i32]| {
            let heads: Vec<_> = pieces.iter().map(|pieces| head(*pieces)).collect();
            parts(&heads).map(<[Head]>::len).collect::<Vec<_>>()
        };
        assert_eq!(cut(&[]), [0; 0]);
        assert_eq!(cut(&[1; 100]), [100]);
        assert_eq!(cut(&[1000, 1, 255, 1, i32::MAX, 1]), [1, 2, 1, 1, 1]);
    }
}
