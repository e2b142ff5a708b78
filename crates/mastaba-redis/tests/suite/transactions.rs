//! Transactions of a real database that end in every way: committed with the answer lost, or late; in conflict with
//! another one; rolled back by the database at its end; timed out.

use std::sync::Mutex;
use std::time::Duration;

use mastaba::{Cache, CommitError, LoadContext, Lost, Region, Rows, Source, Tier, Write, WriteMode};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::{Postgres, RedisServer};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Executor, PgConnection, Transaction};

const MODES: [WriteMode; 4] = [WriteMode::Simple, WriteMode::Strict, WriteMode::Serve, WriteMode::Degrade];

/// What an account holds.
struct Account(PgPool);

impl Source for Account {
    type Key = i64;
    type Value = i64;
    type Error = sqlx::Error;
    const NAME: &'static str = "account";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> Result<Rows<Self>, sqlx::Error> {
        let select = sqlx::query_as("select id, holds from account where id = any($1)").bind(ids);
        Ok(select.fetch_all(&self.0).await?.into_iter().collect())
    }
}

/// A database, and two processes over one server: one writes, through a proxy that can cut it off from its database.
struct Bank {
    _database: Postgres,
    redis: RedisServer,
    proxy: Proxy,
    /// Past the proxy.
    pool: PgPool,
    /// By the proxy.
    writing: PgPool,
    /// Who holds the lock that slow commits wait for.
    blocks: Mutex<Vec<PgConnection>>,
}

impl Bank {
    async fn open() -> Option<Self> {
        let (redis, database) = (RedisServer::start().await?, Postgres::start().await?);
        let proxy = Proxy::to(database.addr()).await;
        let pool = PgPool::connect(&database.url()).await.unwrap();
        let by_proxy = format!("postgres://postgres@{}/postgres", proxy.addr());
        let writing = PgPoolOptions::new().max_connections(6).connect(&by_proxy).await.unwrap();
        pool.execute(
            "create table account (id bigint primary key, holds bigint not null);
             insert into account select id, 0 from generate_series(1, 9) as id;
             create table owner (name text, constraint one_each unique (name) deferrable initially deferred);
             create function wait() returns trigger language plpgsql as
                 $$ begin perform pg_advisory_xact_lock(7); return null; end $$;
             create table slow (id int);
             create constraint trigger slowly after insert on slow deferrable initially deferred
                 for each row execute function wait();",
        )
        .await
        .unwrap();
        Some(Self { _database: database, redis, proxy, pool, writing, blocks: Mutex::default() })
    }

    /// The writing process and the reading one, at a place of their own, with account 1 in the shared tier.
    async fn processes(&self, place: &str, mode: WriteMode) -> [Process; 2] {
        let process = async || {
            let url = format!("{}?prefix={place}{mode:?}:", self.redis.url());
            let region = Region::backend(Redis::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap());
            let region = region.jitter(0.0).early_refresh(0.0).write_mode(mode);
            let builder = Cache::builder().region("objects", region).source(Account(self.pool.clone()));
            Process(builder.build().await.unwrap())
        };
        let both = [process().await, process().await];
        for process in &both {
            while process.finds().await.1 != Tier::Shared {
                process.0.idle().await;
            }
        }
        both
    }

    /// What is committed.
    async fn holds(&self) -> i64 {
        sqlx::query_scalar("select holds from account where id = 1").fetch_one(&self.pool).await.unwrap()
    }

    /// A transaction that has paid one into account 1.
    async fn pay_in(&self) -> Transaction<'static, sqlx::Postgres> {
        let mut transaction = self.writing.begin().await.unwrap();
        transaction.execute("update account set holds = holds + 1 where id = 1").await.unwrap();
        transaction
    }
}

struct Process(Cache);

impl Process {
    async fn finds(&self) -> (i64, Tier) {
        let found = self.0.request().get_outcomes::<Account>([1]).await;
        (**found[&1].value().unwrap().unwrap(), found[&1].tier().unwrap())
    }

    async fn sees(&self) -> i64 {
        self.finds().await.0
    }

    /// A write that has collected account 1.
    async fn write(&self) -> Write {
        let write = self.0.request().write();
        write.invalidate::<Account>([1]).await.unwrap();
        write
    }
}

/// Errors by which Postgres says that a transaction is rolled back: constraints, conflicts, and its time-outs.
fn is_rolled_back(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
    code.is_some_and(|code| ["23", "40", "55P03", "25P03"].iter().any(|class| code.starts_with(class)))
}

async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_published() {
    limited(async {
        let Some(bank) = Bank::open().await else { return };
        for mode in MODES {
            let [writer, reader] = bank.processes("lost", mode).await;
            let before = bank.holds().await;
            let (write, transaction) = (writer.write().await, bank.pay_in().await);
            bank.proxy.reset_after("COMMIT");
            let error = write.commit_unless(transaction.commit(), is_rolled_back).await.unwrap_err();
            let CommitError::Unknown { cause: Lost::Failed(cause), published } = &error else {
                panic!("{mode:?}: {error}")
            };
            assert!(cause.as_database_error().is_none(), "{mode:?}: {cause}");
            assert!(published.is_confirmed(), "{mode:?}");
            assert_eq!(bank.holds().await, before + 1, "it was committed");
            for process in [&reader, &writer] {
                assert_eq!(process.sees().await, before + 1, "{mode:?}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_arrived_voids_what_it_need_not_have() {
    limited(async {
        let Some(bank) = Bank::open().await else { return };
        for mode in MODES {
            let [writer, reader] = bank.processes("never", mode).await;
            let (write, transaction) = (writer.write().await, bank.pay_in().await);
            bank.proxy.ban("COMMIT").await;
            let error = write.commit_unless(transaction.commit(), is_rolled_back).await.unwrap_err();
            bank.proxy.pass().await;
            assert!(error.is_unknown(), "{mode:?}: {error}");
            assert_eq!(bank.holds().await, 0);
            assert_eq!(reader.finds().await, (0, Tier::Source), "{mode:?}: it might have been committed");
            assert_eq!(writer.sees().await, 0, "{mode:?}");
        }
    })
    .await;
}

/// The program gives up, and the database commits all the same, later. A hold keeps whoever reads in between from storing
/// what is there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_given_up_and_comes_through_later_finds_its_hold() {
    limited(async {
        let Some(bank) = Bank::open().await else { return };
        for mode in [WriteMode::Strict, WriteMode::Serve, WriteMode::Degrade] {
            let [writer, reader] = bank.processes("late", mode).await;
            let before = bank.holds().await;
            let mut blocks = bank.pool.begin().await.unwrap();
            blocks.execute("select pg_advisory_xact_lock(7)").await.unwrap();
            let (write, mut transaction) = (writer.write().await, bank.pay_in().await);
            transaction.execute("insert into slow values (1)").await.unwrap();
            // waits for the lock; the connection is closed, which the server notices when it has committed
            let commit = async move {
                let patience = Duration::from_millis(300);
                tokio::time::timeout(patience, transaction.commit()).await.map_err(|_| "given up")
            };
            let error = write.commit(commit).await.unwrap_err();
            assert!(error.is_unknown(), "{mode:?}: {error}");
            for process in [&reader, &writer] {
                assert_eq!(process.sees().await, before, "{mode:?}: not committed");
                process.0.idle().await; // its fill, if there were one
            }
            blocks.rollback().await.unwrap();
            while bank.holds().await == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            for process in [&reader, &writer] {
                assert_eq!(process.sees().await, before + 1, "{mode:?}: from COMMIT on (I2)");
            }
        }
    })
    .await;
}

/// What the database rolls back, it says so with a code: then nothing is voided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_the_database_rolls_back_voids_nothing() {
    limited(async {
        let Some(bank) = Bank::open().await else { return };
        for mode in MODES {
            let [writer, reader] = bank.processes("back", mode).await;
            for code in ["40001", "23505", "55P03", "25P03"] {
                let transaction = match code {
                    "40001" => in_conflict(&bank).await,
                    "23505" => against_a_constraint(&bank).await,
                    "55P03" => longer_than_it_may(&bank).await,
                    _ => left_alone_for_too_long(&bank).await,
                };
                let write = writer.write().await;
                let error = write.commit_unless(transaction.commit(), is_rolled_back).await.unwrap_err();
                let CommitError::RolledBack(cause) = &error else { panic!("{mode:?}, {code}: {error}") };
                let said = cause.as_database_error().and_then(sqlx::error::DatabaseError::code);
                assert_eq!(said.as_deref(), Some(code), "{mode:?}: {cause}");
                writer.0.idle().await; // the end of its hold
                assert_eq!(bank.holds().await, 0, "{mode:?}, {code}");
                for process in [&reader, &writer] {
                    assert_eq!(process.finds().await, (0, Tier::Shared), "{mode:?}, {code}: as it was (R10)");
                }
            }
        }
    })
    .await;
}

/// Another one has read what it writes, and written what it has read.
async fn in_conflict(bank: &Bank) -> Transaction<'static, sqlx::Postgres> {
    let mut both = [bank.writing.begin().await.unwrap(), bank.pool.begin().await.unwrap()];
    for (transaction, id) in both.iter_mut().zip([2, 3]) {
        transaction.execute("set transaction isolation level serializable").await.unwrap();
        transaction.execute("select sum(holds) from account where id in (2, 3)").await.unwrap();
        let update = sqlx::query("update account set holds = holds + 1 where id = $1").bind(id);
        update.execute(&mut **transaction).await.unwrap();
    }
    let [ours, theirs] = both;
    theirs.commit().await.unwrap();
    ours
}

/// A constraint that is looked at when it commits.
async fn against_a_constraint(bank: &Bank) -> Transaction<'static, sqlx::Postgres> {
    let mut transaction = bank.pay_in().await;
    transaction.execute("insert into owner values ('twice'), ('twice')").await.unwrap();
    transaction
}

/// Its COMMIT waits for a lock, and the database does not wait for so long.
async fn longer_than_it_may(bank: &Bank) -> Transaction<'static, sqlx::Postgres> {
    let mut blocks = bank.pool.acquire().await.unwrap().detach();
    blocks.execute("select pg_advisory_lock_shared(7)").await.unwrap();
    bank.blocks.lock().unwrap().push(blocks);
    let mut transaction = bank.pay_in().await;
    transaction.execute("insert into slow values (1)").await.unwrap();
    transaction.execute("set local lock_timeout = '100ms'").await.unwrap();
    transaction
}

/// The database ends the session of a transaction in which nothing happens.
async fn left_alone_for_too_long(bank: &Bank) -> Transaction<'static, sqlx::Postgres> {
    let mut transaction = bank.pay_in().await;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *transaction).await.unwrap();
    transaction.execute("set local idle_in_transaction_session_timeout = '10ms'").await.unwrap();
    let lives = "select exists (select 1 from pg_stat_activity where pid = $1)";
    while sqlx::query_scalar(lives).bind(pid).fetch_one(&bank.pool).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    transaction
}
