//! The trips of a request: the latest of them one by one, all before them as sums. A request may live for days.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Operation, Trip};

/// So many trips are kept one by one.
pub(crate) const KEPT: usize = 1000;

/// The trips of a request, as they are written down.
#[derive(Default)]
pub(crate) struct Trips {
    latest: VecDeque<Trip>,
    earlier: Earlier,
}

impl Trips {
    pub(crate) fn push(&mut self, trip: Trip) {
        if self.latest.len() == KEPT
            && let Some(oldest) = self.latest.pop_front()
        {
            self.earlier.add(&oldest);
        }
        self.latest.push_back(trip);
    }

    /// Copies for a report.
    pub(crate) fn copy(&self) -> (Vec<Trip>, Earlier) {
        (self.latest.iter().cloned().collect(), self.earlier.clone())
    }
}

/// What is left of trips that are not kept one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Earlier {
    pub(super) count: usize,
    pub(super) shared_trips: usize,
    pub(super) shared_reads: usize,
    pub(super) statements: usize,
    pub(super) keys_loaded: usize,
    /// The statements per source that were waited for.
    pub(super) by_source: Vec<(String, usize)>,
    pub(super) shared: Spans,
    pub(super) source: Spans,
}

impl Earlier {
    fn add(&mut self, trip: &Trip) {
        let load = trip.operation == Operation::Load;
        let of_source = trip.operation.of_source();
        self.count += 1;
        self.shared_trips += usize::from(trip.waited && !of_source);
        self.shared_reads += usize::from(trip.operation == Operation::Read);
        self.keys_loaded += if load { trip.keys } else { 0 };
        if !trip.waited {
            return;
        }
        self.statements += trip.statements;
        let spans = if of_source { &mut self.source } else { &mut self.shared };
        spans.add(trip.began, trip.began + trip.took);
        if of_source {
            match self.by_source.iter_mut().find(|(name, _)| *name == trip.name) {
                Some((_, statements)) => *statements += trip.statements,
                None => self.by_source.push((trip.name.clone(), trip.statements)),
            }
        }
    }
}

/// Times at which something was waited for, those that overlap made one.
///
/// They come in the order of their ends. The oldest are added up: a trip that outlasts [`KEPT`] waits which came one
/// after the other may be counted a little too long.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    added_up: Duration,
    latest: VecDeque<(Duration, Duration)>,
}

impl Spans {
    fn add(&mut self, mut from: Duration, mut to: Duration) {
        // nearly always at the end
        let mut at = self.latest.len();
        while at > 0 && self.latest[at - 1].0 > to {
            at -= 1;
        }
        while at > 0 && self.latest[at - 1].1 >= from {
            at -= 1;
            let (began, ended) = self.latest[at];
            (from, to) = (from.min(began), to.max(ended));
            self.latest.remove(at);
        }
        self.latest.insert(at, (from, to));
        if self.latest.len() > KEPT
            && let Some((began, ended)) = self.latest.pop_front()
        {
            self.added_up += ended - began;
        }
    }

    /// How long these and others took, with what overlaps counted once.
    pub(super) fn total(&self, others: impl Iterator<Item = (Duration, Duration)>) -> Duration {
        let mut spans: Vec<_> = self.latest.iter().copied().chain(others).collect();
        spans.sort_unstable();
        let mut end = Duration::ZERO;
        let mut total = self.added_up;
        for (from, to) in spans {
            total += to.saturating_sub(from.max(end));
            end = end.max(to);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Outcomes, Report};

    fn trip(nth: u64, operation: Operation) -> Trip {
        // pairs overlap by half, and between two pairs nothing is waited for
        let began = Duration::from_millis((nth / 2) * 10 + (nth % 2));
        let load = operation.of_source();
        Trip {
            operation,
            name: if load { format!("source {}", nth % 3) } else { "objects".into() },
            keys: (nth % 5) as usize,
            statements: usize::from(load) * (1 + (nth % 2) as usize),
            began,
            took: Duration::from_millis(2),
            waited: operation != Operation::Fill && !nth.is_multiple_of(7),
            failed: false,
        }
    }

    fn report(trips: Vec<Trip>, earlier: Earlier) -> Report {
        Report { trips, earlier, outcomes: Vec::<Outcomes>::new(), passed_over: 0, elapsed: Duration::ZERO }
    }

    #[test]
    fn what_is_not_kept_is_counted_all_the_same() {
        let kinds = [
            Operation::Read,
            Operation::Lease,
            Operation::Load,
            Operation::Fill,
            Operation::Ping,
            Operation::Database,
        ];
        for count in [10, KEPT, KEPT + 1, 7 * KEPT + 3] {
            let all: Vec<_> = (0..count).map(|nth| trip(nth as u64, kinds[nth % kinds.len()])).collect();
            let mut trips = Trips::default();
            all.iter().cloned().for_each(|trip| trips.push(trip));
            let (latest, earlier) = trips.copy();
            assert_eq!(latest, all[count.saturating_sub(KEPT)..]);
            let (some, whole) = (report(latest, earlier), report(all, Earlier::default()));
            assert_eq!(some.earlier_trips(), count.saturating_sub(KEPT));
            let figures = |it: &Report| {
                let counts = (it.shared_trips(), it.shared_reads(), it.statements(), it.keys_loaded());
                (counts, it.waits(), it.worst_source().map(|(name, most)| (name.to_owned(), most)))
            };
            assert_eq!(figures(&some), figures(&whole), "{count} trips");
            assert_eq!(some.server_timing(), whole.server_timing());
            let said = some.to_string();
            assert_eq!(said.lines().filter(|line| line.contains(" key")).count(), count.min(KEPT));
            let left_out = count.saturating_sub(KEPT);
            assert_eq!(
                said.contains(&format!("{left_out} earlier")),
                left_out > 0,
                "{}",
                &said[..200.min(said.len())]
            );
        }
    }

    #[test]
    fn spans_stay_few_and_are_right_where_they_come_out_of_order() {
        let ms = Duration::from_millis;
        let mut spans = Spans::default();
        for (from, to) in [(0, 2), (10, 12), (5, 6), (4, 11), (20, 21)] {
            spans.add(ms(from), ms(to));
        }
        assert_eq!(spans.total([(ms(1), ms(3))].into_iter()), ms(3 + 8 + 1));
        for nth in 0..10 * KEPT as u64 {
            spans.add(ms(100 + nth * 2), ms(101 + nth * 2));
        }
        assert_eq!(spans.latest.len(), KEPT);
        assert_eq!(spans.total(std::iter::empty()), ms(2 + 8 + 1 + 10 * KEPT as u64));
    }
}
