//! SQLite, which locks no rows: two relays void the same twice, which is harmless, and nobody's write waits for a trip.

use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use super::*;

in_list!(Sqlite);

impl Statements for Sqlite {
    statements!(
        Sqlite,
        mark: '"',
        now: "cast((julianday('now') - 2440587.5) * 86400000 as integer)",
        lock: ""
    );
    deletes!(Sqlite);

    fn ddl(table: &str) -> String {
        format!(
            "create table if not exists {} (
    id integer primary key autoincrement,
    write_id integer not null,
    piece integer not null,
    pieces integer not null,
    due integer not null,
    body blob not null,
    unique (write_id, piece)
)",
            Self::quoted(table)
        )
    }

    fn hand_over<'a>(connection: &'a mut SqliteConnection, table: &'a str, write: i64) -> Answer<'a, ()> {
        let text = format!("update {} set due = 0 where write_id = ?", Self::quoted(table));
        Box::pin(async move {
            sqlx::query(AssertSqlSafe(text)).bind(write).execute(connection).await?;
            Ok(())
        })
    }

    fn begin(pool: &SqlitePool) -> Answer<'_, Held<Self>> {
        Box::pin(async move { Ok(Held::Connection(pool.acquire().await?)) })
    }

    fn wakes(_: &SqlitePool, _: &str, _: Arc<Notify>) -> Option<BoxFuture<'static, ()>> {
        None
    }
}
