//! Processes whose clocks differ, over one store: the store's own expiry is the only clock that counts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mastaba::entry::{self, Fence};
use mastaba::shared::WriteOutcome::RolledBack;
use mastaba::shared::{End, Ended, Hold, Lease, Leased, Shared};

use super::Setup;
use crate::clock::Clock;

const DAY: Duration = Duration::from_secs(86_400);
const LONG: Duration = Duration::from_secs(60);

async fn lease(backend: &impl Shared, key: &Bytes) -> Leased {
    let record = entry::lease(Fence::random(), backend.incarnation()).into();
    let ask = Lease { key: key.clone(), record, over: None, ttl: LONG };
    backend.lease(&[ask], &[]).await.unwrap().leased.remove(0)
}

/// A hold stands as long as the store keeps it, whatever the clocks of processes say. It takes the [`Clock`], so that no other
/// test of the same process may need one.
pub async fn a_hold_stands_as_long_as_the_store_keeps_it<D: Setup>(url: &str) {
    let (one, two) = (D::connect(url).await, D::connect(url).await);
    let clock = Clock::take();
    for (at, first_is_behind) in [true, false].into_iter().enumerate() {
        let key = Bytes::from(format!("key {at}"));
        let hold = |holder, ttl| Hold { key: key.clone(), holder, ttl, keep: false };
        let end = |holder| End { key: key.clone(), holder, outcome: RolledBack };
        let turn = |of_first: bool| match of_first == first_is_behind {
            true => clock.behind(DAY),
            false => clock.ahead(DAY),
        };
        turn(true);
        one.hold(&[hold(1, LONG)]).await.unwrap();
        turn(false);
        assert!(matches!(lease(&two, &key).await, Leased::Found(_)), "the hold of another is respected");
        two.hold(&[hold(2, LONG)]).await.unwrap();
        assert_eq!(two.end(&[end(2)]).await.unwrap(), [Ended::StillHeld]);
        // and one does not stand for longer than it was to, but by some seconds
        two.hold(&[hold(3, Duration::from_millis(300))]).await.unwrap();
        turn(true);
        assert_eq!(one.end(&[end(1)]).await.unwrap(), [Ended::StillHeld]);
        let began = Instant::now();
        while lease(&one, &key).await != Leased::Granted {
            assert!(began.elapsed() < Duration::from_secs(12), "the last hold is not over");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(two.end(&[end(3)]).await.unwrap(), [Ended::Gone]);
    }
}
