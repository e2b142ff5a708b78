//! The rows of fills without a lease. Where the backend keeps no write stamps, as a cluster, every load takes a lease, and
//! the rows hold all the same.

use std::time::Duration;

use mastaba::shared::Shared;
use mastaba::{Operation, Region, RequestCache, WriteMode};
use mastaba_test::world::UserById;
use tokio::task::JoinHandle;

use super::Store;
use super::stage::{Committing, Derived, Labelled, Stage};

const USER: &str = "mastaba:objects:user:1";
const STAMPS: &[u8] = b"mastaba:objects@writes";

fn unleased(region: Region) -> Region {
    region.fill_without_lease(true)
}

fn strict(region: Region) -> Region {
    unleased(region).write_mode(WriteMode::Strict)
}

/// All stages, in which the reading process knows that its loads are cheap. Whether they go without a lease there.
async fn stages<S: Store>(store: &S, configure: fn(Region) -> Region) -> Vec<(Stage, bool)> {
    let mut stages = Vec::new();
    for stage in Stage::all(store, configure).await {
        let keeps = store.connect(stage.place).await.stamps(b"nobody:", &"nobody@writes".into());
        for process in [&stage.reader, &stage.second] {
            // five trips take longer than what a loader in memory does, whatever else the machine does
            process.shared.slow(Duration::from_millis(20));
        }
        know(&stage).await;
        stages.push((stage, keeps));
    }
    stages
}

/// The first loads, which take a lease and make the stamps.
async fn know(stage: &Stage) {
    for process in [&stage.reader, &stage.second] {
        for key in [2, 4] {
            process.sees(key).await;
            process.derives(100 + key).await;
            process.request().get::<Labelled>(key).await.unwrap();
            process.cache.idle().await;
        }
    }
}

/// How many of the keys that a request has loaded went without a lease.
fn unleased_of(request: &RequestCache) -> u64 {
    request.report().outcomes.iter().map(|outcomes| outcomes.unleased).sum()
}

/// A get of user 1, whose load has read its row and goes on at the gate. Whether it took no lease is looked at in the end.
struct Slow {
    request: RequestCache,
    get: JoinHandle<u32>,
}

impl Slow {
    async fn begin(stage: &Stage) -> (Self, mastaba_test::world::Gate) {
        let gate = stage.db.close_gate();
        let request = stage.reader.request();
        let asks = request.clone();
        let get = tokio::spawn(async move { asks.get::<UserById>(1).await.unwrap().unwrap().version });
        gate.arrived(1).await;
        gate.only_those_here();
        (Self { request, get }, gate)
    }

    /// What it has brought; and its fill is over.
    async fn ends(self, stage: &Stage, gate: mastaba_test::world::Gate, keeps: bool) -> u32 {
        gate.open_for_good();
        let version = self.get.await.unwrap();
        stage.reader.cache.idle().await;
        assert_eq!(unleased_of(&self.request), u64::from(keeps), "{}", self.request.report());
        version
    }
}

/// Read, load, answer, and one fill: nobody takes a lease, and another process finds the value.
pub(crate) async fn v1_a_cheap_load_goes_without_a_lease_and_is_stored<S: Store>(store: &S) {
    for (stage, keeps) in stages(store, unleased).await {
        let request = stage.reader.request();
        assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().version, 0);
        stage.reader.cache.idle().await;
        let report = request.report();
        let leases = report.trips.iter().filter(|trip| trip.operation == Operation::Lease).count();
        assert_eq!((leases, unleased_of(&request)), if keeps { (0, 1) } else { (1, 0) }, "{report}");
        let loads = stage.db.started();
        assert_eq!(stage.second.sees(1).await, 0);
        assert_eq!(stage.db.started(), loads, "the fill was stored");
        stage.all_see_what_is_committed().await;
    }
}

/// A load reads the old row; a write is acknowledged; the load ends. Nothing stands in the way of its fill but the stamp
/// (R16; rows V4 and O6).
pub(crate) async fn v4_what_was_voided_since_the_read_is_not_stored<S: Store>(store: &S) {
    for (stage, keeps) in stages(store, unleased).await {
        let (slow, gate) = Slow::begin(&stage).await;
        stage.writer.writes(&stage.db).await;
        assert_eq!(slow.ends(&stage, gate, keeps).await, 0, "it began before");
        stage.all_see_what_is_committed().await;
    }
}

/// The outbox of a process that has died: its relay renews what it voids (row O13r).
pub(crate) async fn o13r_what_a_relay_has_voided_since_the_read_is_not_stored<S: Store>(store: &S) {
    for (stage, keeps) in stages(store, unleased).await {
        let write = stage.writer.write().await;
        let pieces = write.outgoing();
        drop(write);
        let (slow, gate) = Slow::begin(&stage).await;
        stage.db.update(1);
        assert!(stage.second.cache.void(&pieces).await.unwrap().is_confirmed());
        assert_eq!(slow.ends(&stage, gate, keeps).await, 0, "it began before");
        stage.all_see_what_is_committed().await;
    }
}

/// The stamps are evicted, or all is flushed, between the read and the fill, and made anew by somebody else (row V5).
pub(crate) async fn v5_stamps_that_are_gone_and_made_anew_are_others<S: Store>(store: &S) {
    if !S::FORGETS {
        return;
    }
    for (stage, keeps) in stages(store, unleased).await {
        know(&stage).await; // what is forgotten at one place may be so at all
        let (slow, gate) = Slow::begin(&stage).await;
        stage.db.update(1);
        store.forget(stage.place).await; // and with it whatever the invalidation would have to renew
        assert!(stage.writer.request().invalidate::<UserById>([1]).await.unwrap().is_confirmed());
        for _ in 0..2 {
            stage.second.sees(3).await; // which makes them
            stage.second.cache.idle().await;
        }
        assert_eq!(slow.ends(&stage, gate, keeps).await, 0, "it began before");
        stage.all_see_what_is_committed().await;
    }
}

/// A region is cleared, or a fixed tag voided, while a load is under way: its fill carries the stamps of its read (rows U1,
/// U2).
pub(crate) async fn u2_a_fill_carries_the_stamps_of_its_read<S: Store>(store: &S) {
    for clears in [true, false] {
        for (stage, keeps) in stages(store, unleased).await {
            let gate = stage.db.close_gate();
            let request = stage.reader.request();
            let asks = request.clone();
            let slow = tokio::spawn(async move { *asks.get::<Labelled>(1).await.unwrap().unwrap() });
            gate.arrived(1).await;
            gate.only_those_here();
            stage.db.update(1);
            let write = stage.writer.request().write();
            match clears {
                true => write.clear("objects").unwrap(),
                false => write.invalidate_tag("labelled"),
            }
            assert!(write.published().await.unwrap().is_confirmed());
            stage.second.sees(3).await; // the new stamps are there
            gate.open_for_good();
            assert_eq!(slow.await.unwrap(), 0, "it began before");
            stage.reader.cache.idle().await;
            assert_eq!(unleased_of(&request), u64::from(keeps));
            for process in [&stage.reader, &stage.writer, &stage.second] {
                assert_eq!(*process.request().get::<Labelled>(1).await.unwrap().unwrap(), 1);
                process.cache.idle().await;
            }
            stage.all_see_what_is_committed().await;
        }
    }
}

/// What is derived from a row is loaded from the old one, which a write voids, and then what is derived (R18; rows M1, M2).
pub(crate) async fn m2_what_is_derived_from_what_was_voided_is_not_stored<S: Store>(store: &S) {
    for (stage, keeps) in stages(store, unleased).await {
        assert_eq!(stage.second.sees(1).await, 0);
        stage.second.cache.idle().await;
        // its load of the row is a hit; what it makes of that is held up on its way to the tier
        let fill = stage.reader.shared.before("fill");
        let request = stage.reader.request();
        assert_eq!(*request.get::<Derived>(101).await.unwrap().unwrap(), 0);
        fill.arrived(1).await;
        assert_eq!(unleased_of(&request), u64::from(keeps), "{}", request.report());
        stage.db.update(1);
        let write = stage.writer.request().write();
        write.invalidate::<UserById>([1]).await.unwrap();
        write.invalidate::<Derived>([101]).await.unwrap();
        assert!(write.published().await.unwrap().is_confirmed());
        fill.open_for_good();
        stage.reader.cache.idle().await;
        stage.all_see_what_is_committed().await;
    }
}

/// A read sees that nothing stands there; the key is held; COMMIT; the hold runs out before its end comes. The fill must not
/// be stored then: from COMMIT on nobody reads the old row (R17, I2; row PV1n).
pub(crate) async fn pv1n_a_hold_renews_the_stamp_before_commit<S: Store>(store: &S) {
    fn short(region: Region) -> Region {
        strict(region).hold_ttl(Duration::from_millis(200))
    }
    for (stage, keeps) in stages(store, short).await {
        let (slow, gate) = Slow::begin(&stage).await;
        let write = Committing::begin(stage.writer.write().await, &stage.db).await;
        stage.writer.shared.down(&["hold"]); // it is not renewed
        write.commits();
        let there = store.connect(stage.place).await;
        while there.read(&[USER.into()]).await.unwrap()[0].is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(slow.ends(&stage, gate, keeps).await, 0, "it began before");
        for process in [&stage.reader, &stage.writer, &stage.second] {
            assert_eq!(process.sees(1).await, 1, "from COMMIT on (I2)");
        }
        write.answered(Ok(())).await;
        stage.all_see_what_is_committed().await;
    }
}

/// The hold has run out before COMMIT, and a load begins after it and reads the old row. Its fill comes after the end (R17,
/// I1; row V9n).
pub(crate) async fn v9n_the_end_of_a_hold_renews_the_stamp<S: Store>(store: &S) {
    fn short(region: Region) -> Region {
        strict(region).hold_ttl(Duration::from_millis(200))
    }
    for (stage, keeps) in stages(store, short).await {
        let write = Committing::begin(stage.writer.write().await, &stage.db).await;
        stage.writer.shared.down(&["hold"]);
        let there = store.connect(stage.place).await;
        while there.read(&[USER.into()]).await.unwrap()[0].is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (slow, gate) = Slow::begin(&stage).await;
        write.commits();
        write.answered(Ok(())).await;
        assert_eq!(slow.ends(&stage, gate, keeps).await, 0, "it began before");
        stage.all_see_what_is_committed().await;
    }
}

/// A reader comes after a write was acknowledged, and meets the load of one that began before it: it loads for itself. One
/// that comes before any write may have what was stored (R5; row V10).
pub(crate) async fn v10_a_late_reader_joins_what_was_stored_and_nothing_else<S: Store>(store: &S) {
    for (stage, keeps) in stages(store, unleased).await {
        let (slow, gate) = Slow::begin(&stage).await;
        stage.writer.writes(&stage.db).await;
        let late = stage.reader.start_get::<UserById>(1);
        tokio::time::sleep(Duration::from_millis(60)).await; // it boards
        assert_eq!(slow.ends(&stage, gate, keeps).await, 0, "it began before");
        assert_eq!(late.await.unwrap().version, 1, "it began after the write");
        stage.all_see_what_is_committed().await;
    }
}

/// The record of stamps is missing, short, or zero for the key: a lease is taken, and the record is made anew (R15, row V5m).
pub(crate) async fn v5m_without_a_stamp_a_load_takes_a_lease<S: Store>(store: &S) {
    for (stage, keeps) in stages(store, unleased).await {
        let there = store.connect(stage.place).await;
        if !keeps {
            continue;
        }
        for (key, wrong) in [(11, &b""[..]), (12, b"short"), (13, &[0; 128])] {
            there.invalidate(&[STAMPS.into()], &[]).await.unwrap();
            if !wrong.is_empty() {
                let (key, ttl) = (STAMPS.into(), Duration::from_secs(600));
                let lease = mastaba::shared::Lease { key, record: wrong.into(), over: None, ttl };
                there.lease(&[lease], &[]).await.unwrap();
            }
            let request = stage.reader.request();
            request.get::<UserById>(key).await.unwrap();
            stage.reader.cache.idle().await;
            assert_eq!(unleased_of(&request), 0, "{wrong:?}");
            let request = stage.reader.request();
            request.get::<UserById>(key + 10).await.unwrap();
            stage.reader.cache.idle().await;
            assert_eq!(unleased_of(&request), 1, "made anew after {wrong:?}");
        }
        stage.all_see_what_is_committed().await;
    }
}
