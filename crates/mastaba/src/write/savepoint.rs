//! Points that a write can be taken back to, as its transaction can.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::Instrument;

use super::step::{OfRegions, Step};
use super::{INVALIDATION, Write};
use crate::region::What;
use crate::report::Meter;
use crate::shared::WriteOutcome;
use crate::sync::lock;

/// A point of a [`Write`]: see [`Write::savepoint`].
#[derive(Clone, Copy, Debug)]
#[must_use = "it says what to take back"]
pub struct Savepoint(usize);

impl Write {
    /// Remembers how much was collected up to now, where the transaction sets a savepoint.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let write = world.request().write();
    /// write.invalidate::<UserById>([1]).await?;
    /// let savepoint = write.savepoint(); // savepoint before_two
    /// write.invalidate::<UserById>([2]).await?;
    /// write.rolled_back_to(savepoint);   // rollback to savepoint before_two
    /// write.commit(async { Ok::<_, std::io::Error>(()) }).await.unwrap();
    /// assert_eq!(world.trips(), ["shared invalidate [1]"]);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub fn savepoint(&self) -> Savepoint {
        Savepoint(lock(&self.steps).len())
    }

    /// The transaction was rolled back to a savepoint: takes back what was collected after it, and nothing of what was
    /// collected before.
    ///
    /// Costs no trip that is waited for: what was [held](Write::hold) for it is ended in the background. The request
    /// forgets what it read of these keys.
    pub fn rolled_back_to(&self, savepoint: Savepoint) {
        let held = {
            let mut steps = lock(&self.steps);
            let from = savepoint.0.min(steps.len());
            let dropped = steps.split_off(from);
            self.narrow(&dropped);
            dropped.iter().for_each(Step::forget);
            // values that were put before the savepoint may have been covered since
            steps.iter().for_each(Step::remember);
            held_by(&dropped, &steps)
        };
        if held.is_empty() {
            return;
        }
        let (meter, holder) = (Meter::new(self.request.inner.clone(), false), self.holder);
        self.go_on_holding(Instant::now());
        let ends = async move {
            for (region, keys) in held {
                // what is not ended runs out by itself
                let _ = region.end(&meter, &keys, holder, WriteOutcome::RolledBack).await;
            }
        };
        if let Ok(home) = self.request.inner.cache.home(INVALIDATION) {
            home.spawn(ends.in_current_span());
        }
    }

    /// These steps no longer keep the request from the shared tier.
    fn narrow(&self, dropped: &[Step]) {
        let wide = dropped.iter().filter(|step| !matches!(step.what, What::Keys(_))).count();
        self.wide.fetch_sub(wide, Ordering::Relaxed);
        lock(&self.request.inner.state).wide_writes -= wide;
    }
}

/// What these steps hold and no other one does: the holds of a write are one set, with one holder (`R9`).
fn held_by(dropped: &[Step], others: &[Step]) -> OfRegions {
    let mut regions = OfRegions::new();
    for step in dropped.iter().filter(|step| step.held) {
        let Some(keys) = step.keys() else { continue };
        let others = others.iter().filter(|other| other.held && Arc::ptr_eq(&other.region, &step.region));
        let kept: HashSet<_> = others.filter_map(Step::keys).flatten().collect();
        let keys: Vec<_> = keys.iter().filter(|key| !kept.contains(key)).cloned().collect();
        if !keys.is_empty() {
            regions.push((step.region.clone(), keys));
        }
    }
    regions
}
