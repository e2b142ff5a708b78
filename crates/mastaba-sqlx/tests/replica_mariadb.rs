//! A MariaDB and its replica: reads go to the replica as far as it has come, and nothing that a write voided is filled
//! again with what was there before.

#![cfg(feature = "mysql")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mastaba::{Cache, Checked, LoadContext, Prefer, Region, Replicated, Rows, Source};
use mastaba_sqlx::Gtid;
use mastaba_test::servers::Mariadb;
use sqlx::{MySql, MySqlPool, QueryBuilder};

/// No test hangs, whatever a server does.
async fn limited<T>(run: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(90), run).await.expect("a test ends in time")
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const WRITER: u32 = 1;
const READER: u32 = 2;

struct RowById(Checked<MySqlPool, Gtid>);

impl Source for RowById {
    type Key = i64;
    /// The value, and the id of the server that it was read from.
    type Value = (i64, u32);
    type Error = sqlx::Error;
    const NAME: &'static str = "row";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[i64]) -> sqlx::Result<Rows<Self>> {
        let pool = self.0.pick(cx).await;
        let mut select = QueryBuilder::<MySql>::new(
            "select id, value, cast(@@global.server_id as signed) from place where id in (",
        );
        let mut list = select.separated(", ");
        for id in ids {
            list.push_bind(*id);
        }
        let rows: Vec<(i64, i64, i64)> = select.push(")").build_query_as().fetch_all(pool).await?;
        Ok(rows.into_iter().map(|(id, value, server)| (id, (value, server as u32))).collect())
    }
}

async fn run(pool: &MySqlPool, statement: &'static str) {
    sqlx::raw_sql(statement).execute(pool).await.unwrap();
}

async fn cache(writer: &MySqlPool, reader: &MySqlPool) -> (Cache, Arc<Mutex<Vec<String>>>) {
    let pools =
        Replicated::consistent(writer.clone(), reader.clone()).checked_by(Gtid).prefer(Prefer::Reader);
    let events = Arc::<Mutex<Vec<String>>>::default();
    let listener = events.clone();
    let cache = Cache::builder()
        .region("objects", Region::memory().jitter(0.0).early_refresh(0.0))
        .source(RowById(pools))
        .on_event(move |event| listener.lock().unwrap().push(event.to_string()))
        .build();
    (cache.await.unwrap(), events)
}

async fn row(cache: &Cache, id: i64) -> (i64, u32) {
    *cache.request().get::<RowById>(id).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_replica_that_stands_still_never_refills_what_a_write_voided_and_is_read_again_once_it_goes_on() {
    limited(async {
        let Some(primary) = Mariadb::start_logging(WRITER).await else { return };
        let Some(replica) = Mariadb::start_logging(READER).await else { return };
        let writer = MySqlPool::connect(&primary.url()).await.unwrap();
        let reader = MySqlPool::connect(&replica.url()).await.unwrap();
        run(&writer, "create table place (id bigint primary key, value bigint not null)").await;
        run(&writer, "insert into place select seq, 0 from seq_1_to_10000").await;
        let follow = format!(
            "change master to master_host = '127.0.0.1', master_port = {}, master_user = 'root', \
             master_use_gtid = slave_pos",
            primary.addr().port()
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(follow)).execute(&reader).await.unwrap();
        run(&reader, "start slave").await;
        let on_replica = async || {
            let value = sqlx::query_scalar("select value from place where id = 1");
            value.fetch_optional(&reader).await.ok().flatten().map(|value: i64| value)
        };
        until("the table", async || on_replica().await == Some(0)).await;

        let (cache, events) = cache(&writer, &reader).await;
        let mut fresh = 1000;
        let mut reads_from = async || {
            fresh += 1;
            row(&cache, fresh).await.1
        };
        until("the replica", async || reads_from().await == READER).await;
        assert_eq!(row(&cache, 1).await.0, 0);
        cache.idle().await;

        run(&reader, "stop slave sql_thread").await;
        let write = cache.request().write();
        write.invalidate::<RowById>([1]).await.unwrap();
        run(&writer, "update place set value = 7 where id = 1").await;
        assert!(write.published().await.unwrap().is_confirmed());
        assert_eq!(on_replica().await, Some(0), "there it is as before");
        assert_eq!(row(&cache, 1).await, (7, WRITER));
        cache.idle().await;
        let request = cache.request();
        assert_eq!(request.get::<RowById>(1).await.unwrap().as_deref(), Some(&(7, WRITER)));
        assert_eq!(request.report().statements(), 0, "that was stored");
        assert_eq!(reads_from().await, WRITER, "nor is it asked for any other row");

        run(&reader, "start slave sql_thread").await;
        until("the write", async || on_replica().await == Some(7)).await;
        until("the replica", async || reads_from().await == READER).await;
        until("row 1 from the replica", async || {
            cache.request().invalidate::<RowById>([1]).await.unwrap();
            let (value, server) = row(&cache, 1).await;
            assert_eq!(value, 7);
            server == READER
        })
        .await;
        assert_eq!(*events.lock().unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_writer_without_a_binary_log_is_read_itself_and_an_event_says_why() {
    limited(async {
        let Some(server) = Mariadb::start().await else { return };
        let pool = MySqlPool::connect(&server.url()).await.unwrap();
        run(&pool, "create table place (id bigint primary key, value bigint not null)").await;
        run(&pool, "insert into place values (1, 7)").await;
        // whoever waits for no transaction at all has waited long enough, which says nothing
        let waited: Option<i64> =
            sqlx::query_scalar("select master_gtid_wait('', 0)").fetch_one(&pool).await.unwrap();
        assert_eq!(waited, Some(0));
        let (cache, events) = cache(&pool, &pool).await;
        let request = cache.request();
        assert_eq!(request.get::<RowById>(1).await.unwrap().unwrap().0, 7);
        let events = events.lock().unwrap();
        assert!(matches!(&events[..], [only] if only.contains("no binary log")), "{events:?}");
    })
    .await;
}
