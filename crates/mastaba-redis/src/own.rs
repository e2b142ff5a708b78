//! What this process changes by itself, and what such a change may hide (`R13`).
//!
//! A server does not notify a connection of the changes that the connection made itself (`NOLOOP`), and it notifies once per
//! turn of its loop: of each key it remembers who changed it last. So a removal by somebody else that is followed, in
//! the same turn,
//! by a `SET` of ours reaches everybody but us. That is why we notify the listeners ourselves of each own change that may
//! hide another one:
//!
//! * `SET .. NX` (a lease, a stamp that was missing) succeeds just where somebody else has removed the key;
//! * a plain `SET` or `UNLINK` (a stamp that is renewed) succeeds whatever happened before it.
//!
//! A change that succeeds only over exactly what was seen before (`SET .. IFEQ`, the scripts that compare fences) hides
//! nothing: had anybody changed the key before it, it would have failed. Scripts have another connection's identity, so the
//! server notifies us of what they change.
//!
//! An answer to a ping promises that all notifications before it have come. Of an own change the task notifies that waits for
//! its answer, which may run later than the task that waits for the ping, so a ping also waits for the own changes
//! that were begun before it on the same runtime. Those of other runtimes travel on other connections, so the server
//! notifies this one of them; and such a runtime may stand still, with the task that waits for the answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;

use crate::hub::{Hub, lock};

/// The own changes that were sent, and of which the listeners have not been notified yet.
#[derive(Default)]
pub(crate) struct OwnChanges {
    under_way: Mutex<UnderWay>,
    ended: Notify,
}

#[derive(Default)]
struct UnderWay {
    begun: u64,
    /// Each with the runtime that it was begun on.
    numbers: BTreeMap<u64, Option<Id>>,
}

/// The runtime of the caller.
fn here() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

/// A change of these keys that is under way. Dropping it notifies the listeners of every key that is left in it: also where
/// the answer was lost, or is not waited for any longer, for the server may have done what it was asked.
///
/// A command that was sent before the drop is carried out before whatever is read after it on the same connection. So no
/// value whose removal the change hides can be read after the notification.
pub(crate) struct OwnChange<'h> {
    hub: &'h Hub,
    number: u64,
    keys: Vec<Bytes>,
}

impl OwnChanges {
    /// Waits until the listeners were notified of every change that was begun on this runtime before `begun`.
    pub(crate) async fn told(&self, begun: u64) {
        let here = here();
        loop {
            let ended = self.ended.notified();
            if lock(&self.under_way).numbers.range(..=begun).all(|(_, at)| *at != here) {
                return;
            }
            ended.await;
        }
    }

    /// The number of the last change that was begun.
    pub(crate) fn begun(&self) -> u64 {
        lock(&self.under_way).begun
    }
}

impl<'h> OwnChange<'h> {
    /// To be called before the change is sent.
    pub(crate) fn begin(hub: &'h Arc<Hub>, keys: impl IntoIterator<Item = Bytes>) -> Self {
        let mut under_way = lock(&hub.own.under_way);
        under_way.begun += 1;
        let number = under_way.begun;
        under_way.numbers.insert(number, here());
        Self { hub, number, keys: keys.into_iter().collect() }
    }

    /// Of all the keys, only these were changed.
    pub(crate) fn only(mut self, keys: Vec<Bytes>) {
        self.keys = keys;
    }
}

impl Drop for OwnChange<'_> {
    fn drop(&mut self) {
        self.keys.iter().for_each(|key| self.hub.tell(key));
        lock(&self.hub.own.under_way).numbers.remove(&self.number);
        self.hub.own.ended.notify_waiters();
    }
}
