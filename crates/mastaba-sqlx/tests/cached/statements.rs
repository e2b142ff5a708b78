//! What is prepared, and how often.

use mastaba::Replicated;
use mastaba_test::servers::{Mariadb, Postgres};
use sqlx::Connection;
use sqlx::pool::PoolOptions;

use crate::library::{Base, Library, Post, PostById, PostBySlug, TagByWord, Word};

/// Reads 1, 5, 6, 7 and 20 rows, each of them new.
async fn read<DB: Base>(library: &Library<DB>) {
    for keys in [0..1, 1..6, 6..12, 12..19, 30..50] {
        library.request().find_many::<Post>(keys).await.unwrap();
    }
}

#[tokio::test]
async fn postgres_prepares_one_statement_for_any_number_of_keys() {
    let Some(server) = Postgres::start().await else { return };
    let mut library = Library::<sqlx::Postgres>::new(&server).await;
    library.pool = PoolOptions::new().max_connections(1).connect(&server.url()).await.unwrap();
    library.cache = Library::cache(&library.pool, Post::sources(&library.pool)).await.unwrap();
    read(&library).await;
    let request = library.request();
    for authors in [0..1, 1..3, 3..9] {
        request.list_many_by::<crate::library::PostIdsByAuthorId>(authors).await.unwrap();
    }
    let prepared = "select statement from pg_prepared_statements where statement like 'select %' order by 1";
    let prepared: Vec<String> = sqlx::query_scalar(prepared).fetch_all(&library.pool).await.unwrap();
    let of_rows =
        prepared.iter().filter(|sql| sql.contains("= any($1)") && sql.contains("\"title\"")).count();
    assert_eq!(of_rows, 1, "{prepared:#?}");
    let of_lists =
        prepared.iter().filter(|sql| sql.contains("cross join lateral") && sql.contains("limit 3")).count();
    assert_eq!(of_lists, 1, "{prepared:#?}");
}

#[tokio::test]
async fn mariadb_prepares_one_statement_for_each_power_of_two() {
    let Some(server) = Mariadb::start().await else { return };
    let mut library = Library::<sqlx::MySql>::new(&server).await;
    library.pool = PoolOptions::new().max_connections(1).connect(&server.url()).await.unwrap();
    let prepared = async |library: &Library<sqlx::MySql>| {
        let status = "select cast(variable_value as signed) from information_schema.session_status where variable_name = 'Com_stmt_prepare'";
        let count: i64 = sqlx::query_scalar(status).persistent(false).fetch_one(&library.pool).await.unwrap();
        count
    };
    library.cache = Library::cache(&library.pool, Post::sources(&library.pool).unchecked()).await.unwrap();
    let before = prepared(&library).await;
    read(&library).await; // 1, 8, 8, 8 and 32 marks
    assert_eq!(prepared(&library).await - before - 1, 3, "and one for this question");
    let slugs = ["post-1", "post-2", "post-3"].map(str::to_owned);
    assert_eq!(
        library.request().find_many_by::<PostBySlug>(slugs).await.unwrap().found().count(),
        3,
        "padded"
    );
}

#[tokio::test]
async fn a_select_reads_from_a_replica_as_far_as_that_may_be() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (writer, reader) =
        (Library::<sqlx::Sqlite>::new(&one).await, Library::<sqlx::Sqlite>::new(&other).await);
    reader.run("update post set title = 'from the reader'").await;
    let pools = Replicated::lagging(writer.pool.clone(), reader.pool.clone());
    let cache = Library::cache(&writer.pool, Post::sources(&pools)).await.unwrap();
    let request = cache.request();
    assert_eq!(request.find::<Post>(1).await.unwrap().unwrap().title, "from the reader");
    let write = request.write();
    write.invalidate::<PostById>([2]).await.unwrap();
    write.published().await.unwrap();
    assert_eq!(request.find::<Post>(2).await.unwrap().unwrap().title, "Title 2");
}

#[tokio::test]
async fn a_connection_of_another_database_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::<sqlx::Sqlite>::new(&folder).await;
    let Some(server) = Postgres::start().await else { return };
    let mut connection = sqlx::PgConnection::connect(&server.url()).await.unwrap();
    let error = library.request().get_in::<PostById, _>(&mut connection, 1).await.unwrap_err();
    let error = mastaba::BoxError::from(error);
    let said = std::iter::successors(Some(&*error as &dyn std::error::Error), |error| error.source());
    let said = said.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert!(said.contains("this select is one of SQLite, and the connection is not"), "{said}");
}

/// More keys than a statement takes marks, in a read that no batch limit bounds.
#[tokio::test]
async fn more_keys_than_a_statement_takes_are_read_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::<sqlx::Sqlite>::new(&folder).await;
    let mut connection = library.pool.acquire().await.unwrap();
    let words = (0..40_000).map(|nth| Word(format!("none {nth}"))).chain([Word("rust".to_owned())]);
    let tags = library.request().get_many_in::<TagByWord, _>(&mut *connection, words).await.unwrap();
    assert_eq!(tags.found().map(|(_, tag)| tag.uses.uses).collect::<Vec<_>>(), [7]);
}
