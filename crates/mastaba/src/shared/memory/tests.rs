use std::time::Duration;

use super::*;
use crate::entry::{Fence, Header, write};
use crate::shared::{Leased, Over, WriteOutcome};

const TTL: Duration = Duration::from_secs(60);

fn key(n: u64) -> Bytes {
    format!("key {n}").into()
}

fn record(memory: &Memory, kind: Kind, fence: u64, len: usize) -> Bytes {
    write(&Header::new(kind, Fence(fence), memory.incarnation()), &[], &[], &vec![7; len]).into()
}

async fn lease(memory: &Memory, n: u64, fence: u64) -> Leased {
    let ask = Lease { key: key(n), record: record(memory, Kind::Lease, fence, 0), over: None, ttl: TTL };
    memory.lease(&[ask], &[]).await.unwrap().leased.remove(0)
}

async fn fill(memory: &Memory, n: u64, fence: u64, len: usize) -> Filled {
    let record = record(memory, Kind::Value, fence + 1, len);
    let ask = Fill { key: key(n), expected: Fence(fence), over: Over::default(), record, ttl: TTL };
    memory.fill(&[ask]).await.unwrap()[0]
}

async fn stands(memory: &Memory, n: u64) -> Option<Kind> {
    memory.read(&[key(n)]).await.unwrap()[0].as_deref().and_then(entry::peek_kind)
}

#[tokio::test]
async fn a_flood_of_values_evicts_values_but_no_lease_hold_or_stamp() {
    let memory = Memory::new(MemoryConfig { max_bytes: 1 << 20, max_entries: 1_000 });
    for n in 0..50 {
        assert_eq!(lease(&memory, n, 1).await, Leased::Granted);
    }
    let hold = Hold { key: key(100), holder: 1, ttl: TTL, keep: true };
    memory.hold(&[hold]).await.unwrap();
    let stamp = |value| Stamp { key: "stamp".into(), value, ttl: None };
    assert_eq!(memory.lease(&[], &[stamp(5)]).await.unwrap().stamps, [5]);
    for n in 1_000..20_000 {
        lease(&memory, n, 1).await;
        assert_eq!(fill(&memory, n, 1, 200).await, Filled::Stored);
    }
    let (values, bytes) = memory.size();
    assert!(values <= 1_000 && bytes <= 1 << 20, "{values} values, {bytes} bytes");
    assert!(values > 500, "{values} values only");
    assert_eq!(stands(&memory, 100).await, Some(Kind::Hold));
    assert_eq!(memory.lease(&[], &[stamp(6)]).await.unwrap().stamps, [5]);
    for n in 0..50 {
        assert_eq!(fill(&memory, n, 1, 10).await, Filled::Stored);
    }
}

#[tokio::test]
async fn a_flood_of_leases_stays_bounded_and_leaves_holds_alone() {
    let memory = Memory::new(MemoryConfig { max_bytes: 1 << 20, max_entries: 1_000 });
    memory.hold(&[Hold { key: key(1), holder: 1, ttl: TTL, keep: true }]).await.unwrap();
    for n in 10..100_000 {
        lease(&memory, n, 1).await;
    }
    let guards: usize = memory.0.stripes.iter().map(|stripe| lock(stripe).map.len()).sum();
    assert!(guards <= STRIPES * FEWEST_GUARDS, "{guards} leases");
    assert_eq!(stands(&memory, 1).await, Some(Kind::Hold));
    assert_eq!(fill(&memory, 99_999, 1, 10).await, Filled::Stored);
}

#[tokio::test]
async fn too_many_holds_are_refused_not_forgotten() {
    let memory = Memory::new(MemoryConfig { max_bytes: 1 << 20, max_entries: 10 });
    let mut placed = Vec::new();
    for n in 0..100_000 {
        let hold = Hold { key: key(n), holder: 1, ttl: TTL, keep: true };
        match memory.hold(&[hold]).await {
            Ok(()) => placed.push(n),
            Err(fault) => {
                assert_eq!(fault.kind(), FaultKind::Refused);
                break;
            }
        }
    }
    assert!(placed.len() < 100_000);
    for n in placed {
        assert_eq!(stands(&memory, n).await, Some(Kind::Hold), "key {n}");
    }
}

#[tokio::test]
async fn a_value_larger_than_the_memory_leaves_nothing_older_behind() {
    let memory = Memory::new(MemoryConfig { max_bytes: 1 << 20, max_entries: 1_000 });
    lease(&memory, 1, 1).await;
    assert_eq!(fill(&memory, 1, 1, 10).await, Filled::Stored);
    fill(&memory, 1, 2, 2 << 20).await;
    assert_eq!(stands(&memory, 1).await, None);
    assert!(memory.size().1 <= 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_not_there() {
    let memory = Memory::default();
    lease(&memory, 1, 1).await;
    fill(&memory, 1, 1, 10).await;
    tokio::time::advance(TTL - Duration::from_millis(2)).await;
    assert_eq!(stands(&memory, 1).await, Some(Kind::Value));
    tokio::time::advance(Duration::from_millis(3)).await;
    assert_eq!(stands(&memory, 1).await, None);
    assert_eq!(memory.size().0, 0);
}

#[tokio::test]
async fn a_restart_forgets_everything_and_is_another_incarnation() {
    let memory = Memory::default();
    lease(&memory, 1, 1).await;
    fill(&memory, 1, 1, 10).await;
    lease(&memory, 2, 1).await;
    let before = memory.incarnation();
    let late = record(&memory, Kind::Value, 2, 3);
    memory.restart();
    assert_ne!(memory.incarnation(), before);
    assert_eq!((stands(&memory, 1).await, stands(&memory, 2).await), (None, None));
    // a load from before the restart that meets a new lease under the same fence
    lease(&memory, 2, 1).await;
    let ask = Fill { key: key(2), expected: Fence(1), over: Over::default(), record: late, ttl: TTL };
    assert_eq!(memory.fill(&[ask]).await.unwrap(), [Filled::Refused]);
}

#[tokio::test]
async fn a_memory_short_of_room_holds_without_keeping() {
    let memory = Memory::new(MemoryConfig { max_bytes: 4 << 20, max_entries: 1_000 });
    let mut restored = 0;
    for n in 0..1_000 {
        lease(&memory, n, 1).await;
        fill(&memory, n, 1, 20_000).await;
        memory.hold(&[Hold { key: key(n), holder: 1, ttl: TTL, keep: true }]).await.unwrap();
    }
    let kept: usize = memory.0.stripes.iter().map(|stripe| lock(stripe).bytes).sum();
    assert!(kept <= (4 << 20) / 2, "{kept} bytes kept under holds");
    for n in 0..1_000 {
        let end = End { key: key(n), holder: 1, outcome: WriteOutcome::RolledBack };
        restored += u32::from(memory.end(&[end]).await.unwrap() == [Ended::Restored]);
    }
    assert!(restored > 0);
}
