//! What writers meet, and what both rest on: one program, which is linked once.

mod broken;
mod commit;
mod conformance;
mod consistency;
mod counterexamples;
mod deploys;
mod guard;
mod hidden_keys;
mod limits;
mod outgoing;
mod own_writes;
mod policy;
mod protocol;
#[path = "../schedules/mod.rs"]
mod schedules;
mod stamp_orders;
mod tag_orders;
mod telling;
mod transactions;
mod unconfirmed;
#[path = "../versions/mod.rs"]
mod versions;
mod writes;
