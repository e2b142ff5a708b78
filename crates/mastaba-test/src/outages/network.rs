//! The network fails between one process and the server, which another process reaches.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mastaba::Tier;

use super::{BUDGET, OutageStage, Server, Setup, Words, faults, until};
use crate::proxy::Direction;
use crate::world::UserById;

/// What a fault of the network comes to as long as it lasts: values for all, one statement for each read of the
/// process that is cut off, no acknowledgement without the store.
async fn is_cut_off<D: Setup>(stage: &OutageStage<D>, key: u64) {
    let old = stage.db.version(key);
    stage.far.events();
    for _ in 0..2 {
        let (seen, statements) = stage.statements(stage.far.finds(key)).await;
        assert_eq!((seen, statements), ((old, Tier::Source), 1));
    }
    let mut events = stage.far.events();
    assert!(faults(&events).get("read") >= Some(&2), "{events:?}");
    let (seen, statements) = stage.statements(stage.other.finds(key)).await;
    assert_eq!((seen, statements), ((old, Tier::Shared), 0), "the other process is not concerned");

    let acknowledged = stage.other.write(key).await.unwrap();
    stage.both_see(key).await;
    let error = stage.far.write(key).await.unwrap_err();
    assert!(error.is_shared(), "{error}");
    assert_eq!(stage.far.sees(key).await, acknowledged + 1, "it is committed");
    assert!(stage.other.sees(key).await >= acknowledged);
    events.extend(stage.far.events());
    assert!(faults(&events)["read"] >= 3 && faults(&events)["invalidate"] >= 1, "{events:?}");
    assert_eq!(stage.other.events(), [""; 0]);
}

/// A stage whose store knows user 1, with the words of its commands.
async fn warm_stage<D: Setup>() -> Option<(OutageStage<D>, Words)> {
    Some(warm(OutageStage::new().await?).await)
}

/// The same, where every load takes a lease.
async fn leasing_stage<D: Setup>() -> Option<(OutageStage<D>, Words)> {
    Some(warm(OutageStage::alike(|region| region.fill_without_lease(false)).await?).await)
}

async fn warm<D: Setup>(stage: OutageStage<D>) -> (OutageStage<D>, Words) {
    stage.warm_in_both(1).await;
    stage.other.write(2).await.unwrap(); // the server knows the scripts of writes from now on, where there are any
    let words = D::words(&stage.server).await;
    (stage, words)
}

/// Nobody listens.
pub async fn a_server_that_refuses_connections_costs_statements_and_no_answers<D: Setup>() {
    let Some((stage, _)) = warm_stage::<D>().await else { return };
    stage.proxy.refuse().await;
    is_cut_off(&stage, 1).await;
    stage.proxy.pass().await;
    stage.recovers(1).await;
}

/// Nobody listens, and many read the same.
pub async fn readers_of_one_key_share_their_loads_while_the_server_is_away<D: Setup>() {
    let Some((stage, _)) = warm_stage::<D>().await else { return };
    stage.proxy.refuse().await;
    stage.far.sees(2).await;
    let gate = stage.db.close_gate();
    let before = stage.db.started();
    let requests: Vec<_> = (0..50).map(|_| stage.far.request()).collect();
    let readers = requests.iter().map(|request| request.get::<UserById>(1));
    let (answers, ()) = tokio::join!(join_all(readers), async {
        gate.arrived(1).await;
        // on one thread all that can come has come by then
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
        gate.open_for_good();
    });
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().as_ref().unwrap().version == 0));
    let statements = stage.db.started() - before;
    assert!(statements <= 2, "{statements} statements for one key in one process");
    stage.proxy.pass().await;
    stage.recovers(1).await;
}

/// Every piece takes as long as a whole trip may.
pub async fn a_server_slower_than_the_budget_is_not_waited_for<D: Setup>() {
    let Some((stage, _)) = warm_stage::<D>().await else { return };
    stage.proxy.slow(BUDGET).await;
    is_cut_off(&stage, 1).await;
    stage.proxy.pass().await;
    stage.recovers(1).await;
}

/// Nobody learns that nothing arrives.
pub async fn a_connection_that_swallows_everything_is_given_up<D: Setup>() {
    let Some((stage, _)) = warm_stage::<D>().await else { return };
    stage.proxy.half_open().await;
    is_cut_off(&stage, 1).await;
    stage.proxy.pass().await;
    stage.recovers(1).await;
}

/// What is sent arrives, and no answer comes.
pub async fn answers_that_are_lost_on_their_way_are_not_taken_for_done<D: Setup>() {
    let Some((stage, _)) = warm_stage::<D>().await else { return };
    stage.proxy.swallow(Direction::ToClient).await;
    let error = stage.far.write(1).await.unwrap_err();
    assert!(error.is_shared(), "{error}");
    if D::INVALIDATES_AT_ONCE {
        // it reached the server all the same
        until("the invalidation", async || !stage.stands(1).await).await;
    } else {
        assert!(stage.stands(1).await, "what an answer decides on is never sent without it");
    }
    stage.proxy.pass().await;
    stage.recovers(1).await;
}

/// The answer of a read is lost with its connection.
pub async fn a_read_whose_connection_is_reset_is_answered_by_the_source<D: Setup>() {
    let Some((stage, words)) = warm_stage::<D>().await else { return };
    stage.proxy.reset_after(words.read);
    let (seen, statements) = stage.statements(stage.far.finds(1)).await;
    assert_eq!((seen, statements), ((0, Tier::Source), 1));
    assert_eq!(faults(&stage.far.events())["read"], 1);
    stage.other.write(1).await.unwrap();
    stage.both_see(1).await;
    stage.recovers(1).await;
}

/// The answer of a lease is lost with its connection.
pub async fn a_lease_whose_answer_is_lost_gives_no_right_to_fill<D: Setup>() {
    let Some((stage, words)) = leasing_stage::<D>().await else { return };
    stage.proxy.reset_after(words.lease);
    let (seen, statements) = stage.statements(stage.far.finds(3)).await;
    assert_eq!((seen, statements), ((0, Tier::Source), 1));
    stage.far.cache.idle().await;
    let events = stage.far.events();
    assert_eq!(faults(&events).get("lease"), Some(&1), "{events:?}");
    assert!(!faults(&events).contains_key("fill"), "{events:?}");
    assert!(stage.stands(3).await, "the lease was placed, and nobody knows whose it is");
    // it is waited for, and then loaded under (R3): it keeps nobody from filling
    let (seen, statements) = stage.statements(stage.other.finds(3)).await;
    assert_eq!((seen, statements), ((0, Tier::Source), 1));
    stage.other.cache.idle().await;
    assert_eq!(stage.far.finds(3).await, (0, Tier::Shared));
    stage.other.write(3).await.unwrap();
    stage.both_see(3).await;
    stage.recovers(3).await;
}

/// The answer of a fill is lost with its connection.
pub async fn a_fill_whose_answer_is_lost_is_voided_like_any_other<D: Setup>() {
    let Some((stage, words)) = leasing_stage::<D>().await else { return };
    stage.proxy.reset_after(words.fill);
    assert_eq!(stage.far.sees(3).await, 0);
    stage.far.cache.idle().await;
    assert_eq!(faults(&stage.far.events())["fill"], 1);
    let (seen, statements) = stage.statements(stage.other.finds(3)).await;
    assert_eq!((seen, statements), ((0, Tier::Shared), 0), "it was stored");
    stage.other.write(3).await.unwrap();
    stage.both_see(3).await;
    stage.recovers(3).await;
}

/// The answer of an invalidation is lost with its connection.
pub async fn an_invalidation_whose_answer_is_lost_is_sent_again_on_the_next_connection<D: Setup>() {
    let Some((stage, words)) = warm_stage::<D>().await else { return };
    stage.proxy.reset_after(words.invalidation);
    assert_eq!(stage.far.write(1).await.unwrap(), 1, "and confirmed by that");
    assert_eq!(faults(&stage.far.events())["invalidate"], 1);
    stage.both_see(1).await;
    stage.recovers(1).await;
}

/// Invalidations do not get through, and all else does.
pub async fn an_invalidation_that_never_arrived_is_not_acknowledged_and_sent_until_it_arrives<D: Setup>() {
    let Some((stage, words)) = warm_stage::<D>().await else { return };
    stage.proxy.ban(words.invalidation).await;
    stage.far.write(1).await.unwrap_err();
    assert_eq!(stage.other.finds(1).await, (0, Tier::Shared), "nothing was voided, and nothing acknowledged");
    assert_eq!(stage.far.sees(1).await, 1, "the process that wrote does not go back in time");
    stage.proxy.pass().await;
    // nobody writes again
    until("what was kept", async || stage.other.finds(1).await.0 == 1).await;
    stage.both_see(1).await;
    stage.recovers(1).await;
}

/// The server stands still, also for those who reach it.
pub async fn a_write_waits_no_longer_than_its_budget_for_a_silent_server<D: Setup>() {
    let Some((stage, _)) = warm_stage::<D>().await else { return };
    stage.server.pause().await;
    let began = Instant::now();
    stage.far.write(1).await.unwrap_err();
    assert_eq!(stage.far.sees(1).await, 1);
    // two trips; everything else is the machine's
    assert!(began.elapsed() < BUDGET * 2 + Duration::from_secs(5));
    stage.server.resume().await;
    stage.recovers(1).await;
}
