//! How far a database and its replica have come, for [`Replicated::checked_by`](mastaba::Replicated::checked_by).

#[cfg(feature = "mysql")]
mod gtid;
#[cfg(feature = "postgres")]
mod wal;

#[cfg(feature = "mysql")]
pub use gtid::Gtid;
#[cfg(feature = "postgres")]
pub use wal::Wal;
