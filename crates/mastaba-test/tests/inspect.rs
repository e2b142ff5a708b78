//! What `mastaba::inspect` says of a record is what a read makes of it.

use std::convert::Infallible;
use std::time::Duration;

use mastaba::entry::{self, EntryRef, Fence, Foreign, Header, Kind};
use mastaba::inspect::{EntryKey, Inspection, Prospect, payload};
use mastaba::shared::memory::Memory;
use mastaba::shared::{Hold, Shared};
use mastaba::{Cache, LoadContext, Policy, Region, Rows, Source, WriteMode};

const HOUR: Duration = Duration::from_secs(3600);

/// Its fixed tag is `books`, and a tag of its own says whether its key is even.
struct Books;

impl Source for Books {
    type Key = u32;
    type Value = String;
    type Error = Infallible;
    const NAME: &'static str = "book";
    const REGION: &'static str = "objects";
    const TAGS: &'static [&'static str] = &["books"];

    fn tags(&self, key: &u32, _: &String) -> Vec<String> {
        vec![if key.is_multiple_of(2) { "even" } else { "odd" }.to_owned()]
    }

    fn policy(&self, region: &Policy) -> Policy {
        region.clone().ttl(HOUR).stale(Duration::ZERO).jitter(0.0).early_refresh(0.0)
    }

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[u32]) -> Result<Rows<Self>, Infallible> {
        Ok(keys.iter().filter(|key| **key < 100).map(|key| (*key, format!("book {key}"))).collect())
    }
}

struct Shelf {
    memory: Memory,
    cache: Cache,
}

impl Shelf {
    async fn new(mode: WriteMode) -> Self {
        let memory = Memory::default();
        let region = Region::backend(memory.clone()).write_mode(mode);
        let cache = Cache::builder().region("objects", region).source(Books).build().await.unwrap();
        Self { memory, cache }
    }

    async fn look(&self, key: u32, fixed_tags: &[&str]) -> Inspection {
        let key = self.cache.key_of::<Books>(&key).unwrap();
        EntryKey::of_key(&key).unwrap().look(&self.memory, fixed_tags).await.unwrap()
    }

    /// What is said of a key; and a read has to find it so.
    async fn prospect(&self, key: u32) -> Prospect {
        let said = self.look(key, &["books"]).await.prospect();
        // `peek` neither loads nor leaves anything behind
        let found = self.cache.request().peek::<Books>(key).await.unwrap();
        assert_eq!(found.is_some(), said.is_hit(), "{said:?}");
        said
    }

    async fn store(&self, key: u32) {
        self.cache.request().get::<Books>(key).await.unwrap();
        self.cache.idle().await;
        assert!(self.prospect(key).await.is_hit());
    }

    async fn plant(&self, key: u32, record: Vec<u8>) {
        let key = self.cache.key_of::<Books>(&key).unwrap().into();
        self.memory.invalidate(std::slice::from_ref(&key), &[]).await.unwrap();
        let lease = mastaba::shared::Lease { key, record: record.into(), over: None, ttl: HOUR };
        self.memory.lease(&[lease], &[]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_a_record_is_what_a_read_makes_of_it() {
    let shelf = Shelf::new(WriteMode::Simple).await;
    assert_eq!(shelf.prospect(1).await, Prospect::Nothing);
    shelf.store(1).await;
    let Prospect::Fresh { left } = shelf.prospect(1).await else { panic!("a hit") };
    assert!(left <= HOUR && left > HOUR - Duration::from_secs(5), "{left:?}");

    let objects = shelf.cache.region("objects");
    objects.invalidate_tag("even").await.unwrap();
    assert!(shelf.prospect(1).await.is_hit());
    objects.invalidate_tag("odd").await.unwrap();
    assert_eq!(shelf.prospect(1).await, Prospect::TagVoided { tags: vec!["odd".to_owned()] });
    shelf.store(1).await;
    objects.invalidate_tag("books").await.unwrap();
    assert_eq!(shelf.prospect(1).await, Prospect::Cleared);
    shelf.store(1).await;
    objects.clear().await.unwrap();
    assert_eq!(shelf.prospect(1).await, Prospect::Cleared);
    shelf.store(1).await;
    tokio::time::advance(HOUR - Duration::from_secs(10)).await;
    assert!(shelf.prospect(1).await.is_hit());
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(matches!(shelf.prospect(1).await, Prospect::Over | Prospect::Soft | Prospect::Nothing));
}

#[tokio::test]
async fn what_is_no_entry_or_of_another_store_is_a_miss_and_says_why() {
    let shelf = Shelf::new(WriteMode::Simple).await;
    shelf.store(1).await;
    let record = shelf.look(1, &["books"]).await.record.unwrap();
    let mut damaged = record.to_vec();
    damaged[50] ^= 1;
    shelf.plant(1, damaged).await;
    assert_eq!(shelf.prospect(1).await, Prospect::Foreign(Foreign::Checksum));
    shelf.plant(1, b"something else, which is long enough".to_vec()).await;
    assert_eq!(shelf.prospect(1).await, Prospect::Foreign(Foreign::Magic));
    let mut first = record.to_vec();
    first[2] = 1;
    shelf.plant(1, first).await;
    assert_eq!(shelf.prospect(1).await, Prospect::Foreign(Foreign::Version));
    let other = shelf.memory.incarnation() ^ 1;
    shelf.plant(1, entry::write(&Header::new(Kind::Value, Fence(1), other), &[], &[], b"x")).await;
    assert_eq!(shelf.prospect(1).await, Prospect::OtherStore);
    shelf.plant(1, entry::lease(Fence(1), shelf.memory.incarnation())).await;
    assert_eq!(shelf.prospect(1).await, Prospect::Leased);
    let read = EntryRef::read(&record).unwrap();
    let mut header = read.header();
    header.created_ms += 3_600_000;
    shelf.plant(1, entry::write(&header, &read.tags().collect::<Vec<_>>(), &[], read.payload())).await;
    let Prospect::Ahead { by } = shelf.prospect(1).await else { panic!("one of two clocks is wrong") };
    assert!(by > HOUR - Duration::from_secs(60) && by <= HOUR, "{by:?}");
}

#[tokio::test]
async fn a_hold_says_what_it_keeps_and_whether_that_may_be_served() {
    for (mode, hit) in [(WriteMode::Serve, true), (WriteMode::Strict, false)] {
        let shelf = Shelf::new(mode).await;
        shelf.store(1).await;
        let key = shelf.cache.key_of::<Books>(&1).unwrap();
        let hold = |keep| Hold { key: key.clone().into(), holder: 5, ttl: HOUR, keep };
        shelf.memory.hold(&[hold(true)]).await.unwrap();
        let look = shelf.look(1, &["books"]).await;
        let Prospect::Held { serves: Some(kept) } = look.prospect() else { panic!("{}", look.prospect()) };
        assert!(kept.is_hit() && look.kept().is_some());
        assert_eq!(shelf.cache.request().peek::<Books>(1).await.unwrap().is_some(), hit);
        shelf.cache.region("objects").invalidate_tag("odd").await.unwrap();
        let Prospect::Held { serves: Some(kept) } = shelf.look(1, &["books"]).await.prospect() else {
            panic!("held")
        };
        assert_eq!(*kept, Prospect::TagVoided { tags: vec!["odd".to_owned()] });
        shelf.memory.invalidate(&[key.clone().into()], &[]).await.unwrap();
        assert_eq!(shelf.prospect(1).await, Prospect::Held { serves: None });
    }
}

/// The stamps of fixed tags are mixed into one number, so whoever asks has to know their names.
#[tokio::test]
async fn of_a_source_with_fixed_tags_nothing_is_claimed_by_who_does_not_name_them() {
    let shelf = Shelf::new(WriteMode::Simple).await;
    shelf.store(1).await;
    for wrong in [&[][..], &["other"], &["books", "other"]] {
        assert_eq!(shelf.look(1, wrong).await.prospect(), Prospect::OtherTags, "{wrong:?}");
    }
    assert!(shelf.look(1, &["books"]).await.prospect().is_hit());
}

#[tokio::test]
async fn without_a_generation_nothing_of_a_region_is_valid() {
    let shelf = Shelf::new(WriteMode::Simple).await;
    shelf.store(1).await;
    shelf.memory.invalidate(&["mastaba:objects:@generation".into()], &[]).await.unwrap();
    assert_eq!(shelf.prospect(1).await, Prospect::NoGeneration);
    assert_eq!(shelf.look(1, &["books"]).await.generation, None);
}

#[tokio::test]
async fn a_key_is_taken_apart_and_what_is_none_is_refused() {
    let place = EntryKey::of_key("shop:objects:account.by_id:(1,\"a:b\")").unwrap();
    assert_eq!((place.namespace(), place.region(), place.source()), ("shop", "objects", "account.by_id"));
    assert_eq!((place.key(), place.whole()), ("(1,\"a:b\")", "shop:objects:account.by_id:(1,\"a:b\")"));
    for wrong in [
        "",
        "shop:objects:7",
        "shop:objects:@generation",
        "shop:objects:#tag:1",
        "shop:ob jects:s:1",
        "a:b:c:",
    ] {
        assert!(EntryKey::of_key(wrong).unwrap_err().is_usage(), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_payload_is_unpacked_and_an_absence_is_one() {
    let shelf = Shelf::new(WriteMode::Simple).await;
    shelf.store(1).await;
    let look = shelf.look(1, &["books"]).await;
    let entry = look.entry().unwrap().unwrap();
    assert_eq!(payload(&entry).unwrap()[..], b"\x06book 1"[..], "a length, and the text");
    shelf.cache.request().get::<Books>(1000).await.unwrap();
    shelf.cache.idle().await;
    let absent = shelf.look(1000, &["books"]).await;
    assert_eq!(absent.entry().unwrap().unwrap().header().kind, Kind::Absent);
    assert!(absent.prospect().is_hit());
}
