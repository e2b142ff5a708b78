//! Holds that are placed before the commit begins, and renewed for as long as the transaction is open.

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::step::Step;
use super::{Write, publish};
use crate::error::Error;
use crate::report::Meter;
use crate::sync::lock;

/// Renews holds until it is dropped.
pub(super) struct Renewal(AbortHandle);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Write {
    /// Holds what was collected up to now, in the regions whose [`WriteMode`](crate::WriteMode) asks for it, before the
    /// commit does. Everywhere else it does nothing.
    ///
    /// [`commit`](Write::commit) holds by itself. Call this before a commit that the program makes itself; or early in a
    /// transaction that waits for long, so that nobody stores meanwhile what it is about to void.
    ///
    /// One trip per region. The holds stand for [`RegionPolicy::hold_ttl`](crate::RegionPolicy::hold_ttl) and are renewed
    /// until the write ends, one trip per region at a third of that time, which nobody waits for. Where they could not be
    /// renewed, [`commit`](Write::commit) places them anew, or refuses. Dropping the future leaves holds that run out by
    /// themselves.
    ///
    /// # Errors
    /// If keys could not be held ([`Error::is_shared`]), in a region that does not go on without: roll back.
    pub async fn hold(&self) -> Result<(), Error> {
        let (regions, count) = {
            let steps = lock(&self.steps);
            (publish::to_hold(steps.iter()), steps.len())
        };
        let (meter, began) = (Meter::new(self.request.inner.clone(), true), Instant::now());
        let (held, refused) = publish::place(&regions, self.holder, &meter).await;
        let placed = |step: &mut Step| step.was_held(&regions, &held);
        lock(&self.steps).iter_mut().take(count).for_each(placed);
        self.go_on_holding(began);
        refused.map_or(Ok(()), Err)
    }

    /// Renews what is held now, by holds of which the first was placed then, and nothing else.
    pub(super) fn go_on_holding(&self, began: Instant) {
        let mut renewal = lock(&self.renewal);
        let regions = {
            let steps = lock(&self.steps);
            publish::to_hold(steps.iter().filter(|step| step.held))
        };
        *renewal = None;
        if regions.is_empty() {
            return;
        }
        // A savepoint may be dropped anywhere. Holds that nobody renews run out, and the commit places them anew.
        let Ok(runtime) = Handle::try_current() else { return };
        let meter = Meter::new(self.request.inner.clone(), false);
        let holder = self.holder;
        // not one of the tasks that the cache waits for when it is closed: the write may stay open for long
        let task = runtime.spawn(async move { publish::renew(&regions, holder, &meter, began).await });
        *renewal = Some(Renewal(task.abort_handle()));
    }
}
