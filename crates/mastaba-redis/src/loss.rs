//! What a server, or the service that runs it, does not give, and what that costs.

use std::fmt;

/// Something that a server hides or forbids, so that the backend does without it: [`Redis::losses`](crate::Redis::losses).
///
/// Its `Display` is a sentence that says what is lost. Each is also a warning in the log, once for a backend.
///
/// ```
/// use mastaba_redis::Loss;
///
/// assert!(Loss::Notifications.to_string().contains("near"));
/// assert_eq!(Loss::Notifications.name(), "notifications");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// `INFO` is forbidden, or tells neither `run_id` nor `master_replid` (`R11`).
    Identity,
    /// `INFO` tells no `maxmemory_policy` (`R14`).
    EvictionPolicy,
    /// The server, or a proxy before it, speaks RESP2 only, in which nothing is notified.
    Resp3,
    /// `CLIENT TRACKING`, or `PING`, is forbidden (`R13`).
    Notifications,
    /// `EVAL`, or `EVALSHA`, is forbidden.
    Scripts,
    /// Scripts are forbidden, and there is no `SET .. IFEQ` to compare by: nothing can be stored safely (`R1`).
    Stores,
}

impl Loss {
    /// One word for it, which stays the same.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::EvictionPolicy => "eviction_policy",
            Self::Resp3 => "resp3",
            Self::Notifications => "notifications",
            Self::Scripts => "scripts",
            Self::Stores => "stores",
        }
    }

    pub(crate) const fn bit(self) -> u8 {
        1 << self as u8
    }

    pub(crate) fn of(bits: u8) -> Vec<Self> {
        let all = [
            Self::Identity,
            Self::EvictionPolicy,
            Self::Resp3,
            Self::Notifications,
            Self::Scripts,
            Self::Stores,
        ];
        all.into_iter().filter(|loss| bits & loss.bit() != 0).collect()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => {
                "INFO tells neither run_id nor master_replid, so a number in the store stands for them: whoever loses a \
                 connection renews it, which makes everything stored a miss; a failover that a proxy hides, or that no \
                 process was connected at, may go unnoticed, and then bring back values up to their time to live"
            }
            Self::EvictionPolicy => {
                "INFO tells no maxmemory_policy, so it is not known whether leases and holds are evicted first: see that it \
                 is allkeys-lru or allkeys-lfu"
            }
            Self::Resp3 => {
                "it speaks RESP2 only, so it notifies nobody of changes: near is refused, and the fill of another process is \
                 polled for"
            }
            Self::Notifications => {
                "it does not notify us of changes (CLIENT TRACKING, PING): near is refused, and the fill of another process is \
                 polled for"
            }
            Self::Scripts => {
                "it refuses scripts (EVAL, EVALSHA), and SET .. IFEQ stands in for them: holds, invalidations and refreshes \
                 cost a trip more, and nothing is filled without a lease"
            }
            Self::Stores => {
                "it refuses scripts (EVAL, EVALSHA) and has no SET .. IFEQ, so nothing is stored and every read goes to the \
                 source; write modes other than simple are refused"
            }
        })
    }
}
