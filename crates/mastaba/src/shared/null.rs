//! A backend that keeps nothing.

use bytes::Bytes;

use super::{Abilities, End, Ended, Fill, Filled, Hold, Lease, Leased, Leases, Reach, Shared, Stamp};
use crate::error::Fault;

/// Keeps nothing: every read is a miss, every lease is granted, every fill is refused.
///
/// For regions that live in the request alone. A region asks [`Abilities::stores`] and does not call it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Null;

impl Shared for Null {
    const ABILITIES: Abilities = Abilities {
        name: "null",
        reach: Reach::Process,
        tells: false,
        stores: false,
        holds: false,
        max_key: usize::MAX,
        max_value: 0,
        max_batch: usize::MAX,
    };

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        Ok(vec![None; keys.len()])
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        let stamps = stamps.iter().map(|stamp| stamp.value).collect();
        Ok(Leases { leased: vec![Leased::Granted; leases.len()], stamps })
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        Ok(vec![Filled::Refused; fills.len()])
    }

    async fn invalidate(&self, _keys: &[Bytes], _stamps: &[Stamp]) -> Result<(), Fault> {
        Ok(())
    }

    async fn hold(&self, _holds: &[Hold]) -> Result<(), Fault> {
        Ok(())
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        Ok(vec![Ended::Gone; ends.len()])
    }

    fn incarnation(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::entry::{Fence, Header, Kind, write};
    use crate::shared::Over;

    #[tokio::test]
    async fn it_keeps_nothing_and_answers_in_full() {
        let keys = [Bytes::from("a"), Bytes::from("b")];
        let ttl = Duration::from_secs(1);
        let record = Bytes::from(write(&Header::new(Kind::Value, Fence(1), 0), &[], &[], b"x"));
        let lease = Lease { key: keys[0].clone(), record: record.clone(), over: None, ttl };
        let stamp = Stamp { key: keys[1].clone(), value: 5, ttl: None };
        let leases = Null.lease(&[lease], &[stamp]).await.unwrap();
        assert_eq!((leases.leased, leases.stamps), (vec![Leased::Granted], vec![5]));
        let fill = Fill { key: keys[0].clone(), expected: Fence(1), over: Over::default(), record, ttl };
        assert_eq!(Null.fill(&[fill]).await.unwrap(), [Filled::Refused]);
        assert_eq!(Null.read(&keys).await.unwrap(), [None, None]);
    }
}
