//! What is seen of the statements of a transaction.

use std::future::Future;
use std::task::{Context, Poll, ready};

use futures_util::stream::{BoxStream, StreamExt};
use mastaba::DatabaseTrip;
use sqlx::Either;

use crate::dialect::Dialect;

/// What the statements up to now say of the transaction.
#[derive(Default)]
pub(super) struct Observed {
    /// A statement has failed or was cut off, or the plain connection was lent: nobody knows here whether the database
    /// would still commit.
    pub(super) unsure: bool,
    /// A statement has failed in a way that may be gone when the whole transaction is tried again.
    pub(super) conflict: bool,
    /// The database has ended the transaction, with this error.
    ended: Option<String>,
}

impl Observed {
    /// Why nothing more may be sent: the database has ended the transaction, and would commit each statement by itself.
    pub(super) fn over(&self) -> Option<sqlx::Error> {
        let said = self.ended.as_deref()?;
        let sentence = format!("the database has rolled the transaction back already: {said}");
        Some(sqlx::Error::Protocol(sentence))
    }

    pub(super) fn failed<DB: Dialect>(&mut self, error: &sqlx::Error) {
        self.conflict |= DB::is_conflict(error);
        if DB::ends_transaction(error) {
            self.ended.get_or_insert_with(|| error.to_string());
        }
    }
}

/// One statement on its way. Until it has come to its end, nobody is sure of the transaction.
pub(super) struct WatchedStatement<'s> {
    seen: &'s mut Observed,
    /// Whether there was a doubt before.
    unsure: bool,
    /// Until it has ended.
    trip: Option<DatabaseTrip>,
    /// How many results have come: a text of several statements has several.
    results: usize,
    /// Something has come.
    answered: bool,
}

impl<'s> WatchedStatement<'s> {
    pub(super) fn new(seen: &'s mut Observed, trip: DatabaseTrip) -> Self {
        let unsure = std::mem::replace(&mut seen.unsure, true);
        Self { seen, unsure, trip: Some(trip), results: 0, answered: false }
    }

    fn end<DB: Dialect>(&mut self, error: Option<&sqlx::Error>) {
        // a stream goes on for a moment after its error
        let Some(trip) = self.trip.take() else { return };
        match error {
            None => self.seen.unsure = self.unsure,
            Some(error) => self.seen.failed::<DB>(error),
        }
        trip.of(self.results).ended(error.is_none());
    }

    /// A statement with one answer.
    pub(super) async fn one<DB: Dialect, T>(
        mut self,
        work: impl Future<Output = sqlx::Result<T>>,
    ) -> sqlx::Result<T> {
        let done = work.await;
        self.end::<DB>(done.as_ref().err());
        done
    }

    /// A statement, or several, with any number of answers.
    pub(super) fn many<DB: Dialect>(mut self, mut answers: Answers<'s, DB>) -> Answers<'s, DB> {
        let next = move |cx: &mut Context<'_>| {
            let answer = ready!(answers.poll_next_unpin(cx));
            match &answer {
                None => self.end::<DB>(None),
                Some(Err(error)) => self.end::<DB>(Some(error)),
                Some(Ok(answer)) => {
                    self.answered = true;
                    self.results += usize::from(answer.is_left());
                }
            }
            Poll::Ready(answer)
        };
        futures_util::stream::poll_fn(next).boxed()
    }
}

/// What sqlx gives for a text of statements.
type Answers<'s, DB> =
    BoxStream<'s, sqlx::Result<Either<<DB as sqlx::Database>::QueryResult, <DB as sqlx::Database>::Row>>>;

impl Drop for WatchedStatement<'_> {
    fn drop(&mut self) {
        // whoever has read enough of a stream drops it
        if let Some(trip) = self.trip.take().filter(|_| self.answered) {
            trip.of(self.results).ended(true);
        }
    }
}
