use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use redb::ReadableDatabase;

use super::*;
use crate::entry::{EntryRef, Fence, Header, Kind, write};
use crate::error::FaultKind;
use crate::shared::{Leased, Over, WriteOutcome};

const TTL: Duration = Duration::from_secs(600);
const CHILD: &str = "MASTABA_TEST_EMBEDDED_CHILD";

fn config(folder: &tempfile::TempDir) -> EmbeddedConfig {
    EmbeddedConfig {
        wait: Duration::from_millis(50),
        sync_every: Duration::from_millis(20),
        ..EmbeddedConfig::new(folder.path().join("some/where/cache.redb"))
    }
}

fn key(n: u64) -> Bytes {
    format!("key {n}").into()
}

async fn lease(store: &Embedded, n: u64, fence: Fence) -> Leased {
    let record = write(&Header::new(Kind::Lease, fence, store.incarnation()), &[], &[], b"").into();
    let ask = Lease { key: key(n), record, over: None, ttl: TTL };
    store.lease(&[ask], &[]).await.unwrap().leased.remove(0)
}

async fn fill(store: &Embedded, n: u64, expected: Fence, payload: &[u8], ttl: Duration) -> Filled {
    let header = Header::new(Kind::Value, Fence::random(), store.incarnation());
    let ask = Fill {
        key: key(n),
        expected,
        over: Over::default(),
        record: write(&header, &[], &[], payload).into(),
        ttl,
    };
    store.fill(&[ask]).await.unwrap()[0]
}

async fn put(store: &Embedded, n: u64, payload: &[u8], ttl: Duration) {
    let fence = Fence::random();
    assert_eq!(lease(store, n, fence).await, Leased::Granted);
    assert_eq!(fill(store, n, fence, payload, ttl).await, Filled::Stored);
}

async fn payload(store: &Embedded, n: u64) -> Option<Vec<u8>> {
    let record = store.read(&[key(n)]).await.unwrap().remove(0)?;
    let entry = EntryRef::read(&record).unwrap();
    (entry.header().kind == Kind::Value).then(|| entry.payload().to_vec())
}

async fn totals(store: &Embedded) -> (u64, u64) {
    store.write(true, |tables, _| Ok(tables.bytes())).await.unwrap()
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_close_under_the_same_incarnation() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(config(&folder)).await.unwrap();
    put(&store, 1, b"one", TTL).await;
    let incarnation = store.incarnation();
    store.close().await.unwrap();
    let fault = store.read(&[key(1)]).await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Down);
    assert!(fault.to_string().contains("is closed"), "{fault}");
    let store = Embedded::open(config(&folder)).await.unwrap();
    assert_eq!(store.incarnation(), incarnation);
    assert_eq!(payload(&store, 1).await.unwrap(), b"one");
}

#[tokio::test]
async fn dropping_the_last_clone_lets_go_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(config(&folder)).await.unwrap();
    let clone = store.clone();
    drop(store);
    put(&clone, 1, b"one", TTL).await;
    drop(clone);
    let patient = EmbeddedConfig { wait: Duration::from_secs(10), ..config(&folder) };
    let store = Embedded::open(patient).await.unwrap();
    assert_eq!(payload(&store, 1).await.unwrap(), b"one");
}

#[tokio::test]
async fn a_second_open_says_which_file_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(config(&folder)).await.unwrap();
    let fault = Embedded::open(config(&folder)).await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Refused);
    let sentence = fault.to_string();
    assert!(sentence.contains("cache.redb") && sentence.contains("Redis"), "{sentence}");
    put(&store, 1, b"the first goes on", TTL).await;
}

#[tokio::test]
async fn a_file_of_something_else_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for len in [1, 100, 5_000, 100_000] {
        let path = folder.path().join(format!("other {len}"));
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let fault = Embedded::open(EmbeddedConfig::new(&path)).await.unwrap_err();
        assert!(fault.to_string().contains(path.to_str().unwrap()), "{fault}");
        assert_eq!(fault.kind(), FaultKind::Damaged, "{fault:?}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_redb_file_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.redb");
    let database = redb::Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 2).unwrap();
    txn.commit().unwrap();
    drop(database);
    let fault = Embedded::open(EmbeddedConfig::new(&path)).await.unwrap_err();
    assert!(fault.to_string().contains("not one of Mastaba's"), "{fault}");
    let database = redb::Database::open(&path).unwrap();
    assert_eq!(database.begin_read().unwrap().list_tables().unwrap().count(), 1);
}

#[tokio::test]
async fn another_layout_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(&folder).path;
    Embedded::open(config(&folder)).await.unwrap().close().await.unwrap();
    let database = redb::Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(tables::META).unwrap().insert("layout", 9).unwrap();
    txn.commit().unwrap();
    drop(database);
    let fault = Embedded::open(config(&folder)).await.unwrap_err();
    assert!(fault.to_string().contains("has layout 9, this program reads layout 3"), "{fault}");
}

/// Records of another layout cannot be distinguished in its tables, so none of them may stay.
#[tokio::test]
async fn a_file_of_an_earlier_layout_begins_anew() {
    for before in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = config(&folder).path;
        let store = Embedded::open(config(&folder)).await.unwrap();
        let incarnation = store.incarnation();
        put(&store, 1, b"one", TTL).await;
        store.hold(&[Hold { key: key(2), holder: 7, ttl: TTL, keep: false }]).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        let database = redb::Database::open(&path).unwrap();
        let txn = database.begin_write().unwrap();
        txn.open_table(tables::META).unwrap().insert("layout", before).unwrap();
        txn.commit().unwrap();
        drop(database);
        let store = Embedded::open(config(&folder)).await.unwrap();
        assert_ne!(store.incarnation(), incarnation, "layout {before}");
        assert_eq!(store.read(&[key(1), key(2)]).await.unwrap(), [None, None], "layout {before}");
        assert_eq!(totals(&store).await, (0, 0), "layout {before}");
        put(&store, 1, b"new", TTL).await;
        assert_eq!(payload(&store, 1).await.as_deref(), Some(&b"new"[..]), "layout {before}");
        store.close().await.unwrap();
        drop(store);
        let again = Embedded::open(config(&folder)).await.unwrap();
        assert_eq!(payload(&again, 1).await.as_deref(), Some(&b"new"[..]), "it is one of this layout now");
    }
}

#[tokio::test]
async fn a_record_under_the_key_of_another_one_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(config(&folder)).await.unwrap();
    put(&store, 1, b"one", TTL).await;
    put(&store, 2, b"two", TTL).await;
    store.close().await.unwrap();
    drop(store);
    let database = redb::Database::open(config(&folder).path).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut records = txn.open_table(tables::RECORDS).unwrap();
        let one = redb::ReadableTable::get(&records, &key(1)[..]).unwrap().unwrap().value().to_vec();
        records.insert(&key(2)[..], &one[..]).unwrap();
    }
    txn.commit().unwrap();
    drop(database);
    let store = Embedded::open(config(&folder)).await.unwrap();
    assert_eq!(payload(&store, 1).await.as_deref(), Some(&b"one"[..]));
    assert_eq!(payload(&store, 2).await, None);
}

#[tokio::test]
async fn a_file_damaged_anywhere_gives_no_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(config(&folder)).await.unwrap();
    for n in 0..200 {
        put(&store, n, format!("payload of {n}").as_bytes(), TTL).await;
    }
    store.close().await.unwrap();
    let path = config(&folder).path;
    let good = std::fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    let (mut opened, mut refused, mut read, mut missed, mut faults) = (0, 0, 0, 0, 0);
    for round in 0..30 {
        let mut bad = good.clone();
        for _ in 0..=round {
            let at = random.usize(..bad.len());
            bad[at] ^= 1 << random.u8(..8);
        }
        let path = folder.path().join(format!("bad {round}"));
        std::fs::write(&path, bad).unwrap();
        let Ok(store) = Embedded::open(EmbeddedConfig::new(&path)).await else {
            refused += 1;
            continue;
        };
        opened += 1;
        for n in 0..200 {
            let Ok(records) = store.read(&[key(n)]).await else {
                faults += 1;
                continue;
            };
            if let Some(Ok(entry)) = records[0].as_deref().map(EntryRef::read) {
                assert_eq!(entry.payload(), format!("payload of {n}").as_bytes(), "round {round}");
                read += 1;
            } else {
                missed += 1;
            }
        }
        // what is damaged may refuse to be written back: a fault, and no wrong value
        let _ = store.close().await;
    }
    // else nothing would have been looked at
    println!(
        "{opened} files opened, {refused} refused; {read} records read, {missed} missed, {faults} faults"
    );
    assert!(opened >= 15 && read >= 1000, "{opened} files opened, {read} records read");
    assert!(missed + faults + refused > 0, "no damage was met");
}

#[tokio::test]
async fn values_beyond_the_bound_go_and_leases_holds_and_stamps_stay() {
    let folder = tempfile::tempdir().unwrap();
    let small = EmbeddedConfig { max_bytes: 200_000, ..config(&folder) };
    let store = Embedded::open(small).await.unwrap();
    let fence = Fence::random();
    lease(&store, 9_000, fence).await;
    store.hold(&[Hold { key: key(9_001), holder: 1, ttl: TTL, keep: true }]).await.unwrap();
    let stamp = |value| Stamp { key: "stamp".into(), value, ttl: None };
    assert_eq!(store.lease(&[], &[stamp(5)]).await.unwrap().stamps, [5]);
    for n in 0..600 {
        // the later, the longer they live: the first ones go first
        put(&store, n, &[7; 1_000], TTL + Duration::from_secs(n)).await;
    }
    let (values, guards) = totals(&store).await;
    assert!(values + guards <= 200_000 && values > 100_000, "{values} {guards}");
    assert!(payload(&store, 0).await.is_none());
    assert!(payload(&store, 599).await.is_some());
    assert_eq!(fill(&store, 9_000, fence, b"x", TTL).await, Filled::Stored);
    assert_eq!(store.lease(&[], &[stamp(6)]).await.unwrap().stamps, [5]);
    let end = End { key: key(9_001), holder: 1, outcome: WriteOutcome::Committed };
    assert_eq!(store.end(&[end]).await.unwrap(), [Ended::Freed]);
}

#[tokio::test]
async fn a_flood_of_leases_does_not_push_out_values() {
    let folder = tempfile::tempdir().unwrap();
    let small = EmbeddedConfig { max_bytes: 100_000, ..config(&folder) };
    let store = Embedded::open(small).await.unwrap();
    for n in 0..20 {
        put(&store, n, &[7; 1_000], TTL).await;
    }
    for n in 100..2_000 {
        assert_eq!(lease(&store, n, Fence::random()).await, Leased::Granted);
    }
    for n in 0..20 {
        assert!(payload(&store, n).await.is_some(), "value {n}");
    }
}

#[tokio::test]
async fn what_has_expired_is_swept_in_small_steps() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(config(&folder)).await.unwrap();
    for n in 0..600 {
        put(&store, n, b"short", Duration::from_millis(1_500)).await;
    }
    put(&store, 9_000, b"long", TTL).await;
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    assert!(payload(&store, 1).await.is_none());
    for _ in 0..200 {
        if totals(&store).await.0 < 500 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(totals(&store).await.0 < 500);
    assert!(payload(&store, 9_000).await.is_some());
}

#[tokio::test]
async fn the_totals_come_back_to_zero() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(config(&folder)).await.unwrap();
    for n in 0..50 {
        put(&store, n, &[1; 100], TTL).await;
        if n % 2 == 0 {
            store.hold(&[Hold { key: key(n), holder: 1, ttl: TTL, keep: true }]).await.unwrap();
            let outcome = if n % 4 == 0 { WriteOutcome::Committed } else { WriteOutcome::RolledBack };
            store.end(&[End { key: key(n), holder: 1, outcome }]).await.unwrap();
        }
    }
    assert_ne!(totals(&store).await, (0, 0));
    store.invalidate(&(0..50).map(key).collect::<Vec<_>>(), &[]).await.unwrap();
    assert_eq!(totals(&store).await, (0, 0));
}

#[tokio::test]
async fn a_failed_transaction_is_a_fault_and_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(config(&folder)).await.unwrap();
    put(&store, 1, b"one", TTL).await;
    store.invalidate(&[key(2)], &[]).await.unwrap();
    let fault = store.write(false, |_, _| -> Result<(), Work> { panic!("as redb might") }).await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Damaged);
    assert!(fault.to_string().contains("cache.redb"), "{fault}");
    assert!(store.invalidate(&[key(1)], &[]).await.is_err());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    store.invalidate(&[key(2)], &[]).await.unwrap();
    assert_eq!(payload(&store, 1).await.unwrap(), b"one");
}

#[tokio::test]
async fn a_hold_survives_a_restart_and_a_dropped_call_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(config(&folder)).await.unwrap();
    put(&store, 1, b"kept", TTL).await;
    store.hold(&[Hold { key: key(1), holder: 4, ttl: TTL, keep: true }]).await.unwrap();
    drop(tokio::time::timeout(Duration::ZERO, store.invalidate(&[key(7)], &[])).await);
    store.close().await.unwrap();
    let store = Embedded::open(config(&folder)).await.unwrap();
    assert!(matches!(lease(&store, 1, Fence(1)).await, Leased::Found(_)));
    let end = End { key: key(1), holder: 4, outcome: WriteOutcome::RolledBack };
    assert_eq!(store.end(&[end]).await.unwrap(), [Ended::Restored]);
    assert_eq!(payload(&store, 1).await.unwrap(), b"kept");
}

/// Runs in the child process of the next test: fills and invalidates until it is killed.
#[tokio::test]
async fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = Embedded::open(EmbeddedConfig::new(PathBuf::from(path))).await.unwrap();
    let mut out = std::io::stdout();
    for round in 1_u64.. {
        let n = round % 40;
        let fence = Fence::random();
        if lease(&store, n, fence).await == Leased::Granted {
            fill(&store, n, fence, &round.to_le_bytes(), TTL).await;
        }
        if round % 3 == 0 {
            let stamp = Stamp { key: "stamp".into(), value: round, ttl: None };
            let n = round * 7 % 40;
            store.invalidate(&[key(n)], &[stamp]).await.unwrap();
            writeln!(out, "invalidated {n} {round}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[tokio::test]
async fn a_kill_undoes_no_acknowledged_invalidation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.redb");
    let mut incarnations = Vec::new();
    for kill in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["shared::embedded::tests::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = HashMap::new();
        let mut last = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut note = |line: &str| {
            let at = line.find("invalidated ")?;
            let mut words = line[at..].split(' ').skip(1);
            let (n, round): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            acknowledged.insert(n, round);
            last = round;
            Some(())
        };
        for line in lines.by_ref().take(120 + kill * 61) {
            note(&line);
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        for line in lines {
            note(&line);
        }
        assert!(acknowledged.len() > 20);
        let store = Embedded::open(EmbeddedConfig::new(&path)).await.unwrap();
        incarnations.push(store.incarnation());
        let mut readable = 0;
        for (n, invalidated) in acknowledged {
            if let Some(value) = payload(&store, n).await {
                readable += 1;
                let filled = u64::from_le_bytes(value.try_into().unwrap());
                assert!(filled > invalidated, "key {n}: {filled} came back, {invalidated} voided it");
            }
        }
        assert!(readable > 0, "nothing of the child's is left");
        let stamp = store.read(&["stamp".into()]).await.unwrap().remove(0).unwrap();
        assert!(u64::from_le_bytes(stamp[..].try_into().unwrap()) >= last);
        // the child's rounds start from one again
        store.invalidate(&(0..40).map(key).collect::<Vec<_>>(), &[]).await.unwrap();
        store.close().await.unwrap();
    }
    assert_eq!(incarnations, [incarnations[0]; 3]);
}
