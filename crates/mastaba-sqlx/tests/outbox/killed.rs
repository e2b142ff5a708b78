//! A writer is killed between COMMIT and its invalidation: a process of its own, over a real database and a real Redis.

use std::process::Stdio;
use std::time::Duration;

use mastaba::{Cache, LoadContext, Region, Rows, Source, Tier, WriteMode};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_sqlx::{Begin, Outbox};
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::RedisServer;
use sqlx::{PgPool, Postgres};

use super::bases::{Sql, postgres, until};

/// For the writer: where the database is, where the Redis is, and how it is killed.
const WRITER: &str = "MASTABA_TEST_OUTBOX_WRITER";

/// How a writer comes to be killed between COMMIT and its invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    /// It waits for the answer of its invalidation.
    Invalidating,
    /// Its shared tier is out: it holds nothing, and commits all the same.
    WithoutATier,
    /// It holds its keys, and COMMIT takes long; when that comes through it reaches the shared tier no longer.
    Holding,
}

impl Killed {
    const ALL: [Self; 3] = [Self::Invalidating, Self::WithoutATier, Self::Holding];

    fn mode(self) -> WriteMode {
        if self == Self::Invalidating { WriteMode::Simple } else { WriteMode::Degrade }
    }
}

/// How long a hold lives that nobody ends.
const HOLD: Duration = Duration::from_secs(4);

/// The versions of accounts.
struct Account(PgPool);

impl Source for Account {
    type Key = i64;
    type Value = i64;
    type Error = sqlx::Error;
    const NAME: &'static str = "account";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> Result<Rows<Self>, sqlx::Error> {
        let select = sqlx::query_as("select id, version from account where id = any($1)").bind(ids);
        let rows: Vec<(i64, i64)> = select.fetch_all(&self.0).await?;
        Ok(rows.into_iter().collect())
    }
}

async fn process(redis: &str, pool: &PgPool, mode: WriteMode) -> Cache {
    let redis = Redis::connect(RedisConfig::from_url(redis).unwrap()).await.unwrap();
    // nobody gives up while the test looks
    let region = Region::backend(redis).jitter(0.0).early_refresh(0.0).write_mode(mode);
    let region = region.shared_budget(Duration::from_secs(60)).breaker_failures(0).hold_ttl(HOLD);
    Cache::builder().region("objects", region).source(Account(pool.clone())).build().await.unwrap()
}

fn outbox(pool: &PgPool) -> Outbox<Postgres> {
    Outbox::new(pool).grace(Duration::ZERO).poll(Duration::from_millis(20))
}

async fn write(what: &str) {
    let mut words = what.split(' ');
    let [base, redis, killed] = [(); 3].map(|()| words.next().unwrap());
    let killed = Killed::ALL.into_iter().find(|each| format!("{each:?}") == killed).unwrap();
    let pool = PgPool::connect(base).await.unwrap();
    let cache = process(redis, &pool, killed.mode()).await;
    outbox(&pool).attach(&cache);
    sqlx::query("insert into ready default values").execute(&pool).await.unwrap();
    until("a word", async || Postgres::number(&pool, "select count(*) from go".to_owned()).await == 1).await;
    let mut tx = cache.request().begin(&pool).await.unwrap();
    sqlx::query("update account set version = version + 1 where id = 1").execute(&mut *tx).await.unwrap();
    tx.invalidate::<Account>([1]).await.unwrap();
    if killed.mode() != WriteMode::Degrade {
        tx.with_outbox().unwrap();
    }
    let committed = tx.commit().await.unwrap();
    assert!(!committed.published.is_confirmed());
    std::future::pending::<()>().await;
}

async fn version(cache: &Cache) -> (i64, Option<Tier>) {
    let found = cache.request().get_outcomes::<Account>([1]).await;
    cache.idle().await;
    (**found[&1].value().unwrap().unwrap(), found[&1].tier())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_writer_leaves_that_is_killed_between_commit_and_invalidation_is_voided_by_another_process() {
    if let Ok(what) = std::env::var(WRITER) {
        return write(&what).await;
    }
    let (Some(base), Some(redis)) = (postgres().await, RedisServer::start().await) else { return };
    base.run(outbox(&base.pool).ddl()).await;
    for table in
        ["account (id bigint primary key, version bigint)", "ready (id bigserial)", "go (id bigserial)"]
    {
        base.run(format!("create table {table}")).await;
    }
    base.run("insert into account values (1, 0)").await;
    for sql in [
        "create function waits() returns trigger language plpgsql \
         as $$ begin perform pg_advisory_xact_lock(7); return null; end $$",
        "create constraint trigger waits after update on account deferrable initially deferred \
         for each row execute function waits()",
    ] {
        base.run(sql).await;
    }
    for (killed, old) in Killed::ALL.into_iter().zip(0..) {
        base.run("truncate ready, go").await;
        let proxy = Proxy::to(redis.addr()).await;
        let reader = process(&redis.url(), &base.pool, WriteMode::Simple).await;
        version(&reader).await;
        assert_eq!(version(&reader).await, (old, Some(Tier::Shared)));
        let name = "what_a_writer_leaves_that_is_killed_between_commit_and_invalidation_is_voided_by_another_process";
        let mut writer = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("killed::{name}"), "--nocapture"])
            .env(WRITER, format!("{} {} {killed:?}", base.server.url(), proxy.url()))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("a writer", async || base.rows("ready").await == 1).await;
        let mut session = base.pool.acquire().await.unwrap();
        match killed {
            Killed::Invalidating => proxy.half_open().await,
            Killed::WithoutATier => proxy.refuse().await,
            Killed::Holding => Postgres::on(&mut session, "select pg_advisory_lock(7)").await,
        }
        base.run("insert into go default values").await;
        if killed == Killed::Holding {
            until("a commit that waits", async || {
                base.rows("pg_locks where locktype = 'advisory' and not granted").await == 1
            })
            .await;
            assert_eq!(version(&reader).await, (old, Some(Tier::Source)), "not committed, and held");
            proxy.half_open().await;
            Postgres::on(&mut session, "select pg_advisory_unlock(7)").await;
        }
        drop(session);
        until("a commit", async || {
            base.rows("account where version > 0").await == 1 && {
                let now = Postgres::number(&base.pool, "select version from account".to_owned()).await;
                now == old + 1
            }
        })
        .await;
        writer.kill().await.unwrap(); // -9
        assert_eq!(base.rows("mastaba_outbox").await, 1);
        match killed {
            Killed::Holding => {
                assert_eq!(version(&reader).await, (old + 1, Some(Tier::Source)), "its hold stands (I2)");
            }
            _ => assert_eq!(version(&reader).await, (old, Some(Tier::Shared)), "nobody has voided it"),
        }
        let relay = outbox(&base.pool).relay(&reader).await.unwrap();
        until("an empty outbox", async || base.rows("mastaba_outbox").await == 0).await;
        assert_eq!(version(&reader).await.0, old + 1);
        let third = process(&redis.url(), &base.pool, WriteMode::Simple).await;
        until("it is stored again", async || {
            let (now, tier) = version(&third).await;
            assert_eq!(
                now,
                old + 1,
                "{killed:?}: nothing old is read any more, while a hold stands and after it"
            );
            tier == Some(Tier::Shared)
        })
        .await;
        relay.stop().await;
    }
}
