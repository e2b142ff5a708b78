//! One check at work: a store, keys of its own, and short names for what checks do.

use std::collections::HashSet;
use std::fmt::{Debug, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mastaba::entry::{EntryRef, Fence, Header, Kind, write};
use mastaba::shared::{End, Ended, Fill, Filled, Hold, Lease, Leased, Over, Shared, Stamp, WriteOutcome};

/// A time to live that no check outlasts.
pub(super) const LONG: Duration = Duration::from_secs(600);
/// One that checks wait for.
pub(super) const SHORT: Duration = Duration::from_millis(60);
/// How long an expiry may be late: some servers count whole seconds.
const LATE: Duration = Duration::from_secs(3);

pub(super) type Checked<T = ()> = Result<T, String>;

pub(super) struct Trial<B> {
    pub(super) store: Arc<B>,
    prefix: String,
    /// The fences of all leases that were made here.
    leases: Mutex<HashSet<Fence>>,
}

/// A record, as far as checks look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenRecord {
    pub(super) kind: Kind,
    pub(super) fence: Fence,
    pub(super) payload: Vec<u8>,
}

pub(super) const fn about_holds(module: &str, name: &str) -> bool {
    matches!(module.as_bytes(), b"holds")
        || matches!(
            name.as_bytes(),
            b"twenty_holds_at_the_same_time_all_count"
                | b"a_hold_and_the_end_of_a_commit_renew_the_stamp"
                | b"random_operations_with_holds_do_what_the_transitions_say"
        )
}

/// Fails with the sentence and both sides.
pub(super) fn same<T: PartialEq + Debug>(seen: &T, expected: &T, sentence: &str) -> Checked {
    if seen == expected { Ok(()) } else { Err(format!("{sentence}: saw {seen:?}, expected {expected:?}")) }
}

pub(super) fn fault(operation: &str) -> impl Fn(mastaba::Fault) -> String {
    move |fault| format!("{operation} failed: {fault}")
}

impl<B: Shared> Trial<B> {
    pub(super) fn new(store: Arc<B>, check: &str) -> Self {
        // random, so that a server that remembers an earlier run does not matter
        let prefix = format!("conformance:{:016x}:{:.24}:", Fence::random().0, check);
        Self { store, prefix, leases: Mutex::default() }
    }

    pub(super) fn key(&self, name: impl Display) -> Bytes {
        format!("{}{name}", self.prefix).into()
    }

    pub(super) fn header(&self, kind: Kind, fence: Fence) -> Header {
        Header::new(kind, fence, self.store.incarnation())
    }

    pub(super) fn record(&self, kind: Kind, fence: Fence, payload: &[u8]) -> Bytes {
        write(&self.header(kind, fence), &[], &[], payload).into()
    }

    pub(super) fn lease(&self, key: &Bytes, over: Option<Fence>, ttl: Duration) -> (Lease, Fence) {
        let fence = Fence::random();
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).insert(fence);
        (Lease { key: key.clone(), record: self.record(Kind::Lease, fence, b""), over, ttl }, fence)
    }

    pub(super) fn value(&self, key: &Bytes, expected: Fence, payload: &[u8]) -> Fill {
        let record = self.record(Kind::Value, Fence::random(), payload);
        let leased = self.leases.lock().unwrap_or_else(PoisonError::into_inner).contains(&expected);
        let over = if leased { Over::Lease } else { Over::Record };
        Fill { key: key.clone(), expected, over, record, ttl: LONG }
    }

    /// Puts any bytes under a key, in place of what stands there.
    pub(super) async fn plant(&self, key: &Bytes, record: Bytes) -> Checked {
        self.invalidate(std::slice::from_ref(key)).await?;
        let lease = Lease { key: key.clone(), record, over: None, ttl: LONG };
        same(&self.ask(lease).await?, &Leased::Granted, "bytes that were to be planted")
    }

    pub(super) async fn ask(&self, lease: Lease) -> Checked<Leased> {
        let answer = self.store.lease(&[lease], &[]).await.map_err(fault("lease"))?;
        same(&answer.leased.len(), &1, "answers to one lease")?;
        same(&answer.stamps.len(), &0, "stamps answered to none")?;
        answer.leased.into_iter().next().ok_or_else(|| "no answer".to_owned())
    }

    pub(super) async fn ask_stamp(&self, key: &Bytes, value: u64, ttl: Option<Duration>) -> Checked<u64> {
        let stamp = Stamp { key: key.clone(), value, ttl };
        let answer = self.store.lease(&[], &[stamp]).await.map_err(fault("lease"))?;
        same(&answer.stamps.len(), &1, "answers to one stamp")?;
        Ok(answer.stamps[0])
    }

    /// A lease that has to be granted.
    pub(super) async fn granted(&self, key: &Bytes) -> Checked<Fence> {
        let (lease, fence) = self.lease(key, None, LONG);
        same(&self.ask(lease).await?, &Leased::Granted, "a lease on a free key")?;
        Ok(fence)
    }

    pub(super) async fn store(&self, fill: Fill) -> Checked<Filled> {
        let answers = self.store.fill(&[fill]).await.map_err(fault("fill"))?;
        same(&answers.len(), &1, "answers to one fill")?;
        Ok(answers[0])
    }

    /// A value on a free key; its fence.
    pub(super) async fn put(&self, key: &Bytes, payload: &[u8], ttl: Duration) -> Checked<Fence> {
        let expected = self.granted(key).await?;
        let fill = Fill { ttl, ..self.value(key, expected, payload) };
        let fence = mastaba::entry::peek_fence(&fill.record).ok_or("no fence")?;
        same(&self.store(fill).await?, &Filled::Stored, "a fill on its lease")?;
        Ok(fence)
    }

    pub(super) async fn read(&self, keys: &[Bytes]) -> Checked<Vec<Option<SeenRecord>>> {
        let records = self.store.read(keys).await.map_err(fault("read"))?;
        same(&records.len(), &keys.len(), "answers to a read")?;
        records.into_iter().map(|record| record.map(|it| seen(&it)).transpose()).collect()
    }

    pub(super) async fn at(&self, key: &Bytes) -> Checked<Option<SeenRecord>> {
        let mut records = self.read(std::slice::from_ref(key)).await?;
        Ok(records.pop().flatten())
    }

    pub(super) async fn kind(&self, key: &Bytes) -> Checked<Option<Kind>> {
        Ok(self.at(key).await?.map(|it| it.kind))
    }

    /// What a reader would get.
    pub(super) async fn payload(&self, key: &Bytes) -> Checked<Option<Vec<u8>>> {
        Ok(self.at(key).await?.filter(|it| it.kind == Kind::Value).map(|it| it.payload))
    }

    pub(super) async fn invalidate(&self, keys: &[Bytes]) -> Checked {
        self.store.invalidate(keys, &[]).await.map_err(fault("invalidate"))
    }

    pub(super) async fn hold(&self, key: &Bytes, holder: u64, ttl: Duration, keep: bool) -> Checked {
        let hold = Hold { key: key.clone(), holder, ttl, keep };
        self.store.hold(&[hold]).await.map_err(fault("hold"))
    }

    pub(super) async fn end(&self, key: &Bytes, holder: u64, outcome: WriteOutcome) -> Checked<Ended> {
        let ends = [End { key: key.clone(), holder, outcome }];
        let answers = self.store.end(&ends).await.map_err(fault("end"))?;
        same(&answers.len(), &1, "answers to one end")?;
        Ok(answers[0])
    }

    /// Waits until nothing stands under the key.
    pub(super) async fn expired(&self, key: &Bytes) -> Checked {
        let since = Instant::now();
        while self.store.read(std::slice::from_ref(key)).await.map_err(fault("read"))?[0].is_some() {
            if since.elapsed() > LATE {
                return Err(format!("a time to live of {SHORT:?} was not over after {LATE:?}"));
            }
            tokio::time::sleep(SHORT / 6).await;
        }
        Ok(())
    }
}

pub(super) fn seen(record: &Bytes) -> Checked<SeenRecord> {
    let entry =
        EntryRef::read(record).map_err(|foreign| format!("a record is not the entry it was: {foreign}"))?;
    Ok(SeenRecord {
        kind: entry.header().kind,
        fence: entry.header().fence,
        payload: entry.payload().to_vec(),
    })
}
