//! The time that a file goes by: one of its own.
//!
//! What is in a file may have been written while the clock of the machine was wrong, and may be read when it is, so no
//! clock of a machine can say when it expires. The time of a file goes on while the file is open, and stands still in
//! between. So a record is never kept for longer than its time to live while the file is in use, and a hold is never
//! dropped early, whatever becomes of the clock while the file is closed.

use crate::clock::SKEW_MS;

/// The time of a file, of one run of the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileTime {
    /// What is added to the clock of this process.
    ahead_ms: i64,
}

/// What a file remembers: the clock of the program that wrote to it last, and the file's own time then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) clock_ms: u64,
    pub(super) time_ms: u64,
}

impl FileTime {
    /// Goes on from where it stood. A file that remembers nothing begins with the clock.
    pub(super) fn resume(remembered: Option<Remembered>, now_ms: u64) -> Self {
        let ahead_ms = remembered.map_or(0, |it| signed(it.time_ms).saturating_sub(signed(now_ms)));
        Self { ahead_ms }
    }

    /// The time of the file, from the clock of this process.
    pub(super) fn of(self, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.ahead_ms)
    }

    /// What the file is to remember.
    pub(super) fn remember(self, now_ms: u64) -> Remembered {
        Remembered { clock_ms: now_ms, time_ms: self.of(now_ms) }
    }
}

impl Remembered {
    /// Whether the clock was set back since. Then nobody can say how old the entries of the file are.
    pub(super) fn is_later_than(self, now_ms: u64) -> bool {
        self.clock_ms > now_ms.saturating_add(SKEW_MS)
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn it_goes_on_from_where_it_stood_whatever_the_clock_says() {
        let first = FileTime::resume(None, 1000 * DAY);
        assert_eq!(first.of(1000 * DAY + 5), 1000 * DAY + 5, "a new file goes by the clock");
        let left = first.remember(1000 * DAY + 5);
        for now in [0, 999 * DAY, 1000 * DAY + 5, 1001 * DAY] {
            let next = FileTime::resume(Some(left), now);
            assert_eq!(next.of(now), left.time_ms, "at {now}");
            assert_eq!(next.of(now + 7), left.time_ms + 7, "at {now}");
            assert_eq!(next.remember(now + 7), Remembered { clock_ms: now + 7, time_ms: left.time_ms + 7 });
        }
    }

    #[test]
    fn a_clock_that_was_set_back_is_noticed_and_one_that_is_a_little_behind_is_not() {
        let left = Remembered { clock_ms: DAY, time_ms: 0 };
        assert!(!left.is_later_than(DAY));
        assert!(!left.is_later_than(DAY - SKEW_MS));
        assert!(left.is_later_than(DAY - SKEW_MS - 1));
    }
}
