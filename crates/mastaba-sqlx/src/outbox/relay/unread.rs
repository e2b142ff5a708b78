//! Rows that cannot be relayed here: each is said once, and at most one a minute.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

const SELDOM: Duration = Duration::from_secs(60);
/// With more, those of before are said again.
const MOST: usize = 10_000;

#[derive(Default)]
pub(super) struct Unread {
    rows: HashSet<i64>,
    last: Option<Instant>,
    unsaid: u64,
}

impl Unread {
    /// Whether to say it of this row, and then how many others went unsaid.
    pub(super) fn says(&mut self, row: i64) -> Option<u64> {
        if self.rows.len() >= MOST {
            self.rows.clear();
        }
        if !self.rows.insert(row) {
            return None;
        }
        let now = Instant::now();
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < SELDOM) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_row_is_said_once_and_others_are_counted_for_a_minute() {
        let mut unread = Unread::default();
        assert_eq!(unread.says(1), Some(0));
        assert_eq!((unread.says(1), unread.says(2), unread.says(3)), (None, None, None));
        tokio::time::advance(SELDOM).await;
        assert_eq!(unread.says(1), None);
        assert_eq!(unread.says(4), Some(2));
    }
}
