//! The suite finds what it is there to find: backends with one thing wrong each.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mastaba::entry::{self, EntryRef, Fence, Kind, write};
use mastaba::shared::memory::Memory;
use mastaba::shared::{
    Abilities, End, Ended, Fill, Filled, Hold, Lease, Leased, Leases, Over, Shared, Stamp, WriteOutcome,
    stamps,
};
use mastaba::{Fault, FaultKind};
use mastaba_test::conformance::{CHECKS, failures};

use crate::schedules::{Store, rows};

const LONG: Duration = Duration::from_secs(600);

macro_rules! wrongs {
    ($($name:ident: $($check:ident)*;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Wrong { $($name),* }

        /// What is wrong, and the checks that have to see it.
        const WRONGS: &[(Wrong, &[&str])] = &[$((Wrong::$name, &[$(stringify!($check)),*])),*];
    };
}

wrongs! {
    Nothing:;
    MissingIsEmpty: a_missing_key_is_none;
    EmptyCallsFail: empty_calls_have_empty_answers;
    Reversed: answers_come_in_the_order_of_the_keys;
    TwiceIsOnce: a_key_may_be_asked_for_twice;
    TextKeys: keys_and_payloads_may_be_any_bytes;
    FirstHundred: a_thousand_keys_travel_together;
    CutAt64K: large_values_come_back_whole;
    NothingExpires: a_value_expires a_lease_expires a_stamp_expires a_hold_expires
        nothing_comes_back_after_a_hold_expired;
    GrantsEverything: a_lease_is_granted_once a_lease_finds_the_value_that_is_there
        a_hold_refuses_leases_and_fills;
    IgnoresOver: a_lease_replaces_only_the_record_that_it_is_over;
    FillsBlindly: a_fill_under_another_fence_is_refused a_fill_on_nothing_is_refused
        the_same_fill_again_is_refused an_invalidation_voids_leases an_invalidation_removes_values
        a_fill_from_before_an_invalidation_never_meets_a_later_lease
        random_operations_do_what_the_transitions_say
        random_operations_with_holds_do_what_the_transitions_say;
    NeverFills: a_fill_on_its_lease_is_stored an_absence_is_stored;
    NoAbsences: an_absence_is_stored;
    FillsLeasesOnly: a_value_is_refreshed_under_its_own_fence;
    ForgetsIncarnations: a_fill_of_another_incarnation_is_refused;
    OneAnswerForAll: each_fill_of_a_batch_has_its_own_answer;
    LeavesLeases: an_invalidation_voids_leases;
    LeavesValues: an_invalidation_removes_values;
    NewStampEachTime: a_missing_stamp_becomes_the_one_given
        stamps_are_answered_in_order_beside_leases;
    BigEndianStamps: a_stamp_is_read_like_a_record;
    SetsNoStamps: an_invalidation_sets_stamps;
    KeepsNoStamps: a_record_of_stamps_is_made_once_and_says_something_of_every_key
        a_record_of_another_length_or_with_a_zero_is_made_anew a_fill_without_a_lease_is_stored_where_nothing_stands
        a_fill_without_a_lease_of_another_incarnation_is_refused;
    RenewsNoStamps: an_invalidation_renews_the_stamps_of_its_keys_and_no_other
        an_invalidation_removes_what_is_no_record_of_stamps a_hold_and_the_end_of_a_commit_renew_the_stamp
        a_fill_without_a_lease_replaces_only_the_record_that_the_read_saw
        no_fill_without_a_lease_survives_an_invalidation_at_the_same_time;
    ComparesNoStamps: a_fill_under_another_stamp_or_none_is_refused
        each_fill_of_a_batch_without_leases_has_its_own_answer;
    NoHolds: a_hold_refuses_leases_and_fills a_hold_voids_the_lease a_rollback_restores_what_was_kept;
    EndsAllHolds: an_end_removes_only_its_own_hold twenty_holds_at_the_same_time_all_count;
    OneHolder: an_end_removes_only_its_own_hold twenty_holds_at_the_same_time_all_count;
    GoneIsFreed: an_end_without_a_hold_is_gone;
    RestoresAlways: a_commit_restores_nothing a_hold_that_keeps_nothing_restores_nothing
        a_rollback_after_another_commit_restores_nothing
        an_invalidation_under_a_hold_forgets_what_was_kept nothing_comes_back_after_a_hold_expired;
    NeverRestores: a_rollback_restores_what_was_kept;
    RestoresTheFence: a_refresh_from_before_the_hold_does_not_meet_the_restored_value;
    LateCommitIsNothing: a_late_commit_voids_what_came_since;
    LateRollbackRemoves: a_late_rollback_leaves_alone_what_came_since;
    ChecksThenActs: of_fifty_leases_one_is_granted of_fifty_fills_under_one_fence_one_is_stored
        fifty_askers_of_a_missing_stamp_get_the_same no_fill_survives_an_invalidation_at_the_same_time;
}

struct Broken {
    inner: Memory,
    wrong: Wrong,
    /// Who holds a key, and the value that was there before.
    held: Mutex<HashMap<Bytes, (Vec<u64>, Option<Bytes>)>>,
}

impl Broken {
    fn new(wrong: Wrong) -> Self {
        Self { inner: Memory::default(), wrong, held: Mutex::default() }
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == wrong
    }

    fn ttl(&self, ttl: Duration) -> Duration {
        if self.is(Wrong::NothingExpires) { ttl * 10_000 } else { ttl }
    }

    fn key(&self, key: &Bytes) -> Bytes {
        if self.is(Wrong::TextKeys) { String::from_utf8_lossy(key).into_owned().into() } else { key.clone() }
    }

    fn held<T>(&self, run: impl FnOnce(&mut HashMap<Bytes, (Vec<u64>, Option<Bytes>)>) -> T) -> T {
        run(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn at(&self, key: &Bytes) -> Result<Option<Bytes>, Fault> {
        Ok(self.inner.read(std::slice::from_ref(key)).await?.remove(0))
    }

    async fn kind(&self, key: &Bytes) -> Result<Option<Kind>, Fault> {
        Ok(self.at(key).await?.as_deref().and_then(entry::peek_kind))
    }

    /// Stores a record whatever stands there, but for a hold.
    async fn force(&self, key: &Bytes, record: Bytes, ttl: Duration) -> Result<(), Fault> {
        self.inner.invalidate(std::slice::from_ref(key), &[]).await?;
        let fence = Fence::random();
        let header = entry::Header::new(Kind::Lease, fence, self.incarnation());
        let lease = write(&header, &[], &[], b"").into();
        self.inner.lease(&[Lease { key: key.clone(), record: lease, over: None, ttl }], &[]).await?;
        self.inner
            .fill(&[Fill { key: key.clone(), expected: fence, over: Over::Lease, record, ttl }])
            .await?;
        Ok(())
    }

    async fn lease_one(&self, ask: &Lease) -> Result<Leased, Fault> {
        let mut ask = Lease { key: self.key(&ask.key), ttl: self.ttl(ask.ttl), ..ask.clone() };
        match self.wrong {
            Wrong::IgnoresOver => ask.over = None,
            Wrong::GrantsEverything => {
                self.inner.invalidate(std::slice::from_ref(&ask.key), &[]).await?;
                self.inner.lease(&[ask], &[]).await?;
                return Ok(Leased::Granted);
            }
            Wrong::ChecksThenActs if self.at(&ask.key).await?.is_none() => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.inner.invalidate(std::slice::from_ref(&ask.key), &[]).await?;
            }
            _ => {}
        }
        Ok(self.inner.lease(&[ask], &[]).await?.leased.remove(0))
    }

    async fn stamp_one(&self, ask: &Stamp) -> Result<u64, Fault> {
        let mut ask = Stamp { ttl: ask.ttl.map(|ttl| self.ttl(ttl)), ..ask.clone() };
        match self.wrong {
            Wrong::NewStampEachTime => {
                self.inner.invalidate(&[], std::slice::from_ref(&ask)).await?;
            }
            Wrong::ChecksThenActs if self.at(&ask.key).await?.is_none() => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.inner.invalidate(&[], std::slice::from_ref(&ask)).await?;
            }
            Wrong::BigEndianStamps => {
                ask.value = ask.value.swap_bytes();
                return Ok(self.inner.lease(&[], &[ask]).await?.stamps[0].swap_bytes());
            }
            _ => {}
        }
        Ok(self.inner.lease(&[], &[ask]).await?.stamps[0])
    }

    async fn fill_one(&self, ask: &Fill) -> Result<Filled, Fault> {
        let mut ask = Fill { key: self.key(&ask.key), ttl: self.ttl(ask.ttl), ..ask.clone() };
        let there = self.at(&ask.key).await?;
        let header = there.as_deref().and_then(|it| entry::peek(it).ok());
        match self.wrong {
            Wrong::NeverFills => return Ok(Filled::Refused),
            Wrong::NoAbsences if entry::peek_kind(&ask.record) == Some(Kind::Absent) => {
                return Ok(Filled::Refused);
            }
            Wrong::FillsLeasesOnly if header.is_some_and(|it| it.kind == Kind::Value) => {
                return Ok(Filled::Refused);
            }
            Wrong::CutAt64K if ask.record.len() > 64 << 10 => {
                let entry = EntryRef::read(&ask.record).unwrap();
                ask.record = write(&entry.header(), &[], &[], &entry.payload()[..64 << 10]).into();
            }
            Wrong::ForgetsIncarnations => {
                let entry = EntryRef::read(&ask.record).unwrap();
                let header = entry::Header { incarnation: self.incarnation(), ..entry.header() };
                ask.record = write(&header, &[], &[], entry.payload()).into();
            }
            Wrong::FillsBlindly => {
                self.force(&ask.key, ask.record, ask.ttl).await?;
                return Ok(Filled::Stored);
            }
            Wrong::ChecksThenActs if header.is_some_and(|it| it.fence == ask.expected) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.force(&ask.key, ask.record, ask.ttl).await?;
                return Ok(Filled::Stored);
            }
            _ => {}
        }
        Ok(self.inner.fill(&[ask]).await?[0])
    }

    async fn hold_one(&self, ask: &Hold) -> Result<(), Fault> {
        let mut ask = Hold { ttl: self.ttl(ask.ttl), ..ask.clone() };
        let before = self.at(&ask.key).await?.filter(|it| entry::peek_kind(it) == Some(Kind::Value));
        let others = self.held(|held| {
            let (holders, kept) = held.entry(ask.key.clone()).or_default();
            let others = holders.clone();
            holders.push(ask.holder);
            *kept = before.or(kept.take());
            others
        });
        match self.wrong {
            Wrong::NoHolds => return Ok(()),
            Wrong::NeverRestores => ask.keep = false,
            Wrong::OneHolder => {
                self.inner.hold(std::slice::from_ref(&ask)).await?;
                for holder in others {
                    let end = End { key: ask.key.clone(), holder, outcome: WriteOutcome::RolledBack };
                    self.inner.end(&[end]).await?;
                }
            }
            _ => {}
        }
        self.inner.hold(&[ask]).await
    }

    async fn end_one(&self, ask: &End) -> Result<Ended, Fault> {
        let (holders, kept) = self.held(|held| {
            let (holders, kept) = held.entry(ask.key.clone()).or_default();
            let all = holders.clone();
            holders.retain(|it| *it != ask.holder);
            (all, if holders.is_empty() { kept.take() } else { kept.clone() })
        });
        if self.is(Wrong::EndsAllHolds) {
            for holder in holders.iter().copied().filter(|it| *it != ask.holder) {
                self.inner.end(&[End { holder, ..ask.clone() }]).await?;
            }
        }
        let held = self.kind(&ask.key).await? == Some(Kind::Hold);
        if self.is(Wrong::LateCommitIsNothing) && !held {
            return Ok(Ended::Gone);
        }
        if self.is(Wrong::LateRollbackRemoves) && !held {
            self.inner.invalidate(std::slice::from_ref(&ask.key), &[]).await?;
        }
        let ended = self.inner.end(std::slice::from_ref(ask)).await?[0];
        match (self.wrong, ended, kept) {
            (Wrong::GoneIsFreed, Ended::Gone, _) => Ok(Ended::Freed),
            (Wrong::RestoresAlways, Ended::Freed, Some(kept))
            | (Wrong::RestoresTheFence, Ended::Restored, Some(kept)) => {
                self.force(&ask.key, kept, LONG).await?;
                Ok(Ended::Restored)
            }
            _ => Ok(ended),
        }
    }
}

impl Shared for Broken {
    const ABILITIES: Abilities = Memory::ABILITIES;

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Fault> {
        if self.is(Wrong::EmptyCallsFail) && keys.is_empty() {
            return Err(Fault::new(FaultKind::Refused, "wrong number of arguments"));
        }
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let mut found = self.inner.read(&keys).await?;
        match self.wrong {
            Wrong::Reversed => found.reverse(),
            Wrong::MissingIsEmpty => {
                found.iter_mut().for_each(|it| *it = Some(it.take().unwrap_or_default()));
            }
            Wrong::FirstHundred => found.iter_mut().skip(100).for_each(|it| *it = None),
            Wrong::TwiceIsOnce => {
                let mut seen = BTreeSet::new();
                for (key, found) in keys.iter().zip(&mut found) {
                    if !seen.insert(key) {
                        *found = None;
                    }
                }
            }
            _ => {}
        }
        Ok(found)
    }

    async fn lease(&self, leases: &[Lease], stamps: &[Stamp]) -> Result<Leases, Fault> {
        let mut answer = Leases { leased: Vec::new(), stamps: Vec::new() };
        for ask in leases {
            answer.leased.push(self.lease_one(ask).await?);
        }
        for ask in stamps {
            answer.stamps.push(self.stamp_one(ask).await?);
        }
        Ok(answer)
    }

    async fn fill(&self, fills: &[Fill]) -> Result<Vec<Filled>, Fault> {
        let mut filled = Vec::new();
        for ask in fills {
            let mut ask = ask.clone();
            if let (Wrong::ComparesNoStamps, Over::Unleased { stamps, stamp }) = (self.wrong, &mut ask.over) {
                let now = self.inner.read(std::slice::from_ref(stamps)).await?.remove(0);
                *stamp = now.and_then(|now| stamps::of(&now, &ask.key)).unwrap_or(*stamp);
            }
            filled.push(self.fill_one(&ask).await?);
        }
        if let (Wrong::OneAnswerForAll, Some(first)) = (self.wrong, filled.first().copied()) {
            filled.fill(first);
        }
        Ok(filled)
    }

    async fn invalidate(&self, keys: &[Bytes], stamps: &[Stamp]) -> Result<(), Fault> {
        let stamps = if self.is(Wrong::SetsNoStamps) { &[] } else { stamps };
        for key in keys {
            let key = self.key(key);
            let spared = match self.wrong {
                Wrong::LeavesLeases => Some(Kind::Lease),
                Wrong::LeavesValues => Some(Kind::Value),
                _ => None,
            };
            if spared.is_none() || self.kind(&key).await? != spared {
                self.inner.invalidate(&[key], &[]).await?;
            }
        }
        self.inner.invalidate(&[], stamps).await
    }

    async fn hold(&self, holds: &[Hold]) -> Result<(), Fault> {
        for ask in holds {
            self.hold_one(ask).await?;
        }
        Ok(())
    }

    async fn end(&self, ends: &[End]) -> Result<Vec<Ended>, Fault> {
        let mut ended = Vec::new();
        for ask in ends {
            ended.push(self.end_one(ask).await?);
        }
        Ok(ended)
    }

    fn stamps(&self, prefix: &[u8], record: &Bytes) -> bool {
        match self.wrong {
            Wrong::Nothing | Wrong::ComparesNoStamps => self.inner.stamps(prefix, record),
            // it keeps the record, and knows of no key that it is for
            Wrong::RenewsNoStamps => self.inner.stamps(b"nobody", record),
            wrong => wrong == Wrong::KeepsNoStamps,
        }
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_is_seen_and_every_check_can_fail() {
    // each wrong on its own, all at the same time: most of it is waiting
    let trials = WRONGS.iter().map(|(wrong, checks)| {
        tokio::spawn(async move { (wrong, checks, failures(|| async { Broken::new(*wrong) }).await) })
    });
    let trials: Vec<_> = trials.collect();
    let mut able = BTreeSet::new();
    let mut missed = Vec::new();
    for trial in trials {
        let (wrong, checks, failures) = trial.await.unwrap();
        if *wrong == Wrong::Nothing {
            assert_eq!(failures, [], "the wrapper itself is wrong");
        }
        let failed: BTreeSet<_> = failures.iter().map(|failure| failure.check).collect();
        missed.extend(checks.iter().filter(|it| !failed.contains(*it)).map(|it| format!("{wrong:?}: {it}")));
        able.extend(failed);
    }
    assert!(missed.is_empty(), "not seen:\n{}", missed.join("\n"));
    let unable: Vec<_> = CHECKS.iter().filter(|it| !able.contains(*it)).collect();
    assert!(unable.is_empty(), "nothing makes these fail: {unable:?}");
}

/// What is wrong, one store for each place.
struct Stores(Wrong, Mutex<HashMap<usize, Arc<Broken>>>);

impl Store for Stores {
    type Backend = Arc<Broken>;
    const FORGETS: bool = true;

    async fn connect(&self, place: usize) -> Arc<Broken> {
        self.1.lock().unwrap().entry(place).or_insert_with(|| Arc::new(Broken::new(self.0))).clone()
    }

    async fn forget(&self, place: usize) {
        self.connect(place).await.inner.restart();
    }
}

/// The schedules that are about what a store does: each fails over one that lacks its rule.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedules_fail_over_a_store_that_lacks_their_rule() {
    macro_rules! fails {
        ($($row:ident over $($wrong:ident)*;)*) => {$(
            for wrong in [Wrong::Nothing, $(Wrong::$wrong),*] {
                let run = async move { rows::$row(&Stores(wrong, Mutex::default())).await };
                // one that hangs has not passed either
                let done = tokio::time::timeout(Duration::from_secs(20), tokio::spawn(run)).await;
                let passes = matches!(done, Ok(Ok(())));
                assert_eq!(passes, wrong == Wrong::Nothing, "{} over {wrong:?}", stringify!($row));
            }
        )*};
    }
    fails! {
        a1_a_fill_replaces_nothing_that_came_after_an_invalidation over FillsBlindly;
        a4_a_fill_is_not_stored_where_nothing_stands over FillsBlindly;
        a6_a_fill_is_refused_when_what_voided_its_lease_is_gone_too over FillsBlindly;
        c6_each_of_two_writers_ends_its_own_hold over EndsAllHolds OneHolder;
        c7u_a_rollback_brings_nothing_back_after_the_commit_of_another_writer over RestoresAlways;
    }
}
