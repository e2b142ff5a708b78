//! MySQL 8.0 and MariaDB 10.6, and later ones.

use sqlx::{MySql, MySqlConnection, MySqlPool, Transaction};

use super::*;

in_list!(MySql);

impl Statements for MySql {
    statements!(
        MySql,
        mark: '`',
        now: "timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) div 1000",
        lock: "for update skip locked"
    );

    /// By the primary key: a list of numbers would be looked for by a scan of the whole table while that is small, and the
    /// scan would wait for the rows of other relays, who may wait for these.
    fn delete<'a>(connection: &'a mut MySqlConnection, table: &'a str, ids: &'a [i64]) -> Answer<'a, ()> {
        Box::pin(async move {
            for ids in ids.chunks(IDS) {
                let mut query = QueryBuilder::<MySql>::new("delete taken from (");
                let mut list = query.separated(" union all ");
                for id in ids {
                    list.push("select ").push_bind_unseparated(*id).push_unseparated(" as id");
                }
                let table = Self::quoted(table);
                query.push(format_args!(") as gone straight_join {table} as taken on taken.id = gone.id"));
                query.build().persistent(ids.len() == 1).execute(&mut *connection).await?;
            }
            Ok(())
        })
    }

    /// Rows are locked by their primary key first, as a relay does it; the other way round they could lock each other out.
    fn sweep<'a>(connection: &'a mut MySqlConnection, table: &'a str, writes: &'a [i64]) -> Answer<'a, ()> {
        Box::pin(async move {
            let head = format!("select id from {} where write_id in ", Self::quoted(table));
            let mut query = QueryBuilder::<MySql>::new(head);
            query.push_list(writes);
            let query = query.build_query_scalar().persistent(writes.len() == 1);
            let ids: Vec<i64> = query.fetch_all(&mut *connection).await?;
            Self::delete(connection, table, &ids).await
        })
    }

    fn ddl(table: &str) -> String {
        format!(
            "create table if not exists {} (
    id bigint not null auto_increment primary key,
    write_id bigint not null,
    piece integer not null,
    pieces integer not null,
    due bigint not null,
    body mediumblob not null,
    unique (write_id, piece)
) engine = innodb",
            Self::quoted(table)
        )
    }

    fn hand_over<'a>(connection: &'a mut MySqlConnection, table: &'a str, write: i64) -> Answer<'a, ()> {
        let text = format!("update {} set due = 0 where write_id = ?", Self::quoted(table));
        Box::pin(async move {
            sqlx::query(AssertSqlSafe(text)).bind(write).execute(connection).await?;
            Ok(())
        })
    }

    fn begin(pool: &MySqlPool) -> Answer<'_, Held<Self>> {
        Box::pin(async move {
            let mut connection = pool.acquire().await?;
            // At the default level the gaps between the rows would be locked as well, and no write could add its own.
            // It is of the next transaction alone.
            sqlx::query("set transaction isolation level read committed").execute(&mut *connection).await?;
            Ok(Held::Transaction(Transaction::begin(connection, None).await?))
        })
    }

    fn wakes(_: &MySqlPool, _: &str, _: Arc<Notify>) -> Option<BoxFuture<'static, ()>> {
        None
    }
}
