//! What a write has collected, in the order of collecting.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::guarded::guard;
use crate::policy::WriteMode;
use crate::region::{Extent, RegionCore, What};

/// Something to send, and where.
pub(super) type OfRegions = Vec<(Arc<RegionCore>, Vec<Bytes>)>;

/// One thing that a write is going to void.
pub(super) struct Step {
    pub(super) region: Arc<RegionCore>,
    pub(super) what: What,
    /// For the log.
    pub(super) collected: Extent,
    /// Flights, near and tier 1 of this process.
    pub(super) local: Vec<Local>,
    /// Its keys are held in the shared tier (write modes `Strict`, `Serve`, `Degrade`).
    pub(super) held: bool,
    /// It was tried to hold them, so some of them may be held, and all are where `held` says so.
    pub(super) tried: bool,
}

/// What a step does in this process.
pub(super) struct Local {
    /// In flights, and in near by key. May be done more than once.
    pub(super) void: Box<dyn Fn() + Send + Sync>,
    /// In the request itself; also where the write is rolled back, as it may have read what it wrote.
    pub(super) forget: Box<dyn Fn() + Send + Sync>,
    /// Gives the request, which has forgotten it, what it has put there itself.
    pub(super) put: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Step {
    /// In this process. May be done more than once.
    pub(super) fn void(&self) {
        self.region.void_near(&self.what);
        // each by itself: what panics in one does not keep the others from being voided
        self.local.iter().for_each(|local| guard(&local.void).unwrap_or_default());
    }

    pub(super) fn forget(&self) {
        self.local.iter().for_each(|local| guard(&local.forget).unwrap_or_default());
    }

    /// Forgets what the request read, and not what it wrote: that is committed, or on its way there.
    pub(super) fn remember(&self) {
        for local in &self.local {
            guard(&local.forget).unwrap_or_default();
            // in this order: what was collected after it has the last word
            local.put.iter().for_each(|put| guard(put).unwrap_or_default());
        }
    }

    /// What came of placing holds: where it was tried, and what is held.
    pub(super) fn was_held(&mut self, tried: &OfRegions, held: &[Arc<RegionCore>]) {
        self.tried |= tried.iter().any(|(region, _)| Arc::ptr_eq(region, &self.region));
        self.held |= self.keys().is_some() && held.iter().any(|region| Arc::ptr_eq(region, &self.region));
        if self.held && self.region.policy.write_mode != WriteMode::Serve {
            // from COMMIT on nobody may find here what was before it (I2)
            self.void();
        }
    }

    /// Its keys, where it names keys and something keeps them.
    pub(super) fn keys(&self) -> Option<&[Bytes]> {
        match &self.what {
            What::Keys(keys) if self.region.stores() => Some(keys),
            _ => None,
        }
    }

    fn joins(&self, next: &Self) -> bool {
        let alike = matches!(
            (&self.what, &next.what),
            (What::Keys(_), What::Keys(_)) | (What::Tags(_), What::Tags(_))
        );
        Arc::ptr_eq(&self.region, &next.region) && self.held == next.held && alike
    }

    fn join(&mut self, next: Self) {
        match (&mut self.what, next.what) {
            (What::Keys(keys), What::Keys(more)) => keys.extend(more),
            (What::Tags(tags), What::Tags(more)) => {
                let more: Vec<_> = more.into_iter().filter(|tag| !tags.contains(tag)).collect();
                tags.extend(more);
            }
            _ => {}
        }
        self.collected.add(&next.collected);
        self.local.extend(next.local);
    }
}

/// Neighbours of one kind in one region become one trip; the order of the others stays. Each key is there once, at its
/// first place (`R7`).
pub(super) fn merge(steps: Vec<Step>) -> Vec<Step> {
    let mut merged: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        match merged.last_mut() {
            Some(last) if last.joins(&step) => last.join(step),
            _ => merged.push(step),
        }
    }
    for step in &mut merged {
        if let What::Keys(keys) = &mut step.what {
            let mut seen = HashSet::with_capacity(keys.len());
            keys.retain(|key| seen.insert(key.clone()));
        }
    }
    merged
}
