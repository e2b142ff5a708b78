//! A request that lives long: forgetting what it knows.

use std::any::TypeId;
use std::sync::atomic::Ordering;

use super::{RequestCache, RequestCore};
use crate::request::slot::{Glance, Slot};
use crate::source::Source;
use crate::sync::lock;

impl RequestCache {
    /// Forgets what this request knows of these keys: whoever asks for them from now on asks the tiers below.
    ///
    /// Costs no trip. Reads that are on their way go on, and are remembered by nobody. A key that this request has
    /// [written](RequestCache::write) goes on to be read from the source. What near knows it may answer, as of the
    /// point in time that near was last made sure of for this request; [`renew`](RequestCache::renew) makes sure anew.
    /// For a source that this request has never asked, it does nothing.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let connection = world.request();
    /// assert_eq!(connection.get::<UserById>(1).await?.unwrap().version, 0);
    /// world.db.update(1);
    /// world.request().invalidate::<UserById>([1]).await?; // by another request
    /// assert_eq!(connection.get::<UserById>(1).await?.unwrap().version, 0, "what it has read stays as it was");
    /// connection.forget::<UserById>([1]);
    /// assert_eq!(connection.get::<UserById>(1).await?.unwrap().version, 1);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub fn forget<S: Source>(&self, keys: impl IntoIterator<Item = S::Key>) {
        // first the keys and then the lock: the iterator is the caller's, and may use this request
        let keys: Vec<_> = keys.into_iter().collect();
        self.inner.forget::<S>(&keys);
    }

    /// Forgets everything that this request knows: from now on it reads as a new request would.
    ///
    /// To be called where one piece of work ends and the next one begins: for each message of a websocket, each event of
    /// a subscription, each round of a job. Reads see every write that was acknowledged before; near is made sure of
    /// anew; keys that this request wrote are no longer read past the shared tier and from the writer. As long as a
    /// [`Write`](crate::Write) of it has not ended, all that this request wrote goes on to be read from the source.
    ///
    /// Costs no trip, and gives back the memory of what was known. The [stash](RequestCache::stash) stays, and so does
    /// the [report](RequestCache::report), which goes on to count. Reads that are on their way go on, and are
    /// remembered by nobody. Clones are renewed with it, for they are one request.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let connection = world.request();
    /// for version in 0..3 {
    ///     connection.renew(); // a message has come
    ///     assert_eq!(connection.get::<UserById>(1).await?.unwrap().version, version);
    ///     world.db.update(1);
    ///     world.request().invalidate::<UserById>([1]).await?; // by another request
    /// }
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    pub fn renew(&self) {
        self.inner.onces.forget();
        let tick = self.inner.cache.tick();
        let mut state = lock(&self.inner.state);
        let published = state.open_writes == 0;
        state.slots.iter_mut().for_each(|(_, slot)| slot.renew(tick, published));
        state.fenced.clear();
        state.renewals += 1;
        state.glance = Glance::new();
        state.turn_page();
        if published {
            self.inner.wrote.store(false, Ordering::Relaxed);
        }
    }
}

impl RequestCore {
    /// Forgets what is known of these keys. What is on its way with them is not remembered.
    pub(crate) fn forget<S: Source>(&self, keys: &[S::Key]) {
        let mut state = lock(&self.state);
        let id = TypeId::of::<S>();
        if let Some((_, slot)) = state.slots.iter_mut().find(|(each, _)| *each == id) {
            Slot::<S>::of(slot).forget(keys, self.cache.tick());
            state.turn_page();
        }
    }
}
