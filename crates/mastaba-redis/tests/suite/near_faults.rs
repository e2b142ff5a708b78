//! Near, while the connection that it is told of changes on breaks (R13).

use crate::common;

use std::time::{Duration, Instant};

use common::{Stage, limited, until};
use mastaba::{Coherence, Tier};

const BOUND: Duration = Duration::from_millis(600);

/// Reads until the write is seen. None that starts more than `bound` after it was acknowledged may miss it.
async fn sees_within(stage: &Stage, key: u64, version: u32, bound: Duration) {
    let acknowledged = Instant::now();
    loop {
        let late = acknowledged.elapsed() >= bound;
        let (seen, tier) = stage.far.finds(key).await;
        assert!(
            seen == version || !late,
            "{tier} answered with what was voided {:?} ago",
            acknowledged.elapsed()
        );
        if late {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// After the link is back, near answers again, and is told of what the other process writes.
async fn is_told_again(stage: &Stage, key: u64, bound: Duration) {
    let version = stage.db.version(key);
    until("what is committed", async || stage.far.sees(key).await == version).await;
    assert_eq!(stage.far.warm_near(key).await, version);
    let version = stage.other.write(key).await.unwrap();
    sees_within(stage, key, version, bound).await;
    assert_eq!(stage.far.warm_near(key).await, version);
    stage.recovers_near(key).await;
}

async fn a_silent_link(coherence: Coherence, bound: Duration) {
    let Some(stage) = Stage::near(coherence).await else { return };
    assert_eq!(stage.far.warm_near(1).await, 0);
    stage.proxy.half_open().await;
    let version = stage.other.write(1).await.unwrap();
    sees_within(&stage, 1, version, bound).await;
    let (seen, statements) = stage.statements(stage.far.finds(1)).await;
    assert_eq!(
        (seen, statements),
        ((version, Tier::Source), 1),
        "near knows nothing that it could rely upon"
    );
    stage.proxy.pass().await;
    is_told_again(&stage, 1, bound).await;
}

#[tokio::test]
async fn bounded_near_is_not_served_past_its_bound_when_the_link_falls_silent() {
    limited(a_silent_link(Coherence::Bounded(BOUND), BOUND)).await;
}

#[tokio::test]
async fn fenced_near_is_not_served_when_the_link_falls_silent() {
    limited(a_silent_link(Coherence::Fenced, Duration::ZERO)).await;
}

/// The link is gone and comes back, and meanwhile the other process writes: nobody told us.
async fn a_gap(coherence: Coherence, bound: Duration) {
    let Some(stage) = Stage::near(coherence).await else { return };
    for key in 1..=3 {
        assert_eq!(stage.far.warm_near(key).await, 0);
    }
    stage.proxy.refuse().await;
    let version = stage.other.write(1).await.unwrap();
    stage.proxy.pass().await;
    sees_within(&stage, 1, version, bound).await;
    // also what nobody wrote has gone: near cannot know
    let (seen, tier) = stage.far.finds(2).await;
    assert_eq!(seen, 0);
    assert_ne!(tier, Tier::Near, "a gap empties near");
    is_told_again(&stage, 1, bound).await;
}

#[tokio::test]
async fn a_gap_empties_bounded_near_and_it_is_told_of_changes_again() {
    limited(a_gap(Coherence::Bounded(BOUND), BOUND)).await;
}

#[tokio::test]
async fn a_gap_empties_fenced_near_and_it_is_told_of_changes_again() {
    limited(a_gap(Coherence::Fenced, Duration::ZERO)).await;
}

#[tokio::test]
async fn every_cut_of_many_empties_near_and_tracking_is_set_again_each_time() {
    limited(async {
        let Some(stage) = Stage::near(Coherence::Fenced).await else { return };
        for _ in 0..5 {
            let version = stage.far.warm_near(1).await;
            assert_eq!(version, stage.db.version(1));
            stage.proxy.cut_marked("CLIENT TRACKING").await;
            let version = stage.other.write(1).await.unwrap();
            assert_eq!(stage.far.sees(1).await, version);
            stage.far.warm_near(1).await;
            let version = stage.other.write(1).await.unwrap();
            assert_eq!(stage.far.sees(1).await, version, "told on the new connection");
        }
        stage.recovers_near(1).await;
    })
    .await;
}

#[tokio::test]
async fn without_tracking_near_never_answers() {
    limited(async {
        let Some(stage) = Stage::near(Coherence::Bounded(BOUND)).await else { return };
        stage.far.warm_near(1).await;
        stage.proxy.ban("CLIENT TRACKING").await;
        let version = stage.other.write(1).await.unwrap();
        sees_within(&stage, 1, version, BOUND).await;
        for _ in 0..20 {
            assert_ne!(stage.far.finds(1).await.1, Tier::Near);
        }
        stage.proxy.pass().await;
        is_told_again(&stage, 1, BOUND).await;
    })
    .await;
}

#[tokio::test]
async fn a_flush_by_an_operator_empties_near() {
    limited(async {
        let Some(stage) = Stage::near(Coherence::Fenced).await else { return };
        stage.far.warm_near(1).await;
        stage.server.command(&["FLUSHALL"]).await;
        assert_ne!(stage.far.finds(1).await.1, Tier::Near);
        let version = stage.other.write(1).await.unwrap();
        assert_eq!(stage.far.sees(1).await, version);
        is_told_again(&stage, 1, Duration::ZERO).await;
    })
    .await;
}

#[tokio::test]
async fn a_write_that_was_not_acknowledged_is_seen_by_the_process_that_wrote_all_the_same() {
    limited(async {
        let Some(stage) = Stage::near(Coherence::Bounded(Duration::from_secs(2))).await else { return };
        stage.far.warm_near(1).await;
        stage.proxy.half_open().await;
        stage.far.write(1).await.unwrap_err();
        assert_eq!(stage.far.sees(1).await, 1, "its own near is voided in any case");
        stage.proxy.pass().await;
        until("a repeat", async || stage.far.invalidate(1).await.is_ok()).await;
        assert_eq!(stage.far.sees(1).await, 1);
        stage.recovers_near(1).await;
    })
    .await;
}
