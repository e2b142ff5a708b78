//! The classic race, step by step against a real server: a reader misses and reads the old row, a writer commits and
//! invalidates, and then the reader stores what it read. With two caches that stand for two processes.

use crate::rows;

use std::sync::Arc;
use std::time::Duration;

use mastaba::{Cache, Coherence, NearConfig, Region, Tier};
use mastaba_test::servers::RedisServer;
use rows::{Row, Table, Tagged, process, sees, sees_tagged, version};

/// A reading and a writing process over one server.
struct Race {
    server: RedisServer,
    table: Arc<Table>,
    reader: Cache,
    writer: Cache,
}

impl Race {
    async fn begin(shape: impl FnOnce(Region) -> Region) -> Option<Self> {
        let server = RedisServer::start().await?;
        let table = Table::new();
        let reader = process(&server.url(), &table, shape).await;
        let writer = process(&server.url(), &table, |region| region).await;
        Some(Self { server, table, reader, writer })
    }

    /// Commits in the writing process, and has it acknowledged.
    async fn write(&self, id: u64) -> u32 {
        let version = self.table.commit(id);
        self.writer.request().invalidate::<Row>([id]).await.unwrap();
        version
    }

    /// Whether a value stands under the key at the server.
    async fn is_stored(&self, id: u64) -> bool {
        let key = format!("mastaba:objects:row:{id}");
        let head = self.server.command(&["GETRANGE", &key, "2", "2"]).await;
        head == "@"
    }

    /// A get in the reading process, held up after it has read the database.
    async fn held_up(&self, id: u64) -> tokio::task::JoinHandle<u32> {
        let loads = self.table.loads().len();
        let request = self.reader.request();
        let reading = tokio::spawn(async move { version(&request, id).await });
        self.table.begun(loads + 1).await;
        reading
    }

    /// Both processes see this version, and end up with it in the shared tier.
    async fn ends_with(&self, id: u64, expected: u32) {
        self.reader.idle().await;
        self.writer.idle().await;
        assert_eq!(sees(&self.reader, id).await, expected, "the reading process");
        assert_eq!(sees(&self.writer, id).await, expected, "the writing process");
        self.reader.idle().await;
        self.writer.idle().await;
        assert!(self.is_stored(id).await, "what was read last is stored");
        let outcome = self.writer.request().get_outcomes::<Row>([id]).await;
        assert_eq!(outcome[&id].tier(), Some(Tier::Shared));
        assert_eq!(outcome[&id].value().unwrap().unwrap().1, expected);
    }
}

#[tokio::test]
async fn a_fill_that_comes_after_the_invalidation_is_refused() {
    let Some(race) = Race::begin(|region| region).await else { return };
    race.table.hold_up();
    let reading = race.held_up(1).await; // missed, and read version 0
    assert_eq!(race.write(1).await, 1);
    race.table.let_go();
    assert_eq!(reading.await.unwrap(), 0, "it began before the write was acknowledged");
    race.reader.idle().await;
    assert!(!race.is_stored(1).await, "the old row was stored after all");
    race.ends_with(1, 1).await;
}

#[tokio::test]
async fn with_near_the_old_row_does_not_live_on_there() {
    for coherence in [Coherence::Bounded(Duration::from_secs(3600)), Coherence::Fenced] {
        let near = NearConfig::entries(100).coherence(coherence);
        let Some(race) = Race::begin(|region| region.near(near)).await else { return };
        race.table.hold_up();
        let reading = race.held_up(1).await;
        assert_eq!(race.write(1).await, 1);
        race.table.let_go();
        assert_eq!(reading.await.unwrap(), 0);
        race.ends_with(1, 1).await;
    }
}

#[tokio::test]
async fn who_joins_after_the_write_was_acknowledged_does_not_get_the_old_row() {
    let Some(race) = Race::begin(|region| region).await else { return };
    let gate = race.table.hold_up();
    let first = race.held_up(1).await;
    let before = {
        let request = race.reader.request();
        tokio::spawn(async move { version(&request, 1).await })
    };
    assert_eq!(race.write(1).await, 1);
    let after = {
        let request = race.reader.request();
        tokio::spawn(async move { version(&request, 1).await })
    };
    // the first load ends; whoever may not take its row loads again
    gate.add_permits(1);
    assert_eq!(first.await.unwrap(), 0);
    race.table.let_go();
    assert!(before.await.unwrap() <= 1, "it began before the write was acknowledged, so both are right");
    assert_eq!(after.await.unwrap(), 1, "it began after the write was acknowledged");
    race.ends_with(1, 1).await;
}

#[tokio::test]
async fn a_refresh_in_the_background_does_not_bring_the_old_row_back() {
    let Some(race) =
        Race::begin(|region| region.ttl(Duration::from_millis(30)).stale(Duration::from_secs(3600))).await
    else {
        return;
    };
    assert_eq!(sees(&race.reader, 1).await, 0);
    race.reader.idle().await;
    assert!(race.is_stored(1).await);
    tokio::time::sleep(Duration::from_millis(60)).await; // past its time to live
    let loads = race.table.loads().len();
    race.table.hold_up();
    assert_eq!(sees(&race.reader, 1).await, 0, "served while it is refreshed");
    race.table.begun(loads + 1).await; // the refresh has read version 0
    assert_eq!(race.write(1).await, 1);
    race.table.let_go();
    race.reader.idle().await;
    assert!(!race.is_stored(1).await, "the refresh has stored the old row");
    assert_eq!(sees(&race.reader, 1).await, 1);
}

#[tokio::test]
async fn a_clear_voids_a_load_that_is_under_way_elsewhere() {
    let Some(race) = Race::begin(|region| region).await else { return };
    race.table.hold_up();
    let reading = race.held_up(1).await;
    let expected = race.table.commit(1);
    race.writer.region("objects").clear().await.unwrap();
    race.table.let_go();
    assert_eq!(reading.await.unwrap(), 0);
    race.ends_with(1, expected).await;
}

#[tokio::test]
async fn a_tag_voids_a_load_that_is_under_way_elsewhere() {
    for tag in ["row:1", "rows"] {
        let Some(race) = Race::begin(|region| region).await else { return };
        race.table.hold_up();
        let reading = {
            let request = race.reader.request();
            tokio::spawn(async move { request.get::<Tagged>(1).await.unwrap().unwrap().1 })
        };
        race.table.begun(1).await;
        let expected = race.table.commit(1);
        let request = race.writer.request();
        let write = request.write();
        write.invalidate_tag(tag);
        write.published().await.unwrap();
        race.table.let_go();
        assert_eq!(reading.await.unwrap(), 0);
        race.reader.idle().await;
        assert_eq!(sees_tagged(&race.reader, 1).await, expected, "after the tag {tag}");
        assert_eq!(sees_tagged(&race.writer, 1).await, expected, "after the tag {tag}");
    }
}
