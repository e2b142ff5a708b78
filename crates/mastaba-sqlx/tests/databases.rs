//! Transactions on real databases: the same scenarios on each of them.
//!
//! A test is one group of scenarios on one database, which is started for it: every scenario has tables, a cache and a
//! ledger of its own.

#[path = "databases/commits.rs"]
mod commits;
#[path = "databases/town.rs"]
mod town;

/// A group of scenarios, once per database.
macro_rules! on_every_database {
    ($group:ident: $($scenario:ident)*) => {
        mod $group {
            use crate::town::{Database, Town};

            async fn all<DB: Database>() {
                let Some(server) = DB::start().await else { return };
                $(
                    // the last of these lines names the one that fails
                    println!(stringify!($scenario));
                    crate::$group::$scenario(Town::<DB>::new(&server).await).await;
                )*
            }

            #[tokio::test]
            async fn on_sqlite() {
                all::<sqlx::Sqlite>().await;
            }

            #[tokio::test]
            async fn on_postgres() {
                all::<sqlx::Postgres>().await;
            }

            #[tokio::test]
            async fn on_mariadb() {
                all::<sqlx::MySql>().await;
            }
        }
    };
}

mod scenarios {
    on_every_database! {
        commits:
            a_transaction_is_committed_and_then_voids_what_it_changed
            a_transaction_that_is_dropped_is_rolled_back_in_silence
            a_rollback_voids_nothing
            statements_count_in_the_report
            two_caches_see_a_commit_and_no_rollback
    }
}
