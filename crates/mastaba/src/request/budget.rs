//! A budget that a test cannot forget to assert.

use std::fmt;
use std::panic::Location;

use super::RequestCache;
use crate::report::Budget;

impl RequestCache {
    /// A guard that panics when it is dropped, with the whole report, if the request has cost more than this since the
    /// guard was made. For tests: it also covers what fails in between and returns early.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    /// use mastaba::Budget;
    ///
    /// let request = World::new().await.request();
    /// request.get::<UserById>(1).await?; // before it: not counted
    /// {
    ///     let _budget = request.budget(Budget::statements(1));
    ///     tokio::try_join!(request.get::<UserById>(2), request.get::<UserById>(3))?; // together: one statement
    /// }
    /// # let quiet = std::panic::take_hook(); std::panic::set_hook(Box::new(|_| {}));
    /// let budget = request.budget(Budget::statements(1));
    /// request.get::<UserById>(4).await?;
    /// request.get::<UserById>(5).await?; // one after the other: N+1 begins like this
    /// let dropped = std::panic::AssertUnwindSafe(move || drop(budget));
    /// assert!(std::panic::catch_unwind(dropped).is_err());
    /// # std::panic::set_hook(quiet);
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// Costs no trip. While another panic unwinds it says nothing. What a web service may cost is said by
    /// [`Scope::budget`](crate::Scope::budget) and the layers for web frameworks, which warn.
    #[track_caller]
    pub fn budget(&self, budget: Budget) -> BudgetGuard {
        BudgetGuard { request: self.clone(), budget, before: spent(self), made_at: Location::caller() }
    }
}

/// Panics when it is dropped, if its request has cost too much meanwhile: see [`RequestCache::budget`].
#[must_use = "it looks at the cost when it is dropped: bind it to a name, `let _budget = ..`"]
pub struct BudgetGuard {
    request: RequestCache,
    budget: Budget,
    /// Trips and statements.
    before: (usize, usize),
    made_at: &'static Location<'static>,
}

/// Trips and statements that the request has waited for.
fn spent(request: &RequestCache) -> (usize, usize) {
    let report = request.report();
    (report.shared_trips(), report.statements())
}

impl Drop for BudgetGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // what went wrong first is what there is to see
        }
        let (trips, statements) = spent(&self.request);
        let (trips, statements) = (trips - self.before.0, statements - self.before.1);
        if let Some(over) = self.budget.over(trips, statements) {
            panic!("what is under the budget of {} {over}\n{}", self.made_at, self.request.report());
        }
    }
}

impl fmt::Debug for BudgetGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { budget, before, made_at, .. } = self;
        f.debug_struct("BudgetGuard")
            .field("budget", budget)
            .field("before", before)
            .field("made_at", made_at)
            .finish_non_exhaustive()
    }
}
