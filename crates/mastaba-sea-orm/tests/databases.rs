//! Entities on real databases: the same scenarios on each of them.
//!
//! A test is one group of scenarios on one database, which is started for it: every scenario has tables, a cache and a
//! ledger of its own.

#[path = "databases/entities.rs"]
#[allow(unreachable_pub, reason = "what SeaORM derives is public")]
mod entities;
#[path = "databases/library.rs"]
mod library;
#[path = "databases/outcomes.rs"]
mod outcomes;
#[path = "databases/reading.rs"]
mod reading;
#[path = "databases/relations.rs"]
mod relations;
#[path = "databases/savepoints.rs"]
mod savepoints;
#[path = "databases/writing.rs"]
mod writing;

/// A group of scenarios, once per database.
macro_rules! on_every_database {
    ($group:ident: $($scenario:ident)*) => {
        mod $group {
            use crate::library::{Library, Server};

            async fn all(server: Option<Server>) {
                let Some(server) = server else { return };
                $(
                    // the last of these lines names the one that fails
                    println!(stringify!($scenario));
                    crate::$group::$scenario(Library::new(&server).await).await;
                )*
            }

            #[tokio::test]
            async fn on_sqlite() {
                all(Server::sqlite()).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                all(Server::postgres().await).await;
            }

            #[tokio::test]
            async fn on_mariadb() {
                all(Server::mariadb().await).await;
            }
        }
    };
}

mod scenarios {
    on_every_database! {
        reading:
            twenty_rows_are_one_statement
            gets_that_are_awaited_together_are_one_statement
            keys_of_several_columns_are_found_as_they_belong_together
            keys_of_a_type_of_the_database_are_found
            the_texts_of_statements_are_few
            more_keys_than_a_statement_takes_are_several
            names_and_regions_are_those_of_tables_and_of_the_program
            a_table_that_is_not_there_is_one_clear_error
            a_transaction_reads_what_it_has_written
    }
    on_every_database! {
        relations:
            three_levels_are_three_statements
            a_foreign_key_that_is_null_costs_nothing
            lists_are_two_statements_for_any_number
            three_levels_of_lists_are_two_statements_each
            a_list_ends_at_its_limit
            a_row_that_belongs_to_another_one_by_now_is_left_out
            keys_of_several_columns_lead_to_rows_and_to_lists
            what_is_no_foreign_key_is_refused
    }
    on_every_database! {
        writing:
            an_update_voids_the_row_and_no_list
            a_row_that_moves_voids_the_list_that_it_leaves_and_the_one_that_it_enters
            two_that_move_one_row_void_every_list_that_it_was_in
            a_row_that_is_inserted_is_no_longer_absent_and_enters_its_list
            a_row_that_is_deleted_leaves_its_list
            what_an_active_model_is_about_to_change_is_collected_before_its_statement
            an_active_model_without_its_key_is_refused
            models_that_a_statement_gave_are_collected
            a_model_that_names_its_own_keys_voids_them
            statements_count_in_the_report
            an_entity_that_is_not_registered_is_refused_before_its_statement
    }
    on_every_database! {
        outcomes:
            a_transaction_that_is_dropped_is_rolled_back_in_silence
            a_rollback_voids_nothing
            a_pool_that_is_exhausted_is_named_and_nothing_is_collected
            a_handler_that_is_dropped_in_its_commit_costs_nobody_the_invalidation
            a_commit_after_a_failed_statement_says_what_the_database_did
            a_constraint_that_is_checked_at_the_commit_is_a_known_rollback
            a_commit_whose_answer_is_lost_is_published
            keys_are_held_before_the_commit_which_is_refused_without
            a_transaction_that_a_deadlock_has_ended_does_nothing_more
    }
    on_every_database! {
        savepoints:
            what_a_savepoint_collects_goes_with_it_and_nothing_else_does
            a_savepoint_within_a_savepoint_goes_by_itself
            a_statement_that_fails_in_a_savepoint_fails_nothing_else
            a_savepoint_that_is_given_up_while_it_is_set_ends_the_transaction
            a_savepoint_that_is_given_up_while_it_ends_ends_the_transaction
    }
}
