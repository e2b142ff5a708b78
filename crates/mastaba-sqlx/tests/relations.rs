//! Rows with relations, on real databases: `Lazy` is the type of a column.

use mastaba::{Cache, Lazy, LoadContext, Region, Rows, Source};
use mastaba_test::servers::{Mariadb, Postgres};
use serde::{Deserialize, Serialize};
use sqlx::pool::PoolOptions;
use sqlx::{Executor, FromRow, Pool, QueryBuilder};

/// Authors by their id, on one of the databases.
struct AuthorById<DB: sqlx::Database>(Pool<DB>);

#[derive(FromRow, Serialize, Deserialize)]
#[serde(bound = "")]
struct Post<DB: sqlx::Database>
where
    AuthorById<DB>: Source<Key = i64>,
{
    id: i64,
    #[sqlx(rename = "author_id")]
    author: Lazy<AuthorById<DB>>,
    #[sqlx(rename = "editor_id")]
    editor: Option<Lazy<AuthorById<DB>>>,
}

/// The column is a text.
#[derive(FromRow)]
struct Mistaken<DB: sqlx::Database>
where
    AuthorById<DB>: Source<Key = i64>,
{
    #[allow(dead_code, reason = "it is never read")]
    #[sqlx(rename = "title")]
    author: Lazy<AuthorById<DB>>,
}

const TABLES: &str = "
    create table author (id bigint primary key, name varchar(100) not null);
    create table post (
        id bigint primary key, title varchar(100) not null, author_id bigint not null, editor_id bigint
    );
    insert into author values (1, 'Ada'), (2, 'Grace'), (3, 'Edith');
    insert into post values (10, 'Engines', 1, 3), (11, 'Compilers', 2, null), (12, 'Notes', 1, null)";

macro_rules! on {
    ($test:ident, $DB:ident, $server:expr, $url:expr) => {
        impl Source for AuthorById<sqlx::$DB> {
            type Key = i64;
            type Value = String;
            type Error = sqlx::Error;
            const NAME: &'static str = "author.by_id";
            const REGION: &'static str = "objects";

            async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> sqlx::Result<Rows<Self>> {
                let mut select = QueryBuilder::new("select id, name from author where id in (");
                let mut list = select.separated(", ");
                for id in ids {
                    list.push_bind(*id);
                }
                let rows = select.push(")").build_query_as().fetch_all(&self.0).await?;
                Ok(rows.into_iter().collect())
            }
        }

        #[tokio::test]
        async fn $test() {
            type DB = sqlx::$DB;
            let Some(server) = $server.await else { return };
            // SQLite has its tables in the connection
            let pool: Pool<DB> =
                PoolOptions::new().max_connections(1).connect(&($url)(&server)).await.unwrap();
            pool.execute(TABLES).await.unwrap();
            let cache = Cache::builder().region("objects", Region::memory()).source(AuthorById(pool.clone()));
            let cache = cache.build().await.unwrap();
            let posts = async |condition: &str, author: Lazy<AuthorById<DB>>| {
                let mut select = QueryBuilder::<DB>::new("select id, author_id, editor_id from post where ");
                select.push(condition).push_bind(author).push(" order by id");
                select.build_query_as::<Post<DB>>().fetch_all(&pool).await.unwrap()
            };

            // read
            let all = posts("author_id >= ", 1.into()).await;
            assert_eq!(all.iter().map(|post| *post.author.key()).collect::<Vec<_>>(), [1, 2, 1]);
            let editors = all.iter().map(|post| post.editor.map(|editor| *editor.key()));
            assert_eq!(editors.collect::<Vec<_>>(), [Some(3), None, None]);
            assert_eq!(serde_json::to_string(&all[0]).unwrap(), r#"{"id":10,"author":1,"editor":3}"#);

            // what was met together is one statement
            let request = cache.request();
            let people = all.iter().flat_map(|post| [Some(&post.author), post.editor.as_ref()]).flatten();
            let people = futures_util::future::try_join_all(people.map(|person| person.get(&request))).await;
            let names = people.unwrap().into_iter().map(|name| name.unwrap().to_string());
            assert_eq!(names.collect::<Vec<_>>(), ["Ada", "Edith", "Grace", "Ada"]);
            assert_eq!(request.report().statements(), 1, "{}", request.report());

            // written and compared
            let mut insert = QueryBuilder::<DB>::new("insert into post values (13, 'Letters', ");
            insert.push_bind(all[1].author).push(", ").push_bind(all[0].editor).push("), (14, 'Maps', ");
            insert.push_bind(&all[1].author).push(", ").push_bind(all[1].editor).push(")");
            insert.build().execute(&pool).await.unwrap();
            let of_grace = posts("author_id = ", all[1].author).await;
            let found = of_grace.iter().map(|post| (post.id, post.editor.map(|editor| *editor.key())));
            assert_eq!(found.collect::<Vec<_>>(), [(11, None), (13, Some(3)), (14, None)]);

            // a column of another type is refused as it is for the key itself
            let mistaken =
                sqlx::query_as::<DB, Mistaken<DB>>("select title from post").fetch_all(&pool).await;
            let of_the_key = sqlx::query_scalar::<DB, i64>("select title from post").fetch_all(&pool).await;
            let (mistaken, of_the_key) = (mistaken.err().unwrap(), of_the_key.err().unwrap());
            assert!(matches!(mistaken, sqlx::Error::ColumnDecode { .. }), "{mistaken}");
            let cause = |error: &dyn std::error::Error| error.source().unwrap().to_string();
            let expected = cause(&of_the_key).replace("i64", std::any::type_name::<Lazy<AuthorById<DB>>>());
            assert_eq!(
                cause(&mistaken).replace("`alloc::string", "`"),
                expected.replace("`alloc::string", "`")
            );
        }
    };
}

on!(rows_with_relations_on_postgres, Postgres, Postgres::start(), Postgres::url);
on!(rows_with_relations_on_mariadb, MySql, Mariadb::start(), Mariadb::url);
on!(rows_with_relations_on_sqlite, Sqlite, async { Some(()) }, |&()| "sqlite::memory:".to_owned());

#[tokio::test]
async fn relations_in_an_array_of_postgres() {
    let Some(server) = Postgres::start().await else { return };
    let pool: Pool<sqlx::Postgres> = PoolOptions::new().connect(&server.url()).await.unwrap();
    pool.execute(TABLES).await.unwrap();
    let authors: Vec<Lazy<AuthorById<sqlx::Postgres>>> =
        sqlx::query_scalar("select array_agg(author_id order by id) from post")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(authors.iter().map(|author| *author.key()).collect::<Vec<_>>(), [1, 2, 1]);
    let names: Vec<String> = sqlx::query_scalar("select name from author where id = any($1) order by id")
        .bind(&authors)
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(names, ["Ada", "Grace"]);
}
