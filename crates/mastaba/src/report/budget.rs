//! What a piece of work may cost.

use std::fmt;

use super::counted;

/// What a piece of work may cost at most: a test, a request, a route.
///
/// Both numbers, or one of them, which leaves the other one free.
///
/// ```
/// use mastaba::Budget;
///
/// assert_eq!(Budget::statements(2), Budget { statements: 2, ..Budget::ANY });
/// assert_eq!(Budget { trips: 4, ..Budget::statements(2) }, Budget { trips: 4, statements: 2 });
/// ```
///
/// Asserted by [`Report::assert_at_most`](crate::Report::assert_at_most) and
/// [`RequestCache::budget`](crate::RequestCache::budget); warned about by [`Scope::budget`](crate::Scope::budget) and the
/// layers for web frameworks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Trips to the shared tier that the request waited for.
    pub trips: usize,
    /// Statements that the request waited for.
    pub statements: usize,
}

impl Budget {
    /// As many trips and statements as there may be.
    pub const ANY: Self = Self { trips: usize::MAX, statements: usize::MAX };

    /// So many statements, and any number of trips.
    #[must_use]
    pub const fn statements(statements: usize) -> Self {
        Self { statements, ..Self::ANY }
    }

    /// So many trips, and any number of statements.
    #[must_use]
    pub const fn trips(trips: usize) -> Self {
        Self { trips, ..Self::ANY }
    }

    pub(crate) fn allows(self, trips: usize, statements: usize) -> bool {
        trips <= self.trips && statements <= self.statements
    }

    /// What to say of something that costs more than it may.
    pub(crate) fn over(self, trips: usize, statements: usize) -> Option<String> {
        (!self.allows(trips, statements)).then(|| {
            let (trips, statements) = (counted(trips, "trip"), counted(statements, "statement"));
            format!(
                "cost {trips} and {statements}, and may cost {} and {}",
                Most(self.trips),
                Most(self.statements)
            )
        })
    }
}

/// The most of something.
struct Most(usize);

impl fmt::Display for Most {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            usize::MAX => f.write_str("any number"),
            most => most.fmt(f),
        }
    }
}
