//! What becomes of a key whose code, or whose value's code, panics.

use std::sync::Arc;

use super::right::Seal;
use super::{Claim, Item};
use crate::error::Error;
use crate::guarded::{Panicked, let_go};
use crate::read::OnTheWay;
use crate::region::RegionCore;
use crate::source::Source;

/// What panicked, where nothing else is known of it.
const READING: &str = "what it was read with";

impl<S: Source> Claim<S> {
    /// The user's code panicked for an item: that one fails, and is not stored.
    pub(super) fn panicked(&mut self, at: usize, what: &str, why: &Panicked) {
        let answer = self.failed(at, Error::panicked(S::name(), what, why));
        let item = &mut self.items[at];
        item.storable.seal(Seal::Plain);
        let before = (item.answer.replace(answer), item.loaded.take());
        let_go(before);
    }
}

impl<S: Source> OnTheWay for Claim<S> {
    fn region(&self) -> &Arc<RegionCore> {
        &self.source.region
    }

    fn tags(&self) -> &'static [&'static str] {
        S::TAGS
    }

    fn cut_off(&mut self, why: &Panicked) {
        self.asking.clear();
        self.leasing.clear();
        self.filling.clear();
        for at in 0..self.asks.len() {
            if self.asks[at].answer.is_none() {
                self.ask_panicked(at, READING, why);
            }
        }
        for at in 0..self.items.len() {
            if self.items[at].answer.is_none() {
                self.panicked(at, READING, why);
            } else if let Some(loaded) = self.items[at].loaded.take() {
                let_go(loaded);
            }
        }
    }
}

impl<S: Source> Item<S> {
    /// One field after the other: the second panic while the first one unwinds would end the process.
    pub(super) fn let_go(self) {
        let Self { key, answer, backup, way, found, loaded, .. } = self;
        let_go(key);
        let_go(answer);
        let_go(backup);
        let_go(way);
        let_go(found);
        let_go(loaded);
    }
}
