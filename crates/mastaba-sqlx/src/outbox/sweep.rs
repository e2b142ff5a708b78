//! Deletes the rows of writes that are confirmed: those that end at about the same time by one statement.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long anything of a write that is over may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// So many at a time.
const MOST: usize = 500;
/// So many wait; while the database does not answer, a relay will find the others.
const WAITING: usize = 10_000;

/// Who deletes.
#[derive(Default)]
pub(super) struct Sweeper {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    writes: Vec<i64>,
    /// Somebody deletes, and takes along what comes meanwhile.
    sweeps: bool,
}

impl Sweeper {
    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a write. Whoever gets something from it deletes until nothing is left; otherwise somebody does it already.
    pub(super) fn add(&self, write: i64) -> Option<Sweeping<'_>> {
        let begins = self.state(|state| {
            if state.writes.len() < WAITING {
                state.writes.push(write);
            }
            !std::mem::replace(&mut state.sweeps, true)
        });
        begins.then_some(Sweeping(self))
    }
}

/// Whoever deletes. Dropped before the end, with its runtime for example, it leaves the rest to the next one.
pub(super) struct Sweeping<'s>(&'s Sweeper);

impl Sweeping<'_> {
    pub(super) fn next(&self) -> Option<Vec<i64>> {
        self.0.state(|state| {
            let most = state.writes.len().min(MOST);
            // the end, and the word that nobody sweeps any longer, are one step
            state.sweeps = most > 0;
            (most > 0).then(|| state.writes.drain(..most).collect())
        })
    }
}

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        self.0.state(|state| state.sweeps = false);
    }
}
