//! What the tasks of a request say in its report.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::RequestCore;
use crate::report::{Operation, Trip};
use crate::sync::lock;

/// Says in the report what was done, from the task that does it.
#[derive(Clone)]
pub(crate) struct Meter {
    request: Arc<RequestCore>,
    waited: bool,
}

impl Meter {
    pub(crate) fn new(request: Arc<RequestCore>, waited: bool) -> Self {
        Self { request, waited }
    }

    /// The request that the trips are for.
    pub(crate) fn request(&self) -> &RequestCore {
        &self.request
    }

    pub(crate) fn in_background(&self) -> Self {
        Self { request: self.request.clone(), waited: false }
    }

    /// An operation was not tried: the breaker is open.
    pub(crate) fn passed_over(&self) {
        lock(&self.request.state).passed_over += 1;
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
            began: began.saturating_duration_since(self.request.began),
            took,
            waited: self.waited,
            failed,
        };
        lock(&self.request.state).trips.push(trip);
    }
}
