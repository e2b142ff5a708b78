//! What the read path asks of a claim, whatever its source.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::guarded::Panicked;
use crate::region::{RegionCore, Stamps};
use crate::shared::{Fill, Lease, Leased};

/// The keys of one part on their way, whatever their source.
///
/// The methods are called in the order in which they stand here.
pub(crate) trait AnyClaim: Send {
    fn region(&self) -> &Arc<RegionCore>;
    /// Where near answers only after a ping: looks what it may know, and sets that aside. Whether there is any.
    fn set_aside(&mut self) -> bool;
    /// Near, where its values have to be decoded for each request, or were set aside.
    fn recall_near(&mut self, fenced: bool);
    /// The tags that every entry of this source stands under.
    fn tags(&self) -> &'static [&'static str];
    /// Adds the keys to read from the shared tier, and how many.
    fn wanted(&mut self, keys: &mut Vec<Bytes>) -> usize;
    /// Those keys again, and what the shared tier has under them; `None`: it is out, or knows nothing.
    fn recall(&mut self, keys: &mut [Bytes], found: Option<(&[Option<Bytes>], &Stamps)>);
    /// Tags that entries stand under whose stamps are not known yet.
    fn unproven(&self) -> Vec<String>;
    /// The stamps of those tags.
    fn prove(&mut self, stamps: Option<&Stamps>);
    /// Boards flights, and tells which leases its own one needs. `None`: it loads nothing.
    fn board(&mut self, ready: bool) -> Option<Vec<Lease>>;
    /// What became of the leases; `None`: nothing may be stored.
    fn leased(&mut self, leased: Option<(&[Leased], &Stamps)>);
    /// Whether there is anything to wait for.
    fn waits(&self) -> bool;
    /// Loads what it has to, waits for what others load, until every key is answered.
    fn load(&mut self) -> BoxFuture<'_, ()>;
    /// Whether there is a hook on what enters the request.
    fn is_hooked(&self) -> bool;
    /// That hook.
    fn enter(&mut self) -> BoxFuture<'_, ()>;
    /// Answers its readers.
    fn settle(&mut self);
    /// Whether it loaded anything itself, or others joined its flight: then there is more to do than to answer.
    fn brought(&self) -> bool;
    /// Tags of loaded values whose stamps have to be read before they can be stored.
    fn untagged(&mut self) -> Vec<String>;
    /// What to store, for the shared tier.
    fn fills(&mut self, tags: Option<&Stamps>) -> Vec<Fill>;
    /// Which of them were stored.
    fn filled(&mut self, stored: &[bool]);
    /// The keys that were answered with something to be refreshed in the background.
    fn refreshes(&mut self) -> Option<Box<dyn AnyClaim>>;
    /// How long the rest of the batch waits for its load.
    fn patience(&self) -> Duration;
    /// Something of it panicked that was not known to: its keys fail, and nothing of it is stored.
    fn cut_off(&mut self, why: &Panicked);
}
