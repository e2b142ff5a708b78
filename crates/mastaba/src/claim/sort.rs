//! The rows of a load, brought to their keys.

use std::collections::HashMap;

use super::fetch::{Fetch, failed_by};
use crate::error::{Error, OF_A_KEY};
use crate::event::{Event, Events};
use crate::guarded::{Panicked, each, let_go};
use crate::policy::EntryPolicy;
use crate::registry::Registered;
use crate::source::{Row, Rows, Source};

/// What a loader gave back, on the way to its keys.
struct Sorting<'k, S: Source> {
    keys: &'k [S::Key],
    /// Empty where there is one key.
    places: HashMap<&'k S::Key, usize, foldhash::fast::RandomState>,
    fetched: Vec<Fetch<S>>,
    /// A key panicked while its place was looked for: whose row, or absence, that was is not known.
    lost: Option<Panicked>,
    /// And so is whose failure it was.
    lost_failure: bool,
}

impl<'k, S: Source> Sorting<'k, S> {
    fn new(keys: &'k [S::Key]) -> Self {
        let fetched = keys.iter().map(|_| Fetch::Absent(EntryPolicy::default())).collect();
        let mut sorting = Self { keys, places: HashMap::default(), fetched, lost: None, lost_failure: false };
        if keys.len() > 1 {
            sorting.places.reserve(keys.len());
            let enter = |sorting: &mut Self, at: usize| {
                sorting.places.insert(&keys[at], at);
            };
            each(&mut sorting, keys.len(), enter, |sorting, _, why| sorting.lost = Some(why));
        }
        sorting
    }

    fn place(&self, key: &S::Key) -> Option<usize> {
        match self.keys {
            [only] => (only == key).then_some(0),
            _ => self.places.get(key).copied(),
        }
    }

    /// Takes things of the loader, one after the other, each to the place of its key; whose place there is none for is
    /// given to `foreign`.
    fn take<T>(
        &mut self,
        things: Vec<T>,
        key: impl Fn(&T) -> &S::Key,
        foreign: impl Fn(&S::Key),
        mut put: impl FnMut(&mut Fetch<S>, T),
    ) {
        let count = things.len();
        let mut things = things.into_iter();
        each(
            self,
            count,
            |sorting, _| {
                let Some(thing) = things.next() else { return };
                match sorting.place(key(&thing)) {
                    Some(at) => put(&mut sorting.fetched[at], thing),
                    None => {
                        foreign(key(&thing));
                        let_go(thing);
                    }
                }
            },
            |sorting, _, why| sorting.lost = Some(why),
        );
    }

    fn finish(mut self) -> Vec<Fetch<S>> {
        if let Some(why) = self.lost {
            // what looks absent may be the key of that row
            let error = Error::panicked(S::name(), OF_A_KEY, &why);
            for fetched in &mut self.fetched {
                if self.lost_failure || matches!(fetched, Fetch::Absent(_)) {
                    let_go(std::mem::replace(fetched, Fetch::Failed(error.clone())));
                }
            }
        }
        self.fetched
    }
}

impl<S: Source> Registered<S> {
    /// Brings rows into the order of their keys; what does not fit is said, and harms only its own key.
    pub(super) fn sort(&self, events: &Events, keys: &[S::Key], rows: Rows<S>) -> Vec<Fetch<S>> {
        let show = |key: &S::Key| self.show(key);
        let foreign = |key: &S::Key| events.tell(Event::ForeignRow { source: S::name(), key: show(key) });
        let mut sorting = Sorting::<S>::new(keys);
        // first what failed: neither a row nor an absence of such a key counts
        let mut failures: Option<(usize, Error)> = None;
        let known = sorting.lost.is_some();
        sorting.take(
            rows.failed,
            |(key, _)| key,
            foreign,
            |fetched, (key, cause)| {
                if !matches!(fetched, Fetch::Failed(_)) {
                    let error = failed_by::<S, _>(&format!("loading key {}", show(&key)), cause);
                    failures.get_or_insert_with(|| (0, error.clone())).0 += 1;
                    *fetched = Fetch::Failed(error);
                }
            },
        );
        sorting.lost_failure = sorting.lost.is_some() && !known;
        if let Some((failed, error)) = failures {
            events.tell(Event::KeysFailed { source: S::name(), failed, keys: keys.len(), error });
        }
        sorting.take(
            rows.absent,
            |(key, _)| key,
            foreign,
            |fetched, (_, policy)| {
                if !matches!(fetched, Fetch::Failed(_)) {
                    *fetched = Fetch::Absent(policy);
                }
            },
        );
        sorting.take(
            rows.rows,
            |row| &row.key,
            foreign,
            |fetched, Row { key, value, policy }| match fetched {
                Fetch::Absent(_) => *fetched = Fetch::Row(value, policy),
                // failed by the loader, or by two rows before this one: said already
                Fetch::Failed(_) => let_go(value),
                Fetch::Row(..) => {
                    let text = show(&key);
                    let failed = Fetch::Failed(Error::rows(format!(
                        "source {}: the loader gave back two rows for {text}, and there may be one",
                        S::name()
                    )));
                    events.tell(Event::DuplicateRow { source: S::name(), key: text });
                    let_go((value, std::mem::replace(fetched, failed)));
                }
            },
        );
        sorting.finish()
    }
}
