//! The outbox, on every database: rows that live and die with their write, relays that void what was left behind.

mod bases;
mod killed;
mod notified;
mod relays;
mod rows;
