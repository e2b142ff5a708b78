//! What SQLite has of its own, and what needs no server to be seen.

use mastaba::{BoxError, Cache, CommitError, Region, RequestCache};
use mastaba_sqlx::{Begin, Retry};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions, Executor, SqlitePool};
use tempfile::TempDir;

async fn database(folder: &TempDir) -> (SqlitePool, SqliteConnectOptions) {
    // without a write-ahead log a reader keeps a writer from its commit
    let options =
        SqliteConnectOptions::new().filename(folder.path().join("database")).create_if_missing(true);
    let options = options.pragma("journal_mode", "delete").busy_timeout(std::time::Duration::ZERO);
    let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options.clone()).await.unwrap();
    pool.execute("create table thing (number integer primary key); insert into thing values (1)")
        .await
        .unwrap();
    (pool, options)
}

async fn request() -> RequestCache {
    Cache::builder().region("objects", Region::memory()).build().await.unwrap().request()
}

#[tokio::test]
async fn a_commit_that_finds_the_file_busy_is_a_known_rollback_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let (pool, options) = database(&folder).await;
    let request = request().await;
    let mut reader = options.connect().await.unwrap();
    reader.execute("begin; select * from thing").await.unwrap();
    let mut tx = request.begin(&pool).await.unwrap();
    tx.execute("insert into thing values (2)").await.unwrap();
    tx.clear("objects").unwrap();
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(&error, CommitError::RolledBack(sqlx::Error::Database(_))), "{error}");
    assert_eq!(request.report().shared_trips(), 0, "nothing is voided");

    let mut tries = 0;
    let done = Retry::tries(3).run(&request, &pool, async |tx| {
        tries += 1;
        tx.execute("insert into thing values (2)").await?;
        if tries == 2 {
            reader.execute("rollback").await?;
        }
        Ok::<_, BoxError>(())
    });
    done.await.unwrap();
    assert_eq!(tries, 2, "the first one failed at its commit");
    let count: i64 = sqlx::query_scalar("select count(*) from thing").fetch_one(&pool).await.unwrap();
    assert_eq!(count, 2);
}

/// As web servers do with handlers.
#[tokio::test]
async fn all_of_it_may_be_spawned() {
    let folder = tempfile::tempdir().unwrap();
    let (pool, _) = database(&folder).await;
    let request = request().await;
    let handler = async move {
        let mut tx = request.begin_with(&pool, "begin immediate").await?;
        let mut part = tx.savepoint().await?;
        sqlx::query("insert into thing values (2)").execute(&mut *part).await?;
        part.release().await?;
        tx.hold().await?;
        tx.commit().await?;
        let add = Retry::tries(2).run(&request, &pool, async |tx| {
            let number = 3_i64;
            sqlx::query("insert into thing values ($1)").bind(number).execute(&mut **tx).await?;
            Ok::<_, BoxError>(number)
        });
        let number = add.await?.value;
        let tx = request.begin(&pool).await?;
        tx.rollback().await?;
        Ok::<_, BoxError>(number)
    };
    assert_eq!(tokio::spawn(handler).await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn a_stream_that_is_not_read_to_its_end_is_a_statement_and_no_failure() {
    use futures_util::StreamExt;

    let folder = tempfile::tempdir().unwrap();
    let (pool, _) = database(&folder).await;
    pool.execute("insert into thing values (2), (3)").await.unwrap();
    let request = request().await;
    let mut tx = request.begin(&pool).await.unwrap();
    let first = sqlx::query("select number from thing").fetch(&mut *tx).next().await;
    assert!(first.unwrap().is_ok());
    let last = request.report().trips.pop().unwrap();
    assert_eq!((last.statements, last.failed), (1, false));
    drop(sqlx::query("select number from thing").fetch(&mut *tx));
    let last = request.report().trips.pop().unwrap();
    assert_eq!((last.statements, last.failed), (1, true), "nobody has waited for an answer");
    tx.commit().await.unwrap();
}
