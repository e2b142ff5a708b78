//! The backends of this crate do what the suite asks of every backend.

use std::sync::Arc;
use std::time::Duration;

use mastaba::shared::Shared;
use mastaba::shared::embedded::{Embedded, EmbeddedConfig};
use mastaba::shared::memory::Memory;
use mastaba::shared::null::Null;
use mastaba_test::conformance::{failures, run};
use mastaba_test::faulty::{Faults, Faulty, Mishap, Op};
use mastaba_test::ledger::{Ledger, Recorded};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_conforms() {
    run(|| async { Memory::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_that_all_checks_share_conforms() {
    let memory = Memory::default();
    run(|| async { memory.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(EmbeddedConfig::new(folder.path().join("cache.redb"))).await.unwrap();
    run(|| async { store.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrappers_conform_while_nothing_goes_wrong() {
    run(|| async { Arc::new(Recorded::new(Faulty::new(Memory::default(), Faults::new()), Ledger::new())) })
        .await;
}

#[tokio::test]
async fn a_backend_that_keeps_nothing_does_not_conform() {
    let failures = failures(|| async { Null }).await;
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].check, "abilities");
}

#[tokio::test(start_paused = true)]
async fn each_mishap_does_what_it_says() {
    let (memory, faults) = (Memory::default(), Faults::new());
    let store = Faulty::new(memory.clone(), faults.clone());
    let stamp = |value| mastaba::shared::Stamp { key: "s".into(), value, ttl: None };
    let number = || async { memory.lease(&[], &[stamp(1)]).await.unwrap().stamps[0] };

    faults.next(Op::Invalidate, Mishap::Down);
    assert!(store.invalidate(&[], &[stamp(2)]).await.is_err());
    assert_eq!(number().await, 1);

    faults.next(Op::Invalidate, Mishap::Lost);
    assert!(store.invalidate(&[], &[stamp(3)]).await.is_err());
    assert_eq!(number().await, 3);

    faults.next(Op::Invalidate, Mishap::Late(Duration::from_secs(5)));
    let since = tokio::time::Instant::now();
    store.invalidate(&[], &[stamp(4)]).await.unwrap();
    assert_eq!((since.elapsed(), number().await), (Duration::from_secs(5), 4));

    faults.always(Op::Read, Mishap::Silent);
    assert!(tokio::time::timeout(Duration::from_secs(9), store.read(&[])).await.is_err());
    faults.heal();
    assert!(store.read(&[]).await.is_ok());
    faults.down();
    assert!(store.end(&[]).await.is_err());
}

#[test]
fn wrappers_have_the_abilities_of_what_they_wrap() {
    assert_eq!(<Faulty<Recorded<Arc<Embedded>>>>::ABILITIES, Embedded::ABILITIES);
}
