//! The states of the keys of one source on their way, as the read path sees them, whatever the source.
//!
//! ```text
//! LookingUp ──► Missing ──► Loading ──► Answering ──► Storing
//!                   └── nothing to load ──►┘
//! ```
//!
//! What can be done in a state is a method of its trait. What leads to the next one consumes it, so that the order is no
//! matter of care. All are views of one claim in one box: another state costs no allocation. What may panic takes `&mut self`,
//! because the keys of what panicked are failed, and what consumes only goes on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::guarded::Panicked;
use crate::region::{RegionCore, Stamps};
use crate::shared::{Fill, Lease, Leased};

/// What holds in every state.
pub(crate) trait OnTheWay: Send {
    fn region(&self) -> &Arc<RegionCore>;
    /// The tags that every entry of this source stands under.
    fn tags(&self) -> &'static [&'static str];
    /// Something of it panicked that was not known to: its keys fail, and nothing of it is stored.
    fn cut_off(&mut self, why: &Panicked);
}

/// Near and the shared tier are asked. Hits end here.
pub(crate) trait LookingUp: OnTheWay {
    /// Where near answers only after a ping: looks what it may know, and leaves that until the ping was answered. Whether
    /// there is any.
    fn leave_to_near(&mut self) -> bool;
    /// Near, where its values have to be decoded for each request, or had to wait for a ping.
    fn look_into_near(&mut self, fenced: bool);
    /// Adds the keys to read from the shared tier. Whether there are any.
    fn ask_for(&mut self, keys: &mut Vec<Bytes>) -> bool;
    /// Those keys again, and what the shared tier has under them; `None`: it is out, or knows nothing.
    fn look_at(&mut self, keys: &mut [Bytes], found: Option<(&[Option<Bytes>], &Stamps)>);
    /// Tags that entries stand under whose stamps are not known yet.
    fn unproven_tags(&self) -> Vec<String>;
    /// The stamps of those tags; `None`: the shared tier did not answer.
    fn prove_all(&mut self, stamps: Option<&Stamps>);
    /// What was not found is to be loaded.
    fn missing(self: Box<Self>) -> Box<dyn Missing>;
}

/// Who is to load what no tier had: flights in this process, leases across processes.
pub(crate) trait Missing: OnTheWay {
    /// Whether there is anything to load, or to wait for.
    fn waits(&self) -> bool;
    /// Joins flights for what is unanswered, and says which leases its own one needs. `None`: it takes none.
    fn board_flights(&mut self, ready: bool) -> Option<Vec<Lease>>;
    /// What became of the leases: a fence to fill under, or what was found instead. `None`: nothing may be stored.
    fn take_leases(&mut self, leased: Option<(&[Leased], &Stamps)>);
    /// It is known who loads what.
    fn loading(self: Box<Self>) -> Result<Box<dyn Loading>, Box<dyn Answering>>;
}

/// The source is asked, here or by others.
pub(crate) trait Loading: OnTheWay {
    /// How long the rest of the batch waits for it.
    fn patience(&self) -> Duration;
    /// Loads what it has to, waits for what others load, until every key is answered.
    fn load(&mut self) -> BoxFuture<'_, ()>;
    /// It has come, or was cut off.
    fn answering(self: Box<Self>) -> Box<dyn Answering>;
}

/// Every key has its answer, and readers wait for it.
pub(crate) trait Answering: OnTheWay {
    /// Whether there is a hook on what enters the request.
    fn is_hooked(&self) -> bool;
    /// Runs it.
    fn enter(&mut self) -> BoxFuture<'_, ()>;
    /// Gives the request's memory and the readers what became of the keys.
    fn answer_readers(&mut self);
    /// The keys that were answered with something to be loaded anew in the background.
    fn refreshes(&mut self) -> Option<Box<dyn Missing>>;
    /// What is left to do with nobody waiting. `None`: it loaded nothing itself, and so nobody joined its flight.
    fn storing(self: Box<Self>) -> Option<Box<dyn Storing>>;
}

/// What was loaded is stored, and who joined learns whether it was.
pub(crate) trait Storing: OnTheWay {
    /// Asks the source for the tags of what it loaded; gives those whose stamps were not read yet.
    fn name_tags(&mut self) -> Vec<String>;
    /// The records to store.
    fn make_fills(&mut self, tags: Option<&Stamps>) -> Vec<Fill>;
    /// Which of them were stored: those who joined (`R5`) and near learn it.
    fn confirm(&mut self, stored: &[bool]);
}
