//! What near and the shared tier know of the keys: hits end here.

use bytes::Bytes;

use super::right::Seal;
use super::verdict::{Footing, Found, Remark, Rules, Unproven, Verdict};
use super::{Claim, Item, Way};
use crate::answer::{Known, Outcome};
use crate::carried::Carried;
use crate::coherence::Mark;
use crate::entry::Fence;
use crate::error::{Error, OF_A_KEY};
use crate::event::Event;
use crate::guarded::{Panicked, each, let_go};
use crate::near::NearEntry;
use crate::read::{LookingUp, Missing};
use crate::region::Stamps;
use crate::registry::{HIDDEN, Once};
use crate::report::Tier;
use crate::source::Source;
use crate::sync::AtomicBool;

/// A key that is being looked up.
pub(super) struct Ask<S: Source> {
    pub(super) key: S::Key,
    /// Its place in the part.
    pub(super) at: usize,
    /// Its key in the shared tier.
    pub(super) record: Bytes,
    /// What near had seen of the key before the shared tier was read (`R13`).
    pub(super) seen: u64,
    /// How many changes of the key had been reported before then.
    pub(super) mark: Mark,
    /// Near may know it, and is not allowed to answer before a ping has been answered.
    aside: bool,
    /// The shared tier was asked for it.
    asked: bool,
    /// Its readers were answered while the load of the claim went on.
    pub(super) early: AtomicBool,
    pub(super) answer: Option<Outcome<S::Value>>,
    /// Answered, and to be loaded anew in the background under this fence.
    pub(super) refresh: Option<Fence>,
    /// What the shared tier had that is no answer.
    met: Option<Box<Met<S>>>,
}

/// What the shared tier had that is no answer yet, or none at all.
enum Met<S: Source> {
    /// To be proven.
    Unproven(Unproven<S>),
    Miss(Footing<S>),
}

impl<S: Source> Ask<S> {
    pub(super) fn new(key: S::Key, at: usize, record: Bytes, seen: u64, mark: Mark) -> Self {
        Self {
            key,
            at,
            record,
            seen,
            mark,
            aside: false,
            asked: false,
            early: AtomicBool::new(false),
            answer: None,
            refresh: None,
            met: None,
        }
    }

    /// One field after the other: the second panic while the first one unwinds would end the process.
    pub(super) fn let_go(mut self) {
        self.let_go_of_values();
        let_go(self.key);
    }

    /// What is left may be dropped if keys may.
    pub(super) fn let_go_of_values(&mut self) {
        // mostly given to the readers
        if self.answer.is_some() || self.met.is_some() {
            let_go(self.answer.take());
            let_go(self.met.take());
        }
    }
}

impl<S: Source> Claim<S> {
    /// Answers a key that had no answer.
    pub(super) fn answer(&mut self, at: usize, answer: Outcome<S::Value>) {
        self.asks[at].answer = Some(answer);
        self.open -= 1;
    }

    /// Does something for each key that is looked up; where a key panics, that one fails.
    fn each_ask(&mut self, work: impl FnMut(&mut Self, usize)) {
        let count = self.asks.len();
        each(self, count, work, |claim, at, why| claim.ask_panicked(at, OF_A_KEY, &why));
    }

    /// The user's code panicked for a key that is looked up.
    pub(super) fn ask_panicked(&mut self, at: usize, what: &str, why: &Panicked) {
        let failed = Outcome::Failed(Error::panicked(S::name(), what, why));
        let ask = &mut self.asks[at];
        ask.refresh = None;
        let before = (ask.answer.replace(failed), ask.met.take());
        // a hook may have had its answer: then it was not among those that are open
        self.open = self.open.saturating_sub(usize::from(before.0.is_none()));
        let_go(before);
    }
}

impl<S: Source> LookingUp for Claim<S> {
    fn leave_to_near(&mut self) -> bool {
        let source = self.source.clone();
        let Some(near) = &source.near else { return false };
        if !self.lane.asks_near() || self.nested {
            return false; // not to be used by a load (R6)
        }
        let (changes, era) = (&source.region.changes, source.region.era());
        self.each_ask(|claim, at| {
            let now_ms = claim.now.steady_ms;
            let ask = &mut claim.asks[at];
            if ask.answer.is_none() {
                ask.aside = near.get(&ask.key, era, changes, now_ms).is_some();
            }
        });
        self.asks.iter().any(|ask| ask.aside)
    }

    fn look_into_near(&mut self, fenced: bool) {
        let source = self.source.clone();
        let Some(near) = &source.near else { return };
        let aside = self.asks.iter().any(|ask| ask.aside);
        self.asks.iter_mut().for_each(|ask| ask.aside = false);
        if !self.lane.asks_near() || !(source.hooked() || aside) || self.nested {
            return; // or asked already, when the keys were claimed; or not to be used by a load (R6)
        }
        if !source.region.near_answers(fenced) {
            return;
        }
        let (changes, era) = (&source.region.changes, source.region.era());
        self.each_ask(|claim, at| {
            let now_ms = claim.now.steady_ms;
            let ask = &mut claim.asks[at];
            if ask.answer.is_some() || ask.asked {
                return;
            }
            let Some(found) = near.get(&ask.key, era, changes, now_ms) else { return };
            let known = match found {
                Carried::Absent => Known::Absent,
                Carried::Live(value) => Known::Value(value),
                Carried::Encoded(encoded) => match source.decode(encoded.format, &encoded.payload) {
                    Ok(value) => Known::Value(value),
                    Err(_) => {
                        // out with it, or every read would look at it; the shared tier was not read for the key yet (R13)
                        let _ = near.invalidate([&ask.key]);
                        ask.seen = near.seen(&ask.key);
                        return;
                    }
                },
            };
            claim.answer(at, Outcome::of(known, false, Tier::Near));
        });
    }

    fn ask_for(&mut self, keys: &mut Vec<Bytes>) -> bool {
        if !self.lane.asks_shared() || !self.source.region.stores() {
            return false;
        }
        // what this process has written and the shared tier has not confirmed is not asked for
        let unconfirmed = self.source.region.unconfirmed.any();
        if unconfirmed {
            self.source.region.send_unconfirmed();
        }
        // and those of the stamps
        keys.reserve(self.asks.len() + 1 + S::TAGS.len());
        self.asking.reserve(self.asks.len());
        for (at, ask) in self.asks.iter_mut().enumerate() {
            if ask.answer.is_none() && !ask.aside && !ask.asked {
                ask.asked = true;
                if unconfirmed && self.source.region.unconfirmed.covers(&ask.record) {
                    // what stands there counts as void: see `look_at`
                    ask.met = Some(Box::new(Met::Miss(Footing::Held(None))));
                    continue;
                }
                // lent, which costs less than a copy
                keys.push(std::mem::take(&mut ask.record));
                self.asking.push(at);
            }
        }
        !self.asking.is_empty()
    }

    fn look_at(&mut self, keys: &mut [Bytes], found: Option<(&[Option<Bytes>], &Stamps)>) {
        let asking = std::mem::take(&mut self.asking);
        for (at, key) in asking.iter().zip(keys) {
            self.asks[*at].record = std::mem::take(key);
        }
        let Some((records, stamps)) = found else { return };
        // the older ones are the safe ones (R12)
        self.read.get_or_insert_with(|| stamps.clone());
        let source = self.source.clone();
        let incarnation = source.region.incarnation();
        let rules = Rules::new(&source, self.lane, stamps, incarnation);
        each(
            self,
            records.len().min(asking.len()),
            |claim, nth| {
                let Some(record) = &records[nth] else { return };
                let at = asking[nth];
                if source.region.unconfirmed.covers(&claim.asks[at].record) {
                    // An invalidation by this process that was not confirmed while the record was on its way: it may be
                    // old. One that was confirmed meanwhile was not acknowledged before this read began.
                    claim.asks[at].met = Some(Box::new(Met::Miss(Footing::Held(None))));
                    return;
                }
                let verdict = rules.verdict(record, &mut claim.now);
                claim.take_verdict(at, verdict);
            },
            |claim, nth, why| claim.ask_panicked(asking[nth], OF_A_KEY, &why),
        );
    }

    fn unproven_tags(&self) -> Vec<String> {
        let met = self.asks.iter().filter_map(|ask| ask.met.as_deref());
        let unproven = met.filter_map(|met| match met {
            Met::Unproven(unproven) => Some(unproven.tags()),
            Met::Miss(_) => None,
        });
        unproven.flatten().map(str::to_owned).collect()
    }

    fn prove_all(&mut self, stamps: Option<&Stamps>) {
        if self.asks.iter().all(|ask| ask.met.is_none()) {
            return;
        }
        let (source, none) = (self.source.clone(), Stamps::default());
        let rules = Rules::new(&source, self.lane, &none, 0);
        self.each_ask(|claim, at| {
            let Some(Met::Unproven(_)) = claim.asks[at].met.as_deref() else { return };
            let Some(Met::Unproven(unproven)) = claim.asks[at].met.take().map(|met| *met) else { return };
            claim.outage |= stamps.is_none();
            let verdict = rules.prove(unproven, stamps, claim.now);
            claim.take_verdict(at, verdict);
        });
    }

    fn missing(self: Box<Self>) -> Box<dyn Missing> {
        self
    }
}

impl<S: Source> Claim<S> {
    /// Does what follows from what a record is worth, for a key that is looked up.
    fn take_verdict(&mut self, at: usize, verdict: Verdict<S>) {
        match verdict {
            Verdict::Fresh(mut found) => {
                if self.source.near.is_some() && !found.kept {
                    let carried = found.carried();
                    let ask = &self.asks[at];
                    self.tell_near(ask.key.clone(), (ask.seen, ask.mark), carried, &found);
                }
                self.asks[at].refresh = found.refresh;
                self.answer(at, Outcome::of(found.known, false, Tier::Shared));
            }
            Verdict::Stale(found) => {
                self.asks[at].refresh = found.refresh;
                self.answer(at, Outcome::of(found.known, true, Tier::Shared));
            }
            Verdict::Unproven(unproven) => self.asks[at].met = Some(Box::new(Met::Unproven(*unproven))),
            Verdict::Miss(footing, remark) => {
                if let Some(remark) = remark {
                    self.remark(remark, &self.asks[at].record.clone());
                }
                if matches!(footing, Footing::Lease(_)) && self.source.near.is_none() {
                    // the changes that were reported up to now; the read missed those before, or the next look finds them
                    self.asks[at].mark = self.source.region.changes.mark(&self.asks[at].record);
                }
                self.asks[at].met = Some(Box::new(Met::Miss(footing)));
            }
        }
    }

    /// The same for a miss, whose lease or whose wait for another process found a record.
    pub(super) fn take_late_verdict(&mut self, at: usize, record: &Bytes, stamps: &Stamps, incarnation: u64) {
        if self.source.region.unconfirmed.covers(&self.items[at].record) {
            return self.stand(at, Footing::Held(None)); // as when it was looked up
        }
        let source = self.source.clone();
        let rules = Rules::new(&source, self.lane, stamps, incarnation);
        match rules.verdict(record, &mut self.now) {
            Verdict::Fresh(mut found) => {
                let item = &self.items[at];
                // those who joined the flight get it as well
                let flies = matches!(item.way, Way::Own);
                if flies || source.near.is_some() {
                    let carried = found.carried();
                    if source.near.is_some() && !found.kept && !item.storable.is_sealed() {
                        let known = (item.seen, item.mark);
                        self.tell_near(item.key.clone(), known, carried.clone(), &found);
                    }
                    if flies {
                        self.items[at].found = Some(carried);
                    }
                }
                self.answer_late(at, found, false);
            }
            Verdict::Stale(found) => self.answer_late(at, found, true),
            // its tags would cost a trip more: load under its fence instead
            Verdict::Unproven(unproven) => self.stand(at, unproven.unread()),
            Verdict::Miss(footing, remark) => {
                if let Some(remark) = remark {
                    self.remark(remark, &self.items[at].record.clone());
                }
                if matches!(footing, Footing::Lease(_)) && source.near.is_none() {
                    self.items[at].mark = source.region.changes.mark(&self.items[at].record);
                }
                self.stand(at, footing);
            }
        }
    }

    fn answer_late(&mut self, at: usize, found: Found<S>, stale: bool) {
        let item = &mut self.items[at];
        if found.kept {
            item.storable.seal(Seal::Held);
        }
        item.refresh = found.refresh;
        item.answer = Some(Outcome::of(found.known, stale, Tier::Shared));
    }

    fn tell_near(&self, key: S::Key, (seen, mark): (u64, Mark), known: Carried<S>, found: &Found<S>) {
        let Some(near) = &self.source.near else { return };
        let now_ms = self.now.steady_ms;
        let entry = NearEntry {
            known,
            // not by the time that it was made: that is of another clock
            until_ms: now_ms.saturating_add(found.left_ms),
            era: self.era,
            tagged: found.tagged,
            mark,
            size: found.size,
        };
        near.insert(key, self.source.near_entry(entry, now_ms), seen);
    }

    /// Says what is to be said of a record that is a miss.
    fn remark(&mut self, remark: Remark, record: &[u8]) {
        let events = &self.request.cache.events;
        match remark {
            // counts as a miss, and is replaced by whoever misses: by a lease over it
            Remark::Foreign { cause, why } => {
                let Some(more) = self.source.seldom.is_due(cause) else { return };
                let key = match S::SHOW_KEYS {
                    true => String::from_utf8_lossy(record).into_owned(),
                    false => HIDDEN.to_owned(),
                };
                events.tell(Event::ForeignRecord { source: S::name(), key, why, more });
            }
            Remark::OtherShape => {
                self.outcomes.other_shape += 1;
                if self.source.says(Once::OtherShape) {
                    events.tell(Event::OtherShape { source: S::name() });
                }
            }
            Remark::Clocks(ahead) => {
                if self.source.says(Once::Clocks) {
                    events.tell(Event::ClocksDiffer { source: S::name(), ahead });
                }
            }
        }
    }

    /// Makes misses of the keys that were not found. Hits stay where they are.
    pub(super) fn part_misses(&mut self) {
        if self.open == 0 {
            return;
        }
        self.open = 0;
        let misses = self.asks.extract_if(.., |ask| ask.answer.is_none());
        let misses: Vec<Ask<S>> = misses.collect();
        self.items.reserve(misses.len());
        for Ask { key, at, record, seen, mark, met, .. } in misses {
            self.items.push(Item::new(key, at, record, seen, mark));
            match met.map(|met| *met) {
                Some(Met::Miss(footing)) => self.stand(self.items.len() - 1, footing),
                // not proven: what is there stays there
                Some(Met::Unproven(unproven)) => {
                    let_go(unproven);
                    self.stand(self.items.len() - 1, Footing::Unknown);
                }
                None => {}
            }
        }
    }

    /// What a miss stands on.
    fn stand(&mut self, at: usize, footing: Footing<S>) {
        let waits = self.waits_for_others();
        let item = &mut self.items[at];
        item.storable.learn(&footing);
        match footing {
            // who holds the lease loads now, or is slow, or gone: wait, or load under the same fence (R3)
            Footing::Lease(fence) => {
                item.elsewhere = (waits && !self.source.refusals.hold(&item.record)).then_some(fence);
            }
            Footing::Replaced(_, backup) | Footing::Held(backup) => item.backup = backup,
            Footing::Foreign(_) | Footing::Outdated(_) | Footing::LeftAlone | Footing::Unknown => {}
        }
    }
}
