//! The store forgets what it was given.

use mastaba::{Region, Tier, WriteMode};

use super::commits::Committing;
use super::{OutageStage, Server, Setup, until};
use crate::world::UserById;

/// A load has read its row under a lease; then something happens to the store; then the row is written, and voided, and
/// read by the other process; then the load ends, and its fill comes late.
async fn in_the_middle_of_a_load<D: Setup>(stage: &OutageStage<D>, happens: impl AsyncFn()) {
    let request = stage.far.request();
    let gate = stage.db.close_gate();
    let (late, ()) = tokio::join!(request.get::<UserById>(1), async {
        gate.arrived(1).await;
        gate.only_those_here();
        assert!(stage.stands(1).await, "the lease");
        happens().await;
        assert!(!stage.stands(1).await, "the lease is gone");
        until("a write", async || stage.other.write(1).await.is_ok()).await;
        stage.other.warm(1).await;
        gate.open();
    });
    assert_eq!(late.unwrap().unwrap().version, 0, "it began before the write");
    stage.far.cache.idle().await;
    let (seen, statements) = stage.statements(stage.other.finds(1)).await;
    assert_eq!((seen, statements), ((stage.db.version(1), Tier::Shared), 0), "the late fill was refused");
    stage.both_see(1).await;
    stage.recovers(1).await;
}

/// What voided the lease is gone too.
pub async fn a_fill_after_a_flush_is_refused<D: Setup>() {
    let Some(stage) = OutageStage::<D>::new().await else { return };
    in_the_middle_of_a_load(&stage, async || stage.server.empty().await).await;
}

/// What voided the lease is gone too, and every connection.
pub async fn a_fill_after_a_restart_with_nothing_is_refused<D: Setup>() {
    let Some(stage) = OutageStage::<D>::new().await else { return };
    in_the_middle_of_a_load(&stage, async || stage.server.restart_empty().await).await;
}

/// The right to fill is the lease, and that is gone.
pub async fn a_fill_into_an_empty_store_is_refused_also_where_nobody_wrote<D: Setup>() {
    let Some(stage) = OutageStage::<D>::new().await else { return };
    let request = stage.far.request();
    let gate = stage.db.close_gate();
    let (loaded, ()) = tokio::join!(request.get::<UserById>(1), async {
        gate.arrived(1).await;
        stage.server.empty().await;
        gate.open_for_good();
    });
    assert_eq!(loaded.unwrap().unwrap().version, 0);
    stage.far.cache.idle().await;
    assert!(!stage.stands(1).await, "its lease was gone, and with it the right to fill");
    stage.recovers(1).await;
}

/// A hold is lost in the middle of a write. Somebody may read the old row then, and store it (I2 is no longer kept); the end
/// of the write voids that, so whoever reads after it was acknowledged sees the new one (I1).
pub async fn a_hold_that_the_store_has_lost_is_made_good_by_the_end_of_its_write<D: Setup>() {
    let strict = |region: Region| region.write_mode(WriteMode::Strict);
    let Some(stage) = OutageStage::<D>::alike(strict).await else { return };
    for restarts in [false, true] {
        stage.other.warm(1).await;
        let write = Committing::begin(&stage.far, &stage.db).await;
        assert_eq!(stage.other.finds(1).await.1, Tier::Source, "held");
        if restarts {
            stage.server.restart_empty().await;
        } else {
            stage.server.empty().await;
        }
        let old = stage.other.warm(1).await;
        assert!(write.end().await, "acknowledged");
        stage.far.cache.idle().await;
        assert_eq!(stage.db.version(1), old + 1);
        stage.both_see(1).await;
        stage.recovers(1).await;
    }
}
