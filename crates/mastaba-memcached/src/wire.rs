//! Commands and their answers, and the connections that they travel on. Nothing else knows the client library, whose are the
//! words of the protocol; the connections are ours, for a reason that stands in decision 0041.

mod connection;
mod greet;
mod link;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::connections::{self, PerRuntime};
use mastaba::{Fault, FaultKind};
use memcache::exp::{
    DeleteOptions, GetOptions, MetaCommand, ReturnCode, SetMode, SetOptions, build_delete, build_get,
    build_set,
};

pub(crate) use self::connection::Pipe;
pub(crate) use self::greet::{NEVER_EVICTS, is_ours, look_at_list};
use self::link::Links;
use crate::AtStart;
use crate::hub::ServerList;
use mastaba::shared::connections::ConnectError;

/// The mark of a hold, among the flags that a client may give an item: an invalidation need not read a value to know that it
/// is none.
pub(crate) const HOLD: u32 = 0x4d74_0003;
/// A server takes what is longer for a date.
const LONGEST: u64 = 30 * 24 * 60 * 60;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ItemReply {
    /// It was done, or what was asked for is there.
    Done(SeenItem),
    /// Nothing stands there.
    Missing,
    /// What stands there is something else (or, in add mode, is there).
    Other,
    /// The server cannot do it: it is full, or this is too large. What stood there is gone.
    Refused(String),
}

/// What a server says of an item, as far as it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeenItem {
    pub(crate) record: Option<Bytes>,
    pub(crate) cas: Option<u64>,
    /// How many more seconds it stays, rounded up; none or negative: for ever.
    pub(crate) left: Option<i64>,
    pub(crate) flags: Option<u32>,
}

/// One command.
pub(crate) struct ItemCommand(Result<MetaCommand, memcache::exp::Error>);

impl ItemCommand {
    /// The record alone.
    pub(crate) fn read(key: Vec<u8>) -> Self {
        Self(build_get(key, &GetOptions::default()))
    }

    /// The record, its CAS number, and how long it stays.
    pub(crate) fn look(key: Vec<u8>) -> Self {
        let mut options = GetOptions::default();
        (options.return_cas, options.return_ttl) = (true, true);
        Self(build_get(key, &options))
    }

    /// Whether something stands there, its mark and its CAS number.
    pub(crate) fn look_aside(key: Vec<u8>) -> Self {
        let mut options = GetOptions::default();
        (options.value, options.return_cas, options.return_client_flags) = (false, true, true);
        Self(build_get(key, &options))
    }

    /// Where nothing stands.
    pub(crate) fn add(key: Vec<u8>, record: &[u8], ttl: Option<Duration>) -> Self {
        Self::set(key, record, ttl, |options| options.mode = SetMode::Add)
    }

    /// In the place of exactly the item with this CAS number.
    pub(crate) fn swap(key: Vec<u8>, record: &[u8], ttl: Option<Duration>, cas: u64) -> Self {
        Self::set(key, record, ttl, |options| options.compare_cas = Some(cas))
    }

    /// Whatever stands there.
    pub(crate) fn put(key: Vec<u8>, record: &[u8], ttl: Option<Duration>) -> Self {
        Self::set(key, record, ttl, |_| ())
    }

    /// Exactly the item with this CAS number.
    pub(crate) fn remove(key: Vec<u8>, cas: u64) -> Self {
        let mut options = DeleteOptions::default();
        options.compare_cas = Some(cas);
        Self(build_delete(key, &options))
    }

    fn set(key: Vec<u8>, record: &[u8], ttl: Option<Duration>, how: impl FnOnce(&mut SetOptions)) -> Self {
        let mut options = SetOptions::default();
        options.ttl = Some(ttl.map_or(0, seconds));
        if mastaba::entry::peek_kind(record) == Some(mastaba::entry::Kind::Hold) {
            options.client_flags = Some(HOLD);
        }
        how(&mut options);
        Self(build_set(key, record, &options))
    }
}

/// As a server counts: its clock moves once a second, so an item of n seconds is there for n at most and for almost one less
/// at least. One more, so that it is never there for a shorter time than it was to be.
fn seconds(ttl: Duration) -> u32 {
    let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0) + 1;
    u32::try_from(whole.min(LONGEST)).unwrap_or(u32::MAX)
}

/// What a return code says.
fn reply(code: ReturnCode, item: SeenItem) -> Option<ItemReply> {
    match code {
        ReturnCode::Hd | ReturnCode::Va => Some(ItemReply::Done(item)),
        ReturnCode::En | ReturnCode::Nf => Some(ItemReply::Missing),
        ReturnCode::Ns | ReturnCode::Ex => Some(ItemReply::Other),
        _ => None,
    }
}

/// The connections of a backend, one per server and runtime.
pub(crate) struct Pipes {
    hub: Arc<ServerList>,
    links: Arc<PerRuntime<Links, Fault>>,
}

impl Pipes {
    /// Connects on the runtime of the caller; others connect when they ask for the first time.
    pub(crate) async fn connect(hub: Arc<ServerList>) -> Result<Self, ConnectError> {
        hub.config.check()?;
        let wrong = |what: &str| ConnectError::config(format!("memcached: {what}"));
        let runtime = connections::current().map_err(wrong)?;
        connections::lacks().map_or(Ok(()), |what| Err(wrong(what)))?;
        let first = link::open_all(&hub).await;
        // who comes to look sees what there is
        let needed = match hub.visits() {
            true => first.iter().all(Result::is_err),
            false => hub.config.at_start == AtStart::Required,
        };
        for error in first.iter().filter_map(|opened| opened.as_ref().err()) {
            if needed || error.is_config() {
                return Err(error.clone());
            }
            tracing::warn!(target: "mastaba", "{error}; reads go to the source until it can be reached");
        }
        let unfit = |what: &'static str| Fault::new(FaultKind::Refused, format!("memcached: {what}"));
        let of = Arc::downgrade(&hub);
        let begin = move || {
            let closed = || Fault::new(FaultKind::Down, "memcached: the backend was closed");
            Ok(Links::begin(&of.upgrade().ok_or_else(closed)?, Vec::new()))
        };
        let links = PerRuntime::new(begin, || (), unfit);
        let settled = links.settle(&runtime, || Ok::<_, Fault>(Links::begin(&hub, first)));
        settled.map_err(|fault| wrong(&fault.to_string()))?;
        Ok(Self { hub, links })
    }

    /// The connection to a server. What is done step by step over one is done by one run of that server.
    pub(crate) async fn to(&self, server: usize) -> Result<Arc<Pipe>, Fault> {
        self.links.here()?.to(&self.hub, server).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_for_a_shorter_time_than_it_was_to_be_and_nothing_becomes_a_date() {
        let asked = [0, 1, 999, 1000, 1001, 59_500].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(asked, [1, 2, 2, 2, 3, 61]);
        for long in [LONGEST - 1, LONGEST, LONGEST + 1, u64::MAX / 4] {
            assert_eq!(u64::from(seconds(Duration::from_secs(long))), LONGEST);
        }
        let encoded = |command: ItemCommand| String::from_utf8(command.0.unwrap().encode().unwrap()).unwrap();
        assert_eq!(encoded(ItemCommand::put("k".into(), b"v", None)), "ms k 1 T0\r\nv\r\n");
        let day = Some(Duration::from_secs(86_400 * 40));
        assert_eq!(encoded(ItemCommand::swap("k".into(), b"v", day, 9)), "ms k 1 T2592000 C9\r\nv\r\n");
    }

    #[test]
    fn a_hold_has_a_mark_and_nothing_else_has() {
        use mastaba::entry::{Fence, Header, Kind, write};
        for kind in [Kind::Value, Kind::Absent, Kind::Lease, Kind::Hold] {
            let record = write(&Header::new(kind, Fence(1), 2), &[], &[], &[]);
            let command = ItemCommand::add("k".into(), &record, None).0.unwrap().encode().unwrap();
            let line =
                String::from_utf8_lossy(&command[..command.iter().position(|it| *it == b'\r').unwrap()])
                    .into_owned();
            assert_eq!(line.contains(&format!("F{HOLD}")), kind == Kind::Hold, "{line}");
        }
    }
}
