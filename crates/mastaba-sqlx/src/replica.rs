//! How far a database and its replica have come, for [`Replicated::checked_by`](mastaba::Replicated::checked_by).

mod wal;

pub use wal::Wal;
