//! A PostgreSQL and its standby: reads go to the standby as far as it has come, and nothing that a write voided is filled
//! again with what was there before.

#![cfg(feature = "postgres")]

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mastaba::shared::memory::Memory;
use mastaba::{Cache, Checked, LoadContext, Prefer, Region, Replicated, RequestCache, Rows, Source};
use mastaba_sqlx::Wal;
use mastaba_test::servers::Postgres;
use sqlx::PgPool;

/// No test hangs, whatever a server does.
async fn limited<T>(run: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), run).await.expect("a test ends within a minute")
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct RowById(Arc<Checked<PgPool, Wal>>);

impl Source for RowById {
    type Key = i64;
    /// The value, and whether it was read from the standby.
    type Value = (i64, bool);
    type Error = sqlx::Error;
    const NAME: &'static str = "row";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[i64]) -> sqlx::Result<Rows<Self>> {
        let pool = self.0.pick(cx).await;
        let select = "select id, value, pg_is_in_recovery() from place where id = any($1)";
        let rows: Vec<(i64, i64, bool)> = sqlx::query_as(select).bind(ids).fetch_all(pool).await?;
        Ok(rows.into_iter().map(|(id, value, standby)| (id, (value, standby))).collect())
    }
}

struct World {
    _primary: Postgres,
    standby: Postgres,
    writer: PgPool,
    reader: PgPool,
    memory: Memory,
    cache: Cache,
    events: Arc<Mutex<Vec<String>>>,
    /// The last row that was asked for by [`World::reads_the_standby`].
    fresh: AtomicI64,
}

impl World {
    /// Rows 1 to 100,000, each with the value 0, on both. `None` where no PostgreSQL is installed.
    async fn start() -> Option<Self> {
        let primary = Postgres::start().await?;
        let standby = primary.standby().await?;
        let writer = PgPool::connect(&primary.url()).await.unwrap();
        let reader = PgPool::connect(&standby.url()).await.unwrap();
        let table = "create table place (id bigint primary key, value bigint not null);
                     insert into place select id, 0 from generate_series(1, 100000) id";
        sqlx::raw_sql(table).execute(&writer).await.unwrap();
        let (memory, events) = (Memory::default(), Arc::default());
        let cache = cache(&writer, &reader, &memory, &events).await;
        let world = Self {
            _primary: primary,
            standby,
            writer,
            reader,
            memory,
            cache,
            events,
            fresh: AtomicI64::new(1_000),
        };
        until("the table", async || world.on_standby(1).await == Some(0)).await;
        until("the standby", async || world.reads_the_standby().await).await;
        Some(world)
    }

    /// The value of a row as the standby itself shows it now.
    async fn on_standby(&self, id: i64) -> Option<i64> {
        let value = sqlx::query_scalar("select value from place where id = $1").bind(id);
        value.fetch_optional(&self.reader).await.ok().flatten()
    }

    /// Whether a row that nobody has asked for is read from there.
    async fn reads_the_standby(&self) -> bool {
        let id = self.fresh.fetch_add(1, Ordering::Relaxed);
        row(&self.cache.request(), id).await.1
    }

    /// Another process on the same store.
    async fn beside(&self) -> Cache {
        cache(&self.writer, &self.reader, &self.memory, &self.events).await
    }

    async fn set_replay(&self, paused: bool) {
        let order = if paused { "select pg_wal_replay_pause()" } else { "select pg_wal_replay_resume()" };
        sqlx::raw_sql(order).execute(&self.reader).await.unwrap();
        let state = if paused { "paused" } else { "not paused" };
        until(state, async || {
            let is: String = sqlx::query_scalar("select pg_get_wal_replay_pause_state()")
                .fetch_one(&self.reader)
                .await
                .unwrap();
            is == state
        })
        .await;
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

async fn cache(writer: &PgPool, reader: &PgPool, memory: &Memory, events: &Arc<Mutex<Vec<String>>>) -> Cache {
    let pools = Replicated::consistent(writer.clone(), reader.clone()).checked_by(Wal);
    let listener = events.clone();
    Cache::builder()
        .region("objects", Region::backend(memory.clone()).jitter(0.0).early_refresh(0.0))
        .source(RowById(Arc::new(pools.prefer(Prefer::Reader))))
        .on_event(move |event| listener.lock().unwrap().push(event.to_string()))
        .build()
        .await
        .unwrap()
}

async fn row(request: &RequestCache, id: i64) -> (i64, bool) {
    *request.get::<RowById>(id).await.unwrap().unwrap()
}

/// Writes and commits; when it has returned, the write is acknowledged.
async fn write(cache: &Cache, writer: &PgPool, id: i64, value: i64) {
    let write = cache.request().write();
    write.invalidate::<RowById>([id]).await.unwrap();
    let mut transaction = writer.begin().await.unwrap();
    let update = sqlx::query("update place set value = $1 where id = $2").bind(value).bind(id);
    update.execute(&mut *transaction).await.unwrap();
    let committed = write.commit(transaction.commit()).await.unwrap();
    assert!(committed.published.is_confirmed());
}

#[tokio::test]
async fn a_standby_that_stands_still_never_refills_what_a_write_voided_and_is_read_again_once_it_goes_on() {
    limited(async {
        let Some(world) = World::start().await else { return };
        assert_eq!(row(&world.cache.request(), 1).await.0, 0);
        world.cache.idle().await;

        world.set_replay(true).await;
        write(&world.cache, &world.writer, 1, 7).await;
        assert_eq!(world.on_standby(1).await, Some(0), "there it is as before");
        // the writer itself read its row from the standby before, and another process has never seen it
        let beside = world.beside().await;
        assert_eq!(row(&beside.request(), 1).await, (7, false));
        beside.idle().await;
        let request = world.cache.request();
        assert_eq!(row(&request, 1).await, (7, false));
        assert_eq!(request.report().statements(), 0, "that was stored");
        assert!(!world.reads_the_standby().await, "nor is it asked for any other row");

        world.set_replay(false).await;
        until("the write", async || world.on_standby(1).await == Some(7)).await;
        until("the standby", async || world.reads_the_standby().await).await;
        until("row 1 from the standby", async || {
            world.cache.request().invalidate::<RowById>([1]).await.unwrap();
            let (value, standby) = row(&world.cache.request(), 1).await;
            assert_eq!(value, 7);
            standby
        })
        .await;
        assert_eq!(world.events(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_request_reads_what_it_wrote_from_whichever_of_the_two_has_it() {
    limited(async {
        let Some(world) = World::start().await else { return };
        let request = world.cache.request();
        assert_eq!(row(&request, 1).await.0, 0);
        world.set_replay(true).await;
        let write = request.write();
        write.invalidate::<RowById>([1]).await.unwrap();
        sqlx::query("update place set value = 7 where id = 1").execute(&world.writer).await.unwrap();
        write.published().await.unwrap();
        assert_eq!(row(&request, 1).await, (7, false));
        world.set_replay(false).await;
    })
    .await;
}

#[tokio::test]
async fn a_standby_that_is_gone_costs_an_event_and_is_read_again_when_it_is_back() {
    limited(async {
        let Some(world) = World::start().await else { return };
        world.standby.stop().await;
        assert!(!world.reads_the_standby().await);
        let events = world.events();
        assert!(
            matches!(&events[..], [only] if only.starts_with("source row: how far the reader is behind the writer")),
            "{events:?}"
        );
        world.standby.restart().await;
        until("the standby", async || world.reads_the_standby().await).await;
        assert_eq!(world.events(), [""; 0]);
    })
    .await;
}

/// A standby that follows by itself, late by as much as it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_after_an_acknowledged_write_sees_it_while_the_standby_comes_after() {
    limited(async {
        let Some(world) = World::start().await else { return };
        const ROWS: usize = 8;
        const WRITES: i64 = 150;
        let acknowledged: Arc<[AtomicI64; ROWS]> = Arc::default();
        let done = Arc::new(AtomicBool::new(false));
        let mut readers = Vec::new();
        for reader in 0..4 {
            let cache = if reader % 2 == 0 { world.cache.clone() } else { world.beside().await };
            let (acknowledged, done) = (acknowledged.clone(), done.clone());
            readers.push(tokio::spawn(async move {
                let (mut reads, mut standby) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    for (nth, acknowledged) in acknowledged.iter().enumerate() {
                        let at_least = acknowledged.load(Ordering::SeqCst);
                        let (value, from_standby) = row(&cache.request(), nth as i64 + 1).await;
                        assert!(value >= at_least, "row {nth}: {value} after {at_least} was acknowledged");
                        (reads, standby) = (reads + 1, standby + usize::from(from_standby));
                    }
                    tokio::task::yield_now().await;
                }
                (reads, standby)
            }));
        }
        let writers = (0..ROWS).map(|nth| {
            let (cache, writer, acknowledged) =
                (world.cache.clone(), world.writer.clone(), acknowledged.clone());
            tokio::spawn(async move {
                for value in 1..=WRITES {
                    write(&cache, &writer, nth as i64 + 1, value).await;
                    acknowledged[nth].store(value, Ordering::SeqCst);
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        let mut all = (0, 0);
        for reader in readers {
            let (reads, standby) = reader.await.unwrap();
            all = (all.0 + reads, all.1 + standby);
        }
        assert!(all.0 > 0, "nobody read");
        for id in 1..=ROWS as i64 {
            assert_eq!(row(&world.cache.request(), id).await.0, WRITES);
        }
        println!("{} reads, {} of them of what the standby gave", all.0, all.1);
    })
    .await;
}
