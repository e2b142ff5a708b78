//! PostgreSQL, which wakes the relays by `NOTIFY`.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{PgConnection, PgPool, Postgres};

use super::*;

in_list!(Postgres);

impl Statements for Postgres {
    statements!(
        Postgres,
        mark: '"',
        now: "(extract(epoch from clock_timestamp()) * 1000)::bigint",
        lock: "for update skip locked"
    );
    deletes!(Postgres);

    fn ddl(table: &str) -> String {
        // rows come and go: the defaults would vacuum a table of this kind too seldom
        format!(
            "create table if not exists {} (
    id bigint generated always as identity primary key,
    write_id bigint not null,
    piece integer not null,
    pieces integer not null,
    due bigint not null,
    body bytea not null,
    unique (write_id, piece)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)",
            Self::quoted(table)
        )
    }

    fn hand_over<'a>(connection: &'a mut PgConnection, table: &'a str, write: i64) -> Answer<'a, ()> {
        let text = format!(
            "with mine as (update {} set due = 0 where write_id = $1 returning 1) \
             select pg_notify($2, '') where exists (select 1 from mine)",
            Self::quoted(table)
        );
        Box::pin(async move {
            let query = sqlx::query(AssertSqlSafe(text)).bind(write).bind(channel(table));
            query.fetch_all(connection).await?;
            Ok(())
        })
    }

    fn begin(pool: &PgPool) -> Answer<'_, Held<Self>> {
        Box::pin(async move {
            Ok(Held::Transaction(pool.begin_with("begin isolation level read committed").await?))
        })
    }

    fn wakes(pool: &PgPool, table: &str, wake: Arc<Notify>) -> Option<BoxFuture<'static, ()>> {
        let (pool, channel) = (pool.clone(), channel(table));
        Some(Box::pin(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                // a connection of its own: one of the pool would be gone for good
                let options = pool.connect_options();
                let own = PgPoolOptions::new().max_connections(1).connect_lazy_with((*options).clone());
                if let Ok(mut listener) = PgListener::connect_with(&own).await
                    && listener.listen(&channel).await.is_ok()
                {
                    pause = FIRST_PAUSE;
                    // what was said before it listened
                    wake.notify_one();
                    // without a notification the connection was lost, and something may have been missed
                    while listener.try_recv().await.is_ok() {
                        wake.notify_one();
                    }
                }
                // the poll stands behind it
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }))
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A channel has a name of 63 bytes at most.
fn channel(table: &str) -> String {
    let mut channel = table.to_owned();
    while channel.len() > 63 {
        channel.pop();
    }
    channel
}
