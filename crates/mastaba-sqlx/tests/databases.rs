//! Transactions on real databases: the same scenarios on each of them.
//!
//! A test is one group of scenarios on one database, which is started for it: every scenario has tables, a cache and a
//! ledger of its own.

#[path = "databases/collecting.rs"]
mod collecting;
#[path = "databases/commits.rs"]
mod commits;
#[path = "databases/conflicts.rs"]
mod conflicts;
#[path = "databases/outcomes.rs"]
mod outcomes;
#[path = "databases/reading.rs"]
mod reading;
#[path = "databases/savepoints.rs"]
mod savepoints;
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
            a_pool_that_is_exhausted_is_named_and_nothing_is_collected
            a_job_without_a_web_request_writes
            a_handler_that_is_dropped_in_its_commit_costs_nobody_the_invalidation
            keys_are_held_before_the_commit_which_is_refused_without
            a_transaction_that_is_open_for_longer_than_its_holds_live_keeps_them
    }
    on_every_database! {
        collecting:
            a_value_that_is_put_is_seen_at_once_by_its_request_alone
            a_changed_row_voids_its_old_and_its_new_keys_each_once
            rows_that_an_update_names_by_itself_are_voided_by_their_keys
            rows_that_nobody_can_name_are_voided_by_their_tag
            rows_that_a_cascade_deletes_are_voided_by_the_tag_of_their_owner
            rows_that_a_trigger_changes_are_voided_by_the_tag_of_their_owner
            a_loop_of_statements_that_stops_half_way_voids_what_is_committed
            a_whole_region_is_voided
    }
    on_every_database! {
        reading:
            a_transaction_reads_what_it_has_written
            many_keys_are_one_statement
            what_is_read_in_a_transaction_reaches_no_tier
    }
    on_every_database! {
        savepoints:
            what_a_savepoint_collects_goes_with_it_and_nothing_else_does
            a_savepoint_within_a_savepoint_goes_by_itself
            a_nested_transaction_of_sqlx_loses_nothing
            a_statement_that_fails_in_a_savepoint_fails_nothing_else
            what_is_put_in_a_savepoint_goes_with_it
            a_savepoint_that_is_given_up_while_it_is_set_leaves_no_doubt
    }
    on_every_database! {
        outcomes:
            a_commit_after_a_failed_statement_says_what_the_database_did
            a_constraint_that_is_checked_at_the_commit_is_a_known_rollback
            a_commit_whose_answer_is_lost_is_published
            two_writers_of_one_key_leave_the_last_value
    }
    on_every_database! {
        conflicts:
            a_transaction_that_loses_is_tried_again_and_collects_anew
            tries_are_bounded
            other_errors_are_not_tried_again
            a_transaction_that_a_deadlock_has_ended_does_nothing_more
    }
}
