//! Trips to the database that no loader makes.

use std::fmt;

use tokio::time::Instant;

use super::RequestCache;
use crate::report::{Meter, Operation};

/// A trip to the database that is under way: see [`RequestCache::database_trip`].
///
/// Dropping it before it has ended writes it down as one that failed: whoever waited for it has gone.
#[must_use = "it ends where it is dropped"]
pub struct DatabaseTrip {
    meter: Meter,
    what: &'static str,
    statements: usize,
    began: Instant,
    failed: bool,
}

impl RequestCache {
    /// Counts a trip to the database that no loader makes, a statement of a transaction for example, so that it stands in
    /// the [report](RequestCache::report) and budgets hold for it.
    ///
    /// It begins here, and was so many statements. It is for crates that connect a database with writes, as
    /// `mastaba-sqlx` does.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::World;
    ///
    /// let request = World::new().await.request();
    /// let trip = request.database_trip("update", 1);
    /// // update account set ..
    /// trip.ended(true);
    /// assert_eq!((request.report().statements(), request.report().shared_trips()), (1, 0));
    /// # });
    /// ```
    pub fn database_trip(&self, what: &'static str, statements: usize) -> DatabaseTrip {
        let meter = Meter::new(self.inner.clone(), true);
        DatabaseTrip { meter, what, statements, began: Instant::now(), failed: true }
    }
}

impl DatabaseTrip {
    /// Says that it was so many statements, if they were more than was said in the beginning.
    pub fn of(mut self, statements: usize) -> Self {
        self.statements = self.statements.max(statements);
        self
    }

    /// It has ended, well or badly.
    pub fn ended(mut self, well: bool) {
        self.failed = !well;
    }
}

impl Drop for DatabaseTrip {
    fn drop(&mut self) {
        let time = (self.began, self.began.elapsed());
        self.meter.trip(Operation::Database, self.what, 0, self.statements, time, self.failed);
    }
}

impl fmt::Debug for DatabaseTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseTrip").field("what", &self.what).finish_non_exhaustive()
    }
}
