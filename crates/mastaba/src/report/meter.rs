//! What the tasks of a request say in its report.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Operation, Trip};

/// What a report is made of: a request.
pub(crate) trait Metered: Send + Sync {
    /// When it began.
    fn began(&self) -> Instant;
    fn add_trip(&self, trip: Trip);
    /// An operation of the shared tier was not tried.
    fn add_passed_over(&self);
}

/// Says in the report what was done, from the task that does it.
#[derive(Clone)]
pub(crate) struct Meter {
    request: Arc<dyn Metered>,
    waited: bool,
}

impl Meter {
    pub(crate) fn new(request: Arc<dyn Metered>, waited: bool) -> Self {
        Self { request, waited }
    }

    pub(crate) fn in_background(&self) -> Self {
        Self { request: self.request.clone(), waited: false }
    }

    /// An operation was not tried: the breaker is open.
    pub(crate) fn passed_over(&self) {
        self.request.add_passed_over();
    }

    pub(crate) fn trip(
        &self,
        operation: Operation,
        name: &str,
        keys: usize,
        statements: usize,
        (began, took): (Instant, Duration),
        failed: bool,
    ) {
        tracing::debug!(
            target: "mastaba",
            %operation, name, keys, statements, took_us = took.as_micros() as u64, waited = self.waited, failed,
            "trip"
        );
        let trip = Trip {
            operation,
            name: name.to_owned(),
            keys,
            statements,
            began: began.saturating_duration_since(self.request.began()),
            took,
            waited: self.waited,
            failed,
        };
        self.request.add_trip(trip);
    }
}
