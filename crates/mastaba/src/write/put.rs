//! Values that a write gives to its request.

use std::sync::Arc;

use super::Write;
use crate::answer::Known;
use crate::error::{Error, OF_A_KEY};
use crate::guarded::{Sheltered, guard};
use crate::request::{Cell, Memo, RequestCache, Slot};
use crate::source::Source;
use crate::sync::lock;

/// A value of a write's own, for its request alone.
type Put<S> = (<S as Source>::Key, Arc<<S as Source>::Value>);

impl Write {
    /// Collects a key, and gives this request the value that is written for it: its reads have the value at once. The
    /// others load it after the commit, and after a rollback nobody has it.
    ///
    /// Costs no trip. Collected again afterwards, the key is read from the source like every other one that was collected.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// let mut user = (*request.get::<UserById>(1).await?.unwrap()).clone();
    /// user.name = "Ada".to_owned();
    /// let write = request.write();
    /// write.put::<UserById>(1, user).await?;
    /// assert_eq!(request.get::<UserById>(1).await?.unwrap().name, "Ada");
    /// write.discard(); // rolled back
    /// assert_eq!(request.get::<UserById>(1).await?.unwrap().name, "user 1");
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`invalidate`](Write::invalidate).
    pub async fn put<S: Source>(&self, key: S::Key, value: impl Into<Arc<S::Value>>) -> Result<(), Error> {
        let copied = guard(|| key.clone()).map_err(|why| Error::panicked(S::name(), OF_A_KEY, &why))?;
        let put: Sheltered<Put<S>> = Sheltered::new(vec![(copied, value.into())]);
        self.collect::<S>(vec![key])?;
        give::<S>(&self.request, put.iter().cloned())?;
        let request = self.request.clone();
        // what is not given again is read from the source
        let again = Box::new(move || drop(give::<S>(&request, put.iter().cloned())));
        let mut steps = lock(&self.steps);
        if let Some(local) = steps.last_mut().and_then(|step| step.local.last_mut()) {
            local.put = Some(again);
        }
        Ok(())
    }
}

/// The request knows these values from now on.
pub(super) fn give<S: Source>(
    request: &RequestCache,
    put: impl IntoIterator<Item = Put<S>>,
) -> Result<(), Error> {
    let mut state = lock(&request.inner.state);
    let at = request.inner.slot::<S>(&mut state)?;
    let begun = request.inner.cache.now();
    let slot = Slot::<S>::of(&mut state.slots[at].1);
    let given = guard(|| {
        for (key, value) in put {
            let memo = Memo::Known { known: Known::Value(value), stale: false, begun };
            slot.cells.insert(key, Cell { call: 0, memo });
        }
    });
    given.map_err(|why| Error::panicked(S::name(), OF_A_KEY, &why))
}
