use std::collections::HashMap;
use std::convert::Infallible;

use super::*;
use crate::entry::{self, Header, Holder};
use crate::policy::Policy;
use crate::{Cache, LoadContext, Region, Rows};

pub(in crate::claim) struct Doubles;

impl Source for Doubles {
    type Key = u32;
    type Value = u32;
    type Error = Infallible;
    const NAME: &'static str = "doubles";
    const REGION: &'static str = "objects";
    const TAGS: &'static [&'static str] = &["all"];

    fn policy(&self, region: &Policy) -> Policy {
        // no chance in it
        region.clone().stale(Duration::from_secs(5)).early_refresh(0.0)
    }

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, Infallible> {
        Ok(keys.iter().map(|key| (*key, key * 2)).collect())
    }
}

const INCARNATION: u64 = 9;
const GENERATION: u64 = 7;
const FENCE: Fence = Fence(5);
/// Entries are fresh for so long, and there for twice as long.
const SOFT_MS: u64 = 10_000;

struct World {
    source: Arc<Registered<Doubles>>,
    stamps: Stamps,
    now: Now,
}

/// What a record is, in one word and what else there is to say.
#[derive(Debug, PartialEq)]
enum Said {
    Fresh { value: Option<u32>, refresh: bool, kept: bool },
    Stale { value: Option<u32>, refresh: bool, kept: bool },
    Unproven,
    Nothing,
    Foreign,
    Outdated,
    Lease,
    Replaced { backup: bool },
    Held { backup: bool },
    LeftAlone,
    Unknown,
}

fn said(verdict: &Verdict<Doubles>) -> Said {
    let of = |found: &Found<Doubles>| {
        (found.known.clone().into_value().as_deref().copied(), found.refresh, found.kept)
    };
    match verdict {
        Verdict::Fresh(found) => {
            let (value, refresh, kept) = of(found);
            assert!(refresh.is_none_or(|fence| fence == FENCE));
            Said::Fresh { value, refresh: refresh.is_some(), kept }
        }
        Verdict::Stale(found) => {
            let (value, refresh, kept) = of(found);
            assert!(refresh.is_none_or(|fence| fence == FENCE));
            Said::Stale { value, refresh: refresh.is_some(), kept }
        }
        Verdict::Unproven(_) => Said::Unproven,
        Verdict::Miss(footing, _) => match footing {
            Footing::Foreign(None) => Said::Nothing,
            Footing::Foreign(Some(fence)) => {
                assert_eq!(*fence, FENCE);
                Said::Foreign
            }
            Footing::Outdated(fence) => {
                assert_eq!(*fence, FENCE);
                Said::Outdated
            }
            Footing::Lease(fence) => {
                assert_eq!(*fence, FENCE);
                Said::Lease
            }
            Footing::Replaced(fence, backup) => {
                assert_eq!(*fence, FENCE);
                Said::Replaced { backup: backup.is_some() }
            }
            Footing::Held(backup) => Said::Held { backup: backup.is_some() },
            Footing::LeftAlone => Said::LeftAlone,
            Footing::Unknown => Said::Unknown,
        },
    }
}

impl World {
    async fn new(region: Region) -> Self {
        let cache = Cache::builder().region("objects", region).source(Doubles).build().await.unwrap();
        let source = cache.request().inner.cache.source::<Doubles>().unwrap();
        source.learn_hooked(false);
        let tags = HashMap::from([("all".to_owned(), Some(3))]);
        let stamps = Stamps { generation: Some(GENERATION), tags, ..Stamps::default() };
        Self { source, stamps, now: Now { unix_ms: 1_000_000, steady_ms: 50 } }
    }

    fn rules(&self, lane: Lane) -> Rules<'_, Doubles> {
        Rules::new(&self.source, lane, &self.stamps, INCARNATION)
    }

    /// An entry of 21, made just now.
    fn header(&self) -> Header {
        let mut header = Header::new(Kind::Value, FENCE, INCARNATION);
        header.stamps = self.stamps.folded(Doubles::TAGS).unwrap_or(0);
        header.schema = self.source.schema(header.format);
        header.created_ms = self.now.unix_ms;
        (header.soft_ms, header.hard_ms) = (SOFT_MS, 2 * SOFT_MS);
        header
    }

    /// A record of 21 under the tag of the source, its header changed.
    fn record(&self, change: impl FnOnce(&mut Header)) -> Bytes {
        self.tagged(&[], change)
    }

    /// The same with tags of its own.
    fn tagged(&self, tags: &[(&str, u64)], change: impl FnOnce(&mut Header)) -> Bytes {
        let mut header = self.header();
        change(&mut header);
        let payload = postcard::to_stdvec(&21_u32).unwrap();
        let payload = if header.kind == Kind::Value { &payload[..] } else { &[] };
        entry::write(&header, tags, &[], payload).into()
    }

    fn verdict(&self, lane: Lane, record: &Bytes) -> Verdict<Doubles> {
        self.rules(lane).verdict(record, &mut self.now.clone())
    }

    fn says(&self, record: &Bytes) -> Said {
        said(&self.verdict(Lane::Normal, record))
    }

    /// What is said of a record, in a word.
    fn remark(&self, record: &Bytes) -> &'static str {
        match self.verdict(Lane::Normal, record) {
            Verdict::Miss(_, Some(Remark::Foreign { cause, .. })) => cause,
            Verdict::Miss(_, Some(Remark::OtherShape)) => "other shape",
            Verdict::Miss(_, Some(Remark::Clocks(_))) => "clocks",
            _ => "",
        }
    }
}

const FRESH: Said = Said::Fresh { value: Some(21), refresh: false, kept: false };

#[tokio::test]
async fn a_value_and_an_absence_are_answers_while_they_are_fresh() {
    let world = World::new(Region::memory()).await;
    assert_eq!(world.says(&world.record(|_| {})), FRESH);
    let absent = world.record(|header| header.kind = Kind::Absent);
    assert_eq!(world.says(&absent), Said::Fresh { value: None, refresh: false, kept: false });
    let Verdict::Fresh(found) =
        world.verdict(Lane::Normal, &world.record(|header| header.created_ms -= 4_000))
    else {
        panic!("it is fresh");
    };
    assert_eq!((found.left_ms, found.size, found.tagged), (6_000, 1, true));
}

#[tokio::test]
async fn what_is_past_its_time_is_served_for_a_while_and_then_kept_for_a_failure() {
    let world = World::new(Region::memory()).await;
    let aged = |by: u64| world.record(|header| header.created_ms -= by);
    assert_eq!(world.says(&aged(SOFT_MS - 1)), FRESH);
    assert_eq!(world.says(&aged(SOFT_MS)), Said::Stale { value: Some(21), refresh: true, kept: false });
    assert_eq!(world.says(&aged(SOFT_MS + 5_000)), Said::Replaced { backup: true });
    assert_eq!(world.says(&aged(2 * SOFT_MS)), Said::Outdated);
    let absent =
        world.record(|header| (header.kind, header.created_ms) = (Kind::Absent, header.created_ms - SOFT_MS));
    assert_eq!(world.says(&absent), Said::Outdated, "an absence is never served stale");
    let peeked = world.verdict(Lane::Peek, &aged(SOFT_MS));
    assert_eq!(
        said(&peeked),
        Said::Stale { value: Some(21), refresh: false, kept: false },
        "a look loads nothing"
    );
}

#[tokio::test]
async fn a_refresh_replaces_what_is_good_under_its_own_fence() {
    let world = World::new(Region::memory()).await;
    assert_eq!(said(&world.verdict(Lane::Refresh, &world.record(|_| {}))), Said::Replaced { backup: false });
}

/// `R11`, `R12`.
#[tokio::test]
async fn what_another_store_or_older_stamps_vouch_for_is_outdated() {
    let world = World::new(Region::memory()).await;
    for kind in [Kind::Value, Kind::Absent, Kind::Lease, Kind::Hold] {
        let record = world.record(|header| (header.kind, header.incarnation) = (kind, INCARNATION + 1));
        assert_eq!(world.says(&record), Said::Foreign, "{kind:?} of another incarnation (R11)");
    }
    assert_eq!(world.says(&world.record(|header| header.stamps ^= 1)), Said::Outdated, "cleared since (R12)");
    let older = Stamps { tags: HashMap::from([("all".to_owned(), Some(2))]), ..world.stamps.clone() };
    let older = older.folded(Doubles::TAGS).unwrap();
    assert_eq!(
        world.says(&world.record(|header| header.stamps = older)),
        Said::Outdated,
        "an older tag (R12)"
    );
    let mut untagged = World::new(Region::memory()).await;
    let sound = untagged.record(|_| {});
    untagged.stamps.tags.insert("all".to_owned(), None);
    assert_eq!(untagged.says(&sound), Said::Outdated, "a tag without a stamp is no proof");
    let mut gone = World::new(Region::memory()).await;
    gone.stamps.generation = None;
    assert_eq!(gone.says(&sound), Said::Outdated, "no generation is no proof");
}

#[tokio::test]
async fn tags_of_the_value_are_to_be_proven() {
    let world = World::new(Region::memory()).await;
    let record = world.tagged(&[("own", 4)], |_| {});
    let prove = |stamps: Option<u64>, answered: bool| {
        let Verdict::Unproven(unproven) = world.verdict(Lane::Normal, &record) else {
            panic!("it has a tag")
        };
        assert_eq!(unproven.tags().collect::<Vec<_>>(), ["own"]);
        let tags = HashMap::from([("own".to_owned(), stamps)]);
        let stamps = Stamps { tags, ..Stamps::default() };
        said(&world.rules(Lane::Normal).prove(*unproven, answered.then_some(&stamps), world.now))
    };
    assert_eq!(prove(Some(4), true), FRESH);
    assert_eq!(prove(Some(5), true), Said::Outdated);
    assert_eq!(prove(None, true), Said::Outdated);
    assert_eq!(prove(Some(4), false), Said::Unknown, "nobody knows: nothing takes its place");
}

#[tokio::test]
async fn leases_and_holds_are_misses() {
    let world = World::new(Region::memory()).await;
    assert_eq!(world.says(&entry::lease(FENCE, INCARNATION).into()), Said::Lease);
    assert_eq!(world.says(&world.record(|header| header.kind = Kind::Hold)), Said::Held { backup: false });
}

#[tokio::test]
async fn what_a_hold_keeps_is_served_in_that_mode_and_nothing_is_made_of_it() {
    let serve = World::new(Region::memory().write_mode(WriteMode::Serve)).await;
    let strict = World::new(Region::memory().write_mode(WriteMode::Strict)).await;
    for (world, wants) in [
        (&serve, Said::Fresh { value: Some(21), refresh: false, kept: true }),
        (&strict, Said::Held { backup: false }),
    ] {
        let kept = world.record(|_| {});
        let mut header = Header::new(Kind::Hold, Fence(6), INCARNATION);
        header.kept_until_ms = u64::MAX;
        let holders = [Holder { id: 1, expires_ms: u64::MAX }];
        let hold: Bytes = entry::write(&header, &[], &holders, &kept).into();
        assert_eq!(world.says(&hold), wants);
        let refreshed = said(&world.verdict(Lane::Refresh, &hold));
        assert_eq!(refreshed, Said::Held { backup: false }, "a refresh asks the source");
    }
}

#[tokio::test]
async fn another_shape_of_the_type_is_left_alone_for_a_while() {
    // beside a store of this process alone nobody else runs
    let private = World::new(Region::memory()).await;
    let other = |world: &World, age: u64| {
        world.record(|header| {
            header.schema ^= 1 << 8;
            (header.soft_ms, header.hard_ms) = (1_000_000, 1_000_000);
            header.created_ms -= age;
        })
    };
    assert_eq!(private.says(&other(&private, 0)), Said::Replaced { backup: false });
    assert_eq!(private.remark(&other(&private, 0)), "other shape");
    let cleared = private.record(|header| (header.schema, header.stamps) = (header.schema ^ (1 << 8), 1));
    assert_eq!(private.says(&cleared), Said::Outdated, "of no use to the other version either");
    // of one with other fixed tags nobody here can say whether that is so
    let retagged = private.record(|header| (header.schema, header.stamps) = (header.schema ^ 1, 1));
    assert_eq!(private.says(&retagged), Said::Replaced { backup: false });
    assert_eq!(private.remark(&retagged), "other shape");
}

#[tokio::test]
async fn what_is_no_entry_or_no_value_is_said_and_replaced() {
    let world = World::new(Region::memory()).await;
    assert_eq!(
        world.says(&Bytes::from_static(
            b"something of somebody else's, and long enough to be a header of an entry, is it not"
        )),
        Said::Nothing
    );
    let mut damaged = world.record(|_| {}).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = Bytes::from(damaged);
    assert_eq!(world.says(&damaged), Said::Nothing);
    assert!(world.remark(&damaged).contains("damaged"), "{}", world.remark(&damaged));
    let truncated: Bytes = entry::write(&world.header(), &[], &[], &[]).into();
    assert_eq!((world.says(&truncated), world.remark(&truncated)), (Said::Outdated, "does not decode"));
}

#[tokio::test]
async fn what_was_made_in_the_future_is_a_miss_that_is_said() {
    let mut world = World::new(Region::memory()).await;
    world.now = Now::look(); // it is looked at again
    let made = |ahead: u64| world.record(|header| header.created_ms += ahead);
    assert_eq!(world.says(&made(SKEW_MS - 1_000)), FRESH, "clocks differ by that much");
    let ahead = made(SKEW_MS + 60_000);
    assert_eq!((world.says(&ahead), world.remark(&ahead)), (Said::Outdated, "clocks"));
}
