//! Structs whose sources the derive writes, on real databases: the same scenarios on each of them.

mod children;
mod library;
mod lists;
mod problems;
mod rows;
mod statements;
mod writes;

/// Scenarios, once per database: each has tables and a cache of its own.
macro_rules! on_every_database {
    ($($group:ident: $($scenario:ident)*;)*) => {
        async fn all<DB: library::Base>() {
            let Some(server) = DB::start().await else { return };
            $($(
                // the last of these lines names the one that fails
                println!(stringify!($scenario));
                $group::$scenario(library::Library::<DB>::new(&server).await).await;
            )*)*
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
    };
}

on_every_database! {
    rows:
        any_number_of_rows_is_one_statement
        joined_finds_of_an_index_are_two_statements
        a_key_of_two_columns_finds_its_row
        texts_are_found_as_they_are
        a_key_of_a_type_of_ones_own_finds_its_row
        a_row_that_is_taken_apart_by_sqlx_is_found
        a_source_with_sql_of_its_own_is_one_statement;
    lists:
        a_list_has_its_order_and_its_limit
        a_row_without_a_value_stands_in_no_list
        relations_are_what_lists_go_by_and_three_levels_are_a_statement_each
        lists_of_many_and_their_rows_are_two_statements
        a_condition_chooses_the_rows_of_a_list;
    writes:
        a_change_voids_its_row_and_what_it_leaves_and_enters
        a_row_that_is_inserted_or_deleted_is_seen
        a_transaction_reads_its_own_rows
        a_row_that_somebody_else_moved_is_never_a_wrong_one;
    children:
        children_come_with_their_parents_and_cost_nothing_then
        more_children_than_the_cap_are_a_list
        a_change_of_a_child_voids_its_parent;
    problems:
        everything_that_is_wrong_with_the_tables_is_told_at_once
        a_table_that_is_missing_is_named
        a_view_needs_no_key;
}
