use super::*;
use crate::entry::write;
use crate::shared::Over;

const INC: u64 = 77;
const TTL: Duration = Duration::from_millis(1_000);

/// One key with its clock.
#[derive(Default)]
struct Key {
    standing: Option<(Bytes, u64)>,
    now: u64,
}

impl Key {
    fn standing(&self) -> Option<Standing<'_>> {
        self.standing.as_ref().map(|(record, expires_ms)| Standing { record, expires_ms: *expires_ms })
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Keep => {}
            Change::Put { record, expires_ms } => self.standing = Some((record, expires_ms)),
            Change::Remove => self.standing = None,
        }
    }

    fn lease(&mut self, fence: u64, over: Option<u64>) -> Leased {
        let ask = Lease {
            key: Bytes::new(),
            record: record(Kind::Lease, fence, b""),
            over: over.map(Fence),
            ttl: TTL,
        };
        let (change, answer) = lease(self.standing(), INC, self.now, &ask);
        self.apply(change);
        answer
    }

    fn fill(&mut self, expected: u64, fence: u64, payload: &[u8]) -> Filled {
        self.fill_record(expected, record(Kind::Value, fence, payload))
    }

    fn fill_record(&mut self, expected: u64, record: Bytes) -> Filled {
        let ask = Fill {
            key: Bytes::new(),
            expected: Fence(expected),
            over: Over::default(),
            record,
            ttl: 10 * TTL,
        };
        let (change, answer) = fill(self.standing(), INC, self.now, &ask);
        self.apply(change);
        answer
    }

    fn invalidate(&mut self) {
        let change = invalidate(self.standing(), self.now);
        self.apply(change);
    }

    fn hold(&mut self, holder: u64, keep: bool) {
        let ask = Hold { key: Bytes::new(), holder, ttl: TTL, keep };
        let change = hold(self.standing(), INC, self.now, &ask).unwrap();
        self.apply(change);
    }

    fn end(&mut self, holder: u64, outcome: WriteOutcome) -> Ended {
        let ask = End { key: Bytes::new(), holder, outcome };
        let (change, answer) = end(self.standing(), INC, self.now, &ask);
        self.apply(change);
        answer
    }

    fn entry(&self) -> Option<EntryRef<'_>> {
        live(self.standing(), self.now).map(|it| EntryRef::read(it.record).unwrap())
    }

    fn kind(&self) -> Option<Kind> {
        self.entry().map(|it| it.header().kind)
    }

    fn with_value(payload: &[u8]) -> Self {
        let mut key = Self::default();
        assert_eq!(key.lease(1, None), Leased::Granted);
        assert_eq!(key.fill(1, 2, payload), Filled::Stored);
        key
    }
}

fn record(kind: Kind, fence: u64, payload: &[u8]) -> Bytes {
    write(&Header::new(kind, Fence(fence), INC), &[], &[], payload).into()
}

use WriteOutcome::{Committed, RolledBack};

#[test]
fn a_fill_is_stored_on_exactly_the_fence_of_the_lease() {
    let mut key = Key::default();
    assert_eq!(key.lease(1, None), Leased::Granted);
    assert_eq!(key.fill(9, 2, b"wrong"), Filled::Refused);
    assert_eq!(key.fill(1, 2, b"right"), Filled::Stored);
    assert_eq!(key.entry().unwrap().payload(), b"right");
}

#[test]
fn a_fill_on_nothing_is_refused() {
    assert_eq!(Key::default().fill(1, 2, b"x"), Filled::Refused);
}

#[test]
fn a_fill_after_an_invalidation_is_refused() {
    let mut key = Key::default();
    key.lease(1, None);
    key.invalidate();
    assert_eq!(key.fill(1, 2, b"old"), Filled::Refused);
    assert_eq!(key.lease(3, None), Leased::Granted);
    assert_eq!(key.fill(1, 2, b"old"), Filled::Refused);
    assert_eq!(key.kind(), Some(Kind::Lease));
}

#[test]
fn the_same_fill_twice_is_stored_once() {
    let mut key = Key::default();
    key.lease(1, None);
    assert_eq!(key.fill(1, 2, b"x"), Filled::Stored);
    assert_eq!(key.fill(1, 3, b"y"), Filled::Refused);
}

#[test]
fn a_value_is_refreshed_under_its_own_fence() {
    let mut key = Key::with_value(b"old");
    assert_eq!(key.fill(2, 3, b"new"), Filled::Stored);
    assert_eq!(key.entry().unwrap().payload(), b"new");
}

#[test]
fn a_fill_of_what_is_no_value_is_refused() {
    let mut key = Key::default();
    key.lease(1, None);
    for bytes in [record(Kind::Lease, 2, b""), record(Kind::Hold, 2, b""), Bytes::from_static(b"junk")] {
        assert_eq!(key.fill_record(1, bytes), Filled::Refused);
    }
    assert_eq!(key.fill_record(1, record(Kind::Absent, 2, b"")), Filled::Stored);
}

#[test]
fn a_fill_whose_lease_is_of_another_incarnation_is_refused() {
    let mut key = Key::default();
    let of = |inc, kind, fence| Bytes::from(write(&Header::new(kind, Fence(fence), inc), &[], &[], b""));
    key.standing = Some((of(INC + 1, Kind::Lease, 1), 100));
    assert_eq!(key.fill(1, 2, b"x"), Filled::Refused);
    key.standing = Some((of(INC, Kind::Lease, 1), 100));
    assert_eq!(key.fill_record(1, of(INC + 1, Kind::Value, 2)), Filled::Refused);
}

#[test]
fn a_lease_finds_what_stands_there() {
    let mut key = Key::with_value(b"x");
    let there = key.standing.clone().unwrap().0;
    assert_eq!(key.lease(5, None), Leased::Found(there));
    let mut key = Key::default();
    key.lease(1, None);
    let there = key.standing.clone().unwrap().0;
    assert_eq!(key.lease(2, None), Leased::Found(there));
}

#[test]
fn a_lease_replaces_the_record_that_was_judged_outdated_and_no_other() {
    let mut key = Key::with_value(b"x");
    assert!(matches!(key.lease(5, Some(4)), Leased::Found(_)));
    assert_eq!(key.lease(5, Some(2)), Leased::Granted);
    assert_eq!(key.kind(), Some(Kind::Lease));
}

#[test]
fn a_lease_replaces_foreign_bytes_and_damaged_entries() {
    let mut damaged = record(Kind::Value, 2, b"payload").to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    for bytes in [Bytes::from_static(b"foreign"), damaged.into()] {
        let mut key = Key { standing: Some((bytes, NEVER)), now: 0 };
        assert_eq!(key.lease(1, None), Leased::Granted);
    }
}

#[test]
fn a_lease_replaces_what_another_incarnation_left() {
    for kind in [Kind::Value, Kind::Absent, Kind::Lease] {
        let bytes = write(&Header::new(kind, Fence(2), INC + 1), &[], &[], b"");
        let mut key = Key { standing: Some((bytes.into(), NEVER)), now: 0 };
        assert_eq!(key.lease(1, None), Leased::Granted);
    }
}

#[test]
fn an_expired_lease_gives_no_right() {
    let mut key = Key::default();
    key.lease(1, None);
    key.now = 1_000;
    assert_eq!(key.fill(1, 2, b"x"), Filled::Refused);
    assert_eq!(key.lease(3, None), Leased::Granted);
}

#[test]
fn a_hold_voids_the_lease_and_refuses_leases_and_fills() {
    let mut key = Key::default();
    key.lease(1, None);
    key.hold(100, true);
    assert_eq!(key.fill(1, 2, b"x"), Filled::Refused);
    assert!(matches!(key.lease(3, None), Leased::Found(_)));
    let fence = key.entry().unwrap().header().fence;
    assert_eq!(key.fill(fence.0, 2, b"x"), Filled::Refused);
    assert!(matches!(key.lease(3, Some(fence.0)), Leased::Found(_)));
    assert_eq!(key.end(100, Committed), Ended::Freed);
    assert_eq!(key.kind(), None);
    assert_eq!(key.fill(1, 2, b"x"), Filled::Refused);
}

#[test]
fn an_end_removes_only_its_own_hold() {
    let mut key = Key::default();
    key.hold(100, false);
    key.hold(200, false);
    assert_eq!(key.end(100, Committed), Ended::StillHeld);
    assert!(matches!(key.lease(3, None), Leased::Found(_)));
    assert_eq!(key.end(100, Committed), Ended::Gone);
    assert_eq!(key.kind(), Some(Kind::Hold));
    assert_eq!(key.end(200, Committed), Ended::Freed);
    assert_eq!(key.lease(3, None), Leased::Granted);
}

#[test]
fn a_rollback_restores_the_value_under_a_new_fence_with_its_old_deadline() {
    let mut key = Key::with_value(b"kept");
    let deadline = key.standing.as_ref().unwrap().1;
    key.now = 10;
    key.hold(100, true);
    key.now = 20;
    assert_eq!(key.end(100, RolledBack), Ended::Restored);
    assert_eq!(key.entry().unwrap().payload(), b"kept");
    assert_eq!(key.standing.as_ref().unwrap().1, deadline);
    assert_eq!(key.fill(2, 3, b"from before the hold"), Filled::Refused);
}

#[test]
fn a_commit_restores_nothing() {
    let mut key = Key::with_value(b"kept");
    key.hold(100, true);
    assert_eq!(key.end(100, Committed), Ended::Freed);
    assert_eq!(key.kind(), None);
}

#[test]
fn a_rollback_after_another_commit_restores_nothing() {
    let mut key = Key::with_value(b"kept");
    key.hold(100, true);
    key.hold(200, true);
    assert_eq!(key.end(100, Committed), Ended::StillHeld);
    assert_eq!(key.end(200, RolledBack), Ended::Freed);
    assert_eq!(key.kind(), None);
}

#[test]
fn two_rollbacks_restore_the_value() {
    let mut key = Key::with_value(b"kept");
    key.hold(100, true);
    key.hold(200, true);
    assert_eq!(key.end(100, RolledBack), Ended::StillHeld);
    assert_eq!(key.end(200, RolledBack), Ended::Restored);
}

#[test]
fn a_hold_that_keeps_nothing_restores_nothing() {
    let mut key = Key::with_value(b"value");
    key.hold(100, false);
    assert_eq!(key.end(100, RolledBack), Ended::Freed);
    let mut key = Key::with_value(b"value");
    key.hold(100, true);
    key.hold(200, false);
    key.end(200, RolledBack);
    assert_eq!(key.end(100, RolledBack), Ended::Freed);
}

#[test]
fn an_invalidation_under_a_hold_forgets_the_kept_value_and_leaves_the_hold() {
    let mut key = Key::with_value(b"kept");
    key.hold(100, true);
    key.invalidate();
    assert!(matches!(key.lease(3, None), Leased::Found(_)));
    assert_eq!(key.end(100, RolledBack), Ended::Freed);
    assert_eq!(key.kind(), None);
}

#[test]
fn nothing_comes_back_after_a_hold_expired() {
    let mut key = Key::with_value(b"kept");
    key.hold(100, true);
    key.now = 500;
    key.hold(200, true);
    key.now = 1_000; // 100 has expired, its outcome is unknown
    assert_eq!(key.end(200, RolledBack), Ended::Freed);
    assert_eq!(key.kind(), None);
    assert_eq!(key.end(100, RolledBack), Ended::Gone);
}

#[test]
fn an_expired_hold_is_as_nothing() {
    let mut key = Key::with_value(b"kept");
    key.hold(100, true);
    key.now = 1_000;
    assert_eq!(key.kind(), None);
    assert_eq!(key.lease(3, None), Leased::Granted);
    // and its late commit voids what came since: it may have been read before the commit
    assert_eq!(key.end(100, Committed), Ended::Gone);
    assert_eq!(key.kind(), None);
}

#[test]
fn a_late_rollback_leaves_alone_what_came_since() {
    let mut key = Key::default();
    key.hold(100, true);
    key.now = 1_000;
    key.lease(3, None);
    assert_eq!(key.end(100, RolledBack), Ended::Gone);
    assert_eq!(key.kind(), Some(Kind::Lease));
}

#[test]
fn a_rollback_whose_own_hold_is_gone_makes_the_others_forget_the_kept_value() {
    let mut key = Key::with_value(b"kept");
    key.hold(100, true);
    assert_eq!(key.end(200, RolledBack), Ended::Gone);
    assert_eq!(key.kind(), Some(Kind::Hold));
    assert_eq!(key.end(100, RolledBack), Ended::Freed);
    assert_eq!(key.kind(), None);
}

#[test]
fn a_kept_value_past_its_own_deadline_does_not_come_back() {
    let mut key = Key::with_value(b"kept"); // until 10,000
    key.now = 9_500;
    key.hold(100, true);
    key.now = 10_000;
    assert_eq!(key.end(100, RolledBack), Ended::Freed);
    assert_eq!(key.kind(), None);
}

#[test]
fn a_value_of_another_incarnation_is_not_kept() {
    let bytes = write(&Header::new(Kind::Value, Fence(2), INC + 1), &[], &[], b"old");
    let mut key = Key { standing: Some((bytes.into(), NEVER)), now: 0 };
    key.hold(100, true);
    assert_eq!(key.end(100, RolledBack), Ended::Freed);
}

#[test]
fn a_hold_of_another_incarnation_stands_but_restores_nothing() {
    let mut key = Key::with_value(b"kept");
    key.hold(100, true);
    let ask = End { key: Bytes::new(), holder: 100, outcome: RolledBack };
    assert_eq!(end(key.standing(), INC + 1, 0, &ask), (Change::Remove, Ended::Freed));
}

#[test]
fn a_kept_value_can_be_served_meanwhile() {
    let mut key = Key::with_value(b"kept");
    key.hold(100, true);
    assert_eq!(kept(&key.entry().unwrap(), 0).unwrap().payload(), b"kept");
    key.invalidate();
    assert!(kept(&key.entry().unwrap(), 0).is_none());
    assert!(kept(&Key::with_value(b"x").entry().unwrap(), 0).is_none());
}

#[test]
fn a_hold_sent_twice_is_one_hold_until_the_later_deadline() {
    let mut key = Key::default();
    key.hold(100, false);
    key.now = 500;
    key.hold(100, false);
    key.now = 1_200;
    assert_eq!(key.end(100, Committed), Ended::Freed);
    assert_eq!(key.kind(), None);
}

#[test]
fn too_many_holders_are_a_fault_and_change_nothing() {
    let mut key = Key::default();
    for holder in 0..MAX_HOLDERS as u64 {
        key.hold(holder, false);
    }
    let ask = Hold { key: Bytes::new(), holder: 1_000, ttl: TTL, keep: false };
    assert_eq!(hold(key.standing(), INC, 0, &ask).unwrap_err().kind(), FaultKind::Refused);
}

#[test]
fn a_missing_stamp_becomes_the_one_given_and_the_second_sees_the_firsts() {
    let ask = |value| Stamp { key: Bytes::new(), value, ttl: None };
    let (change, first) = stamp(None, 0, &ask(7));
    assert_eq!(first, 7);
    let Change::Put { record, expires_ms: NEVER } = change else { panic!("{change:?}") };
    let standing = Some(Standing { record: &record, expires_ms: NEVER });
    assert_eq!(stamp(standing, 0, &ask(8)), (Change::Keep, 7));
    let damaged = Some(Standing { record: b"not eight bytes", expires_ms: NEVER });
    assert_eq!(stamp(damaged, 0, &ask(8)).1, 8);
}
