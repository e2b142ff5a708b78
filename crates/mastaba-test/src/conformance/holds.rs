//! Holds: `R7` to `R10`.

use mastaba::entry::{Fence, Kind};
use mastaba::shared::WriteOutcome::{Committed, RolledBack};
use mastaba::shared::{Ended, Filled, Leased, Shared};

use super::trial::{Checked, LONG, SHORT, Trial, same, seen};

const A: u64 = 0xaaaa_0000_0000_0001;
const B_: u64 = 0xbbbb_0000_0000_0002;

pub(super) async fn a_hold_refuses_leases_and_fills<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.hold(&key, A, LONG, true).await?;
    let held = trial.at(&key).await?;
    same(&held.as_ref().map(|it| it.kind), &Some(Kind::Hold), "what stands under a hold")?;
    let fence = held.map_or(Fence(0), |it| it.fence);
    for over in [None, Some(fence)] {
        match trial.ask(trial.lease(&key, over, LONG).0).await? {
            Leased::Granted => return Err("a lease on a held key was granted".to_owned()),
            Leased::Found(record) => same(&seen(&record)?.kind, &Kind::Hold, "what a lease finds")?,
        }
    }
    same(&trial.store(trial.value(&key, fence, b"no")).await?, &Filled::Refused, "a fill on a hold")?;
    same(&trial.end(&key, A, Committed).await?, &Ended::Freed, "the end of the only hold")?;
    trial.granted(&key).await.map(drop)
}

pub(super) async fn a_hold_voids_the_lease<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    let fence = trial.granted(&key).await?;
    trial.hold(&key, A, LONG, true).await?;
    same(&trial.store(trial.value(&key, fence, b"old")).await?, &Filled::Refused, "a fill under a hold")?;
    trial.end(&key, A, RolledBack).await?;
    same(&trial.store(trial.value(&key, fence, b"old")).await?, &Filled::Refused, "a fill after the hold")
}

pub(super) async fn an_end_removes_only_its_own_hold<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.hold(&key, A, LONG, false).await?;
    trial.hold(&key, B_, LONG, false).await?;
    same(&trial.end(&key, A, Committed).await?, &Ended::StillHeld, "the first of two ends (R9)")?;
    same(&trial.kind(&key).await?, &Some(Kind::Hold), "what stands there between two ends")?;
    same(&trial.end(&key, B_, Committed).await?, &Ended::Freed, "the second of two ends")?;
    same(&trial.at(&key).await?, &None, "what stands there after both")
}

pub(super) async fn an_end_without_a_hold_is_gone<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    same(&trial.end(&key, A, RolledBack).await?, &Ended::Gone, "an end on a free key")?;
    trial.hold(&key, A, LONG, false).await?;
    same(&trial.end(&key, B_, RolledBack).await?, &Ended::Gone, "an end of somebody who does not hold")?;
    same(&trial.kind(&key).await?, &Some(Kind::Hold), "the hold of the other")
}

pub(super) async fn a_commit_restores_nothing<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.put(&key, b"old", LONG).await?;
    trial.hold(&key, A, LONG, true).await?;
    same(&trial.end(&key, A, Committed).await?, &Ended::Freed, "the end after a commit")?;
    same(&trial.at(&key).await?, &None, "what stands there then")
}

pub(super) async fn a_rollback_restores_what_was_kept<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.put(&key, b"kept", LONG).await?;
    trial.hold(&key, A, LONG, true).await?;
    trial.hold(&key, B_, LONG, true).await?;
    same(&trial.payload(&key).await?, &None, "the value while it is held")?;
    same(&trial.end(&key, B_, RolledBack).await?, &Ended::StillHeld, "the first of two rollbacks")?;
    same(&trial.end(&key, A, RolledBack).await?, &Ended::Restored, "the second of two rollbacks")?;
    same(&trial.payload(&key).await?, &Some(b"kept".to_vec()), "the value after two rollbacks")
}

pub(super) async fn a_refresh_from_before_the_hold_does_not_meet_the_restored_value<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let key = trial.key("key");
    let fence = trial.put(&key, b"kept", LONG).await?;
    trial.hold(&key, A, LONG, true).await?;
    trial.end(&key, A, RolledBack).await?;
    same(&trial.store(trial.value(&key, fence, b"late")).await?, &Filled::Refused, "a refresh from before")
}

pub(super) async fn a_hold_that_keeps_nothing_restores_nothing<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.put(&key, b"old", LONG).await?;
    trial.hold(&key, A, LONG, false).await?;
    same(&trial.end(&key, A, RolledBack).await?, &Ended::Freed, "a rollback with nothing kept")?;
    same(&trial.at(&key).await?, &None, "what stands there then")
}

pub(super) async fn a_rollback_after_another_commit_restores_nothing<B: Shared>(trial: &Trial<B>) -> Checked {
    for (n, outcomes) in [[Committed, RolledBack], [RolledBack, Committed]].into_iter().enumerate() {
        let key = trial.key(n);
        trial.put(&key, b"old", LONG).await?;
        trial.hold(&key, A, LONG, true).await?;
        trial.hold(&key, B_, LONG, true).await?;
        trial.end(&key, A, outcomes[0]).await?;
        same(
            &trial.end(&key, B_, outcomes[1]).await?,
            &Ended::Freed,
            "the end after a commit and a rollback (R10)",
        )?;
        same(&trial.at(&key).await?, &None, "what stands there then")?;
    }
    Ok(())
}

pub(super) async fn an_invalidation_under_a_hold_forgets_what_was_kept<B: Shared>(
    trial: &Trial<B>,
) -> Checked {
    let key = trial.key("key");
    trial.put(&key, b"old", LONG).await?;
    trial.hold(&key, A, LONG, true).await?;
    trial.invalidate(std::slice::from_ref(&key)).await?;
    same(&trial.kind(&key).await?, &Some(Kind::Hold), "the hold after an invalidation")?;
    same(&trial.end(&key, A, RolledBack).await?, &Ended::Freed, "a rollback after an invalidation")?;
    same(&trial.at(&key).await?, &None, "what stands there then")
}

pub(super) async fn a_hold_expires<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.put(&key, b"old", LONG).await?;
    trial.hold(&key, A, SHORT, true).await?;
    trial.expired(&key).await?;
    trial.granted(&key).await.map(drop)
}

pub(super) async fn nothing_comes_back_after_a_hold_expired<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.put(&key, b"old", LONG).await?;
    trial.hold(&key, A, SHORT, true).await?;
    trial.hold(&key, B_, LONG, true).await?;
    // nothing shows from outside that A's hold is over
    tokio::time::sleep(SHORT * 2).await;
    same(
        &trial.end(&key, B_, RolledBack).await?,
        &Ended::Freed,
        "a rollback beside an unknown outcome (R10)",
    )?;
    same(&trial.at(&key).await?, &None, "what stands there then")
}

pub(super) async fn a_late_commit_voids_what_came_since<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.hold(&key, A, SHORT, false).await?;
    trial.expired(&key).await?;
    trial.put(&key, b"from before the commit, perhaps", LONG).await?;
    same(&trial.end(&key, A, Committed).await?, &Ended::Gone, "the end of a hold that is over")?;
    same(&trial.at(&key).await?, &None, "what came since")
}

pub(super) async fn a_late_rollback_leaves_alone_what_came_since<B: Shared>(trial: &Trial<B>) -> Checked {
    let key = trial.key("key");
    trial.hold(&key, A, SHORT, false).await?;
    trial.expired(&key).await?;
    trial.put(&key, b"new", LONG).await?;
    same(&trial.end(&key, A, RolledBack).await?, &Ended::Gone, "the end of a hold that is over")?;
    same(&trial.payload(&key).await?, &Some(b"new".to_vec()), "what came since")
}
