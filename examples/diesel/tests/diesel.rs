//! The example over a real PostgreSQL.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use diesel::QueryableByName;
use diesel::connection::InstrumentationEvent;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_example::{Account, AccountById, Edit, Failed, Pool, cache, edit};
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use mastaba::{Cache, RequestCache};
use mastaba_test::servers::Postgres;

/// A transaction whose COMMIT takes as long as somebody else holds lock 1.
const TABLES: &str = "
    create table account (
        id bigint primary key, name text not null, email text not null unique deferrable initially deferred
    );
    insert into account select id, 'name ' || id, id || '@town' from generate_series(1, 100) as id;
    create function wait() returns trigger language plpgsql as $$
        begin
            perform pg_advisory_xact_lock(1);
            return null;
        end
    $$;
    create constraint trigger at_commit after update on account deferrable initially deferred
        for each row when (new.name = 'slow') execute function wait()";

struct Town {
    server: Postgres,
    pool: Pool,
    cache: Cache,
    statements: Arc<Mutex<Vec<String>>>,
}

impl Town {
    async fn new() -> Option<Self> {
        let server = Postgres::start().await?;
        let mut connection = AsyncPgConnection::establish(&server.url()).await.unwrap();
        connection.batch_execute(TABLES).await.unwrap();
        let statements = Arc::new(Mutex::new(Vec::new()));
        let mut config = ManagerConfig::default();
        let heard = statements.clone();
        config.custom_setup = Box::new(move |url| {
            let (url, heard) = (url.to_owned(), heard.clone());
            async move {
                let mut connection = AsyncPgConnection::establish(&url).await?;
                connection.set_instrumentation(move |event: InstrumentationEvent<'_>| {
                    if let InstrumentationEvent::StartQuery { query, .. } = event {
                        heard.lock().unwrap().push(query.to_string());
                    }
                });
                Ok(connection)
            }
            .boxed()
        });
        let manager =
            AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(server.url(), config);
        let pool = Pool::builder().max_size(4).test_on_check_out(false).build(manager).await.unwrap();
        let cache = cache(pool.clone()).await.unwrap();
        Some(Self { server, pool, cache, statements })
    }

    /// The statements up to now, which are forgotten.
    fn statements(&self) -> Vec<String> {
        std::mem::take(&mut self.statements.lock().unwrap())
    }

    /// What a new request reads, and how many statements that was.
    async fn sees(&self, id: i64) -> (Account, u64) {
        let request = self.cache.request();
        let account = request.get::<AccountById>(id).await.unwrap().unwrap();
        self.cache.idle().await;
        ((*account).clone(), u64::try_from(request.report().statements()).unwrap())
    }

    async fn edit(&self, id: i64, name: &str, email: &str) -> Result<(), Failed> {
        edit_by(self.cache.request(), self.pool.clone(), id, name, email).await
    }

    /// Asks the database itself, by a connection of its own.
    async fn ask(&self, connection: &mut AsyncPgConnection, sql: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Answer {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            answer: i64,
        }
        let rows: Vec<Answer> = diesel::sql_query(sql).load(connection).await.unwrap();
        rows[0].answer
    }

    async fn connection(&self) -> AsyncPgConnection {
        AsyncPgConnection::establish(&self.server.url()).await.unwrap()
    }
}

async fn edit_by(request: RequestCache, pool: Pool, id: i64, name: &str, email: &str) -> Result<(), Failed> {
    let change = Edit { name: name.to_owned(), email: email.to_owned() };
    edit(request, State(pool), Path(id), Json(change)).await.map(drop)
}

async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs")
}

#[tokio::test]
async fn accounts_that_are_awaited_together_are_one_statement() {
    in_time(async {
        let Some(town) = Town::new().await else { return };
        let request = town.cache.request();
        let accounts = try_join_all((1..=20).map(|id| request.get::<AccountById>(id))).await.unwrap();
        assert_eq!(accounts[6].as_ref().unwrap().name, "name 7");
        let statements = town.statements();
        assert_eq!(statements.len(), 1, "{statements:#?}");
        assert!(statements[0].contains(r#""account"."id" = ANY($1)"#), "{statements:#?}");
        assert_eq!(request.report().statements(), 1);
        town.cache.idle().await;
        assert_eq!(town.sees(7).await.1, 0);
        assert!(town.statements().is_empty());
        assert!(request.get::<AccountById>(101).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn what_a_write_changes_is_seen_once_it_is_committed() {
    in_time(async {
        let Some(town) = Town::new().await else { return };
        assert_eq!((town.sees(1).await.0.name.as_str(), town.sees(2).await.1), ("name 1", 1));
        town.statements();
        let request = town.cache.request();
        assert_eq!(request.get::<AccountById>(1).await.unwrap().unwrap().name, "name 1");
        edit_by(request.clone(), town.pool.clone(), 1, "Ada", "ada@town").await.unwrap();
        let statements = town.statements();
        assert_eq!(statements.len(), 3, "{statements:#?}");
        assert_eq!((statements[0].as_str(), statements[2].as_str()), ("BEGIN", "COMMIT"));
        let own = request.get::<AccountById>(1).await.unwrap().unwrap();
        assert_eq!(
            (own.name.as_str(), town.statements().len()),
            ("Ada", 1),
            "the request reads its own write"
        );
        assert_eq!(town.sees(1).await.0.name, "Ada");
        assert_eq!(town.sees(2).await.1, 0, "what it did not change stays");
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_voids_nothing() {
    in_time(async {
        let Some(town) = Town::new().await else { return };
        for id in [1, 2] {
            town.sees(id).await;
        }
        // the address of another one, which is found out at COMMIT
        let error = town.edit(1, "Ada", "2@town").await.unwrap_err();
        let Failed::Conflict(DieselError::DatabaseError(kind, _)) = &error else { panic!("{error:?}") };
        assert!(matches!(kind, DatabaseErrorKind::UniqueViolation), "{error:?}");
        let (account, statements) = town.sees(1).await;
        assert_eq!((account.name.as_str(), statements), ("name 1", 0));
        // and the pool goes on with what it has
        town.edit(1, "Ada", "ada@town").await.unwrap();
        assert_eq!(town.sees(1).await.0.name, "Ada");
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_is_dropped_before_its_commit_rolls_back_and_leaves_no_lock() {
    in_time(async {
        let Some(town) = Town::new().await else { return };
        town.sees(1).await;
        let mut other = town.connection().await;
        other.batch_execute("begin; select * from account where id = 1 for update").await.unwrap();
        let mut handler = Box::pin(town.edit(1, "Ada", "ada@town"));
        let waits = "select count(*) as answer from pg_stat_activity where wait_event_type = 'Lock'";
        let mut watcher = town.connection().await;
        while town.ask(&mut watcher, waits).await == 0 {
            let polled = tokio::time::timeout(Duration::from_millis(5), &mut handler).await;
            assert!(polled.is_err(), "it waits for the lock");
        }
        drop(handler);
        other.batch_execute("rollback").await.unwrap();
        town.cache.idle().await;
        let (account, statements) = town.sees(1).await;
        assert_eq!((account.name.as_str(), statements), ("name 1", 0), "nothing is voided");
        // the row is free, though nobody took that connection from the pool
        let free = "select count(*) as answer from (select 1 from account where id = 1 for update skip locked) as row";
        while town.ask(&mut watcher, free).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let name = "select count(*) as answer from account where name = 'Ada'";
        assert_eq!(town.ask(&mut watcher, name).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_is_dropped_during_its_commit_voids_what_it_changed() {
    in_time(async {
        let Some(town) = Town::new().await else { return };
        town.sees(1).await;
        let (mut gate, mut watcher) = (town.connection().await, town.connection().await);
        gate.batch_execute("select pg_advisory_lock(1)").await.unwrap();
        let mut handler = Box::pin(town.edit(1, "slow", "ada@town"));
        let commits = "select count(*) as answer from pg_stat_activity \
                       where query = 'COMMIT' and state = 'active' and wait_event_type = 'Lock'";
        while town.ask(&mut watcher, commits).await == 0 {
            let polled = tokio::time::timeout(Duration::from_millis(5), &mut handler).await;
            assert!(polled.is_err(), "COMMIT waits");
        }
        drop(handler);
        let account = town.cache.request().get::<AccountById>(1).await.unwrap().unwrap();
        assert_eq!(account.name, "name 1", "it is not committed yet");
        gate.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
        town.cache.idle().await;
        let (account, statements) = town.sees(1).await;
        assert_eq!((account.name.as_str(), statements), ("slow", 1));
    })
    .await;
}
